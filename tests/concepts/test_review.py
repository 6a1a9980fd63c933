"""A clinician's sheet, saved as spreadsheet programs do, comes back into the book; an unclear one changes nothing."""

import csv
import io
from datetime import date

import pytest

from mavl.concepts import ConceptError
from mavl.concepts.book import Entry, Provenance, WholeBook, read_whole_book
from mavl.concepts.review import ACCEPT, COLUMNS, EDIT, REJECT, read_review, write_sheet
from mavl.files import NotTextError
from mavl.vocab import ASPECTS
from tests.support.llm_server import NAMES, good

MADE = Provenance(model="tiny", prompt_version="1.0", prompt_hash="0" * 16, temperature=0.3, created="2026-01-01")


@pytest.fixture
def book(tmp_path):
    path = tmp_path / "book.json"
    WholeBook(findings={name: Entry.of(good(name), MADE) for name in NAMES}).write(path)
    return path


@pytest.fixture
def sheet(book, tmp_path):
    """The sheet of the book, with functions to fill it in."""
    assert write_sheet(book, tmp_path / "sheet.csv") == 3
    return Sheet(tmp_path / "sheet.csv")


class Sheet:
    """A sheet as rows {column: cell}; `save` writes them as a spreadsheet program may."""

    def __init__(self, path):
        self.path = path
        with path.open(encoding="utf-8-sig", newline="") as file:
            self.rows = list(csv.DictReader(file, strict=True))

    def set(self, finding: str, aspect: str = "description", /, **cells: str) -> None:
        [row] = [row for row in self.rows if (row["finding"], row["aspect"]) == (finding, aspect)]
        row |= {column.replace("_", " "): cell for column, cell in cells.items()}

    def save(self, columns=COLUMNS, encoding="utf-8", **dialect) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, **dialect)
        writer.writeheader()
        writer.writerows(self.rows)
        self.path.write_bytes(text.getvalue().encode(encoding))


def test_a_sheet_opens_in_spreadsheet_programs(sheet):
    content = sheet.path.read_bytes()
    assert content.startswith(b"\xef\xbb\xbffinding,aspect,text,verdict,edited text,reviewer,date,source\r\n")
    assert [(row["finding"], row["aspect"]) for row in sheet.rows] == [(name, of) for name in NAMES for of in ASPECTS]
    assert sheet.rows[1]["text"] == "border that only rib fracture has on a film"
    assert {row["source"] for row in sheet.rows} == {"tiny, prompts 1.0, 2026-01-01"}


def test_verdicts_come_back_into_the_book(book, sheet):
    sheet.set("rib fracture", verdict=ACCEPT, reviewer="Dr. Roe", date="2026-02-03")
    sheet.set("covid19", verdict=EDIT)
    sheet.set("covid19", "shape", edited_text="patches round\n  or like bands")
    sheet.set("lung cyst", "texture", verdict=REJECT)
    sheet.save()
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


def test_a_sheet_without_verdicts_changes_nothing(book, sheet):
    before = book.read_bytes()
    assert read_review(book, sheet.path).open == NAMES
    assert book.read_bytes() == before


def test_two_reviewers_sign_their_own_findings(book, sheet):
    sheet.set("rib fracture", verdict=ACCEPT, reviewer="Dr. Roe", date="2026-02-03")
    sheet.set("covid19", verdict=ACCEPT)
    sheet.set("covid19", "shape", reviewer="Dr. Poe", date="2026-02-04")
    sheet.save()
    read_review(book, sheet.path)
    made = [read_whole_book(book).findings[name].provenance for name in ("rib fracture", "covid19")]
    assert [each.reviewed_by for each in made] == ["Dr. Roe", "Dr. Poe"]
    assert [each.reviewed_on.day for each in made] == [3, 4]


SAVED = {
    "semicolons": {"delimiter": ";"},
    "tabs": {"delimiter": "\t"},
    "a byte order mark": {"encoding": "utf-8-sig"},
    "line feeds": {"lineterminator": "\n"},
    "all quoted": {"quoting": csv.QUOTE_ALL},
    "columns moved": {"columns": COLUMNS[::-1]},
}


@pytest.mark.parametrize("how", SAVED.values(), ids=SAVED)
def test_another_program_may_have_saved_it(book, sheet, how):
    sheet.rows.sort(key=lambda row: row["text"])
    sheet.set("covid19", verdict=" Accept ", reviewer="Dr. M\u00fcller")
    sheet.set("covid19", "shape", verdict="ACCEPT")
    sheet.rows.insert(3, dict.fromkeys(COLUMNS, ""))
    sheet.save(**how)
    assert read_review(book, sheet.path).accepted == ["covid19"]
    provenance = read_whole_book(book).findings["covid19"].provenance
    assert (provenance.reviewed_by, provenance.reviewed_on) == ("Dr. M\u00fcller", date.today())


FORMULAS = ["=cmd|' /C calc'!A0", "+1 shadow", "-shaped like a comma", "@ the apex", "'=quoted before", "'tis a line"]


@pytest.mark.parametrize("words", FORMULAS)
def test_a_cell_is_never_a_formula_and_reads_back_as_it_was(tmp_path, words):
    book, sheet = tmp_path / "book.json", tmp_path / "sheet.csv"
    description = f"{words} and more words so that this line has at least the ten of a description"
    lines = good("mass", description=description) | {"shape": "round and smooth"}
    WholeBook(findings={words: Entry.of(lines, MADE)}).write(book)
    write_sheet(book, sheet)
    filled = Sheet(sheet)
    for row in filled.rows:
        assert not any(cell.startswith(("=", "+", "-", "@")) for cell in row.values())
    filled.rows[0] |= {"verdict": EDIT, "reviewer": "Dr. Roe"}
    filled.rows[7] |= {"edited text": f"'{words}" if words[0] in "=+-@" else words}
    filled.save()
    assert read_review(book, sheet).edited == [words]
    entry = read_whole_book(book).findings[words]
    assert entry.description == description
    assert entry.lines[ASPECTS[7]] == (words if not words.startswith("'=") else words[1:])


def test_an_aspect_before_an_edit_is_not_doubled(book, sheet):
    sheet.set("covid19", verdict=EDIT, reviewer="Dr. Roe")
    sheet.set("covid19", "border", edited_text="border: jagged and torn")
    sheet.save()
    read_review(book, sheet.path)
    assert read_whole_book(book).findings["covid19"].aspects[0] == "border: jagged and torn"


def test_an_edit_with_the_same_words_is_none(book, sheet):
    sheet.set("covid19", verdict=EDIT, reviewer="Dr. Roe")
    sheet.set("covid19", "border", edited_text="border that only covid19 has on a film")
    sheet.save()
    review = read_review(book, sheet.path)
    assert (review.accepted, review.edited) == (["covid19"], [])


def test_a_sheet_of_some_findings_holds_no_others(book, tmp_path):
    assert write_sheet(book, tmp_path / "one.csv", ["Covid19", "not there"]) == 1
    assert {row["finding"] for row in Sheet(tmp_path / "one.csv").rows} == {"covid19"}


def test_what_was_reviewed_is_not_in_the_next_sheet(book, sheet, tmp_path):
    sheet.set("covid19", verdict=ACCEPT, reviewer="Dr. Roe")
    sheet.save()
    read_review(book, sheet.path)
    assert write_sheet(book, tmp_path / "second.csv") == 2
    assert "covid19" not in {row["finding"] for row in Sheet(tmp_path / "second.csv").rows}


def signed(**cells):
    """Fill in covid19's shape after a verdict "edit" and a name in its first row."""

    def fill(sheet):
        sheet.set("covid19", verdict=EDIT, reviewer="Dr. Roe")
        sheet.set("covid19", "shape", **cells)

    return fill


def without_shape(sheet):
    sheet.rows = [row for row in sheet.rows if (row["finding"], row["aspect"]) != ("covid19", "shape")]


UNCLEAR = {  # covid19 has rows 11 to 19, its shape row 18
    "odd verdict": (signed(verdict="x"), "row 18, column \"verdict\": 'x', but 'edit' in row 11"),
    "no such verdict": (
        lambda sheet: sheet.set("covid19", "shape", verdict="yes"),
        "row 18, column \"verdict\": 'yes' is none of accept, edit, reject",
    ),
    "two verdicts": (signed(verdict=REJECT), "row 18, column \"verdict\": 'reject', but 'edit' in row 11"),
    "edit too short": (signed(edited_text="round"), 'row 18, column "edited text": has 1 word; write 2 to 25'),
    "edit too long": (signed(edited_text="round " * 26), 'row 18, column "edited text": has 26 words; write 2 to 25'),
    "edit unprintable": (signed(edited_text="round\x07 one"), 'row 18, column "edited text": holds characters that'),
    "edit without a verdict": (
        lambda sheet: sheet.set("covid19", "shape", edited_text="a round one"),
        'row 18, column "edited text": needs the verdict "edit"',
    ),
    "edit of what is accepted": (
        lambda sheet: sheet.set("covid19", "shape", verdict=ACCEPT, edited_text="a round one", reviewer="Dr. Roe"),
        'row 18, column "edited text": needs the verdict "edit"',
    ),
    "text changed": (signed(text="a round one"), 'row 18, column "text": not the words of the book; edit in "edited'),
    "text emptied": (signed(text=""), 'row 18, column "text": not the words of the book'),
    "no name": (
        lambda sheet: sheet.set("covid19", verdict=ACCEPT),
        'row 11, column "reviewer": is empty, and the sheet has none',
    ),
    "two names": (
        signed(reviewer="Dr. Poe"),
        "row 18, column \"reviewer\": 'Dr. Poe', but 'Dr. Roe' in row 11",
    ),
    "whose name": (
        lambda sheet: (
            sheet.set("covid19", verdict=ACCEPT, reviewer="Dr. Roe"),
            sheet.set("rib fracture", verdict=ACCEPT, reviewer="Dr. Poe"),
            sheet.set("lung cyst", verdict=ACCEPT),
        ),
        'row 20, column "reviewer": is empty, and the sheet has Dr. Poe, Dr. Roe',
    ),
    "no date": (signed(date="yesterday"), "row 18, column \"date\": 'yesterday' is not as 2026-01-31"),
    "no such day": (signed(date="2026-02-31"), "'2026-02-31' is not as 2026-01-31"),
    "a date of Excel": (signed(date="2/3/2026"), "'2/3/2026' is not as 2026-01-31"),
    "line lost": (without_shape, "row 18, column \"aspect\": 'covid19' has no row of shape"),
    "aspect renamed": (signed(aspect="form"), "row 18, column \"aspect\": 'form' is none of description, border"),
    "line twice": (
        signed(aspect="border"),
        "row 18, column \"aspect\": 'border' of 'covid19' stands in row 12 already",
    ),
    "finding renamed": (signed(finding="covid"), "row 18, column \"finding\": 'covid' is not in the book"),
}


@pytest.mark.parametrize(("fill", "complaint"), UNCLEAR.values(), ids=UNCLEAR)
def test_an_unclear_sheet_leaves_the_book_as_it_was(book, sheet, fill, complaint):
    before = book.read_bytes()
    fill(sheet)
    sheet.save()
    with pytest.raises(ConceptError) as error:
        read_review(book, sheet.path)
    assert str(error.value).startswith(f"{sheet.path}: row ")
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)
    assert book.read_bytes() == before


def test_every_unclear_finding_is_named(book, sheet):
    for name in NAMES:
        sheet.set(name, verdict="yes")
    sheet.save()
    with pytest.raises(ConceptError, match=r"row 2, .*; row 11, .*; row 20, "):
        read_review(book, sheet.path)


BROKEN = {
    "empty": (b"", r"sheet\.csv: not CSV \(it is empty\)"),
    "another file": (b"a,b\n1,2\n", r"row 1: the columns are a, b; expected finding, aspect, text"),
    "a column twice": (
        b"finding,aspect,text,verdict,edited text,reviewer,date,date\n",
        r"row 1: the columns are .*date, date; expected",
    ),
    "a cell too many": ((",".join(COLUMNS) + "\n1,2,3,4,5,6,7,8,9\n").encode(), "row 2 has 9 cells in 8 columns"),
    "a short row": ((",".join(COLUMNS) + "\n1,2,3\n").encode(), "row 2 has 3 cells in 8 columns"),
    "an open quote": ((",".join(COLUMNS) + '\n"1,2\n').encode(), "not CSV"),
    "no rows": (",".join(COLUMNS).encode(), "holds no finding"),
}


@pytest.mark.parametrize(("content", "complaint"), BROKEN.values(), ids=BROKEN)
def test_a_broken_sheet_is_named(book, tmp_path, content, complaint):
    (tmp_path / "sheet.csv").write_bytes(content)
    with pytest.raises(ConceptError, match=complaint):
        read_review(book, tmp_path / "sheet.csv")


def test_a_sheet_in_another_encoding_is_named(book, sheet):
    sheet.set("covid19", verdict=ACCEPT, reviewer="Dr. M\u00fcller")
    sheet.save(encoding="cp1252")
    with pytest.raises(NotTextError, match=r"sheet\.csv: not UTF-8 text"):
        read_review(book, sheet.path)


def test_a_sheet_of_another_format_is_refused(book, tmp_path):
    with pytest.raises(ConceptError, match=r"sheet\.xlsx: the review sheet is a CSV; name it sheet\.csv"):
        write_sheet(book, tmp_path / "sheet.xlsx")


def test_a_sheet_of_older_words_is_refused(book, sheet):
    sheet.set("covid19", verdict=ACCEPT, reviewer="Dr. Roe")
    sheet.save()
    whole = read_whole_book(book)
    newer = Entry.of(good("covid19", shape="other words by now"), whole.findings["covid19"].provenance)
    whole.model_copy(update={"findings": whole.findings | {"covid19": newer}}).write(book)
    with pytest.raises(ConceptError, match=r'row 18, column "text": not the words of the book.* write a new sheet'):
        read_review(book, sheet.path)


def test_a_sheet_is_not_written_over(book, sheet):
    with pytest.raises(ConceptError, match=r"sheet\.csv: exists and may hold verdicts"):
        write_sheet(book, sheet.path)


def test_a_book_with_nothing_to_review_is_named(tmp_path):
    with pytest.raises(ConceptError, match=r"none\.json: holds no finding to review"):
        write_sheet(tmp_path / "none.json", tmp_path / "sheet.csv")
