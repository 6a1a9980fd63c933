"""How near findings are: by shared words, and by an encoder against its own noise."""

import numpy as np
import pytest
import torch

from mavl.concepts import similarity as module
from mavl.concepts.similarity import Similarity, by_encoder, cosine_blocks, near_pairs, tfidf_vectors
from mavl.text.books import Books
from mavl.text.wordings import phrases_reversed
from mavl.vocab import ASPECTS


def tfidf_cosine(texts: list[str]) -> np.ndarray:
    return np.concatenate([cosines for _, cosines in cosine_blocks(tfidf_vectors(texts))])


def test_texts_of_equally_rare_words_have_the_share_of_words_in_common():
    """Every word stands in two texts, or in one of the last two, which then are as far as can be."""
    cosine = tfidf_cosine(["a b c d", "a b c d", "e f", "g h"])
    np.testing.assert_allclose(cosine, [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], atol=1e-12)
    half = tfidf_cosine(["a b x y", "a b z w", "x y z w"])  # each word in two of the three texts
    np.testing.assert_allclose(half[np.triu_indices(3, 1)], 0.5)


def test_a_shared_rare_word_counts_for_more_than_a_shared_common_one():
    cosine = tfidf_cosine(["rare often", "rare other", "often this", "often that", "often these"])
    assert cosine[0, 1] > cosine[0, 2] > 0


class Encoder:
    """Vectors by hand: of each sentence, that of the finding it speaks of, turned when its phrases are reversed."""

    name = "by hand"

    def __init__(self, vectors: dict[str, list[float]], turned: float):
        self.vectors, self.turned = vectors, turned

    def encode(self, sentences):
        rows = []
        for sentence in sentences:
            finding = sentence.rpartition(" ")[2] if ":" not in sentence else sentence.split()[1].rstrip(",")
            vector = np.array(self.vectors[finding[:1]])
            if "second" in sentence and sentence.index("second") < sentence.index("first"):
                cosine, sine = self.turned, np.sqrt(1 - self.turned**2)
                vector = np.array([[cosine, -sine], [sine, cosine]]) @ vector
            rows.append(vector)
        return torch.tensor(np.array(rows))


def books() -> Books:
    return Books(
        {
            name: {
                aspect: name if aspect == "description" else f"{aspect}: {name}-first, {name}-second"
                for aspect in ASPECTS
            }
            for name in "abcd"
        },
        {},
    )


def test_the_threshold_is_how_near_a_finding_is_to_itself_in_other_order():
    """Four unit vectors with mean 0, a and b 60 degrees apart; of the nine lines eight are turned, cosine 0.4."""
    angles = {"a": 0, "b": 60, "c": 180, "d": 240}
    vectors = {name: [np.cos(np.radians(angle)), np.sin(np.radians(angle))] for name, angle in angles.items()}
    similarity = by_encoder(books(), Encoder(vectors, turned=0.4))
    assert similarity.values[0, 1] == pytest.approx(0.5)
    assert similarity.threshold == pytest.approx((1 + 8 * 0.4) / 9)
    near, number = similarity.too_near()
    assert ({(one, other) for one, other, _ in near}, number) == ({("a", "b"), ("c", "d")}, 2)
    steady = by_encoder(books(), Encoder(vectors, turned=0.9))
    assert steady.threshold == pytest.approx((1 + 8 * 0.9) / 9)
    assert steady.too_near() == ([], 0)
    assert dict(similarity.neighbours(2))["a"] == [("b", pytest.approx(0.5)), ("d", pytest.approx(-0.5))]


def test_other_order_is_what_the_variant_says():
    assert phrases_reversed(books(), ["a"], ["shape"]).sentences == {"a": {"shape": "shape: a-second, a-first"}}


def test_blocks_and_the_limit_of_pairs_change_nothing_but_the_length_of_the_list(monkeypatch):
    """Unit vectors in a plane at 0, 10, 20, … degrees: each is within 15 degrees of its neighbours alone."""
    angles = np.radians(10.0 * np.arange(7))
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    similarity = Similarity(tuple("abcdefg"), "hand", vectors, np.cos(np.radians(15)), "why")
    whole, nearest = similarity.too_near(), dict(similarity.neighbours(2))
    assert {pair[:2] for pair in whole[0]} == {("a", "b"), ("b", "c"), ("c", "d"), ("d", "e"), ("e", "f"), ("f", "g")}
    assert [name for name, _ in nearest["a"]] == ["b", "c"]
    monkeypatch.setattr(module, "BLOCK", 3)
    blocks, number = similarity.too_near()
    assert ({pair[:2] for pair in blocks}, number) == ({pair[:2] for pair in whole[0]}, 6)
    np.testing.assert_allclose(similarity.values, vectors @ vectors.T, atol=1e-12)
    vectors[4] = vectors[5]  # the nearest pair of all, in the second block
    monkeypatch.setattr(module, "MOST_PAIRS", 1)
    pairs = near_pairs(vectors, similarity.threshold)
    assert (pairs.rows.tolist(), pairs.number) == ([[4, 5]], 6)


def test_more_neighbours_than_there_are_others():
    similarity = Similarity(("a", "b"), "hand", np.eye(2), 0.5, "why")
    assert dict(similarity.neighbours(5)) == {"a": [("b", 0.0)], "b": [("a", 0.0)]}
