"""From the body to a film: coordinates, tabulated curves, strokes and clouds; then exposure, blur, grain and borders.

The picture is the same at every size. Images are float32 throughout, since float64 would double the time.

Body coordinates: x to the left of the patient, which is on the right of the image; y towards the feet; the origin in
mid-chest. The unit is half the side of the image for a pose of scale 1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFilter

SUPERSAMPLING = 2  # strokes are drawn this many times larger, then averaged
AIR_OUTSIDE, METAL = 0.14, 1.64  # attenuations that are black and white in an average exposure
SHOULDER = 1.25  # the larger, the sooner the response of the film levels off


@dataclass(frozen=True)
class Pose:
    """Position of the body in the image: angle in radians, scale, and shifts in halves of the side."""

    angle: float = 0.0
    scale: float = 1.0
    shift_x: float = 0.0
    shift_y: float = 0.0


class Strokes(NamedTuple):
    """S lines of N body points each."""

    points: np.ndarray  # [S, N, 2]
    width: np.ndarray  # [S], body units
    strength: np.ndarray  # [S], 0..1

    @classmethod
    def single(cls, points: ArrayLike, width: float) -> "Strokes":
        """One line at full strength."""
        return cls(np.asarray(points, dtype=np.float64)[None], np.array([width]), np.ones(1))


class View:
    """The pixels of an image in body coordinates: `x` and `y` [size, size], and the length of one `pixel`."""

    def __init__(self, pose: Pose, size: int):
        self.pose, self.size = pose, size
        self.pixel = 2 / (size * pose.scale)
        frame = (2 * np.arange(size, dtype=np.float32) + 1) / size - 1
        across, down = (frame - pose.shift_x)[None, :], (frame - pose.shift_y)[:, None]
        cosine, sine = math.cos(pose.angle) / pose.scale, math.sin(pose.angle) / pose.scale
        self.x = cosine * across + sine * down
        self.y = cosine * down - sine * across

    def to_pixels(self, points: np.ndarray) -> np.ndarray:
        """Body points [..., 2] -> pixel coordinates [..., 2]; the first pixel's centre is (0, 0)."""
        x, y = points[..., 0] * self.pose.scale, points[..., 1] * self.pose.scale
        cosine, sine = math.cos(self.pose.angle), math.sin(self.pose.angle)
        across = cosine * x - sine * y + self.pose.shift_x
        down = sine * x + cosine * y + self.pose.shift_y
        return (np.stack([across, down], axis=-1) + 1) * self.size / 2 - 0.5

    def edge(self, distance: np.ndarray, softness: float = 0.0) -> np.ndarray:
        """A smooth step from 0 at negative distances to 1 at positive ones, `softness` but at least a pixel wide."""
        ramp = distance * (1 / max(softness, self.pixel))
        ramp += 0.5
        np.clip(ramp, 0, 1, out=ramp)
        smooth = 3 - 2 * ramp
        smooth *= ramp
        smooth *= ramp
        return smooth

    def distance_to(self, centre: Sequence[float]) -> np.ndarray:
        """Distance of each pixel to a body point, [size, size]."""
        return np.hypot(self.x - centre[0], self.y - centre[1])

    def strokes(self, strokes: Strokes) -> np.ndarray:
        """The lines as an image [size, size] in 0..1, later lines on top.

        A line of less than a pixel is drawn fainter instead of thinner, so that it weighs the same at every size.
        """
        canvas = Image.new("L", (self.size * SUPERSAMPLING, self.size * SUPERSAMPLING))
        draw = ImageDraw.Draw(canvas)
        lines = (self.to_pixels(strokes.points) + 0.5) * SUPERSAMPLING - 0.5
        widths = strokes.width * (SUPERSAMPLING / self.pixel)
        drawn = np.maximum(1, np.rint(widths)).astype(int)
        fills = np.rint(255 * strokes.strength * np.minimum(1, widths / drawn)).astype(int)
        flat = lines.reshape(len(lines), -1)  # x, y, x, y, …
        for line, width, fill in zip(flat.tolist(), drawn.tolist(), fills.tolist(), strict=True):
            draw.line(line, fill=fill, width=width, joint="curve" if width > 3 else None)
        return np.asarray(canvas.reduce(SUPERSAMPLING), dtype=np.float32) / 255

    def clouds(self, rng: np.random.Generator, *cells: int) -> np.ndarray:
        """Smooth noise [size, size] of about unit variance: one octave for each number of cells across the image."""
        octaves = [rng.standard_normal((number, number), dtype=np.float32) for number in cells]
        resized = (
            Image.fromarray(octave).resize((self.size, self.size), Image.Resampling.BICUBIC) for octave in octaves
        )
        return np.sum([np.asarray(octave) for octave in resized], axis=0) / math.sqrt(len(cells))


class Curve:
    """A smooth function of one body coordinate through (position, value) knots, constant beyond them.

    It is a table, which takes a tenth of the time of `np.interp` for a whole image.
    """

    LOW, STEPS = -2.0, 1024
    STEP = 4.0 / STEPS

    def __init__(self, positions: ArrayLike, values: ArrayLike, smoothing: float = 0.03):
        grid = self.LOW + self.STEP * np.arange(self.STEPS)
        table = np.interp(grid, np.asarray(positions, float), np.asarray(values, float))
        half = max(1, round(smoothing / self.STEP))
        kernel = np.hanning(2 * half + 3)[1:-1]
        padded = np.pad(table, half, mode="edge")
        self.table = np.convolve(padded, kernel / kernel.sum(), mode="valid").astype(np.float32)

    def __call__(self, positions: ArrayLike) -> np.ndarray:
        """The value at each position, in the shape of the positions."""
        steps = (np.asarray(positions, dtype=np.float32) - self.LOW) * (1 / self.STEP)
        return self.table.take(steps.astype(np.int32), mode="clip")


def spline(points: ArrayLike, number: int = 24) -> np.ndarray:
    """A smooth line [number, 2] through body points (Catmull-Rom)."""
    points = np.asarray(points, dtype=np.float64)
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    at = np.linspace(0, len(points) - 1, number)
    segment = np.minimum(at.astype(int), len(points) - 2)
    t = (at - segment)[:, None]
    before, start, end, after = (padded[segment + offset] for offset in range(4))
    slope_start, slope_end = (end - before) / 2, (after - start) / 2
    return (
        (2 * t**3 - 3 * t**2 + 1) * start
        + (t**3 - 2 * t**2 + t) * slope_start
        + (3 * t**2 - 2 * t**3) * end
        + (t**3 - t**2) * slope_end
    )


@dataclass(frozen=True)
class Exposure:
    """How attenuation becomes grey. It depends neither on the body nor on the size of the image."""

    black: float  # attenuation shown as black
    white: float  # attenuation shown as white
    gamma: float
    tilt: tuple[float, float]  # difference in attenuation from edge to edge, across and down
    blur: float  # radius, in sides of the image
    grain: float  # standard deviation, 1 is from black to white
    collimation: tuple[float, float, float, float]  # left, top, right, bottom borders, in sides
    marker: tuple[float, float] | None  # position of the letter L, in sides


def sample_exposure(rng: np.random.Generator) -> Exposure:
    """A random exposure, from underexposed portable films to sharp stationary ones."""
    uniform = rng.uniform
    borders = rng.uniform(0, 0.045, 4) * (rng.uniform(size=4) < 0.25)
    return Exposure(
        black=AIR_OUTSIDE + uniform(-0.04, 0.08),
        white=METAL + uniform(-0.14, 0.2),
        gamma=uniform(0.58, 0.95),
        tilt=(rng.normal(0, 0.04), rng.normal(0, 0.04)),
        blur=uniform(0, 0.0035),
        grain=uniform(0.004, 0.018),
        collimation=tuple(borders.tolist()),
        marker=(uniform(0.86, 0.93), uniform(0.06, 0.14)) if uniform() < 0.5 else None,
    )


def develop(attenuation: np.ndarray, exposure: Exposure, view: View, rng: np.random.Generator) -> np.ndarray:
    """Attenuation [size, size] -> grey image uint8 [size, size]; dense is bright."""
    size = view.size
    ramp = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    tilted = attenuation + exposure.tilt[0] * ramp + exposure.tilt[1] * ramp[:, None]
    level = (tilted - exposure.black) * (1 / (exposure.white - exposure.black))
    grey = np.maximum(level, 0) ** exposure.gamma
    grey = np.tanh(SHOULDER * grey) * (255 / math.tanh(SHOULDER))
    grey += 255 * exposure.grain * rng.standard_normal((size, size), dtype=np.float32)
    image = Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))
    film = np.array(image.filter(ImageFilter.GaussianBlur(exposure.blur * size)))
    _lay_on_cassette(film, exposure)
    return film


def _lay_on_cassette(film: np.ndarray, exposure: Exposure) -> None:
    """Write the side marker and the black borders of the collimator into a film, in place."""
    size = len(film)
    if exposure.marker:
        across, down = (round(place * size) for place in exposure.marker)
        height, stroke = max(4, round(0.045 * size)), max(1, round(0.01 * size))
        film[down : down + height, across : across + stroke] = 245
        film[down + height - stroke : down + height, across : across + round(0.6 * height)] = 245
    left, top, right, bottom = (round(border * size) for border in exposure.collimation)
    film[:top] = film[size - bottom :] = 0
    film[:, :left] = film[:, size - right :] = 0
