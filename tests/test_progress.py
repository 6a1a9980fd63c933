"""Lines for a person: numbers with their nouns, and notes of one process alone."""

import pytest

from mavl.progress import note, plural


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
