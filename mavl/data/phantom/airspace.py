"""Findings that change the amount of air in the lungs: emphysema, pleural findings, diffuse and lobar opacities."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from mavl.data.phantom.anatomy import LungFinding, Scene, grade, sample_side, sample_sides
from mavl.data.phantom.body import SIDES, Body

LOBES: dict[str, tuple[str, float, float]] = {
    "upper_left_lobe": ("left", 0.55, 0.33),
    "lower_left_lobe": ("left", 0.66, 0.84),
    "upper_right_lobe": ("right", 0.55, 0.33),
    "middle_right_lobe": ("right", 0.52, 0.70),
    "lower_right_lobe": ("right", 0.66, 0.88),
}
"""Lobe -> its side and its centre: the share of the cage's half-width, and the share of the way from apex to dome."""


@dataclass(frozen=True)
class Emphysema(LungFinding):
    """Overinflated lungs: dark and long, with few vessels, a low flat diaphragm and a narrow heart."""

    severity: float

    @classmethod
    def sample(cls, rng: np.random.Generator, body: Body) -> Self:
        return cls(rng.uniform(0.55, 1.0))

    @property
    def anatomies(self) -> tuple[str, ...]:
        return ("lung_volumes", "lung_apices") if self.severity > 0.8 else ("lung_volumes",)

    @property
    def degree(self) -> str:
        return grade(self.severity, 0.65, 0.85, ("mild", "moderate", "severe"))

    def reshape(self, body: Body) -> Body:
        severity = self.severity
        return replace(
            body,
            apex=body.apex - 0.03 * severity,
            width=body.width * (1 + 0.05 * severity),
            left_dome=body.left_dome + 0.15 * severity,
            right_dome=body.right_dome + 0.15 * severity,
            widest=body.widest + 0.10 * severity,
            heart_row=body.heart_row + 0.08 * severity,
            dome_drop=body.dome_drop * (1 - 0.65 * severity),
            cardiothoracic_ratio=body.cardiothoracic_ratio * (1 - 0.2 * severity),
            rib_spacing=body.rib_spacing * (1 + 0.1 * severity),
            marking=body.marking * (1 - 0.5 * severity),
            air=body.air * (1 + 0.16 * severity),
        )

    def paint(self, scene: Scene) -> np.ndarray:
        return scene.lung > 0.5


@dataclass(frozen=True)
class Pneumothorax(LungFinding):
    """Air beside a retracted lung: a dark rim without vessels, bounded by a thin line, the visceral pleura."""

    side: str
    apical: bool
    depth: float

    @classmethod
    def sample(cls, rng: np.random.Generator, body: Body) -> Self:
        apical = bool(rng.uniform() < 0.5)
        return cls(sample_side(rng), apical, rng.uniform(0.18, 0.3) if apical else rng.uniform(0.14, 0.28))

    @property
    def anatomies(self) -> tuple[str, ...]:
        return (f"{self.side}_apical_lung" if self.apical else f"{self.side}_pleural",)

    @property
    def degree(self) -> str:
        return grade(self.depth, 0.19, 0.24)

    def paint(self, scene: Scene) -> np.ndarray:
        body, y = scene.body, scene.view.y
        base = body.dome_row(self.side)
        height = np.clip((base - y) / (base - body.apex), 0, 1)
        retracted = body.cage(y - self.depth * height)
        aside = 0.5 * self.depth * height if self.apical else 0.8 * self.depth
        beyond = scene.out - retracted + aside
        here = scene.lung * scene.side(self.side)
        rim = here * scene.view.edge(beyond, 0.01)
        scene.markings *= 1 - rim
        scene.air *= 1 + 0.2 * rim - 0.14 * (here - rim)
        scene.tissue += 0.13 * here * np.exp(-np.square(beyond / 0.01))
        return rim > 0.5


@dataclass(frozen=True)
class Edema(LungFinding):
    """Fluid in both lungs: haze around the hila, broad vessels, septal lines at the bases."""

    density: float
    reach: float
    septal: tuple[tuple[float, float], ...]  # (row, length) of the septal lines

    @classmethod
    def sample(cls, rng: np.random.Generator, body: Body) -> Self:
        rows = body.right_dome + rng.uniform(-0.22, 0.12, 10)
        lines = tuple(zip(rows.tolist(), rng.uniform(0.06, 0.12, 10).tolist(), strict=True))
        return cls(rng.uniform(0.4, 0.7), rng.uniform(0.26, 0.36), lines)

    @property
    def anatomies(self) -> tuple[str, ...]:
        return ("interstitium", "hilar_unspec") if self.density > 0.55 else ("interstitium",)

    def paint(self, scene: Scene) -> np.ndarray:
        body, view = scene.body, scene.view
        across = (scene.out - 0.22) / self.reach
        down = (view.y - body.carina[1] - 0.17) / (1.45 * self.reach)
        haze = np.exp(-(across * across + down * down)) * np.clip(1 + 0.3 * scene.clouds, 0.2, 1.5)
        scene.markings *= 1.3
        share = self.density * np.minimum(1, haze)
        scene.air *= 1 - share
        for number, (row, length) in enumerate(self.septal):
            wall = scene.cage - scene.out - 0.02
            line = np.exp(-np.square((view.y - row) / 0.006))
            reach = view.edge(wall, 0.02) * view.edge(length - wall, 0.03) * scene.side(list(SIDES)[number % 2])
            scene.tissue += 0.1 * line * reach * scene.lung
        return share * scene.lung > 0.18


@dataclass(frozen=True)
class Consolidation(LungFinding):
    """A part of a lobe filled with fluid; its border is soft and irregular."""

    lobe: str
    place: tuple[str, float, float]  # as in `Body.point`
    radii: tuple[float, float]
    density: float

    @classmethod
    def sample(cls, rng: np.random.Generator, body: Body) -> Self:
        lobe = str(rng.choice(list(LOBES)))
        side, out, down = LOBES[lobe]
        place = (side, out + rng.uniform(-0.08, 0.08), down + rng.uniform(-0.05, 0.05))
        return cls(lobe, place, (rng.uniform(0.18, 0.28), rng.uniform(0.15, 0.25)), rng.uniform(0.75, 1.0))

    @property
    def anatomies(self) -> tuple[str, ...]:
        return (self.lobe,)

    def paint(self, scene: Scene) -> np.ndarray:
        view, (x, y) = scene.view, scene.body.point(*self.place)
        across, down = (view.x - x) / self.radii[0], (view.y - y) / self.radii[1]
        inside = 1 - np.hypot(across, down) + 0.33 * scene.clouds
        share = self.density * view.edge(inside, 0.75) * np.clip(1 + 0.2 * scene.clouds, 0.5, 1.2)
        share *= scene.side(self.place[0])
        scene.fill(share)
        return share * scene.lung > 0.25


@dataclass(frozen=True)
class Atelectasis(LungFinding):
    """Collapsed lung: bands at the bases, or a wedge of a lower lobe against the spine; the dome rises."""

    sides: tuple[str, ...]
    wedge: bool
    bands: dict[str, tuple[tuple[float, ...], ...]]  # side -> out, down (as in `Body.point`), half-length, tilt, bend
    density: float

    @classmethod
    def sample(cls, rng: np.random.Generator, body: Body) -> Self:
        wedge = bool(rng.uniform() < 0.35)
        sides = sample_sides(rng, both=0.0 if wedge else 0.3)
        low, high = (0.35, 0.84, 0.12, -0.35, -0.3), (0.7, 0.95, 0.24, 0.25, 0.9)
        upper = np.array([0, 0.12, 0, 0, 0])  # the second band lies this much higher
        bands = {
            side: tuple(tuple((rng.uniform(low, high) - row * upper).tolist()) for row in range(rng.integers(1, 3)))
            for side in sides
        }
        return cls(sides, wedge, bands, rng.uniform(0.7, 1.0))

    @property
    def anatomies(self) -> tuple[str, ...]:
        if self.wedge:
            return (f"lower_{self.sides[0]}_lobe",)
        return ("lung_bases",) if len(self.sides) == 2 else (f"{self.sides[0]}_lower_lung",)

    def reshape(self, body: Body) -> Body:
        rise = 0.06 * self.density
        return replace(body, **{f"{side}_dome": body.dome_row(side) - rise for side in self.sides})

    def paint(self, scene: Scene) -> np.ndarray:
        masks = [self._wedge(scene, side) if self.wedge else self._plates(scene, side) for side in self.sides]
        return np.logical_or.reduce(masks)

    def _wedge(self, scene: Scene, side: str) -> np.ndarray:
        body, view = scene.body, scene.view
        top, bottom = body.carina[1] + 0.06, body.dome_row(side) + 0.05
        height = np.clip((view.y - top) / (bottom - top), 0, 1)
        border = 0.1 + 0.46 * body.width * height**1.3
        wedge = view.edge(border - scene.out, 0.02) * view.edge(height - 0.02, 0.05) * scene.side(side)
        share = 0.85 * self.density * wedge
        scene.fill(share)
        scene.tissue += 0.08 * share * scene.lung
        return share * scene.lung > 0.25

    def _plates(self, scene: Scene, side: str) -> np.ndarray:
        view, plates = scene.view, np.zeros_like(scene.lung)
        for out, down, half_length, tilt, bend in self.bands[side]:
            x, y = scene.body.point(side, out, down)
            along = (view.x - x) * SIDES[side]
            across = view.y - y - tilt * along + bend * along * along
            profile = np.exp(-np.square(across / (0.024 + 0.007 * np.clip(scene.clouds, -2, 2))))
            plates = np.maximum(plates, profile * view.edge(half_length - np.abs(along), 0.05))
        scene.tissue += 0.4 * self.density * plates * scene.lung
        return plates * scene.lung > 0.3


@dataclass(frozen=True)
class Effusion(LungFinding):
    """Fluid in the pleural space: a dense base that hides the costophrenic angle, a meniscus at the lateral wall."""

    sides: tuple[str, ...]
    height: float  # of the fluid above the top of the dome, at mid-lung
    climb: float  # height of the meniscus at the lateral wall

    @classmethod
    def sample(cls, rng: np.random.Generator, body: Body) -> Self:
        return cls(sample_sides(rng, both=0.25), rng.uniform(-0.04, 0.36), rng.uniform(0.12, 0.24))

    @property
    def anatomies(self) -> tuple[str, ...]:
        costophrenic = ("costophrenic",) if self.height < 0.06 else ()
        return tuple(f"{side}_{place}" for side in self.sides for place in ("pleural", *costophrenic))

    @property
    def degree(self) -> str:
        return grade(self.height, 0.06, 0.26)

    def paint(self, scene: Scene) -> np.ndarray:
        view, mask = scene.view, np.zeros(scene.lung.shape, dtype=bool)
        outward = np.minimum(scene.out / np.maximum(scene.cage, 0.1), 1)
        for side in self.sides:
            surface = scene.body.dome_row(side) - self.height + 0.03
            depth = view.y - surface + self.climb * (outward**5 - 0.15)
            fluid = view.edge(depth, 0.07) * scene.side(side)
            scene.fill(0.96 * fluid)
            scene.tissue += (0.1 - 0.25 * scene.heart) * fluid * scene.lung  # hides the border of the heart
            mask |= fluid * scene.lung > 0.3
        return mask
