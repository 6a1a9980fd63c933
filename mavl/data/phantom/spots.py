"""Findings that are spots in the lungs: nodule, mass, calcification."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from mavl.data.phantom.airspace import LOBES
from mavl.data.phantom.anatomy import Scene
from mavl.data.phantom.body import Body
from mavl.data.phantom.finding import LungFinding, sample_side

ZONES: dict[str, tuple[float, float]] = {"upper": (0.25, 0.42), "mid": (0.48, 0.66), "lower": (0.72, 0.88)}
"""Thirds of a lung and how far down (from apex to dome) their spots may lie."""


def sample_zone(rng: np.random.Generator, body: Body) -> tuple[str, tuple[float, float]]:
    """A third of a lung, as an anatomy, and a body point in it, clear of the mediastinum."""
    side, zone = sample_side(rng), str(rng.choice(list(ZONES)))
    return f"{side}_{zone}_lung", body.point(side, rng.uniform(0.48, 0.8), rng.uniform(*ZONES[zone]))


@dataclass(frozen=True)
class Nodule(LungFinding):
    """A round opacity of under 3 cm."""

    zone: str
    centre: tuple[float, float]
    radius: float  # a cage is some 28 cm wide, so 0.07 is 1.4 cm
    density: float

    @classmethod
    def sample(cls, rng: np.random.Generator, body: Body) -> Self:
        return cls(*sample_zone(rng, body), rng.uniform(0.042, 0.07), rng.uniform(0.26, 0.42))

    @property
    def anatomies(self) -> tuple[str, ...]:
        return (self.zone,)

    def paint(self, scene: Scene) -> np.ndarray:
        inside = np.float32(self.radius) - scene.view.distance_to(self.centre)
        thickness = scene.view.edge(inside, 0.02) * (np.float32(0.6) + np.float32(0.4 / self.radius) * inside)
        scene.tissue += np.float32(self.density) * thickness * np.maximum(0.5, scene.lung)
        return inside > 0


@dataclass(frozen=True)
class Mass(LungFinding):
    """A larger, lobulated opacity."""

    lobe: str
    centre: tuple[float, float]
    radius: float
    density: float

    @classmethod
    def sample(cls, rng: np.random.Generator, body: Body) -> Self:
        lobe = str(rng.choice(list(LOBES)))
        side, out, down = LOBES[lobe]
        centre = body.point(side, out + rng.uniform(-0.12, 0.1), min(0.85, down + rng.uniform(-0.08, 0.08)))
        return cls(lobe, centre, rng.uniform(0.11, 0.18), rng.uniform(0.36, 0.5))

    @property
    def anatomies(self) -> tuple[str, ...]:
        return (self.lobe,)

    def paint(self, scene: Scene) -> np.ndarray:
        lobulated = np.float32(self.radius) * (1 + np.float32(0.18) * np.clip(scene.clouds, -2, 2))
        inside = lobulated - scene.view.distance_to(self.centre)
        thickness = scene.view.edge(inside, 0.025) * (np.float32(0.65) + np.float32(0.35 / self.radius) * inside)
        scene.tissue += (
            np.float32(self.density) * thickness * np.maximum(0.4, scene.lung) * (1 - np.float32(0.5) * scene.heart)
        )
        return inside > 0


@dataclass(frozen=True)
class Calcification(LungFinding):
    """A cluster of small specks as dense as bone: healed granulomas."""

    zone: str
    specks: tuple[tuple[float, float, float], ...]  # x, y, radius

    @classmethod
    def sample(cls, rng: np.random.Generator, body: Body) -> Self:
        zone, centre = sample_zone(rng, body)
        number = rng.integers(5, 10)
        places = np.asarray(centre) + rng.uniform(-0.11, 0.11, (number, 2))
        return cls(
            zone,
            tuple(
                (x, y, r) for (x, y), r in zip(places.tolist(), rng.uniform(0.010, 0.020, number).tolist(), strict=True)
            ),
        )

    @property
    def anatomies(self) -> tuple[str, ...]:
        return (self.zone,)

    def paint(self, scene: Scene) -> np.ndarray:
        mask = np.zeros(scene.lung.shape, dtype=bool)
        for x, y, radius in self.specks:
            inside = np.float32(radius) - scene.view.distance_to((x, y))
            scene.tissue += np.float32(0.5) * scene.view.edge(inside, 0.006)
            mask |= inside > -0.5 * scene.view.pixel
        return mask
