"""The image of each row of a split file, and its patient."""

import glob
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import model_validator

from mavl.config.loader import GroupPattern, Settings
from mavl.data.benchmarks.tables import Column, PathTemplate, Table, find_group, normal_path, under_root

LONGEST_PATH = 1024
"""Characters; file systems end at 4096 bytes, with 255 for each part."""


@dataclass(frozen=True)
class ImageRows:
    """The rows of a split file that name an image: ids, and paths (names) under the root."""

    table: Table
    ids: list[str]
    names: list[str]
    root: Path

    def __len__(self) -> int:
        return len(self.names)


class ImageNames(Settings):
    """The image of a row: `column`, without the prefix `strip`, put into `path` under the root; * may match several."""

    column: Column = 0
    strip: str = ""
    path: PathTemplate = "{}"

    def read(self, table: Table, root: Path) -> ImageRows:
        """The rows of the table with their images, a row repeated for each image that it matches.

        Rows without an image are problems, and left out.
        """
        found = []
        for row, text in enumerate(table.column(self.column)):
            image = normal_path(text.replace("\\", "/").removeprefix(self.strip))
            name = normal_path(self.path.replace("{}", glob.escape(image) if "*" in self.path else image))
            name = under_root(name, root)
            if not image:
                table.report(row, "bad_row", f"column {self.column!r} names no image")
            elif len(name) > LONGEST_PATH:
                table.report(row, "bad_row", f"column {self.column!r} has a path of {len(name)} characters")
            elif "*" not in self.path:
                found.append((row, image, name))
            elif matches := sorted(glob.glob(name, root_dir=root)):
                found += [(row, image, match) for match in matches]
            else:
                table.report(row, "missing_image", f"no image matches {root / name}: check images.path, and root")
        rows, ids, names = ([each[i] for each in found] for i in range(3))
        return ImageRows(table.take(rows), ids, names, root)


class Groups(Settings):
    """The patient (or study) of an image: a column, or what `pattern` finds in it or, without a column, in the path."""

    column: Column | None = None
    pattern: GroupPattern | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.column is None and self.pattern is None:
            raise ValueError("groups needs a column, a pattern or both")
        return self

    def read(self, table: Table, names: list[str]) -> list[str] | None:
        """The group of each row, "" and a problem where there is none; None where the column does not exist.

        Where all groups are whole numbers, 1.0 is 1.
        """
        texts = names if self.column is None else table.column(self.column)
        groups = []
        for row, text in enumerate(texts):
            group = find_group(self.pattern, text) if self.pattern else text
            groups.append("" if group.lower() == "nan" else group)
            if not groups[-1]:
                fix = f"check groups.column and groups.pattern ({self.pattern})"
                table.report(row, "bad_row", f"{text!r} holds no group: {fix}")
        if all(re.fullmatch(r"(\d+(\.0)?)?", group) for group in groups):
            groups = [group.removesuffix(".0") for group in groups]
        return groups or None
