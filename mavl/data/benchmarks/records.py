"""The rows of a table in a JSON file: a list of objects, or COCO's images, annotations and categories.

A row's line is the number of its record: of the object in the list, or of the image in `images`, from 1.

Cells are text. A list of numbers, such as a box, is "1;2;3;4"; a list of such lists "1;2;3;4|5;6;7;8"; a list of texts
"a|b"; any deeper list is JSON. The entries of an object have their names after its own and a dot.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mavl.data.benchmarks.rows import MAX_ROWS, BenchmarkError, Problem, Rows, raise_problems, read_text, unusable
from mavl.vocab import unknown_name

Record = dict[str, Any]


def read_records(file: Path, key: str = "", explode: Sequence[str] = (), keys: Sequence[str] = ()) -> Rows:
    """The rows of a list of objects; a name that an object lacks is a blank cell.

    BenchmarkError for a file without such a list, and with every record that is no object, or whose lists differ in
    length.

    Args:
        key: of the list in the file's object, with dots for an object inside another; "" where the file is the list.
        keys: columns for the names of objects that are in an object instead of in a list, one for each depth.
        explode: names of lists that become a row for each place; of empty ones the record is one row without them.
    """
    problems: list[Problem] = []
    rows: list[tuple[int, Record]] = []
    for number, record in enumerate(_list_in(file, _document(file), key, keys), start=1):
        try:
            rows += [(number, row) for row in _exploded(record, explode)]
        except ValueError as error:
            problems.append(Problem("bad_row", file, str(error), number))
    raise_problems(problems)
    return _as_rows(file, rows, explode)


def read_coco(file: Path) -> Rows:
    """A row for each annotation, with the entries of its image, and for each image without one.

    Columns: of the image, but for its id; `category`, the name of the annotation's category; of the annotation, but for
    ids, with "annotation." before a name that images have, too. BenchmarkError for ids without an entry.
    """
    document, problems = _document(file), []
    categories = {_key(entry, "id"): entry.get("name") for entry in _list_in(file, document, "categories")}
    images = _list_in(file, document, "images")
    number_of: dict[str, int] = {}
    for number, image in enumerate(images, start=1):
        if "id" not in image:
            problems.append(Problem("bad_row", file, "an image without an id", number))
        elif number_of.setdefault(_key(image, "id"), number) != number:
            problems.append(Problem("split_file", file, f"two images have the id {image.get('id')!r}", number))
    of_image: dict[int, list[Record]] = {number: [] for number in range(1, len(images) + 1)}
    shared = {name for image in images for name in image}
    for place, entry in enumerate(_list_in(file, document, "annotations"), start=1):
        number, category = number_of.get(_key(entry, "image_id")), categories.get(_key(entry, "category_id"))
        if number is None or category is None:
            which = "category_id" if number else "image_id"
            text = f"annotation {place} has the {which} {entry.get(which)!r}, which no entry has as its id"
            problems.append(Problem("bad_row", file, text, number))
            continue
        own = {name: value for name, value in entry.items() if name not in ("id", "image_id", "category_id")}
        own = {f"annotation.{name}" if name in shared else name: value for name, value in own.items()}
        of_image[number].append({"category": category} | own)
    raise_problems(problems)
    rows = [
        (number, {name: value for name, value in image.items() if name != "id"} | entry)
        for number, image in enumerate(images, start=1)
        for entry in of_image[number] or [{}]
    ]
    return _as_rows(file, rows, ("category",))


def _key(entry: Record, name: str) -> str:
    """An id for comparison: 1 and "1" are two."""
    return json.dumps(entry.get(name))


def _document(file: Path) -> Any:
    """What a JSON file holds."""
    try:
        return json.loads(read_text(file, json=True), object_pairs_hook=_without_twins)
    except (ValueError, RecursionError) as error:
        if isinstance(error, BenchmarkError):
            raise
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise unusable(file, f"no usable JSON ({reason})", getattr(error, "lineno", None)) from error


def _without_twins(pairs: list[tuple[str, Any]]) -> Record:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r} occurs twice in an object")
    return record


def _list_in(file: Path, document: Any, key: str, keys: Sequence[str] = ()) -> list[Record]:
    """The list of objects at a key of a document, or those in the object there with their names as entries `keys`."""
    for name in key.split(".") if key else ():
        if not isinstance(document, Mapping) or name not in document:
            known = list(document) if isinstance(document, Mapping) else []
            raise unusable(file, f"{unknown_name('key', name, known)}: check table.format and table.records")
        document = document[name]
    if keys:
        document = list(_named(file, document, keys))
    if not isinstance(document, list):
        held = f" with the keys {', '.join(list(document)[:8])}" if isinstance(document, Mapping) else ""
        fix = "give the key of the list of records as table.records, or columns for the names of objects as table.keys"
        raise unusable(file, f"{key or 'the file'} is {_kind(document)}{held}, not a list: {fix}")
    for number, record in enumerate(document, start=1):
        if not isinstance(record, Mapping):
            raise unusable(file, f"{key or 'the list'} holds {_kind(record)}, not an object", number)
    return document


def _named(file: Path, value: Any, keys: Sequence[str]) -> Iterator[Record]:
    """The objects below an object, each with the names on the way to it."""
    if not isinstance(value, Mapping):
        raise unusable(file, f"{_kind(value)}, not an object whose names are the column {keys[0]!r} of table.keys")
    for name, inner in value.items():
        below = _named(file, inner, keys[1:]) if len(keys) > 1 else [inner]
        for record in below:
            if not isinstance(record, Mapping):
                raise unusable(file, f"{name!r} is {_kind(record)}, not an object")
            yield {keys[0]: name} | dict(record)


def _kind(value: Any) -> str:
    return {dict: "an object", list: "a list", str: "a text", type(None): "null"}.get(type(value), "a number")


def _exploded(record: Record, names: Sequence[str]) -> Iterator[Record]:
    """A record for each place of the lists of these names, or one without them."""
    if not names:
        yield record
        return
    lists: dict[str, list] = {}
    for name in names:
        if not isinstance(values := record.get(name), list):
            raise ValueError(f"table.explode: {name} is {_kind(values) if name in record else 'missing'}, not a list")
        lists[name] = values
    if len({len(values) for values in lists.values()}) > 1:
        lengths = ", ".join(f"{name} has {len(values)}" for name, values in lists.items())
        raise ValueError(f"table.explode: lists of several lengths: {lengths}")
    rest = {name: value for name, value in record.items() if name not in lists}
    places = list(zip(*lists.values(), strict=True))
    for values in places:
        yield rest | dict(zip(names, values, strict=True))
    if not places:
        yield rest


def _as_rows(file: Path, rows: Sequence[tuple[int, Record]], always: Sequence[str]) -> Rows:
    """Records as rows of text. always: columns that exist even if no record has them."""
    problems, texts = [], []
    for number, record in rows:
        try:
            cells = list(_cells("", record))
            texts.append(dict(cells))
            if len(texts[-1]) < len(cells):
                twice = next(name for name, found in Counter(name for name, _ in cells).items() if found > 1)
                raise ValueError(f"the column {twice!r} occurs twice in this record")
        except (ValueError, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
            problems.append(Problem("bad_row", file, reason, number))
    raise_problems(problems)
    if not texts:
        raise unusable(file, "the file has no records")
    if len(texts) > MAX_ROWS:
        raise unusable(file, f"more than {MAX_ROWS:,} rows")
    names = list(dict.fromkeys(name for record in texts for name in record))
    names += [name for name in always if not any(of == name or of.startswith(f"{name}.") for of in names)]
    return Rows(names, [number for number, _ in rows], [[record.get(name, "") for name in names] for record in texts])


def _cells(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """(column, text) of a value, of several columns if it is an object."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _cells(f"{name}.{key.strip()}" if name else key.strip(), inner)
    else:
        yield name, _text(name, value)


def _text(name: str, value: Any) -> str:
    """A value that is no object, as a cell."""
    if isinstance(value, bool):
        return str(int(value))
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if not isinstance(value, list):
        return str(value).strip()
    if value and all(isinstance(entry, int | float) for entry in value):
        return ";".join(map(str, value))
    deeper = [inner for entry in value if isinstance(entry, list) for inner in entry]
    if any(isinstance(entry, Mapping) for entry in value) or any(isinstance(inner, list | Mapping) for inner in deeper):
        return json.dumps(value, ensure_ascii=False)
    parts = [_text(name, entry) for entry in value]
    if held := next((part for part, entry in zip(parts, value, strict=True) if "|" in part and entry == part), None):
        raise ValueError(f"{name}: the text {held!r} in a list holds |, which would separate texts")
    return "|".join(parts)
