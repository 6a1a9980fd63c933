"""Text embeddings: sentence vectors by finding and aspect, and by anatomy.

The text encoder is frozen, so they are computed once and cached by a hash of everything that shapes them.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor

from mavl.files import whole_file
from mavl.text.books import Books
from mavl.text.protocol import TextEncoder
from mavl.vocab import ANATOMIES, ASPECTS, UnknownFindingError, anatomy_sentence, unknown_name

SAME_ENCODER = 1e-2
"""Largest difference of two computations of one text vector; another encoder or tokenisation differs by far more."""


class EmbeddingsError(ValueError):
    """Text embeddings that cannot be used together, or a file that holds none."""


@dataclass(frozen=True)
class TextEmbeddings:
    """vectors [F, A, T]: row (f, a) is aspect a of finding f; anatomy_vectors [51, T]; float32.

    about: their origin (encoder, tokenisation, hashes of the books), for checkpoints and reports.
    """

    findings: tuple[str, ...]
    aspects: tuple[str, ...]
    vectors: Tensor
    anatomy_vectors: Tensor
    about: dict

    def __post_init__(self):
        expected = (len(self.findings), len(self.aspects))
        if self.vectors.shape[:2] != expected:
            raise ValueError(
                f"text embeddings of {expected} findings and aspects hold vectors {tuple(self.vectors.shape)}"
            )

    def index(self, findings: Sequence[str]) -> list[int]:
        """Positions of findings by name; UnknownFindingError with the nearest names for one that is not here."""
        position = {name: i for i, name in enumerate(self.findings)}
        for name in findings:
            if name not in position:
                raise UnknownFindingError(unknown_name("finding", name, self.findings))
        return [position[name] for name in findings]

    def select(self, findings: Sequence[str]) -> "TextEmbeddings":
        """The same embeddings with these findings only, in this order."""
        return replace(self, findings=tuple(findings), vectors=self.vectors[self.index(findings)])

    def extended(self, more: "TextEmbeddings") -> "TextEmbeddings":
        """These embeddings followed by those of other findings.

        EmbeddingsError when a finding is in both, or when the vectors of the anatomies, which all embeddings hold, show
        that the others come from another encoder or tokenisation.
        """
        if twice := [name for name in more.findings if name in self.findings]:
            raise EmbeddingsError(f"in both text embeddings: {', '.join(twice)}")
        if more.vectors.shape[1:] != self.vectors.shape[1:]:
            raise EmbeddingsError(
                f"text vectors [aspects, width] are {tuple(self.vectors.shape[1:])} in the model and "
                f"{tuple(more.vectors.shape[1:])} in the new text: another text encoder?"
            )
        if not torch.allclose(more.anatomy_vectors, self.anatomy_vectors, rtol=0, atol=SAME_ENCODER):
            raise EmbeddingsError(
                f"{self.about['encoder']!r}, the model's text encoder, and {more.about['encoder']!r} give the same "
                "anatomies different vectors: another text encoder or tokenisation?"
            )
        books = self.about["books"] | more.about["books"]
        findings = self.findings + more.findings
        vectors = torch.cat([self.vectors, more.vectors])
        return replace(self, findings=findings, vectors=vectors, about=self.about | {"books": books})

    def to(self, device: torch.device | str) -> "TextEmbeddings":
        return replace(self, vectors=self.vectors.to(device), anatomy_vectors=self.anatomy_vectors.to(device))

    def save(self, path: Path) -> None:
        """Write as safetensors, whole or not at all."""
        names = {"findings": self.findings, "aspects": self.aspects, "about": self.about}
        tensors = {"vectors": self.vectors.cpu().contiguous(), "anatomy_vectors": self.anatomy_vectors.cpu()}
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, "wb") as file:  # not by save_file, whose files only their owner may read
            file.write(serialize(tensors, {key: json.dumps(value) for key, value in names.items()}))

    @classmethod
    def load(cls, path: Path) -> "TextEmbeddings":
        """Read what `save` wrote; EmbeddingsError for a file that is damaged or something else."""
        try:
            with safe_open(path, framework="pt") as file:
                names = {key: json.loads(value) for key, value in file.metadata().items()}
                vectors, anatomy_vectors = file.get_tensor("vectors"), file.get_tensor("anatomy_vectors")
            return cls(tuple(names["findings"]), tuple(names["aspects"]), vectors, anatomy_vectors, names["about"])
        except (SafetensorError, AttributeError, KeyError, ValueError) as error:
            raise EmbeddingsError(f"{path}: damaged, or no text embeddings ({error})") from error


def build_embeddings(
    books: Books,
    findings: Sequence[str],
    encoder: TextEncoder,
    aspects: Sequence[str] = ASPECTS,
    cache: Path | None = None,
) -> TextEmbeddings:
    """The embeddings of these findings, from the cache if the same encoder has encoded the same texts before.

    BookError when a finding has no sentence; it names every missing finding.
    """
    books.require(findings, aspects)
    sentences = [books.sentence(finding, aspect) for finding in findings for aspect in aspects]
    sentences += [anatomy_sentence(anatomy) for anatomy in ANATOMIES]
    about = {"encoder": encoder.name, "tokenisation": encoder.tokenisation, "books": books.hashes}
    path = cache and cache / f"{_key(sentences, findings, aspects, encoder)}.safetensors"
    if path and path.exists():
        return replace(TextEmbeddings.load(path), about=about)
    vectors = encoder.encode(sentences)
    rows = vectors[: -len(ANATOMIES)].unflatten(0, (len(findings), len(aspects)))
    embeddings = TextEmbeddings(tuple(findings), tuple(aspects), rows, vectors[-len(ANATOMIES) :], about)
    if path:
        embeddings.save(path)
    return embeddings


def _key(sentences: list[str], findings: Sequence[str], aspects: Sequence[str], encoder: TextEncoder) -> str:
    content = [sentences, list(findings), list(aspects), encoder.fingerprint, encoder.tokenisation]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]
