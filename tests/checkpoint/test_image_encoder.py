"""Model folders with an encoder of transformers: they load without its source, and nothing leads out of them."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import mavl
from mavl import checkpoint
from mavl.backbones.adapters import add_adapters
from mavl.checkpoint import CheckpointError, finetuned
from mavl.checkpoint.folder import WEIGHTS
from mavl.checkpoint.merge import main, merge
from mavl.checkpoint.transfer import transfer_backbone
from mavl.model.classifier import Classifier
from tests.support.encoders import write_encoder
from tests.support.tiny import write_films, write_model

LORA = {"rank": 2, "alpha": 6.0, "dropout": 0.0, "targets": None}


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """A model folder whose source is gone."""
    folder = tmp_path_factory.mktemp("written")
    source = write_encoder(folder / "encoder", "dinov2")
    model = write_model(folder, backbone=f"hf:{source}", image_size=56)
    shutil.rmtree(source)
    return model


@pytest.fixture
def model(written, tmp_path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "model"))


def with_adapters(folder: Path, target: Path) -> tuple[Path, torch.nn.Module]:
    """The model with random adapters in its backbone as a folder, and in memory."""
    pretrained = checkpoint.load(folder)
    torch.manual_seed(3)
    add_adapters(pretrained.model.backbone, rank=2, alpha=6.0)
    for name, parameter in pretrained.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    about, text = pretrained.about, pretrained.text
    arguments = {"embeddings": pretrained.embeddings, "text": text, "state": about["state"], "config": {}}
    checkpoint.save(target, pretrained.model, about["model"], lora=LORA, **arguments)
    return target, pretrained.model.eval()


def test_a_folder_holds_what_builds_it_without_its_source(model, tmp_path):
    about = json.loads((model / "mavl.json").read_text())
    assert about["model"]["backbone"] == "hf:image_encoder"
    assert {path.name for path in (model / "image_encoder").iterdir()} == {"config.json", "preprocessor_config.json"}
    loaded = checkpoint.load(model).model
    assert loaded.preprocessing.mean == (0.5307,) * 3
    assert loaded.preprocessing.image_size == 56
    again = tmp_path / "again"
    stored = checkpoint.load(model)
    checkpoint.save(again, stored.model, stored.about["model"], stored.embeddings, stored.text, {}, {})
    images = torch.randn(2, 3, 56, 56)
    with torch.no_grad():
        expected = loaded(images, stored.embeddings.vectors).presence_logits
        computed = checkpoint.load(again).model(images, stored.embeddings.vectors).presence_logits
    assert torch.equal(computed, expected)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("hf:../encoder", "not allowed as a file name"),
        ("hf:/etc", "not allowed as a file name"),
        ("hf:", "not allowed as a file name"),
        ("hf:facebook/dinov2-base", "facebook/dinov2-base/config.json is missing"),
        ("hf:linked", "a link out of"),
    ],
)
def test_a_name_that_leads_out_of_the_folder_is_refused(model, tmp_path, name, complaint):
    (tmp_path / "elsewhere").mkdir()
    shutil.copytree(model / "image_encoder", tmp_path / "elsewhere", dirs_exist_ok=True)
    (model / "linked").symlink_to(tmp_path / "elsewhere")
    about = json.loads((model / "mavl.json").read_text())
    (model / "mavl.json").write_text(json.dumps(about | {"model": about["model"] | {"backbone": name}}))
    with pytest.raises(CheckpointError, match=complaint):
        checkpoint.load(model)


def test_a_damaged_config_is_one_line(model):
    for content in ("{", "[]", json.dumps({"model_type": "dinov2", "hidden_size": 10**12})):
        (model / "image_encoder/config.json").write_text(content)
        with pytest.raises(CheckpointError, match="image_encoder") as refused:
            checkpoint.load(model)
        assert "\n" not in str(refused.value)


def test_a_merged_folder_predicts_what_the_unmerged_one_does(written, tmp_path, monkeypatch, capsys):
    folder, in_memory = with_adapters(written, tmp_path / "adapted")
    assert "backbone.network.encoder.layer.0.attention.q_proj.lora_A.default.weight" in in_memory.state_dict()
    monkeypatch.setattr("sys.argv", ["merge", str(folder), "--out", str(tmp_path / "merged")])
    main()
    assert "with the adapters merged" in capsys.readouterr().out
    about = json.loads((tmp_path / "merged/mavl.json").read_text())
    assert "lora" not in about
    assert about["model"]["backbone"] == "hf:image_encoder"
    stored = checkpoint.load(folder)
    images = torch.randn(2, 3, 56, 56)
    with torch.no_grad():
        expected = in_memory(images, stored.embeddings.vectors).presence_logits
        plain = checkpoint.load(written).model(images, stored.embeddings.vectors).presence_logits
        for path in (folder, tmp_path / "merged"):
            computed = checkpoint.load(path).model(images, stored.embeddings.vectors).presence_logits
            torch.testing.assert_close(computed, expected, rtol=0, atol=1e-5)
    assert not torch.allclose(plain, expected, atol=1e-3)
    film = write_films(tmp_path) / "grey.png"
    scores = [mavl.load(path).predict(film)[0].scores() for path in (folder, tmp_path / "merged")]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)


def test_what_cannot_be_merged_is_refused(written, tmp_path):
    with pytest.raises(CheckpointError, match="a model without adapters: nothing to merge"):
        merge(written, tmp_path / "merged")
    folder, _ = with_adapters(written, tmp_path / "adapted")
    with pytest.raises(CheckpointError, match="exists already; name another folder"):
        merge(folder, tmp_path / "adapted")


def test_adapters_that_the_folder_does_not_state_are_refused(written, tmp_path):
    folder, _ = with_adapters(written, tmp_path / "adapted")
    about = json.loads((folder / "mavl.json").read_text())
    for damage, complaint in (
        ({"lora": LORA | {"rank": 0}}, r"lora\.rank"),
        ({"lora": None}, "base_layer|lora_A"),
    ):
        (folder / "mavl.json").write_text(json.dumps(about | damage))
        with pytest.raises(CheckpointError, match=complaint):
            checkpoint.load(folder)


def test_a_classifier_starts_from_it_and_is_a_folder_of_its_own(written, tmp_path):
    folder, in_memory = with_adapters(written, tmp_path / "adapted")
    name = checkpoint.load(folder).about["model"]["backbone"]
    arguments = {"classes": 2, "backbone": name, "image_size": 56}
    classifier = Classifier(**arguments)
    transfer = transfer_backbone(classifier.backbone, folder)
    assert transfer.kept == []
    images = torch.randn(1, 3, 56, 56)
    with torch.no_grad():
        grid = classifier.eval().backbone(images)[0]
        torch.testing.assert_close(grid, in_memory.backbone(images)[0], rtol=0, atol=1e-5)
    finetuned.save(tmp_path / "classifier", "classifier", classifier, arguments, ("a", "b"), False, {}, {})
    shutil.rmtree(folder)
    loaded = finetuned.load(tmp_path / "classifier").model
    with torch.no_grad():
        assert torch.equal(loaded(images), classifier(images))
    assert (tmp_path / "classifier" / WEIGHTS).is_file()
