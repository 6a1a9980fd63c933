"""The server: one chat completion at a time, asked again with back-off while there is hope.

Any OpenAI-compatible server. The key comes from the environment and leaves this module for the server alone: it is
struck out of every text that the server sends back.
"""

import asyncio
import os
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import openai

from mavl.concepts.answers import RESPONSE_SCHEMA
from mavl.concepts.files import ConceptError
from mavl.concepts.prompts import Message
from mavl.concepts.settings import ConceptSettings

KEY_VARIABLE, URL_VARIABLE = "OPENAI_API_KEY", "OPENAI_BASE_URL"

FORMATS = ({"type": "json_schema", "json_schema": RESPONSE_SCHEMA}, {"type": "json_object"}, None)
"""How the server is asked to hold the model to JSON, until it takes one; the prompts ask for JSON in any case."""

WORTH_REPEATING = {408, 409, 425, 429}  # and 5xx, but 501
NOT_UNDERSTOOD = {400, 422, 501}
NO_CREDIT = "insufficient_quota"
SECRET = 8
"""A key with fewer characters is no secret but a placeholder such as "none" or "ollama"."""


class ServerError(ConceptError):
    """The server will not serve this run; asking for another finding is no use."""


class UnansweredError(ConceptError):
    """This request got no answer, however often it was sent."""


class StoppedError(ConceptError):
    """The run is ending; the request was not sent again."""


class _TransientError(Exception):
    """(reason, seconds the server asks to wait or None): the same request may well be answered the next time."""


class _NotUnderstoodError(Exception):
    """The server takes the request for a wrong one."""


@dataclass(frozen=True)
class Completion:
    """What came back. flaw: what the server says is wrong with the text, in words for the model."""

    text: str
    flaw: str | None
    tokens_in: int
    tokens_out: int


class Client:
    """Sends conversations to a model. stopped: set by the run when no more requests shall be sent."""

    def __init__(self, settings: ConceptSettings):
        base_url = settings.base_url or os.environ.get(URL_VARIABLE) or None
        self.settings, self.stopped = settings, asyncio.Event()
        self.server = _server(base_url)
        self._key = _read_key(base_url)
        self._client = openai.AsyncOpenAI(
            api_key=self._key or "none", base_url=base_url, max_retries=0, timeout=settings.timeout
        )
        self._format, self._format_taken, self._refusal = 0, None, None
        self._pause_until = 0.0

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_) -> None:
        await self._client.close()

    async def complete(self, messages: Sequence[Message]) -> Completion:
        """The answer to a conversation; UnansweredError, ServerError or StoppedError where there is none."""
        failures = 0
        while True:
            await self._wait(self._pause_until - time.monotonic())
            tried = self._format
            try:
                return await self._send(messages, tried)
            except _NotUnderstoodError as error:
                self._plainer_format(tried, str(error))
                continue
            except _TransientError as error:
                reason, wait = error.args
            failures += 1
            if failures > self.settings.max_retries:
                raise UnansweredError(f"{self.server}: {reason} ({failures} tr{'y' if failures == 1 else 'ies'})")
            await self._wait(self._back_off(wait, reason, failures))

    def clean(self, text: object) -> str:
        """The text without the key."""
        return str(text).replace(self._key, "[key]") if len(self._key) >= SECRET else str(text)

    async def _send(self, messages: Sequence[Message], response_format: int) -> Completion:
        """One request. Errors are raised without the SDK's own behind them, which quote the server."""
        held_to = FORMATS[response_format]
        try:
            async with asyncio.timeout(self.settings.timeout):  # the SDK's own starts anew with every byte
                answer = await self._client.chat.completions.create(
                    model=self.settings.model,
                    messages=messages,
                    temperature=self.settings.temperature,
                    **({} if held_to is None else {"response_format": held_to}),
                )
            choice = answer.choices[0]  # the SDK does not check what it was sent
            text, refusal = choice.message.content or "", choice.message.refusal
        except (TimeoutError, openai.APITimeoutError):
            raise _TransientError(f"no answer within {self.settings.timeout:g} s", None) from None
        except openai.APIStatusError as error:
            raise self._judge(error) from None
        except openai.APIConnectionError as error:
            raise _TransientError(f"connection failed ({type(error.__cause__ or error).__name__})", None) from None
        except (ValueError, AttributeError, TypeError, IndexError, openai.APIResponseValidationError):
            raise _TransientError("what it sends is no chat completion", None) from None
        self._format_taken = response_format
        flaw = f"it is a refusal ({self._line(refusal)})" if refusal else _FLAWS.get(choice.finish_reason)
        used = answer.usage
        return Completion(
            self.clean(text), flaw, getattr(used, "prompt_tokens", 0) or 0, getattr(used, "completion_tokens", 0) or 0
        )

    def _judge(self, error: openai.APIStatusError) -> Exception:
        """What a status other than 200 means for the request, or for the run."""
        status, said = error.status_code, self._line(error.message)
        if status in (401, 403):  # without the server's words, which quote parts of the key
            key = f"the key in {KEY_VARIABLE}" if self._key else f"requests without a key (set {KEY_VARIABLE})"
            return ServerError(f"{self.server} refuses {key}, status {status}")
        if status == 404:
            return ServerError(
                f"{self.server} knows no model {self.settings.model!r}, or not the address ({said}); see --model, and "
                "--base-url, which mostly ends in /v1"
            )
        if status == 402 or NO_CREDIT in (error.code, error.type):
            return ServerError(f"{self.server}: the account has no credit left ({said})")
        if status in NOT_UNDERSTOOD and "temperature" in said.lower():
            asked = f"--temperature {self.settings.temperature:g}"
            return ServerError(f"{self.server} refuses {asked}; try 1, all that some models take ({said})")
        if status in NOT_UNDERSTOOD:
            return _NotUnderstoodError(said)
        if status in WORTH_REPEATING or status >= 500:
            return _TransientError(said, _retry_after(error.response.headers))
        return ServerError(f"{self.server} refuses the request ({said})")

    def _plainer_format(self, tried: int, reason: str) -> None:
        """Ask for JSON in the next plainer way from now on, as the server may not know this one."""
        self._refusal = self._refusal or reason
        if tried < self._format:  # another request has found that out
            return
        if tried == self._format_taken:  # then it is this request that the server dislikes
            raise UnansweredError(f"{self.server}: {reason}")
        if tried + 1 == len(FORMATS):
            raise ServerError(f"{self.server} refuses the request ({self._refusal})")
        self._format = tried + 1

    def _back_off(self, wait: float | None, reason: str, failures: int) -> float:
        """Seconds to wait before the next try, never the same for requests that failed together.

        All other requests are held back too for as long as the server asks.
        """
        first, longest = self.settings.backoff, self.settings.longest_wait
        if wait is None:
            delay = min(first * 2 ** (failures - 1), longest)
            return random.uniform(delay / 2, delay)
        if wait > longest:
            raise ServerError(f"{self.server} asks to wait for {wait:.0f} s ({reason}); start again then")
        self._pause_until = max(self._pause_until, time.monotonic() + wait)
        return wait + random.uniform(0, first)

    async def _wait(self, seconds: float) -> None:
        """Wait, and less long when the run is stopped."""
        if seconds > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.stopped.wait(), seconds)
        if self.stopped.is_set():
            raise StoppedError("stopped")

    def _line(self, text: object) -> str:
        return " ".join(self.clean(text).split())[:200]


_FLAWS = {
    "length": "it was cut off at the token limit; write less",
    "content_filter": "it was withheld by the server's content filter",
}


def _server(base_url: str | None) -> str:
    """Host and port, without the user's name and password that an address may hold."""
    if base_url is None:
        return "OpenAI"
    try:
        url = urlsplit(base_url)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError("it should read http://host:port/v1")
        return url.hostname if url.port is None else f"{url.hostname}:{url.port}"
    except ValueError as error:
        raise ServerError(f"--base-url is no address of a server ({error})") from None


def _read_key(base_url: str | None) -> str:
    """The key, or nothing for a server of one's own, which mostly needs none."""
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key and base_url is None:
        raise ServerError(
            f"no key: set {KEY_VARIABLE} in the environment; a server of your own, by --base-url, needs none"
        )
    if not (key.isascii() and key.isprintable()):
        raise ServerError(f"{KEY_VARIABLE} holds characters that no key has")
    return key


def _retry_after(headers) -> float | None:
    """Seconds that the server asks to wait, from the header's two forms, a number and a date."""
    value = headers.get("retry-after")
    if value is None:
        return None
    with suppress(ValueError):
        return max(0.0, float(value))
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
