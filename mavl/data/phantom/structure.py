"""Findings of heart, diaphragm and bones."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from mavl.data.phantom.anatomy import (
    RIB_CONTRAST,
    Finding,
    Scene,
    clavicle_course,
    clavicle_profile,
    grade,
    heart_depth,
    rib_course,
    rib_profile,
    sample_side,
)
from mavl.data.phantom.body import Body


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
    """Stomach behind the heart: a round opacity on the diaphragm, with gas above a level of fluid."""

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
        distance = view.distance_to(self.centre) * (1 + 0.06 * scene.clouds)
        sac = view.edge(self.radius - distance, 0.015)
        gas = view.edge(self.radius - 0.018 - distance, 0.02) * view.edge(self.centre[1] - 0.1 * self.radius - view.y)
        scene.tissue += 0.22 * sac - 0.4 * gas
        return distance < self.radius


@dataclass(frozen=True)
class Fracture(Finding):
    """A broken clavicle, or several broken ribs: a gap and a displaced outer fragment."""

    side: str
    ribs: tuple[int, ...]  # numbers of `rib_course`; empty for the clavicle
    at: tuple[float, ...]  # the break of each bone: position along the rib, or distance from the middle
    step: float  # drop of the outer fragment: in rib spacings for ribs, body units for a clavicle

    @classmethod
    def sample(cls, rng: np.random.Generator, body: Body) -> Self:
        side = sample_side(rng)
        if rng.uniform() < 0.35:
            return cls(side, (), (rng.uniform(0.3, 0.5),), rng.uniform(0.09, 0.13))
        first = int(rng.integers(2, 5))
        ribs = tuple(range(first, first + int(rng.integers(4, 6))))
        along = rng.uniform(0.55, 0.8) + rng.uniform(-0.06, 0.06, len(ribs))
        return cls(side, ribs, tuple(along.tolist()), rng.uniform(0.6, 0.85))

    @property
    def anatomies(self) -> tuple[str, ...]:
        return ("rib",) if self.ribs else ("clavicle",)

    def paint(self, scene: Scene) -> np.ndarray:
        return self._break_ribs(scene) if self.ribs else self._break_clavicle(scene)

    def _break_clavicle(self, scene: Scene) -> np.ndarray:
        offset = scene.view.y - clavicle_course(scene)
        beyond, side = scene.out - self.at[0], scene.side(self.side)
        inner = clavicle_profile(scene, offset)
        outer = clavicle_profile(scene, offset - self.step)
        dense = 1 + 1.4 * np.exp(-np.abs(beyond) * 8)  # bruised tissue, overlapping ends
        here, there = scene.view.edge(beyond + 0.02), scene.view.edge(-beyond)
        scene.tissue += side * (here * dense * outer + (there * dense - 1) * inner)
        return side & (np.abs(beyond) < 0.12) & (offset > -0.05) & (offset < 0.05 + self.step)

    def _break_ribs(self, scene: Scene) -> np.ndarray:
        along, number = rib_course(scene)
        side = scene.side(self.side) & (along < 1.04)
        bone = RIB_CONTRAST * scene.body.rib_contrast
        intact, mask = rib_profile(scene, number), np.zeros(side.shape, dtype=bool)
        for rib, at in zip(self.ribs, self.at, strict=True):
            beyond = along - at
            moved = number - self.step * np.clip(1 - beyond / 0.6, 0, 1)
            inner = side * intact * (np.floor(number) == rib)
            outer = side * rib_profile(scene, moved) * (np.floor(moved) == rib)
            dense = 1 + 7 * np.exp(-np.abs(beyond) * 7)  # the broken ends overlap and heal
            here = scene.view.edge(beyond - 0.015, 0.02)
            there = scene.view.edge(-beyond - 0.015, 0.02)
            scene.tissue += bone * (here * dense * outer + (there * dense - 1) * inner)
            mask |= side & (np.abs(beyond) < 0.14) & (number > rib) & (number < rib + 1 + self.step)
        return mask
