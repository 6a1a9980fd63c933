"""Normal anatomy on film: what each organ adds to, or takes from, the attenuation of the beam.

Attenuation is in units of a middling patient's soft tissue: 0 is air outside, 1 the thorax without lungs.
"""

from abc import ABC, abstractmethod
from typing import Self

import numpy as np

from mavl.data.phantom.body import SIDES, Body
from mavl.data.phantom.view import Curve, Strokes, View

POSTERIOR_DROP, ANTERIOR_DROP = 0.26, 0.34  # how far a rib falls on its way to, and back from, the lateral wall
RIB_CONTRAST = 0.11  # attenuation of a posterior rib in a body whose `rib_contrast` is 1


class Scene:
    """A body in the beam, at one size. Findings paint into three layers, each [size, size]:

    - `tissue`: soft tissue, bone and metal, attenuation;
    - `markings`: vessels and texture of the lungs, attenuation, seen only where there is lung;
    - `air`: attenuation that aerated lung takes away; `fill` replaces air by fluid.

    `lung` and `heart` [size, size] in 0..1 are where the body has lungs, aerated or not, and heart with mediastinum;
    `clouds` is noise to roughen borders with.
    """

    def __init__(self, body: Body, size: int, rng: np.random.Generator):
        self.body, self.view = body, View(body.pose, size)
        view = self.view
        self.clouds = view.clouds(rng, 7, 17)
        self.out = np.abs(view.x)  # distance from the cage's middle
        self.cage = body.cage(view.y)  # the cage's half-width at each pixel's row
        self.below = view.y - body.floor(view.x)  # the diaphragm
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
        """Which pixels are on the patient's left or right, bool [size, size]."""
        return self.view.x > 0 if side == "left" else self.view.x < 0

    def fill(self, share: np.ndarray) -> None:
        """Replace this share (0..1) of the lungs' air by fluid, which also hides their markings."""
        air_left = 1 - share
        self.air *= air_left
        self.markings *= air_left


def soft_tissue(scene: Scene) -> np.ndarray:
    """Trunk with neck, shoulders, abdomen and breasts, less the air in trachea and stomach."""
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
    """What trachea and main bronchi take away."""
    (x, y), body = scene.body.carina, scene.body
    trachea = scene.view.strokes(Strokes.single([(body.midline, body.apex - 0.5), (x, y)], 0.075))
    bronchi = np.array([[(x, y - 0.02), (x + sign * 0.13, y + 0.12)] for sign in SIDES.values()])
    return 0.19 * trachea + 0.08 * scene.view.strokes(Strokes(bronchi, np.full(2, 0.05), np.ones(2)))


def breasts(scene: Scene) -> np.ndarray:
    """Shadows that fade upwards and end in a border below."""
    row = scene.body.right_dome - 0.13
    down = scene.view.y - row
    inside = 1 - np.hypot((scene.out - 0.62 * scene.body.width) / 0.36, down / 0.27)
    return scene.body.breast * np.clip(3 * down + 1, 0, 1) * scene.view.edge(inside, 0.08)


def stomach_bubble(scene: Scene) -> np.ndarray:
    """What the gas below the left dome takes away."""
    gas, x = scene.body.gas, 0.52 * scene.body.width
    y = float(scene.body.floor(x)) + 0.75 * gas + 0.02
    inside = 0.8 * gas - np.hypot((scene.view.x - x) / 1.5, scene.view.y - y)
    return 0.33 * scene.view.edge(inside, 0.03) * scene.view.edge(scene.below - 0.02, 0.02)


def heart_depth(scene: Scene) -> np.ndarray:
    """Distance, along the row, inside the borders of mediastinum and heart, [size, size]; negative outside."""
    left, right = scene.body.heart_borders
    depth = np.minimum(left(scene.view.y) - scene.view.x, scene.view.x - right(scene.view.y))
    return np.minimum(depth, scene.body.heart_row + 0.32 - scene.view.y)


def spine(scene: Scene) -> np.ndarray:
    """Vertebral column with end plates."""
    column = 0.075 - np.abs(scene.view.x - scene.body.midline)
    period = np.cos(scene.view.y * (2 * np.pi / 0.105))
    return scene.view.edge(column, 0.03) * (0.07 + 0.03 * period)


def rib_course(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """How far along the posterior ribs each pixel lies (0 spine, 1 lateral wall) and which rib it is on: whole
    numbers run along the ribs' lower borders."""
    body = scene.body
    along = scene.out / np.maximum(scene.cage, 0.08)
    drop = POSTERIOR_DROP * along * along - 0.08 * along
    return along, (scene.view.y - (body.apex + body.rib_origin) - drop) / body.rib_spacing


def rib_profile(scene: Scene, number: np.ndarray, half_width: float = 0.21) -> np.ndarray:
    """Bone across the ribs, 0..1, for rib numbers [size, size]: cortex at both borders, less in between."""
    across = np.abs(number - np.floor(number) - 0.5) / half_width
    inside = scene.view.edge(1 - across, max(0.35, scene.view.pixel / (half_width * scene.body.rib_spacing)))
    return inside * (0.5 + 0.5 * np.minimum(across, 1) ** 4)


def ribs(scene: Scene) -> np.ndarray:
    """Posterior ribs, and the fainter anterior ones that cross them."""
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
    """Row of the clavicles' axis at each pixel's distance from the middle, [size, size]."""
    body = scene.body
    start, rise = body.apex + 0.19, body.clavicle_rise
    heights = [start, start - 0.1 * rise, start - 0.5 * rise, start - rise, start - 0.9 * rise]
    return Curve([0.06, 0.2, 0.4, 0.6, 0.85], heights, 0.1)(scene.out)


def clavicle_profile(scene: Scene, offset: np.ndarray) -> np.ndarray:
    """Bone of a clavicle whose axis lies `offset` [size, size] away, attenuation."""
    across = np.abs(offset) / 0.032
    ends = scene.view.edge(scene.out - 0.07, 0.03) * scene.view.edge(0.8 - scene.out, 0.05)
    cortex = 0.6 + 0.4 * np.minimum(across, 1) ** 4
    return 0.2 * cortex * ends * scene.view.edge(1 - across, 0.4)


def clavicles(scene: Scene) -> np.ndarray:
    """Both clavicles, attenuation."""
    return clavicle_profile(scene, scene.view.y - clavicle_course(scene))


def shoulders(scene: Scene) -> np.ndarray:
    """Heads of the humeri and blades of the scapulae, attenuation."""
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
    """One finding with its place and size; subclasses are frozen dataclasses of body units and shares."""

    @classmethod
    @abstractmethod
    def sample(cls, rng: np.random.Generator, body: Body) -> Self:
        """A finding in this body (as it is without any findings)."""

    @property
    @abstractmethod
    def anatomies(self) -> tuple[str, ...]:
        """Where a report locates it: names of `mavl.vocab.ANATOMIES`."""

    def reshape(self, body: Body) -> Body:
        """The body that has this finding; most leave the body's shape as it is."""
        return body

    @property
    def degree(self) -> str | None:
        """The word a report has for its size, if it has one."""
        return None

    @abstractmethod
    def paint(self, scene: Scene) -> np.ndarray:
        """Add it to the scene's layers; returns the mask, bool [size, size], of where it shows."""


class LungFinding(Finding):
    """A finding of lungs or pleura: with one of these the lungs are not clear."""


def grade(
    value: float, mild: float, severe: float, words: tuple[str, str, str] = ("small", "moderate", "large")
) -> str:
    """The word for a value below `mild`, between, or from `severe` on."""
    return words[(value >= mild) + (value >= severe)]


def sample_side(rng: np.random.Generator) -> str:
    """Left or right, as likely as each other."""
    return str(rng.choice(list(SIDES)))


def sample_sides(rng: np.random.Generator, both: float) -> tuple[str, ...]:
    """One side, or with probability `both` both."""
    return tuple(SIDES) if rng.uniform() < both else (sample_side(rng),)
