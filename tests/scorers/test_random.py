"""`random:SEED`: numbers that depend on seed, image and finding alone."""

import pytest
import torch

from mavl.checkpoint import CheckpointError
from mavl.scorers import ScorerError, ScorerOptions, open_scorer

OPTIONS = ScorerOptions(findings=("mass", "edema"))
IMAGES = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_scores_depend_on_seed_image_and_finding_alone():
    scorer = open_scorer("random:3", OPTIONS)
    scores = scorer.scores(IMAGES, ["mass", "edema"])
    assert scores.shape == (3, 2)
    assert ((scores >= 0) & (scores < 1)).all()
    assert len(scores.unique()) == 6
    assert torch.equal(open_scorer("random:3", OPTIONS).scores(IMAGES, ["mass", "edema"]), scores)
    assert torch.equal(scorer.scores(IMAGES[[2, 0]], ["edema"]), scores[[2, 0]][:, [1]])
    assert not torch.isclose(open_scorer("random:4", OPTIONS).scores(IMAGES, ["mass", "edema"]), scores).any()
    assert not torch.isclose(scorer.scores(IMAGES + 1, ["mass", "edema"]), scores).any()


def test_maps_are_distributions_over_the_cells():
    scorer = open_scorer("random:3", OPTIONS)
    maps = scorer.heatmaps(IMAGES, ["mass", "edema"])
    assert maps.shape == (3, 2, 7, 7)
    torch.testing.assert_close(maps.sum(dim=(2, 3)), torch.ones(3, 2))
    assert torch.equal(scorer.heatmaps(IMAGES[[1]], ["edema"])[0, 0], maps[1, 1])


@pytest.mark.parametrize("name", ["random", "randomly:3"])
def test_without_its_prefix_a_name_is_that_of_a_model(name):
    with pytest.raises(CheckpointError, match=name):
        open_scorer(name, OPTIONS)


@pytest.mark.parametrize("name", ["random:", "random:x", "random:-1", "random:²", "random:1.0"])
def test_a_seed_that_is_no_number_is_named(name):
    with pytest.raises(ScorerError, match=f"{name}: expected random:SEED with a whole number"):
        open_scorer(name, OPTIONS)
