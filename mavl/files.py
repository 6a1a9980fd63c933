"""Files that are there whole or not at all; readers of text and JSON with limits; names that stay in their folder."""

import csv
import errno
import gzip
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a write without room, which name no file."""

DEEPEST = 100
"""Most levels of lists and mappings in JSON and YAML; the files of this project have at most six."""

MOST_BYTES = 1 << 29
"""Most bytes of a packed file after unpacking: ten times the largest list of MIMIC-CXR-JPG."""

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
"""The start of a cell that a spreadsheet program may run as a formula; one more apostrophe in front makes it text."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Control characters but the tab and the line feed."""

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]")


PROJECT = (Path(__file__).resolve().parents[1], Path(__file__).resolve().with_name("shipped"))
"""Where books and configs of this project lie: in a checkout, and in an installed package."""


class FileError(ValueError):
    """A file that cannot be used; the message names it."""


class NotTextError(FileError):
    """A file that is not UTF-8 text."""


class NotJSONError(FileError):
    """A file that is not JSON, or JSON that no reader here takes; the message has the place and the reason."""


class OutsideError(FileError):
    """A name that leads out of its folder."""


@contextmanager
def whole_file(path: Path, mode: str = "w") -> Iterator[IO]:
    """A file to write that replaces `path` at the end of the block, unless the block fails.

    A link at `path` is replaced, not followed. What UTF-8 cannot hold, such as half a pair of surrogates, is written as
    its escape (\\ud800), which is JSON's too.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.partial")
    text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
    try:
        draft.unlink(missing_ok=True)
        with open(draft, mode.replace("w", "x"), **text) as file:
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


def inside(folder: Path, name: str) -> Path:
    """The path of the file `name` in a folder, where nothing leads out of the folder.

    OutsideError for an absolute name, for `..` and control characters in it, and where a folder on its way is a link to
    another place.
    """
    if not name or name.startswith("/") or ".." in PurePosixPath(name).parts or _UNPRINTABLE.search(name):
        why = "it is empty, absolute, or holds .. or control characters"
        raise OutsideError(f"{name!r} is not allowed as a file name in {folder}: {why}")
    path = folder / name
    home, real = (os.path.join(os.path.realpath(each), "") for each in (folder, path.parent))
    if not real.startswith(home):
        raise OutsideError(f"{path.parent} is a link out of {folder}: remove it, or give another folder")
    return path


def refuse_link(folder: Path) -> None:
    """OutsideError for a link in place of a folder to write, which would be written at another place."""
    if folder.is_symlink():
        raise OutsideError(f"{folder} is a link to {os.readlink(folder)}: remove it, or give another folder")


def shipped(name: Path | str) -> Path:
    """The path itself; where there is no such file, this project's file of that name, if there is one.

    >>> shipped("configs/demo.yaml").exists()  # in any working folder
    True
    """
    places = [Path(name), *(home / name for home in PROJECT)]
    return next((place for place in places if place.exists()), places[0])


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, without its byte order mark; NotTextError for other bytes."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise NotTextError(f"{path}: not UTF-8 text (byte {error.start})") from error


def read_unpacked(path: Path, most: int = MOST_BYTES) -> bytes:
    """The bytes of a file, unpacked where its content, not its name, is gzip's.

    FileError for a damaged file and for more than `most` bytes.
    """
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        try:
            content = (gzip.GzipFile(fileobj=file) if packed else file).read(most + 1)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise FileError(f"{path}: cannot be read to its end ({error}); download it again") from error
    if len(content) > most:
        raise FileError(f"{path}: more than {most:,} bytes{' after unpacking' if packed else ''}")
    return content


def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs; ValueError for a name given twice, which JSON itself would allow."""
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is twice in one object")
    return made


def read_json(path: Path, to_object: Callable[[list[tuple[str, Any]]], Any] = distinct) -> Any:
    """The content of a JSON file in UTF-8, as `parse_json` reads it."""
    return parse_json(path.read_bytes(), str(path), to_object)


def parse_json(text: bytes | str, source: str, to_object: Callable[[list[tuple[str, Any]]], Any] = distinct) -> Any:
    """The content of JSON; NotJSONError, with `source` in front, for what is none.

    Refused, though Python's json takes them: NaN and numbers beyond a float, more than DEEPEST levels and a name that
    an object has twice. to_object: (name, value) pairs -> object, for a reader that takes repeated names.
    """
    deep = f"{source}: more than {DEEPEST} levels of lists and objects"
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        content = json.loads(text, parse_constant=_finite, parse_float=_finite, object_pairs_hook=to_object)
    except UnicodeDecodeError as error:
        raise NotJSONError(f"{source}: not UTF-8 text (byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise NotJSONError(f"{source}: not JSON (line {error.lineno}, column {error.colno}: {error.msg})") from error
    except RecursionError:
        raise NotJSONError(deep) from None
    except ValueError as error:
        raise NotJSONError(f"{source}: {error}") from error
    if _deeper(content, DEEPEST):
        raise NotJSONError(deep)
    return content


def _finite(number: str) -> float:
    if (value := float(number)) - value == 0:
        return value
    raise ValueError(f"{number} is not a finite number")


def _deeper(content: Any, levels: int) -> bool:
    """Whether lists and mappings are inside each other in more than so many levels."""
    level = [[content]]
    for _ in range(levels + 1):
        children = (child for of in level for child in (of.values() if isinstance(of, dict) else of))
        level = [child for child in children if isinstance(child, dict | list)]
    return bool(level)


def write_text(path: Path, text: str) -> None:
    """Write a whole file of UTF-8 text, line ends as they are; after a failure the former file is there."""
    with whole_file(path) as file:
        file.write(text)


def write_json(path: Path, content: object) -> None:
    """Write the content as indented JSON in UTF-8; ValueError for NaN and infinities, which JSON does not have."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def csv_cell(value: Any) -> Any:
    """A cell of a CSV: text that a spreadsheet program would run as a formula becomes text, numbers stay.

    Control characters are written as escapes. `csv_text` is the inverse but for these.

    >>> [csv_cell(cell) for cell in ("=1+1", "'=1+1", "-3.5", -3.5, "rib fracture")]
    ["'=1+1", "''=1+1", '-3.5', -3.5, 'rib fracture']
    """
    if not isinstance(value, str):
        return value
    value = "'" * bool(_FORMULA.match(value) and not _is_number(value)) + value
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], value)


def printable(text: str) -> str:
    """The text with escapes, such as \\x1b or \\ud800, for what has no shape in a table, a figure or a page."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\N{NO-BREAK SPACE}\u2007" else ascii(c)[1:-1] for c in text)


def csv_text(cell: str) -> str:
    """The text that `csv_cell` made this cell of."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def csv_writer(file: IO[str], **options: Any) -> "_Rows":
    """As csv.writer, with every cell as `csv_cell` makes it."""
    return _Rows(csv.writer(file, **options))


class _Rows:
    def __init__(self, writer: Any):
        self._writer = writer

    def writerow(self, row: Iterable[Any]) -> None:
        self._writer.writerow([csv_cell(cell) for cell in row])

    def writerows(self, rows: Iterable[Iterable[Any]]) -> None:
        for row in rows:
            self.writerow(row)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.isascii() and text.isprintable()
