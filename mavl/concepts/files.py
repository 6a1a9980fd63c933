"""Files of this package: whole or absent, UTF-8, and errors in one line."""

import os
import tempfile
from pathlib import Path


class ConceptError(RuntimeError):
    """What ends a run of concept generation; the message is one line and says what to do."""


def read_text(path: Path) -> str:
    """The text of a file, with or without a byte order mark; ConceptError where there is none."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConceptError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConceptError(f"{path}: not UTF-8 text (byte {error.start})") from error


def check_writable(folder: Path, flag: str) -> None:
    """ConceptError, which names the flag to change, where no file can be made in a folder; it is made if need be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".probe"):
            pass
    except OSError as error:
        raise ConceptError(
            f"{folder}: cannot be written ({error.strerror}); nothing was asked, choose another {flag}"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is there whole, or as it was before; ConceptError where it cannot be written."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.write_text(text, encoding="utf-8")
            os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise ConceptError(f"{path}: cannot be written ({error.strerror})") from error
