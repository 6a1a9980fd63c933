"""What an inspection of books finds, what may be justified, and this project's own books passing it."""

import csv
import json
import runpy
import sys
from pathlib import Path

import pytest

from mavl.concepts.inspection import Alike, Justified, inspect, read_entries, read_justified, shown
from mavl.concepts.inspection_report import lines, write
from mavl.config.loader import ConfigError
from mavl.text.books import BookError
from mavl.vocab import ASPECTS

ROOT = Path(__file__).resolve().parents[2]
BOOKS = ROOT / "concept_gen" / "books"
NUMBERS = "one two three four five six seven eight nine".split()


def description(finding: str) -> str:
    return " ".join(f"{finding}{number}" for number in NUMBERS) + f" {finding}."


def aspects(finding: str, **changed: str) -> list[str]:
    """Lines that share no word with those of another finding or aspect."""
    return [f"{aspect}: " + changed.get(aspect, f"{finding}{aspect}1 {finding}{aspect}2") for aspect in ASPECTS[1:]]


def entry(finding: str, **changed: str) -> dict:
    return {"description": changed.pop("description", description(finding)), "aspects": aspects(finding, **changed)}


def write_book(folder: Path, **findings: dict) -> Path:
    path = folder / "book.json"
    path.write_text(json.dumps({"findings": findings}))
    return path


def problems(path: Path, justified: Justified | None = None) -> list[tuple]:
    found = inspect(read_entries([path]), justified or Justified()).problems
    return [(problem.kind, problem.where) for problem in found]


def test_this_projects_books_have_no_problem_that_is_not_justified():
    entries = read_entries([BOOKS / "descriptions.json", BOOKS / "aspects.json"])
    inspection = inspect(entries, read_justified([BOOKS / "justified.yaml"]))
    assert inspection.problems == []
    assert inspection.unused == []
    alike = [problem.where for problem in inspection.justified if problem.kind == "near findings"]
    assert sorted(alike) == [
        ("pacemaker", "dual chamber device"),
        ("single chamber device", "dual chamber device"),
        ("tail_abnorm_obs", "pulmonary fibrosis"),
    ]
    assert [p.text for p in inspection.justified if p.kind != "near findings"] == ["fluid: no fluid"]


def test_a_good_book_has_none_in_any_layout(tmp_path):
    whole = write_book(tmp_path, mass=entry("mass"), cyst=entry("cyst"))
    (tmp_path / "descriptions.json").write_text(json.dumps({name: description(name) for name in ("mass", "cyst")}))
    (tmp_path / "aspects.json").write_text(json.dumps({name: aspects(name) for name in ("mass", "cyst")}))
    pair = read_entries([tmp_path / "descriptions.json", tmp_path / "aspects.json"])
    assert pair.lines == read_entries([whole]).lines
    assert pair.lines["cyst"]["border"] == "border: cystborder1 cystborder2"
    assert problems(whole) == []


def test_what_is_missing_twice_or_no_aspect(tmp_path):
    lines = aspects("cyst")
    lines[-1] = lines[0]
    lines[2] = "size: small"
    book = write_book(tmp_path, mass=entry("mass") | {"description": None}, cyst=entry("cyst") | {"aspects": lines})
    found = inspect(read_entries([book]), Justified()).problems
    assert [(p.kind, p.where, p.text.removeprefix(f"{book}: ")) for p in found] == [
        ("aspect", ("cyst",), "'size', which is no aspect, in 'size: small'"),
        ("aspect", ("cyst",), "'border', twice, in 'border: cystborder1 cystborder2'"),
        ("missing", ("mass",), "no description"),
        ("missing", ("cyst",), "no location, texture"),
    ]


def test_lines_too_long_and_too_short(tmp_path):
    long = " ".join(f"word{i}" for i in range(26))
    book = write_book(
        tmp_path, mass=entry("mass", border=long, shape="round"), cyst=entry("cyst", description="Short.")
    )
    found = inspect(read_entries([book]), Justified()).problems
    assert [(p.where, p.text.partition(":")[0]) for p in found] == [
        (("mass/border",), "has 26 words; write 2 to 25"),
        (("mass/shape",), "has 1 word; write 2 to 25"),
        (("cyst/description",), "has 1 word; write 10 to 50"),
    ]


def test_the_same_line_up_to_case_and_punctuation(tmp_path):
    book = write_book(
        tmp_path, mass=entry("mass", shape="Round, smooth", fluid="no fluid"), cyst=entry("cyst", shape="round smooth.")
    )
    assert problems(book) == [("same line", ("mass/shape", "cyst/shape"))]
    assert problems(book, Justified(lines={"shape: Round, smooth": "both are"})) == []


def test_no_fluid_may_be_said_of_many(tmp_path):
    names = ("mass", "cyst", "scar")
    assert problems(write_book(tmp_path, **{name: entry(name, fluid="no fluid") for name in names})) == []


def test_near_lines_of_one_aspect_or_of_one_finding_alone(tmp_path):
    """Three words of four, then two of four: with words of equal rarity the cosines are 0.75 and 0.5."""
    book = write_book(
        tmp_path,
        mass=entry("mass", border="red green blue white", other="up down left right"),
        cyst=entry("cyst", border="red green blue black", shape="up down left back"),
        scar=entry("scar", border="one two three four", texture="one two three five", shape="north south east west"),
        node=entry("node", shape="north south top bottom"),
    )
    assert problems(book) == [
        ("near lines", ("mass/border", "cyst/border")),
        ("near lines", ("scar/border", "scar/texture")),
    ]
    texts = [problem.text for problem in inspect(read_entries([book]), Justified()).problems]
    assert texts == ["red green blue white | red green blue black", "one two three four | one two three five"]
    alike = Alike(pair=("cyst/border", "mass/border"), reason="so they are")
    assert problems(book, Justified(pairs=(alike,))) == [("near lines", ("scar/border", "scar/texture"))]


def test_findings_that_share_their_words_are_too_near(tmp_path):
    """All words but the description's, each under another aspect, so that no line is near to one of its own aspect."""
    words = [line.partition(": ")[2] for line in aspects("mass")]
    moved = dict(zip(ASPECTS[1:], [*words[1:], words[0]], strict=True))
    book = write_book(tmp_path, mass=entry("mass"), cyst=entry("cyst", **moved), scar=entry("scar"))
    found = inspect(read_entries([book]), Justified()).problems
    near = [problem for problem in found if problem.kind == "near findings"]
    assert [problem.where for problem in near] == [("mass", "cyst")]
    assert "by words; 0.40 is too near" in near[0].text
    assert not any(problem.kind == "near lines" for problem in found)


def test_a_name_that_stands_twice(tmp_path):
    path = tmp_path / "book.json"
    path.write_text(f'{{"mass": "{description("mass")}", "mass": "{description("lump")}"}}')
    assert ("named twice", ("mass",)) in problems(path)


def test_exceptions_that_nothing_needs_are_named(tmp_path):
    book = write_book(tmp_path, mass=entry("mass"), cyst=entry("cyst"))
    justified = Justified(lines={"shape: round": "all are"}, pairs=(Alike(pair=("mass", "cyst"), reason="kin"),))
    assert inspect(read_entries([book]), justified).unused == ["shape: round", "mass and cyst"]


def test_files_that_are_no_books(tmp_path):
    with pytest.raises(BookError, match=r"missing\.json: No such file"):
        read_entries([tmp_path / "missing.json"])
    path = tmp_path / "book.json"
    for content, complaint in (("{", "not JSON"), ("[]", "this is a list")):
        path.write_text(content)
        with pytest.raises(BookError, match=complaint):
            read_entries([path])
    path.write_text('{"mass": 3}')
    assert problems(path) == [("entry", ("mass",)), ("missing", ("mass",))]
    path.write_text('{"findings": {"mass": {}}}')
    assert problems(path) == [("missing", ("mass",))]


def test_a_file_nested_too_deeply_is_named(tmp_path):
    path = tmp_path / "book.json"
    path.write_text('{"a":' * 100_000 + "1" + "}" * 100_000)
    with pytest.raises(BookError, match=r"book\.json: more than 100 levels"):
        read_entries([path])


def test_more_findings_than_can_be_compared_are_refused(tmp_path):
    path = tmp_path / "book.json"
    path.write_text(json.dumps({f"finding {number}": "A line." for number in range(50_001)}))
    with pytest.raises(BookError, match=r"50,001 findings; at most 50,000 can be compared at once, split the books"):
        read_entries([path])


def test_texts_of_300_characters_are_shown_whole():
    assert shown(300 * "a") == 300 * "a"
    assert shown(301 * "a") == 300 * "a" + "…"


def test_what_a_terminal_cannot_show_is_shown_as_escapes(tmp_path):
    path = tmp_path / "book.json"
    mass = {"description": "x \x1b[31m", "aspects": [1, {"y": "z" * 999}]}
    book = {"a\x1b[2Jb": "A line.", "": "A line.", "mass": mass}
    path.write_text(json.dumps(book))
    inspection = inspect(read_entries([path]), Justified())
    assert {(problem.kind, problem.where) for problem in inspection.problems} >= {
        ("name", ("'a\\x1b[2Jb'",)),
        ("name", ("",)),
        ("entry", ("mass",)),
        ("line", ("mass/description",)),
    }
    assert all(line.isprintable() and len(line) < 300 for line in lines(inspection))


def test_a_large_book_is_compared_without_a_map(tmp_path):
    """600 findings of words of their own; the last repeats all but one word of each line of the first."""
    words = {n: [f"w{n}x{aspect}x{word}" for aspect in range(9) for word in range(12)] for n in range(600)}
    words[599] = [word if place % 12 else f"other{place}" for place, word in enumerate(words[0])]
    book = {
        f"finding {n}": {
            "description": " ".join(of[:12]),
            "aspects": [f"{name}: {' '.join(of[12 * i : 12 * i + 12])}" for i, name in enumerate(ASPECTS) if i],
        }
        for n, of in words.items()
    }
    path = tmp_path / "book.json"
    path.write_text(json.dumps({"findings": book}))
    inspection = inspect(read_entries([path]), Justified())
    assert {(problem.kind, problem.where) for problem in inspection.problems} == {
        ("near findings", ("finding 0", "finding 599")),
        *(("near lines", (f"finding 0/{aspect}", f"finding 599/{aspect}")) for aspect in ASPECTS),
    }
    assert write(inspection, tmp_path / "out").exists()
    assert not list((tmp_path / "out").glob("*.png"))
    assert lines(inspection)[-2:] == [
        "note: no map of the similarity of more than 500 findings",
        "600 findings, 5,400 lines, compared by words: 10 to mend, 0 justified",
    ]


def test_more_near_pairs_than_are_listed_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr("mavl.concepts.similarity.MOST_PAIRS", 1)
    monkeypatch.setattr("mavl.concepts.inspection.MOST_PAIRS", 1)
    line = "a b c d e f g h i j k l"
    book = {name: {"description": f"{line} {name}"} for name in ("x", "y", "z")}
    path = tmp_path / "book.json"
    path.write_text(json.dumps({"findings": book}))
    near = [problem for problem in inspect(read_entries([path]), Justified()).problems if problem.kind == "near lines"]
    assert [(problem.where, problem.text) for problem in near[1:]] == [
        ((), "2 further pairs; the nearest 1 are listed")
    ]


def test_an_exception_needs_a_reason(tmp_path):
    path = tmp_path / "justified.yaml"
    path.write_text("pairs:\n  - {pair: [mass, cyst], reason: ''}\n")
    with pytest.raises(ConfigError, match="reason"):
        read_justified([path])


def test_the_folder_has_page_maps_neighbours_and_problems(tmp_path):
    twin = entry("mass") | {"description": description("lump")}
    book = write_book(tmp_path, mass=entry("mass"), cyst=entry("cyst"), twin=twin, **{"$\\frac$": entry("odd")})
    out = tmp_path / "out"
    page = write(inspect(read_entries([book]), Justified()), out).read_text()
    assert "<b>twin</b>" in page
    assert "data:image/png" in page
    neighbours = list(csv.DictReader((out / "neighbours.csv").open()))
    assert {row["neighbour"] for row in neighbours if row["finding"] == "twin" and row["rank"] == "1"} == {"mass"}
    rows = list(csv.DictReader((out / "problems.csv").open()))
    assert [row["where"] for row in rows if row["kind"] == "near findings"] == ["mass; twin"]
    assert sorted(path.name for path in out.iterdir()) == [
        "neighbours.csv",
        "problems.csv",
        "report.html",
        "similarity_words.png",
    ]
    write(inspect(read_entries([write_book(tmp_path, mass=entry("mass"))]), Justified()), out)
    assert [path.name for path in out.iterdir()] == ["report.html"]


@pytest.mark.parametrize(("second", "code"), [("cyst", 0), ("mass", 1), (None, 2)])
def test_the_scripts_exit_code(tmp_path, monkeypatch, capsys, second, code):
    book = write_book(tmp_path, mass=entry("mass"), other=entry(second or "cyst"))
    if second is None:
        book.write_text("no JSON")
    monkeypatch.setattr(sys, "argv", ["inspect_book.py", str(book), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "concept_gen" / "inspect_book.py"), run_name="__main__")
    assert ended.value.code == code
    said = capsys.readouterr()
    if code == 2:
        assert said.err.startswith(f"error: {book}: not JSON")
        assert said.err.count("\n") == 1
    else:
        assert f"{10 if code else 0} to mend, 0 justified" in said.out
