"""Wordings: other text for the same findings, of equal content or of less.

Every line keeps the name of its aspect in front, as the format of the books has it: "border: distinct edge, ...".
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mavl.files import write_json
from mavl.text.books import Books
from mavl.vocab import DESCRIPTION, WORDINGS

TEMPLATES = {
    "prefixed": "on a chest X-ray: {words}",
    "suffixed": "{words}, on a chest X-ray",
    "named": "{finding}: {words}",
}

REFERENCE = "books"

ABLATION, REWORDING, OWN = "ablation", "rewording", "own"
"""Kinds of wordings: with less content than the books, with equal content, the user's own books."""

Change = Callable[[str, str, str], str]
"""(finding, aspect, words without the name of the aspect) -> other words."""


@dataclass(frozen=True)
class Wording:
    """A text of certain findings; `books` holds these findings and the aspects of the model alone."""

    name: str
    kind: str
    books: Books


def built_in_wordings(
    books: Books, findings: Sequence[str], aspects: Sequence[str], which: Sequence[str] = WORDINGS
) -> list[Wording]:
    """The built-in wordings of these findings and aspects, without those equal to the books or to an earlier one.

    BookError when a book lacks one of the findings or aspects.
    """
    books.require(findings, aspects)
    wordings: list[Wording] = []
    known = [_reworded(books, findings, aspects, lambda finding, aspect, words: words).sentences]
    for kind in dict.fromkeys(which):
        for name, of_kind, change in _changes(kind, books, aspects):
            reworded = _reworded(books, findings, aspects, change)
            if reworded.sentences not in known:
                wordings.append(Wording(name, of_kind, reworded))
                known.append(reworded.sentences)
    return wordings


def phrases_reversed(books: Books, findings: Sequence[str], aspects: Sequence[str]) -> Books:
    """The books with the phrases of every aspect line in reverse order: another text of equal content."""
    return _reworded(books, findings, aspects, _reverse)


def write_books(folder: Path, books: Books) -> dict[str, tuple[str, ...]]:
    """Write books of descriptions and, where there are any, of aspects -> {descriptions or aspects: the file}."""
    lines = {
        finding: [line for aspect, line in of.items() if aspect != DESCRIPTION]
        for finding, of in books.sentences.items()
    }
    contents = {
        "descriptions": {finding: of[DESCRIPTION] for finding, of in books.sentences.items()},
        "aspects": {finding: of for finding, of in lines.items() if of},
    }
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: folder / f"{name}.json" for name, content in contents.items() if content}
    for name, path in files.items():
        write_json(path, contents[name])
    return {name: (str(path),) for name, path in files.items()}


def _changes(which: str, books: Books, aspects: Sequence[str]) -> list[tuple[str, str, Change]]:
    """(name of the wording, its kind, its change of a sentence)."""
    return {
        "names": [(which, ABLATION, lambda finding, aspect, words: finding)],
        "descriptions": [(which, ABLATION, lambda finding, aspect, words: books.sentences[finding][DESCRIPTION])],
        "without": [(f"without {left_out}", ABLATION, _leave_out(left_out)) for left_out in aspects],
        "reversed": [(which, REWORDING, _reverse)],
        "templates": [(name, REWORDING, _put_into(template)) for name, template in TEMPLATES.items()],
    }[which]


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
    """The words with their phrases reversed; a description as it is, since its clauses depend on their order."""
    return words if aspect == DESCRIPTION else ", ".join(reversed(words.split(", ")))


def _put_into(template: str) -> Change:
    """A change that puts words into a template; the full stop of a description stays at its end."""

    def change(finding: str, aspect: str, words: str) -> str:
        bare = words.removesuffix(".")
        return template.format(finding=finding, words=bare) + words[len(bare) :]

    return change
