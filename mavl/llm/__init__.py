"""Requests to the server of a language model, by OpenAI's protocol: what concept generation and report labels share.

`settings` (a run's) -> `workers` (many requests at once) -> `client` (one request) -> `answers` (JSON in an answer).
"""


class LLMError(RuntimeError):
    """An error of the server or of an answer; the message is one line."""
