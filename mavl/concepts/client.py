"""Requests to the server of a language model that speaks OpenAI's protocol.

The OpenAI SDK repeats what may succeed later (connections, timeouts, status 408, 409, 429 and 5xx), after a growing
wait or after the server's Retry-After of up to two minutes. A request that the server refuses is changed: a plainer
response format, no temperature, the other name of the token limit. The key is removed from every text of the server.
"""

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import openai
from tqdm import tqdm

from mavl.concepts import ConceptError
from mavl.concepts.answers import RESPONSE_SCHEMA, counted
from mavl.concepts.cache import Attempt
from mavl.concepts.plan import ConceptSettings
from mavl.concepts.prompts import Message

KEY_VARIABLE, URL_VARIABLE = "OPENAI_API_KEY", "OPENAI_BASE_URL"
OPENAI_HOST = "api.openai.com"

FORMATS = ({"type": "json_schema", "json_schema": RESPONSE_SCHEMA}, {"type": "json_object"}, None)
"""Response formats, the strictest first; the prompts request JSON in any case."""

NOT_THE_FORMAT = {401, 402, 403, 408, 409, 429}
"""Status codes that another response format does not change."""

WRONG_REQUEST = {400, 422}
NO_CREDIT = "insufficient_quota"
SECRET = 8
"""A key with fewer characters is no secret but a placeholder such as "none" or "ollama"."""


class ServerError(ConceptError):
    """The server does not serve this run; requests for other findings would fail too."""


class UnansweredError(ConceptError):
    """This request got no answer, however often it was sent."""


class StoppedError(ConceptError):
    """The run is ending; the request was not sent again."""


class _NoCompletionError(ValueError):
    """The server's reply has another form; the message is the reply."""


class _HTTP(openai.DefaultAsyncHttpxClient):
    """The SDK's HTTP client with a time limit for a whole answer, and without new requests once the run is stopped."""

    def __init__(self, seconds: float, stopped: asyncio.Event):
        super().__init__()
        self.seconds, self.stopped = seconds, stopped

    async def send(self, request, **options):
        if self.stopped.is_set():
            raise StoppedError("stopped")
        async with asyncio.timeout(self.seconds):  # the SDK's own limit starts anew with every byte
            return await super().send(request, **options)


class Client:
    """Sends conversations to a model. stopped: set it to send no more requests; sdk: close it at the end."""

    def __init__(self, settings: ConceptSettings):
        base_url = settings.base_url or os.environ.get(URL_VARIABLE) or f"https://{OPENAI_HOST}/v1"
        self.settings, self.stopped = settings, asyncio.Event()
        self.server, is_openai = _server(base_url)
        self._variable = settings.api_key_env or (KEY_VARIABLE if is_openai else None)
        self._key = _read_key(self._variable)
        self.sdk = openai.AsyncOpenAI(
            api_key=self._key or "none",
            base_url=base_url,
            max_retries=settings.max_retries,
            timeout=settings.timeout,
            http_client=_HTTP(settings.timeout, self.stopped),
        )
        if not is_openai:  # the SDK takes both from the environment
            self.sdk.organization = self.sdk.project = None
        self._token_limit = "max_completion_tokens" if is_openai else "max_tokens"
        self._format, self._format_taken, self._temperature_refused = 0, False, False

    def __str__(self) -> str:
        """The model, the server, and which key is sent there."""
        key = "without a key"
        if self._variable:
            key = f"with the key in {self._variable}"
        elif len(os.environ.get(KEY_VARIABLE, "")) >= SECRET:
            key += f" ({KEY_VARIABLE} is for {OPENAI_HOST}; --api-key-env {KEY_VARIABLE} sends it here)"
        return f"{self.settings.model} at {self.server}, {key}"

    async def complete(self, messages: Sequence[Message]) -> Attempt:
        """The answer to a conversation; its `problems` are what the server reports about it.

        Raises UnansweredError, ServerError or StoppedError where there is none, without the SDK's errors as their
        cause, since those quote the server.
        """
        level, failures, refusal = self._format, 0, None
        too_late = f"no answer within {self.settings.timeout:g} s"
        while True:
            sent = self._parameters(level)
            try:
                return await self._send(messages, level, sent)
            except openai.APIStatusError as error:
                if self._other_parameters(error, sent):
                    continue
                if error.status_code in NOT_THE_FORMAT:
                    raise self._judge(error) from None
                refusal = refusal or error
                if (level := self._plainer(level)) is None:
                    raise self._judge(refusal) from None
                continue
            except openai.APITimeoutError as error:
                raise self._unanswered(too_late, _tries(error)) from None
            except openai.APIConnectionError as error:
                cause = type(error.__cause__ or error).__name__
                raise self._unanswered(f"connection failed ({cause})", _tries(error)) from None
            except TimeoutError:
                reason = too_late
            except _NoCompletionError as error:
                reason = f"what it sends is no chat completion ({self._line(error) or 'it is empty'})"
            failures += 1
            if failures > self.settings.max_retries:
                raise self._unanswered(reason, failures)

    async def _send(self, messages: Sequence[Message], level: int, sent: dict[str, Any]) -> Attempt:
        """The answer to a request that the SDK repeats; _NoCompletionError for a reply of another form."""
        create: Any = self.sdk.chat.completions.with_raw_response.create
        reply = (await create(model=self.settings.model, messages=messages, **sent)).http_response.text
        try:
            content = json.loads(reply)
            choice, used = content["choices"][0], content.get("usage") or {}
            text, flaw = _text(choice["message"]), self._flaw(choice)
            attempt = Attempt(
                answer=self.clean(text),
                problems=(flaw,) if flaw else (),
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                tokens_in=used.get("prompt_tokens") or 0,
                tokens_out=used.get("completion_tokens") or 0,
                temperature_refused="temperature" not in sent,
            )
        except (ValueError, LookupError, TypeError, AttributeError):
            raise _NoCompletionError(reply) from None
        if not self._format_taken and (text or not flaw):  # an empty answer may be the format's fault
            self._format, self._format_taken = level if text else min(level + 1, len(FORMATS) - 1), bool(text)
        return attempt

    def _parameters(self, level: int) -> dict[str, Any]:
        """The optional parameters of a request with FORMATS[level]."""
        parameters = {
            "temperature": None if self._temperature_refused else self.settings.temperature,
            self._token_limit: self.settings.max_tokens,
            "response_format": FORMATS[level],
        }
        return {name: value for name, value in parameters.items() if value is not None}

    def _other_parameters(self, error: openai.APIStatusError, sent: dict[str, Any]) -> bool:
        """Leave out or rename a parameter that was sent and that the server refuses; whether it refuses one."""
        said = error.message.lower()
        if error.status_code not in WRONG_REQUEST:
            return False
        if "max_tokens" in sent and "max_completion_tokens" in said:
            self._token_limit = "max_completion_tokens"
        elif "temperature" in sent and "temperature" in said:
            if not self._temperature_refused:
                tqdm.write(f"{self.server} refuses a temperature; the model's own is used", file=sys.stderr)
            self._temperature_refused = True
        else:
            return False
        return True

    def _plainer(self, level: int) -> int | None:
        """The response format to try after one that was refused; None where the format is not the reason."""
        if self._format_taken:
            return None if level == self._format else self._format
        return level + 1 if level + 1 < len(FORMATS) else None

    def _judge(self, error: openai.APIStatusError) -> ConceptError:
        """The meaning of a status other than 200, for the request or for the run."""
        status, said, tries = error.status_code, self._line(error.message), _tries(error)
        wait = error.response.headers.get("retry-after")
        if status in (401, 403):  # without the server's words, which quote parts of the key
            key = f"the key in {self._variable}" if self._variable else "requests without a key (see --api-key-env)"
            return ServerError(f"{self.server} refuses {key}, status {status}")
        if status == 404:
            return ServerError(
                f"{self.server} knows no model {self.settings.model!r}, or not the address ({said}); see --model, and "
                "--base-url, which mostly ends in /v1"
            )
        if status == 402 or NO_CREDIT in (error.code, error.type):
            return ServerError(f"{self.server}: the account has no credit left ({said})")
        if status in NOT_THE_FORMAT or status >= 500:
            if wait and tries <= self.settings.max_retries:  # too long for the SDK
                return ServerError(
                    f"{self.server} asks to wait, Retry-After: {self._line(wait)} ({said}); start again then"
                )
            return self._unanswered(said, tries)
        if status in WRONG_REQUEST and self._format_taken:
            return self._unanswered(said, tries)
        return ServerError(f"{self.server} refuses the request ({said})")

    def _flaw(self, choice: dict) -> str | None:
        """What the server reports about its answer, worded for the model."""
        if refusal := choice["message"].get("refusal"):
            return f"it is a refusal ({self._line(refusal)})"
        own = "the server's own token limit, which --max-tokens can raise"
        limit = f"the {self.settings.max_tokens} tokens of --max-tokens" if self.settings.max_tokens else own
        return {
            "length": f"it was cut off at {limit}; write less",
            "content_filter": "it was withheld by the server's content filter",
        }.get(choice.get("finish_reason") or "")

    def clean(self, text: object) -> str:
        """The text without the key."""
        return str(text).replace(self._key, "[key]") if len(self._key) >= SECRET else str(text)

    def _line(self, text: object) -> str:
        return " ".join(self.clean(text).split())[:200]

    def _unanswered(self, reason: str, tries: int) -> UnansweredError:
        return UnansweredError(f"{self.server}: {reason} ({counted(tries, 'attempt')})")


def _tries(error: openai.APIError) -> int:
    """How often the SDK sent the request."""
    return 1 + int(error.request.headers.get("x-stainless-retry-count", 0))


def _text(message: dict) -> str:
    """The answer in a message: its content, or where that is empty the reasoning, where some servers put the answer."""
    for field in ("content", "reasoning_content", "reasoning"):
        text = message.get(field)
        if isinstance(text, list):
            text = "".join(part.get("text") or "" for part in text)
        if isinstance(text, str) and text.strip():
            return text
    return ""


def _server(base_url: str) -> tuple[str, bool]:
    """Host and port, without the user and password of the address, and whether it is OpenAI's server."""
    try:
        url = urlsplit(base_url)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError("it should read http://host:port/v1")
        is_openai = (url.scheme, url.hostname, url.port or 443) == ("https", OPENAI_HOST, 443)
        return url.hostname if url.port is None else f"{url.hostname}:{url.port}", is_openai
    except ValueError as error:
        raise ServerError(f"--base-url is no address of a server ({error})") from None


def _read_key(variable: str | None) -> str:
    """The key in an environment variable; "" without a variable; ServerError where it holds no key."""
    key = os.environ.get(variable, "").strip() if variable else ""
    if variable and not key:
        raise ServerError(f"no key: set {variable} in the environment; a server of your own, by --base-url, needs none")
    if not (key.isascii() and key.isprintable()):
        raise ServerError(f"{variable} holds characters that no key has")
    return key
