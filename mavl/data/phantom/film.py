"""From attenuation to a film: exposure, scatter, blur, grain and what lies on the cassette."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from mavl.data.phantom.view import View

AIR_OUTSIDE, METAL = 0.14, 1.64  # attenuations that an average exposure shows as black and white
SHOULDER = 1.25  # how soon the film's response levels off


@dataclass(frozen=True)
class Exposure:
    """How attenuation becomes grey; nothing here depends on what the body shows, nor on the image's size."""

    black: float  # attenuation shown as black
    white: float  # attenuation shown as white
    gamma: float
    tilt: tuple[float, float]  # extra attenuation from edge to edge, across and down
    blur: float  # radius in frames
    grain: float  # standard deviation, in grey levels of 1
    collimation: tuple[float, float, float, float]  # left, top, right, bottom borders, in frames
    marker: tuple[float, float] | None  # where the letter L lies, in frames


def sample_exposure(rng: np.random.Generator) -> Exposure:
    """The spread from under-exposed portable films to crisp departmental ones."""
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
    """Burn the side marker and the collimator's black borders into a film, in place."""
    size = len(film)
    if exposure.marker:
        across, down = (round(place * size) for place in exposure.marker)
        height, stroke = max(4, round(0.045 * size)), max(1, round(0.01 * size))
        film[down : down + height, across : across + stroke] = 245
        film[down + height - stroke : down + height, across : across + round(0.6 * height)] = 245
    left, top, right, bottom = (round(border * size) for border in exposure.collimation)
    film[:top] = film[size - bottom :] = 0
    film[:, :left] = film[:, size - right :] = 0
