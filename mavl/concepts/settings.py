"""The settings of concept generation: every key, its type, range and default, stated once."""

from pydantic import PositiveFloat, PositiveInt, model_validator

from mavl.concepts.files import ConceptError
from mavl.config.loader import Settings, load
from mavl.config.settings import NonNegativeFloat, NonNegativeInt, TextSettings


class ConceptSettings(Settings):
    """concept_gen/generate.py. Seconds, where it is about time.

    model, base_url: what the server calls the model, and where it is (OpenAI's, or OPENAI_BASE_URL, when left out).
    ensemble: answers to each finding, of which the most central by `text_encoder` is kept. concurrency: requests under
    way at once. max_retries: further tries of a request that failed, and further answers where one cannot be used.
    timeout: for a whole answer. backoff: wait before the second try, twice as long before each further one, up to
    longest_wait; a server that asks for a longer wait ends the run. prompts: their folder, if not this project's.
    """

    model: str
    base_url: str | None = None
    temperature: NonNegativeFloat = 0.3
    ensemble: PositiveInt = 1
    text_encoder: str = TextSettings().encoder
    concurrency: PositiveInt = 4
    max_retries: NonNegativeInt = 5
    timeout: PositiveFloat = 120
    backoff: PositiveFloat = 1
    longest_wait: PositiveFloat = 120
    cache: str = "~/.cache/mavl/concepts"
    prompts: str | None = None

    @model_validator(mode="after")
    def _answers_differ(self) -> "ConceptSettings":
        if self.ensemble > 1 and self.temperature == 0:
            raise ValueError("an ensemble at temperature 0 is one answer many times; set temperature, as to 0.7")
        return self


def read_settings(overrides: list[str]) -> ConceptSettings:
    """The settings that `key=value` pairs give; ConceptError without a model, which has no default."""
    if not any(each.partition("=")[0].strip() == "model" for each in overrides):
        raise ConceptError("no model to ask: give --model, what the server calls it")
    return load(ConceptSettings, None, overrides)


FLAGS = {
    "base-url": ("base_url", str, "server, as http://localhost:8000/v1; OpenAI's when left out"),
    "model": ("model", str, "what the server calls the model"),
    "temperature": ("temperature", float, "0 to 2; 0.3 when left out"),
    "ensemble": ("ensemble", int, "answers to each finding, the most central is kept; 1 when left out"),
    "text-encoder": ("text_encoder", str, "folder or hub id of the BERT that finds the most central"),
    "concurrency": ("concurrency", int, "requests at once; 4 when left out"),
    "max-retries": ("max_retries", int, "further tries after failures and after unusable answers; 5 when left out"),
    "timeout": ("timeout", float, "seconds for an answer; 120 when left out"),
    "cache": ("cache", str, "folder of the answers; ~/.cache/mavl/concepts when left out"),
}
