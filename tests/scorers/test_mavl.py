"""MAVL as a scorer: by either head what a forward pass gives, for the findings and in the order of the call."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from mavl import checkpoint
from mavl.model.heatmaps import HeatmapError, MapOptions
from mavl.scorers import ScorerOptions, open_scorer
from mavl.text.books import read_books
from mavl.text.embeddings import build_embeddings
from mavl.text.encoders.transformers import TransformerEncoder
from mavl.text.protocol import TextEncoderError
from mavl.vocab import UnknownFindingError
from tests.support import tiny

BOOKS = {name: (str(tiny.ROOT / f"concept_gen/books/{name}.json"),) for name in ("descriptions", "aspects")}
ASKED = ("effusion", "mass", "pneumonia")  # mass is none of the training
IMAGES = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny.write_model(tmp_path_factory.mktemp("model"))


def open_model(model: Path, **changed):
    return open_scorer(str(model), ScorerOptions(**{"findings": ASKED, **BOOKS, **changed}))


def forward(model: Path, scorer, **arguments):
    """The output of the model for all findings of the scorer's text, and the columns of ASKED in it."""
    with torch.no_grad():
        output = checkpoint.load(model).model(IMAGES, scorer.embeddings.vectors, **arguments)
    return output, [scorer.vocabulary.index(name) for name in ASKED]


def test_supervised_scores_are_those_of_a_forward_pass(model):
    scorer = open_model(model)
    assert scorer.vocabulary == (*tiny.FINDINGS, "mass")
    assert scorer.trained_findings == tiny.FINDINGS
    output, columns = forward(model, scorer)
    expected = output.presence_logits.softmax(dim=-1)[:, columns, 1]
    torch.testing.assert_close(scorer.scores(IMAGES, ASKED), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(scorer.scores(IMAGES, ["pneumonia"]), expected[:, [2]], rtol=0, atol=1e-5)
    torch.testing.assert_close(scorer.scores(IMAGES[[1]], ASKED), expected[[1]], rtol=0, atol=1e-5)


def test_contrastive_scores_are_those_of_a_forward_pass(model):
    scorer = open_model(model, head="contrastive")
    output, columns = forward(model, scorer)
    healthy = [scorer.vocabulary.index(name) for name in ("normal", "clear")]
    pairs = torch.stack([output.cosine[:, :, columns] - output.cosine[:, :, [other]] for other in healthy])
    torch.testing.assert_close(scorer.scores(IMAGES, ASKED), pairs.sigmoid().mean(dim=(0, 2)), rtol=0, atol=1e-5)


def test_heatmaps_are_the_attention_of_the_chosen_aspect_and_layer(model):
    scorer = open_model(model, map_options=MapOptions(aspects=("shape",), layers=(1,)))
    output, columns = forward(model, scorer, return_attention=True)
    queries = [9 * column + scorer.aspects.index("shape") for column in columns]
    maps = scorer.heatmaps(IMAGES, ASKED)
    torch.testing.assert_close(maps.flatten(2), output.attention[1][:, queries], rtol=0, atol=1e-5)
    assert scorer.describe()["map"] == "the attention, avg over the aspect shape, mean over layer 1"


def test_a_map_of_a_layer_or_an_aspect_that_the_model_lacks_is_refused_at_once(model, tmp_path):
    with pytest.raises(HeatmapError, match="no decoder layer 99, only 0 to 1"):
        open_model(model, map_options=MapOptions(layers=(0, 99)))
    plain = tiny.write_model(tmp_path, aspects=("description", "shape"))
    with pytest.raises(HeatmapError, match="unknown aspect 'border'"):
        open_model(plain, map_options=MapOptions(aspects=("border",)))


def test_features_of_an_image_serve_every_text(model, tmp_path):
    scorer = open_model(model)
    (tmp_path / "own.json").write_text(json.dumps({"mass": "A round white spot."}))
    books = read_books([*BOOKS["descriptions"], tmp_path / "own.json"], BOOKS["aspects"])
    own = type(books)({"mass": books.sentences["mass"]}, books.hashes)
    changed, features = scorer.with_books(own), scorer.encode(IMAGES)
    torch.testing.assert_close(scorer.score_features(features, ASKED), scorer.scores(IMAGES, ASKED))
    torch.testing.assert_close(changed.score_features(features, ASKED), changed.scores(IMAGES, ASKED))
    assert not torch.isclose(changed.scores(IMAGES, ["mass"]), scorer.scores(IMAGES, ["mass"])).all()
    assert scorer.same_text(scorer)
    assert not scorer.same_text(changed)


def test_only_other_findings_and_rebuilt_text_need_books_and_an_encoder(tmp_path):
    model = tiny.write_model(tmp_path)
    for folder in (tmp_path / "bert", model / "text_encoder"):
        shutil.rmtree(folder)
    stored = checkpoint.load(model).embeddings
    assert torch.equal(open_scorer(str(model), ScorerOptions(tiny.FINDINGS[:2])).embeddings.vectors, stored.vectors)
    for changed in ({}, {"findings": tiny.FINDINGS[:2], "rebuild_text": True}):
        with pytest.raises(TextEncoderError, match="text encoder 'text_encoder' is not a folder"):
            open_model(model, **changed)


@pytest.mark.parametrize("rebuilt", [False, True])
def test_a_maximum_of_tokens_cuts_what_is_encoded_anew(model, rebuilt):
    """The vectors of the model are of whole sentences, unless they are rebuilt. Anatomies have up to 32 tokens."""
    names = (*tiny.FINDINGS, "mass")
    books, encoder = read_books(*BOOKS.values()), str(model.parent / "bert")
    whole, cut = (build_embeddings(books, names, TransformerEncoder(encoder, max_length=n)).vectors for n in (128, 33))
    longer = [name for name, *pair in zip(names, whole, cut, strict=True) if not torch.allclose(*pair, atol=1e-3)]
    assert longer == ["normal", "effusion", "cardiomegaly", "mass"]
    vectors = open_model(model, max_length=33, rebuild_text=rebuilt).embeddings.vectors
    torch.testing.assert_close(vectors[:-1], (cut if rebuilt else whole)[:-1])
    torch.testing.assert_close(vectors[-1], cut[-1])


@pytest.mark.parametrize("scaling", ["standardize", "whiten"])
def test_text_that_comes_later_takes_the_scaling_of_the_training(tmp_path, scaling):
    """That of a new finding, of other books, and of the trained findings where they are encoded again."""
    model = tiny.write_model(tmp_path, scaling=scaling)
    stored, books = checkpoint.load(model).embeddings, read_books(*BOOKS.values())
    encoder = TransformerEncoder(str(model.parent / "bert"))
    encoded = build_embeddings(books, [*tiny.FINDINGS, "mass"], encoder)
    expected = stored.scaling(encoded.vectors)
    assert (expected - encoded.vectors).abs().max() > 0.02
    scorer, rebuilt = open_model(model), open_model(model, rebuild_text=True)
    torch.testing.assert_close(scorer.embeddings.vectors, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(rebuilt.embeddings.vectors, expected, rtol=0, atol=1e-5)
    swapped = type(books)({"mass": books.sentences["edema"], "effusion": books.sentences["hernia"]}, {"b": "1"})
    changed = scorer.with_books(swapped).embeddings
    others = build_embeddings(books, ["edema", "hernia"], encoder).vectors
    torch.testing.assert_close(changed.select(["mass", "effusion"]).vectors, stored.scaling(others), rtol=0, atol=1e-5)


def test_a_finding_without_text_is_an_error_that_suggests_near_ones(model):
    with pytest.raises(UnknownFindingError, match="unknown finding 'masss'; did you mean 'mass'"):
        open_model(model).scores(IMAGES, ["masss"])


def test_what_the_map_is_of(model):
    several = open_model(model, map_options=MapOptions(aspects=("shape", "border"), layers=(0, 1)), head="contrastive")
    assert several.describe()["map"] == (
        "the attention, avg over the aspects shape, border, mean over layers 0, 1 "
        "(the contrastive score compares the whole image with the text and does not use it)"
    )
    assert open_model(model).describe()["map"].endswith("mean over all layers")


def test_autocast_gives_scores_and_maps_in_full_precision_near_the_exact_ones(model):
    for head in ("supervised", "contrastive"):
        exact = open_model(model, head=head)
        with torch.autocast("cpu", torch.bfloat16):
            half = open_model(model, head=head)
            scores, maps = half.scores(IMAGES, ASKED), half.heatmaps(IMAGES, ASKED)
        assert scores.dtype == maps.dtype == torch.float32
        torch.testing.assert_close(scores, exact.scores(IMAGES, ASKED), rtol=0, atol=0.03)
        torch.testing.assert_close(maps.sum(dim=(2, 3)), torch.ones(3, 3), rtol=0, atol=0.02)


def test_the_model_states_its_training(model):
    assert open_model(model).describe()["trained_on"] is None
