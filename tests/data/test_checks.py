"""The check of a run's images: each read once by the processes of a node, and not again until it changes."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from mavl.data import checks
from mavl.data.checks import Share, check_images
from mavl.data.processes import Stopping, StopRequested
from tests.support.processes import ROOT, TINY, run

FILMS = 20


@pytest.fixture
def films(tmp_path) -> list[Path]:
    paths = [tmp_path / "films" / f"{number}.png" for number in range(FILMS)]
    paths[0].parent.mkdir()
    for number, path in enumerate(paths):
        Image.new("L", (20 + number, 16), number).save(path)
    return paths


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """The names of the files that are read, in their order."""
    names, check_image = [], checks.check_image

    def counted(path, level):
        names.append(Path(path).name)
        return check_image(path, level)

    monkeypatch.setattr(checks, "check_image", counted)
    return names


def check(paths, seen: Path | None, level: checks.Level = "header") -> dict[int, str]:
    return check_images(paths, level, workers=1, progress=False, seen=seen)


def test_only_changed_and_bad_files_are_read_again(films, read, tmp_path):
    seen = tmp_path / "header.seen"
    films[3].write_bytes(b"")
    assert check(films, seen) == {3: "empty (0 bytes)"}
    assert len(read) == FILMS
    read.clear()
    assert check(films, seen) == {3: "empty (0 bytes)"}
    assert read == ["3.png"]
    read.clear()
    Image.new("L", (500, 500)).save(films[3])
    os.utime(films[5], ns=(1, 1))
    films[7].write_bytes(films[7].read_bytes()[:-20])
    os.utime(films[7], ns=(2, 2))
    films[9].unlink()
    assert list(check(films, seen)) == [7, 9]
    assert read == ["3.png", "5.png", "7.png", "9.png"]


def test_without_a_file_for_it_all_are_read_again(films, read):
    for _ in range(2):
        assert check(films, None) == {}
    assert len(read) == 2 * FILMS


def test_a_damaged_record_of_checks_is_not_used(films, read, tmp_path, capsys):
    check(films, seen := tmp_path / "header.seen")
    os.truncate(seen, 100)
    assert check(films, seen) == {}
    assert len(read) == 2 * FILMS
    assert capsys.readouterr().err == f"{seen}: damaged (100 bytes, not 320); all image files are checked again\n"
    seen.write_bytes(bytes(320))
    check(films, seen)
    assert len(read) == 3 * FILMS


def test_a_link_in_place_of_the_record_is_not_followed(films, read, tmp_path, capsys):
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "header.seen").symlink_to("precious")
    assert check(films, tmp_path / "header.seen") == {}
    assert len(read) == FILMS
    assert (tmp_path / "precious").read_text() == "kept"
    assert "the next start checks all image files again" in capsys.readouterr().err


@pytest.mark.parametrize("number", [0, 1, 7, 4096, 12_345])
@pytest.mark.parametrize("nodes", [[1], [2], [8], [1, 3]])
def test_the_processes_of_a_node_check_each_image_once_in_equally_many_turns(number, nodes):
    turns = [[list(Share(rank, n, min(nodes)).turns(number)) for rank in range(n)] for n in nodes]
    for of_node in turns:
        assert sorted(i for process in of_node for turn in process for i in turn) == list(range(number))
    assert len({len(process) for of_node in turns for process in of_node}) == 1
    assert max((len(turn) for of_node in turns for process in of_node for turn in process), default=0) <= checks.TURN


def test_a_signal_to_another_process_ends_the_check(films):
    share = Share(gather=lambda mine: [*mine, ("SIGTERM", {})])
    with Stopping.expected(), pytest.raises(StopRequested, match="SIGTERM"):
        check_images(films, "header", workers=1, progress=False, share=share)


def test_bad_images_of_another_process_are_known_here(films):
    share = Share(gather=lambda mine: [*mine, (None, {17: "no such file"})])
    films[2].write_bytes(b"")
    found = check_images(films, "header", workers=1, progress=False, share=share)
    assert found == {2: "empty (0 bytes)", 17: "no such file"}


SPY = '''
"""train_mavl.py, with a note of the image files that each process checks; `stop`: rank 1 gets a signal there."""
import json, os, signal, sys
from pathlib import Path

sys.path.insert(0, {root!r})
import train_mavl
from mavl.data import checks

checked, check_image, rank = [], checks.check_image, os.environ["RANK"]
stop = sys.argv.pop(1) == "stop"

def noted(path, level):
    checked.append(Path(path).name)
    if stop and rank == "1" and len(checked) == 3:
        os.kill(os.getpid(), signal.SIGTERM)
    return check_image(path, level)

checks.check_image = noted
try:
    code = train_mavl.main()
finally:
    Path({folder!r}, "rank" + rank + ".json").write_text(json.dumps(checked))
sys.exit(code)
'''


def write_run(folder: Path, films: list[Path]) -> Path:
    """The config of a training on the films, of which the last four are for validation and one of train is missing."""
    entries = [(str(path), {"labels_id": number % 2}) for number, path in enumerate(films)]
    for name, chosen in (("train", [*entries[:-4], ("gone.png", {"labels_id": 0})]), ("valid", entries[-4:])):
        (folder / f"{name}.json").write_text(json.dumps(dict(chosen)))
    matrices = np.full((2, 51, 75), -1, np.int8)
    matrices[0, 0], matrices[1, 0] = 0, 1
    np.save(folder / "labels.npy", matrices)
    files = {f"{name}_file": str(folder / f"{name}.json") for name in ("train", "valid")}
    sizes = {"batch_size": 4, "eval_batch_size": 4, "workers": 0, "max_bad_share": 0.1, "cache": str(folder / "cache")}
    data = {"source": "mimic", "label_file": str(folder / "labels.npy"), **files, **sizes}
    schedule, train = {"epochs": 1, "warmup_steps": 1, "warmup_stair": 1}, {"log_every": 1}
    config = TINY | {"data": data, "schedule": schedule, "train": train}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder / "config.yaml"


@pytest.mark.slow
def test_two_processes_read_each_header_once_and_not_again_at_the_next_start(films, tmp_path):
    (spy := tmp_path / "spy.py").write_text(SPY.format(root=str(ROOT), folder=str(tmp_path)))
    config = write_run(tmp_path, films)

    def checked(how: str, name: str, *more: str) -> tuple[list[list[str]], str]:
        line = (str(spy), how, "--config", config, "--output_dir", tmp_path / name, *more)
        done = run(*line, processes=2, check=how != "stop")
        return [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)], done.stderr

    first, _ = checked("run", "one")
    names = sorted([*(path.name for path in films), "gone.png"])
    assert sorted(first[0] + first[1]) == names
    assert all(first)
    left_out = json.loads((tmp_path / "one" / "left_out.json").read_text())
    assert left_out == {"train": ["train.json: gone.png: gone.png: no such file"], "valid": []}
    again, _ = checked("run", "one", "--resume")
    assert again[0] + again[1] == ["gone.png"]
    for path in films:
        os.utime(path, ns=(1, 1))
    stopped, errors = checked("stop", "other")
    assert all(stopped)
    assert f"stopped by SIGTERM; --resume goes on in {tmp_path / 'other'}" in errors
    assert not (tmp_path / "other" / "log.jsonl").exists()
