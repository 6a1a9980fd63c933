"""The interface of report labellers: reports -> mentions of findings."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from mavl.vocab import UNSPECIFIED

Status = Literal["present", "absent", "uncertain"]


@dataclass(frozen=True)
class Report:
    """A report. study: its id; where: file and row, for messages; text: all of it; sections: {name: text} in order."""

    study: str
    where: str
    text: str
    sections: dict[str, str] = field(default_factory=dict)


class Mention(NamedTuple):
    """A finding that a report states, or states to be absent. sentence: the words that say so."""

    finding: str
    status: Status
    anatomy: str = UNSPECIFIED
    sentence: str = ""


class Labeller(Protocol):
    """Reports -> mentions.

    name: for summaries.
    """

    name: str

    @property
    def findings(self) -> Sequence[str]:
        """The vocabulary, in the order of the columns of labels."""
        ...

    def label(self, reports: Sequence[Report]) -> Iterator[list[Mention] | str]:
        """The mentions of each report, in order, or a line that states why it has no labels."""
        ...

    def estimate(self, reports: Sequence[Report]) -> str:
        """What `label` will cost."""
        ...

    def describe(self) -> dict[str, Any]:
        """What a summary states of the labels beside their numbers, after `label`."""
        ...
