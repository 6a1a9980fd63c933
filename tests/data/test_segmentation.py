"""Image and mask stay together: through transforms, from benchmarks and from folders."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from mavl.backbones import Preprocessing
from mavl.config.data import LoaderSettings
from mavl.config.finetune import MaskFolder, SegmentationData
from mavl.data import DataError
from mavl.data.benchmarks.benchmark import Benchmark, read_split
from mavl.data.benchmarks.folders import WHOLE, read_folder
from mavl.data.benchmarks.masks import BoxMask, MaskFile
from mavl.data.benchmarks.splits import Split
from mavl.data.checks import damaged_masks
from mavl.data.segmentation import JointTransform, SegmentationDataset, bad_files, of_finding, open_data
from mavl.evaluate.subject import without_bad_images


def square(height: int, width: int, frame: int = 1) -> tuple[Image.Image, np.ndarray]:
    """A white square on black, and its mask in a frame so many times the image's."""
    pixels = np.zeros((height, width), np.uint8)
    pixels[height // 4 : height // 2, width // 3 : 3 * width // 4] = 255
    mask = (pixels > 0).repeat(frame, axis=0).repeat(frame, axis=1)
    return Image.fromarray(pixels), mask


def is_white(image: torch.Tensor) -> torch.Tensor:
    return image[0] > 127


@pytest.mark.parametrize("frame", [1, 2, 3])
@pytest.mark.parametrize("seed", range(8))
def test_crop_and_flip_move_image_and_mask_alike(seed, frame):
    image, mask = square(160, 200, frame)
    torch.manual_seed(seed)
    pixels, moved = JointTransform(Preprocessing(64), 0.2)(image, mask)
    assert (pixels.shape, moved.shape, moved.dtype) == ((1, 64, 64), (1, 64, 64), torch.uint8)
    assert type(moved) is torch.Tensor
    moved = moved[0].bool()
    assert (is_white(pixels) != moved).float().mean() < 0.01  # half a pixel at the edges at most
    if 0 < moved.sum() < 64 * 64:
        shift = [(is_white(pixels).float().mean(d) - moved.float().mean(d)).sum().abs() for d in (0, 1)]
        assert max(shift) < 1.0


def test_crops_differ_and_some_are_flipped():
    ramp = np.tile(np.arange(0, 200, 2, dtype=np.uint8), (100, 1))
    image, mask = Image.fromarray(ramp), np.zeros((1, 1), bool)
    rising = []
    for seed in range(12):
        torch.manual_seed(seed)
        pixels, _ = JointTransform(Preprocessing(32), 0.2)(image, mask)
        rising.append(bool(pixels[0, 0, -1] > pixels[0, 0, 0]))
    assert set(rising) == {True, False}


def test_test_images_are_resized_whole():
    image, mask = square(80, 100, 2)
    pixels, resized = JointTransform(Preprocessing(40))(image, mask)
    assert (is_white(pixels) == resized[0].bool()).float().mean() > 0.97
    assert resized.sum() == pytest.approx(40 * 40 * mask.mean(), rel=0.1)


def write(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)
    return path


def split_of(folder: Path, masks: list, labels: list[int]) -> Split:
    rng = np.random.default_rng(0)
    paths = [write(folder / f"{i}.png", rng.integers(0, 256, (50, 40))) for i in range(len(masks))]
    rows = [f"list.csv:{i + 2}" for i in range(len(masks))]
    return Split("train", ("opacity",), paths, np.array(labels, np.int8)[:, None], None, rows, {"opacity": masks})


def test_an_item_depends_on_seed_epoch_and_index_alone(tmp_path):
    split = split_of(tmp_path, [BoxMask((50, 40), np.array([[5, 5, 30, 40]])), None], [1, 0])
    dataset = SegmentationDataset(split, JointTransform(Preprocessing(32), 0.2), equalize=False, seed=3)
    first = dataset[0, 0]
    torch.rand(7)
    again = pickle.loads(pickle.dumps(dataset))[0, 0]  # as a loader's worker gets it
    assert torch.equal(first["image"], again["image"])
    assert torch.equal(first["mask"], again["mask"])
    assert not torch.equal(first["image"], dataset[1, 0]["image"])
    other = SegmentationDataset(split, JointTransform(Preprocessing(32), 0.2), equalize=False, seed=4)
    assert not torch.equal(first["image"], other[0, 0]["image"])
    assert dataset[0, 1]["mask"].shape == (1, 32, 32)
    assert dataset[0, 1]["mask"].sum() == 0
    assert first["mask"].sum() > 0


def test_images_of_which_no_mask_is_known_are_left_out(tmp_path):
    box = BoxMask((50, 40), np.array([[5, 5, 30, 40]]))
    split, left_out = of_finding(split_of(tmp_path, [box, None, None, None], [1, 0, -1, 1]))
    assert [path.name for path in split.paths] == ["0.png", "1.png"]
    assert left_out == [f"list.csv:{row}: no mask, and no label that says it would be empty" for row in (4, 5)]


def test_a_finding_must_be_said_where_there_are_several(tmp_path):
    split = split_of(tmp_path, [None], [0])
    several = Split(
        "train", ("mass", "nodule"), split.paths, np.zeros((1, 2), np.int8), None, split.rows,
        {"mass": [None], "nodule": [None]},
    )  # fmt: skip
    assert of_finding(several, "nodule")[0].findings == ("nodule",)
    with pytest.raises(DataError, match="mass, nodule: say which"):
        of_finding(several)
    with pytest.raises(DataError, match="has no masks to learn from"):
        of_finding(Split("train", ("mass",), split.paths, split.labels, None, split.rows, None))


def test_damaged_images_and_masks_are_found_before_training(tmp_path):
    whole = write(tmp_path / "mask.png", np.eye(200) * 255)
    cut = tmp_path / "cut.png"
    cut.write_bytes(whole.read_bytes()[:90])
    split = split_of(tmp_path, [MaskFile(whole), None, MaskFile(cut)], [1, 0, 1])
    split.paths[0].unlink()
    with pytest.raises(DataError, match=r"list.csv:2: 0.png: no such file"):
        bad_files(split, LoaderSettings(), progress=False)
    bad = bad_files(split, LoaderSettings(max_bad_share=0.5), progress=False)
    assert list(bad) == [0, 2]
    assert bad[0] == "list.csv:2: 0.png: no such file"
    assert bad[2].startswith("list.csv:4: mask: ")


def write_twelve(folder: Path) -> Path:
    """Twelve images with masks, every other one empty, and the mask of 5.png, which is not, cut in the middle."""
    for i in range(12):
        write(folder / "images" / f"{i}.png", np.full((40, 40), 90))
        cut = write(folder / "masks" / f"{i}.png", np.random.default_rng(i).integers(0, 255, (40, 40)) * (i % 2))
        if i == 5:
            cut.write_bytes(cut.read_bytes()[:900])
    (folder / "train.csv").write_text("\n".join(["name", *map(str, range(12))]) + "\n")
    return folder


def test_a_damaged_mask_of_a_folder_is_left_out_and_listed(tmp_path):
    folder = {"images": str(write_twelve(tmp_path) / "images"), "masks": str(tmp_path / "masks")}
    data = SegmentationData(folder=folder, workers=0)
    with pytest.raises(DataError, match=r"1 of 12 masks of the train split .*\n.*5\.png: mask: .*cannot be read"):
        open_data(data, 0, progress=False)
    opened = open_data(data.model_copy(update={"max_bad_share": 0.5}), 0, progress=False)
    assert sum(map(len, opened.splits.values())) == 11
    [line] = opened.left_out["train"]
    assert line.startswith(f"{tmp_path}/images/5.png: mask: ")
    assert opened.notes[1].startswith("no test split: 2 images of 2 of 11 training images drawn for it, the same ones")


def test_a_damaged_mask_that_tells_a_label_tells_none(tmp_path):
    benchmark = Benchmark(
        name="m",
        title="M",
        findings=("disc",),
        splits={"train": "train.csv"},
        images={"column": "name", "path": "images/{}.png"},
        labels={"kind": "mask"},
        masks={"kind": "file", "path": "masks/{}.png"},
    )
    split = read_split(benchmark, "train", write_twelve(tmp_path))
    assert split.labels[:, 0].tolist() == [0, 1, 0, 1, 0, -1, 0, 1, 0, 1, 0, 1]
    assert list(damaged_masks(split, 0.5)) == [5]
    assert damaged_masks(split, 0.5)[5].startswith("train.csv:7: mask: ")
    with pytest.raises(DataError, match="or raise max_bad_share to leave them out"):
        damaged_masks(split, 0.08)  # of 12 less than one
    settings = LoaderSettings(max_bad_share=0.5)
    assert without_bad_images(settings, split, show=False)[1] == list(damaged_masks(split, 0.5).values())


def folders(tmp_path: Path, **settings) -> MaskFolder:
    return MaskFolder(images=str(tmp_path / "images"), masks=str(tmp_path / "masks"), **settings)


def test_a_folder_of_images_and_masks(tmp_path):
    for patient, mask in (("p1", 255), ("p2", 0)):
        write(tmp_path / "images" / patient / "a.jpg", np.full((20, 30), 90))
        write(tmp_path / "masks" / patient / "a_mask.png", np.full((20, 30), mask))
    split = read_folder(folders(tmp_path, suffix="_mask", patient="(p\\d)/"), "lung")[WHOLE]
    assert [path.relative_to(tmp_path).as_posix() for path in split.paths] == ["images/p1/a.jpg", "images/p2/a.jpg"]
    assert (split.labels[:, 0].tolist(), split.groups, split.findings) == ([1, 0], ["p1", "p2"], ("lung",))
    assert split.mask(0).all()


def test_subfolders_are_splits_and_masks_may_lie_beside_the_images(tmp_path):
    for part in ("train", "val", "test"):
        write(tmp_path / part / "a.png", np.zeros((4, 4)))
        write(tmp_path / part / "a_m.png", np.eye(4))
    splits = read_folder(MaskFolder(images=str(tmp_path), masks=str(tmp_path), suffix="_m"), "lung")
    assert {name: [path.name for path in split.paths] for name, split in splits.items()} == {
        "train": ["a.png"], "valid": ["a.png"], "test": ["a.png"],
    }  # fmt: skip


def test_folders_that_do_not_fit_together_are_refused(tmp_path):
    write(tmp_path / "images" / "a.png", np.zeros((4, 4)))
    with pytest.raises(DataError, match="no image file in it"):
        read_folder(folders(tmp_path), "lung")
    write(tmp_path / "masks" / "b.png", np.zeros((4, 4)))
    with pytest.raises(DataError, match=r"no mask of 1 of 1 image in .*, such as a;"):
        read_folder(folders(tmp_path), "lung")
    write(tmp_path / "masks" / "a.png", np.zeros((4, 4)))
    with pytest.raises(DataError, match="finds no patient in a"):
        read_folder(folders(tmp_path, patient="(p\\d)"), "lung")
    for pattern, complaint in (("p", "needs one"), ("(p", "is not a valid regular expression")):
        with pytest.raises(ValidationError, match=complaint):
            folders(tmp_path, patient=pattern)
    write(tmp_path / "images" / "test" / "c.png", np.zeros((4, 4)))
    write(tmp_path / "masks" / "test" / "c.png", np.zeros((4, 4)))
    for kind in ("images", "masks"):
        write(tmp_path / kind / "d.png", np.zeros((4, 4)))
    with pytest.raises(DataError, match=": a lies outside the subfolders test: either"):
        read_folder(folders(tmp_path), "lung")
    with pytest.raises(DataError, match="all its image files are masks"):
        read_folder(MaskFolder(images=str(tmp_path / "masks"), masks=str(tmp_path / "masks")), "lung")


def test_folders_without_splits_are_drawn_by_patient(tmp_path):
    for patient in range(10):
        for film in range(2):
            for part in ("images", "masks"):
                path = tmp_path / part / f"p{patient}" / f"{film}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full((16, 16), 255 * (patient % 2), np.uint8)).save(path)
    folder = {"images": str(tmp_path / "images"), "masks": str(tmp_path / "masks"), "patient": r"(p\d+)/"}
    data = SegmentationData(folder=folder, test_share=0.2, valid_share=0.25, check_images="exists", workers=0)
    opened = [open_data(data, seed, progress=False) for seed in (0, 1)]
    patients = [{name: set(split.groups) for name, split in each.splits.items()} for each in opened]
    for each in patients:
        assert [len(each[name]) for name in ("test", "valid", "train")] == [2, 2, 6]
        assert not each["train"] & each["valid"] | each["train"] & each["test"] | each["valid"] & each["test"]
    assert patients[0]["test"] == patients[1]["test"]
    assert all(len(split.paths) == 2 * len(each[name]) for each, o in zip(patients, opened, strict=True)
               for name, split in o.splits.items())  # fmt: skip
    positive = open_data(data.model_copy(update={"only_present": True}), 0, progress=False)
    assert set().union(*(split.groups for split in positive.splits.values())) == {"p1", "p3", "p5", "p7", "p9"}


def test_folders_of_uid_names_and_hidden_files(tmp_path, capsys):
    for name in ("1.2.3.4", "1.2.3.5", ".ipynb_checkpoints/1.2.3.4-checkpoint"):
        film = write(tmp_path / "images" / f"{name}.png", np.zeros((4, 4)))
        film.rename(film.with_suffix(""))
    for name in ("1.2.3.4.png", "1.2.3.5.png", "__MACOSX/._1.2.3.4.png"):
        write(tmp_path / "masks" / name, np.eye(4) * 255)
    [split] = read_folder(MaskFolder(images=str(tmp_path / "images"), masks=str(tmp_path / "masks")), "x").values()
    assert [path.name for path in split.paths] == ["1.2.3.4", "1.2.3.5"]
    assert [mask.path.name for mask in split.masks["x"]] == ["1.2.3.4.png", "1.2.3.5.png"]
    assert capsys.readouterr().err.count("passed over 1 file: 1 hidden") == 2


def test_masks_are_checked_as_they_are_read(tmp_path):
    """A mask of two light values is a good image, but no mask."""
    light = write(tmp_path / "light.png", np.where(np.eye(8), 255, 200))
    whole = write(tmp_path / "mask.png", np.eye(8) * 255)
    split = split_of(tmp_path, [MaskFile(whole), MaskFile(light), None], [1, 1, 0])
    bad = bad_files(split, LoaderSettings(max_bad_share=0.5), progress=False)
    assert list(bad) == [1]
    assert bad[1].startswith("list.csv:3: mask: light.png: a mask of which no pixel is dark")
