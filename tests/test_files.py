"""Files that are there whole or not at all, limits of readers, names and links, and errors that name them."""

import errno
import gzip
import os
import resource

import pytest

from mavl.files import (
    FileError,
    NotJSONError,
    NotTextError,
    OutsideError,
    csv_cell,
    csv_text,
    csv_writer,
    inside,
    read_json,
    read_text,
    read_unpacked,
    whole_file,
    write_text,
)


@pytest.fixture
def little_room():
    """Files of at most 4 KB, as if the disk were full behind them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_failure_leaves_the_former_file(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("former")

    def fail():
        with whole_file(path) as file:
            file.write("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert path.read_text() == "former"
    assert list(tmp_path.iterdir()) == [path]


def test_the_error_of_a_full_disk_names_the_file_that_did_not_fit(tmp_path, little_room):
    path = tmp_path / "a.json"
    with pytest.raises(OSError, match=r"a\.json") as caught, whole_file(path) as file:
        file.write("x" * 100_000)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    assert list(tmp_path.iterdir()) == []


def test_the_error_of_a_missing_folder_names_the_file(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, whole_file(tmp_path / "none" / "a.json"):
        pass
    assert caught.value.filename == str(tmp_path / "none" / "a.json")


def test_the_error_of_a_folder_that_is_a_file_names_the_file(tmp_path):
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(NotADirectoryError) as caught, whole_file(tmp_path / "folder" / "a.json"):
        pass
    assert caught.value.filename == str(tmp_path / "folder" / "a.json")


def test_text_reads_back_without_its_byte_order_mark(tmp_path):
    write_text(tmp_path / "a.csv", "\ufeffk\u00e9y\r\nvalue")
    assert (tmp_path / "a.csv").read_bytes() == b"\xef\xbb\xbfk\xc3\xa9y\r\nvalue"
    assert read_text(tmp_path / "a.csv") == "k\u00e9y\nvalue"


def test_a_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"a\xff")
    with pytest.raises(NotTextError, match=r"a\.csv: not UTF-8 text \(byte 1\)"):
        read_text(tmp_path / "a.csv")


# ---- JSON


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1,\n "b": }', r"not JSON \(line 2, column 7: Expecting value\)"),
        ("", r"not JSON \(line 1, column 1"),
        ("[" * 101 + "]" * 101, "more than 100 levels of lists and objects"),
        ('{"a":' * 101 + "1" + "}" * 101, "more than 100 levels"),
        ("[" * 5000 + "]" * 5000, "more than 100 levels"),
        ('[{"a": [NaN]}]', "NaN is not a finite number"),
        ("[-Infinity]", "-Infinity is not a finite number"),
        ("[1e999]", "1e999 is not a finite number"),
        ("[" + "1" * 5000 + "]", "4300 digits"),
        ('{"x": {"a": 1, "b": 2, "a": 3}}', "'a' is twice in one object"),
        (b'"\xff"', r"not UTF-8 text \(byte 1\)"),
        (b"\x1f\x8b\x08\x00", r"not UTF-8 text \(byte 1\)"),
    ],
)
def test_json_that_no_reader_takes_is_named(tmp_path, text, reason):
    path = tmp_path / "a.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(NotJSONError, match=rf"a\.json: .*{reason}") as caught:
        read_json(path)
    assert "\n" not in str(caught.value)


def test_json_up_to_the_limits_is_read(tmp_path):
    path = tmp_path / "a.json"
    deepest = "[" * 99 + "]" * 99
    path.write_text(f'\ufeff{{"a": {deepest}, "b": [1.5, -2, 1e300, null, "\\ud800"]}}', encoding="utf-8")
    assert read_json(path)["b"] == [1.5, -2, 1e300, None, "\ud800"]
    path.write_text("null")
    assert read_json(path) is None
    path.write_text('{"a": 1, "a": 2}')
    assert read_json(path, to_object=dict) == {"a": 2}


def test_the_shared_deep_file_is_named(shared):
    with pytest.raises(NotJSONError, match=r"book\.json: more than 100 levels"):
        read_json(shared("cases/deep_nesting/book.json"))


# ---- packed files


def packed(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def test_a_file_is_unpacked_by_its_content(tmp_path):
    plain, other = tmp_path / "plain.csv.gz", tmp_path / "packed.csv"
    plain.write_bytes(b"a,b\n")
    other.write_bytes(packed(b"a,b\n"))
    assert read_unpacked(plain) == read_unpacked(other) == b"a,b\n"
    assert read_unpacked(other, most=4) == b"a,b\n"


@pytest.mark.parametrize(("content", "text"), [(b"a,b\n", "bytes$"), (packed(b"a,b\n"), "bytes after unpacking$")])
def test_more_bytes_than_allowed_are_refused(tmp_path, content, text):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(FileError, match=rf"a\.csv: more than 3 {text}"):
        read_unpacked(tmp_path / "a.csv", most=3)


@pytest.mark.parametrize("content", [packed(b"x" * 999)[:-5], packed(b"abc")[:-8] + bytes(8), b"\x1f\x8b"])
def test_a_damaged_packed_file_is_named(tmp_path, content):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(FileError, match=r"a\.csv: cannot be read to its end .*; download it again"):
        read_unpacked(tmp_path / "a.csv")


# ---- names and links


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "..", "a/..", "", "a\nb", "a\x1b[2J", "\x00", "\x85"])
def test_a_name_that_leaves_its_folder_is_refused(tmp_path, name):
    with pytest.raises(OutsideError, match="is not allowed as a file name in"):
        inside(tmp_path, name)


def test_a_name_stays_below_its_folder(tmp_path):
    assert inside(tmp_path, "p10/..a/ü.png") == tmp_path / "p10" / "..a" / "ü.png"


def test_a_folder_that_is_a_link_to_another_place_is_refused(tmp_path):
    (tmp_path / "out" / "real").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "p10").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "out" / "p11").symlink_to("real")
    (tmp_path / "linked").symlink_to(tmp_path / "out")
    with pytest.raises(OutsideError, match="p10 is a link out of"):
        inside(tmp_path / "out", "p10/a.png")
    assert inside(tmp_path / "out", "p11/a.png") == tmp_path / "out" / "p11" / "a.png"
    assert inside(tmp_path / "linked", "real/a.png") == tmp_path / "linked" / "real" / "a.png"  # the user's own link


def test_a_link_in_place_of_a_file_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "a.json").symlink_to(tmp_path / "victim")
    (tmp_path / f".b.json.{os.getpid()}.partial").symlink_to(tmp_path / "victim")
    for name in ("a.json", "b.json"):
        write_text(tmp_path / name, "new")
        assert (tmp_path / name).read_text() == "new"
        assert not (tmp_path / name).is_symlink()
    assert (tmp_path / "victim").read_text() == "mine"


# ---- cells of a CSV


@pytest.mark.parametrize("cell", ["=1+1", "+SUM(A1)", "-cmd|' /C calc'!A0", "@x", "\tx", "'=1", "''-x", "-", "+"])
def test_a_formula_becomes_text_and_comes_back(cell):
    assert csv_cell(cell) == f"'{cell}"
    assert csv_text(csv_cell(cell)) == cell


@pytest.mark.parametrize(
    "cell", ["rib fracture", "'quoted'", "-3.5", "+1e-5", "", "a=b", -3.5, 0, None, "a\tb", "a\nb"]
)
def test_other_cells_stay(cell):
    assert csv_cell(cell) == cell
    assert not isinstance(cell, str) or csv_text(cell) == cell


def test_control_characters_are_written_as_escapes(tmp_path):
    with whole_file(tmp_path / "a.csv") as file:
        csv_writer(file).writerows([["a\x1b[2Jb", "=x\x07", 1.5], ["\x00", "\x85", "é"]])
    assert (tmp_path / "a.csv").read_bytes() == "a\\x1b[2Jb,'=x\\x07,1.5\r\n\\x00,\\x85,é\r\n".encode()
