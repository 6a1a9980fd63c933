"""What every finding can do: be drawn from a seed, change the body, and paint itself into the scene."""

from abc import ABC, abstractmethod
from typing import Self

import numpy as np

from mavl.data.phantom.anatomy import Scene
from mavl.data.phantom.body import SIDES, Body


class Finding(ABC):
    """One finding with its place and size; subclasses are frozen dataclasses of body units and shares."""

    @classmethod
    @abstractmethod
    def sample(cls, rng: np.random.Generator, body: Body) -> Self:
        """A finding in this body (as it is without any findings)."""

    @property
    @abstractmethod
    def anatomies(self) -> tuple[str, ...]:
        """Where a report locates it: names of `mavl.vocab.ANATOMIES`."""

    def reshape(self, body: Body) -> Body:
        """The body that has this finding; most leave the body's shape as it is."""
        return body

    @property
    def degree(self) -> str | None:
        """The word a report has for its size, if it has one."""
        return None

    @abstractmethod
    def paint(self, scene: Scene) -> np.ndarray:
        """Add it to the scene's layers; returns the mask, bool [size, size], of where it shows."""


class LungFinding(Finding):
    """A finding of lungs or pleura: with one of these the lungs are not clear."""


def grade(
    value: float, mild: float, severe: float, words: tuple[str, str, str] = ("small", "moderate", "large")
) -> str:
    """The word for a value below `mild`, between, or from `severe` on."""
    return words[(value >= mild) + (value >= severe)]


def sample_side(rng: np.random.Generator) -> str:
    """Left or right, as likely as each other."""
    return str(rng.choice(list(SIDES)))


def sample_sides(rng: np.random.Generator, both: float) -> tuple[str, ...]:
    """One side, or with probability `both` both."""
    return tuple(SIDES) if rng.uniform() < both else (sample_side(rng),)
