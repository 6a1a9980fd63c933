"""The same findings in other words: what the books could as well have said, and what is left with less of it.

Every line keeps its aspect's word in front, as the format of the books has it: "border: distinct edge, ...".
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mavl.text.books import Books
from mavl.vocab import DESCRIPTION

BUILT_IN = ("names", "descriptions", "without", "reversed", "templates")
"""names: the finding's name in place of every sentence. descriptions: the description in place of every aspect's words.
without: of one aspect after the other, the name in place of its words. reversed: the phrases of an aspect line,
which commas part, in reverse order. templates: each of TEMPLATES put around every sentence."""

TEMPLATES = {
    "prefixed": "on a chest X-ray: {words}",
    "suffixed": "{words}, on a chest X-ray",
    "named": "{finding}: {words}",
}

REFERENCE = "books"

ABLATION, REWORDING, OWN = "ablation", "rewording", "own"
"""Kinds of variants: with less said than the books say, with the same said otherwise, with books of the user's own."""

Change = Callable[[str, str, str], str]
"""(finding, aspect, words without the aspect's own in front) -> other words."""


@dataclass(frozen=True)
class Variant:
    """Books in other words; `books` holds the findings in question and the aspects of the model, no more."""

    name: str
    kind: str
    books: Books


def built_in_variants(
    books: Books, findings: Sequence[str], aspects: Sequence[str], which: Sequence[str] = BUILT_IN
) -> list[Variant]:
    """The variants of these findings and aspects, without those whose sentences are the books' or a former variant's.

    BookError when a book lacks one of the findings or aspects.
    """
    books.require(findings, aspects)
    variants: list[Variant] = []
    said = [_reworded(books, findings, aspects, lambda finding, aspect, words: words).sentences]
    for kind in dict.fromkeys(which):
        for name, of_kind, change in _changes(kind, books, aspects):
            reworded = _reworded(books, findings, aspects, change)
            if reworded.sentences not in said:
                variants.append(Variant(name, of_kind, reworded))
                said.append(reworded.sentences)
    return variants


def phrases_reversed(books: Books, findings: Sequence[str], aspects: Sequence[str]) -> Books:
    """The books with the phrases of every aspect line in reverse order: other text that says the same."""
    return _reworded(books, findings, aspects, _reverse)


def write_books(folder: Path, books: Books) -> dict[str, tuple[str, ...]]:
    """Write books of descriptions and, where there are any, of aspects -> {descriptions or aspects: the file}."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "descriptions": {finding: of[DESCRIPTION] for finding, of in books.sentences.items()},
        "aspects": {
            finding: lines
            for finding, of in books.sentences.items()
            if (lines := [line for aspect, line in of.items() if aspect != DESCRIPTION])
        },
    }
    files = {}
    for name, content in contents.items():
        if not content:
            continue
        path = folder / f"{name}.json"
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(draft, path)
        files[name] = (str(path),)
    return files


def _changes(which: str, books: Books, aspects: Sequence[str]) -> Iterator[tuple[str, str, Change]]:
    """(name of the variant, its kind, how it changes a sentence)."""
    if which == "names":
        yield which, ABLATION, lambda finding, aspect, words: finding
    elif which == "descriptions":
        yield which, ABLATION, lambda finding, aspect, words: books.sentences[finding][DESCRIPTION]
    elif which == "without":
        for left_out in aspects:
            yield f"without {left_out}", ABLATION, _leave_out(left_out)
    elif which == "reversed":
        yield which, REWORDING, _reverse
    elif which == "templates":
        for name, template in TEMPLATES.items():
            yield name, REWORDING, _put_into(template)


def _reworded(books: Books, findings: Sequence[str], aspects: Sequence[str], change: Change) -> Books:
    def sentence(finding: str, aspect: str) -> str:
        line = books.sentences[finding][aspect]
        if aspect == DESCRIPTION:
            return change(finding, aspect, line)
        head, _, words = line.partition(":")
        return f"{head}: {change(finding, aspect, words.strip())}"

    return Books({finding: {aspect: sentence(finding, aspect) for aspect in aspects} for finding in findings}, {})


def _leave_out(left_out: str) -> Change:
    return lambda finding, aspect, words: finding if aspect == left_out else words


def _reverse(finding: str, aspect: str, words: str) -> str:
    """A description stays: it is one sentence, whose clauses lean on each other."""
    return words if aspect == DESCRIPTION else ", ".join(reversed(words.split(", ")))


def _put_into(template: str) -> Change:
    """The full stop of a description stays at its end."""

    def change(finding: str, aspect: str, words: str) -> str:
        bare = words.removesuffix(".")
        return template.format(finding=finding, words=bare) + words[len(bare) :]

    return change
