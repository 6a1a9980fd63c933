"""Cosine similarity of findings by the text of their lines: by shared words, and by a text encoder's vectors."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mavl.text.books import Books
from mavl.text.wordings import phrases_reversed
from mavl.vocab import ASPECTS, DESCRIPTION

if TYPE_CHECKING:
    from mavl.text.protocol import TextEncoder  # torch takes seconds

FINDINGS_ALIKE = 0.4
"""Threshold by words: two fifths of the words, weighted by rarity, are shared. 99.9 % of the 10,878 pairs of this
project's books are below 0.35, though all of them describe chests."""

BLOCK = 500
"""Rows of a matrix of cosines that are in memory at a time."""

MOST_PAIRS = 10_000
"""Pairs that are listed; of more the nearest ones, and their number."""


class Pairs(NamedTuple):
    """Pairs of rows [n, 2], the smaller one first, their cosines [n], and the number of all, listed or not."""

    rows: np.ndarray
    cosines: np.ndarray
    number: int

    def ordered(self, keys: np.ndarray) -> "Pairs":
        order = np.argsort(keys, kind="stable")
        return Pairs(self.rows[order], self.cosines[order], self.number)


@dataclass(frozen=True)
class Similarity:
    """Cosines of the findings by `measure`; from `threshold` on two are too similar, for the reason `why`.

    vectors: a unit vector for each finding, [F, D], dense or sparse.
    """

    findings: tuple[str, ...]
    measure: str
    vectors: Any
    threshold: float
    why: str

    @property
    def values(self) -> np.ndarray:
        """The cosines of all pairs, [F, F]."""
        return np.concatenate([cosines for _, cosines in cosine_blocks(self.vectors)])

    def neighbours(self, number: int) -> Iterator[tuple[str, list[tuple[str, float]]]]:
        """(finding, the nearest others with their cosine, nearest first)."""
        number = min(number, len(self.findings) - 1)
        for start, cosines in cosine_blocks(self.vectors):
            for row, of in enumerate(cosines, start):
                of[row] = -np.inf
                near = np.flatnonzero(of >= np.partition(of, -number)[-number])
                order = near[np.argsort(-of[near], kind="stable")][:number]
                yield self.findings[row], [(self.findings[i], float(of[i])) for i in order]

    def too_near(self) -> tuple[list[tuple[str, str, float]], int]:
        """The pairs from the threshold on, nearest first, at most MOST_PAIRS; and their number."""
        near = near_pairs(self.vectors, self.threshold)
        near = near.ordered(-near.cosines)
        names = self.findings
        return [(names[i], names[j], float(x)) for (i, j), x in zip(near.rows, near.cosines, strict=True)], near.number


def cosine_blocks(vectors: Any) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, cosines [BLOCK, n]) of the unit vectors [n, D], dense or sparse, with all others."""
    for start in range(0, vectors.shape[0], BLOCK):
        cosines = vectors[start : start + BLOCK] @ vectors.T
        yield start, cosines if isinstance(cosines, np.ndarray) else cosines.toarray()


def near_pairs(vectors: Any, threshold: float) -> Pairs:
    """The pairs of unit vectors [n, D] with a cosine from the threshold on."""
    found = Pairs(np.empty((0, 2), dtype=int), np.empty(0), 0)
    for start, cosines in cosine_blocks(vectors):
        i, j = np.nonzero(cosines >= threshold)
        i, j = i[after := j > i + start], j[after]
        rows = np.concatenate([found.rows, np.stack([i + start, j], axis=1)])
        found = Pairs(rows, np.concatenate([found.cosines, cosines[i, j]]), found.number + len(i))
        if len(rows) > MOST_PAIRS:
            ordered = found.ordered(-found.cosines)
            found = Pairs(ordered.rows[:MOST_PAIRS], ordered.cosines[:MOST_PAIRS], found.number)
    return found


def by_words(books: Books) -> Similarity:
    """Similarity by the words of all nine lines together, without the aspects in front."""
    texts = [" ".join(words(aspect, of[aspect]) for aspect in ASPECTS) for of in books.sentences.values()]
    why = "two fifths of the words, weighted by rarity, are shared"
    return Similarity(tuple(books.sentences), "words", tfidf_vectors(texts), FINDINGS_ALIKE, why)


def by_encoder(books: Books, encoder: "TextEncoder") -> Similarity:
    """Similarity by the text embeddings of all nine lines, less their mean over the findings.

    Encoders differ in the cosines of unrelated texts, so the threshold is measured: the median over the findings of the
    cosine between a finding and itself with the phrases of its lines in reverse order, which has the same meaning.
    """

    def unit_vectors(of: Books) -> np.ndarray:
        sentences = [lines[aspect] for lines in of.sentences.values() for aspect in ASPECTS]
        vectors = encoder.encode(sentences).numpy().reshape(len(of.sentences), -1)
        vectors = vectors - vectors.mean(axis=0)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(min=1e-12)

    findings = tuple(books.sentences)
    vectors, reordered = unit_vectors(books), unit_vectors(phrases_reversed(books, findings, ASPECTS))
    threshold = float(np.median((vectors * reordered).sum(axis=1)))
    why = "half of the findings move as far when nothing but the order of the phrases in their lines is reversed"
    return Similarity(findings, f"text encoder {encoder.name}", vectors, threshold, why)


def tfidf_vectors(texts: Sequence[str]) -> Any:
    """Sparse unit vectors [n, words].

    Their cosine is about the share of common words, a rare word with more weight than a frequent one.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer  # takes seconds

    return TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+").fit_transform(texts)


def words(aspect: str, line: str) -> str:
    """The line without its aspect in front."""
    return line if aspect == DESCRIPTION else line.partition(":")[2].strip()
