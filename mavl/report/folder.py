"""Folders of results that are written completely or not at all."""

import fcntl
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

PREDICTED = ("predictions.csv", "predictions.json", "predictions.html", "overlays", "masks.csv", "masks.html", "masks")
"""What an output folder of predict.py holds."""

EVALUATED = (
    *("config.yaml", "left_out.json", "results.csv", "results.json", "scores.csv", "cases.csv", "report.html"),
    *(
        "roc.png",
        "pr.png",
        "subgroups.csv",
        "diagnoses.csv",
        "calibration.csv",
        "stress.csv",
        "stress.json",
        "reliability.png",
        "decisions.png",
        "gallery.png",
        "books",
        "spread.csv",
        "wordings.csv",
        "sensitivity.json",
        "sensitivity.png",
    ),
)
"""What the result folder of an evaluation holds."""

COMPARED = ("leaderboard.csv", "differences.csv", "leaderboard.tex", "comparison.json", "comparison.html")
"""What the folder of a comparison holds."""

_LISTED = ("overlays", "masks")
"""Folders whose files a CSV beside them names."""


class OccupiedError(ValueError):
    """A place for a result that holds something else; the message says what to do."""


@contextmanager
def whole_folder(folder: Path, *, made: Collection[str], overwrite: bool = False) -> Iterator[Path]:
    """An empty folder to fill that takes the place of `folder` at the end of the block, unless the block fails.

    A killed process leaves a hidden draft beside `folder`, which the next run removes, and the former result as it was.
    Errors as of `check_free`; OccupiedError while another process fills the same folder.
    """
    draft, former = (folder.with_name(f".{folder.name}.{kind}") for kind in ("draft", "former"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    if former.is_dir() and not former.is_symlink() and not os.path.lexists(folder):  # a kill between two renames
        former.rename(folder)
    check_free(folder, overwrite=overwrite, made=made)
    with _own(draft):
        try:
            yield draft
            check_free(folder, overwrite=overwrite, made=made)
            _remove(former)
            if folder.exists():
                folder.rename(former)
            draft.rename(folder)
            _remove(former)
        finally:
            _remove(draft)


def check_free(folder: Path, *, made: Collection[str], overwrite: bool = False) -> None:
    """OccupiedError for a folder that a result cannot take the place of.

    made: the entries of a result; a folder with other files, as one of films, is never replaced. overwrite: an earlier
    result may be replaced.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise OccupiedError(f"{folder} is a {'link' if folder.is_symlink() else 'file'}, not a folder: give another")
    if not folder.exists() or not (entries := sorted(entry.name for entry in folder.iterdir())):
        return
    if foreign := [name for name in entries if name not in made] or _unlisted(folder):
        raise OccupiedError(f"{folder} holds {foreign[0]!r}, which no run made: give a folder of its own")
    if not overwrite:
        raise OccupiedError(f"{folder} holds an earlier result: give --overwrite to replace it, or another folder")


@contextmanager
def _own(draft: Path) -> Iterator[None]:
    """Make the draft anew and lock it, so that no other process removes it; the end of the process ends the lock."""
    if draft.is_dir() and not draft.is_symlink():
        with _locked(draft):
            shutil.rmtree(draft)
    _remove(draft)
    draft.mkdir()
    with _locked(draft):
        yield


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OccupiedError(f"another process writes {folder}: wait for it, or give another folder") from error
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(descriptor)


def _unlisted(folder: Path) -> list[str]:
    """The files below _LISTED that no CSV of the result names."""
    below = [path.relative_to(folder).as_posix() for name in _LISTED for path in (folder / name).rglob("*")]
    listed = "".join(path.read_text("utf-8", "replace") for path in folder.glob("*.csv")) if below else ""
    return [name for name in sorted(below) if name not in listed]


def _remove(path: Path) -> None:
    """Remove a folder, or a file or link as such; nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
