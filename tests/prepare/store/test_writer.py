"""A store holds what its originals show, whoever wrote it; neither a kill nor a damaged file goes unseen."""

import csv
import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mavl.backbones import Preprocessing
from mavl.data import phantom
from mavl.data.images.read import ImageFile, check_image, read_image
from mavl.data.images.transforms import TrainTransform, eval_transform
from mavl.data.processes import InUseError
from mavl.prepare.store.sources import Sources
from mavl.prepare.store.tree import (
    ABOUT,
    LIST,
    UNREADABLE,
    StoreError,
    StoreSettings,
    Written,
    read_list,
    verify,
    write_store,
)
from tests.support.films import save_dicom
from tests.support.processes import ROOT

SETTINGS = StoreSettings(size=96)
KINDS = ("jpg", "png", "dcm", "colour.png", "")
"""JPEG of 8 bits, PNG of 16, DICOM of 12 without a window, PNG in colour, DICOM without a suffix."""


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> dict[str, Path]:
    """{name in the root: file} of twenty drawn radiographs of all kinds; the last is smaller than the store's size."""
    root = tmp_path_factory.mktemp("films")
    for number in range(20):
        size = (60, 80) if number == 19 else (240 + 5 * number, 300)
        drawn = Image.fromarray(phantom.draw(3, number, 240).image).resize(size)
        name = f"{number}.{KINDS[number % 5]}".removesuffix(".")
        path = root / f"p{number % 2}" / name
        path.parent.mkdir(exist_ok=True)
        if name.endswith(".jpg"):
            drawn.save(path, quality=95)
        elif name.endswith("colour.png"):
            drawn.convert("RGB").save(path)
        elif name.endswith(".png"):
            Image.fromarray(np.asarray(drawn).astype(np.uint16) * 16).save(path)
        else:
            save_dicom(path, np.asarray(drawn).astype(np.uint16) * 16, bits=12)
    return {path.relative_to(root).as_posix(): path for path in sorted(root.glob("*/*"))}


def make(folder: Path, images: dict[str, Path], settings: StoreSettings = SETTINGS, **options) -> Written:
    return write_store(folder, settings, Sources(images), **{"workers": 1, "show": False} | options)


@pytest.fixture
def store(films, tmp_path) -> Path:
    make(tmp_path / "store", films)
    return tmp_path / "store"


def content(folder: Path) -> dict[str, bytes]:
    """Every file but the lock, by its path."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name != ".lock"}


class TestContent:
    def test_the_same_names_hold_small_grey_jpegs(self, films, store):
        assert content(store).keys() == {*films, ABOUT, LIST}
        for name in films:
            with Image.open(store / name) as image:
                assert (image.format, image.mode) == ("JPEG", "L")

    @pytest.mark.parametrize("side", ["shortest", "longest"])
    def test_one_side_is_reduced_and_small_images_keep_their_size(self, films, tmp_path, side):
        make(tmp_path, films, replace(SETTINGS, side=side))
        for name, path in films.items():
            size, stored = read_image(path).size, read_image(tmp_path / name)
            length = min(size) if side == "shortest" else max(size)
            expected = size if length <= 96 else tuple(round(each * 96 / length) for each in size)
            assert stored.size == expected
            close = np.asarray(read_image(path).resize(expected, Image.Resampling.LANCZOS)).astype(int)
            assert np.abs(close - np.asarray(stored)).mean() < 2
        assert (60, 80) in [read_image(path).size for path in films.values()]

    @pytest.mark.parametrize("equalize", [False, True])
    def test_test_images_are_those_of_the_originals_up_to_some_grey_values(self, films, store, equalize):
        """Of 16 bits, of DICOM and equalised alike."""
        transform = eval_transform(Preprocessing(64))
        for name, path in films.items():
            original, stored = (read_image(each, equalize=equalize) for each in (path, store / name))
            off = transform.pixels(original).float() - transform.pixels(stored).float()
            assert off.abs().mean() < (4 if equalize else 2)

    def test_real_films_too(self, shared, tmp_path):
        films = [*sorted(shared("data/nih/images").glob("*.jpg"))[:6], *sorted(shared("data/dicom").glob("*.dcm"))]
        make(tmp_path, {path.name: path for path in films}, StoreSettings(size=448))
        for path in films:
            assert max(read_image(tmp_path / path.name).size) == 448
            images = (
                eval_transform(Preprocessing()).pixels(read_image(each)).float()
                for each in (path, tmp_path / path.name)
            )
            assert (next(images) - next(images)).abs().mean() < 2

    def test_a_seed_shows_the_same_part_of_original_and_store(self, films, tmp_path):
        store, transform = tmp_path / "store", TrainTransform(Preprocessing(32), augment=False)
        make(store, films, StoreSettings(size=192))
        for name, path in list(films.items())[:8]:
            for seed in range(4):
                original, own, other = (
                    transform.item(ImageFile(file), np.random.default_rng(draw))["image"].float()
                    for file, draw in ((path, seed), (store / name, seed), (store / name, seed + 100))
                )
                assert (original - own).abs().mean() < 12  # edges are rounded to pixels of what is decoded
                assert (original - own).abs().mean() < (original - other).abs().mean() / 2

    @pytest.mark.parametrize("level", ["exists", "header", "decode"])
    def test_every_check_before_a_run_passes(self, films, store, level):
        assert [check_image(store / name, level) for name in films] == [None] * 20


class TestWriting:
    def test_two_workers_write_the_same_bytes(self, films, store, tmp_path):
        assert make(tmp_path / "two", films, workers=2).fresh == 20
        assert content(tmp_path / "two") == content(store)

    def test_what_is_there_stays_and_what_is_new_is_added(self, films, tmp_path):
        few = dict(list(films.items())[:5])
        assert make(tmp_path, few) == Written(images=5, fresh=5, copies=0, unreadable=[])
        before = content(tmp_path)
        assert make(tmp_path, few) == Written(images=5, fresh=0, copies=0, unreadable=[])
        assert content(tmp_path) == before
        assert make(tmp_path, films) == Written(images=20, fresh=15, copies=0, unreadable=[])
        assert {name: content(tmp_path)[name] for name in few} == {name: before[name] for name in few}
        assert verify(tmp_path, 1, False) == []

    def test_a_missing_file_is_made_again(self, films, store):
        whole = content(store)
        (store / "p0/0.jpg").unlink()
        assert make(store, films).fresh == 1
        assert content(store) == whole

    def test_a_replaced_source_is_stored_anew(self, films, tmp_path, capsys):
        source, store = tmp_path / "a.jpg", tmp_path / "s"
        images = {"a.jpg": source, "b.jpg": films["p1/5.jpg"]}
        shutil.copy(films["p0/0.jpg"], source)
        make(store, images)
        before, stored = source.stat(), (store / "a.jpg").read_bytes()
        shutil.copy(films["p0/10.jpg"], source)
        assert make(store, images).fresh == 1
        make(tmp_path / "anew", images)
        assert (store / "a.jpg").read_bytes() == (tmp_path / "anew/a.jpg").read_bytes() != stored
        assert content(store) == content(tmp_path / "anew")
        rows = [line.split(",") for line in (store / LIST).read_text().splitlines()]
        assert rows[1][3:] == [str(source.stat().st_size), str(source.stat().st_mtime_ns)]
        assert before.st_size != source.stat().st_size
        assert capsys.readouterr().err == ""
        (store / LIST).write_text("".join(f"{','.join(row[:3])}\n" for row in rows))  # of an older version
        os.utime(source, ns=(0, 0))
        assert make(store, images).fresh == 0
        assert "no source stamps of 2 images: changes are not detected" in capsys.readouterr().err
        shutil.copy(films["p0/0.jpg"], source)
        assert make(store, images).fresh == 1
        assert (store / "a.jpg").read_bytes() == stored
        source.unlink()
        assert make(store, images) == Written(images=2, fresh=0, copies=0, unreadable=[])
        assert capsys.readouterr().err == ""

    def test_lists_and_masks_are_copied_and_follow_their_source(self, films, tmp_path):
        mask, table = tmp_path / "mask.png", tmp_path / "test.csv"
        Image.fromarray(np.eye(9, dtype=np.uint8)).save(mask)
        table.write_text("image\n0\n")
        sources = Sources({"p0/0.jpg": films["p0/0.jpg"]}, {"masks/0.png": mask, "test.csv": table})
        make(tmp_path / "s", {"masks/0.png": mask})  # as of a folder with masks in it
        assert write_store(tmp_path / "s", SETTINGS, sources, workers=1, show=False).copies == 2
        assert (tmp_path / "s/masks/0.png").read_bytes() == mask.read_bytes()
        table.write_text("image\n0\n1\n")
        assert write_store(tmp_path / "s", SETTINGS, sources, workers=1, show=False).copies == 2
        assert (tmp_path / "s/test.csv").read_text() == "image\n0\n1\n"
        assert verify(tmp_path / "s", 1, False) == []

    def test_unreadable_images_are_listed_and_tried_again(self, films, tmp_path):
        names = ["p0/0.jpg", "p1/1.png", "p1/5.jpg", "p0/10.jpg"]
        images = {name: tmp_path / "spoiled" / name for name in names}
        for name, path in images.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(films[name], path)
        os.truncate(images["p1/1.png"], 100)
        images["p1/5.jpg"].unlink()
        Image.new("L", (70_000, 1)).save(images["p0/10.jpg"].with_suffix(".png"))  # no JPEG has such a side
        images["p0/10.jpg"] = images["p0/10.jpg"].with_suffix(".png")
        written = make(tmp_path / "s", images)
        assert (written.images, written.fresh, len(written.unreadable)) == (1, 1, 3)
        with open(tmp_path / "s" / UNREADABLE, newline="") as file:
            rows = {row["image"]: row["reason"] for row in csv.DictReader(file)}
        assert rows == {failure.name: failure.reason for failure in written.unreadable}
        assert rows[str(images["p1/5.jpg"])] == "no such file"
        images |= {name: films[name] for name in names[1:]}
        assert make(tmp_path / "s", images) == Written(images=4, fresh=3, copies=0, unreadable=[])
        assert not (tmp_path / "s" / UNREADABLE).exists()

    def test_nothing_readable_is_an_error_with_the_list(self, tmp_path):
        with pytest.raises(StoreError, match=r"nothing could be read; unreadable.csv"):
            make(tmp_path / "s", {"x.png": tmp_path / "x.png"})
        assert "x.png,no such file" in (tmp_path / "s" / UNREADABLE).read_text()

    def test_other_settings_and_other_folders_are_refused(self, films, store, tmp_path):
        with pytest.raises(StoreError, match=r"shortest side of 96 and quality 92, not the shortest side of 96 .* 80;"):
            make(store, films, StoreSettings(size=96, quality=80))
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "notes.txt").touch()
        with pytest.raises(StoreError, match=r"mine holds notes.txt and is no image store"):
            make(tmp_path / "mine", films)
        for text in ("", "[]", '{"format": "mavl image store 1", "size": 96}', '{"size": 96}'):
            (store / ABOUT).write_text(text)
            with pytest.raises(StoreError, match=r"store.json: not of the format 'mavl image store 2', or damaged"):
                make(store, films)

    def test_a_name_that_is_no_utf8_is_kept(self, films, tmp_path):
        name = os.fsdecode(b'caf\xe9, "1".png')
        make(tmp_path / "s", {name: films["p0/0.jpg"]})
        assert make(tmp_path / "s", {name: films["p0/0.jpg"]}).fresh == 0
        assert verify(tmp_path / "s", 1, False) == []

    def test_an_image_that_fails_in_a_new_way_is_listed(self, films, tmp_path, monkeypatch):
        def read(path):
            if path == films["p1/1.png"]:
                raise SyntaxError("broken\nPNG file")
            return read_image(path)

        monkeypatch.setattr("mavl.prepare.store.tree.read_image", read)
        written = make(tmp_path / "s", films)
        assert (written.images, [each.reason for each in written.unreadable]) == (19, ["SyntaxError: broken PNG file"])
        assert len((tmp_path / "s" / UNREADABLE).read_text().splitlines()) == 2

    def test_names_with_control_characters_and_names_that_leave_are_listed(self, films, tmp_path):
        film = films["p0/0.jpg"]
        written = make(tmp_path / "s", {"a.jpg": film, "a\x1b.jpg": film, "../b.jpg": film, "/tmp/c.jpg": film})
        assert written.images == 1
        assert ["is not allowed as a file name in" in each.reason for each in written.unreadable] == [True] * 3
        assert sorted(path.name for path in tmp_path.rglob("*.jpg")) == ["a.jpg"]

    def test_links_in_a_store_are_not_followed(self, films, tmp_path):
        elsewhere, out = tmp_path / "elsewhere", tmp_path / "s"
        elsewhere.mkdir()
        (elsewhere / "mine").write_text("mine")
        make(out, {"a.jpg": films["p0/0.jpg"]})
        (out / "p1").symlink_to(elsewhere)
        (out / "p0").mkdir()
        (out / "p0" / "0.jpg").symlink_to(elsewhere / "mine")
        written = make(out, films)
        assert {path.name: path.read_text() for path in elsewhere.iterdir()} == {"mine": "mine"}
        assert not (out / "p0/0.jpg").is_symlink()
        assert {each.reason for each in written.unreadable} == {
            f"{out / 'p1'} is a link out of {out}: remove it, or give another folder"
        }
        assert written.images == sum(name.startswith("p0/") for name in films)
        (out / ".lock").unlink()
        (out / ".lock").symlink_to(elsewhere / "mine")
        with pytest.raises(OSError, match=r"\.lock"):
            make(out, films)
        assert (elsewhere / "mine").read_text() == "mine"

    def test_a_name_that_looks_like_a_formula_comes_back(self, films, tmp_path):
        names = ["=1+1.jpg", "-film.jpg", "@a/+b.jpg", "'x.jpg"]
        make(tmp_path / "s", dict.fromkeys(names, films["p0/0.jpg"]))
        assert not any(line[0] in "=-@+" for line in (tmp_path / "s" / LIST).read_text().splitlines())
        assert read_list(tmp_path / "s").keys() == set(names)
        assert verify(tmp_path / "s", 1, False) == []
        assert make(tmp_path / "s", dict.fromkeys(names, films["p0/0.jpg"])).fresh == 0

    def test_a_full_disk_is_named_and_what_was_written_stays(self, films, tmp_path):
        out = tmp_path / "s"
        make(out, {name: path for name, path in films.items() if name.startswith("p1/")})
        before = content(out)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (512, hard))
        try:
            with pytest.raises(OSError, match=r"/s/p0/") as caught:
                make(out, films)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert caught.value.errno == errno.EFBIG
        assert content(out) == before
        assert make(out, films).fresh == 10

    def test_two_writers_at_once_are_refused(self, films, store):
        hold = "import fcntl, sys, time; lock = open(sys.argv[1], 'w'); fcntl.flock(lock, fcntl.LOCK_EX)"
        command = [sys.executable, "-c", f"{hold}; print(flush=True); time.sleep(60)", str(store / ".lock")]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
            other.stdout.readline()
            with pytest.raises(InUseError, match="written by another process"):
                make(store, films)
            other.kill()
        assert make(store, films).fresh == 0

    def test_a_file_system_without_locks_is_named_once(self, films, tmp_path, monkeypatch, capsys):
        def flock(*_):
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr("fcntl.flock", flock)
        assert make(tmp_path / "s", films).fresh == 20
        assert capsys.readouterr().err.count("its file system has no locks") == 1


class TestVerify:
    def test_a_changed_byte_anywhere_is_found(self, store):
        assert verify(store, 2, False) == []
        generator = np.random.default_rng(0)
        for name, whole in content(store).items():
            if name in (ABOUT, LIST):
                continue
            for place in [0, len(whole) - 1, *generator.integers(len(whole), size=3).tolist()]:
                flipped = bytearray(whole)
                flipped[place] ^= 1 << int(generator.integers(8))
                (store / name).write_bytes(flipped)
                assert verify(store, 1, False) == [f"{store / name}: the bytes are not those that were written"]
            (store / name).write_bytes(whole)
        assert verify(store, 2, False) == []

    def test_missing_and_cut_files_are_found(self, store):
        (store / "p0/0.jpg").unlink()
        length = (store / "p1/1.png").stat().st_size
        os.truncate(store / "p1/1.png", 100)
        cut = f"{store / 'p1/1.png'}: 100 bytes; {length} were written"
        assert verify(store, 2, False) == [f"{store / 'p0/0.jpg'}: missing", cut]

    def test_what_is_no_finished_store_is_an_error(self, store, tmp_path):
        with pytest.raises(StoreError, match=r"nowhere is no image store \(store.json: No such file"):
            verify(tmp_path / "nowhere", 1, False)
        (store / LIST).write_text("file,bytes,crc32\n../../x,1,1\n")
        assert ["'../../x' is not allowed as a file name" in line for line in verify(store, 1, False)] == [True]
        (store / LIST).write_text("file,bytes,crc32\na,b\n")
        with pytest.raises(StoreError, match=r"store.csv: damaged; delete it, and give the command"):
            verify(store, 1, False)
        (store / LIST).unlink()
        with pytest.raises(StoreError, match="not finished; the command that makes it goes on with it"):
            verify(store, 1, False)


@pytest.mark.slow
def test_a_kill_in_the_middle_loses_no_file_that_was_written(tmp_path):
    """kill -9 of the command and its two workers when some files are there; the same command makes only the others."""
    root, out = tmp_path / "many", tmp_path / "s"
    root.mkdir()
    rng = np.random.default_rng(0)
    for number in range(300):
        Image.fromarray(rng.integers(0, 256, (300, 300), dtype=np.uint8)).save(root / f"{number:03}.png")
    options = ["--out", str(out), "--size", "32", "--workers", "2"]
    command = [sys.executable, str(ROOT / "prepare_data.py"), "store", str(root), *options]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=ROOT, start_new_session=True, **quiet) as process:
        while len(list(out.glob("*.png"))) < 40 and process.poll() is None:
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    before = {path.name: path.read_bytes() for path in out.glob("*.png")}
    assert 40 <= len(before) < 300
    assert not (out / LIST).exists()
    (out / ".000.png.1.partial").touch()  # what a kill may leave
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0
    assert f"300 of 300 images: {300 - len(before)} written, {len(before)} there already" in again.stdout
    after = content(out)
    assert {name: after[name] for name in before} == before
    assert after.keys() == {*(path.name for path in root.iterdir()), ABOUT, LIST}
    assert verify(out, 1, False) == []
    make(tmp_path / "whole", {path.name: path for path in root.iterdir()}, StoreSettings(size=32))
    assert content(tmp_path / "whole") == after
