"""Released checkpoints: every parameter lands where it belongs, and what does not fit is refused by name."""

import json
import pickle
import zlib
from pathlib import Path

import pytest
import torch

from mavl import checkpoint
from mavl.checkpoint.released import CheckpointError, check_state, convert, convert_names, non_finite, read_checkpoint
from mavl.checkpoint.released import build as build_network
from mavl.model.mavl import MAVL
from mavl.vocab import ASPECTS, FINDINGS
from tests.support.released_files import build, released

NAMES = {  # released: this project's
    "temp": "logit_scale",
    "disease_embedding_layer.bias": "query_projection.bias",
    "backbone.0.weight": "backbone.conv1.weight",
    "backbone.1.running_var": "backbone.bn1.running_var",
    "backbone.4.0.downsample.0.weight": "backbone.layer1.0.downsample.0.weight",
    "backbone.5.1.bn2.bias": "backbone.layer2.1.bn2.bias",
    "module.backbone.6.0.conv1.weight": "backbone.layer3.0.conv1.weight",
    "pool.q_proj.weight": "pool.q_proj.weight",
    "res_l1.0.weight": "grid_projection.0.weight",
    "res_l1.1.weight": "grid_projection.1.weight",
    "res_l2.bias": "grid_projection.2.bias",
    "decoder.layers.3.self_attn.in_proj_weight": "decoder.layers.3.self_attn.in_proj_weight",
    "decoder.layers.0.multihead_attn.out_proj.bias": "decoder.layers.0.cross_attn.out_proj.bias",
    "decoder.layers.1.norm3.weight": "decoder.layers.1.norm3.weight",
    "decoder.norm.weight": "decoder.norm.weight",
    "location_emb.weight": "location_head.weight",
    "classifier.bias": "presence_head.bias",
    "global_l.weight": "pool.weight",
    "backbone.class_token": "backbone.vit.class_token",
    "backbone.conv_proj.weight": "backbone.vit.conv_proj.weight",
    "backbone.encoder.layers.encoder_layer_0.ln_1.weight": "backbone.vit.encoder.layers.encoder_layer_0.ln_1.weight",
    "backbone.cls_token": "backbone.vit.cls_token",
    "backbone.reg_token": "backbone.vit.reg_token",
    "backbone.blocks.9.norm1.bias": "backbone.vit.blocks.9.norm1.bias",
    "backbone.norm.weight": "backbone.vit.norm.weight",
    "res_features.4.0.bn1.weight": "backbone.layer1.0.bn1.weight",  # MedKLIP from here on
    "res_l1.weight": "grid_projection.0.weight",
    "cl_fc.bias": "location_head.bias",
}


def mark(name: str) -> float:
    """A number of its own for every parameter name."""
    return zlib.crc32(name.encode()) / 2**32


def marked(file: Path) -> dict[str, torch.Tensor]:
    """Every parameter of a golden's list, filled with its mark; stored as one number each."""
    shapes = json.loads(file.read_text())["shapes"]
    return {name: torch.tensor(mark(name)).expand(shape) for name, shape in shapes.items()}


def rebuild(state: dict, config: dict) -> tuple[dict, MAVL]:
    """The arguments and the network of a file with these parameters."""
    kind, arguments, weights = convert(state, config, "file")
    return arguments, build_network(kind, arguments, weights, "file")


@pytest.fixture(scope="module")
def resnet() -> tuple[MAVL, dict[str, torch.Tensor]]:
    return build()


def test_names_are_translated_one_for_one():
    assert dict(zip(NAMES, convert_names(NAMES), strict=True)) == NAMES


@pytest.mark.parametrize(
    ("golden", "backbone", "aspects", "made"),
    [
        ("train", "resnet50", ASPECTS, set()),
        ("vit", "vit_b_16", ASPECTS, {"logit_scale"}),  # its list is that of a model made for testing
        ("medklip", "resnet50", ("description",), {"grid_projection.1.weight"}),  # the ReLU
    ],
)
def test_every_released_kind_loads_whole(shared, tmp_path, golden, backbone, aspects, made):
    state = marked(shared(f"goldens/{golden}.json"))
    pretrained = checkpoint.load(released(state, tmp_path / "checkpoint_full_46.pth", text_encoder="some/bert"))
    arguments = pretrained.about["model"]
    assert (arguments["backbone"], tuple(arguments["aspects"]), arguments["layers"]) == (backbone, aspects, 4)
    assert (arguments["width"], arguments["text_width"], arguments["feedforward"]) == (256, 768, 1024)
    loaded = pretrained.model.state_dict()
    names = dict(zip(state, convert_names(state), strict=True))
    assert set(loaded) == set(names.values()) | made
    wrong = [n for n in state if n[-7:] != "tracked" and not torch.equal(loaded[names[n]].unique(), state[n].unique())]
    assert wrong == []
    assert golden != "medklip" or loaded["grid_projection.1.weight"].item() == 0
    assert (pretrained.embeddings, pretrained.findings, pretrained.text["encoder"]) == (None, FINDINGS, "some/bert")
    assert (pretrained.text["sep"], pretrained.text["max_length"]) == (False, 128)
    assert not pretrained.model.training


@pytest.mark.parametrize("backbone", ["resnet18", "timm:test_vit", "timm:test_vit@3", "timm:test_vit2@1"])
def test_a_converted_model_computes_what_it_did(tmp_path, backbone):
    model, state = build(backbone)
    block = backbone.partition("@")[2]
    name = backbone.partition("@")[0].replace("timm:", "timm-")
    config = {"base_model": name} | ({"layers": [f"blocks.{block}"]} if block else {})
    path = released(state, tmp_path / "model.pth", **config)
    loaded = checkpoint.load(path)
    assert loaded.about["model"]["backbone"] == backbone
    images, text = torch.randn(1, 3, 64, 64), torch.randn(3, 9, 12)
    with torch.no_grad():
        expected, actual = model(images, text), loaded.model(images, text)
    assert torch.equal(actual.presence_logits, expected.presence_logits)
    assert torch.equal(actual.cosine, expected.cosine)


def test_the_config_says_what_shapes_cannot(tmp_path, resnet):
    arguments, _ = rebuild(resnet[1], {"H": 8, "dropout": 0.25, "N": 2})
    assert (arguments["heads"], arguments["feature_dropout"], arguments["layers"]) == (8, 0.25, 2)
    with pytest.raises(CheckpointError, match=r"missing decoder\.layers\.2\.norm1\.weight.* \(18\)"):
        rebuild(resnet[1], {"N": 3})


def test_a_file_made_for_testing_may_lack_the_temperature(resnet):
    state = {name: value for name, value in resnet[1].items() if name != "temp"}
    _, model = rebuild(state, {})
    torch.testing.assert_close(model.logit_scale, torch.full((9,), 2.65926))


def test_a_vit_may_carry_the_classifier_of_its_library():
    _, state = build("timm:test_vit")
    extra = {"backbone.head.weight": torch.zeros(1000, 64), "backbone.heads.head.bias": torch.zeros(1000)}
    _, model = rebuild(state | extra, {"base_model": "timm-test_vit"})
    assert not [name for name in model.state_dict() if "head." in name and name.startswith("backbone")]


def test_a_timm_vit_without_its_name_is_refused():
    with pytest.raises(CheckpointError, match="file: a timm ViT, but no config with its base_model"):
        rebuild(build("timm:test_vit")[1], {})


@pytest.mark.parametrize(
    "name",
    [
        "classifier.weight",
        "res_l2.bias",
        "backbone.1.running_mean",
        "pool.c_proj.bias",
        "disease_embedding_layer.weight",
    ],
)
def test_what_is_missing_or_misshapen_is_named(resnet, name):
    state = dict(resnet[1])
    ours = convert_names([name])[0].replace(".", r"\.")
    value = state.pop(name)
    with pytest.raises(CheckpointError, match=f"file: .*missing {ours}"):
        rebuild(state, {})
    with pytest.raises(CheckpointError, match=ours):
        rebuild(state | {name: torch.zeros((*value.shape, 2))}, {})


def test_what_is_unexpected_is_named(resnet):
    with pytest.raises(CheckpointError, match=r"does not fit the model: unexpected extra\.weight \(1\)$"):
        rebuild(resnet[1] | {"extra.weight": torch.zeros(1)}, {})


def test_another_number_of_aspects_is_refused(resnet):
    state = resnet[1] | {"classifier.weight": torch.zeros(2, 16 * 8)}
    with pytest.raises(CheckpointError, match="classifier of 8 aspects a finding; known are 1 and 9"):
        rebuild(state, {})


def test_a_model_without_decoder_layers_is_refused(resnet):
    state = {name: value for name, value in resnet[1].items() if "layers" not in name}
    with pytest.raises(CheckpointError, match=r"missing decoder\.layers\.0\."):
        rebuild(state, {})


class Code:
    """Unpickled, it makes a file."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, 2))])
def test_code_in_a_pickle_is_not_run(tmp_path, write):
    marker, path = tmp_path / "marker", tmp_path / "stranger.pth"
    write({"model": {"temp": torch.ones(9)}, "config": Code(marker)}, path)
    with pytest.raises(CheckpointError, match=r"stranger\.pth: not a checkpoint that can be read safely"):
        checkpoint.load(path)
    assert not marker.exists()
    torch.load(path, weights_only=False) if write is torch.save else pickle.loads(path.read_bytes())
    assert marker.exists()  # it was a live one


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (
            b"<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded",
            "it is a web page, not a checkpoint: download",
        ),
        (b"\n <HTML><body>404</body></HTML>", "it is a web page, not a checkpoint: download it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\n", "it is a pointer of Git LFS"),
        (b"", "it is empty: download it again"),
    ],
)
def test_what_a_file_is_instead_is_said(tmp_path, content, what):
    (tmp_path / "file.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"file\.pth: {what}"):
        checkpoint.load(tmp_path / "file.pth")


def test_the_quota_page_of_google_drive_is_named(shared):
    path = shared("cases/checkpoint_is_html/html.pth")
    with pytest.raises(CheckpointError, match=r"html\.pth: it is a web page, not a checkpoint: download it again$"):
        checkpoint.load(path)


@pytest.mark.parametrize(
    "config",
    [
        {"H": "x"},
        {"N": -1},
        {"N": 10**9},
        {"H": 3},
        {"H": 0},
        {"dropout": "a"},
        {"dropout": 7},
        {"text_encoder": 3},
        [1],
        7,
    ],
)
def test_a_config_that_does_not_fit_is_an_error_of_one_line(tmp_path, resnet, config):
    torch.save({"model": resnet[1], "config": config}, tmp_path / "file.pth")
    with pytest.raises(CheckpointError, match=r"^\S+file\.pth: .*$"):
        checkpoint.load(tmp_path / "file.pth")


@pytest.mark.parametrize("name", ["disease_embedding_layer.weight", "classifier.weight", "location_emb.weight", "temp"])
@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (3,)])
def test_parameters_of_any_shape_are_an_error_of_one_line(tmp_path, resnet, name, shape):
    torch.save({"model": resnet[1] | {name: torch.zeros(shape)}}, tmp_path / "file.pth")
    with pytest.raises(CheckpointError, match=r"^\S+file\.pth: .*$"):
        checkpoint.load(tmp_path / "file.pth")


@pytest.mark.parametrize("content", [b"a text file\n", b"PK\x03\x04cut off", b"\x80\x02."])
def test_a_file_that_is_no_checkpoint_is_named(tmp_path, content):
    path = tmp_path / "file.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"file\.pth: not a checkpoint that can be read safely") as caught:
        checkpoint.load(path)
    assert "weights_only" not in str(caught.value)  # torch's advice, which would run the file's code


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ([torch.ones(2)], "holds a list, not a checkpoint's dictionary"),
        (torch.ones(2), "holds a Tensor, not a checkpoint's dictionary"),
        ({}, "no parameters under 'model'; it holds nothing"),
        ({"epoch": 3, "model": {}}, "no parameters under 'model'; it holds epoch, model"),
        ({"model": {"epoch": 3}}, "no parameters under 'model'"),
        ({"model": {"weight": torch.ones(2)}}, "not a released MAVL or MedKLIP checkpoint: missing query_projection"),
    ],
)
def test_a_checkpoint_of_something_else_is_named(tmp_path, content, complaint):
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(CheckpointError, match=rf"file\.pth: {complaint}"):
        checkpoint.load(tmp_path / "file.pth")


def test_a_bare_state_dict_is_read_too(tmp_path, resnet):
    torch.save(resnet[1], tmp_path / "state.pth")
    state, config = read_checkpoint(tmp_path / "state.pth")
    assert (set(state), config) == (set(resnet[1]), {})


def test_what_does_not_fit_is_counted_and_its_first_six_are_named():
    letters, one = "abcdefg", torch.zeros(1)
    wanted = dict.fromkeys(letters, one)
    check_state(wanted, wanted, "x.pth")
    with pytest.raises(CheckpointError, match=r"^x\.pth: does not fit the model: missing a, b, c, d, e, f \(6\)$"):
        check_state({"g": one}, wanted, "x.pth")
    complaint = r"missing a, b, c, d, e, f … \(7\); unexpected h \(1\)$"
    with pytest.raises(CheckpointError, match=complaint):
        check_state({"h": one}, wanted, "x.pth")
    with pytest.raises(CheckpointError, match=r"misshapen b \(2, 3\) for \(1,\) \(1\)$"):
        check_state(wanted | {"b": torch.zeros(2, 3)}, wanted, "x.pth")


def test_tensors_with_nan_or_an_infinite_value_are_named():
    damaged = {"a": torch.tensor([0.0, float("nan")]), "b": torch.ones(2), "c": torch.tensor([-float("inf")])}
    assert non_finite(damaged) == "a, c (2)"
    assert non_finite({"b": damaged["b"], "n": torch.tensor(3)}) == ""
    with pytest.raises(CheckpointError, match=r"x\.pth: damaged.*: NaN or infinite values in a, c \(2\)$"):
        check_state(damaged, damaged, "x.pth")
