"""A model folder at half its size, and the model that comes with the package."""

import json

import pytest
from safetensors.torch import load_file, save_file

import mavl
from mavl.checkpoint import CheckpointError
from mavl.checkpoint.compact import compact, main
from tests.support import tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.write_model(tmp_path_factory.mktemp("tiny"))


def size(folder) -> int:
    return (folder / "model.safetensors").stat().st_size


def test_it_is_half_as_large_and_scores_the_same(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["compact", str(model), "--out", str(tmp_path / "small")])
    main()
    assert f"{tmp_path / 'small'}: written" in capsys.readouterr().out
    assert 0.5 <= size(tmp_path / "small") / size(model) < 0.52
    film = tiny.write_films(tmp_path) / "grey.png"
    before, after = (mavl.load(folder).predict(film)[0].scores() for folder in (model, tmp_path / "small"))
    assert after == pytest.approx(before, abs=5e-3)
    assert after != before


def test_vectors_keep_their_precision(model, tmp_path):
    """A BatchNorm variance may be out of fp16's range."""
    wide = tmp_path / "wide"
    compact(model, wide)
    weights = load_file(wide / "model.safetensors")
    name = "backbone.bn1.running_var"
    weights[name] = weights[name].float() * 0 + 1e6
    save_file(weights, wide / "model.safetensors", {"state": "{}"})
    compact(wide, tmp_path / "again")
    assert load_file(tmp_path / "again" / "model.safetensors")[name].unique().tolist() == [1e6]


def test_no_folder_of_the_training_is_in_it(model, tmp_path):
    about = json.loads((model / "mavl.json").read_text())
    about["config"] = {
        "output_dir": "/runs/x",
        "data": {"root": "/data/hospital", "cache": "/tmp/lists", "source": "table"},
    }
    (model / "mavl.json").write_text(json.dumps(about))
    compact(model, tmp_path / "small")
    stored = json.loads((tmp_path / "small" / "mavl.json").read_text())
    assert stored["config"] == {"data": {"source": "table"}}
    with pytest.raises(CheckpointError, match="exists already"):
        compact(model, tmp_path / "small")
