"""Findings that are devices: pacemaker, catheter, tube."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from mavl.data.phantom.anatomy import Finding, Scene, sample_side
from mavl.data.phantom.body import SIDES, Body
from mavl.data.phantom.view import Strokes, spline


def paint_line(scene: Scene, points: list[tuple[float, float]], width: float, density: float) -> np.ndarray:
    """Add a smooth line through body points to the tissue; returns its mask, bool [size, size]."""
    line = scene.view.strokes(Strokes.single(spline(points), width))
    scene.tissue += density * line
    return line > 0.25 * line.max()


@dataclass(frozen=True)
class Pacemaker(Finding):
    """A generator below a clavicle with a lead to the right ventricle; if `dual`, also one to the right atrium."""

    side: str
    centre: tuple[float, float]
    half: tuple[float, float]  # half width and half height of the generator
    dual: bool

    @classmethod
    def sample(cls, rng: np.random.Generator, body: Body) -> Self:
        side = "left" if rng.uniform() < 0.8 else "right"
        centre = (SIDES[side] * rng.uniform(0.72, 0.88) * body.width, body.apex + rng.uniform(0.26, 0.42))
        return cls(side, centre, (rng.uniform(0.09, 0.12), rng.uniform(0.075, 0.1)), bool(rng.uniform() < 0.5))

    @property
    def anatomies(self) -> tuple[str, ...]:
        return ("right_ventricle", "right_atrium") if self.dual else ("right_ventricle",)

    def paint(self, scene: Scene) -> np.ndarray:
        body, view = scene.body, scene.view
        across = np.abs(view.x - self.centre[0]) / self.half[0]
        down = np.abs(view.y - self.centre[1]) / self.half[1]
        case = 1 - (across**3 + down**3) ** (1 / 3)
        scene.tissue += 0.85 * view.edge(case, 0.1)
        mask = case > 0
        x, y = self.centre
        carina, heart = body.carina[1], body.heart_row
        vein = [(x, y - self.half[1]), (0.75 * x, body.apex + 0.17), (0.35 * x, body.apex + 0.16)]
        cava = [(body.midline - 0.09, body.apex + 0.32), (body.midline - 0.12, carina + 0.1)]
        ventricle = [
            (body.midline - 0.12, heart - 0.18),
            (body.midline + 0.03, heart - 0.03),
            (body.midline + 0.24, heart),
        ]
        mask |= paint_line(scene, [*vein, *cava, *ventricle], 0.016, 0.5)
        if self.dual:
            atrium = [
                (body.midline - 0.16, heart - 0.16),
                (body.midline - 0.08, heart - 0.2),
                (body.midline - 0.05, heart - 0.29),
            ]
            mask |= paint_line(scene, [*vein, *cava, *atrium], 0.016, 0.5)
        return mask


@dataclass(frozen=True)
class Catheter(Finding):
    """A central venous catheter from a vein of neck or arm to the superior vena cava or the right atrium."""

    side: str
    jugular: bool
    tip: float  # share of the way from the top of the vena cava to mid-atrium
    width: float

    @classmethod
    def sample(cls, rng: np.random.Generator, body: Body) -> Self:
        jugular = bool(rng.uniform() < 0.5)
        side = "right" if jugular and rng.uniform() < 0.7 else sample_side(rng)
        return cls(side, jugular, rng.uniform(0.35, 1.0), rng.uniform(0.022, 0.032))

    @property
    def anatomies(self) -> tuple[str, ...]:
        return ("svc",) if self.tip < 0.6 else ("cavoatrial_junction",) if self.tip < 0.85 else ("right_atrium",)

    def paint(self, scene: Scene) -> np.ndarray:
        body, sign = scene.body, SIDES[self.side]
        top, bottom = body.apex + 0.3, body.heart_row - 0.12
        start = [(sign * 0.17, body.apex - 0.28), (sign * 0.15, body.apex - 0.05), (sign * 0.13, body.apex + 0.13)]
        if not self.jugular:
            start = [(sign * 1.02, body.apex + 0.62), (sign * 0.86, body.apex + 0.3), (sign * 0.5, body.apex + 0.13)]
            start.append((sign * 0.2, body.apex + 0.17))
        cava = body.midline - 0.115
        end = top + self.tip * (bottom - top)
        points = [*start, (cava + 0.01, top), (cava - 0.01, (top + end) / 2), (cava - 0.015, end)]
        return paint_line(scene, points, self.width, 0.85)


@dataclass(frozen=True)
class Tube(Finding):
    """A tube in the trachea, or through the oesophagus to the stomach."""

    gastric: bool
    tip: float  # share of the way to the carina, or of the way across the stomach

    @classmethod
    def sample(cls, rng: np.random.Generator, body: Body) -> Self:
        return cls(bool(rng.uniform() < 0.5), rng.uniform(0.55, 0.9))

    @property
    def anatomies(self) -> tuple[str, ...]:
        return ("stomach",) if self.gastric else ("trachea",)

    def paint(self, scene: Scene) -> np.ndarray:
        body = scene.body
        x, top = body.midline, body.apex - 0.4
        if self.gastric:
            floor = body.left_dome
            points = [(x + 0.02, top), (x + 0.02, body.carina[1]), (x + 0.05, floor - 0.1), (x + 0.14, floor + 0.1)]
            return paint_line(scene, [*points, (x + 0.14 + 0.35 * self.tip, floor + 0.2)], 0.032, 0.55)
        tip = body.apex + self.tip * (body.carina[1] - body.apex)
        walls = [paint_line(scene, [(x + at, top), (x + at, tip)], 0.016, 0.4) for at in (-0.028, 0.028)]
        return np.logical_or(*walls) | paint_line(scene, [(x, top), (x, tip)], 0.03, 0.6)
