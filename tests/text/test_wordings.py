"""Other wordings of books, sentence by sentence."""

from pathlib import Path

import pytest

from mavl import vocab
from mavl.text.books import BookError, Books, read_books
from mavl.text.wordings import built_in_wordings, phrases_reversed, write_books

BOOK_FOLDER = Path(__file__).resolve().parents[2] / "concept_gen" / "books"
ASPECTS = ("description", "border", "shape")
BOOKS = Books(
    {
        "mass": {"description": "A lump, large.", "border": "border: sharp, smooth, white", "shape": "Shape:round"},
        "cyst": {"description": "A sac: thin.", "border": "border: thin", "shape": "shape: round, closed"},
        "scar": {"description": "A line."},
    },
    {},
)


def wordings(*which: str, aspects=ASPECTS) -> dict[str, dict]:
    return {
        wording.name: wording.books.sentences
        for wording in built_in_wordings(BOOKS, ["cyst", "mass"], aspects, which or vocab.WORDINGS)
    }


def test_names():
    assert wordings("names") == {
        "names": {
            "cyst": {"description": "cyst", "border": "border: cyst", "shape": "shape: cyst"},
            "mass": {"description": "mass", "border": "border: mass", "shape": "Shape: mass"},
        }
    }


def test_descriptions():
    assert wordings("descriptions")["descriptions"]["mass"] == {
        "description": "A lump, large.",
        "border": "border: A lump, large.",
        "shape": "Shape: A lump, large.",
    }


def test_one_aspect_left_out_after_the_other():
    found = wordings("without")
    assert list(found) == ["without description", "without border", "without shape"]
    assert found["without description"]["cyst"] == BOOKS.sentences["cyst"] | {"description": "cyst"}
    assert found["without shape"]["cyst"] == BOOKS.sentences["cyst"] | {"shape": "shape: cyst"}


def test_phrases_in_reverse_order():
    assert wordings("reversed")["reversed"] == {
        "cyst": {"description": "A sac: thin.", "border": "border: thin", "shape": "shape: closed, round"},
        "mass": {"description": "A lump, large.", "border": "border: white, smooth, sharp", "shape": "Shape: round"},
    }
    assert phrases_reversed(BOOKS, ["cyst"], ["shape"]).sentences == {"cyst": {"shape": "shape: closed, round"}}


def test_templates_keep_the_full_stop_at_the_end():
    found = wordings("templates")
    assert {name: of["mass"]["description"] for name, of in found.items()} == {
        "prefixed": "on a chest X-ray: A lump, large.",
        "suffixed": "A lump, large, on a chest X-ray.",
        "named": "mass: A lump, large.",
    }
    assert found["suffixed"]["cyst"]["border"] == "border: thin, on a chest X-ray"
    assert found["named"]["cyst"]["border"] == "border: cyst: thin"


def test_what_changes_nothing_is_no_wording():
    """Of descriptions alone no phrases are reversed, no aspects say the description, and to leave it out is names."""
    assert list(wordings(aspects=["description"])) == ["names", "prefixed", "suffixed", "named"]


def test_a_finding_that_lacks_an_aspect():
    with pytest.raises(BookError, match="'scar' has no border, shape"):
        built_in_wordings(BOOKS, ["scar"], ASPECTS)


def test_written_books_read_back(tmp_path):
    full = read_books([BOOK_FOLDER / "descriptions.json"], [BOOK_FOLDER / "aspects.json"])
    books = Books({name: full.sentences[name] for name in ("mass", "cyst")}, {})
    assert read_books(**write_books(tmp_path, books)).sentences == books.sentences
    alone = Books({"mass": {"description": "A lump."}}, {})
    files = write_books(tmp_path / "alone", alone)
    assert list(files) == ["descriptions"]
    assert read_books(**files).sentences == alone.sentences
