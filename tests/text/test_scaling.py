"""Scaling of text vectors: maps worked by hand, stored with the embeddings and applied to findings that come later."""

from dataclasses import replace

import pytest
import torch

from mavl.text.embeddings import EmbeddingsError, TextEmbeddings
from mavl.text.scaling import SPREAD, fit_scaling
from mavl.vocab import ANATOMIES, ASPECTS

SQUARE = torch.tensor([[1.0, 10.0], [3.0, 10.0], [1.0, 18.0], [3.0, 18.0]])
"""Mean (2, 14), standard deviations 1 and 4, no correlation."""


def test_vectors_stay_as_they_are_without_a_scaling():
    assert fit_scaling("none", SQUARE) is None
    embeddings = drawn()
    assert embeddings.with_own_scaling("none") is embeddings


def test_centring_takes_the_mean_away():
    scaling = fit_scaling("centre", SQUARE)
    assert scaling(SQUARE).tolist() == [[-1, -4], [1, -4], [-1, 4], [1, 4]]
    assert scaling(torch.tensor([[[5.0, 14.0]]])).tolist() == [[[3, 0]]]


def test_standardizing_gives_each_dimension_one_spread():
    scaling = fit_scaling("standardize", SQUARE)
    expected = SPREAD * torch.tensor([[-1.0, -1], [1, -1], [-1, 1], [1, 1]])
    torch.testing.assert_close(scaling(SQUARE), expected)
    torch.testing.assert_close(scaling(torch.tensor([4.0, 6.0])), SPREAD * torch.tensor([2.0, -2.0]))


def test_a_dimension_that_never_changes_stays_finite():
    constant = torch.cat([SQUARE, torch.full((4, 1), 7.0)], dim=1)
    assert fit_scaling("standardize", constant)(constant)[:, 2].tolist() == [0, 0, 0, 0]


def test_whitening_makes_the_dimensions_uncorrelated():
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randn(20_000, 3, generator=generator) @ torch.tensor([[2.0, 1.0, 0], [0, 1.0, 0.5], [0, 0, 0.3]]) + 5
    scaling = fit_scaling("whiten", mixed)
    torch.testing.assert_close(scaling(mixed).T.cov(), SPREAD**2 * torch.eye(3), rtol=0, atol=0.01 * SPREAD**2)
    torch.testing.assert_close(scaling.factor, scaling.factor.T)


def test_whitening_of_fewer_sentences_than_dimensions_shrinks_as_ledoit_and_wolf():
    from sklearn.covariance import LedoitWolf

    few = torch.randn(10, 40, generator=torch.Generator().manual_seed(1)).double() * torch.linspace(0.1, 2, 40)
    shrunk = torch.from_numpy(LedoitWolf().fit(few.numpy()).covariance_).float()
    factor = fit_scaling("whiten", few.float()).factor
    torch.testing.assert_close(factor @ shrunk @ factor, SPREAD**2 * torch.eye(40), rtol=0, atol=1e-6)


def drawn(findings=("edema", "mass"), seed: int = 0, cone: float = 3.0) -> TextEmbeddings:
    """Vectors [F, 2, 8] around a common mean, and those of the anatomies."""
    generator = torch.Generator().manual_seed(seed)
    vectors = cone + torch.randn(len(findings), 2, 8, generator=generator)
    anatomies = cone + torch.randn(len(ANATOMIES), 8, generator=torch.Generator().manual_seed(99))
    return TextEmbeddings(findings, ASPECTS[:2], vectors, anatomies, {"encoder": "e", "books": {"x": "1"}})


@pytest.mark.parametrize("name", ["centre", "standardize", "whiten"])
def test_the_map_is_fitted_to_all_sentences_of_the_run(name):
    before = drawn()
    scaled = before.with_own_scaling(name)
    sentences = torch.cat([scaled.vectors.flatten(0, 1), scaled.anatomy_vectors])
    torch.testing.assert_close(sentences.mean(dim=0), torch.zeros(8), rtol=0, atol=1e-6)
    expected = fit_scaling(name, torch.cat([before.vectors.flatten(0, 1), before.anatomy_vectors]))
    torch.testing.assert_close(scaled.vectors, expected(before.vectors))


@pytest.mark.parametrize("name", ["none", "centre", "standardize", "whiten"])
def test_a_file_holds_the_map_beside_the_scaled_vectors(name, tmp_path):
    embeddings = drawn().with_own_scaling(name)
    embeddings.save(tmp_path / "bank.safetensors")
    loaded = TextEmbeddings.load(tmp_path / "bank.safetensors")
    assert torch.equal(loaded.vectors, embeddings.vectors)
    if name == "none":
        assert loaded.scaling is None
    else:
        assert loaded.scaling.name == name
        assert torch.equal(loaded.scaling(torch.arange(8.0)), embeddings.scaling(torch.arange(8.0)))


def test_further_findings_take_the_stored_map():
    trained, more = drawn().with_own_scaling("whiten"), drawn(("scar",), seed=5)
    both = trained.extended(more)
    torch.testing.assert_close(both.vectors[2], trained.scaling(more.vectors[0]))
    assert both.scaling is trained.scaling
    same = trained.extended(more.scaled(trained.scaling))
    assert torch.equal(same.vectors, both.vectors)
    assert torch.equal(trained.select(["mass"]).extended(more).vectors[1], both.vectors[2])


def test_findings_scaled_by_another_map_are_refused():
    other = drawn(("scar",), seed=5).with_own_scaling("standardize")
    with pytest.raises(EmbeddingsError, match="same anatomies different vectors"):
        drawn().extended(other)
    with pytest.raises(EmbeddingsError, match="same anatomies different vectors"):
        drawn().with_own_scaling("centre").extended(other)


def test_a_file_whose_map_is_cut_is_refused(tmp_path):
    from safetensors.torch import save_file

    embeddings = drawn().with_own_scaling("centre")
    embeddings.save(tmp_path / "whole")
    tensors = {"vectors": embeddings.vectors, "anatomy_vectors": embeddings.anatomy_vectors}
    names = {"findings": '["edema", "mass"]', "aspects": '["description", "border"]', "about": "{}"}
    save_file(tensors, tmp_path / "cut", {**names, "scaling": '"centre"'})
    with pytest.raises(EmbeddingsError, match="damaged, or no text embeddings"):
        TextEmbeddings.load(tmp_path / "cut")


def test_a_map_of_another_width_is_refused():
    embeddings = drawn().with_own_scaling("centre")
    short = replace(embeddings.scaling, offset=torch.zeros(4))
    with pytest.raises(EmbeddingsError, match="scaling 'centre' of text embeddings is no finite map of width 8"):
        replace(embeddings, scaling=short)
