"""The settings of labels by a language model."""

from pydantic import Field, model_validator

from mavl.llm.settings import ServerSettings


class LabelSettings(ServerSettings):
    """Settings of `prepare_data.py reports --labeler llm`. Reports go to no server that is not named."""

    base_url: str | None = Field(None, description="server, as http://localhost:8000/v1; it receives the reports")
    temperature: float = Field(0.0, ge=0, description="0 to 2; 0 by default")
    timeout: float = Field(300, gt=0, description="seconds for an answer; 300 by default")
    batch: int = Field(8, gt=0, description="reports a request; 8 by default")
    max_requests: int | None = Field(None, gt=0, description="most requests of this run; no limit by default")
    max_total_tokens: int | None = Field(
        None, gt=0, description="most tokens, in and out, of this run; no limit by default"
    )
    cache: str = Field("~/.cache/mavl/reports", description="folder of the answers; ~/.cache/mavl/reports by default")

    @model_validator(mode="after")
    def _to_a_named_server(self) -> "LabelSettings":
        if not self.base_url:
            raise ValueError("no server; give --base-url, as http://localhost:8000/v1: it receives the reports")
        return self
