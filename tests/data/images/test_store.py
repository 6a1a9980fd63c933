"""The image store: what comes out is what went in, whoever reads it; a kill and a flipped byte do no harm unseen."""

import csv
import errno
import hashlib
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from mavl.data import phantom
from mavl.data.images.grey import equalize_histogram
from mavl.data.images.read import ImageError, read_image
from mavl.data.images.sources import Files, Stored, from_store, read_picture
from mavl.data.images.store import Store, StoreError, StoreSettings, key_of, verify
from mavl.data.images.transforms import eval_transform, train_transform
from mavl.evaluate.subject import EvaluationImages
from mavl.prepare.processes import InUseError
from mavl.prepare.store import writer as store_writer
from mavl.prepare.store.writer import UNREADABLE, Written, write_store

ROOT = Path(__file__).resolve().parents[3]
RAW, JPEG = StoreSettings(size=96, encoding="raw"), StoreSettings(size=96)
SMALL = (60, 80)


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> list[Path]:
    """Nine drawn radiographs of several kinds: JPEG, 16 bits, colour; the last is smaller than the store's size."""
    root = tmp_path_factory.mktemp("films")
    for number in range(9):
        drawn = Image.fromarray(phantom.draw(3, number, 240).image).resize((240 + 20 * number, 300))
        folder = root / f"p{number % 2}"
        folder.mkdir(exist_ok=True)
        if number % 3 == 0:
            drawn.save(folder / f"{number}.jpg", quality=95)
        elif number % 3 == 1:
            Image.fromarray(np.asarray(drawn).astype(np.uint16) * 16).save(folder / f"{number}.png")
        else:
            drawn.convert("RGB").resize(SMALL if number == 8 else drawn.size).save(folder / f"{number}.png")
    return sorted(root.rglob("*.*"))


def root_of(films: list[Path]) -> Path:
    return films[0].parents[1]


def sources(films: list[Path]) -> dict[bytes, Path]:
    return {key_of(path, root_of(films)): path for path in films}


def make(folder: Path, films: list[Path], settings: StoreSettings = RAW, **options) -> Written:
    return write_store(folder, settings, sources(films), **{"workers": 1, "show": False} | options)


def opened(folder: Path, films: list[Path], equalize: bool = False) -> Stored:
    return from_store(Files(films, equalize), folder, root_of(films))


@pytest.fixture(scope="module", params=[RAW, JPEG], ids=["raw", "jpeg"])
def stored(request, films, tmp_path_factory) -> Stored:
    folder = tmp_path_factory.mktemp("store") / "s"
    make(folder, films, request.param, shard_images=4)
    return opened(folder, films)


@pytest.fixture
def folder(films, tmp_path) -> Path:
    """A store in shards of two."""
    make(tmp_path / "s", films, shard_images=2)
    return tmp_path / "s"


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


class TestContent:
    def test_raw_is_the_grey_image_resized_and_nothing_else(self, films, tmp_path):
        for side in ("shortest", "longest"):
            make(tmp_path / side, films, RAW.model_copy(update={"side": side}))
            for path, picture in zip(films, opened(tmp_path / side, films), strict=True):
                grey = read_image(path)
                assert picture.size == grey.size
                chosen = min(grey.size) if side == "shortest" else max(grey.size)
                if chosen > 96:
                    size = [round(length * 96 / chosen) for length in grey.size]
                    grey = grey.resize(size, Image.Resampling.LANCZOS)
                    assert (min if side == "shortest" else max)(grey.size) == 96
                assert np.array_equal(picture.pixels(), grey)

    def test_jpeg_is_close_to_raw_and_much_smaller(self, films, tmp_path):
        make(tmp_path / "raw", films)
        make(tmp_path / "jpeg", films, JPEG)
        for raw, jpeg in zip(opened(tmp_path / "raw", films), opened(tmp_path / "jpeg", films), strict=True):
            assert np.abs(raw.pixels().astype(int) - jpeg.pixels()).mean() < 2
        assert (tmp_path / "jpeg" / "00000.bin").stat().st_size < (tmp_path / "raw" / "00000.bin").stat().st_size / 2

    def test_test_images_are_less_than_two_grey_values_from_the_originals(self, films, stored):
        transform = eval_transform(64)
        for path, picture in zip(films, stored, strict=True):
            off = transform.pixels(picture).float() - transform.pixels(read_image(path)).float()
            assert off.abs().mean() < 2

    def test_real_films_at_the_default_size_too(self, shared, tmp_path):
        films = sorted(shared("data/nih/images").glob("*.jpg"))[:6]
        write_store(tmp_path, StoreSettings(size=448), {key_of(p): p for p in films}, workers=1, show=False)
        transform = eval_transform(224)
        for original, picture in zip(films, from_store(Files(films), tmp_path, None), strict=True):
            off = transform.pixels(picture).float() - transform.pixels(read_image(original)).float()
            assert off.abs().mean() < 2

    def test_a_seed_shows_the_same_part_of_original_and_store(self, films, stored):
        transform = train_transform(32, augment=False)
        for i, path in enumerate(films[:8]):
            for seed in range(4):
                original, own, other = (
                    transform.item(image, np.random.default_rng(draw))["image"].float()
                    for image, draw in ((read_image(path), seed), (stored[i], seed), (stored[i], seed + 100))
                )
                assert (original - own).abs().mean() < 10  # edges are rounded to pixels of so small a store
                assert (original - own).abs().mean() < (original - other).abs().mean() / 2

    def test_equalized_as_the_original_is(self, films, stored):
        equalized = Stored(stored.store, stored.rows, equalize=True)
        for i, path in enumerate(films):
            assert np.array_equal(equalized[i].pixels(), equalize_histogram(stored[i].pixels()))
            off = eval_transform(64).pixels(equalized[i]).float()
            off -= eval_transform(64).pixels(read_image(path, equalize=True)).float()
            assert off.abs().mean() < 4

    def test_an_evaluation_reads_either(self, films, stored):
        for images in (Files(films), stored):
            batch = next(iter(DataLoader(EvaluationImages(images, eval_transform(32)), batch_size=9)))
            assert batch["image"].dtype == torch.uint8
            assert batch["image"].shape == (9, 1, 32, 32)
            assert batch["index"].tolist() == list(range(9))


class TestKeys:
    def test_rows_are_found_by_the_path_under_the_root(self, films, stored):
        store, root = stored.store, root_of(films)
        assert [store.key(row) for row in stored.rows] == [path.relative_to(root).as_posix() for path in films]
        shuffled = [films[i] for i in (5, 0, 8)]
        assert from_store(Files(shuffled), store.folder, f"{root}/").rows.tolist() == stored.rows[[5, 0, 8]].tolist()
        moved = [Path("elsewhere") / path.relative_to(root) for path in films]
        assert np.array_equal(from_store(Files(moved), store.folder, Path("elsewhere")).rows, stored.rows)
        assert key_of("a/./b//c.png", "a") == b"b/c.png"
        assert key_of("ab/c.png", "a") == b"ab/c.png"

    def test_what_is_not_there_is_told(self, films, stored):
        lacking = from_store(Files([films[0], root_of(films) / "p0/new.png"]), stored.store.folder, root_of(films))
        problems = lacking.check("header", workers=1, progress=False)
        assert problems == {1: f"not in the store {stored.store.folder}, whose 9 images begin with p0/0.jpg"}
        with pytest.raises(ImageError, match="not in the store"):
            lacking[1]
        assert len(lacking.take([0])) == 1

    def test_a_damaged_image_is_named_when_it_is_read(self, films, tmp_path):
        make(tmp_path, films, JPEG)
        (tmp_path / "00000.bin").write_bytes(bytes((tmp_path / "00000.bin").stat().st_size))
        with pytest.raises(ImageError, match=r"p0/0.jpg cannot be decoded .*--verify"):
            opened(tmp_path, films)[0].pixels()
        (tmp_path / "00000.bin").write_bytes(b"")
        with pytest.raises(StoreError, match=r"00000.bin: ends before the bytes of p0/0.jpg"):
            opened(tmp_path, films)[0].pixels()
        (tmp_path / "00000.bin").unlink()
        with pytest.raises(StoreError, match=r"00000.bin: No such file"):
            opened(tmp_path, films)[0].pixels()


def digest(pictures: Stored) -> str:
    return hashlib.sha256(b"".join(picture.pixels().tobytes() for picture in pictures)).hexdigest()


def _tell(pictures: Stored, queue) -> None:
    queue.put(digest(pictures))


class TestProcesses:
    def test_pickled_it_is_rows_and_a_name(self, stored):
        stored[0].pixels()  # its index and a shard are open
        content = pickle.dumps(stored)
        assert len(content) < 1500
        assert digest(pickle.loads(content)) == digest(stored)

    @pytest.mark.parametrize("method", ["fork", "forkserver"])
    def test_processes_read_at_once_what_one_reads(self, stored, method):
        """Forked, they share the file descriptors that this process has opened."""
        expected = digest(stored)
        context = multiprocessing.get_context(method)
        queue = context.Queue()
        processes = [context.Process(target=_tell, args=(stored, queue)) for _ in range(2)]
        for process in processes:
            process.start()
        told = [queue.get(timeout=300) for _ in processes]
        for process in processes:
            process.join()
        assert told == [expected] * 2
        assert digest(stored) == expected


class TestWriting:
    def test_bytes_do_not_depend_on_the_number_of_workers(self, films, folder, tmp_path):
        make(tmp_path / "two", films, workers=2, shard_images=2)
        assert content(tmp_path / "two") == content(folder)
        assert sorted(content(folder)) == [*(f"0000{n}.bin" for n in range(5)), "index.npy", "store.json"]

    def test_a_second_run_makes_nothing_and_more_images_are_added(self, films, tmp_path):
        first = make(tmp_path, films[:5], shard_images=2)
        assert (first.images, first.fresh) == (5, 5)
        before = content(tmp_path)
        assert make(tmp_path, films[:5]).fresh == 0
        assert content(tmp_path) == before
        added = make(tmp_path, films)
        assert (added.images, added.fresh) == (9, 4)
        after = content(tmp_path)
        assert [name for name in before if before[name] != after[name]] == ["index.npy"]
        assert digest(opened(tmp_path, films)) == digest(opened(tmp_path, [*films]))
        assert verify(tmp_path, 1, False) == []

    def test_a_deleted_shard_is_made_again(self, films, folder):
        expected = digest(opened(folder, films))
        (folder / "00001.bin").unlink()
        assert make(folder, films, shard_images=2).fresh == 2
        assert digest(opened(folder, films)) == expected
        assert verify(folder, 1, False) == []

    def test_unreadable_images_are_listed_and_tried_again(self, films, tmp_path):
        spoiled = tmp_path / "spoiled"
        shutil.copytree(root_of(films), spoiled)
        paths = sorted(spoiled.rglob("*.*"))
        good = paths[2].read_bytes()
        paths[2].write_bytes(good[: len(good) // 2])
        paths[5].unlink()
        made = {key_of(path, spoiled): path for path in paths}
        written = write_store(tmp_path / "s", RAW, made, workers=1, show=False)
        assert (written.images, len(written.unreadable)) == (7, 2)
        with open(tmp_path / "s" / UNREADABLE, newline="") as file:
            assert [(row["image"], row["reason"]) for row in csv.DictReader(file)] == [
                (failure.name, failure.reason) for failure in written.unreadable
            ]
        assert written.unreadable[1].reason == "no such file"
        paths[2].write_bytes(good)
        shutil.copy(films[5], paths[5])
        again = write_store(tmp_path / "s", RAW, made, workers=1, show=False)
        assert (again.images, again.fresh, again.unreadable) == (9, 2, [])
        assert not (tmp_path / "s" / UNREADABLE).exists()
        assert digest(from_store(Files(paths), tmp_path / "s", spoiled)) != ""

    def test_nothing_readable_is_an_error_with_the_list(self, tmp_path):
        with pytest.raises(StoreError, match=r"no image could be read; unreadable.csv"):
            write_store(tmp_path / "s", RAW, {b"x.png": tmp_path / "x.png"}, workers=1, show=False)
        assert "x.png,no such file" in (tmp_path / "s" / UNREADABLE).read_text()

    def test_other_settings_and_other_folders_are_refused(self, films, folder, tmp_path):
        with pytest.raises(StoreError, match=r"shortest side of 96 as raw, not the .* as jpeg of quality 92"):
            make(folder, films, JPEG)
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "00000.bin.bak").touch()
        with pytest.raises(StoreError, match=r"mine holds 00000.bin.bak and is no image store"):
            make(tmp_path / "mine", films)
        with pytest.raises(StoreError, match=r"nowhere is no image store \(store.json: No such file"):
            Store(tmp_path / "nowhere")
        (folder / "index.npy").unlink()
        with pytest.raises(StoreError, match="not finished"):
            Store(folder)

    def test_two_writers_at_once_are_refused(self, films, folder):
        hold = "import fcntl, sys, time; lock = open(sys.argv[1], 'w'); fcntl.flock(lock, fcntl.LOCK_EX)"
        command = [sys.executable, "-c", f"{hold}; print(flush=True); time.sleep(60)", str(folder / ".lock")]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
            other.stdout.readline()
            with pytest.raises(InUseError, match="written by another process"):
                make(folder, films)
            other.kill()
        assert make(folder, films).fresh == 0

    @pytest.mark.parametrize("content", [b"", b"x" * 40])
    def test_records_that_are_damaged_cost_their_shard(self, films, folder, monkeypatch, content):
        expected = digest(opened(folder, films))
        shutil.rmtree(folder)
        monkeypatch.setattr(store_writer, "_merge", lambda *_: None)  # as if killed before it
        make(folder, films, shard_images=2)
        monkeypatch.undo()
        (folder / "00001.npy").write_bytes(content)
        assert make(folder, films, shard_images=2).fresh == 2
        assert digest(opened(folder, films)) == expected
        assert verify(folder, 1, False) == []

    @pytest.mark.parametrize("content", [b"", b"x" * 40])
    def test_an_index_that_is_damaged_is_told_with_what_to_do(self, films, folder, content):
        (folder / "index.npy").write_bytes(content)
        with pytest.raises(
            StoreError, match=rf"index.npy: damaged; delete the folder {folder} and make the store again"
        ):
            make(folder, films)

    def test_without_its_index_no_shard_is_thrown_away(self, films, folder):
        (folder / "index.npy").unlink()
        before = content(folder)
        with pytest.raises(StoreError, match=r"index.npy is gone, .* 00000.bin, 00001.bin, .* or delete the folder"):
            make(folder, films)
        assert content(folder) == before

    def test_another_root_does_not_double_the_store(self, films, folder):
        before = content(folder)
        for root in (films[0].parent, root_of(films).parent):
            again = {key_of(path, root): path for path in films if path.is_relative_to(films[0].parent)}
            with pytest.raises(StoreError, match=r"has p0/.* and none of these images, .*: give the --root that"):
                write_store(folder, RAW, again, workers=1, show=False)
        assert content(folder) == before
        others = {b"other/" + key: path for key, path in sources(films[:2]).items()}
        assert write_store(folder, RAW, sources(films) | others, workers=1, show=False).fresh == 2

    def test_a_file_system_without_locks_is_told_once(self, films, tmp_path, monkeypatch, capsys):
        def flock(*_):
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr("fcntl.flock", flock)
        assert make(tmp_path / "s", films).fresh == 9
        assert capsys.readouterr().err.count("its file system has no locks") == 1

    def test_nothing_is_written_before_the_lock_is_had(self, films, tmp_path, monkeypatch):
        def flock(*_):
            raise BlockingIOError(errno.EAGAIN, "taken")

        monkeypatch.setattr("fcntl.flock", flock)
        with pytest.raises(InUseError, match="written by another process"):
            make(tmp_path / "s", films)
        assert [path.name for path in (tmp_path / "s").iterdir()] == [".lock"]


class TestVerify:
    def test_any_flipped_byte_is_found(self, folder):
        assert verify(folder, 2, False) == []
        generator = np.random.default_rng(0)
        for name, whole in content(folder).items():
            path = folder / name
            for place in [0, len(whole) - 1, *generator.integers(len(whole), size=25).tolist()]:
                flipped = bytearray(whole)
                flipped[place] ^= 1 << int(generator.integers(8))
                path.write_bytes(flipped)
                problems = verify(folder, 1, False)
                assert problems, f"{name} at byte {place}"
                assert str(path) in problems[0]
            path.write_bytes(whole)
        assert verify(folder, 2, False) == []

    def test_an_image_whose_bytes_changed_is_named(self, folder):
        whole = bytearray((folder / "00001.bin").read_bytes())
        whole[-1] ^= 1
        (folder / "00001.bin").write_bytes(whole)
        [problem] = verify(folder, 1, False)
        assert problem.startswith(f"{folder / '00001.bin'}: p0/6.jpg: ")

    def test_missing_longer_shorter_and_foreign_shards_are_found(self, folder):
        (folder / "00000.bin").unlink()
        with open(folder / "00001.bin", "ab") as file:
            file.write(b"x")
        os.truncate(folder / "00002.bin", 10)
        shutil.copy(folder / "00003.bin", folder / "00077.bin")
        problems = verify(folder, 1, False)
        for shard, problem in {
            0: "No such file",
            1: "bytes; its images have",
            2: "not those",
            77: "not in the index",
        }.items():
            assert any(f"{shard:05}.bin: " in line and problem in line for line in problems)


@pytest.mark.slow
def test_a_kill_in_the_middle_loses_the_shard_in_work_alone(films, tmp_path):
    """kill -9 of the command when some shards are there; the same command again makes only what was not."""
    root = tmp_path / "many"
    root.mkdir()
    rng = np.random.default_rng(0)
    for number in range(150):
        Image.fromarray(rng.integers(0, 256, (300, 300), dtype=np.uint8)).save(root / f"{number:03}.png")
    out = tmp_path / "s"
    options = ["--out", str(out), "--size", "32", "--encoding", "raw", "--shard_images", "10", "--workers", "2"]
    command = [sys.executable, str(ROOT / "prepare_data.py"), "store", str(root), *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while len(list(out.glob("0*.npy"))) < 3 and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    finished = {path.stem: (out / f"{path.stem}.bin").read_bytes() for path in sorted(out.glob("0*.npy"))}
    assert 3 <= len(finished) < 15
    assert list(finished) == [f"{number:05}" for number in range(len(finished))]
    with pytest.raises(StoreError, match="not finished"):
        Store(out)
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0
    assert f"150 of 150 images, {150 - 10 * len(finished)} of them new" in again.stdout
    for stem, shard in finished.items():
        assert (out / f"{stem}.bin").read_bytes() == shard
    assert verify(out, 1, False) == []
    assert sorted(path.name for path in out.iterdir() if path.suffix == ".partial" or path.name[0].isdigit()) == [
        f"{number:05}.bin" for number in range(15)
    ]
    paths = sorted(root.iterdir())
    for i, picture in enumerate(from_store(Files(paths), out, root)):
        expected = read_image(paths[i]).resize((32, 32), Image.Resampling.LANCZOS)
        assert np.array_equal(read_picture(picture), expected)
