"""One huge JSON object of objects, cut into parts of whole members without parsing it or holding more than a part.

`cut` finds where members end by braces and strings alone; `members` parses those of one part. In between a part is a
few numbers, so that another process may read it, or none where its result is at hand.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

CHUNK = 1 << 20  # bytes read at a time
LARGEST = 1 << 26  # bytes without a brace; a report's text has some 10^3

_TO_BRACE = re.compile(rb'[^"{}]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^"{}]*+)*+[{}]', re.DOTALL)  # that is in no string
_BETWEEN = re.compile(r"[\s,]*")
_COLON = re.compile(r"\s*:\s*")
_NUMBER = re.compile(r"-?\d+")
_BRACKET_OR_STRING = re.compile(r'[\[\]{}]|"(?:[^"\\]|\\.)*+"', re.DOTALL)
_NOT_UTF8 = re.compile("[\udc80-\udcff]")  # how Python decodes such bytes
_BLANK = b"\xef\xbb\xbf \t\r\n"  # with a byte order mark


@dataclass(frozen=True)
class Unreadable:
    """In place of a member's value that is whole, and that no reader takes, an object or another; `reason` says why."""

    reason: str
    is_object: bool


class JsonPartsError(ValueError):
    """A file that is not one whole JSON object of objects; the message names the file and the byte."""


@dataclass(frozen=True)
class Part:
    """Bytes [start, end) of a file, which make the rows [first_row, first_row + rows) of the label store."""

    number: int
    start: int
    end: int
    first_row: int
    rows: int
    digest: str
    """Of its bytes, or of what else tells whether they are the same."""


def cut(path: Path, size: int) -> Iterator[Part]:
    """Parts of `size` members, the last one of fewer. A row is a member that is an object; others come along.

    JsonPartsError where the file is no object of objects, or is cut short: then after the part that ends at the cut.
    """
    number = rows = 0
    with open(path, "rb") as file:
        braces = _braces(path, file)
        start = end = _begin(path, braces)
        depth = 1
        for position, opens in braces:
            depth += 1 if opens else -1
            if depth == 1 and not opens:
                end, rows = position, rows + 1
            if depth == 0:
                if rows or read_bytes(path, start, position - 1).strip(_BLANK):  # members that are no objects
                    yield _part(path, number, start, position - 1, size, rows)
                _check_end(path, position)
                return
            if rows == size:
                yield _part(path, number, start, end, size, rows)
                start, number, rows = end, number + 1, 0
    if rows:
        yield _part(path, number, start, end, size, rows)
    whole = f"the {number * size + rows:,} entries before it are whole"
    raise JsonPartsError(f"{path}: is cut short inside the entry at byte {end:,} ({whole}); download the rest of it")


def members(path: Path, part: Part) -> Iterator[tuple[str, object]]:
    """(key, value) of each member of a part, in order, repeated keys too. JsonPartsError where it is not JSON.

    A value that is too deep for the reader, or holds a number of too many digits or a byte that is not UTF-8, is
    `Unreadable`.
    """
    try:
        yield from _pairs(read_bytes(path, part.start, part.end).decode(errors="surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise JsonPartsError(f"{path}: between bytes {part.start:,} and {part.end:,}: {error}") from error


def read_bytes(path: Path, start: int, end: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(start)
        return file.read(end - start)


def _braces(path: Path, file: BinaryIO) -> Iterator[tuple[int, bool]]:
    """Every brace outside of strings: the offset behind it, and whether it opens."""
    buffer, base, at = b"", 0, 0
    while chunk := file.read(CHUNK):
        buffer, base, at = buffer[at:] + chunk, base + at, 0
        while (brace := _TO_BRACE.match(buffer, at)) is not None:
            at = brace.end()
            yield base + at, buffer[at - 1] == ord("{")
        if len(buffer) - at > LARGEST:
            raise JsonPartsError(f"{path}: {LARGEST >> 20} MB from byte {base + at:,} on are no object of objects")


def _begin(path: Path, braces: Iterator[tuple[int, bool]]) -> int:
    """The offset behind the brace that opens the file."""
    start, opens = next(braces, (0, False))
    if not opens or read_bytes(path, 0, start).strip(_BLANK) != b"{":
        raise JsonPartsError(f"{path}: does not begin as a JSON object; expected {{name: {{…}}, …}}")
    return start


def _check_end(path: Path, end: int) -> None:
    with open(path, "rb") as file:
        file.seek(end)
        while rest := file.read(CHUNK):
            if rest.strip(_BLANK):
                raise JsonPartsError(f"{path}: goes on after byte {end:,}, where its JSON object is closed")


def _part(path: Path, number: int, start: int, end: int, size: int, rows: int) -> Part:
    digest = hashlib.blake2b(read_bytes(path, start, end), digest_size=16).hexdigest()
    return Part(number, start, end, number * size, rows, digest)


def _pairs(text: str) -> Iterator[tuple[str, object]]:
    decoder, at = json.JSONDecoder(), _BETWEEN.match(text).end()
    while at < len(text):
        key, at = decoder.raw_decode(text, at)
        colon = _COLON.match(text, at)
        if not isinstance(key, str) or colon is None:
            raise ValueError(f"no name and colon at character {at}")
        value, end = _value(decoder, text, colon.end())
        if not text.isascii() and (escaped := _NOT_UTF8.search(text, at, end)):
            value = Unreadable(f"the byte {ord(escaped[0]) - 0xDC00:#x} is not UTF-8", _is_object(text, colon.end()))
        yield key, value
        at = _BETWEEN.match(text, end).end()


def _value(decoder: json.JSONDecoder, text: str, start: int) -> tuple[object, int]:
    """The value that begins there, and where it ends."""
    try:
        return decoder.raw_decode(text, start)
    except json.JSONDecodeError:
        raise
    except (RecursionError, ValueError) as error:  # the latter is int's, of thousands of digits
        return Unreadable(str(error), _is_object(text, start)), _end(text, start)


def _is_object(text: str, start: int) -> bool:
    return text.startswith("{", start)


def _end(text: str, start: int) -> int:
    """Where the object, array or number that begins there ends, by brackets and strings alone."""
    if (number := _NUMBER.match(text, start)) is not None:
        return number.end()
    depth = 0
    for token in _BRACKET_OR_STRING.finditer(text, start):
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(token[0], 0)
        if depth == 0:
            return token.end()
    raise ValueError(f"no end of the object at character {start}")
