"""open_clip models: scores are direct cosines of the package's own embeddings; no random weights."""

import json

import pytest
import torch

from mavl.scorers import ScorerError, ScorerOptions, open_scorer

open_clip = pytest.importorskip("open_clip")

SIDE = 32
CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": SIDE, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
STATED = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "size": SIDE, "interpolation": "bicubic"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("open_clip")
    torch.manual_seed(0)
    model = open_clip.CLIP(**CONFIG)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.1)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": CONFIG, "preprocess_cfg": STATED}))
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    return folder


def test_scores_of_pairs_are_the_softmax_of_direct_cosines(folder):
    images = torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    scorer = open_scorer(f"open_clip:local-dir:{folder}", ScorerOptions(findings=()))
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(["effusion", "no effusion", "mass", "no mass"])
    with torch.no_grad():
        image, text, scale = model(images, tokens)
    expected = (scale * image @ text.T).unflatten(1, (2, 2)).softmax(dim=-1)[..., 0]
    assert expected.std() > 0.01
    torch.testing.assert_close(scorer.scores(images, ["effusion", "mass"]), expected, atol=1e-6, rtol=0)
    assert scorer.heatmaps(images, ["mass"]) is None
    assert (scorer.preprocessing.image_size, scorer.preprocessing.std[0]) == (SIDE, 0.25)


@pytest.mark.parametrize("name", ["ViT-B-32", "local-dir:{folder}"])
def test_names_without_weights_are_refused(tmp_path, name):
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": CONFIG, "preprocess_cfg": STATED}))
    with pytest.raises(ScorerError, match="weights"):
        open_scorer(f"open_clip:{name.format(folder=tmp_path)}", ScorerOptions(findings=()))
