"""The scene, a body as the attenuation of an X-ray beam, and `Finding`, the base class of what changes it.

The unit of attenuation is the soft tissue of a patient of average thickness: 0 is air outside the body, 1 the thorax
without lungs.
"""

from abc import ABC, abstractmethod
from typing import Self

import numpy as np

from mavl.data.phantom.body import SIDES, Body
from mavl.data.phantom.view import Curve, Strokes, View

POSTERIOR_DROP, ANTERIOR_DROP = 0.26, 0.34  # of a rib on its way to the lateral wall, and from there to the front
RIB_CONTRAST = 0.11  # attenuation of a posterior rib in a body whose `rib_contrast` is 1


class Scene:
    """A body in the beam at one image size, in three layers [size, size] that findings change:

    - `tissue`: soft tissue, bone and metal, attenuation;
    - `markings`: vessels and texture of the lungs, attenuation, zero outside the lungs;
    - `air`: attenuation that air in the lungs removes; `fill` replaces air by fluid.

    `lung` and `heart` [size, size] in 0..1 are the regions of the lungs, aerated or not, and of heart and mediastinum;
    `clouds` [size, size] is noise that makes borders irregular.
    """

    def __init__(self, body: Body, size: int, rng: np.random.Generator):
        self.body, self.view = body, View(body.pose, size)
        view = self.view
        self.clouds = view.clouds(rng, 7, 17)
        self.out = np.abs(view.x)  # distance from the middle of the cage
        self.cage = body.cage(view.y)  # half-width of the cage in the row of each pixel
        self.below = view.y - body.floor(view.x)  # distance below the diaphragm
        self.lung, self.heart = self._lung(), self._heart()
        depth = 1 - 0.5 * np.exp(np.minimum(0, self.out - self.cage) * 8)
        self.air = body.air * depth * self.lung * (1 - 0.55 * self.heart)
        self.markings = body.marking * view.strokes(body.vessels) * self.lung * (1 - 0.7 * self.heart)
        self.markings += 0.016 * view.clouds(rng, 45, 90) * self.lung
        self.tissue = soft_tissue(self) + 0.32 * self.heart
        for bone in (spine, ribs, clavicles, shoulders):
            self.tissue += bone(self)

    def _lung(self) -> np.ndarray:
        medial = np.abs(self.view.x - self.body.midline) - 0.6 * self.body.mediastinum
        edge = self.view.edge
        return edge(self.cage - self.out, 0.02) * edge(medial, 0.09) * edge(-self.below, 0.016)

    def _heart(self) -> np.ndarray:
        depth = heart_depth(self)
        thickness = 1 - 0.35 * np.exp(np.minimum(0, -depth) * 10)
        return self.view.edge(depth, 0.02) * thickness * self.view.edge(-self.below, 0.016)

    @property
    def attenuation(self) -> np.ndarray:
        """The sum of the layers, [size, size]."""
        return self.tissue + self.markings - self.air

    def side(self, side: str) -> np.ndarray:
        """The pixels on the patient's left or right, bool [size, size]."""
        return self.view.x > 0 if side == "left" else self.view.x < 0

    def fill(self, share: np.ndarray) -> None:
        """Replace this share (0..1) of the lungs' air, and of their markings, by fluid."""
        air_left = 1 - share
        self.air *= air_left
        self.markings *= air_left


def soft_tissue(scene: Scene) -> np.ndarray:
    """Attenuation of neck, shoulders, trunk and breasts, minus that of the air in trachea and stomach."""
    body, edge = scene.body, scene.view.edge
    skin = body.skin(scene.view.y) - scene.out
    trunk = edge(skin, 0.03) * (1 - 0.5 * np.exp(np.minimum(0, -skin) * 5))
    trunk += 0.16 * edge(scene.below, 0.02) * edge(scene.cage - scene.out, 0.12)
    trunk -= airways(scene)
    if body.breast:
        trunk += breasts(scene)
    if body.gas:
        trunk -= stomach_bubble(scene)
    return body.thickness * trunk


def airways(scene: Scene) -> np.ndarray:
    """Attenuation that the air in trachea and main bronchi removes."""
    (x, y), body = scene.body.carina, scene.body
    trachea = scene.view.strokes(Strokes.single([(body.midline, body.apex - 0.5), (x, y)], 0.075))
    bronchi = np.array([[(x, y - 0.02), (x + sign * 0.13, y + 0.12)] for sign in SIDES.values()])
    return 0.19 * trachea + 0.08 * scene.view.strokes(Strokes(bronchi, np.full(2, 0.05), np.ones(2)))


def breasts(scene: Scene) -> np.ndarray:
    """Attenuation of the breasts, which fades upwards and ends in a border below."""
    row = scene.body.right_dome - 0.13
    down = scene.view.y - row
    inside = 1 - np.hypot((scene.out - 0.62 * scene.body.width) / 0.36, down / 0.27)
    return scene.body.breast * np.clip(3 * down + 1, 0, 1) * scene.view.edge(inside, 0.08)


def stomach_bubble(scene: Scene) -> np.ndarray:
    """Attenuation that the gas below the left dome removes."""
    gas, x = scene.body.gas, 0.52 * scene.body.width
    y = float(scene.body.floor(x)) + 0.75 * gas + 0.02
    inside = 0.8 * gas - np.hypot((scene.view.x - x) / 1.5, scene.view.y - y)
    return 0.33 * scene.view.edge(inside, 0.03) * scene.view.edge(scene.below - 0.02, 0.02)


def heart_depth(scene: Scene) -> np.ndarray:
    """Distance along the row to the nearer border of mediastinum and heart, [size, size]; negative outside."""
    left, right = scene.body.heart_borders
    depth = np.minimum(left(scene.view.y) - scene.view.x, scene.view.x - right(scene.view.y))
    return np.minimum(depth, scene.body.heart_row + 0.32 - scene.view.y)


def spine(scene: Scene) -> np.ndarray:
    """Attenuation of the vertebral column with its end plates."""
    column = 0.075 - np.abs(scene.view.x - scene.body.midline)
    period = np.cos(scene.view.y * (2 * np.pi / 0.105))
    return scene.view.edge(column, 0.03) * (0.07 + 0.03 * period)


def rib_course(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Position of each pixel along the posterior ribs (0 spine, 1 lateral wall), and the number of its rib.

    Both are [size, size]. A whole number is the lower border of a rib.
    """
    body = scene.body
    along = scene.out / np.maximum(scene.cage, 0.08)
    drop = POSTERIOR_DROP * along * along - 0.08 * along
    return along, (scene.view.y - (body.apex + body.rib_origin) - drop) / body.rib_spacing


def rib_profile(scene: Scene, number: np.ndarray, half_width: float = 0.21) -> np.ndarray:
    """Share of bone (0..1) at rib numbers [size, size]: the most at the two borders, the cortex, less in between."""
    across = np.abs(number - np.floor(number) - 0.5) / half_width
    inside = scene.view.edge(1 - across, max(0.35, scene.view.pixel / (half_width * scene.body.rib_spacing)))
    return inside * (0.5 + 0.5 * np.minimum(across, 1) ** 4)


def ribs(scene: Scene) -> np.ndarray:
    """Attenuation of the posterior ribs and of the fainter anterior ribs that cross them."""
    body = scene.body
    along, number = rib_course(scene)
    posterior = rib_profile(scene, number) * scene.view.edge(along - 0.1, 0.1)
    fall = ANTERIOR_DROP * (1 - np.minimum(along, 1)) ** 0.8
    front = (scene.view.y - (body.apex + body.rib_origin + 0.21) - fall) / body.rib_spacing
    anterior = rib_profile(scene, front, 0.27) * scene.view.edge(along - 0.42, 0.25)
    reach = scene.view.edge(1.06 - along, 0.05) * scene.view.edge(number, 0.4) * scene.view.edge(9.6 - number, 0.6)
    wall = np.exp(-np.square((along - 1.02) * 22))
    return body.rib_contrast * reach * (RIB_CONTRAST * posterior + 0.045 * anterior + 0.1 * wall * (0.4 + posterior))


def clavicle_course(scene: Scene) -> np.ndarray:
    """Row of the axis of the clavicles at each pixel's distance from the middle, [size, size]."""
    body = scene.body
    start, rise = body.apex + 0.19, body.clavicle_rise
    heights = [start, start - 0.1 * rise, start - 0.5 * rise, start - rise, start - 0.9 * rise]
    return Curve([0.06, 0.2, 0.4, 0.6, 0.85], heights, 0.1)(scene.out)


def clavicle_profile(scene: Scene, offset: np.ndarray) -> np.ndarray:
    """Attenuation of a clavicle, given the distance of each pixel to its axis, `offset` [size, size]."""
    across = np.abs(offset) / 0.032
    ends = scene.view.edge(scene.out - 0.07, 0.03) * scene.view.edge(0.8 - scene.out, 0.05)
    cortex = 0.6 + 0.4 * np.minimum(across, 1) ** 4
    return 0.2 * cortex * ends * scene.view.edge(1 - across, 0.4)


def clavicles(scene: Scene) -> np.ndarray:
    """Attenuation of both clavicles."""
    return clavicle_profile(scene, scene.view.y - clavicle_course(scene))


def shoulders(scene: Scene) -> np.ndarray:
    """Attenuation of the heads of the humeri and of the scapulae."""
    body, edge = scene.body, scene.view.edge
    across, down = scene.out - 0.97, scene.view.y - (body.apex + 0.27 - body.clavicle_rise)
    head = edge(0.1 - np.hypot(across, down), 0.02)
    shaft = edge(0.055 - np.abs(across - 0.03 - 0.1 * down), 0.02) * edge(down, 0.03)
    blade_across = (scene.out - 0.8 + 0.12 * down) / 0.13
    blade = 1 - np.hypot(blade_across, (down - 0.2) / 0.27)
    rim = np.exp(-np.square((blade - 0.06) * 16)) * edge(-blade_across, 0.5)
    bone = 0.16 * np.maximum(head, shaft) + 0.03 * edge(blade, 0.1) + 0.05 * rim
    return bone * np.minimum(1, scene.tissue)


class Finding(ABC):
    """One finding with its place and size. Subclasses are frozen dataclasses in body units or shares."""

    @classmethod
    @abstractmethod
    def sample(cls, rng: np.random.Generator, body: Body) -> Self:
        """A random finding for a body, given without any findings."""

    @property
    @abstractmethod
    def anatomies(self) -> tuple[str, ...]:
        """Where a report locates the finding: names of `mavl.vocab.ANATOMIES`."""

    def reshape(self, body: Body) -> Body:
        """The body with this finding; the same body unless a subclass changes its shape."""
        return body

    @property
    def degree(self) -> str | None:
        """The word for the size of the finding in a report, or None."""
        return None

    @abstractmethod
    def paint(self, scene: Scene) -> np.ndarray:
        """Change the layers of the scene; returns the mask of the finding, bool [size, size]."""


class LungFinding(Finding):
    """A finding of lungs or pleura; the lungs of a study that has one are not clear."""


def grade(
    value: float, mild: float, severe: float, words: tuple[str, str, str] = ("small", "moderate", "large")
) -> str:
    """The word for a value: the first below `mild`, the last from `severe` on, else the second."""
    return words[(value >= mild) + (value >= severe)]


def sample_side(rng: np.random.Generator) -> str:
    """Left or right, with equal probability."""
    return str(rng.choice(list(SIDES)))


def sample_sides(rng: np.random.Generator, both: float) -> tuple[str, ...]:
    """Both sides with probability `both`, else one of them at random."""
    return tuple(SIDES) if rng.uniform() < both else (sample_side(rng),)
