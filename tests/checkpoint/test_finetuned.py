"""Fine-tuned models on disk and asked: folders, released names, scores, and shares that sum to the logit."""

import json
from inspect import Parameter, signature

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

import mavl
from mavl.backbones import Preprocessing
from mavl.checkpoint import finetuned
from mavl.checkpoint.about import ClassifierArguments, MAVLArguments
from mavl.checkpoint.folder import CheckpointError
from mavl.config.finetune import UNetModel
from mavl.data.images.grey import equalize_histogram
from mavl.data.images.read import read_image
from mavl.data.images.transforms import eval_transform
from mavl.files import OutsideError
from mavl.model.classifier import Classifier
from mavl.model.mavl import MAVL
from mavl.model.unet import UNet
from mavl.predict.classifier import AGAINST, FOR
from mavl.predict.files import write_predictions
from tests.support import tiny

FINDINGS = ("pneumonia", "effusion", "cardiomegaly")


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(0)
    model = Classifier(backbone="resnet18", image_size=64, classes=3, layer4=False)
    with torch.no_grad():
        model.head.weight.mul_(20)
        model.head.bias.copy_(torch.tensor([0.5, -1.0, 0.0]))
    return model.eval()


def write(folder, model, equalize=False):
    arguments = {"backbone": "resnet18", "classes": 3, "layer4": False}
    finetuned.save(folder, "classifier", model, arguments, FINDINGS, equalize, {"epoch": 3}, {"seeds": [0]})
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory, classifier):
    return write(tmp_path_factory.mktemp("classifier"), classifier)


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    return tiny.write_films(tmp_path_factory.mktemp("films"))


# On disk --------------------------------------------------------------------------------------------------------------


def test_a_folder_gives_the_model_back(folder, classifier):
    loaded = finetuned.load(folder)
    assert finetuned.source_kind(folder) == loaded.kind == "classifier"
    assert (loaded.findings, loaded.equalize) == (FINDINGS, False)
    assert loaded.model.preprocessing == Preprocessing(64)
    assert loaded.about["state"] == {"epoch": 3}
    assert loaded.about["provenance"]["packages"]["torch"]
    assert not loaded.model.training
    for name, value in classifier.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], value)


@pytest.mark.parametrize(
    ("schema", "network"), [(MAVLArguments, MAVL), (ClassifierArguments, Classifier), (UNetModel, UNet)]
)
def test_an_argument_that_a_folder_leaves_out_has_the_default_of_the_network(schema, network):
    parameters = signature(network).parameters.values()
    defaults = {one.name: one.default for one in parameters if one.default is not Parameter.empty}
    assert defaults.items() <= schema().model_dump().items()


def test_a_pretrained_folder_is_no_fine_tuned_one(tmp_path):
    with pytest.raises(CheckpointError, match="a model of kind 'mavl'; expected classifier or segmenter"):
        finetuned.load(tiny.write_model(tmp_path))


def test_a_damaged_folder_is_named(tmp_path, classifier):
    write(tmp_path / "a", classifier)
    about = json.loads((tmp_path / "a/mavl.json").read_text())
    two = about | {"findings": ["pneumonia", "effusion"]}
    (tmp_path / "a/mavl.json").write_text(json.dumps(two | {"model": {"backbone": "resnet18", "classes": 2}}))
    with pytest.raises(CheckpointError, match=r"misshapen head\.weight \(3, 256\) for \(2, 512\)"):
        finetuned.load(tmp_path / "a")
    (tmp_path / "a/mavl.json").write_text(json.dumps(about | {"model": {"classes": 3, "depth": 9}}))
    with pytest.raises(CheckpointError, match="depth"):
        finetuned.load(tmp_path / "a")
    (tmp_path / "a/mavl.json").write_text(json.dumps(about))
    (tmp_path / "a/model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"not a model folder, model\.safetensors is missing"):
        finetuned.load(tmp_path / "a")


@pytest.mark.parametrize(
    ("findings", "complaint"),
    [
        (["a", "b"], "findings names 2 outputs, the model has 3 outputs"),
        (["a", "a", "b"], "findings named twice: a"),
        (["a", "b", "c", "d"], "findings names 4 outputs, the model has 3 outputs"),
    ],
)
def test_each_output_has_a_name_of_its_own(tmp_path, classifier, findings, complaint):
    write(tmp_path / "a", classifier)
    about = json.loads((tmp_path / "a/mavl.json").read_text())
    (tmp_path / "a/mavl.json").write_text(json.dumps(about | {"findings": findings}))
    with pytest.raises(CheckpointError, match=rf"a/mavl\.json: .*{complaint}") as caught:
        finetuned.load(tmp_path / "a")
    assert "\n" not in str(caught.value)


def test_a_link_in_place_of_a_model_folder_is_not_followed(tmp_path, classifier):
    (tmp_path / "other").mkdir()
    (tmp_path / "best").symlink_to(tmp_path / "other")
    with pytest.raises(OutsideError, match="best is a link to"):
        write(tmp_path / "best", classifier)
    assert list((tmp_path / "other").iterdir()) == []


def test_a_folder_says_what_its_model_was_trained_on(tmp_path, classifier):
    write(tmp_path / "a", classifier)
    assert finetuned.load(tmp_path / "a").trained_on is None
    about = json.loads((tmp_path / "a/mavl.json").read_text())
    trained_on = {"kind": "phantom drawings", "list": "phantoms", "images": 12}
    (tmp_path / "a/mavl.json").write_text(json.dumps(about | {"trained_on": trained_on}))
    assert finetuned.load(tmp_path / "a").trained_on == trained_on


# Released names -------------------------------------------------------------------------------------------------------

MODULES = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}


def released(reference: torchvision.models.ResNet, backbone: str, head: str, numbered: bool) -> dict:
    state = {}
    for name, value in reference.state_dict().items():
        module, _, rest = name.partition(".")
        place = head if module == "fc" else f"{backbone}{MODULES[module] if numbered else module}"
        state[f"module.{place}.{rest}"] = value
    return state


@pytest.mark.parametrize(
    ("backbone", "head", "numbered"),
    [
        ("backbone.", "out", True),
        ("res_features.", "res_out", True),
        ("", "fc", False),
        ("backbone.", "classifier", False),
    ],
)
def test_released_names(tmp_path, backbone, head, numbered):
    torch.manual_seed(0)
    reference = torchvision.models.resnet18(weights=None, num_classes=5).eval()
    content = {"model": released(reference, backbone, head, numbered), "config": {"image_res": 224}, "epoch": 7}
    torch.save(content, tmp_path / "best_valid.pth")
    loaded = finetuned.load(tmp_path / "best_valid.pth")
    assert (loaded.kind, loaded.model.preprocessing) == ("classifier", Preprocessing())
    assert loaded.findings == ("class 1", "class 2", "class 3", "class 4", "class 5")
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(images), reference(images))


def test_released_files_load_strictly(tmp_path):
    state = released(torchvision.models.resnet18(weights=None), "backbone.", "out", True)
    state["module.backbone.9.weight"] = state.pop("module.backbone.7.0.bn1.bias")
    torch.save({"model": state}, tmp_path / "odd.pth")
    with pytest.raises(
        CheckpointError, match=r"missing backbone\.layer4\.0\.bn1\.bias \(1\); unexpected backbone\.9\.weight"
    ):
        finetuned.load(tmp_path / "odd.pth")


# Asked ----------------------------------------------------------------------------------------------------------------


def test_scores_and_shares_are_the_models(folder, films, classifier):
    predictor = mavl.load(folder, device="cpu")
    assert predictor.vocabulary == FINDINGS
    [prediction] = predictor.predict(films / "grey.png", ["enlarged heart", "pneumonia"])
    assert prediction.findings == ("cardiomegaly", "pneumonia")
    pixels = eval_transform(Preprocessing(64))(read_image(films / "grey.png"))[None]
    with torch.no_grad():
        logits = classifier(pixels)[0]
    np.testing.assert_allclose(prediction.supervised, logits[[2, 0]].sigmoid(), atol=1e-6)
    assert prediction.contrastive is None
    explanation = prediction.explanations["pneumonia"]
    assert explanation.aspects == (FOR, AGAINST)
    assert explanation.logit_difference == pytest.approx(logits[0].item(), abs=1e-5)
    assert explanation.bias == 0.5
    assert explanation.shares[0] >= 0 >= explanation.shares[1] - 1e-6
    torch.testing.assert_close(explanation.aspect_heatmaps.sum(dim=(1, 2)), torch.ones(2))


def test_images_are_shown_as_in_training(tmp_path, films, classifier):
    predictor = mavl.load(write(tmp_path, classifier, equalize=True), device="cpu")
    [prediction] = predictor.predict(films / "deep.png")
    equalized = Image.fromarray(equalize_histogram(np.asarray(read_image(films / "deep.png"))))
    with torch.no_grad():
        scores = classifier(eval_transform(Preprocessing(64))(equalized)[None])[0].sigmoid()
    np.testing.assert_allclose(prediction.supervised, scores, atol=1e-6)


def test_findings_it_was_not_trained_on_and_books_are_refused(folder):
    predictor = mavl.load(folder, device="cpu")
    with pytest.raises(KeyError, match="'hernia'"):
        predictor.request("hernia")
    for given in ({"books": "b.json"}, {"descriptions": ["b.json"]}, {"aspects": ["b.json"]}, {"text_encoder": "bert"}):
        with pytest.raises(CheckpointError, match="has findings of its own and takes no books and no text encoder"):
            mavl.load(folder, **given)


def test_files_of_a_prediction(folder, films, tmp_path):
    predictor = mavl.load(folder, device="cpu")
    written = write_predictions(predictor, predictor.request(), [films / "grey.png"], tmp_path)
    assert written.images == 1
    assert {path.name for path in (tmp_path / "overlays").iterdir()} == {f"grey__{name}.png" for name in FINDINGS}
    told = json.loads((tmp_path / "predictions.json").read_text())
    assert told["about"]["kind"] == "classifier"
    html = (tmp_path / "predictions.html").read_text()
    assert "patches against it" in html
    assert "supervised head" not in html
