"""Findings that are spots in the lungs: nodule, mass, calcification."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from mavl.data.phantom.airspace import LOBES
from mavl.data.phantom.anatomy import LungFinding, Scene, sample_side
from mavl.data.phantom.body import Body

ZONES: dict[str, tuple[float, float]] = {"upper": (0.25, 0.42), "mid": (0.48, 0.66), "lower": (0.72, 0.88)}
"""Third of a lung -> the range of its spots, in shares of the way from apex to dome."""


def sample_zone(rng: np.random.Generator) -> tuple[str, tuple[str, float, float]]:
    """A random third of a lung, as an anatomy, and a place in it (see `Body.point`) outside the mediastinum."""
    side, zone = sample_side(rng), str(rng.choice(list(ZONES)))
    return f"{side}_{zone}_lung", (side, rng.uniform(0.48, 0.8), rng.uniform(*ZONES[zone]))


@dataclass(frozen=True)
class Nodule(LungFinding):
    """A round opacity of less than 3 cm."""

    zone: str
    place: tuple[str, float, float]
    radius: float  # a cage is about 28 cm wide, so 0.07 is 1.4 cm
    density: float

    @classmethod
    def sample(cls, rng: np.random.Generator, body: Body) -> Self:
        return cls(*sample_zone(rng), rng.uniform(0.055, 0.085), rng.uniform(0.5, 0.75))

    @property
    def anatomies(self) -> tuple[str, ...]:
        return (self.zone,)

    def paint(self, scene: Scene) -> np.ndarray:
        inside = self.radius - scene.view.distance_to(scene.body.point(*self.place))
        thickness = scene.view.edge(inside, 0.02) * (0.6 + 0.4 / self.radius * inside)
        scene.tissue += self.density * thickness * np.maximum(0.5, scene.lung)
        return inside > 0


@dataclass(frozen=True)
class Mass(LungFinding):
    """A larger, lobulated opacity."""

    lobe: str
    place: tuple[str, float, float]
    radius: float
    density: float

    @classmethod
    def sample(cls, rng: np.random.Generator, body: Body) -> Self:
        lobe = str(rng.choice(list(LOBES)))
        side, out, down = LOBES[lobe]
        place = (side, out + rng.uniform(-0.12, 0.1), min(0.85, down + rng.uniform(-0.08, 0.08)))
        return cls(lobe, place, rng.uniform(0.12, 0.19), rng.uniform(0.42, 0.58))

    @property
    def anatomies(self) -> tuple[str, ...]:
        return (self.lobe,)

    def paint(self, scene: Scene) -> np.ndarray:
        lobulated = self.radius * (1 + 0.18 * np.clip(scene.clouds, -2, 2))
        inside = lobulated - scene.view.distance_to(scene.body.point(*self.place))
        thickness = scene.view.edge(inside, 0.025) * (0.65 + 0.35 / self.radius * inside)
        scene.tissue += self.density * thickness * np.maximum(0.4, scene.lung) * (1 - 0.5 * scene.heart)
        return inside > 0


@dataclass(frozen=True)
class Calcification(LungFinding):
    """A cluster of small specks as dense as bone: healed granulomas."""

    zone: str
    place: tuple[str, float, float]
    specks: tuple[tuple[float, float, float], ...]  # x and y from the place, radius

    @classmethod
    def sample(cls, rng: np.random.Generator, body: Body) -> Self:
        specks = rng.uniform((-0.11, -0.11, 0.013), (0.11, 0.11, 0.023), (int(rng.integers(5, 10)), 3))
        return cls(*sample_zone(rng), tuple(map(tuple, specks.tolist())))

    @property
    def anatomies(self) -> tuple[str, ...]:
        return (self.zone,)

    def paint(self, scene: Scene) -> np.ndarray:
        (x, y), mask = scene.body.point(*self.place), np.zeros(scene.lung.shape, dtype=bool)
        for across, down, radius in self.specks:
            inside = radius - scene.view.distance_to((x + across, y + down))
            scene.tissue += 0.6 * scene.view.edge(inside, 0.006)
            mask |= inside > -0.5 * scene.view.pixel
        return mask
