"""From what a person names to image files."""

from pathlib import Path

import pytest
from PIL import Image

from mavl.data.images.inputs import Failure, NoImageError, find_images


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


def test_a_jpeg_without_a_suffix_is_an_image(folder):
    """As a store has it of a DICOM file without one."""
    (folder / "scans" / "below" / "SMALL").write_bytes(b"\xff\xd8\xff\xe0")
    assert "scans/below/SMALL" in found("scans")


def test_a_link_to_nothing_is_not_passed_over(folder):
    """Reading it says what is wrong; left out in silence it would not be missed."""
    (folder / "scans" / "gone.png").symlink_to("nowhere.png")
    (folder / "scans" / "gone.txt").symlink_to("nowhere.txt")
    assert "scans/gone.png" in found("scans")
    assert "scans/gone.txt" not in found("scans")


def test_patterns_are_sorted_and_nothing_comes_twice(folder):
    assert found("scans/b.png", "scans/*.[pJ]*") == ["scans/b.png", "scans/a.JPG"]
    assert found("scans/**/*.dcm") == ["scans/below/c.dcm"]


def test_a_file_that_is_named_is_taken_whatever_it_is(folder):
    assert found("scans/notes.txt", "gone.png") == ["scans/notes.txt", "gone.png"]


def test_a_name_with_brackets_is_no_pattern_when_it_is_there(folder):
    (folder / "film[1].png").write_text("text")
    assert found("film[1].png") == ["film[1].png"]


@pytest.mark.parametrize("column", ["image", "path", "Path", "img_path", "PATH", "Filename", "file", "FilePath"])
def test_a_list_names_images_relative_to_its_folder(folder, column):
    (folder / "scans" / "list.csv").write_text(f"id,{column}\n1,b.png\n2,below/c.dcm\n3,\n")
    assert found("scans/list.csv") == ["scans/b.png", "scans/below/c.dcm"]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_list_of_a_spreadsheet_may_have_other_separators(folder, separator):
    lines = [("id", '"Image"'), ("1", "b.png"), ("2", "below/c.dcm")]
    (folder / "scans" / "list.csv").write_text("\n".join(map(separator.join, lines)), encoding="utf-8-sig")
    assert found("scans/list.csv") == ["scans/b.png", "scans/below/c.dcm"]


def test_an_empty_list_says_so(folder):
    (folder / "list.csv").touch()
    with pytest.raises(NoImageError, match=r"list\.csv: the file is empty"):
        find_images(["list.csv"])


def test_what_an_earlier_run_made_is_no_radiograph(folder):
    for name in ("overlays", "masks", "films"):
        (folder / "scans" / "out" / name).mkdir(parents=True)
        (folder / "scans" / "out" / name / "b__effusion.png").write_text("text")
    (folder / "link").symlink_to("scans/out/overlays")
    images, failures = find_images(["scans", "link/*.png", "scans/out/masks"], Path("scans/../scans/out"))
    assert "scans/out/films/b__effusion.png" in map(str, images)
    assert len(images) == 5
    assert failures == [Failure(name, "made by an earlier run in --out") for name in ("link/*.png", "scans/out/masks")]


def test_an_empty_name_is_not_the_working_directory(folder):
    assert find_images(["", "scans/b.png"]) == ([Path("scans/b.png")], [Failure("''", "an empty name")])


def test_a_file_that_cannot_be_opened_does_not_hide_its_folder(folder, monkeypatch):
    opened = Path.open

    def refuse(path, *arguments, **options):
        if path.name == "EXPORT":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)  # a test may run as root, whom no mode keeps out
    images, failures = find_images(["scans"])
    assert [image.name for image in images] == ["a.JPG", "b.png", "EXPORT", "c.dcm"]  # and reading it says why
    assert failures == []


def test_what_means_no_image_is_named_and_the_others_are_found(folder):
    (folder / "list.csv").write_text("id,file name\n1,b.png\n")
    (folder / "empty").mkdir()
    images, failures = find_images(["none/*.png", "empty", "list.csv", "scans/b.png"])
    assert [str(path) for path in images] == ["scans/b.png"]
    assert failures[:2] == [Failure("none/*.png", "no file of such a name"), Failure("empty", "no image in it")]
    assert str(failures[2]).startswith("list.csv: no column called image, path, ")
    assert "in 'id,file name'" in str(failures[2])
    with pytest.raises(NoImageError, match="empty: no image in it"):
        find_images(["empty"])


def test_a_row_of_a_list_without_an_image_is_named(folder, capsys):
    (folder / "list.csv").write_text("image,label\nscans/b.png,1\n ,0\n")
    images, failures = find_images(["list.csv"])
    assert ([image.name for image in images], failures) == (["b.png"], [])
    assert "list.csv: column 'image' names no image in line 3" in capsys.readouterr().err


@pytest.mark.parametrize(("blank", "lines"), [(5, "3, 4, 5, 6, 7"), (6, "3, 4, 5, 6, 7 …")])
def test_of_many_rows_without_an_image_the_first_five_are_named(folder, capsys, blank, lines):
    (folder / "list.csv").write_text("image,label\nscans/b.png,1\n" + ",0\n" * blank)
    assert len(find_images(["list.csv"])[0]) == 1
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"names no image in line {lines}")


# Folders of other programs --------------------------------------------------------------------------------------------


def test_dicom_named_by_uids(shared, capsys):
    uid = "1.2.276.0.7230010.3.1.4.8323329.6904.1517875201.850819"
    for folder, names in (("only_uids", [uid]), ("mixed", [uid, "ok.dcm"])):
        images, failures = find_images([str(shared(f"cases/folder_of_uid_names/{folder}"))])
        assert ([image.name for image in images], failures) == (names, [])
    assert capsys.readouterr().err == ""


def test_what_a_mac_and_jupyter_leave_is_passed_over_and_said(shared, capsys):
    folder = shared("cases/folder_from_mac_and_jupyter")
    images, failures = find_images([str(folder)])
    assert ([image.name for image in images], failures) == (["film.png"], [])
    said = f"{folder}: passed over 4 files: 1 without an image, such as README, 3 hidden"
    assert capsys.readouterr().err.splitlines() == [said]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("name", ["film", "film.850819", "film.img", "film.png.bak"])
def test_the_content_of_a_foreign_name_decides(folder, name, kind):
    films = folder / "films"
    films.mkdir()
    Image.new("L", (9, 9)).save(films / name, kind)
    for other in ("BMI.txt", "notes", "IIdata", "RIFF.wav"):
        (films / other).write_text(f"{other} is a text that begins like an image")
    assert found("films") == [f"films/{name}"]


def test_hidden_files_are_images_only_when_they_are_named(folder, capsys):
    for name in (".a.png", ".cache/b.png", "x/__MACOSX/c.png", "x/._d.png", "x/d.png"):
        (folder / "films" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (9, 9)).save(folder / "films" / name)
    assert found("films") == ["films/x/d.png"]
    assert capsys.readouterr().err == "films: passed over 4 files: 4 hidden\n"
    assert found("films/.a.png") == ["films/.a.png"]
    (folder / "films/x/d.png").unlink()
    with pytest.raises(NoImageError, match="films: no image in it"):
        find_images(["films"])


@pytest.mark.parametrize("name", ["list.tsv", "list.jsonl", "list.csv.gz"])
def test_lists_of_other_kinds(folder, name):
    text = {"list.tsv": "id\timage\n1\tb.png\n", "list.jsonl": '{"image": "./b.png"}\n'}.get(name, "image\n.\\b.png\n")
    (folder / "scans" / name).write_text(text)
    assert found(f"scans/{name}") == ["scans/b.png"]
