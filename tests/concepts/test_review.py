"""A clinician's sheet, ticked as people tick, comes back into the book; an unclear one leaves the book as it was."""

import re
from datetime import date

import pytest

from mavl.concepts.book import Entry, Provenance, WholeBook, read_whole_book
from mavl.concepts.review import ACCEPT, EDIT, REJECT, ReviewError, read_review, write_sheet
from tests.support.llm_server import good

NAMES = ("rib fracture", "covid19", "lung cyst")


@pytest.fixture
def book(tmp_path):
    path = tmp_path / "book.json"
    made = Provenance(model="tiny", prompt_version="1.0", prompt_hash="0" * 16, temperature=0.3, created="2026-01-01")
    WholeBook(findings={name: Entry.of(good(name), made) for name in NAMES}).write(path)
    return path


@pytest.fixture
def sheet(book, tmp_path):
    """The sheet of the book, with functions to fill it in."""
    path = tmp_path / "sheet.md"
    assert write_sheet(book, path) == 3
    return Sheet(path)


class Sheet:
    def __init__(self, path):
        self.path = path

    def replace(self, old: str, new: str) -> None:
        text = self.path.read_text()
        assert old in text
        self.path.write_text(text.replace(old, new))

    def sign(self, name: str = "Dr. Roe", day: str = "2026-02-03") -> None:
        self.replace("Reviewer:", f"Reviewer: {name}")
        self.replace("Date (YYYY-MM-DD):", f"Date (YYYY-MM-DD): {day}")

    def tick(self, finding: str, choice: str, mark: str = "[x]") -> None:
        head, section = self.path.read_text().split(f"## {finding}\n")
        self.path.write_text(f"{head}## {finding}\n" + section.replace(f"[ ] {choice}", f"{mark} {choice}", 1))


def test_ticks_come_back_into_the_book(book, sheet):
    sheet.sign()
    sheet.tick("rib fracture", ACCEPT)
    sheet.tick("covid19", EDIT, "[X]")
    sheet.replace("shape that only covid19 has on a film", "patches round\n  or like bands")  # an editor broke the line
    sheet.tick("lung cyst", REJECT)
    before = read_whole_book(book)
    review = read_review(book, sheet.path)
    assert (review.accepted, review.edited) == (["rib fracture", "covid19"], ["covid19"])
    assert (review.rejected, review.open) == (["lung cyst"], [])
    after = read_whole_book(book)
    signed = {"reviewed": True, "reviewed_by": "Dr. Roe", "reviewed_on": date(2026, 2, 3)}
    fracture, covid = before.findings["rib fracture"], before.findings["covid19"]
    assert after.findings["rib fracture"] == Entry.of(fracture.lines, fracture.provenance.model_copy(update=signed))
    edited = covid.provenance.model_copy(update=signed | {"edited": ("shape",)})
    assert after.findings["covid19"] == Entry.of(covid.lines | {"shape": "patches round or like bands"}, edited)
    assert list(after.findings) == ["rib fracture", "covid19"]
    [rejected] = after.rejected["lung cyst"]
    assert rejected.lines == before.findings["lung cyst"].lines
    assert rejected.provenance.reviewed_by == "Dr. Roe"


def test_a_sheet_without_ticks_changes_nothing(book, sheet):
    before = book.read_bytes()
    assert read_review(book, sheet.path).open == list(NAMES)
    assert book.read_bytes() == before


@pytest.mark.parametrize("mark", ["[v]", "[\u2713]", "[ X ]", r"\[x\]"])
def test_ticks_that_are_plain_enough(book, sheet, mark):
    sheet.sign()
    sheet.tick("covid19", ACCEPT, mark)
    assert read_review(book, sheet.path).accepted == ["covid19"]


def test_a_bullet_without_a_space(book, sheet):
    sheet.sign()
    sheet.replace(f"- [ ] {REJECT}", f"-[ ] {REJECT}")
    sheet.tick("covid19", REJECT)
    assert read_review(book, sheet.path).rejected == ["covid19"]


def test_a_line_may_hold_what_looks_like_a_fingerprint(book, tmp_path):
    whole = read_whole_book(book)
    odd = Entry.of(good("covid19", other="so says <!-- text abc --> within"), whole.findings["covid19"].provenance)
    whole.model_copy(update={"findings": {"covid19": odd}}).write(book)
    sheet = Sheet(tmp_path / "odd.md")
    write_sheet(book, sheet.path)
    sheet.sign()
    sheet.tick("covid19", ACCEPT)
    assert read_review(book, sheet.path).accepted == ["covid19"]


def test_an_aspect_before_an_edit_is_not_doubled(book, sheet):
    sheet.sign()
    sheet.tick("covid19", EDIT)
    sheet.replace("border that only covid19 has on a film", "border: jagged and torn")
    read_review(book, sheet.path)
    assert read_whole_book(book).findings["covid19"].aspects[0] == "border: jagged and torn"


def test_a_sheet_of_some_findings_holds_no_others(book, tmp_path):
    assert write_sheet(book, tmp_path / "one.md", ["Covid19", "not there"]) == 1
    assert re.findall("^## (.*)", (tmp_path / "one.md").read_text(), re.MULTILINE) == ["covid19"]


def test_what_was_reviewed_is_not_asked_again(book, sheet, tmp_path):
    sheet.sign()
    sheet.tick("covid19", ACCEPT)
    read_review(book, sheet.path)
    assert write_sheet(book, tmp_path / "second.md") == 2
    assert "## covid19" not in (tmp_path / "second.md").read_text()


def test_another_editor_may_have_saved_it(book, sheet):
    """Other bullets, other line ends, a byte order mark, no date."""
    sheet.sign(day="")
    sheet.tick("covid19", ACCEPT)
    text = re.sub(r"^- ", "* ", sheet.path.read_text(), flags=re.MULTILINE)
    sheet.path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert read_review(book, sheet.path).accepted == ["covid19"]
    assert read_whole_book(book).findings["covid19"].provenance.reviewed_on == date.today()


def twice(sheet):
    sheet.path.write_text(sheet.path.read_text() + "\n## covid19\n")


def edit_covid(words):
    def fill(sheet):
        sheet.sign()
        sheet.tick("covid19", EDIT)
        sheet.replace("shape that only covid19 has on a film", words)

    return fill


UNCLEAR = {
    "odd sign": (lambda sheet: sheet.tick("covid19", ACCEPT, "[?]"), r"'covid19' has a row that is .* accept as it"),
    "no bracket": (
        lambda sheet: sheet.replace(f"[ ] {REJECT}", f"x {REJECT}"),
        "has a row that is neither .* x reject",
    ),
    "no box": (lambda sheet: sheet.replace(f"- [ ] {ACCEPT}", f"(x) {ACCEPT}"), "has a row that is neither"),
    "no finding": (lambda sheet: sheet.path.write_text("Reviewer: Dr. Roe\n"), "no finding stands in it"),
    "edit too short": (edit_covid("round"), "'covid19' \"shape\" has 1 word; write 2 to 25"),
    "edit too long": (edit_covid("round " * 26), "'covid19' \"shape\" has 26 words; write 2 to 25"),
    "no name": (lambda sheet: sheet.tick("covid19", ACCEPT), "the reviewer's name is missing"),
    "no date": (lambda sheet: sheet.sign(day="yesterday"), "the date 'yesterday' is not as 2026-01-31"),
    "two boxes": (
        lambda sheet: (sheet.sign(), sheet.tick("covid19", ACCEPT), sheet.tick("covid19", REJECT)),
        "'covid19' has more than one box ticked",
    ),
    "edits that were not ticked": (
        lambda sheet: (sheet.sign(), sheet.tick("covid19", ACCEPT), sheet.replace("only covid19", "just covid19")),
        "'covid19' has other words for border, fluid, .*; tick \"accept with my edits\"",
    ),
    "edits without any tick": (
        lambda sheet: sheet.replace("shape that only covid19", "it"),
        "other words for shape; tick",
    ),
    "line lost": (
        lambda sheet: sheet.replace("- **shape:** shape that only covid19 has on a film\n", ""),
        "'covid19' should have one line each for description, border",
    ),
    "line emptied": (
        lambda sheet: sheet.replace(" shape that only covid19 has on a film", ""),
        "has no words for shape",
    ),
    "box renamed": (
        lambda sheet: (sheet.sign(), sheet.replace(f"[ ] {REJECT}", "[x] perhaps")),
        "'covid19' has a box of its own, 'perhaps'",
    ),
    "finding renamed": (lambda sheet: sheet.replace("## covid19", "## covid"), "'covid' is not in the book"),
    "finding twice": (twice, "'covid19' stands there twice"),
}


@pytest.mark.parametrize(("fill", "complaint"), UNCLEAR.values(), ids=UNCLEAR)
def test_an_unclear_sheet_leaves_the_book_as_it_was(book, sheet, fill, complaint):
    before = book.read_bytes()
    fill(sheet)
    with pytest.raises(ReviewError, match=rf"sheet\.md: .*{complaint}") as error:
        read_review(book, sheet.path)
    assert "\n" not in str(error.value)
    assert book.read_bytes() == before


def test_a_sheet_of_older_words_is_refused(book, sheet):
    sheet.sign()
    sheet.tick("covid19", ACCEPT)
    whole = read_whole_book(book)
    newer = Entry.of(good("covid19", shape="other words by now"), whole.findings["covid19"].provenance)
    whole.model_copy(update={"findings": whole.findings | {"covid19": newer}}).write(book)
    with pytest.raises(ReviewError, match="'covid19' has other words in the book by now; write a new sheet"):
        read_review(book, sheet.path)


def test_a_sheet_is_not_written_over(book, sheet):
    with pytest.raises(ReviewError, match=r"sheet\.md: exists already, with ticks perhaps"):
        write_sheet(book, sheet.path)


def test_a_book_with_nothing_to_review_is_named(tmp_path):
    with pytest.raises(ReviewError, match=r"none\.json: holds no finding to review"):
        write_sheet(tmp_path / "none.json", tmp_path / "sheet.md")
