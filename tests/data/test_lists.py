"""Lists of images as memory maps: the same images whoever opens them, built once, never trusted when damaged."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mavl.data.labels import LabelStore
from mavl.data.lists import LIST, ImageList
from mavl.data.samples import ListedSamples, read_reports
from mavl.data.texts import Texts

NAMES = ["b/1.png", "b-c/2.png", "a/3 ü.png", "b/\n4.png", "p//./5.png"]
BELOW = [*NAMES[:4], "p/5.png"]
ROWS = [2, 0, 1, 1, 2]


@pytest.fixture
def manifest(tmp_path) -> Path:
    np.save(tmp_path / "labels.npy", np.zeros((3, 51, 75), np.int8))
    entries = {f"/old/{name}": {"labels_id": row} for name, row in zip(NAMES, ROWS, strict=True)}
    (tmp_path / "train.json").write_text(json.dumps(entries))
    return tmp_path / "train.json"


def read(manifest: Path, root: str | None = "root", cache: str | None = "cache") -> ListedSamples:
    folder = manifest.parent
    places = (root and folder / root, "/old", cache and folder / cache)
    return read_reports(manifest, LabelStore(folder / "labels.npy"), *places)


def content(images: ImageList) -> list[tuple]:
    return [(images[i], images.place(i), int(images.label(i))) for i in range(len(images))]


def expected(manifest: Path) -> list[tuple]:
    paths = [str(manifest.parent / "root" / name) for name in BELOW]
    return list(zip(paths, [f"train.json: /old/{name}" for name in NAMES], ROWS, strict=True))


def cached_file(manifest: Path) -> Path:
    [path] = (manifest.parent / "cache").rglob(LIST)
    return path


@pytest.mark.parametrize("cache", [None, "cache"])
def test_a_list_has_the_images_of_its_manifest(manifest, cache, capsys):
    for _ in range(2):
        images = read(manifest, cache=cache).images
        assert content(images) == expected(manifest)
        assert list(images) == images[:] == [path for path, _, _ in expected(manifest)]
        with pytest.raises(IndexError):
            images[5]
    if cache:
        assert not images.labels.flags.writeable  # a map
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("cache", [None, "cache"])
def test_a_worker_has_the_images_that_are_left(manifest, cache):
    samples = read(manifest, cache=cache).without({1, 3})
    assert content(samples.images) == [expected(manifest)[i] for i in (0, 2, 4)]
    assert content(samples.without({1}).images) == [expected(manifest)[i] for i in (0, 4)]
    copied = pickle.dumps(samples)
    assert b"train.json" not in copied
    again = pickle.loads(copied).images
    assert [(again[i], int(again.label(i))) for i in range(3)] == [(p, row) for p, _, row in content(samples.images)]
    assert list(again) == list(samples.images)


def test_a_mapped_list_costs_a_worker_nothing(manifest):
    entries = {f"/old/{number}.png": {"labels_id": 0} for number in range(5000)}
    manifest.write_text(json.dumps(entries))
    assert len(pickle.dumps(read(manifest))) < 2000
    assert len(pickle.dumps(read(manifest, cache=None))) > 5000 * 8


def test_a_list_is_that_of_its_root_and_manifest(manifest):
    read(manifest)
    assert read(manifest, "moved").images[0] == str(manifest.parent / "moved/b/1.png")
    assert read(manifest, None).images[0] == "/old/b/1.png"
    manifest.write_text(json.dumps({"/old/z.png": {"labels_id": 1}}))
    assert content(read(manifest).images) == [(str(manifest.parent / "root/z.png"), "train.json: /old/z.png", 1)]


def flip_last(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def replace_by_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def replace_by_object(path: Path) -> None:
    np.save(path.with_suffix(".npy"), np.array([{"a": 1}]), allow_pickle=True)
    path.with_suffix(".npy").rename(path)


def spoil_header(path: Path) -> None:
    """NumPy reads a header as Python's text, which ends within a bracket now."""
    path.write_bytes(path.read_bytes()[:10] + b" " + path.read_bytes()[11:])


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


HARMS = [flip_last, cut, append, empty, replace_by_link, replace_by_object, spoil_header, replace_by_pipe]


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_list_is_built_anew(manifest, harm, capsys):
    read(manifest)
    harm(path := cached_file(manifest))
    assert content(read(manifest).images) == expected(manifest)
    assert capsys.readouterr().err.startswith(f"{path}: ")
    assert not path.is_symlink()
    read(manifest)
    assert capsys.readouterr().err == ""


def test_a_list_of_other_content_is_not_used(manifest, capsys):
    read(manifest, "moved")
    other = cached_file(manifest)
    read(manifest)
    [mine] = set((manifest.parent / "cache").rglob(LIST)) - {other}
    mine.write_bytes(other.read_bytes())
    assert content(read(manifest).images) == expected(manifest)
    assert capsys.readouterr().err == f"{mine}: damaged, or of other content: the list of images is built anew\n"


def test_without_a_place_for_it_the_list_stays_in_memory(manifest, capsys):
    (manifest.parent / "cache").touch()
    assert content(read(manifest).images) == expected(manifest)
    assert "the list of images stays in memory; see data.cache" in capsys.readouterr().err


BUILDER = """
import sys
from pathlib import Path
from mavl.data import samples
from mavl.data.labels import LabelStore

folder, examine = Path(sys.argv[1]), samples.examine_manifest

def counted(*arguments):
    with open(folder / "built", "a") as file:
        file.write("once ")
    return examine(*arguments)

samples.examine_manifest = counted
store = LabelStore(folder / "labels.npy")
print(samples.read_reports(folder / "train.json", store, None, "", folder / "cache").images[0])
"""


def test_processes_that_start_together_build_a_list_once(manifest):
    line = [sys.executable, "-c", BUILDER, str(manifest.parent)]
    started = [subprocess.Popen(line, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate(timeout=120)[0] for process in started] == ["/old/b/1.png\n"] * 3
    assert (manifest.parent / "built").read_text() == "once "


def test_sorted_by_the_parts_of_a_path(tmp_path):
    """As pathlib does: b/1.png before b-c/2.png, although "-" comes before "/"."""
    images = ImageList.of_paths(tmp_path, [tmp_path / name for name in BELOW], [], np.zeros(5, np.int8))
    assert images.spread(5) == [str(path) for path in sorted(tmp_path / name for name in BELOW)]
    assert images.spread(2) == [str(tmp_path / name) for name in ("a/3 ü.png", "b-c/2.png")]
    assert images.without({2}).spread(5) == images.spread(5)[1:]


def test_images_of_two_lists(tmp_path):
    one, other = (
        ImageList.of_paths(root, [tmp_path / name for name in names], [], np.zeros(len(names)))
        for root, names in ((tmp_path, BELOW), (tmp_path, ["x.png", "b/1.png"]))
    )
    assert one.common(other) == other.common(one) == {str(tmp_path / "b/1.png")}
    assert one.without({0}).common(other) == set()


def test_texts_that_are_no_file_names():
    texts = ["", "a\0b", "\udc80", "last"]  # the third as os.fsdecode makes it
    packed = Texts.pack(texts)
    assert list(packed) == packed[:] == texts
    assert packed[-1] == "last"
    assert len(Texts.pack(["\ud800"])) == 1  # JSON allows it


def test_files_in_and_outside_the_root_are_sorted_by_their_whole_paths():
    paths = [Path(name) for name in ("/data/b/1.png", "/data/a/2.png", "/data-2/3.png", "/aa/4.png")]
    images = ImageList.of_paths(Path("/data"), paths, ["row"] * 4, np.zeros(4))
    assert [*images] == [str(path) for path in paths]
    assert images.spread(4) == [str(path) for path in sorted(paths)]
