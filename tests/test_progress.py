"""Lines for a person: numbers with their nouns, notes of one process alone, progress in a file."""

import sys

import pytest
from tqdm import tqdm

from mavl import progress
from mavl.progress import note, plural, progress_bar


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (1, "image", "1 image"),
        (0, "image", "0 images"),
        (2, "study", "2 studies"),
        (2, "key", "2 keys"),
        (1234567, "mass", "1,234,567 masses"),
        (2, "box", "2 boxes"),
        (2, "patch", "2 patches"),
        (1, "mass", "1 mass"),
    ],
)
def test_a_noun_has_the_number_of_its_things(number, noun, text):
    assert plural(number, noun) == text


@pytest.mark.parametrize(("rank", "printed"), [(None, "a line\n"), ("0", "a line\n"), ("1", "")])
def test_the_first_process_alone_prints_a_note(rank, printed, monkeypatch, capsys):
    monkeypatch.delenv("RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
    note("a line")
    assert capsys.readouterr() == ("", printed)


def test_progress_in_a_file_is_lines(monkeypatch, capsys):
    """Each stands alone, also around a note and a bar inside; a file has no use for control characters."""
    monkeypatch.setattr(progress, "LOG_SECONDS", 0)
    with progress_bar(description="epoch 1/2", unit="step", total=3) as bar:
        for step in (1, 2, 3):
            bar.set_postfix({"loss": 1 / step}, refresh=False)
            bar.update()
            if step == 2:
                tqdm.write("a note", file=sys.stderr)
                list(progress_bar(range(1), description="validating", unit="batch"))
    output, errors = capsys.readouterr()
    assert output == ""
    lines = errors.splitlines()
    assert [line.partition(" [")[0] for line in dict.fromkeys(lines)][:5] == [
        "epoch 1/2: 0/3",
        "epoch 1/2: 1/3",
        "epoch 1/2: 2/3",
        "a note",
        "validating: 0/1",
    ]
    assert lines[-1].startswith("epoch 1/2: 3/3 [")
    assert lines[-1].endswith("loss=0.333]")
    assert all(line.isprintable() and line == line.strip() for line in lines)
