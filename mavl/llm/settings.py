"""The settings that every run with a language model has, and their flags."""

from typing import Any, get_args

from pydantic import Field, model_validator

from mavl.config.loader import Settings

LETTERS_A_TOKEN = 4
"""A rule of thumb for English."""


class ServerSettings(Settings):
    """The server, the model, and how requests are sent. A setting with a description has a flag."""

    model: str = Field("", description="the server's name of the model")
    base_url: str | None = Field(None, description="server, as http://localhost:8000/v1; OpenAI's by default")
    api_key_env: str | None = Field(None, description="environment variable of the key; by default OpenAI's server's")
    temperature: float = Field(0.3, ge=0, description="0 to 2; 0.3 by default")
    max_tokens: int | None = Field(None, gt=0, description="most tokens of an answer; the server's limit by default")
    concurrency: int = Field(4, gt=0, description="requests at once; 4 by default")
    max_retries: int = Field(5, ge=0, description="repetitions after failures and after unusable answers; 5 by default")
    timeout: float = Field(120, gt=0, description="seconds for an answer; 120 by default")

    @model_validator(mode="after")
    def _named(self) -> "ServerSettings":
        if not self.model:
            raise ValueError("no model; give --model, the server's name of it")
        return self


def flags(schema: type[ServerSettings]) -> dict[str, tuple[str, Any, str]]:
    """{flag: (config key, type, help)} of a schema; the type of an optional setting is that of its value."""
    return {
        name.replace("_", "-"): (name, (*get_args(of.annotation), of.annotation)[0], of.description)
        for name, of in schema.model_fields.items()
        if of.description
    }
