"""docs/configuration.md: every key of every schema, with its default."""

import re
from collections.abc import Iterator
from typing import get_args

import pytest
from pydantic import BaseModel

from mavl.config.reference import PAGE, SCHEMAS, reference


def test_the_page_is_that_of_the_schemas():
    assert PAGE.read_text(encoding="utf-8") == reference(), "run: python -m mavl.config.reference"


def keys(annotation, name: str = "") -> Iterator[str]:
    """The dotted keys below an annotation, by pydantic's fields."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for key, field in annotation.model_fields.items():
            below = [*keys(field.annotation, f"{name}.{key}".removeprefix("."))]
            yield from below or [f"{name}.{key}".removeprefix(".")]
    else:
        for inner in get_args(annotation):
            yield from keys(inner, name)


@pytest.mark.parametrize("script", SCHEMAS)
def test_every_key_is_in_the_part_of_its_script(script):
    part = reference().partition(f"\n## {script}\n")[2].partition("\n## ")[0]
    described = set(re.findall(r"^\| `([\w.]+)` \|", part, re.MULTILINE))
    expected = {*keys(SCHEMAS[script])}
    assert expected <= described
    assert {key.rpartition(".")[0] for key in described} <= {key.rpartition(".")[0] for key in expected}


@pytest.mark.parametrize(
    "line",
    [
        "| `train.patience` | whole number > 0 or null | `null` |",
        '| `data.uncertain` | `ignore`, `zeros`, `ones` | `"ignore"` |',
        "| `data.benchmark` | text | required |",
        "| `train.trackers` | list of `tensorboard`, `wandb` | `[]` |",
        "| `optimizer.lr` | number > 0 | `0.0001` |",
        '| `masks.box_format` | `xywh`, `xyxy` | `"xywh"` |',
    ],
)
def test_types_bounds_and_defaults_are_those_of_the_schema(line):
    assert line in reference().splitlines()
