"""Text embeddings: sentence vectors by finding and aspect, and by anatomy.

The text encoder is frozen, so they are computed once and cached by a hash of everything that shapes them.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor

from mavl.files import parse_json, whole_file
from mavl.progress import note
from mavl.text.books import Books
from mavl.text.protocol import TextEncoder
from mavl.text.scaling import Scaling, ScalingName, fit_scaling
from mavl.vocab import ANATOMIES, ASPECTS, UnknownFindingError, anatomy_sentence, unknown_name

SAME_ENCODER = 1e-2
"""Largest difference of two computations of one text vector; another encoder or tokenisation differs by far more."""

FORMER = {"pooling": "cls", "normalize": False}
"""Settings that former versions did not have, and what they computed: the keys of the cache leave them out."""


class EmbeddingsError(ValueError):
    """Text embeddings that cannot be used together, or a file that holds none."""


@dataclass(frozen=True)
class TextEmbeddings:
    """vectors [F, A, T]: row (f, a) is aspect a of finding f; anatomy_vectors [51, T], by `anatomies`; float32.

    about: their origin (encoder, tokenisation, hashes of the books), for checkpoints and reports. scaling: the map that
    was applied to them, and that text of further findings takes too; None where they are as encoded. sentences:
    {finding: {aspect: sentence}} that were encoded; files of older versions lack them.
    """

    findings: tuple[str, ...]
    aspects: tuple[str, ...]
    vectors: Tensor
    anatomy_vectors: Tensor
    about: dict
    anatomies: tuple[str, ...] = ANATOMIES
    scaling: Scaling | None = None
    sentences: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __post_init__(self):
        expected, found = (len(self.findings), len(self.aspects)), tuple(self.vectors.shape)
        if found[:2] != expected or len(found) != 3:
            raise EmbeddingsError(f"text embeddings of {expected} findings and aspects hold vectors {found}")
        if (anatomies := tuple(self.anatomy_vectors.shape)) != (len(self.anatomies), found[2]):
            raise EmbeddingsError(f"text embeddings of width {found[2]} hold vectors {anatomies} of anatomies")
        if self.scaling and not self.scaling.fits(found[2]):
            name = self.scaling.name
            raise EmbeddingsError(f"the scaling {name!r} of text embeddings is no finite map of width {found[2]}")
        if twice := [name for name, count in Counter(self.findings).items() if count > 1]:
            raise EmbeddingsError(f"text embeddings name {twice[0]!r} twice")
        unfit = [
            name
            for names, vectors in ((self.findings, self.vectors), (self.anatomies, self.anatomy_vectors))
            for name, finite in zip(names, vectors.isfinite().flatten(1).all(dim=1).tolist(), strict=True)
            if not finite
        ]
        if unfit:
            raise EmbeddingsError(f"the text embeddings of {', '.join(unfit[:5])} hold NaN or infinity")

    def index(self, findings: Sequence[str]) -> list[int]:
        """Positions of findings by name; UnknownFindingError with the nearest names for all that are not here."""
        position = {name: i for i, name in enumerate(self.findings)}
        if unknown := [unknown_name("finding", name, position) for name in findings if name not in position]:
            raise UnknownFindingError("; ".join(unknown))
        return [position[name] for name in findings]

    def select(self, findings: Sequence[str]) -> "TextEmbeddings":
        """The same embeddings with these findings only, in this order."""
        sentences = {name: self.sentences[name] for name in findings if name in self.sentences}
        return replace(self, findings=tuple(findings), vectors=self.vectors[self.index(findings)], sentences=sentences)

    def scaled(self, scaling: Scaling | None) -> "TextEmbeddings":
        """The same embeddings, which must be as encoded, through this map."""
        if scaling is None:
            return self
        vectors, anatomy_vectors = scaling(self.vectors), scaling(self.anatomy_vectors)
        return replace(self, vectors=vectors, anatomy_vectors=anatomy_vectors, scaling=scaling)

    def with_own_scaling(self, name: ScalingName) -> "TextEmbeddings":
        """The same embeddings through the map of this name that is fitted to them, anatomies included."""
        return self.scaled(fit_scaling(name, torch.cat([self.vectors.flatten(0, 1), self.anatomy_vectors])))

    def extended(self, more: "TextEmbeddings") -> "TextEmbeddings":
        """These embeddings followed by those of other findings, which are as encoded, or scaled by the same map.

        EmbeddingsError when a finding is in both, when the aspects, the anatomies or their order differ, or when the
        vectors of the anatomies differ, which come from the same text: another encoder or tokenisation.
        """
        if twice := [name for name in more.findings if name in self.findings]:
            raise EmbeddingsError(f"in both text embeddings: {', '.join(twice)}")
        if more.aspects != self.aspects:
            orders = f"{', '.join(self.aspects)} in the model and {', '.join(more.aspects)} in the new text"
            raise EmbeddingsError(f"the aspects of text vectors are {orders}: give the new text those of the model")
        if more.anatomies != self.anatomies:
            raise EmbeddingsError("the new text has other anatomies than the model")
        if more.vectors.shape[1:] != self.vectors.shape[1:]:
            shapes = f"{tuple(self.vectors.shape[1:])} in the model and {tuple(more.vectors.shape[1:])} in the new text"
            raise EmbeddingsError(f"text vectors [aspects, width] are {shapes}: another text encoder?")
        if more.scaling is None:
            more = more.scaled(self.scaling)
        if not torch.allclose(more.anatomy_vectors, self.anatomy_vectors, rtol=0, atol=SAME_ENCODER):
            raise EmbeddingsError(
                f"{self.about['encoder']!r}, the model's text encoder, and {more.about['encoder']!r} give the same "
                "anatomies different vectors: another text encoder or tokenisation?"
            )
        about = self.about | {"books": self.about["books"] | more.about["books"]}
        vectors, sentences = torch.cat([self.vectors, more.vectors]), {**self.sentences, **more.sentences}
        findings = self.findings + more.findings
        return replace(self, findings=findings, vectors=vectors, about=about, sentences=sentences)

    def to(self, device: torch.device | str) -> "TextEmbeddings":
        return replace(self, vectors=self.vectors.to(device), anatomy_vectors=self.anatomy_vectors.to(device))

    def save(self, path: Path) -> None:
        """Write as safetensors, whole or not at all."""
        names = {
            key: json.dumps(getattr(self, key)) for key in ("findings", "aspects", "about", "anatomies", "sentences")
        }
        tensors = {"vectors": self.vectors.cpu().contiguous(), "anatomy_vectors": self.anatomy_vectors.cpu()}
        if self.scaling:
            names["scaling"] = json.dumps(self.scaling.name)
            tensors |= {"scaling_offset": self.scaling.offset, "scaling_factor": self.scaling.factor}
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, "wb") as file:  # not by save_file, which lets only the owner read its files
            file.write(serialize(tensors, names))

    @classmethod
    def load(cls, path: Path) -> "TextEmbeddings":
        """Read what `save` wrote, as float32; EmbeddingsError for a file that is damaged or something else."""
        try:
            with safe_open(path, framework="pt") as file:
                names = {key: parse_json(value, key) for key, value in dict(file.metadata()).items()}
                vectors, anatomy_vectors = (file.get_tensor(key).float() for key in ("vectors", "anatomy_vectors"))
                scaling = None
                if "scaling" in names:
                    map_of = (file.get_tensor(key).float() for key in ("scaling_offset", "scaling_factor"))
                    scaling = Scaling(names["scaling"], *map_of)
            anatomies = names.get("anatomies", ANATOMIES)  # absent in files of older versions
            findings, aspects, anatomies = map(tuple, (names["findings"], names["aspects"], anatomies))
            sentences = names.get("sentences", {})
            return cls(findings, aspects, vectors, anatomy_vectors, names["about"], anatomies, scaling, sentences)
        except (SafetensorError, OSError, TypeError, KeyError, ValueError) as error:
            raise EmbeddingsError(f"{path}: damaged, or no text embeddings ({error})") from error


def build_embeddings(
    books: Books,
    findings: Sequence[str],
    encoder: TextEncoder,
    aspects: Sequence[str] = ASPECTS,
    cache: Path | None = None,
    anatomies: Sequence[str] = ANATOMIES,
) -> TextEmbeddings:
    """The embeddings of these findings, from the cache if the same encoder has encoded the same texts before.

    A finding with a description alone has it for all aspects, which is printed. BookError that names every finding
    without a sentence.
    """
    books = books.filled(findings, aspects)
    books.require(findings, aspects)
    chosen = {finding: {aspect: books.sentences[finding][aspect] for aspect in aspects} for finding in findings}
    sentences = [sentence for of in chosen.values() for sentence in of.values()]
    sentences += [anatomy_sentence(anatomy) for anatomy in anatomies]
    about = {"encoder": encoder.name, "tokenisation": encoder.tokenisation, "books": books.hashes}
    shaping = {key: value for key, value in encoder.tokenisation.items() if FORMER.get(key) != value}
    key = json.dumps([sentences, list(findings), list(aspects), encoder.fingerprint, shaping])
    path = cache and cache / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"
    if path and path.exists():
        try:
            loaded = TextEmbeddings.load(path)
            return replace(loaded, about=about, anatomies=tuple(anatomies), sentences=chosen)
        except EmbeddingsError as error:
            note(f"note: {error}; it is made again")
    vectors = encoder.encode(sentences)
    rows = vectors[: -len(anatomies)].unflatten(0, (len(findings), len(aspects)))
    of_anatomies = vectors[-len(anatomies) :]
    names = tuple(findings), tuple(aspects)
    embeddings = TextEmbeddings(*names, rows, of_anatomies, about, tuple(anatomies), sentences=chosen)
    if path:
        embeddings.save(path)
    return embeddings
