"""Pre-training data: the right labels for the right image, the same item whoever loads it, bad images named."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch.utils.data import Dataset

from mavl.backbones import Preprocessing
from mavl.config.settings import PretrainSettings
from mavl.data import DataError
from mavl.data.images.read import ImageError, read_image
from mavl.data.images.transforms import eval_transform
from mavl.data.labels import finding_labels
from mavl.data.loading import build_loader, to_device
from mavl.data.pretraining import EpochBatches, PretrainingData, PretrainingDataset, open_data, write_left_out
from mavl.vocab import ANATOMIES, FINDINGS, mirrored

PREFIX = "/remote-home/share/medical/public/MIMIC-CXR-JPG/MIMIC-CXR/small"
TRAIN, VALID, STUDIES = 12, 4, 20
UNSPECIFIED = ANATOMIES.index("unspecified")


def row_of(image: int) -> int:
    """The study of an image in the released files made here; never its own number, so that mixing them up shows."""
    return (7 * image + 3) % STUDIES


def label_matrices() -> np.ndarray:
    """float64 [20, 51, 75]: study r has finding r at anatomy r, and finding r + 1 is absent at "other"."""
    matrices = np.full((STUDIES, len(ANATOMIES), len(FINDINGS)), -1.0)
    rows = np.arange(STUDIES)
    matrices[rows, rows, rows] = 1
    matrices[rows, ANATOMIES.index("other"), rows + 1] = 0
    return matrices


def save_image(path: Path, grey: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (40, 36), grey).save(path)


def grey_of(item: dict) -> int:
    """The grey value (0..255) of an item's image, which is the same everywhere."""
    [value] = item["image"].unique().tolist()
    return value


def settings(data: dict, findings=FINDINGS, seed: int = 42, recipe: str = "sound") -> PretrainSettings:
    loader = {"workers": 0, "augment": "none", "cache": None}
    sections = {"model": {"image_size": 32}, "train": {"seed": seed}, "data": loader | data}
    return PretrainSettings.model_validate({"findings": findings, "recipe": recipe, **sections})


@pytest.fixture
def mimic(tmp_path) -> dict:
    """The `data` section of released files: image i is of grey 10·i and of study row_of(i); 12 train, 4 validate."""
    entries = {}
    for image in range(TRAIN + VALID):
        name = f"p10/p100/s{image}/x.png"
        save_image(tmp_path / "images" / name, 10 * image)
        entries[f"{PREFIX}/{name}"] = {"labels_id": row_of(image), "path": "not read"}
    for split, images in (("train", range(TRAIN)), ("validate", range(TRAIN, TRAIN + VALID))):
        chosen = dict(list(entries.items())[images.start : images.stop])
        (tmp_path / f"rad_graph_metric_{split}.json").write_text(json.dumps(chosen))
    np.save(tmp_path / "landmark.npy", label_matrices())
    return {
        "source": "mimic",
        "root": str(tmp_path / "images"),
        "train_file": str(tmp_path / "rad_graph_metric_train.json"),
        "valid_file": str(tmp_path / "rad_graph_metric_validate.json"),
        "label_file": str(tmp_path / "landmark.npy"),
    }


@pytest.fixture
def table(tmp_path) -> dict:
    """The `data` section of a CSV with findings "effusion" (column Fluid) and "edema"; image i is of grey 10·i."""
    for image in range(6):
        save_image(tmp_path / "png" / f"{image}.png", 10 * image)
    (tmp_path / "train.csv").write_text("file,edema,Fluid\n0,1,0\n1,,1\n2,0,-1\n3,1,1\n")
    (tmp_path / "valid.csv").write_text("file,edema,Fluid\n4,0,0\n5,1,0\n")
    benchmark = {
        "name": "hospital",
        "title": "Hospital",
        "root": str(tmp_path),
        "findings": ["effusion", "edema"],
        "splits": {"train": "train.csv", "valid": "valid.csv"},
        "images": {"column": "file", "path": "png/{}.png"},
        "labels": {"kind": "columns", "columns": {"effusion": "Fluid"}},
    }
    (tmp_path / "benchmark.yaml").write_text(yaml.safe_dump(benchmark))
    return {"source": "table", "benchmark": str(tmp_path / "benchmark.yaml")}


PHANTOM = {"source": "phantom", "train": 4, "valid": 3}


def opened(data: dict, **changed) -> PretrainingData:
    chosen = settings(data, **changed)
    return open_data(chosen, Preprocessing(chosen.model.image_size), progress=False)


def items(dataset: PretrainingDataset, epoch: int = 0) -> list[dict]:
    return [dataset[epoch, index] for index in range(len(dataset))]


def labels_of(dataset: PretrainingDataset) -> list[list[int]]:
    return [item["labels"].tolist() for item in items(dataset)]


def greys_of(dataset: PretrainingDataset) -> list[int]:
    return [grey_of(item) for item in items(dataset)]


def pixels(dataset: PretrainingDataset, epoch: int = 0) -> list[bytes]:
    """What the samples show, before any transform."""
    return [dataset.samples[epoch, index][0].tobytes() for index in range(len(dataset))]


def shown(dataset: PretrainingDataset, index: int) -> Image.Image:
    """An image that was read from a file, before any transform."""
    picture, _ = dataset.samples[0, index]
    return Image.fromarray(picture.pixels())


class TestReleasedFiles:
    def test_each_image_has_the_labels_of_its_row(self, mimic):
        data = opened(mimic)
        assert (len(data.train), len(data.valid), data.left_out) == (TRAIN, VALID, {"train": [], "valid": []})
        for first, dataset in ((0, data.train), (TRAIN, data.valid)):
            for index, item in enumerate(items(dataset)):
                row = row_of(first + index)
                assert grey_of(item) == 10 * (first + index)
                assert item["index"] == index
                assert item["labels"].dtype == torch.int8
                assert item["labels"].tolist() == [{row: 1, row + 1: 0}.get(finding, -1) for finding in range(75)]
                assert item["locations"].shape == (75, 8)
                assert item["locations"][row, 0] == row

    def test_root_takes_the_place_of_the_original_authors_folder(self, mimic, tmp_path):
        paths = opened(mimic).train.samples.images
        assert paths[3] == str(tmp_path / "images" / "p10/p100/s3/x.png")
        for key in ("train_file", "valid_file"):
            manifest = Path(mimic[key])
            manifest.write_text(manifest.read_text().replace(PREFIX, "/data/other"))
        assert list(opened(mimic | {"prefix": "/data/other"}).train.samples.images) == list(paths)

    def test_without_a_root_paths_are_taken_as_they_are(self, mimic, tmp_path):
        for key in ("train_file", "valid_file"):
            manifest = Path(mimic[key])
            manifest.write_text(manifest.read_text().replace(PREFIX, str(tmp_path / "images")))
        data = opened({key: value for key, value in mimic.items() if key != "root"})
        assert greys_of(data.train) == [10 * image for image in range(TRAIN)]

    def test_chosen_findings_take_their_own_columns_in_the_order_asked(self, mimic):
        chosen = [FINDINGS[17], "clear", FINDINGS[3], FINDINGS[4]]
        for image, item in enumerate(items(opened(mimic, findings=chosen).train)):
            row = row_of(image)
            assert item["labels"].tolist() == [{row: 1, row + 1: 0}.get(column, -1) for column in (17, 1, 3, 4)]
            assert item["locations"].shape == (4, 8)
        assert {row_of(image) for image in range(TRAIN)} >= {17, 3}  # so that some were present

    def test_the_matrices_stay_a_memory_map_also_in_a_worker(self, mimic):
        dataset = opened(mimic).train
        array = dataset.samples.store.array
        assert isinstance(array, np.memmap)
        assert array.dtype == np.float64
        assert len(pickle.dumps(dataset)) < array.nbytes / 50  # what a worker that is not forked gets
        (seen,) = build_loader(Probe(dataset), [range(TRAIN)], workers=1, pin_memory=False)
        assert seen["labels"].tolist() == labels_of(dataset)
        assert seen["mapped"].all()
        assert (seen["process"] != os.getpid()).all()

    @pytest.mark.parametrize(
        "entry",
        [{}, {"labels_id": None}, {"labels_id": "3"}, {"labels_id": STUDIES}, {"labels_id": -1}, [3]],
        ids=["none", "null", "text", "too large", "negative", "a list"],
    )
    def test_an_entry_without_a_row_of_the_matrices_is_named(self, mimic, entry):
        manifest = Path(mimic["train_file"])
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"p10/odd.jpg": entry}))
        expected = r"rad_graph_metric_train.json: p10/odd.jpg: labels_id is .*landmark.npy has 20 studies"
        with pytest.raises(DataError, match=expected):
            opened(mimic)

    def test_all_entries_without_a_row_are_named_and_one_that_is_there_twice_is_not_refused(self, mimic):
        manifest = Path(mimic["train_file"])
        whole = manifest.read_text()
        (path, entry), *_ = json.loads(whole).items()
        manifest.write_text(whole.replace("{", f"{{{json.dumps(path)}: {json.dumps(entry)}, ", 1))
        assert len(opened(mimic).train) == TRAIN
        manifest.write_text(json.dumps(json.loads(whole) | {"p10/odd.jpg": {}, "p10/even.jpg": {"labels_id": -1}}))
        with pytest.raises(DataError, match=r"2 problems(?s:.*)odd.jpg: labels_id is None(?s:.*)even.jpg: .* is -1"):
            opened(mimic)

    @pytest.mark.parametrize(
        ("key", "content", "expected"),
        [
            ("train_file", None, "No such file or directory: '.*rad_graph_metric_train.json'"),
            ("valid_file", b"not JSON", "rad_graph_metric_validate.json: not JSON"),
            ("valid_file", b'["a list"]', "rad_graph_metric_validate.json: holds a list"),
            ("valid_file", b"{}", "rad_graph_metric_validate.json: names no image"),
            ("label_file", None, "No such file or directory: '.*landmark.npy'"),
            ("label_file", b"not NPY", "landmark.npy: not an NPY file"),
        ],
    )
    def test_a_file_that_cannot_be_used_is_named_with_the_settings(self, mimic, key, content, expected):
        path = Path(mimic[key])
        path.unlink() if content is None else path.write_bytes(content)
        with pytest.raises(DataError, match=expected + r".*data\.train_file, valid_file and label_file"):
            opened(mimic)

    def test_matrices_of_another_vocabulary_are_refused(self, mimic):
        np.save(mimic["label_file"], np.zeros((STUDIES, 51, 74)))
        with pytest.raises(DataError, match=r"shape \(20, 51, 74\), expected \[studies, 51, 75\]"):
            opened(mimic)


class Probe(Dataset):
    """probe[i] -> {labels of item i, mapped: whether its store is a memory map, process: which one loaded it}."""

    def __init__(self, dataset: PretrainingDataset):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict:
        mapped = isinstance(self.dataset.samples.store.array, np.memmap)
        return {"labels": self.dataset[0, index]["labels"], "mapped": mapped, "process": os.getpid()}


class TestTable:
    def test_columns_become_labels_at_unspecified_and_the_rest_is_unknown(self, table):
        data = opened(table, findings=["edema", "mass", "effusion"])
        assert labels_of(data.train) == [
            [1, -1, 0],
            [-1, -1, 1],
            [0, -1, -1],
            [1, -1, 1],
        ]
        assert labels_of(data.valid) == [[0, -1, 0], [1, -1, 0]]
        assert greys_of(data.train) + greys_of(data.valid) == [0, 10, 20, 30, 40, 50]
        last = items(data.train)[3]
        assert last["locations"][[0, 2], 0].tolist() == [UNSPECIFIED, UNSPECIFIED]
        _, matrix = data.train.samples[0, 3]
        assert (np.delete(matrix, UNSPECIFIED, axis=0) == -1).all()

    def test_none_of_the_columns_is_trained_on(self, table):
        with pytest.raises(DataError, match=r"columns \(effusion, edema\) is among the findings trained on"):
            opened(table, findings=["mass", "nodule"])

    def test_images_are_shown_as_the_benchmark_says(self, table, tmp_path):
        """Equalised, and resized with its interpolation for validation."""
        ramp = np.repeat(np.arange(40, dtype=np.uint8)[None], 36, axis=0)
        for image in range(6):
            Image.fromarray(ramp).save(tmp_path / "png" / f"{image}.png")
        file = Path(table["benchmark"])
        file.write_text(file.read_text() + "interpolation: bicubic\nequalize: true\n")
        data = opened(table)
        image = shown(data.valid, 0)
        assert np.array_equal(image, read_image(tmp_path / "png" / "4.png", equalize=True))
        assert torch.equal(data.valid[0, 0]["image"], eval_transform(Preprocessing(32), "bicubic").pixels(image))
        assert not torch.equal(data.valid[0, 0]["image"], eval_transform(Preprocessing(32)).pixels(image))


class TestPhantoms:
    def test_training_draws_new_ones_every_epoch_and_validation_keeps_its_own(self):
        data = opened(PHANTOM)
        trained = [image for epoch in range(3) for image in pixels(data.train, epoch)]
        assert len(set(trained)) == len(trained) == 12
        assert pixels(data.valid, 0) == pixels(data.valid, 2)
        assert set(pixels(data.valid)).isdisjoint(trained)
        assert len(set(pixels(data.valid))) == 3

    def test_the_data_seed_draws_them(self):
        first, again, other = (opened(PHANTOM | {"seed": seed}) for seed in (5, 5, 6))
        assert pixels(first.train) == pixels(again.train)
        assert set(pixels(first.train)).isdisjoint(pixels(other.train))
        assert pixels(first.valid) != pixels(other.valid)

    def test_labels_are_of_the_findings_trained_on(self):
        data, whole = opened(PHANTOM, findings=["effusion", "mass", "normal"]), opened(PHANTOM)
        columns = [FINDINGS.index(name) for name in ("effusion", "mass", "normal")]
        for item, complete in zip(items(data.train), items(whole.train), strict=True):
            assert torch.equal(item["labels"], complete["labels"][columns])

    def test_excluded_findings_are_neither_drawn_nor_mentioned(self):
        excluded = ["mass", "tube", "effusion"]
        several = PHANTOM | {"train": 20}
        columns = [FINDINGS.index(name) for name in excluded]
        without, mentioned = (
            torch.stack([item["labels"][columns] for item in items(opened(several | {"exclude": names}).train)])
            for names in (excluded, [])
        )
        assert (without == -1).all()
        assert (mentioned == 1).any()

    def test_an_excluded_finding_that_cannot_be_drawn_is_told_before_training(self):
        with pytest.raises(DataError, match=r"exclude: unknown phantom finding 'mas'; did you mean 'mass'"):
            opened(PHANTOM | {"exclude": ["mas"]})


class TestItems:
    """An item is a function of (seed, epoch, index)."""

    @pytest.fixture
    def dataset(self, mimic, tmp_path) -> PretrainingDataset:
        """With all augmentation, of images and matrices that leave much to be drawn."""
        generator = np.random.default_rng(0)
        for image in range(TRAIN + VALID):
            noise = generator.integers(0, 256, (48, 40), dtype=np.uint8)
            Image.fromarray(noise).save(tmp_path / "images" / f"p10/p100/s{image}/x.png")
        np.save(mimic["label_file"], generator.integers(-1, 2, (STUDIES, 51, 75)).astype(np.float64))
        return opened(mimic | {"augment": "full"}).train

    def test_workers_and_batch_sizes_do_not_matter(self, dataset):
        alone = items(dataset, epoch=2)
        for workers, batch_size in ((0, 5), (2, 4), (2, 3)):
            torch.manual_seed(100 * workers + batch_size)
            batches = EpochBatches(TRAIN, batch_size, seed=7, rank=0, processes=1, accumulation=1)
            batches.start_at(2)
            seen = 0
            for batch in build_loader(dataset, batches, workers, pin_memory=False):
                for position, index in enumerate(batch["index"].tolist()):
                    for name in ("image", "labels", "locations"):
                        assert torch.equal(batch[name][position], alone[index][name])
                    seen += 1
            assert seen == TRAIN // batch_size * batch_size

    def test_epochs_seeds_and_images_draw_for_themselves(self, dataset):
        other_seed = PretrainingDataset(dataset.samples, dataset.transform, dataset.seed + 1)
        drawn = [dataset[0, 0], dataset[1, 0], dataset[0, 1], other_seed[0, 0]]
        for name in ("image", "locations"):
            distinct = {item[name].numpy().tobytes() for item in drawn}
            assert len(distinct) == len(drawn)
        assert torch.equal(drawn[0]["labels"], drawn[1]["labels"])
        alike = PretrainingDataset(dict.fromkeys([(0, 0), (0, 1)], dataset.samples[0, 0]), dataset.transform, 42)
        assert not torch.equal(alike[0, 0]["locations"], alike[0, 1]["locations"])
        assert not torch.equal(alike[0, 0]["image"], alike[0, 1]["image"])

    def test_torchs_global_generator_is_neither_read_nor_moved(self, dataset):
        torch.manual_seed(1)
        before = torch.random.get_rng_state()
        first = dataset[0, 0]
        assert torch.equal(torch.random.get_rng_state(), before)
        torch.manual_seed(2)
        assert torch.equal(dataset[0, 0]["image"], first["image"])

    def test_which_images_are_augmented(self, dataset, mimic):
        """Validation never; training as the setting says: with all operations, cropped and flipped, or not at all."""
        whole = eval_transform(Preprocessing(32)).pixels(shown(dataset, 1))
        images = {}
        for augment in ("full", "crop", "none"):
            data = opened(mimic | {"augment": augment})
            images[augment] = [data.train[epoch, 1]["image"] for epoch in range(6)]
            for index in range(VALID):
                expected = eval_transform(Preprocessing(32)).pixels(shown(data.valid, index))
                assert torch.equal(data.valid[0, index]["image"], expected)
                assert torch.equal(data.valid[7, index]["image"], expected)
        assert all(torch.equal(image, whole) for image in images["none"])
        assert len({image.numpy().tobytes() for image in images["crop"]}) == 6
        assert any(not torch.equal(*pair) for pair in zip(images["full"], images["crop"], strict=True))


def spoil(root: Path, images) -> None:
    """Missing, truncated, of another kind, empty, in turn."""
    for turn, image in enumerate(images):
        path = root / f"p10/p100/s{image}/x.png"
        if turn % 4 == 0:
            path.unlink()
        else:
            path.write_bytes((path.read_bytes()[:-2], b"<html>not found</html>", b"")[turn % 4 - 1])


class TestBadImages:
    def test_too_many_are_an_error_with_the_first_ten_and_the_fix(self, mimic):
        spoil(Path(mimic["root"]), range(1, 12))
        with pytest.raises(DataError) as caught:
            opened(mimic)
        first, *lines, fix = str(caught.value).splitlines()
        assert first == "11 of 12 images of the train split are missing or unreadable:"
        assert len(lines) == 10
        for line, image in zip(lines, range(1, 11), strict=True):
            assert line.strip().startswith("rad_graph_metric_train.json: ")
            assert f"/s{image}/x.png: " in line
        for line, reason in zip(lines, ("no such file", "truncated", "no PNG, JPEG", "empty"), strict=False):
            assert reason in line
        assert "raise max_bad_share" in fix

    def test_the_share_that_is_tolerated_is_the_limit(self, mimic):
        spoil(Path(mimic["root"]), [0, 1, 2])
        assert len(opened(mimic | {"max_bad_share": 3 / 12}).train) == 9
        with pytest.raises(DataError, match="3 of 12"):
            opened(mimic | {"max_bad_share": 0.24})

    def test_left_out_images_are_listed_and_never_lend_their_labels(self, mimic, tmp_path):
        spoil(Path(mimic["root"]), [0, 3, 5, 11, 13])
        data = opened(mimic | {"max_bad_share": 0.5})
        kept = [1, 2, 4, 6, 7, 8, 9, 10]
        assert greys_of(data.train) == [10 * image for image in kept]
        for image, item in zip(kept, items(data.train), strict=True):
            assert item["labels"][row_of(image)] == 1
            assert item["locations"][row_of(image), 0] == row_of(image)
        assert greys_of(data.valid) == [120, 140, 150]
        assert [[part in line for line in data.left_out["train"]] for part in ("/s0/", "/s3/", "/s5/", "/s11/")] == [
            [i == j for j in range(4)] for i in range(4)
        ]
        assert [line.partition(": ")[0] for line in data.left_out["valid"]] == ["rad_graph_metric_validate.json"]
        write_left_out(tmp_path / "left_out.json", data.left_out)
        assert json.loads((tmp_path / "left_out.json").read_text()) == data.left_out

    def test_a_table_keeps_its_labels_with_their_images_too(self, table, tmp_path):
        (tmp_path / "png" / "1.png").unlink()
        (tmp_path / "png" / "4.png").write_bytes(b"GIF89a")
        data = opened(table | {"max_bad_share": 0.5}, findings=["edema", "effusion"])
        assert greys_of(data.train) == [0, 20, 30]
        assert labels_of(data.train) == [[1, 0], [0, -1], [1, 1]]
        assert [line.partition(": ")[0] for line in data.left_out["train"]] == ["train.csv:3"]
        assert data.valid[0, 0]["labels"].tolist() == [1, 0]

    @pytest.mark.parametrize("split", ["train", "valid"])
    def test_a_split_without_any_readable_image_is_an_error(self, mimic, split):
        spoil(Path(mimic["root"]), range(TRAIN) if split == "train" else range(TRAIN, TRAIN + VALID))
        with pytest.raises(DataError, match=rf"(12 of 12|4 of 4) images of the {split} split") as caught:
            opened(mimic | {"max_bad_share": 1.0})
        assert str(caught.value).endswith("Repair the files or correct --root.")

    def test_the_level_of_checking_is_the_configured_one(self, mimic):
        spoil(Path(mimic["root"]), [0, 1])  # one missing, one truncated
        with pytest.raises(DataError, match="1 of 12"):
            opened(mimic | {"check_images": "exists"})
        with pytest.raises(DataError, match="2 of 12"):
            opened(mimic | {"check_images": "decode"})


class TestOverlap:
    def test_an_image_of_both_splits_is_refused(self, mimic):
        train, valid = (json.loads(Path(mimic[key]).read_text()) for key in ("train_file", "valid_file"))
        both = dict(list(train.items())[4:6])
        Path(mimic["valid_file"]).write_text(json.dumps(valid | both))
        with pytest.raises(DataError, match=r"train and valid have 2 images in common, such as .*/s4/x\.png"):
            opened(mimic)

    def test_a_table_whose_splits_are_one_file_is_refused(self, table, tmp_path):
        (tmp_path / "valid.csv").write_text((tmp_path / "train.csv").read_text())
        with pytest.raises(DataError, match="train and valid have 4 images in common"):
            opened(table)


class TestWorkers:
    def test_workers_get_paths_as_one_array_and_no_places(self, mimic):
        data = opened(mimic)
        content = pickle.dumps(data.train)
        assert b"rad_graph_metric_train" not in content  # the places
        again = pickle.loads(content)
        assert len(again) == TRAIN
        assert list(again.samples.images) == list(data.train.samples.images)
        assert greys_of(again) == greys_of(data.train)
        (batch,) = build_loader(again, [[(0, index) for index in range(TRAIN)]], workers=1, pin_memory=False)
        assert batch["image"][:, 0, 0, 0].tolist() == greys_of(data.train)

    def test_a_bad_image_is_named_by_a_worker_as_by_the_process(self, mimic):
        data = opened(mimic)
        path = data.train.samples.images[2]
        Path(path).unlink()
        for dataset in (data.train, pickle.loads(pickle.dumps(data.train))):
            with pytest.raises(ImageError, match=f"^{path}: no such file$"):
                dataset[0, 2]


class TestDevice:
    """What is left to the device is what a worker would have done."""

    @pytest.mark.parametrize("workers", [0, 1])
    def test_augmented_there_a_batch_is_the_same(self, mimic, workers):
        generator = np.random.default_rng(0)
        for path in Path(mimic["root"]).rglob("*.png"):
            Image.fromarray(generator.integers(0, 256, (48, 40), dtype=np.uint8)).save(path)
        batches = {}
        for where in ("loader", "device"):
            data = opened(mimic | {"augment": "full", "augment_on": where})
            keys = [[(epoch, index) for epoch in range(3) for index in range(TRAIN)]]
            (batch,) = build_loader(data.train, keys, workers, pin_memory=False)
            batches[where] = to_device(batch, torch.device("cpu"), Preprocessing())
            assert "operations" not in data.valid[0, 0]
        assert batches["loader"].keys() == batches["device"].keys() == {"image", "labels", "locations", "index"}
        for name, value in batches["loader"].items():
            assert torch.equal(value, batches["device"][name])
        assert batches["loader"]["image"].shape == (3 * TRAIN, 3, 32, 32)
        assert batches["loader"]["image"].dtype == torch.float32


def test_a_flip_exchanges_left_and_right_of_the_labels_in_the_sound_recipe():
    data = PHANTOM | {"train": 24, "augment": "crop"}
    swapped, plain, unflipped = (
        opened(data | {"flips": flips}).train if flips else opened(data).train for flips in (None, "plain", "none")
    )
    assert opened(data, recipe="released").train.mirrored is None
    partners, sided = mirrored(ANATOMIES), 0
    for index in range(24):
        _, matrix = plain.samples[0, index]
        exchanged, as_stated, still = (dataset[0, index] for dataset in (swapped, plain, unflipped))
        assert torch.equal(exchanged["image"], as_stated["image"])
        assert torch.equal(exchanged["labels"], still["labels"])
        flipped = not torch.equal(as_stated["image"], still["image"])
        assert not flipped or torch.equal(as_stated["image"], still["image"].flip(-1))
        for finding in np.flatnonzero(finding_labels(matrix) == 1):
            place = int(exchanged["locations"][finding, 0])
            assert matrix[partners[place] if flipped else place, finding] == 1
            assert matrix[as_stated["locations"][finding, 0], finding] == 1
            sided += flipped and partners[place] != place
    assert sided > 5
