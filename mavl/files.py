"""Files that are there whole or not at all."""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a write without room, which name no file."""


class NotTextError(ValueError):
    """A file that is not UTF-8 text; the message names it."""


@contextmanager
def whole_file(path: Path, mode: str = "w") -> Iterator[IO]:
    """A file to write that replaces `path` at the end of the block, unless the block fails.

    What UTF-8 cannot hold, such as half a pair of surrogates, is written as its escape (\\ud800), which is JSON's too.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.partial")
    text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
    try:
        with open(draft, mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        if error.filename == str(draft) or (error.filename is None and error.errno in FULL):
            error.filename, error.filename2 = str(path), None  # the draft's name means nothing to a reader
        raise
    finally:
        if draft.exists():
            draft.unlink()


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, without its byte order mark; NotTextError for other bytes."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise NotTextError(f"{path}: not UTF-8 text (byte {error.start})") from error


def write_text(path: Path, text: str) -> None:
    """Write a whole file of UTF-8 text, line ends as they are; after a failure the former file is there."""
    with whole_file(path) as file:
        file.write(text)


def write_json(path: Path, content: object) -> None:
    """Write the content as indented JSON in UTF-8; ValueError for NaN and infinities, which JSON does not have."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
