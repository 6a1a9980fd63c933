"""The requests of a run for labels of reports: in batches, then one by one, within the run's limits."""

import json
from collections.abc import Iterator, Sequence

from mavl.llm import LLMError
from mavl.llm.answers import Message
from mavl.llm.client import Client, StoppedError
from mavl.llm.settings import LETTERS_A_TOKEN
from mavl.llm.workers import Outcome, Workers
from mavl.prepare.reports.llm.answers import RESPONSE_SCHEMA, read_labels
from mavl.prepare.reports.llm.cache import Cache
from mavl.prepare.reports.llm.prompts import Prompt
from mavl.prepare.reports.llm.settings import LabelSettings
from mavl.progress import note, plural, progress_bar

MOST_LETTERS = 20_000
"""Most letters of the reports in a request."""

LETTERS_OF_LABELS = 6
"""Letters of an answer for each letter of a report, by the rule labeller's findings: 4.9 for reports of Open-I."""


class Requests:
    """Requests the labels of texts and keeps them in the cache. outcome: what they cost."""

    def __init__(self, settings: LabelSettings, prompt: Prompt, cache: Cache):
        self.settings, self.outcome, self._prompt, self._cache = settings, Outcome(), prompt, cache
        self._sent = self._under_way = self._spent = 0
        self._reasons: dict[str, str] = {}
        self._limit = ""

    def run(self, texts: Sequence[str]) -> dict[str, str]:
        """{text: why it has no labels}, after all requests; every other text is in the cache.

        LLMError where the run ended before, KeyboardInterrupt where a signal ended it: what was paid for is kept.
        """
        if not texts:
            return {}
        client = Client(self.settings, RESPONSE_SCHEMA)
        note(f"sending {plural(len(texts), 'text')} of reports to {client}")
        self._workers = Workers(client, self.outcome, self._label, self._fail)
        batches = list(self.batches(texts))
        self._workers.run(batches, progress_bar(total=len(batches), description="labels", unit="batch"))
        left = sum(self._cache.get(text) is None for text in texts)
        rest = f"left: {left:,} of {plural(len(texts), 'text')}; the same command goes on with the rest"
        if self.outcome.stopped_by:
            raise KeyboardInterrupt(rest)
        if self.outcome.fatal and not isinstance(self.outcome.fatal, LLMError):
            raise self.outcome.fatal
        if reason := self.outcome.fatal or self._limit:
            raise LLMError(f"{reason}; {rest}")
        return self._reasons

    def batches(self, texts: Sequence[str]) -> Iterator[list[str]]:
        """The texts by request."""
        batch: list[str] = []
        for text in texts:
            if batch and (len(batch) == self.settings.batch or sum(map(len, batch)) + len(text) > MOST_LETTERS):
                yield batch
                batch = []
            batch.append(text)
        if batch:
            yield batch

    def estimate(self, texts: Sequence[str]) -> str:
        """The number of requests with their approximate tokens."""
        batches = list(self.batches(texts))
        sent = sum(_tokens_of(self._prompt.conversation(batch)) for batch in batches)
        received = sum(map(_tokens_of_labels, batches))
        return (
            f"{plural(len(batches), 'request')} to make for {plural(len(texts), 'text')}, about {sent:,} tokens in and "
            f"{received:,} out ({LETTERS_A_TOKEN} letters a token, without second tries)"
        )

    async def _label(self, batch: list[str]) -> None:
        """Request the labels of a batch; then, one by one, of the texts for which the answer cannot be used."""
        for text, problems in (await self._ask(batch, ())).items():
            for _ in range(self.settings.max_retries):
                problems = (await self._ask([text], problems)).get(text)
                if not problems:
                    break
            else:
                tries = plural(1 + self.settings.max_retries, "answer")
                self._reasons[text] = f"{tries} could not be used; the last: {'; '.join(problems)}"

    async def _ask(self, texts: Sequence[str], problems: Sequence[str]) -> dict[str, list[str]]:
        """Request labels and keep those that can be used; {text: problems} of the others."""
        messages = self._prompt.conversation(texts, problems)
        expected = _tokens_of(messages) + _tokens_of_labels(texts)
        if limit := self._forbids(expected):
            self._limit = limit
            raise StoppedError(limit)  # the other workers come to an end of their own
        self._sent, self._under_way = self._sent + 1, self._under_way + expected
        try:
            attempt = await self._workers.complete(messages)
        finally:
            self._under_way -= expected
        self._spent += (attempt.tokens_in or _tokens_of(messages)) + (attempt.tokens_out or _tokens(attempt.answer))
        labels, left = read_labels(attempt.answer, texts)
        self._cache.add(labels)
        return {text: [*attempt.problems, *found] for text, found in left.items()}

    def _forbids(self, tokens: int) -> str | None:
        """The limit of the run that a request of so many tokens would pass."""
        most, budget = self.settings.max_requests, self.settings.max_total_tokens
        if most is not None and self._sent >= most:
            return f"--max-requests {most} is reached"
        if budget is not None and self._spent + self._under_way + tokens > budget:
            return f"--max-total-tokens {budget} does not allow another request of about {tokens:,} tokens"
        return None

    def _fail(self, batch: list[str], reason: str) -> None:
        self._reasons |= {text: reason for text in batch if self._cache.get(text) is None and text not in self._reasons}


def _tokens_of(messages: Sequence[Message]) -> int:
    return _tokens(json.dumps(RESPONSE_SCHEMA)) + sum(_tokens(message["content"]) for message in messages)


def _tokens_of_labels(texts: Sequence[str]) -> int:
    return LETTERS_OF_LABELS * sum(map(_tokens, texts))


def _tokens(text: str) -> int:
    return len(text) // LETTERS_A_TOKEN + 1
