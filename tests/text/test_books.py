"""Books: the released layout is read, the later file counts, and a damaged book is named with what is wrong in it."""

import hashlib
import json
import re

import pytest

from mavl.text.books import BookError, Books, read_books
from mavl.vocab import ASPECTS

LINES = ["border: b", "fluid: f", "location: l", "opacity: o", "other: x", "patterns: p", "shape: s", "texture: t"]


@pytest.fixture
def write(tmp_path):
    """write("a.json", content) -> its path; content is text, or is turned into JSON."""

    def write(name: str, content):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def test_the_released_layout_gives_a_sentence_for_each_aspect(write):
    books = read_books([write("d.json", {"edema": "Fluid in the lung."})], [write("a.json", {"edema": LINES})])
    assert list(books.sentences["edema"]) == list(ASPECTS)
    assert books.sentences["edema"]["description"] == "Fluid in the lung."
    assert books.sentences["edema"]["other"] == "other: x"
    assert books.sentences["edema"]["texture"] == "texture: t"


def test_a_book_of_one_kind_may_state_its_origin(write):
    """Even one that describes a finding called "about"."""
    about = {"source": "by hand"}
    described = write("d.json", {"about": about, "findings": {"edema": "Fluid in the lung.", "about": "A word."}})
    lines = write("a.json", {"about": about, "findings": {"edema": LINES}})
    books = read_books([described], [lines])
    assert list(books.sentences) == ["edema", "about"]
    assert books.sentences["edema"]["description"] == "Fluid in the lung."
    assert books.sentences["edema"]["other"] == "other: x"
    with pytest.raises(BookError, match=r"d\.json: 'edema' must be a list of 8 strings"):
        read_books(aspects=[described])


def test_others_is_other_in_the_released_words(write):
    lines = [line.replace("other:", "Others :") for line in LINES]
    assert read_books(aspects=[write("a.json", {"edema": lines})]).sentences["edema"]["other"] == "Others : x"


def test_rows_are_found_by_name_whatever_their_order(write):
    books = read_books(aspects=[write("a.json", {"edema": LINES[::-1]})])
    assert [books.sentences["edema"][aspect][-1] for aspect in ASPECTS[1:]] == list("bfloxpst")


def test_the_later_file_counts_and_adds(write):
    first = write("1.json", {"edema": "first", "mass": "kept"})
    second = write("2.json", {"edema": "second", "covid19": "added"})
    books = read_books([first, second])
    assert [books.sentences[name]["description"] for name in ("edema", "mass", "covid19")] == [
        "second",
        "kept",
        "added",
    ]


def test_two_books_of_one_name_have_different_hashes(write):
    paths = [write("train/book.json", {"edema": "a"}), write("test/book.json", {"edema": "b"})]
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    assert read_books(paths).hashes == {"train/book.json": digests[0], "test/book.json": digests[1]}


def test_a_whole_book_gives_each_part_on_its_own(write):
    entry = {"description": "Fluid in the lung.", "aspects": LINES}
    book = write("w.json", {"findings": {"edema": entry}})
    assert read_books([book]).sentences == {"edema": {"description": "Fluid in the lung."}}
    assert list(read_books(aspects=[book]).sentences["edema"]) == list(ASPECTS[1:])
    assert list(read_books([book], [book]).sentences["edema"]) == list(ASPECTS)


@pytest.mark.parametrize("part", ["description", "aspects"])
def test_a_whole_book_without_a_part_names_the_first_finding_that_lacks_it(write, part):
    entry = {"description": "Fluid in the lung.", "aspects": LINES}
    lacking = {name: value for name, value in entry.items() if name != part}
    book = write("w.json", {"findings": {"mass": entry, "edema": lacking}})
    other = {"description": "aspects", "aspects": "descriptions"}[part]
    assert list(read_books(**{other: [book]}).sentences) == ["mass", "edema"]
    with pytest.raises(BookError, match=rf"w\.json: 'edema' has no '{part}'$"):
        read_books(**{"descriptions" if part == "description" else "aspects": [book]})


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "not JSON"),
        ("", "not JSON"),
        (2000 * "[", "more than 100 levels of lists and objects"),
        ('{"edema": "a", "mass": "b", "edema": "c"}', "'edema' is twice in one object"),
        ('{"findings": {"edema": "a", "edema": "c"}}', "'edema' is twice in one object"),
        ('{"edema": NaN}', "NaN is not a finite number"),
        ({}, "holds no finding"),
        ({"findings": {}}, "holds no finding"),
        ({"": "a"}, "'' is no name of a finding; it needs 1 to 100 printable"),
        ({" edema": "a"}, "' edema' is no name of a finding"),
        ({"e\x1bdema": "a"}, "'e\\x1bdema' is no name of a finding"),
        ({"e\ndema": "a"}, "'e\\ndema' is no name of a finding"),
        ('{"\\ud800": "a"}', "'\\ud800' is no name of a finding"),
        ({"findings": {"e" * 101: "a"}}, f"'{100 * 'e'}' is no name of a finding"),
        ({"edema": "a\x00b"}, "the description of 'edema' holds '\\x00', which is no printable character"),
        ('{"edema": "a\\ud800"}', "the description of 'edema' holds '\\ud800'"),
        ({"edema": "a" * 10_001}, "the description of 'edema' has 10,001 characters; a text has at most 10,000"),
        (["edema"], "a book is a JSON object of findings, this is a list"),
        ({"edema": ""}, "the description of 'edema' is '', not a sentence"),
        ({"edema": " \n"}, "the description of 'edema'"),
        ({"edema": None}, "the description of 'edema' is None"),
        ({"edema": LINES}, "the description of 'edema' is ['border: b'"),
    ],
)
def test_a_damaged_disease_book_is_named(write, content, complaint):
    with pytest.raises(BookError, match=re.escape(f"d.json: {complaint}")):
        read_books([write("d.json", content)])


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (LINES[:7], "'edema' has 7 aspects; missing or without words ['texture'], unexpected []"),
        ([*LINES, "colour: grey"], "'edema' has 9 aspects; missing or without words [], unexpected ['colour']"),
        ([*LINES[:7], "shape: again"], "'edema' has 8 aspects; missing or without words ['texture']"),
        ([*LINES[:7], "texture without a colon"], "'edema' has 8 aspects; missing or without words ['texture']"),
        ([*LINES[:7], "texture: "], "'edema' has 8 aspects; missing or without words ['texture']"),
        ([*LINES[:7], 8], "'edema' must be a list of 8 strings"),
        ("border: b", "'edema' must be a list of 8 strings"),
        ([*LINES, "shape: again"], "'edema' has 9 aspects; missing or without words [], unexpected []"),
        ([], "'edema' has 0 aspects; missing or without words ['border'"),
        (None, "'edema' must be a list of 8 strings"),
        ([*LINES[:7], "texture: a\x07"], "'edema': a line holds '\\x07', which is no printable"),
        ([*LINES[:7], "texture: " + "a" * 9_992], "'edema': a line has 10,001 characters; a text has"),
    ],
)
def test_a_damaged_aspect_book_is_named(write, lines, complaint):
    with pytest.raises(BookError, match=re.escape(f"a.json: {complaint}")):
        read_books(aspects=[write("a.json", {"mass": LINES, "edema": lines})])


def test_names_with_signs_and_texts_up_to_the_limit_are_taken(write):
    book = {"$x_1$ [b] <i>": "a\n\tb", "e" * 100: "a" * 10_000, "Übelkeit (neu)": "café"}
    sentences = read_books([write("d.json", book)]).sentences
    assert {name: of["description"] for name, of in sentences.items()} == book


def test_the_shared_deep_book_is_named(shared):
    path = shared("cases/deep_nesting/book.json")
    for books in ({"descriptions": [path]}, {"aspects": [path]}):
        with pytest.raises(BookError, match=r"book\.json: more than 100 levels"):
            read_books(**books)


def test_a_missing_book_names_the_setting_of_books(tmp_path):
    with pytest.raises(BookError, match=r"none\.json: No such file or directory; the config's `text` section"):
        read_books([tmp_path / "none.json"])


def test_an_unknown_finding_suggests_near_ones(write):
    books = read_books([write("d.json", {"pneumothorax": "a", "edema": "b"})])
    with pytest.raises(BookError, match=r"d\.json: unknown finding 'pneumotorax'; did you mean 'pneumothorax'\?"):
        books.require(["pneumotorax"])


def test_all_that_is_missing_is_named_at_once(write):
    books = read_books([write("d.json", {"edema": "a", "mass": "b"})], [write("a.json", {"edema": LINES})])
    books.require(["edema"])
    books.require(["mass"], ["description"])
    with pytest.raises(BookError) as error:
        books.require(["edema", "masses", "mass", "covid19"], ["description", "border", "shape"])
    assert "unknown finding 'masses'; did you mean 'mass'?" in str(error.value)
    assert "'mass' has no border, shape, only description" in str(error.value)
    assert "unknown finding 'covid19'" in str(error.value)
    assert "'edema' has no" not in str(error.value)


def test_without_any_book_the_error_says_no_book():
    with pytest.raises(BookError, match=r"^no book: unknown finding 'edema'"):
        Books({}, {}).require(["edema"])
