"""Ways to spoil a file, by its kind: {name: function from its bytes to other bytes, or one that replaces the file}."""

import gzip
import io
import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import yaml
from PIL import Image, PngImagePlugin
from safetensors.numpy import load, save

Bytes = Callable[[bytes], bytes]
PAGE = b"<!DOCTYPE html><html><head><title>Quota exceeded</title></head><body>Try again later.</body></html>\n"
NOISE = np.random.default_rng(0).bytes(3000)

WHOLE: dict[str, Bytes] = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "web page": lambda content: PAGE,
    "packed": lambda content: gzip.compress(content),
    "zeros": lambda content: bytes(len(content)),
    "noise": lambda content: NOISE,
    "twice": lambda content: content + content,
}
"""For files of any kind; `twice` is only meant for those that cannot be repeated."""

TEXT: dict[str, Bytes] = {
    "UTF-16": lambda content: content.decode().encode("utf-16"),
    "no UTF-8": lambda content: content[:20] + b"\xff\xfe\xe4" + content[20:],
    "NUL": lambda content: content[:30] + b"\0" + content[30:],
}


def of_lines(change: Callable[[list[str]], list[str]]) -> Bytes:
    return lambda content: "".join(change(content.decode().splitlines(keepends=True))).encode()


CSV: dict[str, Bytes] = {
    "row with a cell more": of_lines(lambda lines: [*lines[:2], lines[2].rstrip() + ",1\n", *lines[3:]]),
    "short row": of_lines(lambda lines: [*lines[:2], lines[2].split(",")[0] + "\n", *lines[3:]]),
    "cut in a cell": lambda content: content.rstrip()[:-9],
    "column twice": of_lines(lambda lines: [line.rstrip("\n") + "," + line.split(",")[-1] for line in lines]),
    "no header": of_lines(lambda lines: lines[1:]),
    "header alone": of_lines(lambda lines: lines[:1]),
    "open quote": of_lines(lambda lines: [lines[0], '"' + lines[1], *lines[2:]]),
    "label of words": of_lines(
        lambda lines: [*lines[:2], lines[2].split(",")[0] + ",maybe" * lines[2].count(",") + "\n", *lines[3:]]
    ),
    "decimal comma": of_lines(lambda lines: [lines[0], lines[1].replace(",", ",0,5,", 1), *lines[2:]]),
    "other separator": lambda content: content.replace(b",", b";"),
    "huge cell": of_lines(lambda lines: [lines[0], "x" * 300_000 + lines[1], *lines[2:]]),
    "row twice": of_lines(lambda lines: [*lines[:2], *lines[1:]]),
    "path out of the folder": of_lines(lambda lines: [lines[0], "../../" + lines[1], *lines[2:]]),
    "no image": of_lines(lambda lines: [lines[0], "," + lines[1].split(",", 1)[1], *lines[2:]]),
}


def of_yaml(change: Callable[[dict], object]) -> Bytes:
    return lambda content: yaml.safe_dump(change(yaml.safe_load(content))).encode()


def renamed(raw: dict) -> dict:
    key = next(iter(raw))
    return {f"{key}s_": raw[key], **{name: value for name, value in raw.items() if name != key}}


YAML: dict[str, Bytes] = {
    "unknown key": of_yaml(lambda raw: raw | {"colour": "red"}),
    "renamed key": of_yaml(renamed),
    "key twice": lambda content: content + b"\nx_: 1\nx_: 2\n",
    "tab": lambda content: content + b"\ny_:\n\t- 1\n",
    "list": of_yaml(lambda raw: [raw]),
    "number": lambda content: b"17\n",
    "values are lists": of_yaml(lambda raw: {key: [[value]] for key, value in raw.items()}),
    "values are null": of_yaml(dict.fromkeys),
    "object": lambda content: content + b"\nz_: !!python/object/apply:os.getcwd []\n",
    "aliases": lambda content: (
        content
        + b"\nb0: &b0 [x, x, x, x, x, x, x, x, x]\n"
        + b"".join(b"b%d: &b%d [%s]\n" % (i, i, b", ".join([b"*b%d" % (i - 1)] * 9)) for i in range(1, 11))
    ),
    "deep": lambda content: content + b"\nd_: " + b"[" * 5000 + b"]" * 5000 + b"\n",
    "open bracket": lambda content: content + b"\ne_: [1, 2\n",
}


def of_json(change: Callable[[dict], object]) -> Bytes:
    return lambda content: json.dumps(change(json.loads(content))).encode()


JSON: dict[str, Bytes] = {
    "list": of_json(lambda raw: [raw]),
    "text": lambda content: b'"text"',
    "null": lambda content: b"null",
    "numbers": of_json(lambda raw: dict.fromkeys(raw, 7)),
    "lists": of_json(lambda raw: {key: [] for key in raw}),
    "nulls": of_json(dict.fromkeys),
    "NaN": of_json(lambda raw: dict.fromkeys(raw, float("nan"))),
    "deep": lambda content: b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "trailing": lambda content: content + b"}",
    "huge number": of_json(lambda raw: dict.fromkeys(raw, 10**400)),
}


def png(pixels: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", **options)
    return file.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    """A grey PNG whose header gives this size, with a line of pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    content = png(np.zeros((1, 1), np.uint8))
    start = content.index(b"IHDR")
    chunk = b"IHDR" + header
    return content[: start - 4] + struct.pack(">I", 13) + chunk + struct.pack(">I", _crc(chunk)) + content[start + 21 :]


def _crc(chunk: bytes) -> int:
    return zlib.crc32(chunk)


def flipped(content: bytes) -> bytes:
    """A wrong checksum in the pixels' chunk."""
    place = content.index(b"IDAT") + 10
    return content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]


IMAGE: dict[str, Bytes] = {
    "cut": lambda content: content[:-200],
    "header alone": lambda content: content[:40],
    "wrong checksum": flipped,
    "bomb": lambda content: png_of_size(60_000, 60_000),
    "strip": lambda content: png(np.zeros((200_000, 1), np.uint8)),
    "no pixel": lambda content: png_of_size(0, 10),
    "size beyond the pixels": lambda content: png_of_size(512, 512),
    "text": lambda content: b"not an image",
    "SVG": lambda content: b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "DICOM head": lambda content: bytes(128) + b"DICM" + NOISE[:200],
    "text chunk bomb": lambda content: png(np.zeros((64, 64), np.uint8), pnginfo=_long_text())[:3000],
}


def _long_text() -> PngImagePlugin.PngInfo:
    notice = PngImagePlugin.PngInfo()
    notice.add_text("x", "y" * 1_000_000, zip=True)
    return notice


def of_weights(change: Callable[[dict], dict]) -> Bytes:
    return lambda content: save(change({name: array.copy() for name, array in load(content).items()}))


def first_value(tensors: dict, value: float) -> dict:
    name = next(name for name, array in tensors.items() if array.dtype == np.float32 and array.size > 1)
    tensors[name].flat[0] = value
    return tensors


WEIGHTS: dict[str, Bytes] = {
    "header too long": lambda content: struct.pack("<Q", 2**60) + content[8:],
    "cut tail": lambda content: content[:-100],
    "NaN": of_weights(lambda tensors: first_value(tensors, np.nan)),
    "infinite": of_weights(lambda tensors: first_value(tensors, np.inf)),
    "a tensor less": of_weights(lambda tensors: dict([*tensors.items()][1:])),
    "a tensor more": of_weights(lambda tensors: tensors | {"more": np.zeros(3, np.float32)}),
    "other shapes": of_weights(lambda tensors: {name: array.ravel()[:1] for name, array in tensors.items()}),
    "no tensor": of_weights(lambda tensors: {}),
}

KINDS: dict[str, dict[str, Bytes]] = {
    "csv": {**WHOLE, **TEXT, **CSV},
    "yaml": {**WHOLE, **TEXT, **YAML},
    "json": {**WHOLE, **TEXT, **JSON},
    "image": {**WHOLE, **IMAGE},
    "weights": {**WHOLE, **WEIGHTS},
    "list": {**WHOLE, **TEXT, **{name: CSV[name] for name in ("row with a cell more", "short row", "header alone")}},
    "binary": WHOLE,
}


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def missing(path: Path) -> None:
    path.unlink()


def loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def pipe(path: Path) -> None:
    """A file that never ends, nor begins."""
    path.unlink()
    os.mkfifo(path)


IN_PLACE: dict[str, Callable[[Path], None]] = {
    "a folder": folder,
    "missing": missing,
    "a link to itself": loop,
    "a dangling link": dangling,
    "a pipe": pipe,
}
