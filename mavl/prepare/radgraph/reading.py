"""Reads a large JSON object member by member, through a memory map; no value is parsed."""

import codecs
import json
import mmap
import re
from collections.abc import Iterator
from pathlib import Path

from mavl.progress import progress_bar

STEP = 1 << 24
"""Bytes after which the part of the memory map that was read is given back."""

_SPACE = rb"[ \t\r\n]*+"
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_NAME = rb'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+"'
_BETWEEN = rb'[^"{}\[\]]*+(?:' + _STRING + rb'[^"{}\[\]]*+)*+'
_INSIDE = _BETWEEN
for _ in range(4):  # levels of brackets in a graph, which are passed over at once; deeper ones one by one
    _INSIDE = _BETWEEN + rb"(?:[{\[]" + _INSIDE + rb"[}\]]" + _BETWEEN + rb")*+"
BEGIN, NAME, VALUE, BRACKET, AFTER, END = (
    re.compile(pattern, re.DOTALL)
    for pattern in (
        rb"(?:" + codecs.BOM_UTF8 + rb")?" + _SPACE + rb"\{" + _SPACE,
        b"(" + _NAME + b")" + _SPACE + b":" + _SPACE,
        _STRING + rb'|([{\[])|[^ \t\r\n,"{}\[\]]++',
        _INSIDE + rb"(?:([{\[])|[}\]])",
        _SPACE + rb"(?:," + _SPACE + rb"|(?=\}))",
        rb"\}" + _SPACE + rb"\Z",
    )
)


class ReadingError(ValueError):
    """A file that is not one whole JSON object; the message has the file, the byte and the last whole member."""


def members(path: Path) -> Iterator[tuple[str, bytes]]:
    """(name, bytes of the value) of each member of the object in a UTF-8 file, in order, also of repeated names.

    A value may be no JSON, but its brackets are closed. ReadingError where the file is damaged or cut short, after the
    members before that place.
    """
    at, last = 0, ""

    def expect(pattern: re.Pattern[bytes], what: str) -> re.Match[bytes]:
        if (found := pattern.match(data, at)) is None:
            raise ReadingError(f"{path}: damaged or cut short at byte {at:,}{last} (no {what}); download it again")
        return found

    size = path.stat().st_size
    if not size:
        raise ReadingError(f"{path}: is empty; download it again")
    with open(path, "rb") as file, progress_bar(total=size, description=path.name, unit="B", unit_scale=True) as bar:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if data[:64].lstrip().startswith(b"["):
            raise ReadingError(f"{path}: is a list; expected an object, report by report as MIMIC-CXR_graphs.json")
        at = expect(BEGIN, "object").end()
        while data[at : at + 1] != b"}":
            found = expect(NAME, "name")
            start = at = found.end()
            name = json.loads(found[1].decode(errors="replace"))
            found = expect(VALUE, "value")
            at, depth = found.end(), 1 if found[1] else 0
            while depth:
                found = expect(BRACKET, "bracket that closes the value")
                at, depth = found.end(), depth + (1 if found[1] else -1)
            end, at = at, expect(AFTER, "comma or }").end()
            yield name, data[start:end]
            last = f", after {name}"
            if at - bar.n > STEP:
                data.madvise(mmap.MADV_DONTNEED, 0, at // mmap.PAGESIZE * mmap.PAGESIZE)
                bar.update(at - bar.n)
        expect(END, "end of the file after the object")
        bar.update(size - bar.n)
