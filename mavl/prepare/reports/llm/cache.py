"""Paid answers on disk: a line for each report, written and synchronised as its answer arrives.

A file holds the answers of one model to one prompt: {"text": SHA-256 of the report's text, "labels": [...]} a line. The
lines quote reports, so only their owner may read the file.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from mavl.prepare.reports.llm.answers import Labels
from mavl.progress import note, plural


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid")

    text: str
    labels: Labels


class Cache:
    """The answers to requests of one kind, as {"model": ..., "prompt": ...}. labels: {SHA-256 of a text: its labels}.

    OSError, before any request is sent, where no answer can be written.
    """

    def __init__(self, folder: Path, kind: Mapping[str, str | float]):
        digest = hashlib.sha256(json.dumps(kind, sort_keys=True).encode()).hexdigest()[:16]
        name = re.sub(r"[^\w-]+", "_", str(kind["model"]))[-40:]
        self.path, self._labels, damaged = folder / f"{name}-{digest}.jsonl", {}, 0
        folder.mkdir(parents=True, exist_ok=True)
        self._append(b"")
        content = self.path.read_bytes()
        for line in content.splitlines():
            try:
                read = _Line.model_validate_json(line)
                self._labels[read.text] = read.labels
            except ValidationError:
                damaged += 1
        if damaged:
            note(f"{self.path}: {plural(damaged, 'damaged line')}; the reports of these are requested again")
        if content and not content.endswith(b"\n"):  # a kill cut the last line
            self._append(b"\n")

    def get(self, text: str) -> Labels | None:
        return self._labels.get(_hash(text))

    def add(self, labels: Mapping[str, Labels]) -> None:
        """Write the labels of some texts; they are on the disk when this returns."""
        lines = [_Line(text=_hash(text), labels=of) for text, of in labels.items()]
        if lines:
            self._append("".join(f"{line.model_dump_json()}\n" for line in lines).encode())
            self._labels |= {line.text: line.labels for line in lines}

    def _append(self, content: bytes) -> None:
        with open(self.path, "ab", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()
