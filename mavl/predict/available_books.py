"""The books available to a model: text for new findings, and the sentences of the vectors that it holds."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from mavl.checkpoint.folder import Pretrained
from mavl.config.settings import ASPECT_BOOKS, DESCRIPTION_BOOKS
from mavl.text.books import Books, read_books
from mavl.vocab import DESCRIPTION

REPOSITORY = Path(__file__).resolve().parents[2]


class AvailableBooks:
    """This project's books, where they are found, and the given ones, which take precedence.

    A model folder holds the vectors of its sentences, not the sentences. They are read from the books whose hashes the
    folder states; where those are not found there are none, rather than others.
    """

    def __init__(self, pretrained: Pretrained, descriptions: Sequence[str | Path], aspects: Sequence[str | Path]):
        if pretrained.model.aspects == (DESCRIPTION,):
            aspects = own_aspects = ()
        else:
            own_aspects = _own(ASPECT_BOOKS)
        self._pretrained = pretrained
        self._given = read_books(descriptions, aspects)
        self.descriptions = [*_own(DESCRIPTION_BOOKS), *map(Path, descriptions)]
        self.aspects = [*own_aspects, *map(Path, aspects)]

    @property
    def given(self) -> list[str]:
        """Findings of the books that were given."""
        return list(self._given.sentences)

    @property
    def all(self) -> list[str]:
        """Findings of all books."""
        return list(self._books.sentences)

    @property
    def complete(self) -> bool:
        """Whether all the books of which the model's vectors were made were found."""
        return self._pretrained.embeddings is None or self._made_of <= set(self._trained.hashes.values())

    def sentences(self, finding: str) -> dict[str, str]:
        """{aspect: sentence} of the vectors of a finding, as far as the books were found."""
        trained = self._pretrained.embeddings is not None and finding in self._pretrained.embeddings.findings
        return (self._trained if trained else self._books).sentences.get(finding, {})

    @cached_property
    def _books(self) -> Books:
        return read_books(self.descriptions, self.aspects)

    @cached_property
    def _trained(self) -> Books:
        return read_books(
            *([path for path in paths if _sha256(path) in self._made_of] for paths in (self.descriptions, self.aspects))
        )

    @property
    def _made_of(self) -> set[str]:
        return set(self._pretrained.embeddings.about["books"].values())


def _own(names: Sequence[str]) -> list[Path]:
    """This project's books, from the working folder or else from beside the package; none where neither has them."""
    found = []
    for name in names:
        found += [path for path in (Path(name), REPOSITORY / name) if path.is_file()][:1]
    return found


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
