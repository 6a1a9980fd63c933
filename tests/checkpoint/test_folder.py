"""Model folders: what is saved comes back bit by bit, a cut-off write leaves the former model, damage is named."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mavl import checkpoint
from mavl.backbones import BackboneError
from mavl.checkpoint.folder import CheckpointError
from mavl.files import OutsideError
from mavl.model.mavl import MAVL
from mavl.text.embeddings import FORMER, EmbeddingsError, TextEmbeddings
from mavl.text.encoders.random_bert import write_random_bert
from mavl.text.encoders.transformers import TransformerEncoder
from mavl.vocab import ANATOMIES, ASPECTS

FINDINGS = ("edema", "normal", "mass")
ARGUMENTS = {
    "backbone": "resnet18",
    "image_size": 64,
    "aspects": list(ASPECTS),
    "text_width": 12,
    "width": 16,
    "layers": 1,
    "heads": 2,
    "feedforward": 24,
}
TEXT = {"encoder": "some/bert", "sep": True, "max_length": 64, "lower_case": True}


def build(seed: int = 0, **changed) -> MAVL:
    torch.manual_seed(seed)
    model = MAVL(**ARGUMENTS | changed).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
    return model


def draw_bank(seed: int = 0, findings: tuple[str, ...] = FINDINGS) -> TextEmbeddings:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(len(findings), 9, 12, generator=generator)
    anatomies = torch.randn(len(ANATOMIES), 12, generator=generator)
    return TextEmbeddings(
        findings, ASPECTS, vectors, anatomies, {"encoder": "some/bert", "books": {"books/a.json": "a1"}}
    )


def save(
    folder: Path, model: MAVL, embeddings: TextEmbeddings | None = None, text: dict = TEXT, epoch: int = 3
) -> Path:
    config = {"train": {"seed": 42}}
    checkpoint.save(folder, model, ARGUMENTS, embeddings or draw_bank(), text, {"epoch": epoch, "step": 70}, config)
    return folder


def outputs(model: MAVL) -> list[torch.Tensor]:
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        output = model(images, draw_bank().vectors)
    return [output.presence_logits, output.location_embedding, output.cosine]


def equal(one: MAVL, other: MAVL) -> bool:
    return all(map(torch.equal, outputs(one), outputs(other)))


@pytest.fixture
def folder(tmp_path) -> Path:
    return save(tmp_path / "run" / "best", build())


def test_a_loaded_model_computes_the_same_bits(folder):
    loaded = checkpoint.load(folder)
    assert equal(loaded.model, build())
    assert not equal(loaded.model, build(seed=1))
    assert not loaded.model.training
    assert not loaded.model.state_dict().keys() ^ build().state_dict().keys()


def test_weights_in_another_memory_layout_are_the_same_weights(tmp_path):
    save(tmp_path, build().to(memory_format=torch.channels_last))
    assert equal(checkpoint.load(tmp_path).model, build())


def test_a_compiled_model_has_the_names_of_a_plain_one(tmp_path):
    save(tmp_path, torch.compile(build()))
    assert equal(checkpoint.load(tmp_path).model, build())


def test_from_pretrained_takes_a_folder_by_its_name(folder):
    assert equal(MAVL.from_pretrained(str(folder)), build())


def test_a_folder_tells_what_its_model_is(folder):
    loaded = checkpoint.load(str(folder))
    assert (loaded.findings, loaded.text) == (FINDINGS, TEXT | FORMER)
    assert torch.equal(loaded.embeddings.vectors, draw_bank().vectors)
    assert loaded.embeddings.findings == FINDINGS
    assert loaded.about["state"] == {"epoch": 3, "step": 70}
    assert loaded.about["books"] == {"books/a.json": "a1"}
    assert loaded.about["config"] == {"train": {"seed": 42}}
    assert loaded.about["anatomies"] == list(ANATOMIES)
    assert loaded.about["provenance"]["packages"]["torch"]
    assert sorted(path.name for path in folder.iterdir()) == ["bank.safetensors", "mavl.json", "model.safetensors"]
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1  # whoever may read one may read all


def test_saving_again_replaces_everything(folder):
    save(folder, build(seed=1), draw_bank(seed=2, findings=("mass", "scar")), TEXT | {"sep": False}, epoch=4)
    loaded = checkpoint.load(folder)
    assert equal(loaded.model, build(seed=1))
    assert (loaded.about["state"]["epoch"], loaded.text["sep"]) == (4, False)
    assert loaded.findings == loaded.embeddings.findings == ("mass", "scar")


def test_a_kill_while_the_weights_are_saved_leaves_the_former_ones(monkeypatch, folder):
    replace = Path.replace

    def kill_at_the_weights(draft: Path, path: Path) -> None:
        if path.name == "model.safetensors":
            raise KeyboardInterrupt
        replace(draft, path)

    monkeypatch.setattr(Path, "replace", kill_at_the_weights)
    with pytest.raises(KeyboardInterrupt):
        save(folder, build(seed=1), epoch=4)
    monkeypatch.undo()
    loaded = checkpoint.load(folder)
    assert equal(loaded.model, build())
    assert loaded.about["state"]["epoch"] == 3
    assert sorted(path.name for path in folder.iterdir()) == ["bank.safetensors", "mavl.json", "model.safetensors"]


def test_a_text_encoder_of_ones_own_travels_with_the_folder(tmp_path):
    encoder = write_random_bert(tmp_path / "run" / "drawn", ["edema in the lung"], seed=0, width=32, layers=1)
    expected = TransformerEncoder(str(encoder)).encode(["the lung"])
    save(tmp_path / "run" / "best", build(), text=TEXT | {"encoder": str(encoder)})
    shutil.move(tmp_path / "run" / "best", tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "run")
    text = checkpoint.load(tmp_path / "elsewhere").text
    assert text == TEXT | FORMER | {"encoder": str(tmp_path / "elsewhere" / "text_encoder")}
    vectors = TransformerEncoder(text.pop("encoder"), **text | {"sep": False}).encode(["the lung"])
    assert torch.equal(vectors, expected)
    assert "run" not in json.loads((tmp_path / "elsewhere" / "mavl.json").read_text())["text"]["encoder"]


def test_another_text_encoder_takes_the_place_of_the_former(tmp_path):
    for seed in (0, 0, 1):
        encoder = write_random_bert(tmp_path / f"drawn{seed}", ["edema"], seed=seed, width=32, layers=1)
        save(tmp_path / "best", build(), text=TEXT | {"encoder": str(encoder)})
        kept = TransformerEncoder(checkpoint.load(tmp_path / "best").text["encoder"])
        assert kept.fingerprint == TransformerEncoder(str(encoder)).fingerprint
    again = checkpoint.load(tmp_path / "best")
    save(tmp_path / "best", again.model, text=again.text)  # from its own folder into it
    assert (tmp_path / "best" / "text_encoder" / "vocab.txt").exists()
    save(tmp_path / "best", build())
    assert checkpoint.load(tmp_path / "best").text["encoder"] == "some/bert"


@pytest.mark.parametrize("name", ["mavl.json", "model.safetensors", "bank.safetensors"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"best: not a model folder, {name} is missing"):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    ("name", "error"),
    [("mavl.json", CheckpointError), ("model.safetensors", CheckpointError), ("bank.safetensors", EmbeddingsError)],
)
def test_a_folder_in_place_of_a_file_is_named(folder, name, error):
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises((error, IsADirectoryError), match=name):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    ("name", "error"),
    [("mavl.json", CheckpointError), ("model.safetensors", CheckpointError), ("bank.safetensors", EmbeddingsError)],
)
@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[:-20], lambda content: b"<html>" * 9])
def test_a_damaged_file_is_named(folder, name, error, damage):
    (folder / name).write_bytes(damage((folder / name).read_bytes()))
    with pytest.raises(error, match=f"{name}: (damaged|not JSON|it is empty|it is a web page)"):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"format": 2}, "format 2; this version reads 1"),
        ({"format": None}, "format None; this version reads 1"),
        ({"model": ARGUMENTS | {"slots": 3}}, "model.slots = 3: "),
    ],
)
def test_a_folder_of_another_version_is_refused(folder, change, complaint):
    about = json.loads((folder / "mavl.json").read_text())
    (folder / "mavl.json").write_text(json.dumps(about | change))
    with pytest.raises(CheckpointError, match=rf"best(/mavl\.json)?: .*{complaint}"):
        checkpoint.load(folder)


@pytest.mark.parametrize("content", ["[]", '{"format": 1}', "3"])
def test_a_json_of_something_else_is_refused(folder, content):
    (folder / "mavl.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"mavl\.json: (format '(list|int)'|.*findings: .*; model: .*; text: )"):
        checkpoint.load(folder)


def test_weights_that_do_not_fit_the_description_are_refused(folder):
    about = json.loads((folder / "mavl.json").read_text())
    (folder / "mavl.json").write_text(json.dumps(about | {"model": ARGUMENTS | {"layers": 2}}))
    with pytest.raises(CheckpointError, match=r"best: does not fit the model: missing decoder\.layers\.1\."):
        checkpoint.load(folder)


def test_only_a_source_that_names_the_hub_is_asked_for_there(monkeypatch, tmp_path):
    """A mistyped folder of two parts looks like the id of a model."""
    asked = []
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name: asked.append(name) or str(tmp_path / "none"))
    for source in ("runs/bset", "nobody/has-this-model", str(tmp_path / "none")):
        with pytest.raises(CheckpointError, match=rf"^{source}: no such file or folder; .* hf://OWNER/NAME$"):
            checkpoint.load(source)
    assert asked == []
    with pytest.raises(CheckpointError, match="none: not a model folder"):
        checkpoint.load("hf://somebody/a-model")
    assert asked == ["somebody/a-model"]
    monkeypatch.undo()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=r"^hf://nobody/has-this: not available from the hub \(\w+\)$"):
        checkpoint.load("hf://nobody/has-this")


@pytest.mark.parametrize(
    ("keys", "value", "complaint"),
    [
        ("model", None, "model = null: expected a section"),
        ("model", [], "model = .*expected a section"),
        ("model.backbone", 3, "model.backbone = 3: expected text"),
        ("model.backbone", "resnet19", "resnet19"),
        ("model.aspects", [], "model.aspects = "),
        ("model.aspects", ["shade"], "model.aspects.0 = .shade."),
        ("model.width", "32", "model.width = .32.: expected a whole number"),
        ("model.width", -32, "model.width = -32"),
        ("model.width", 10**12, "model.width = "),
        ("model.heads", 3, "model.*: width 16 is not divisible by heads 3"),
        ("model.layers", 10**9, "model.layers = "),
        ("model.dropout", 1.5, "model.dropout = 1.5"),
        ("model.image_size", 0, "model.image_size = 0"),
        ("model.text_width", None, "model.text_width = null"),
        ("model.self_attention", "yes", "model.self_attention = .yes.: expected true or false"),
        ("findings", [], "findings = "),
        ("findings", "edema", "findings = .edema.: expected a list"),
        ("findings", [1, 2], "findings.0 = 1: expected text"),
        ("text", "bert", "text = .bert.: expected a section"),
        ("text.encoder", None, "text.encoder = null: expected text"),
        ("text.max_length", 0, "text.max_length = 0"),
        ("kind", "poodle", "a model of kind 'poodle'; known are mavl, classifier, segmenter"),
        ("kind", ["mavl"], "a model of kind"),
        ("trained_on", {"kind": "paintings", "list": "x", "images": 3}, "trained_on.kind = .paintings."),
        ("preprocessing", {"image_size": -1}, "preprocessing.*image_size"),
        ("preprocessing", {"std": [0, 0, 0]}, "preprocessing: .*std"),
        ("findings", ["edema", "edema", "mass"], "findings named twice: edema"),
        ("aspects", list(ASPECTS[::-1]), "aspects are .*, model.aspects "),
        ("preprocessing", {"image_size": 65}, "preprocessing.image_size is 65, model.image_size 64"),
        ("preprocessing", "grey", "preprocessing = .grey.: expected a section"),
    ],
)
def test_a_damaged_description_is_an_error_of_one_line(folder, keys, value, complaint):
    about = json.loads((folder / "mavl.json").read_text())
    *sections, key = keys.split(".")
    section = about
    for name in sections:
        section = section[name]
    section[key] = value
    (folder / "mavl.json").write_text(json.dumps(about))
    with pytest.raises((CheckpointError, BackboneError)) as caught:
        checkpoint.load(folder)
    assert re.search(complaint, str(caught.value)), str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert "mavl.json" in str(caught.value) or "best: " in str(caught.value)


def test_nesting_without_end_is_refused(folder):
    (folder / "mavl.json").write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match=r"mavl\.json: more than 100 levels .*; copy it again$"):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ('"findings": [', '"findings": ["scar"], "findings": [', "'findings' is twice in one object"),
        ('"heads": 2', '"dropout": NaN', "NaN is not a finite number"),
    ],
)
def test_a_description_with_a_repeated_key_or_a_nan_is_refused(folder, before, after, complaint):
    content = (folder / "mavl.json").read_text()
    assert before in content
    (folder / "mavl.json").write_text(content.replace(before, after))
    with pytest.raises(CheckpointError, match=rf"^\S+best/mavl\.json: {complaint}.*; copy it again$"):
        checkpoint.load(folder)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused_by_name(folder, bad):
    model = build()
    with torch.no_grad():
        model.presence_head.bias[1] = bad
    save(folder, model)
    with pytest.raises(CheckpointError, match=r"best: .*NaN or infinite values in presence_head\.bias \(1\)$"):
        checkpoint.load(folder)


def test_a_folder_says_what_its_model_was_trained_on(folder, tmp_path):
    """One of an older version does not, and loads."""
    assert checkpoint.load(folder).trained_on is None
    trained_on = {"kind": "films", "list": "train.json", "images": 12}
    checkpoint.save(tmp_path, build(), ARGUMENTS, draw_bank(), TEXT, {}, {}, trained_on)
    assert checkpoint.load(tmp_path).trained_on == trained_on
    about = json.loads((tmp_path / "mavl.json").read_text())
    del about["trained_on"]
    (tmp_path / "mavl.json").write_text(json.dumps(about))
    assert checkpoint.load(tmp_path).trained_on is None


def test_a_file_of_weights_alone_points_to_its_folder(folder):
    with pytest.raises(CheckpointError, match=r"model\.safetensors: give the folder that holds it"):
        checkpoint.load(folder / "model.safetensors")


def test_the_folder_of_a_run_points_to_its_best_model(folder):
    with pytest.raises(CheckpointError, match=r"run: the folder of a run, not of a model; its best one is .*run/best"):
        checkpoint.load(folder.parent)


def test_the_vocabulary_of_a_folder_is_that_of_its_bank(tmp_path):
    embeddings = replace(draw_bank(), findings=("covid19", "normal", "clear"))
    loaded = checkpoint.load(save(tmp_path, build(), embeddings))
    assert loaded.findings == loaded.embeddings.findings == ("covid19", "normal", "clear")


@pytest.mark.parametrize("findings", [("normal", "edema", "mass"), ("edema", "normal"), ("edema", "normal", "scar")])
def test_text_embeddings_of_other_findings_are_refused(folder, findings):
    """Their vectors would be read under the names of the description."""
    draw_bank(findings=findings).save(folder / "bank.safetensors")
    with pytest.raises(CheckpointError, match=r"^\S+best: the findings of mavl\.json and of bank\.safetensors differ"):
        checkpoint.load(folder)


def test_text_embeddings_with_aspects_in_another_order_are_refused(folder):
    replace(draw_bank(), aspects=ASPECTS[::-1]).save(folder / "bank.safetensors")
    with pytest.raises(CheckpointError, match=rf"aspects .* differ, first '{ASPECTS[0]}' and '{ASPECTS[-1]}'"):
        checkpoint.load(folder)


@pytest.mark.parametrize("key", ["aspects", "preprocessing"])
def test_an_older_folder_without_the_key_loads(folder, key):
    about = json.loads((folder / "mavl.json").read_text())
    del about[key]
    (folder / "mavl.json").write_text(json.dumps(about))
    assert equal(checkpoint.load(folder).model, build())
    assert checkpoint.load(folder).model.preprocessing.image_size == 64


def test_a_link_in_place_of_a_model_folder_is_not_followed(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "best").symlink_to(tmp_path / "other")
    with pytest.raises(OutsideError, match=r"run/best is a link to \S+other: remove it"):
        save(tmp_path / "run" / "best", build())
    assert list((tmp_path / "other").iterdir()) == []


@pytest.mark.parametrize("name", ["../..", "../encoder", "text_encoder/../../encoder", "bert:../encoder"])
def test_a_text_encoder_outside_of_the_folder_is_refused(folder, name):
    about = json.loads((folder / "mavl.json").read_text())
    (folder / "mavl.json").write_text(json.dumps(about | {"text": TEXT | {"encoder": name}}))
    with pytest.raises(CheckpointError, match=rf"best/mavl\.json: text\.encoder: '{name.removeprefix('bert:')}' is no"):
        checkpoint.load(folder)


@pytest.mark.parametrize("name", ["some/bert", "bert:some/bert", "/models/bert", "bert:/models/bert"])
def test_the_name_of_a_text_encoder_elsewhere_stays(folder, name):
    save(folder, build(), text=TEXT | {"encoder": name})
    assert checkpoint.load(folder).text["encoder"] == name


def test_a_text_encoder_in_a_folder_is_copied_with_a_prefix_too(tmp_path):
    encoder = write_random_bert(tmp_path / "drawn", ["edema"], seed=0, width=32, layers=1)
    save(tmp_path / "best", build(), text=TEXT | {"encoder": f"bert:{encoder}"})
    assert checkpoint.load(tmp_path / "best").text["encoder"] == str(tmp_path / "best" / "text_encoder")
