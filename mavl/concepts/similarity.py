"""Cosine similarity of findings by the text of their lines: by shared words, and by a text encoder's vectors."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mavl.text.books import Books
from mavl.text.wordings import phrases_reversed
from mavl.vocab import ASPECTS, DESCRIPTION

if TYPE_CHECKING:
    from mavl.text.protocol import TextEncoder  # torch takes seconds

FINDINGS_ALIKE = 0.4
"""Threshold by words: two fifths of the words, weighted by rarity, are shared. 99.9 % of the 10,878 pairs of this
project's books are below 0.35, though all of them describe chests."""


@dataclass(frozen=True)
class Similarity:
    """Cosines [F, F] of the findings by `measure`; from `threshold` on two are too similar, for the reason `why`."""

    findings: tuple[str, ...]
    measure: str
    values: np.ndarray
    threshold: float
    why: str

    def neighbours(self, number: int) -> Iterator[tuple[str, list[tuple[str, float]]]]:
        """(finding, the nearest others with their cosine, nearest first)."""
        for row, finding in enumerate(self.findings):
            order = [i for i in np.argsort(-self.values[row], kind="stable") if i != row]
            yield finding, [(self.findings[i], float(self.values[row, i])) for i in order[:number]]

    def too_near(self) -> Iterator[tuple[str, str, float]]:
        """The pairs from the threshold on, nearest first."""
        pairs = np.argwhere(np.triu(self.values >= self.threshold, k=1))
        for row, column in sorted(pairs, key=lambda pair: -self.values[*pair]):
            yield self.findings[row], self.findings[column], float(self.values[row, column])


def by_words(books: Books) -> Similarity:
    """Similarity by the words of all nine lines together, without the aspects in front."""
    texts = [" ".join(words(aspect, of[aspect]) for aspect in ASPECTS) for of in books.sentences.values()]
    why = "two fifths of the words, weighted by rarity, are shared"
    return Similarity(tuple(books.sentences), "words", tfidf_cosine(texts), FINDINGS_ALIKE, why)


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
    return Similarity(findings, f"text encoder {encoder.name}", vectors @ vectors.T, threshold, why)


def tfidf_cosine(texts: Sequence[str]) -> np.ndarray:
    """Cosines [n, n]: about the share of common words, a rare word with more weight than a frequent one."""
    from sklearn.feature_extraction.text import TfidfVectorizer  # takes seconds

    vectors = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+").fit_transform(texts)
    return (vectors @ vectors.T).toarray()


def words(aspect: str, line: str) -> str:
    """The line without its aspect in front."""
    return line if aspect == DESCRIPTION else line.partition(":")[2].strip()
