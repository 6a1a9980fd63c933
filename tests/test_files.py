"""Files that are there whole or not at all, and errors that name them."""

import errno
import resource

import pytest

from mavl.files import whole_file


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


def test_a_full_disk_is_told_with_the_file_that_did_not_fit(tmp_path, little_room):
    path = tmp_path / "a.json"
    with pytest.raises(OSError, match=r"a\.json") as caught, whole_file(path) as file:
        file.write("x" * 100_000)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_told_by_the_name_of_the_file(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, whole_file(tmp_path / "none" / "a.json"):
        pass
    assert caught.value.filename == str(tmp_path / "none" / "a.json")
