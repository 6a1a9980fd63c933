"""Requests to the server of a language model that implements OpenAI's protocol.

The OpenAI SDK repeats what may succeed later (connections, timeouts, unreadable replies, status 408, 409, 429 and 5xx),
after a growing wait or after the server's Retry-After of up to two minutes. A request that the server refuses is
changed: a plainer response format, no temperature, the other name of the token limit. The key is removed from every
text of the server.
"""

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import httpx2
import openai
from tqdm import tqdm

from mavl.llm import LLMError
from mavl.llm.answers import Attempt, Message
from mavl.llm.settings import ServerSettings
from mavl.progress import plural

OPENAI_HOST = b"api.openai.com"
NO_ADDRESS = "--base-url is no address of a server; it should read http://host:port/v1"

NOT_THE_FORMAT, WRONG_REQUEST = {401, 402, 403, 408, 409, 429}, {400, 422}
"""Status codes that another response format does not change, and those that other parameters may change."""

OWN_LIMIT = "the server's own token limit, which --max-tokens can raise"
FILTERED = "it was withheld by the server's content filter"

SECRET = 8
"""A key with fewer characters is no secret but a placeholder such as "none" or "ollama"."""


class ServerError(LLMError):
    """The server does not serve this run; other requests would fail too."""


class UnansweredError(LLMError):
    """This request got no answer, however often it was sent."""


class StoppedError(LLMError):
    """The run is ending; the request was not sent again."""


class _HTTP(openai.DefaultAsyncHttpxClient):
    """The SDK's HTTP client; a whole answer has a time limit and a known form, and a stopped run sends no requests."""

    def __init__(self, seconds: float, stopped: asyncio.Event):
        super().__init__()
        self.seconds, self.stopped = seconds, stopped

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        if self.stopped.is_set():
            raise StoppedError("stopped")
        try:
            async with asyncio.timeout(self.seconds):  # the SDK's own limit starts anew with every byte
                reply = await super().send(request, **options)
        except TimeoutError:
            raise httpx2.ReadTimeout(f"no answer within {self.seconds:g} s", request=request) from None
        try:
            _read(reply) if reply.is_success else None
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            said = reply.text.strip() or "nothing"
            raise httpx2.DecodingError(f"it sends no chat completion but {said}", request=request) from None
        return reply


class Client:
    """Sends conversations to a model. stopped: set it to send no more requests; sdk: close it at the end.

    schema: of the answers (mavl.llm.answers.response_schema). It is one of three response formats, the strictest first;
    the prompts request JSON in any case.
    """

    def __init__(self, settings: ServerSettings, schema: dict[str, Any]):
        self.settings, self.stopped = settings, asyncio.Event()
        self._formats = ({"type": "json_schema", "json_schema": schema}, {"type": "json_object"}, None)
        options: dict[str, Any] = {"max_retries": settings.max_retries, "timeout": settings.timeout}
        http = _HTTP(settings.timeout, self.stopped)
        try:  # without an address the SDK takes OPENAI_BASE_URL, or OpenAI's
            self.sdk = openai.AsyncOpenAI(api_key="none", base_url=settings.base_url, http_client=http, **options)
        except httpx2.InvalidURL:
            raise ServerError(NO_ADDRESS) from None
        url = self.sdk.base_url
        if url.scheme not in ("http", "https") or not url.host:
            raise ServerError(NO_ADDRESS)
        self.server, is_openai = url.netloc.decode(), (url.scheme, url.netloc) == ("https", OPENAI_HOST)
        self._key, self._credentials = "", "no key (see --api-key-env)"
        if variable := settings.api_key_env or ("OPENAI_API_KEY" if is_openai else None):
            self.sdk.api_key = self._key = _read_key(variable)
            self._credentials = f"the key in {variable}"
        if not is_openai:  # the SDK takes both from the environment
            self.sdk.organization = self.sdk.project = None
        self._parameters: dict[str, Any] = {"temperature": settings.temperature}
        if settings.max_tokens:
            self._parameters["max_completion_tokens" if is_openai else "max_tokens"] = settings.max_tokens
        self._format, self._taken = 0, None

    def __str__(self) -> str:
        """The model, the server, and which key is sent there."""
        return f"{self.settings.model} at {self.server}, with {self._credentials}"

    async def complete(self, messages: Sequence[Message]) -> Attempt:
        """The answer to a conversation; its `problems` are what the server reports about it.

        Raises UnansweredError, ServerError or StoppedError where there is none, without the SDK's errors as their
        cause, since those quote the server.
        """
        create: Any = self.sdk.chat.completions.with_raw_response.create
        level, refusal = self._format, None
        while True:
            sent = self._parameters | ({"response_format": form} if (form := self._formats[level]) else {})
            try:
                reply = await create(model=self.settings.model, messages=messages, **sent)
                return self._attempt(reply.http_response, level, "temperature" not in sent)
            except openai.APIStatusError as error:
                if error.status_code in WRONG_REQUEST and self._changes(error.message.lower(), sent):
                    continue
                if error.status_code in NOT_THE_FORMAT:
                    raise self._judge(error) from None
                refusal = refusal or error
                if level in (self._taken, len(self._formats) - 1):
                    raise self._judge(refusal) from None
                level += 1
            except openai.APIConnectionError as error:
                cause = error.__cause__ or error
                raise self._unanswered(self._line(cause) or type(cause).__name__, error) from None

    def _attempt(self, reply: httpx2.Response, level: int, temperature_refused: bool) -> Attempt:
        """The answer in a reply to a request with the format of this number."""
        text, finish, refusal, used = _read(reply)
        limit = f"--max-tokens {self.settings.max_tokens}" if self.settings.max_tokens else OWN_LIMIT
        flaws = {"length": f"it was cut off at {limit}; write less", "content_filter": FILTERED}
        flaw = f"it is a refusal ({self._line(refusal)})" if refusal else flaws.get(finish)
        if text:
            self._format = self._taken = level if self._taken is None else self._taken
        elif self._taken is None and not flaw:  # an empty answer may be the format's fault
            self._format = min(level + 1, len(self._formats) - 1)
        return Attempt(
            answer=self.clean(text),
            problems=(flaw,) if flaw else (),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            tokens_in=_number(used.get("prompt_tokens")),
            tokens_out=_number(used.get("completion_tokens")),
            temperature_refused=temperature_refused,
        )

    def _changes(self, said: str, sent: dict[str, Any]) -> bool:
        """Rename or leave out a parameter that was sent and that the server refuses; whether it refuses one."""
        if "max_tokens" in sent and "max_completion_tokens" in said:
            self._parameters["max_completion_tokens"] = sent["max_tokens"]
            self._parameters.pop("max_tokens", None)
        elif "temperature" in sent and "temperature" in said:
            if self._parameters.pop("temperature", None) is not None:
                tqdm.write(f"{self.server} refuses a temperature; the model's own is used", file=sys.stderr)
        else:
            return False
        return True

    def _judge(self, error: openai.APIStatusError) -> LLMError:
        """The meaning of a status other than 200, for the request or for the run."""
        status, said, wait = error.status_code, self._line(error.message), error.response.headers.get("retry-after")
        too_long = wait and _tries(error) <= self.settings.max_retries  # for the SDK
        if status == 402 or "insufficient_quota" in (error.code, error.type):
            why = f"the account has no credit left ({said})"
        elif status in (401, 403):  # without the server's words, which quote parts of the key
            why = f"it refuses requests with {self._credentials}, status {status}"
        elif status == 404:
            why = f"no model {self.settings.model!r}, or a wrong address; see --model, --base-url (mostly …/v1): {said}"
        elif (status in NOT_THE_FORMAT or status >= 500) and too_long:
            why = f"it requests a wait, Retry-After: {self._line(wait)}; start again then ({said})"
        elif status in NOT_THE_FORMAT or status >= 500 or (status in WRONG_REQUEST and self._taken is not None):
            return self._unanswered(said, error)
        else:
            why = f"it refuses the request ({said})"
        return ServerError(f"{self.server}: {why}")

    def clean(self, text: object) -> str:
        """The text without the key, and half pairs of surrogates, which no file holds, as escapes."""
        whole = str(text).encode(errors="backslashreplace").decode()
        return whole.replace(self._key, "[key]") if len(self._key) >= SECRET else whole

    def _line(self, text: object) -> str:
        return " ".join(self.clean(text).split())[:200]

    def _unanswered(self, reason: str, error: openai.APIError) -> UnansweredError:
        return UnansweredError(f"{self.server}: {reason} ({plural(_tries(error), 'attempt')})")


def _tries(error: openai.APIError) -> int:
    """How often the SDK sent the request."""
    return 1 + int(error.request.headers.get("x-stainless-retry-count", 0))


def _read(reply: httpx2.Response) -> tuple[str, str, object, dict]:
    """(answer, reason of its end, refusal, usage) of a chat completion; some error for another form.

    The answer is the content of the message, or where that is empty the reasoning, where some servers put it.
    """
    content = json.loads(reply.text)
    choice, answer = content["choices"][0], ""
    for field in ("content", "reasoning_content", "reasoning"):
        text = choice["message"].get(field) or ""
        text = text if isinstance(text, str) else "".join(part.get("text") or "" for part in text)
        answer = answer or (text if text.strip() else "")
    finish = str(choice.get("finish_reason") or "")
    return answer, finish, choice["message"].get("refusal"), dict(content.get("usage") or {})


def _number(tokens: object) -> int:
    return tokens if isinstance(tokens, int) else 0


def _read_key(variable: str) -> str:
    """The key in an environment variable; ServerError where it holds none."""
    key = os.environ.get(variable, "").strip()
    if not key or not key.isascii() or not key.isprintable():
        raise ServerError(f"no key: set {variable} in the environment; a server of your own, by --base-url, needs none")
    return key
