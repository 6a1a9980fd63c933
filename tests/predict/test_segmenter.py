"""A fine-tuned segmenter: the masks of any images, their files, and the script that writes them."""

import csv
import json
import runpy
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from mavl.checkpoint import finetuned
from mavl.checkpoint.folder import CheckpointError
from mavl.data.images.inputs import Failure, NoImageError
from mavl.model.unet import UNet
from mavl.predict.mask_files import write_masks
from mavl.predict.segmenter import Segmenter, load
from mavl.report.folder import OccupiedError
from mavl.text.synonyms import UnknownFindingError
from tests.support.pages import check_self_contained
from tests.support.processes import ROOT


@pytest.fixture
def segmenter(tmp_path) -> Segmenter:
    torch.manual_seed(0)
    arguments = {"backbone": "resnet18", "image_size": 32}
    finetuned.save(tmp_path / "model", "segmenter", UNet(**arguments), arguments, ("lesion",), False, {}, {})
    return load(tmp_path / "model")


def test_masks_of_any_images(tmp_path, segmenter):
    for name, size in (("a.png", (60, 40)), ("sub/a.png", (33, 70))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", size, 120).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"none")
    images = [tmp_path / name for name in ("a.png", "broken.png", "sub/a.png")]
    written = write_masks(segmenter, "model", images, tmp_path / "out", failures=[Failure("x", "unknown")])
    assert (written.images, [failure.name for failure in written.failures]) == (2, ["x", str(images[1])])
    rows = list(csv.DictReader((tmp_path / "out" / "masks.csv").open()))
    assert [row["mask"] for row in rows] == ["masks/a.png", "masks/a~2.png"]
    for row, size in zip(rows, ((60, 40), (33, 70)), strict=True):
        with Image.open(tmp_path / "out" / row["mask"]) as mask:
            assert mask.size == size
            assert int(row["pixels"]) == (np.asarray(mask) == 255).sum()
        assert (float(row["surest"]) > 0.5) == (int(row["pixels"]) > 0)
    check_self_contained((tmp_path / "out" / "masks.html").read_text())
    with pytest.raises(OccupiedError, match="give --overwrite"):
        write_masks(segmenter, "model", images[:1], tmp_path / "out")
    with pytest.raises(NoImageError, match="none of 1 image could be read"):
        write_masks(segmenter, "model", images[1:2], tmp_path / "out", overwrite=True)
    assert len(list((tmp_path / "out" / "masks").iterdir())) == 2
    write_masks(segmenter, "model", images[:1], tmp_path / "out", overwrite=True)
    assert [path.name for path in (tmp_path / "out" / "masks").iterdir()] == ["a.png"]
    with pytest.raises(UnknownFindingError, match="pneumonia"):
        write_masks(segmenter, "model", images, tmp_path / "out", findings=["lesion", "pneumonia"])


def test_predict_outlines_with_a_segmenter(tmp_path, segmenter, capsys, monkeypatch):
    script = runpy.run_path(str(ROOT / "predict.py"))
    Image.new("L", (60, 40), 120).save(tmp_path / "film.png")
    arguments = ["predict.py", str(tmp_path / "film.png"), "--model", str(tmp_path / "model")]
    monkeypatch.setattr(sys, "argv", [*arguments, "--out", str(tmp_path / "out")])
    assert script["main"]() == 0
    assert capsys.readouterr().out == f"1 image: {tmp_path / 'out' / 'masks.html'}\n"
    assert (tmp_path / "out" / "masks" / "film.png").exists()
    monkeypatch.setattr(sys, "argv", [*arguments, "--findings", "edema", "--out", str(tmp_path / "other")])
    assert script["main"]() == 2
    assert capsys.readouterr().err.startswith("error: unknown finding 'edema'")
    monkeypatch.setattr(sys, "argv", [*arguments, "--books", "b.json", "--top", "0", "--out", str(tmp_path / "other")])
    assert script["main"]() == 2
    assert "a fine-tuned segmenter takes no --books, no --top" in capsys.readouterr().err


def test_a_network_that_only_says_yes_outlines_the_whole_image(segmenter):
    with torch.no_grad():
        segmenter.unet.seg_classifier.weight.zero_()
        segmenter.unet.seg_classifier.bias.fill_(2.0)
    probability = segmenter.probability(Image.new("L", (50, 45)))
    np.testing.assert_allclose(probability, np.full((45, 50), 1 / (1 + np.exp(-2))), rtol=1e-5)
    assert segmenter.predict_mask(Image.new("L", (50, 45))).all()


def test_a_turned_film_gets_the_mask_of_its_file(tmp_path, segmenter):
    """EXIF orientation 6: to be shown turned a quarter clockwise."""
    exif = Image.Exif()
    exif[0x0112] = 6
    grey = np.random.default_rng(0).integers(0, 256, (60, 40), dtype=np.uint8)
    Image.fromarray(grey).save(tmp_path / "turned.png", exif=exif)
    expected = segmenter.probability(np.rot90(grey, -1))
    assert expected.shape == (40, 60)
    np.testing.assert_array_equal(segmenter.probability(Image.open(tmp_path / "turned.png")), expected)
    np.testing.assert_array_equal(segmenter.probability(tmp_path / "turned.png"), expected)


def test_another_kind_of_model_is_refused(tmp_path, segmenter):
    about = json.loads((tmp_path / "model" / "mavl.json").read_text())
    (tmp_path / "model" / "mavl.json").write_text(json.dumps(about | {"kind": "classifier"}))
    with pytest.raises(CheckpointError):
        load(tmp_path / "model")
