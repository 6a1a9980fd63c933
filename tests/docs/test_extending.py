"""Every recipe of docs/extending.md, followed."""

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from PIL import Image
from torch import nn

from mavl import backbones, checkpoint, scorers
from mavl.backbones import BackboneError, Preprocessing
from mavl.backbones.weights import load_pretrained
from mavl.config.evaluation import GroundingSettings, ZeroShotSettings
from mavl.config.loader import load
from mavl.config.settings import PretrainSettings
from mavl.data.benchmarks.benchmark import Benchmark, read_split
from mavl.data.images.transforms import eval_transform
from mavl.evaluate import classification, grounding
from mavl.metrics import classification as classification_metrics
from mavl.metrics.metric import Metric
from mavl.model import MAVL, losses
from mavl.prepare import reports
from mavl.prepare.reports.protocol import Mention
from mavl.scorers.mavl import model_embeddings
from mavl.text import encoder as encoders
from mavl.text.books import Books
from mavl.text.embeddings import TextEmbeddings, build_embeddings
from mavl.text.protocol import TextEncoderError
from mavl.train.pretrain import build_model, text_embeddings
from mavl.vocab import ANATOMIES
from tests.support.reports import COLUMNS, prepare, read_table, write_csv

ASPECTS = ("description", "shape")
SIZES = {"image_size": 32, "text_width": 4, "width": 8, "layers": 1, "heads": 2, "feedforward": 8, "aspects": ASPECTS}


@pytest.fixture(autouse=True)
def _fresh_accelerator():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


# A backbone -----------------------------------------------------------------------------------------------------------


class LoadedViT(nn.Module):
    """Like a model of Hugging Face: its weights are loaded in the constructor."""

    channels, stride, offset, has_class_token = 6, 8, 3.5, True

    def __init__(self, name: str, image_size: int):
        super().__init__()
        self.preprocessing = Preprocessing(image_size, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), "bicubic")
        self.vit = nn.Sequential(nn.Linear(3 * 8 * 8, 6), nn.Linear(6, 6))
        for parameter in self.vit.parameters():
            nn.init.constant_(parameter, float(name))

    @property
    def weights(self):
        return self.vit

    def forward(self, images):
        patches = nn.functional.unfold(images, 8, stride=8).mT
        tokens = self.vit(patches)
        side = images.shape[-1] // 8
        return tokens.mT.unflatten(-1, (side, side)), tokens.mean(dim=1)


def test_a_backbone_keeps_the_weights_that_it_loads_and_its_preprocessing(monkeypatch, tmp_path):
    monkeypatch.setitem(backbones.LIBRARIES, "toy", LoadedViT)
    arguments = {"backbone": "toy:0.125", **SIZES}
    model = MAVL(**arguments)
    assert all((parameter == 0.125).all() for parameter in model.backbone.parameters())
    text = TextEmbeddings(("mass",), ASPECTS, torch.zeros(1, 2, 4), torch.zeros(51, 4), {"books": {}})
    checkpoint.save(tmp_path / "model", model, arguments, text, {"encoder": "x"}, {}, {})
    loaded = checkpoint.load(tmp_path / "model").model
    assert loaded.preprocessing == Preprocessing(32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), "bicubic")
    assert all((parameter == 0.125).all() for parameter in loaded.backbone.parameters())
    white = eval_transform(loaded.preprocessing)(Image.new("L", (50, 40), 255))
    assert white.shape == (3, 32, 32)
    assert (white == 2).all()  # (1 - 0.5) / 0.25
    assert loaded(white[None], text.vectors).grid.shape == (1, 8, 4, 4)


def test_a_backbone_is_trained_from_its_own_weights_without_those_of_imagenet(monkeypatch):
    monkeypatch.setitem(backbones.LIBRARIES, "toy", LoadedViT)
    settings = PretrainSettings.model_validate({"init": {"backbone": "none"}, "data": {"source": "phantom"}})
    model = build_model({"backbone": "toy:0.125", **SIZES}, settings, Accelerator(cpu=True))
    assert all((parameter == 0.125).all() for parameter in model.backbone.parameters())
    with pytest.raises(BackboneError, match=r"^imagenet: no such weights are known for toy:0.125: set init.backbone"):
        load_pretrained(model.backbone, "toy:0.125", "imagenet")


# A text encoder -------------------------------------------------------------------------------------------------------


@dataclass
class Lengths:
    """The vector of a sentence is its number of words, four times."""

    name: str
    times: float = 1.0

    @property
    def tokenisation(self):
        return {"times": self.times}

    @property
    def fingerprint(self):
        return "lengths"

    def encode(self, sentences, device="cpu"):
        return torch.tensor([[self.times * len(sentence.split())] * 4 for sentence in sentences])


BOOKS = Books({"mass": {"description": "a round opacity", "shape": "shape: round"}}, {"b.json": "1"})


def test_a_config_names_a_text_encoder(monkeypatch, tmp_path):
    monkeypatch.setitem(encoders.KINDS, "lengths", Lengths)
    config = {
        "text": {"encoder": "lengths:x", "cache": None},
        "findings": ["mass"],
        "model": {"aspects": ASPECTS},
        "data": {"source": "phantom"},
    }
    embeddings, stored = text_embeddings(PretrainSettings.model_validate(config), BOOKS, tmp_path)
    assert embeddings.vectors[0, :, 0].tolist() == [3, 2]
    assert stored == {"encoder": "lengths:x", "times": 1.0, "scaling": "none"}


def test_a_model_folder_of_a_text_encoder_is_given_new_findings_by_it(monkeypatch, tmp_path):
    monkeypatch.setitem(encoders.KINDS, "lengths", Lengths)
    arguments = {"backbone": "resnet18", **SIZES, "aspects": ["description"]}
    trained = build_embeddings(BOOKS, ["mass"], Lengths("x", 2.0), ["description"])
    text = {"encoder": "lengths:x", "times": 2.0}
    checkpoint.save(tmp_path / "model", MAVL(**arguments), arguments, trained, text, {}, {})
    (tmp_path / "book.json").write_text('{"nodule": "a small round opacity"}')
    books = {"descriptions": [tmp_path / "book.json"], "aspects": []}
    loaded = checkpoint.load(tmp_path / "model")
    assert model_embeddings(loaded, ["nodule"], **books).vectors[:, 0, 0].tolist() == [6, 8]
    with pytest.raises(TextEncoderError, match="text encoder lengths:x takes no max_length"):
        model_embeddings(loaded, ["nodule"], **books, max_length=64)


def test_a_text_encoder_makes_embeddings_that_are_cached_by_what_identifies_them(monkeypatch, tmp_path):
    monkeypatch.setitem(encoders.KINDS, "lengths", Lengths)
    once, twice = (encoders.load_text_encoder("lengths:x", times=times) for times in (1.0, 2.0))
    embeddings = build_embeddings(BOOKS, ["mass"], once, ASPECTS, tmp_path)
    assert embeddings.vectors[0, :, 0].tolist() == [3, 2]
    assert build_embeddings(BOOKS, ["mass"], twice, ASPECTS, tmp_path).vectors[0, :, 0].tolist() == [6, 4]
    assert embeddings.about["encoder"] == "x"


# A report labeller ----------------------------------------------------------------------------------------------------


class Capitals:
    """A finding in capitals is present in the pleura, one in small letters is absent. It reads no digits."""

    name = "capitals"

    def __init__(self, findings):
        self.findings = findings

    def label(self, reports):
        for report in reports:
            if any(letter.isdigit() for letter in report.text):
                yield "it holds a digit"
                continue
            stated = ((finding, finding.upper() in report.text) for finding in self.findings)
            yield [
                Mention(finding, "present" if loud else "absent", "pleural_unspec", report.text)
                for finding, loud in stated
                if loud or finding in report.text
            ]

    def estimate(self, reports):
        return "no cost"

    def describe(self):
        return {"alphabet": "Latin"}


def test_a_report_labeller_writes_a_label_store(monkeypatch, tmp_path):
    monkeypatch.setitem(reports.LABELLERS, "capitals", lambda arguments, findings: Capitals(findings))
    texts = ("EFFUSION, no mass", "effusion of 3 cm", "clear lungs")
    rows = [
        {"image": f"{row}.png", "study": f"s{row}", "report": text, "split": "train"} for row, text in enumerate(texts)
    ]
    findings = ("--findings", "effusion", "mass")
    prepare("--csv", write_csv(tmp_path, rows), *COLUMNS, *findings, "--labeler", "capitals", "--out", tmp_path / "out")
    labels = np.load(tmp_path / "out/landmark_observation_adj_mtx.npy")
    assert labels[:, ANATOMIES.index("pleural_unspec")].tolist() == [[1, 0], [-1, -1]]
    manifest = json.loads((tmp_path / "out/rad_graph_metric_train.json").read_text())
    assert {image: entry["labels_id"] for image, entry in manifest.items()} == {"0.png": 0, "2.png": 1}
    assert [row["detail"] for row in read_table(tmp_path / "out/problems.csv")] == ["s1: it holds a digit"]
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert (summary["labeler"], summary["alphabet"]) == ("capitals", "Latin")


# A loss ---------------------------------------------------------------------------------------------------------------


def test_a_loss_is_part_of_the_objective_and_of_the_log(monkeypatch):
    monkeypatch.setitem(losses.TERMS, "loss_size", lambda output, targets: 0.5 * output.grid.square().mean())
    model = MAVL(backbone="resnet18", **SIZES).eval()
    output = model(torch.randn(2, 3, 32, 32), torch.randn(3, 2, 4))
    targets = losses.Targets(torch.ones(2, 3), torch.arange(8).expand(2, 3, 8), torch.randn(51, 4))
    found = losses.pretraining_losses(output, targets)
    assert list(found) == ["loss", "loss_ce", "loss_cl", "loss_global", "loss_size"]
    assert found["loss_size"].item() == pytest.approx(0.5 * output.grid.square().mean().item())
    assert found["loss"].item() == pytest.approx(sum(value.item() for name, value in found.items() if name != "loss"))


# A metric -------------------------------------------------------------------------------------------------------------


def test_a_metric_is_in_the_files_of_an_evaluation(monkeypatch, benchmark, tmp_path):
    prevalence = Metric("prevalence", "prev.", "share of positives", lambda at: (at.end.positives / 8)[:, 0])
    monkeypatch.setitem(classification_metrics.METRICS, "prevalence", prevalence)
    result = classification.run(settings(ZeroShotSettings, benchmark, tmp_path, "random:1"))
    assert pd.read_csv(result.folder / "results.csv")["prevalence"].tolist() == [0.5, 0.5]
    assert json.loads((result.folder / "results.json").read_text())["classes"][0]["prevalence"]["value"] == 0.5
    assert "share of positives" in (result.folder / "report.html").read_text()


# A benchmark ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def benchmark(tmp_path):
    """A hospital's list, boxes as two corners: the even films have a mass in the upper left quarter."""
    rows = []
    for number in range(8):
        film = np.full((40, 40), 10 * number, np.uint8)
        Image.fromarray(film).save(tmp_path / f"{number}.png")
        rows.append({"file": f"{number}.png", "mass": 1 - number % 2, "box": "" if number % 2 else "0;0;20;20"})
    pd.DataFrame(rows).to_csv(tmp_path / "films.csv", index=False)
    description = {
        "name": "hospital",
        "title": "Films of a hospital",
        "root": str(tmp_path),
        "findings": ["mass"],
        "splits": {"test": "films.csv"},
        "images": {"column": "file"},
        "labels": {"kind": "columns"},
        "masks": {"kind": "boxes", "column": "box", "size": [40, 40], "box_format": "xyxy"},
    }
    (tmp_path / "hospital.yaml").write_text(yaml.safe_dump(description))
    return tmp_path / "hospital.yaml"


def settings(schema, benchmark, folder, model):
    quick = {"workers": 0, "resamples": 20, "output_dir": str(folder / "results"), "root": str(benchmark.parent)}
    return schema(benchmark=str(benchmark), model_path=model, **quick)


def test_a_benchmark_with_corner_boxes_is_a_yaml(benchmark):
    split = read_split(load(Benchmark, benchmark), "test")
    assert split.labels[:, 0].tolist() == [1, 0] * 4
    mask = split.mask(2, "mass")
    assert (mask.shape, int(mask.sum())) == ((40, 40), 400)
    assert mask[:20, :20].all()


def test_corners_in_the_wrong_order_are_named_with_their_row(benchmark):
    table = pd.read_csv(benchmark.parent / "films.csv", keep_default_na=False)
    table.loc[2, "box"] = "20;20;0;0"
    table.to_csv(benchmark.parent / "films.csv", index=False)
    with pytest.raises(ValueError, match=r"films.csv:4.*box '20;20;0;0' holds no pixel"):
        read_split(load(Benchmark, benchmark), "test")


# A scorer -------------------------------------------------------------------------------------------------------------


class Darkness:
    """A dark film has a mass, in its upper left quarter."""

    preprocessing = Preprocessing(16)
    trained_findings = ("mass",)
    patch_grid = None

    def scores(self, images, findings):
        return -images.mean(dim=(1, 2, 3))[:, None].expand(-1, len(findings))

    def heatmaps(self, images, findings):
        maps = torch.zeros(len(images), len(findings), 4, 4)
        maps[:, :, :2, :2] = 0.25
        return maps

    def describe(self):
        return {"model": "darkness", "map": "the upper left quarter"}


def test_a_scorer_is_evaluated_as_mavl_is(monkeypatch, benchmark, tmp_path):
    monkeypatch.setitem(scorers.KINDS, "darkness", lambda argument, options, device: Darkness())
    result = classification.run(settings(ZeroShotSettings, benchmark, tmp_path, "darkness:"))
    # Films 0, 2, 4, 6 are positive, 1, 3, 5, 7 negative, darkest first: of 16 pairs, 4 + 3 + 2 + 1 are in order.
    assert result.evaluation.classes[0].metrics["auroc"].value == 10 / 16
    assert result.about["new_findings"] == []
    assert (result.folder / "report.html").exists()
    AcceleratorState._reset_state(reset_partial_state=True)
    grounded = grounding.run(settings(GroundingSettings, benchmark, tmp_path, "darkness:"))
    assert grounded.localizations["mass"]["model"].means["pointing_game"].value == 1
    assert grounded.about["model"] == "darkness"


def test_a_scorer_without_maps_cannot_be_grounded(monkeypatch, benchmark, tmp_path):
    monkeypatch.setattr(Darkness, "heatmaps", lambda *arguments: None)
    monkeypatch.setitem(scorers.KINDS, "darkness", lambda argument, options, device: Darkness())
    with pytest.raises(ValueError, match="darkness:: this model has no heatmaps"):
        grounding.run(settings(GroundingSettings, benchmark, tmp_path, "darkness:"))
