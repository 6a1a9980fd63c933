"""The kinds of faults with their fixes, the result of an examination, and its summary and JSON."""

import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mavl.files import write_json
from mavl.progress import plural

SHOWN = 3


class Kind(NamedTuple):
    """A kind of fault. guess: a rule of thumb finds it, and it may be none."""

    title: str
    fix: str
    guess: bool = False


KINDS = {
    "missing_path": Kind("paths of the config that do not exist", "correct the path or --root, or download the file"),
    "split_file": Kind("lists or folders that cannot be used", "repair the file, or give its layout under `table`"),
    "column": Kind("columns that the config names and the file lacks", "correct the name in the benchmark's YAML"),
    "label_value": Kind("labels other than 1, 0, blank or -1", "correct them, or give their meaning in labels.values"),
    "bad_row": Kind("rows without image or patient, or of other cells than the header", "correct or delete the rows"),
    "repeated_row": Kind("images that several rows name", "keep one row of each"),
    "label_conflict": Kind("images with other labels or patients in another row", "keep the right row of each"),
    "label_store": Kind("entries that do not fit the label file", "take manifest and label file from the same source"),
    "shared_patient": Kind("patients in two splits", "move all images of a patient into one; fine-tuning does"),
    "shared_image": Kind("images named in two splits", "keep each in one split"),
    "leaked_image": Kind("files of two splits with the same bytes", "keep one of them, in one split"),
    "duplicate_image": Kind("files of one split with the same bytes", "keep one of them"),
    "missing_image": Kind("images that do not exist", "correct --root or images.path, or download them again"),
    "unreadable_image": Kind("images that cannot be read", "download them again, or allow for them by max_bad_share"),
    "blank_image": Kind("images of nearly one brightness", "remove them, or cut a few extreme pixels off"),
    "odd_depth": Kind("images whose depth is not that of most", "check their source and conversion", guess=True),
    "other_format": Kind(
        "images whose suffix is that of another format", "check their source: the content counts", True
    ),
    "odd_size": Kind("images smaller than most, or of another shape", "remove thumbnails and other views", guess=True),
    "inverted": Kind("images with bright lungs and dark spine", "invert them again (DICOM's MONOCHROME1)", guess=True),
    "lateral": Kind("lateral views, by list, name or DICOM header", "remove them, unless they are meant", guess=True),
    "turned": Kind("turned or mirrored images, by the DICOM header", "turn them upright", guess=True),
    "missing_mask": Kind("masks that do not exist", "correct masks.path or --root, or download them again"),
    "unreadable_mask": Kind("masks that cannot be read", "download or make them again"),
    "bad_region": Kind("invalid run lengths or boxes", "correct the cells, or `masks` in the benchmark's YAML"),
    "box_outside": Kind("boxes partly outside their frame", "correct masks.size, or the boxes: the rest is cut off"),
    "mask_size": Kind("masks of another shape than their image", "correct masks.size or the pairs: they are stretched"),
    "empty_mask": Kind("empty masks of findings that are labelled present", "correct the label or the mask"),
    "full_mask": Kind("masks that cover the whole image", "check the mask's opacity and colours", guess=True),
    "unlabelled_mask": Kind("masks of findings that are labelled absent", "correct the label or the mask"),
}


@dataclass
class Diagnosis:
    """The result of an examination.

    Args:
        found: {kind: [(line, file)]}, file None where the fault is of no file.
        splits: {split: {images, groups, findings: {finding: {present, absent, unknown}}}}.
        examined: numbers of files by what was done with them.
        notes: what is no fault but should be known.
        complete: False after an interrupt.
    """

    config: str
    task: str
    root: str | None
    found: dict[str, list[tuple[str, str | None]]] = field(default_factory=lambda: defaultdict(list))
    splits: dict[str, dict] = field(default_factory=dict)
    examined: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    complete: bool = True

    def add(self, kind: str, line: str, path: Path | None = None) -> None:
        """Add a fault of one of KINDS."""
        self.found[kind].append((line, None if path is None else str(path)))


def write_report(diagnosis: Diagnosis, path: Path) -> None:
    """Write the diagnosis with every fault as JSON, whole or not at all."""
    found = [
        {
            "kind": kind,
            **KINDS[kind]._asdict(),
            "count": len(items),
            "items": [{"text": text, "path": file} for text, file in items],
        }
        for kind, items in diagnosis.found.items()
    ]
    write_json(path, vars(diagnosis) | {"clean": diagnosis.complete and not found, "found": found})


def print_summary(diagnosis: Diagnosis, console: Console, written: Path | None) -> None:
    """Print the counts of each split, the notes, and each kind of fault with its first lines and its fix."""

    def show(text: str, style: str = "") -> None:
        console.print(Text(printable(text), style))

    show(f"{diagnosis.config}: {diagnosis.task}{f', root {diagnosis.root}' if diagnosis.root else ''}", "bold")
    if diagnosis.splits:
        console.print(_split_table(diagnosis.splits))
        show("images with the finding / without it / unknown; –: no image is labelled", "dim")
    for note in diagnosis.notes:
        show(f"note: {note}", "dim")
    for name, items in diagnosis.found.items():
        kind = KINDS[name]
        head = (f"\n{len(items)} × {name}", "bold yellow" if kind.guess else "bold red")
        console.print(Text.assemble(head, f"  {kind.title}{' (a guess: view some)' if kind.guess else ''}"))
        for line, _ in items[:SHOWN]:
            show(f"    {line}")
        if len(items) > SHOWN:
            show(f"    … and {len(items) - SHOWN} more", "dim")
        show(f"    fix: {kind.fix}", "cyan")
    number, kinds = sum(map(len, diagnosis.found.values())), len(diagnosis.found)
    verdict = f"{plural(number, 'fault')} of {plural(kinds, 'kind')}" if number else "no faults"
    if not diagnosis.complete:
        verdict = "interrupted: these are the faults until then"
    examined = ", ".join(
        "1 " + re.sub(r"s\b", "", name, count=1) if count == 1 else f"{count:,} {name}"
        for name, count in diagnosis.examined.items()
        if count
    )
    show(f"\n{verdict}{f' ({examined})' if examined else ''}", "bold")
    if written is not None:
        show(f"all faults: {written}")


def printable(text: str) -> str:
    """The text with what cannot be printed as escapes, such as bytes of a name that are no UTF-8."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def _split_table(splits: dict[str, dict]) -> Table:
    """A row a finding, a column a split: present / absent, and unknown where there are such."""
    table = Table("", *splits, box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_row("images", *(f"{split['images']:,}" for split in splits.values()), style="bold")
    if any(split["groups"] for split in splits.values()):
        table.add_row("patients", *(f"{split['groups']:,}" if split["groups"] else "–" for split in splits.values()))
    table.add_section()
    # as Text: a name may hold what the console takes for markup
    for finding in dict.fromkeys(finding for split in splits.values() for finding in split["findings"]):
        table.add_row(Text(printable(finding)), *(_counts(split["findings"].get(finding)) for split in splits.values()))
    return table


def _counts(counts: dict[str, int] | None) -> str:
    if counts is None or not counts["present"] + counts["absent"]:
        return "–"
    unknown = f" / {counts['unknown']:,}" if counts["unknown"] else ""
    return f"{counts['present']:,} / {counts['absent']:,}{unknown}"
