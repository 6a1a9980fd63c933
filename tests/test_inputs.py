"""From what a person names to image files."""

import pytest

from mavl.data.inputs import Failure, NoImageError, find_images


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """b.png a.JPG notes.txt below/c.dcm below/EXPORT (a DICOM without a suffix) below/README."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scans" / "below").mkdir(parents=True)
    for name in ("b.png", "a.JPG", "notes.txt", "below/c.dcm", "below/README"):
        (tmp_path / "scans" / name).write_text("text")
    (tmp_path / "scans" / "below" / "EXPORT").write_bytes(bytes(128) + b"DICM")
    return tmp_path


def found(*names: str) -> list[str]:
    return [str(path) for path in find_images(names)[0]]


def test_a_folder_stands_for_the_images_in_it_and_below(folder):
    assert found("scans") == ["scans/a.JPG", "scans/b.png", "scans/below/EXPORT", "scans/below/c.dcm"]


def test_patterns_are_sorted_and_nothing_comes_twice(folder):
    assert found("scans/b.png", "scans/*.[pJ]*") == ["scans/b.png", "scans/a.JPG"]
    assert found("scans/**/*.dcm") == ["scans/below/c.dcm"]


def test_a_file_that_is_named_is_taken_whatever_it_is(folder):
    assert found("scans/notes.txt", "gone.png") == ["scans/notes.txt", "gone.png"]


def test_a_name_with_brackets_is_no_pattern_when_it_is_there(folder):
    (folder / "film[1].png").write_text("text")
    assert found("film[1].png") == ["film[1].png"]


@pytest.mark.parametrize("column", ["image", "path", "Path", "img_path"])
def test_a_list_names_images_relative_to_its_folder(folder, column):
    (folder / "scans" / "list.csv").write_text(f"id,{column}\n1,b.png\n2,below/c.dcm\n3,\n")
    assert found("scans/list.csv") == ["scans/b.png", "scans/below/c.dcm"]


def test_what_means_no_image_is_named_and_the_others_are_found(folder):
    (folder / "list.csv").write_text("id,file name\n1,b.png\n")
    (folder / "empty").mkdir()
    images, failures = find_images(["none/*.png", "empty", "list.csv", "scans/b.png"])
    assert [str(path) for path in images] == ["scans/b.png"]
    assert failures[:2] == [Failure("none/*.png", "no file of such a name"), Failure("empty", "no image in it")]
    assert str(failures[2]).startswith("list.csv: unknown column 'image'")
    with pytest.raises(NoImageError, match="empty: no image in it"):
        find_images(["empty"])
