"""The lungs' vessels: random trees of strokes that fan out of the hila."""

import numpy as np

from mavl.data.phantom.view import Strokes

STEMS, FAR = 10, 30  # of each lung: vessels that leave the hilum, and short ones further out
POINTS = 7  # along a vessel


def sample_vessels(rng: np.random.Generator, midline: float, hilum_row: float, width: float) -> Strokes:
    """Both lungs' vessels: stems that leave the hila, twigs that leave the stems, and short ones further out."""
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
    """Lines [S, POINTS, 2] that set off at `angles` below the horizontal, away from the midline, and bend."""
    bends = angles[:, None] + np.cumsum(rng.normal(0, 0.24, (len(angles), POINTS - 1)), axis=1)
    steps = np.stack([sign[:, None] * np.cos(bends), np.sin(bends)], axis=2) * (lengths / (POINTS - 1))[:, None, None]
    return starts[:, None] + np.concatenate([np.zeros((len(angles), 1, 2)), np.cumsum(steps, axis=1)], axis=1)


def _taper(lines: np.ndarray, width: np.ndarray, strength: float) -> Strokes:
    """Lines [S, POINTS, 2] in pieces of three points, outermost first, thinner and fainter towards their ends."""
    starts = range(POINTS - 3, -1, -2)
    shares = [1 - start / POINTS for start in starts]
    return Strokes(
        np.concatenate([lines[:, start : start + 3] for start in starts]),
        np.concatenate([share * width for share in shares]),
        np.concatenate([np.full(len(lines), share * strength) for share in shares]),
    )
