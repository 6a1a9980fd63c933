"""Result folders: whole or absent, never mixed, never in place of anything that is not a result."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mavl.report.folder import PREDICTED, OccupiedError, check_free, whole_folder


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


MADE = ("inner", "half.txt", "linked", "b.txt")


def fill(folder: Path, **options) -> None:
    with whole_folder(folder, made=MADE, **options) as draft:
        (draft / "inner").mkdir()
        (draft / "inner/a.txt").write_text("a")


def test_a_result_appears_at_the_end_with_the_folders_above_it(tmp_path):
    folder = tmp_path / "x/y/result"
    with whole_folder(folder, made=MADE) as draft:
        (draft / "a.txt").write_text("a")
        assert not folder.exists()
    assert contents(tmp_path) == {"x/y/result/a.txt": "a"}
    assert [path.name for path in folder.parent.iterdir()] == ["result"]


def test_a_failure_leaves_the_former_result_and_no_draft(tmp_path):
    fill(tmp_path / "r")
    with pytest.raises(IsADirectoryError), whole_folder(tmp_path / "r", made=MADE, overwrite=True) as draft:
        draft.write_text("half")
    assert contents(tmp_path) == {"r/inner/a.txt": "a"}
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


def test_a_second_result_needs_overwrite_and_then_nothing_of_the_first_stays(tmp_path):
    fill(tmp_path / "r")
    with pytest.raises(OccupiedError, match="r holds an earlier result: give --overwrite"):
        fill(tmp_path / "r")
    with whole_folder(tmp_path / "r", made=MADE, overwrite=True) as draft:
        (draft / "b.txt").write_text("b")
    assert contents(tmp_path) == {"r/b.txt": "b"}


def test_an_empty_folder_is_free(tmp_path):
    (tmp_path / "r").mkdir()
    fill(tmp_path / "r")
    assert contents(tmp_path / "r") == {"inner/a.txt": "a"}


def test_other_files_are_never_replaced(tmp_path):
    (tmp_path / "film.png").touch()
    for overwrite in (False, True):
        with pytest.raises(OccupiedError, match=r"holds 'film.png', which no run made"):
            check_free(tmp_path, overwrite=overwrite, made=MADE)
    (tmp_path / "file").touch()
    with pytest.raises(OccupiedError, match="file is a file, not a folder"):
        check_free(tmp_path / "file", made=MADE, overwrite=True)


def test_a_file_of_the_user_among_the_overlays_is_not_lost(tmp_path):
    folder = tmp_path / "predictions"
    (folder / "overlays").mkdir(parents=True)
    (folder / "predictions.csv").write_text("image,overlay\na.png,overlays/a__effusion.png\n")
    (folder / "overlays/a__effusion.png").touch()
    check_free(folder, made=PREDICTED, overwrite=True)
    (folder / "overlays/mine.png").touch()
    with pytest.raises(OccupiedError, match=r"holds 'overlays/mine.png', which no run made"):
        check_free(folder, made=PREDICTED, overwrite=True)


def test_links_are_not_followed(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/a.txt").write_text("kept")
    (tmp_path / "result").symlink_to(tmp_path / "precious")
    with pytest.raises(OccupiedError, match="result is a link"):
        fill(tmp_path / "result", overwrite=True)
    (tmp_path / ".other.draft").symlink_to(tmp_path / "precious")
    (tmp_path / ".other.former").symlink_to(tmp_path / "precious")
    fill(tmp_path / "other")
    (tmp_path / "other/linked").symlink_to(tmp_path / "precious")
    fill(tmp_path / "other", overwrite=True)
    assert contents(tmp_path / "precious") == {"a.txt": "kept"}
    assert contents(tmp_path / "other") == {"inner/a.txt": "a"}


SLOW = """
import sys, time
from pathlib import Path
from mavl.report.folder import whole_folder
with whole_folder(Path(sys.argv[1]), made=["inner", "half.txt"], overwrite=True) as draft:
    (draft / "half.txt").write_text("half")
    print("begun", flush=True)
    time.sleep(60)
"""


def test_a_killed_run_leaves_the_former_result_and_its_draft_goes_with_the_next(tmp_path):
    fill(tmp_path / "r")
    with subprocess.Popen([sys.executable, "-c", SLOW, str(tmp_path / "r")], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"begun\n"
        with pytest.raises(OccupiedError, match="another process writes"):
            fill(tmp_path / "r", overwrite=True)
        process.send_signal(signal.SIGKILL)
    assert contents(tmp_path / "r") == {"inner/a.txt": "a"}
    assert (tmp_path / ".r.draft/half.txt").exists()
    fill(tmp_path / "r", overwrite=True)
    assert contents(tmp_path) == {"r/inner/a.txt": "a"}


def test_a_kill_between_the_renames_loses_nothing(tmp_path):
    fill(tmp_path / "r")
    os.rename(tmp_path / "r", tmp_path / ".r.former")
    with pytest.raises(OccupiedError, match="holds an earlier result"):
        fill(tmp_path / "r")
    assert contents(tmp_path) == {"r/inner/a.txt": "a"}


def test_a_kill_after_the_renames_leaves_nothing_in_the_way(tmp_path):
    fill(tmp_path / "r")
    (tmp_path / ".r.former").mkdir()
    (tmp_path / ".r.former/b.txt").write_text("of the run before")
    fill(tmp_path / "r", overwrite=True)
    assert contents(tmp_path) == {"r/inner/a.txt": "a"}
