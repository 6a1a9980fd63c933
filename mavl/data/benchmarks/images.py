"""The image of each row of a split file, and its patient."""

import glob
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import model_validator

from mavl.config.loader import GroupPattern, Pattern, Settings
from mavl.data.benchmarks.tables import (
    Column,
    PathTemplate,
    SplitName,
    Table,
    find_group,
    normal_path,
    of_split,
    replace_found,
    under_root,
)

LONGEST_PATH = 1024
"""Characters; file systems end at 4096 bytes, with 255 for each part."""


INDEXED = 100
"""Rows above which the images that a path with * matches are looked up in one list."""


@dataclass(frozen=True)
class ImageRows:
    """The rows of a split file that name an image: ids, and paths (names) under the root."""

    table: Table
    ids: list[str]
    names: list[str]
    root: Path

    def __len__(self) -> int:
        return len(self.names)


class Rewriting(Settings):
    r"""What `pattern` finds in a text becomes `by`, where \1 is what its first (group) holds."""

    pattern: Pattern
    by: str

    @model_validator(mode="after")
    def _has_the_groups(self) -> Self:
        groups = re.compile(self.pattern).groups
        if beyond := [number for number in re.findall(r"\\(\d+)", self.by) if int(number) > groups]:
            raise ValueError(f"by: \\{beyond[0]} is none of the {groups} groups of the pattern {self.pattern!r}")
        return self

    def __call__(self, text: str) -> str:
        """The text anew, "" where nothing is found; DataError if the search does not end."""
        return replace_found(self.pattern, self.by, text)


class ImageNames(Settings):
    """The image of a row: `column`, without the prefix `strip`, put into `path` under the root; * may match several.

    rewrite: of the column's text before it is put there. path: one for all splits, or {split: path}. {} is the image;
    {study_id} is the cell of that column in the row, and {study_id:.2} its first two characters.
    """

    column: Column = 0
    strip: str = ""
    rewrite: Rewriting | None = None
    path: PathTemplate | dict[SplitName, PathTemplate] = "{}"

    def read(self, table: Table, root: Path, split: str) -> ImageRows:
        """The rows of the table with their images, a row repeated for each image that it matches.

        Rows without an image are problems, and left out.
        """
        template = self.path if isinstance(self.path, str) else of_split(self.path, split)
        texts = [text.replace("\\", "/").removeprefix(self.strip) for text in table.column(self.column)]
        named = list(map(bool, texts))
        if self.rewrite:
            texts = [self._rewritten(table, row, text, self.rewrite) for row, text in enumerate(texts)]
        paths = _filled(template, table) if texts else []
        index = _index(template, root) if len(texts) > INDEXED else None
        found = []
        for row, (image, path) in enumerate(zip(map(normal_path, texts), paths, strict=True)):
            name = normal_path(path.replace("{}", glob.escape(image) if "*" in template else image))
            name = under_root(name, root)
            if not image:
                if not named[row]:  # else it does not fit the pattern of `rewrite`
                    table.report(row, "bad_row", f"column {self.column!r} names no image")
            elif len(name) > LONGEST_PATH:
                table.report(row, "bad_row", f"column {self.column!r} has a path of {len(name)} characters")
            elif "*" not in template:
                found.append((row, image, name))
            elif matches := index[image] if index and image in index else sorted(glob.glob(name, root_dir=root)):
                found += [(row, image, match) for match in matches]
            else:
                table.report(row, "missing_image", f"no image matches {root / name}: check images.path, and root")
        rows, ids, names = ([each[i] for each in found] for i in range(3))
        return ImageRows(table.take(rows), ids, names, root)

    def _rewritten(self, table: Table, row: int, text: str, rewrite: Rewriting) -> str:
        """A text anew; one that does not fit is a problem, and "" then."""
        found = rewrite(text)
        if text and not found:
            fix = "check images.rewrite.pattern"
            table.report(row, "bad_row", f"{text!r} does not fit {rewrite.pattern}: {fix}")
        return found


def _filled(template: str, table: Table) -> list[str]:
    """The template with the cells of each row; a column that the table lacks is a problem."""
    places = list(re.finditer(r"\{([^{}:]+)(?::\.(\d+))?\}", template))
    paths = [template] * len(table)
    for place in places:
        cells, length = table.column(place[1]), int(place[2]) if place[2] else None
        cells = [cell[:length].replace("\\", "/") for cell in cells] or [""] * len(table)
        cells = [glob.escape(cell) if "*" in template else cell for cell in cells]
        paths = [path.replace(place[0], cell) for path, cell in zip(paths, cells, strict=True)]
    return paths


def _index(template: str, root: Path) -> dict[str, list[str]] | None:
    """{image: its paths under the root}, by one search; None where each image needs a search of its own.

    A search walks through all folders that the * before the image matches: one for each of n images takes n times that.
    """
    folder, _, last = template.rpartition("/")
    if "*" not in folder or "*" in last or "{}" not in last or re.search(r"[?\[\]]|\{[^}]", template):
        return None
    before, after = last.split("{}")
    found: dict[str, list[str]] = {}
    for name in sorted(map(normal_path, glob.glob(template.replace("{}", "*"), root_dir=root))):
        image = name.rpartition("/")[2].removeprefix(before).removesuffix(after)
        found.setdefault(image, []).append(name)
    return found


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
