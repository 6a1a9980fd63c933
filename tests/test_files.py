"""Files that are there whole or not at all, and errors that name them."""

import errno
import resource

import pytest

from mavl.files import NotTextError, read_text, whole_file, write_text


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
