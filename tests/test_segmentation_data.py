"""Image and mask stay together: through transforms, from benchmarks and from folders."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mavl.data.folders import WHOLE, FolderError, read_folder
from mavl.data.masks import BoxMask, MaskFile
from mavl.data.pictures import Files
from mavl.data.pretraining import BadImagesError
from mavl.data.segmentation import (
    SegmentationDataset,
    bad_files,
    joint_eval_transform,
    joint_train_transform,
    of_finding,
    resize_nearest,
)
from mavl.data.splits import Split, SplitError
from mavl.finetune_settings import MaskFolder
from mavl.settings import LoaderSettings


def square(height: int, width: int, frame: int = 1) -> tuple[Image.Image, torch.Tensor]:
    """A white square on black, and its mask in a frame so many times the image's."""
    pixels = np.zeros((height, width), np.uint8)
    pixels[height // 4 : height // 2, width // 3 : 3 * width // 4] = 255
    mask = (pixels > 0).repeat(frame, axis=0).repeat(frame, axis=1)
    return Image.fromarray(pixels), torch.from_numpy(mask.astype(np.uint8))[None]


def is_white(image: torch.Tensor) -> torch.Tensor:
    return image[0] > 127


@pytest.mark.parametrize("frame", [1, 2, 3])
@pytest.mark.parametrize("seed", range(8))
def test_crop_and_flip_move_image_and_mask_alike(seed, frame):
    image, mask = square(160, 200, frame)
    torch.manual_seed(seed)
    pixels, moved = joint_train_transform(64, 0.2)(image, mask)
    assert (pixels.shape, moved.shape, moved.dtype) == ((1, 64, 64), (1, 64, 64), torch.uint8)
    assert type(moved) is torch.Tensor
    moved = moved[0].bool()
    assert (is_white(pixels) != moved).float().mean() < 0.01  # half a pixel at the edges at most
    if 0 < moved.sum() < 64 * 64:
        shift = [(is_white(pixels).float().mean(d) - moved.float().mean(d)).sum().abs() for d in (0, 1)]
        assert max(shift) < 1.0


def test_crops_differ_and_some_are_flipped():
    ramp = np.tile(np.arange(0, 200, 2, dtype=np.uint8), (100, 1))
    image, mask = Image.fromarray(ramp), torch.zeros(1, 1, 1, dtype=torch.uint8)
    rising = []
    for seed in range(12):
        torch.manual_seed(seed)
        pixels, _ = joint_train_transform(32)(image, mask)
        rising.append(bool(pixels[0, 0, -1] > pixels[0, 0, 0]))
    assert set(rising) == {True, False}


def test_test_images_are_resized_whole():
    image, mask = square(80, 100, 2)
    pixels, resized = joint_eval_transform(40)(image, mask)
    assert (is_white(pixels) == resized[0].bool()).float().mean() > 0.97
    assert resized.sum() == pytest.approx(40 * 40 * mask.float().mean().item(), rel=0.1)


def test_nearest_takes_the_pixel_under_the_centre():
    mask = torch.tensor([[0, 1, 0, 0, 1, 1]], dtype=torch.uint8).view(1, 1, 6)
    assert resize_nearest(mask, (1, 2)).flatten().tolist() == [1, 1]  # centres 1.5 and 4.5, in pixels 1 and 4
    assert resize_nearest(mask, (2, 6)).shape == (1, 2, 6)


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
    dataset = SegmentationDataset(split, Files(split.paths), joint_train_transform(32), seed=3)
    first = dataset[0, 0]
    torch.rand(7)
    again = pickle.loads(pickle.dumps(dataset))[0, 0]  # as a loader's worker gets it
    assert torch.equal(first["image"], again["image"])
    assert torch.equal(first["mask"], again["mask"])
    assert not torch.equal(first["image"], dataset[1, 0]["image"])
    other = SegmentationDataset(split, Files(split.paths), joint_train_transform(32), seed=4)
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
    with pytest.raises(SplitError, match="mass, nodule: say which"):
        of_finding(several)
    with pytest.raises(SplitError, match="has no masks to learn from"):
        of_finding(Split("train", ("mass",), split.paths, split.labels, None, split.rows, None))


def test_damaged_images_and_masks_are_found_before_training(tmp_path):
    whole = write(tmp_path / "mask.png", np.eye(200) * 255)
    cut = tmp_path / "cut.png"
    cut.write_bytes(whole.read_bytes()[:90])
    split = split_of(tmp_path, [MaskFile(whole), None, MaskFile(cut)], [1, 0, 1])
    split.paths[0].unlink()
    with pytest.raises(BadImagesError, match=r"list.csv:2: no such file"):
        bad_files(split, Files(split.paths), LoaderSettings(), progress=False)
    bad = bad_files(split, Files(split.paths), LoaderSettings(max_bad_share=0.5), progress=False)
    assert list(bad) == [0, 2]
    assert bad[0] == "list.csv:2: no such file"
    assert bad[2].startswith("list.csv:4: mask: ")


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
    with pytest.raises(FolderError, match="no image file in it"):
        read_folder(folders(tmp_path), "lung")
    write(tmp_path / "masks" / "b.png", np.zeros((4, 4)))
    with pytest.raises(FolderError, match=r"no mask of 1 of the 1 images in .*, such as a;"):
        read_folder(folders(tmp_path), "lung")
    write(tmp_path / "masks" / "a.png", np.zeros((4, 4)))
    for pattern, complaint in (("(p\\d)", "finds no patient in a"), ("p", "needs one"), ("(p", "is no pattern")):
        with pytest.raises(FolderError, match=complaint):
            read_folder(folders(tmp_path, patient=pattern), "lung")
    write(tmp_path / "images" / "test" / "c.png", np.zeros((4, 4)))
    write(tmp_path / "masks" / "test" / "c.png", np.zeros((4, 4)))
    with pytest.raises(FolderError, match="a lies outside the subfolders test: either"):
        read_folder(folders(tmp_path), "lung")
    with pytest.raises(FolderError, match="all its image files are masks"):
        read_folder(MaskFolder(images=str(tmp_path / "masks"), masks=str(tmp_path / "masks")), "lung")
