"""Heatmaps of another program: the right file for the right case, and nothing guessed."""

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

import zero_shot_ground
from mavl.config.evaluation import GroundingSettings, ZeroShotSettings
from mavl.data import phantom
from mavl.evaluate import classification, grounding
from mavl.scorers import ScorerError
from tests.support.small_runs import forget_accelerator

ASKED = ("cardiomegaly", "effusion")
QUICK = {"workers": 0, "text_cache": None, "resamples": 0, "html": False}


@pytest.fixture
def phantoms(tmp_path):
    """A benchmark, and in `maps` a heatmap of every case, which is its mask."""
    phantom.write_dataset(tmp_path, "test", 3, range(25), size=64)
    content = {"name": "small", "title": "Small", "root": str(tmp_path), "findings": list(ASKED)}
    content |= {"splits": {"test": "test.csv"}, "images": {"column": "image", "path": "images/{}.png"}}
    content |= {"labels": {"kind": "columns"}, "masks": {"kind": "file", "path": "masks/{finding}/{}.png"}}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(content))
    for row in pd.read_csv(tmp_path / "test.csv").itertuples():
        for finding in ASKED:
            if getattr(row, finding):
                file = tmp_path / "maps" / "images" / f"{row.image}__{finding}.npy"
                file.parent.mkdir(parents=True, exist_ok=True)
                mask = np.asarray(Image.open(tmp_path / f"masks/{finding}/{row.image}.png")) > 0
                np.save(file, mask * 3.5)
    yield tmp_path
    forget_accelerator()


def ground(folder, **changed):
    settings = {"benchmark": str(folder / "small.yaml"), "model_path": f"file:{folder / 'maps'}"}
    settings |= {"output_dir": str(folder / "out"), "gallery": 0, "map_size": 64}
    return grounding.run(GroundingSettings(**QUICK | settings | changed))


def test_maps_that_are_the_masks_hit_every_case(phantoms):
    result = ground(phantoms)
    table = pd.read_csv(result.folder / "cases.csv")
    own = table[table["map"] == "model"]
    assert len(own) == 8
    assert own["pointing_game"].mean() == 1
    assert own["average_precision"].min() > 0.95
    assert table[table["map"] == "random"]["pointing_game"].mean() < 0.5


def test_a_picture_serves_too_and_blanks_may_be_underscores(phantoms):
    expected = pd.read_csv(ground(phantoms).folder / "cases.csv")
    for file in (phantoms / "maps").rglob("*.npy"):
        values = np.load(file)
        Image.fromarray((values > 0).astype(np.uint8) * 255).save(file.with_suffix(".png"))
        file.unlink()
    forget_accelerator()
    found = pd.read_csv(ground(phantoms, overwrite=True).folder / "cases.csv")
    np.testing.assert_allclose(found["average_precision"], expected["average_precision"], atol=1e-3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"1 heatmap missing, such as that of (cardiomegaly|effusion) in images/"),
        (np.zeros((4, 4)), "no number below 0, and one above it"),
        (-np.ones((4, 4)), "no number below 0"),
        (np.full((4, 4), np.nan), "two axes and finite numbers"),
        (np.ones((2, 4, 4)), "two axes"),
        (np.array(["a"]), "two axes"),
        (np.array([{}], dtype=object), "no heatmap"),
    ],
)
def test_what_is_no_map_is_named(phantoms, content, message):
    file = next((phantoms / "maps").rglob("*.npy"))
    if content is None:
        file.unlink()
    else:
        np.save(file, content, allow_pickle=True)
    with pytest.raises(ScorerError, match=message):
        ground(phantoms)


def test_maps_are_no_scores_and_scores_no_maps(phantoms):
    settings = {"benchmark": str(phantoms / "small.yaml"), "model_path": f"file:{phantoms / 'maps'}"}
    with pytest.raises(ScorerError, match="a folder of heatmaps and has no scores"):
        classification.run(ZeroShotSettings(**QUICK | settings | {"output_dir": str(phantoms / "out")}))
    forget_accelerator()
    (phantoms / "scores.csv").write_text("image,effusion\na.png,1\n")
    with pytest.raises(ScorerError, match="has scores; for grounding give a folder of heatmaps"):
        ground(phantoms, model_path=f"file:{phantoms / 'scores.csv'}")


def test_the_script_prints_the_table_of_a_model_without_aspects(phantoms, monkeypatch, capsys):
    (phantoms / "ground.yaml").write_text(yaml.safe_dump({"benchmark": str(phantoms / "small.yaml")} | QUICK))
    arguments = ["--config", str(phantoms / "ground.yaml"), "--model_path", f"file:{phantoms / 'maps'}"]
    monkeypatch.setattr("sys.argv", ["zero_shot_ground.py", *arguments, "--output_dir", str(phantoms / "out")])
    zero_shot_ground.main()
    assert "Small (test), sound protocol" in capsys.readouterr().out
