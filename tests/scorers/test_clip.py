"""CLIP and SigLIP: scores are direct cosines of the model's own embeddings, by the prompts that the report states."""

import json

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer

from mavl.scorers import ScorerError, ScorerOptions, open_scorer
from mavl.scorers.prompts import TEMPLATES, prompts_of
from mavl.text.books import read_books
from tests.support.tiny import ASPECT_BOOKS, DESCRIPTION_BOOKS, ROOT
from tests.support.two_towers import SIDE, write_two_towers

BOOKS = {"descriptions": [ROOT / path for path in DESCRIPTION_BOOKS], "aspects": [ROOT / path for path in ASPECT_BOOKS]}
FINDINGS = ["effusion", "mass"]


@pytest.fixture(scope="module", params=["clip", "siglip"])
def folder(request, tmp_path_factory):
    return write_two_towers(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def images():
    return torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def opened(folder, **options):
    return open_scorer(f"clip:{folder}", ScorerOptions(findings=(), **BOOKS, **options))


def direct(folder, images, sentences):
    """Cosines [B, n] by the model's own forward pass, and exp of its scale."""
    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    siglip = model.config.model_type == "siglip"
    options = {"padding": "max_length", "max_length": 20} if siglip else {"padding": True}
    tokens = tokenizer(sentences, return_tensors="pt", **options)
    mask = {} if siglip else {"attention_mask": tokens["attention_mask"]}
    with torch.no_grad():
        output = model(input_ids=tokens["input_ids"], pixel_values=images, **mask)
    return output.image_embeds @ output.text_embeds.T, model.logit_scale.exp().item()


def test_scores_of_pairs_are_the_softmax_of_direct_cosines(folder, images):
    cosines, scale = direct(folder, images, ["effusion", "no effusion", "mass", "no mass"])
    expected = (scale * cosines).unflatten(1, (2, 2)).softmax(dim=-1)[..., 0]
    found = opened(folder).scores(images, FINDINGS)
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_templates_are_averaged_as_unit_vectors(folder, images):
    """A mean of unit vectors has the mean of their cosines, over its length."""
    sentences = [[each.format(name) for each in TEMPLATES] for name in ("mass", "no mass")]
    expected = []
    for side in sentences:
        cosines, scale = direct(folder, images, side)
        length = direct_length(folder, side)
        expected.append(scale * cosines.mean(dim=1) / length)
    found = opened(folder, prompts="templates").scores(images, ["mass"])
    torch.testing.assert_close(found[:, 0], (expected[0] - expected[1]).sigmoid(), atol=1e-6, rtol=0)


def direct_length(folder, sentences):
    """Of the mean of the unit vectors of sentences: the root of their mean cosine with each other."""
    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    options = {"padding": "max_length", "max_length": 20} if model.config.model_type == "siglip" else {"padding": True}
    tokens = tokenizer(sentences, return_tensors="pt", **options)
    mask = {} if model.config.model_type == "siglip" else {"attention_mask": tokens["attention_mask"]}
    with torch.no_grad():
        vectors = F.normalize(model.get_text_features(input_ids=tokens["input_ids"], **mask).pooler_output, dim=-1)
    return (vectors @ vectors.T).mean().sqrt()


@pytest.mark.parametrize("kind", ["descriptions", "aspects"])
def test_books_give_sentences_for_a_finding_and_for_a_normal_film(folder, images, kind):
    prompts = prompts_of("effusion", kind, read_books(**BOOKS))
    assert len(prompts.present) == len(prompts.absent) == (1 if kind == "descriptions" else 9)
    scorer = opened(folder, prompts=kind)
    assert scorer.scores(images, FINDINGS).shape == (3, 2)
    assert scorer.describe()["prompts"]["present"] == prompts.present


def test_maps_are_of_the_patches_for_clip_and_absent_for_siglip(folder, images):
    scorer = opened(folder)
    maps = scorer.heatmaps(images, FINDINGS)
    if scorer.siglip:
        assert maps is None
        return
    assert maps.shape == (3, 2, SIDE // 8, SIDE // 8)
    torch.testing.assert_close(maps.sum(dim=(-2, -1)), torch.ones(3, 2))
    assert maps.min() >= 0
    other = images.clone()
    other[:, :, :8, :8] += 3
    assert (scorer.heatmaps(other, FINDINGS) - maps).abs().max() > 1e-3


def test_preprocessing_is_that_of_the_folder(folder):
    preprocessing = opened(folder).preprocessing
    assert (preprocessing.image_size, preprocessing.mean[0], preprocessing.std[0]) == (SIDE, 0.5, 0.25)
    assert preprocessing.interpolation == "bicubic"


def test_what_is_no_such_model_is_refused(folder, tmp_path):
    with pytest.raises(ScorerError, match="no model of transformers"):
        opened(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ScorerError, match="a model of type 'bert'; known are clip, siglip"):
        opened(tmp_path)


def test_weights_that_are_missing_are_not_drawn(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    dropped = next(name for name in weights if name.endswith("q_proj.weight"))
    save_file({name: value for name, value in weights.items() if name != dropped}, tmp_path / "model.safetensors")
    with pytest.raises(ScorerError, match=r"no weights of 1 parameters"):
        opened(tmp_path)
