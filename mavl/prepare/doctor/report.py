"""What doctor can find, what to do about it, and how it is told: to a person, and as JSON to a machine."""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mavl.files import whole_file

SHOWN = 3


class ReportError(ValueError):
    """A report that cannot be written where it was asked for."""


@dataclass(frozen=True)
class Kind:
    """A kind of fault. guess: it is told by a rule of thumb, and may be none."""

    title: str
    fix: str
    guess: bool = False


KINDS: dict[str, Kind] = {
    "missing_path": Kind(
        "files and folders of the config that are not there",
        "correct the path in the config (or by --root), or download the file (docs/data.md)",
    ),
    "split_file": Kind(
        "lists or folders that cannot be used", "mend the file, or say under `table` how it is laid out"
    ),
    "column": Kind("columns that the config names and the file lacks", "correct the name in the benchmark's YAML"),
    "label_value": Kind(
        "labels outside the alphabet (1, 0, blank or -1)", "mend them, or say under labels.values what they mean"
    ),
    "bad_row": Kind("rows that name no image or no patient", "mend or delete the rows, or correct images and groups"),
    "repeated_row": Kind("images that several rows name", "keep one row of each"),
    "label_conflict": Kind("images with other labels in another row", "keep the right row of each"),
    "label_store": Kind(
        "entries or values that do not fit the label store", "take manifest and label file from the same source"
    ),
    "shared_patient": Kind(
        "patients in two splits: what is tested was partly trained on",
        "move all images of a patient into one split (fine-tuning does so by itself, and says so)",
    ),
    "shared_image": Kind("images named in two splits", "keep each in one split"),
    "leaked_image": Kind("files of two splits with the same bytes", "keep one of them, in one split"),
    "duplicate_image": Kind("files of one split with the same bytes", "keep one of them"),
    "missing_image": Kind("images that are not there", "correct --root or images.path, or download them again"),
    "unreadable_image": Kind(
        "images that cannot be read",
        "download them again, or leave them out by max_bad_share of the config",
    ),
    "blank_image": Kind("images of one brightness", "leave them out: there is nothing to see in them"),
    "odd_depth": Kind(
        "images whose depth is not that of most", "see whether they come from another source or conversion", guess=True
    ),
    "odd_size": Kind(
        "images that are small, or of another shape than most",
        "look at some: thumbnails, crops, other body parts or lateral views do not belong here",
        guess=True,
    ),
    "inverted": Kind(
        "images that look inverted (lungs and air bright, spine dark)",
        "look at some, and invert the files that are (DICOM's MONOCHROME1, exported as it was stored)",
        guess=True,
    ),
    "lateral": Kind(
        "lateral views, by a column, the name or the DICOM header",
        "leave them out of the lists, unless you mean to have them",
        guess=True,
    ),
    "missing_mask": Kind("masks that are not there", "correct masks.path or --root, or download them again"),
    "unreadable_mask": Kind("masks that cannot be read", "download or make them again"),
    "bad_region": Kind("run lengths or boxes that make no sense", "mend the cells, or correct `masks` in the YAML"),
    "box_outside": Kind(
        "boxes that reach out of the frame they are given in",
        "correct masks.size, or mend the boxes: the rest is cut off",
    ),
    "mask_size": Kind(
        "masks of another shape than their image", "pair them anew, or correct masks.size: they are stretched over it"
    ),
    "empty_mask": Kind("empty masks of findings that the labels say are there", "mend the label or the mask"),
    "unlabelled_mask": Kind("masks of findings that the labels say are not there", "mend the label or the mask"),
}


@dataclass
class Found:
    """The faults by kind, each a line and the file that it is about (None where it is about none)."""

    items: dict[str, list[tuple[str, str | None]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, kind: str, line: str, path: Path | None = None) -> None:
        self.items[kind].append((line, None if path is None else str(path)))

    def add_all(self, kind: str, lines: Iterable[str]) -> None:
        for line in lines:
            self.add(kind, line)

    def without(self, kinds: Iterable[str]) -> "Found":
        ignored = set(kinds)
        return Found({kind: items for kind in KINDS if kind not in ignored and (items := self.items.get(kind))})

    def __len__(self) -> int:
        return sum(map(len, self.items.values()))


@dataclass
class Diagnosis:
    """What was found, what was looked at, and whether all of it was.

    splits: {split: {images, groups, findings: {finding: {present, absent, unknown}}}}; examined: figures by name;
    notes: what a person should know and need not mend.
    """

    config: str
    task: str
    root: str | None
    found: Found = field(default_factory=Found)
    splits: dict[str, dict] = field(default_factory=dict)
    examined: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    complete: bool = True


def check_writable(path: Path) -> None:
    """ReportError where `write_json` would fail: to be told before the minutes of work, not after."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path.parent):
            reason = "is a folder" if path.is_dir() else None
    except OSError as error:
        reason = f"cannot be written ({error.strerror})"
    if reason:
        raise ReportError(f"--json {path}: {reason}; name a file in a folder that may be written to")


def write_json(diagnosis: Diagnosis, path: Path) -> None:
    """All of it, whole or not at all; `found` has every item."""
    content = {name: value for name, value in vars(diagnosis).items() if name != "found"}
    content["clean"] = diagnosis.complete and not len(diagnosis.found)
    content["found"] = [
        {
            "kind": name,
            **vars(KINDS[name]),
            "count": len(items),
            "items": [{"text": text, "path": file} for text, file in items],
        }
        for name, items in diagnosis.found.items.items()
    ]
    with whole_file(path) as file:
        file.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def show(diagnosis: Diagnosis, console: Console, written: Path | None) -> None:
    """The summary: what was looked at, the counts of each split, and each kind of fault with its first lines."""
    root = f", root {diagnosis.root}" if diagnosis.root else ""
    console.print(Text(f"{diagnosis.config}: {diagnosis.task}{root}", "bold"))
    if diagnosis.splits:
        console.print(_split_table(diagnosis.splits))
        console.print(Text("images with the finding / without it / not known; –: nothing is said of it", "dim"))
    for note in diagnosis.notes:
        console.print(Text(f"note: {note}", "dim"))
    for name, items in diagnosis.found.items.items():
        kind = KINDS[name]
        colour = "yellow" if kind.guess else "red"
        guess = " (a guess: look)" if kind.guess else ""
        console.print(Text.assemble((f"\n{len(items)} × {name}", f"bold {colour}"), f"  {kind.title}{guess}"))
        for line, _ in items[:SHOWN]:
            console.print(Text(f"    {line}"))
        if len(items) > SHOWN:
            console.print(Text(f"    … and {len(items) - SHOWN} more", "dim"))
        console.print(Text(f"    fix: {kind.fix}", "cyan"))
    console.print(Text("\n" + _verdict(diagnosis), "bold"))
    if written is not None:
        console.print(Text(f"every item: {written}"))


def _verdict(diagnosis: Diagnosis) -> str:
    looked = ", ".join(f"{count:,} {name}" for name, count in diagnosis.examined.items() if count)
    looked = f" ({looked})" if looked else ""
    if not diagnosis.complete:
        return f"interrupted: this is what was found until then{looked}"
    if not len(diagnosis.found):
        return f"nothing to mend{looked}"
    number, kinds = len(diagnosis.found), len(diagnosis.found.items)
    return f"{number:,} fault{'s' * (number > 1)} of {kinds} kind{'s' * (kinds > 1)}{looked}"


def _split_table(splits: dict[str, dict]) -> Table:
    """A row a finding, a column a split: present / absent, and unknown where there are such."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("")
    for name in splits:
        table.add_column(name, justify="right")
    table.add_row("images", *(f"{split['images']:,}" for split in splits.values()), style="bold")
    if any(split["groups"] for split in splits.values()):
        table.add_row("patients", *(f"{split['groups']:,}" if split["groups"] else "–" for split in splits.values()))
    table.add_section()
    for finding in dict.fromkeys(finding for split in splits.values() for finding in split["findings"]):
        table.add_row(finding, *(_counts(split["findings"].get(finding)) for split in splits.values()))
    return table


def _counts(counts: dict[str, int] | None) -> str:
    if counts is None or not counts["present"] + counts["absent"]:
        return "–"
    unknown = f" / {counts['unknown']:,}" if counts["unknown"] else ""
    return f"{counts['present']:,} / {counts['absent']:,}{unknown}"
