"""The prompts of a folder: what their hash covers, and faults that are named."""

import shutil
from pathlib import Path

import pytest

from mavl.concepts import ConceptError
from mavl.concepts.prompts import FILES, read_prompts
from mavl.vocab import ASPECTS
from tests.support.tiny import ROOT

PROMPTS = ROOT / "concept_gen" / "prompts"


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(PROMPTS, tmp_path / "prompts"))


@pytest.mark.parametrize("name", FILES)
def test_the_hash_covers_every_file(folder, name):
    before = read_prompts(folder)
    (folder / name).write_text((folder / name).read_text() + "\n")
    assert read_prompts(folder).hash != before.hash


def test_the_system_prompt_asks_for_every_key():
    system = read_prompts(PROMPTS).texts["system.txt"]
    assert all(f"\n{key} " in system for key in ("finding", *ASPECTS))


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("request.txt", "Describe it.", r"request\.txt: has no \{finding\}"),
        ("correction.txt", "Wrong.", r"correction\.txt: has no \{problems\}"),
        ("examples.json", "[]", r"examples\.json: no example"),
        ("examples.json", "{", r"examples\.json: no list of answers"),
        (
            "examples.json",
            '[{"finding": "mass"}]',
            r'examples\.json: no list of answers \("description" is missing; "border" is missing',
        ),
    ],
)
def test_bad_prompts_are_named(folder, name, text, complaint):
    (folder / name).write_text(text)
    with pytest.raises(ConceptError, match=complaint):
        read_prompts(folder)


def test_a_missing_prompt_is_named(folder):
    (folder / "system.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"system\.txt"):
        read_prompts(folder)
