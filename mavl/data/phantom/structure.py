"""Findings of heart, diaphragm and bones."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from mavl.data.phantom.anatomy import (
    RIB_CONTRAST,
    Scene,
    clavicle_course,
    clavicle_profile,
    heart_depth,
    rib_course,
    rib_profile,
)
from mavl.data.phantom.body import Body
from mavl.data.phantom.finding import Finding, grade, sample_side


@dataclass(frozen=True)
class Cardiomegaly(Finding):
    """A heart wider than half the cage."""

    ratio: float

    @classmethod
    def sample(cls, rng: np.random.Generator, body: Body) -> Self:
        return cls(rng.uniform(0.56, 0.70))

    @property
    def anatomies(self) -> tuple[str, ...]:
        return ("heart_size",)

    @property
    def degree(self) -> str:
        return grade(self.ratio, 0.6, 0.66, ("mild", "moderate", "severe"))

    def reshape(self, body: Body) -> Body:
        return replace(body, cardiothoracic_ratio=self.ratio)

    def paint(self, scene: Scene) -> np.ndarray:
        heart = (heart_depth(scene) > 0) & (scene.view.y > scene.body.carina[1] + 0.05)
        return heart & (scene.below < 0.02)


@dataclass(frozen=True)
class Elevation(Finding):
    """One hemidiaphragm far above the other."""

    side: str
    rise: float

    @classmethod
    def sample(cls, rng: np.random.Generator, body: Body) -> Self:
        return cls(sample_side(rng), rng.uniform(0.2, 0.34))

    @property
    def anatomies(self) -> tuple[str, ...]:
        return (f"{self.side}_diaphragm",)

    def reshape(self, body: Body) -> Body:
        return replace(body, **{f"{self.side}_dome": body.dome_row(self.side) - self.rise})

    def paint(self, scene: Scene) -> np.ndarray:
        raised = (scene.below > 0) & (scene.below < self.rise) & (scene.out < scene.cage)
        return raised & scene.side(self.side) & (heart_depth(scene) < 0)


@dataclass(frozen=True)
class Hernia(Finding):
    """Stomach behind the heart: a round opacity on the diaphragm with a gas bubble over a level of fluid."""

    centre: tuple[float, float]
    radius: float

    @classmethod
    def sample(cls, rng: np.random.Generator, body: Body) -> Self:
        radius = rng.uniform(0.13, 0.19)
        return cls((body.midline + rng.uniform(0.02, 0.12), body.heart_row - 0.55 * radius), radius)

    @property
    def anatomies(self) -> tuple[str, ...]:
        return ("retrocardiac",)

    def paint(self, scene: Scene) -> np.ndarray:
        view = scene.view
        distance = view.distance_to(self.centre) * (1 + np.float32(0.06) * scene.clouds)
        sac = view.edge(np.float32(self.radius) - distance, 0.015)
        gas = view.edge(np.float32(self.radius - 0.018) - distance, 0.02)
        gas = gas * view.edge(np.float32(self.centre[1] - 0.1 * self.radius) - view.y)
        scene.tissue += np.float32(0.22) * sac - np.float32(0.4) * gas
        return distance < self.radius


@dataclass(frozen=True)
class Fracture(Finding):
    """A step in one clavicle, or in neighbouring ribs: a gap, and an outer fragment that is displaced."""

    side: str
    ribs: tuple[tuple[int, float], ...]  # number of `rib_course`, and how far along it breaks; none: the clavicle
    at: float  # distance from the midline where a clavicle breaks
    step: float  # how far the outer fragment lies too low: in rib spacings, or body units

    @classmethod
    def sample(cls, rng: np.random.Generator, body: Body) -> Self:
        side = sample_side(rng)
        if rng.uniform() < 0.35:
            return cls(side, (), rng.uniform(0.3, 0.5), rng.uniform(0.055, 0.085))
        first = int(rng.integers(2, 5))
        numbers = range(first, first + int(rng.integers(2, 4)))
        along = rng.uniform(0.55, 0.8) + rng.uniform(-0.06, 0.06, len(numbers))
        return cls(side, tuple(zip(numbers, along.tolist(), strict=True)), 0.0, rng.uniform(0.4, 0.6))

    @property
    def anatomies(self) -> tuple[str, ...]:
        return ("rib",) if self.ribs else ("clavicle",)

    def paint(self, scene: Scene) -> np.ndarray:
        return self._break_ribs(scene) if self.ribs else self._break_clavicle(scene)

    def _break_clavicle(self, scene: Scene) -> np.ndarray:
        offset = scene.view.y - clavicle_course(scene)
        outer = scene.view.edge(scene.out - np.float32(self.at)) * scene.side(self.side)
        scene.tissue += outer * (
            clavicle_profile(scene, offset - np.float32(self.step)) - clavicle_profile(scene, offset)
        )
        near = np.abs(scene.out - np.float32(self.at)) < 0.12
        return near & (offset > -0.05) & (offset < 0.05 + self.step) & scene.side(self.side)

    def _break_ribs(self, scene: Scene) -> np.ndarray:
        along, number = rib_course(scene)
        side = scene.side(self.side) & (along < 1.04)
        bone = np.float32(RIB_CONTRAST * scene.body.rib_contrast)
        intact, mask = rib_profile(scene, number), np.zeros(side.shape, dtype=bool)
        for rib, at in self.ribs:
            beyond = along - np.float32(at)
            moved = number - np.float32(self.step) * np.clip(1 - beyond / np.float32(0.6), 0, 1)
            inner = side * intact * (np.floor(number) == rib)
            outer = side * rib_profile(scene, moved) * (np.floor(moved) == rib)
            dense = 1 + np.float32(1.2) * np.exp(-np.abs(beyond) * np.float32(12))  # the broken ends overlap and heal
            here = scene.view.edge(beyond - np.float32(0.015), 0.02)
            there = scene.view.edge(-beyond - np.float32(0.015), 0.02)
            scene.tissue += bone * (here * dense * outer + (there * dense - 1) * inner)
            mask |= side & (np.abs(beyond) < 0.14) & (number > rib) & (number < rib + 1 + self.step)
        return mask
