"""Published figures of models on benchmarks: configs/published.yaml."""

from typing import Annotated

from pydantic import Field

from mavl.config.loader import Settings

PUBLISHED = "configs/published.yaml"

Percent = Annotated[float, Field(ge=0, le=100)]


class Published(Settings):
    """Means over a benchmark's findings in %, by a protocol that may be another one than this project's."""

    model: str
    auroc: Percent
    best_f1: Percent | None = None
    protocol: str
    source: str


class PublishedFigures(Settings):
    """figures: by the name of the benchmark."""

    figures: dict[str, tuple[Published, ...]]
