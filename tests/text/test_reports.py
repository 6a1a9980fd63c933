"""Whole reports as vectors: means of sentences, once for a file and an encoder, of damaged files none."""

import json
import pickle

import numpy as np
import pytest
import torch

from mavl.text import reports
from mavl.text.encoders.random_bert import write_random_bert
from mavl.text.encoders.transformers import TransformerEncoder
from mavl.text.reports import ReportsError, encode_reports

SENTENCES = [["The heart is enlarged.", "No effusion."], [], ["No effusion."], [" ", "A nodule."]]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> TransformerEncoder:
    words = [sentence for report in SENTENCES for sentence in report]
    folder = write_random_bert(tmp_path_factory.mktemp("bert"), words, seed=0, width=32, layers=1)
    return TransformerEncoder(str(folder))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "sentences.jsonl"
    path.write_text("".join(f"{json.dumps(report)}\n" for report in SENTENCES))
    return path


@pytest.mark.parametrize("together", [1, 3, 4096])
def test_a_report_is_the_mean_of_its_sentences(encoder, file, tmp_path, monkeypatch, capsys, together):
    monkeypatch.setattr(reports, "TOGETHER", together)
    vectors = encode_reports(file, 4, encoder, tmp_path / "cache")
    heart, effusion, nodule = encoder.encode(["The heart is enlarged.", "No effusion.", "A nodule."]).numpy()
    np.testing.assert_allclose(vectors[0], (heart + effusion) / 2, atol=1e-6)
    np.testing.assert_allclose(vectors[2], effusion, atol=1e-6)
    np.testing.assert_allclose(vectors[3], nodule, atol=1e-6)
    assert np.isnan(vectors[1]).all()
    assert "1 of 4 reports without a sentence" in capsys.readouterr().err


def test_they_are_computed_once_for_a_file_and_an_encoder(encoder, file, tmp_path, monkeypatch):
    first = encode_reports(file, 4, encoder, tmp_path / "cache")
    with monkeypatch.context() as patched:
        patched.setattr(TransformerEncoder, "encode", None)
        again = encode_reports(file, 4, encoder, tmp_path / "cache")
    assert again.path == first.path
    assert encode_reports(file, 4, TransformerEncoder(encoder.name, sep=True), tmp_path / "cache").path != first.path
    file.write_text('["No effusion."]\n' * 4)
    changed = encode_reports(file, 4, encoder, tmp_path / "cache")
    torch.testing.assert_close(torch.tensor(changed[0]), encoder.encode(["No effusion."])[0])


def test_a_worker_opens_the_file_anew(encoder, file, tmp_path):
    vectors = encode_reports(file, 4, encoder, tmp_path)
    vectors[0]
    assert len(pickle.dumps(vectors)) < 500
    assert np.array_equal(pickle.loads(pickle.dumps(vectors))[2], vectors[2])


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('["a"]\n["b"]\n', "2 lines, but the label file has 4 studies"),
        ('["a"]\n{"b": 1}\n', "line 2: not a list of sentences"),
        ('["a"]\n[1]\n', "line 2: not a list of sentences"),
        ('["a"]\n["b"', "line 2"),
        ('["a"]\n\n', "line 2"),
        ('["a"]\n["\\ud800"]\n', "line 2: holds half a pair of surrogates"),
    ],
)
def test_a_file_that_does_not_fit_is_named_with_the_line(encoder, file, tmp_path, content, complaint):
    file.write_text(content)
    with pytest.raises(ReportsError, match=f"sentences.jsonl.*{complaint}"):
        encode_reports(file, 4, encoder, tmp_path)
