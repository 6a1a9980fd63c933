"""Reads a large JSON object member by member; memory holds some megabytes of the file."""

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path

from mavl.progress import progress_bar

CHUNK = 1 << 20  # bytes per read
LARGEST = 1 << 26  # characters of a member; the graph of a report has some 10^4

_OPENING = re.compile(r"[ \t\r\n]*\{[ \t\r\n]*")
_COMMA = re.compile(r"[ \t\r\n]*,?[ \t\r\n]*")
_COLON = re.compile(r"[ \t\r\n]*:[ \t\r\n]*")
_AFTER_VALUE = re.compile(r"[ \t\r\n]*[,}]")  # without it, the number 12 may be the beginning of 12.5
_NOT_UTF8 = re.compile("[\udc80-\udcff]")  # such bytes under errors="surrogateescape"
_decode = json.JSONDecoder().raw_decode


class ReadingError(ValueError):
    """A file that is not one whole JSON object; the message has the file, the byte and the last whole member."""


def members(path: Path) -> Iterator[tuple[str, str]]:
    """(name, JSON text of the value) of each member of the object in a UTF-8 file, in order, also of repeated names.

    ReadingError where the file is damaged or cut short, after the members before that place.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
    text, at, name = "", 0, None
    size = path.stat().st_size
    with open(path, "rb") as file, progress_bar(total=size, description=path.name, unit="B", unit_scale=True) as bar:
        try:
            while True:
                try:
                    found, start, end = _member(text, at, _OPENING if name is None else _COMMA)
                except (ValueError, RecursionError):
                    if len(text) - at > LARGEST or not (chunk := file.read(CHUNK)):
                        raise
                    text, at = text[at:] + decoder.decode(chunk), 0
                    bar.update(len(chunk))
                    continue
                at = end
                if found is None:
                    break
                name = found
                yield name, text[start:end]
            text, at = text[at:] + decoder.decode(file.read(LARGEST), final=True), 0
            if text.strip(" \t\r\n"):
                raise json.JSONDecodeError("more text after the object", text, at)
        except (ValueError, RecursionError) as error:
            rest = text[getattr(error, "pos", at) :].encode(errors="surrogateescape") + decoder.getstate()[0]
            place = f"byte {file.tell() - len(rest):,}" + (f", after {name}" if name else "")
            reason = getattr(error, "msg", error)
            raise ReadingError(f"{path}: damaged or cut short at {place} ({reason}); download it again") from error


def _member(text: str, at: int, before: re.Pattern) -> tuple[str | None, int, int]:
    """Name, start and end of the value of the member behind `before`; name None where the object ends.

    ValueError or RecursionError where the text is no such member, or ends too early to tell.
    """
    opening = before.match(text, at)
    if opening is None:
        raise json.JSONDecodeError("expected an object", text, at)
    at = opening.end()
    if text.startswith("}", at):
        return None, at, at + 1
    if not text.startswith('"', at):
        raise json.JSONDecodeError("expected a name", text, at)
    name, end = _decode(text, at)
    colon = _COLON.match(text, end)
    if colon is None:
        raise json.JSONDecodeError("expected a colon", text, end)
    _, end = _decode(text, colon.end())
    if _AFTER_VALUE.match(text, end) is None:
        raise json.JSONDecodeError("expected , or }", text, end)
    if not text.isascii() and (byte := _NOT_UTF8.search(text, at, end)):
        raise json.JSONDecodeError("not UTF-8", text, byte.start())
    return name, colon.end(), end
