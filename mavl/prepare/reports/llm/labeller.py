"""Labels of reports by a language model: what is not on disk yet is requested, and an interrupted run goes on."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mavl.prepare.reports.llm.cache import Cache
from mavl.prepare.reports.llm.names import Names
from mavl.prepare.reports.llm.prompts import Prompt
from mavl.prepare.reports.llm.requests import MOST_LETTERS, Requests
from mavl.prepare.reports.llm.settings import LabelSettings
from mavl.prepare.reports.protocol import Mention, Report
from mavl.prepare.reports.sections import Sections, read_sentences
from mavl.vocab import ANATOMIES


class LLMLabeller:
    """Mentions of findings by a language model.

    Args:
        settings: the server, the model and the limits.
        findings: the vocabulary, any names.
        sections: those that are sent.
        anatomies: places, their sides in their names.
    """

    name = "llm"

    def __init__(
        self,
        settings: LabelSettings,
        findings: Sequence[str],
        sections: Sections = "both",
        anatomies: Sequence[str] = ANATOMIES,
    ):
        self.findings = tuple(findings)
        self._sections: Sections = sections
        self._names = Names(findings, anatomies)
        self._prompt = Prompt(self._names.findings, self._names.places)
        kind = {"model": settings.model, "temperature": settings.temperature, "prompt": self._prompt.hash}
        self._cache = Cache(Path(settings.cache).expanduser(), kind)
        self._requests = Requests(settings, self._prompt, self._cache)

    def label(self, reports: Sequence[Report]) -> Iterator[list[Mention] | str]:
        """The mentions of each report, in order, or why it has no labels, after all answers are there.

        LLMError where the run ended before, KeyboardInterrupt where a signal ended it: what was paid for is kept.
        """
        reasons = self._requests.run(self._missing(reports))
        for report in reports:
            text = self._text(report)
            labels = self._cache.get(text)
            yield _unfit(text) or reasons[text] if labels is None else list(self._names.mentions(labels))

    def estimate(self, reports: Sequence[Report]) -> str:
        """The missing requests with their approximate tokens."""
        return self._requests.estimate(self._missing(reports))

    def describe(self) -> dict[str, Any]:
        """What `label` used, and the names in answers that the vocabulary does not have."""
        outcome = self._requests.outcome
        return {
            "model": self._requests.settings.model,
            "prompt": self._prompt.hash,
            "answers": outcome.calls,
            "tokens_in": outcome.tokens_in,
            "tokens_out": outcome.tokens_out,
            "unknown_findings": dict(self._names.unknown_findings.most_common()),
            "unknown_places": dict(self._names.unknown_places.most_common()),
        }

    def _missing(self, reports: Sequence[Report]) -> list[str]:
        """The texts to request, each once."""
        texts = dict.fromkeys(map(self._text, reports))
        return [text for text in texts if self._cache.get(text) is None and not _unfit(text)]

    def _text(self, report: Report) -> str:
        return " ".join(read_sentences(report, self._sections))


def _unfit(text: str) -> str | None:
    """Why a text is not requested."""
    if not text:
        return "no words in the sections that are read"
    return f"{len(text):,} letters; at most {MOST_LETTERS:,} are sent" if len(text) > MOST_LETTERS else None
