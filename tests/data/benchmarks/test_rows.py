"""Rows of tables: what is refused, with its line, and what is read all the same."""

import gzip
import time

import pytest

from mavl.data import DataError
from mavl.data.benchmarks import rows
from mavl.data.benchmarks.rows import BenchmarkError, read_rows
from mavl.data.benchmarks.tables import TableFormat, find_group, normal_path, read_table

CSV = "img, effusion\na.png, 1\n\nb.png,0\n"
CELLS = [["a.png", "1"], ["b.png", "0"]]


def write(path, content, encoding="utf-8"):
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def problems_of(path, **options):
    with pytest.raises(BenchmarkError) as caught:
        read_rows(path, **options)
    return list(map(str, caught.value.problems))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", CSV),
        ("t.csv", CSV.replace("\n", "\r\n")),
        ("t.csv", "\ufeff" + CSV),
        ("t.csv", CSV.encode("utf-16")),
        ("t.tsv", CSV.replace(",", "\t")),
        ("t.csv.gz", gzip.compress(CSV.encode(), mtime=0)),
        ("t.csv.gz", CSV),  # a browser unpacked it and left its name
        ("t.csv", gzip.compress(CSV.encode(), mtime=0)),
        ("t.tsv.gz", gzip.compress(CSV.replace(",", "\t").encode(), mtime=0)),
        ("t.csv", 'img, effusion\n"a.png", "1"\n,\nb.png,0\n'),
        ("t.jsonl", '{"img": "a.png", "effusion": 1}\n\n{"effusion": false, "img": " b.png"}\n'),
        (
            "t.ndjson.gz",
            gzip.compress(b'{"img": "a.png", " effusion": "1"}\n\n{"effusion": "0", "img": "b.png"}\n', mtime=0),
        ),
    ],
)
def test_one_table_in_many_forms(tmp_path, name, content):
    found = read_rows(write(tmp_path / name, content))
    assert found == (["img", "effusion"], [2, 4] if ".csv" in name or ".tsv" in name else [1, 3], CELLS)


def test_cells_of_several_lines_do_not_shift_the_lines(tmp_path):
    path = write(tmp_path / "t.csv", 'img,note\na,"two\nlines"\nb,x\nc,y,z\n')
    assert problems_of(path) == [
        "t.csv:5: 3 cells, but the header has 2: quote a cell that holds the separator, or check table.separator, "
        "which is ','"
    ]


@pytest.mark.parametrize("separator", [",", ";", "\t", " ", "|"])
@pytest.mark.parametrize("header", [True, False])
def test_rows_of_another_length_are_all_refused(tmp_path, separator, header):
    text = "a,b\n1,2\n1,2,\n1\n1,2\n,1,2\n".replace(",", separator)
    found = problems_of(write(tmp_path / "t.csv", text), separator=separator, header=header)
    first = "header" if header else "first row"
    assert [line.partition(":")[2].partition(",")[0] for line in found] == ["3: 3 cells", "4: 1 cell", "6: 3 cells"]
    assert all(f"the {first} has 2" in line for line in found)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("csv_row_longer_than_header/test.csv", r"test.csv:2: 6 cells, but the header has 5.*\n.*test.csv:3: 6 cells"),
        ("csv_short_rows/t.csv", "t.csv:3: 2 cells, but the header has 3"),
        ("csv_twice_named/t.csv", r"t.csv:1: columns of one name: 'effusion' \(2 times\); rename all but one"),
    ],
)
def test_shared_cases_are_refused_with_their_lines(shared, case, message):
    with pytest.raises(BenchmarkError, match=f"(?s){message}"):
        read_table(shared(f"cases/{case}"), TableFormat())


def test_shared_lists_that_are_good(shared):
    assert read_rows(shared("cases/list_gz_plain/test.csv.gz")).cells == [["a.png", "1"], ["b.png", "0"]]
    table = read_table(shared("cases/header_with_space_siim/train-rle.csv"), TableFormat())
    assert table.column("EncodedPixels") == table.column(" EncodedPixels") == table.column(("x", " EncodedPixels "))
    assert table.column("EncodedPixels")[0] == "-1"


def test_names_that_are_blank_may_be_repeated(tmp_path):
    table = read_table(write(tmp_path / "t.csv", "img,x,,\na,1,2,3\n"), TableFormat())
    assert (table.column(2), table.column(3), table.column("x")) == (["2"], ["3"], ["1"])
    assert problems_of(write(tmp_path / "t.csv", "img,x, x,X\na,1,2,3\n")) == [
        "t.csv:1: columns of one name: 'x' (2 times); rename all but one"
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty"),
        ("img,effusion\n\n,\n", "the file has no rows"),
        (b"PK\x03\x04rest", "a spreadsheet or a zip archive"),
        ("<!DOCTYPE html>", "a web page"),
        ("version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        ('[{"a": 1}]', "JSON, but not with one object in each line"),
        (b"img,x\n\xff\xff,1\n", "not UTF-8 text"),
        (b"img,x\na,\x001\n", "zero bytes in line 2"),
        ('img,x\na,"1\nb,2\n', "t.csv:2: unexpected end of data: check the quotes"),
        ('img,x\na,1\nb,"1"2\n', "t.csv:3: .*check the quotes"),
        (gzip.compress(CSV.encode(), mtime=0)[:-9], "cannot be read to its end .*download it again"),
        (b"\x1f\x8b no gzip", "cannot be read to its end"),
    ],
)
def test_files_that_are_no_tables(tmp_path, content, message):
    with pytest.raises(BenchmarkError, match=f"(?s)t.csv.*{message}"):
        read_rows(write(tmp_path / "t.csv", content))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "no usable JSON object"),
        ("3", "not an object"),
        ("[1, 2]", "not an object"),
        ("{}", "not an object"),
        ('{"a": 1}', "b: only in this or in the first object"),
        ('{"a": 1, "b": 2, "c": 3}', "c: only in this or in the first object"),
        ('{"a": 1, "b": 2, "a": 3}', "a name occurs twice in it"),
        ('{"a": 1, "b": [2]}', "a value that is neither text nor number"),
        ('{"a": ' + "[" * 100_000, "nested too deeply"),
    ],
)
def test_lines_of_json_that_are_refused(tmp_path, line, message):
    text = '{"a": 1, "b": null}\n' + line + '\n{"b": 1, "a": NaN}\n'
    [found] = problems_of(write(tmp_path / "t.jsonl", text))
    assert found.startswith("t.jsonl:2: no usable JSON object (")
    assert message in found
    [twice] = problems_of(write(tmp_path / "t.jsonl", '{"a": 1, "a": 2}\n{"a": 1}\n'))
    assert twice == "t.jsonl:1: columns of one name: 'a' (2 times); rename all but one"
    path = write(tmp_path / "t.jsonl", '{"a": 1, "b": null}\n\n{"b": 1, "a": NaN}\n')
    assert read_rows(path).cells == [["1", ""], ["", "1"]]


def test_limits_of_a_table(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "MAX_TEXT", 1000)
    bomb = write(tmp_path / "t.csv.gz", gzip.compress(b"a,b\n" * 100_000, mtime=0))
    assert problems_of(bomb) == ["t.csv.gz: more than 1,000 bytes after decompression"]
    read_rows(write(tmp_path / "t.csv", "a,b\n" * 250))
    assert problems_of(write(tmp_path / "t.csv", "a,b\n" * 250 + "\n")) == ["t.csv: more than 1,000 bytes"]
    monkeypatch.setattr(rows, "MAX_ROWS", 249)
    read_rows(write(tmp_path / "t.csv", "a,b\n" * 250))
    assert problems_of(write(tmp_path / "t.csv", "a,b\n" * 250), header=False) == ["t.csv: more than 249 rows"]
    monkeypatch.setattr(rows, "MAX_LINE", 4)
    assert problems_of(write(tmp_path / "t.csv", "a,b\nab,c\n")) == ["t.csv:2: a line of more than 4 characters"]


@pytest.mark.parametrize("separator", ["", ",,", r"\s+", '"', "\n"])
def test_a_separator_is_one_character(separator):
    with pytest.raises(ValueError, match="not one character"):
        TableFormat(separator=separator)


def test_a_pattern_that_never_ends_is_stopped():
    began = time.monotonic()
    with pytest.raises(DataError, match=r"the pattern .* takes more than 1 s on 'aaa"):
        find_group("^(a|aa)+$", "a" * 60 + "b")
    assert time.monotonic() - began < 60
    assert find_group("^(a|aa)+$", "baa") == ""
    assert find_group("p(\\d+)", "x/p17/y") == "17"
    assert find_group("p(\\d*)", "p") == find_group("p(\\d)", "q") == ""


@pytest.mark.parametrize("spelling", ["a/b.png", "./a/b.png", "a//b.png", "a\\b.png", "x/../a/b.png", ".\\a\\.\\b.png"])
def test_a_path_has_one_spelling(spelling):
    assert normal_path(spelling) == "a/b.png"
    assert normal_path("") == ""
    assert normal_path("../a.png") == "../a.png"
