"""The normal body of a phantom: random proportions and vessels, and the curves that follow from them."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mavl.data.phantom.view import Curve, Pose, Strokes

SIDES: dict[str, int] = {"left": 1, "right": -1}
"""The sides of the patient and the sign of x on each."""

CREST = 0.5  # where a dome is highest, as a share of the half-width of the cage
LEFT_SHARE = 0.67  # share of the width of the heart that lies left of the midline
STEMS, FAR = 10, 30  # vessels of each lung that leave the hilum, and short ones further out
POINTS = 7  # of a vessel


@dataclass(frozen=True)
class Body:
    """Proportions in body units (see `view`); rows are values of y. Findings change them with `dataclasses.replace`."""

    pose: Pose
    thickness: float  # of soft tissue, 1 for a middling patient
    flank: float  # soft tissue between cage and skin
    armpit: float  # row above which the arms widen the silhouette
    width: float  # inner half-width of the cage at its widest
    apex: float  # row of the lung apices
    widest: float  # row where the cage is widest
    left_dome: float  # row of the top of the left hemidiaphragm
    right_dome: float
    dome_drop: float  # depth of the costophrenic angle below the top of the dome
    cardiothoracic_ratio: float  # heart width over inner cage width
    heart_row: float  # row of the heart's greatest width
    mediastinum: float  # half-width of the upper mediastinum
    midline: float  # x of spine and heart; not 0 where the patient is turned
    knob: float  # width of the aortic knob outside the mediastinum
    rib_spacing: float
    rib_origin: float
    rib_contrast: float
    clavicle_rise: float  # height of the outer end of the clavicle above the inner end
    breast: float  # contrast of breast shadows, 0 for none
    gas: float  # radius of the stomach bubble, 0 for none
    air: float  # attenuation that a lung of full depth removes
    marking: float  # contrast of the vessels
    vessels: Strokes

    @cached_property
    def cage(self) -> Curve:
        """Inner half-width of the cage, a function of the row."""
        rows = np.linspace(self.apex, self.widest, 40)
        t = (self.widest - rows) / (self.widest - self.apex)
        above = self.width * (1 - t**2.8) ** 0.52
        rows = [self.apex - 0.12, *rows, self.widest + 0.15, self.widest + 0.35, self.widest + 0.8]
        return Curve(rows, [-0.12, *above, 0.985 * self.width, 0.94 * self.width, 0.85 * self.width], 0.01)

    @cached_property
    def skin(self) -> Curve:
        """Half-width of the silhouette, a function of the row: neck, shoulders with arms, chest."""
        chest = self.width + self.flank
        rows = [self.apex + below for below in (-0.5, -0.2, -0.07, 0.03, 0.1, 0.2)]
        rows += [self.armpit + below for below in (0, 0.35, 0.9)]
        return Curve(rows, [0.27, 0.29, 0.46, 0.9, 1.2, 1.3, max(1.16, chest), chest, 0.98 * chest], 0.06)

    def dome_row(self, side: str) -> float:
        """Row of the top of one hemidiaphragm."""
        return self.left_dome if side == "left" else self.right_dome

    @cached_property
    def floor(self) -> Curve:
        """Row of the diaphragm, a function of x: two domes that meet under the heart."""
        at = np.linspace(0, 1, 40)  # share of the half-width of the cage
        lateral, medial = np.maximum(at - CREST, 0) / (1 - CREST), np.maximum(CREST - at, 0) / CREST
        middle = (self.left_dome + self.right_dome) / 2 + 0.3 * self.dome_drop
        left, right = (
            dome + (middle - dome) * medial**1.8 + self.dome_drop * lateral**2.3
            for dome in (self.left_dome, self.right_dome)
        )
        return Curve(self.width * np.concatenate([-at[:0:-1], at]), np.concatenate([right[:0:-1], left]), 0.02)

    @cached_property
    def heart_borders(self) -> tuple[Curve, Curve]:
        """x of the left and of the right border of mediastinum and heart, each a function of the row."""
        span = self.heart_row - self.apex
        heart = 2 * self.width * self.cardiothoracic_ratio
        left, right = LEFT_SHARE * heart - self.mediastinum, (1 - LEFT_SHARE) * heart - self.mediastinum
        left_t = [0, 0.16, 0.26, 0.32, 0.38, 0.45, 0.54, 0.66, 0.78, 0.90, 1.0, 1.08, 1.2, 1.35]
        left_out = [0, 0, 0.75, 1, 0.75, 0.25, 0.3, 0, 0, 0, 0, 0, 0, 0]
        left_heart = [0, 0, 0, 0, 0, 0, 0.12, 0.42, 0.76, 0.95, 1.0, 0.97, 0.8, 0.4]
        right_t = [0, 0.3, 0.45, 0.56, 0.66, 0.78, 0.9, 1.0, 1.1, 1.25]
        right_heart = [0, 0.08, 0.1, 0.25, 0.6, 0.92, 1.0, 0.95, 0.75, 0.4]
        left_x = self.mediastinum + self.knob * np.array(left_out) + left * np.array(left_heart)
        right_x = self.mediastinum + right * np.array(right_heart)
        rows = [self.apex + span * np.array(t) for t in (left_t, right_t)]
        return Curve(rows[0], self.midline + left_x, 0.045), Curve(rows[1], self.midline - right_x, 0.045)

    @property
    def carina(self) -> tuple[float, float]:
        """The body point where the trachea divides."""
        return self.midline - 0.01, self.apex + 0.42 * (self.heart_row - self.apex)

    def point(self, side: str, out: float, down: float) -> tuple[float, float]:
        """The body point at the shares (0..1) `out` from the middle to the cage, and `down` from apex to dome."""
        row = self.apex + down * (self.dome_row(side) - self.apex)
        return SIDES[side] * out * float(self.cage(row)), row


def sample_body(rng: np.random.Generator) -> Body:
    """A random body without findings, with the proportions of adults on frontal films."""
    uniform = rng.uniform
    apex, right_dome = uniform(-0.80, -0.68), uniform(0.24, 0.42)
    left_dome = right_dome + uniform(0.0, 0.07)
    width, midline = uniform(0.62, 0.76), uniform(-0.035, 0.035)
    pose = Pose(
        angle=min(max(rng.normal(0, 0.044), -0.12), 0.12),
        scale=uniform(0.9, 1.12),
        shift_x=uniform(-0.07, 0.07),
        shift_y=uniform(-0.03, 0.10),
    )
    return Body(
        pose=pose,
        thickness=uniform(0.9, 1.12),
        flank=uniform(0.08, 0.3),
        armpit=apex + uniform(0.45, 1.5),
        width=width,
        apex=apex,
        widest=right_dome + uniform(0.08, 0.16),
        left_dome=left_dome,
        right_dome=right_dome,
        dome_drop=uniform(0.20, 0.29),
        cardiothoracic_ratio=uniform(0.37, 0.47),
        heart_row=left_dome - uniform(0.02, 0.08),
        mediastinum=uniform(0.085, 0.115),
        midline=midline,
        knob=uniform(0.03, 0.08),
        rib_spacing=uniform(0.115, 0.14),
        rib_origin=uniform(0, 0.14),
        rib_contrast=uniform(0.7, 1.25),
        clavicle_rise=uniform(0.03, 0.16),
        breast=uniform(0.05, 0.11) if uniform() < 0.4 else 0.0,
        gas=uniform(0.07, 0.13) if uniform() < 0.6 else 0.0,
        air=uniform(0.56, 0.66),
        marking=uniform(0.11, 0.17),
        vessels=sample_vessels(rng, midline, apex + 0.52 * (right_dome - apex), width),
    )


def sample_vessels(rng: np.random.Generator, midline: float, hilum_row: float, width: float) -> Strokes:
    """The vessels of both lungs: stems that leave the hila, twigs that leave the stems, and short ones further out."""
    sign = np.repeat([1.0, -1.0], STEMS)
    hila = np.stack([midline + sign * 0.14, hilum_row + np.where(sign < 0, 0.03, -0.02)], axis=1)
    angles = np.tile(np.linspace(-1.2, 1.45, STEMS), 2) + rng.normal(0, 0.12, 2 * STEMS)
    starts = hila + np.stack([sign * rng.uniform(-0.02, 0.03, 2 * STEMS), 0.1 * np.sin(angles)], axis=1)
    stems = _wander(rng, starts, angles, rng.uniform(0.2, 0.55, 2 * STEMS), sign)
    roots = np.tile(np.arange(2 * STEMS), 3)
    leaving = angles[roots] + rng.choice([-1, 1], len(roots)) * rng.uniform(0.3, 0.9, len(roots))
    forks = stems[roots, rng.integers(1, POINTS - 2, len(roots))]
    twigs = _wander(rng, forks, leaving, rng.uniform(0.12, 0.26, len(roots)), sign[roots])
    side = np.repeat([1.0, -1.0], FAR)
    out, down = rng.uniform(0.3, 0.95, 2 * FAR) * width, rng.uniform(-0.42, 0.5, 2 * FAR)
    outward = np.arctan2(down, out - 0.1) + rng.normal(0, 0.35, 2 * FAR)
    places = np.stack([side * out, hilum_row + down], axis=1)
    far = _wander(rng, places, outward, rng.uniform(0.06, 0.16, 2 * FAR), side)
    arteries = np.stack([hila[:1], hila[-1:]]) + rng.uniform(-1, 1, (2, 3, 2)) * [0.02, 0.07]
    groups = [
        _taper(far, rng.uniform(0.007, 0.012, 2 * FAR), 0.4),
        _taper(twigs, rng.uniform(0.008, 0.016, len(roots)), 0.6),
        _taper(stems, rng.uniform(0.012, 0.03, 2 * STEMS), 0.8),
        Strokes(arteries, np.full(2, 0.055), np.ones(2)),
    ]
    return Strokes(*(np.concatenate(parts) for parts in zip(*groups, strict=True)))


def _wander(
    rng: np.random.Generator, starts: np.ndarray, angles: np.ndarray, lengths: np.ndarray, sign: np.ndarray
) -> np.ndarray:
    """Bent lines [S, POINTS, 2] that start at `angles` below the horizontal, away from the midline."""
    bends = angles[:, None] + np.cumsum(rng.normal(0, 0.24, (len(angles), POINTS - 1)), axis=1)
    steps = np.stack([sign[:, None] * np.cos(bends), np.sin(bends)], axis=2) * (lengths / (POINTS - 1))[:, None, None]
    return starts[:, None] + np.concatenate([np.zeros((len(angles), 1, 2)), np.cumsum(steps, axis=1)], axis=1)


def _taper(lines: np.ndarray, width: np.ndarray, strength: float) -> Strokes:
    """Lines [S, POINTS, 2] as pieces of three points, outermost first, thinner and fainter towards their ends."""
    starts = range(POINTS - 3, -1, -2)
    shares = [1 - start / POINTS for start in starts]
    return Strokes(
        np.concatenate([lines[:, start : start + 3] for start in starts]),
        np.concatenate([share * width for share in shares]),
        np.concatenate([np.full(len(lines), share * strength) for share in shares]),
    )
