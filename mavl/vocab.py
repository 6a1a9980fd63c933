"""The vocabulary: findings, anatomies, aspects and the label alphabet, each listed here and nowhere else.

The order is an interface. It is the order of label columns, of text rows and of the released files.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

FINDINGS: tuple[str, ...] = tuple(
    """
    normal clear sharp sharply unremarkable intact stable free effusion opacity pneumothorax edema atelectasis tube
    consolidation process abnormality enlarge tip low pneumonia line congestion catheter cardiomegaly fracture air
    tortuous lead disease calcification prominence device engorgement picc clip elevation expand nodule wire fluid
    degenerative pacemaker thicken marking scar hyperinflate blunt loss widen collapse density emphysema aerate mass
    crowd infiltrate obscure deformity hernia drainage distention shift stent pressure lesion finding borderline
    hardware dilation chf redistribution aspiration tail_abnorm_obs excluded_obs
    """.split()
)

ANATOMIES: tuple[str, ...] = tuple(
    """
    trachea left_hilar right_hilar hilar_unspec left_pleural right_pleural pleural_unspec heart_size heart_border
    left_diaphragm right_diaphragm diaphragm_unspec retrocardiac lower_left_lobe upper_left_lobe lower_right_lobe
    middle_right_lobe upper_right_lobe left_lower_lung left_mid_lung left_upper_lung left_apical_lung left_lung_unspec
    right_lower_lung right_mid_lung right_upper_lung right_apical_lung right_lung_unspec lung_apices lung_bases
    left_costophrenic right_costophrenic costophrenic_unspec cardiophrenic_sulcus mediastinal spine clavicle rib stomach
    right_atrium right_ventricle aorta svc interstitium parenchymal cavoatrial_junction cardiopulmonary pulmonary
    lung_volumes unspecified other
    """.split()
)

UNSPECIFIED = "unspecified"
"""The anatomy of a finding whose place is not stated."""

Aspect = Literal["description", "border", "fluid", "location", "opacity", "other", "patterns", "shape", "texture"]
ASPECTS: tuple[Aspect, ...] = get_args(Aspect)
DESCRIPTION = ASPECTS[0]

GROUNDING_ASPECTS: tuple[str, ...] = (DESCRIPTION, "patterns", "shape", "texture")
"""The aspects whose attention makes a finding's heatmap, as in the release."""

NORMALITY: tuple[str, ...] = FINDINGS[: FINDINGS.index("effusion")]
"""The findings of a normal film."""

HEALTHY: tuple[str, ...] = ("normal", "clear")
"""The findings that the contrastive head compares a finding with: those of them that a model was trained with."""

BuiltInWording = Literal["names", "descriptions", "without", "reversed", "templates"]
WORDINGS: tuple[BuiltInWording, ...] = get_args(BuiltInWording)
"""Wordings of a finding that are made from its books (mavl.text.wordings).

names: the finding's name in place of every sentence. descriptions: the description in place of every aspect's words.
without: the name in place of the words of one aspect, each aspect in turn. reversed: the phrases of an aspect line,
which commas separate, in reverse order. templates: a template around every sentence.
"""

PRESENT, ABSENT, UNKNOWN = 1, 0, -1
"""The label alphabet. The released files also hold a 2, which the losses ignore like UNKNOWN."""


LONGEST_NAME = 100
"""Most characters of the name of a finding or an anatomy."""


def healthy(findings: Iterable[str]) -> tuple[str, ...]:
    """Those of HEALTHY that are among these findings."""
    among = set(findings)
    return tuple(name for name in HEALTHY if name in among)


class UnknownFindingError(KeyError):
    """A finding that does not exist there; the message suggests near names."""

    def __str__(self) -> str:
        return self.args[0]  # a KeyError shows its message in quotes


def anatomy_sentence(anatomy: str) -> str:
    """The text whose embedding represents an anatomy, as in the release."""
    return f"It is located at {anatomy}"


def is_name(text: str) -> bool:
    """Whether a text can be the name of a finding or an anatomy."""
    return 0 < len(text) <= LONGEST_NAME and text.isprintable()


def mirrored(anatomies: Sequence[str]) -> list[int]:
    """For each anatomy the position of its name with left and right exchanged; its own where no such name is listed.

    A structure without a counterpart, such as the right atrium or the middle lobe, keeps its name in a flipped image.
    """
    swapped = {"left": "right", "right": "left"}
    positions = {name: position for position, name in enumerate(anatomies)}
    twins = ("".join(swapped.get(word, word) for word in re.split(r"([ _-])", name)) for name in anatomies)
    return [positions.get(twin, position) for position, twin in enumerate(twins)]


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """One line for an error about an unknown name, with the nearest known names.

    >>> unknown_name("finding", "pneumotorax", FINDINGS)
    "unknown finding 'pneumotorax'; did you mean 'pneumothorax' or 'pneumonia'?"
    """
    known, name = list(known), name if len(name) <= 80 else f"{name[:79]}…"
    lowered = {candidate.lower(): candidate for candidate in known}
    near = [lowered[match] for match in difflib.get_close_matches(name.lower(), lowered, n=3, cutoff=0.6)]
    if near:
        return f"unknown {kind} {name!r}; did you mean {' or '.join(map(repr, near))}?"
    listing = ", ".join(known[:12]) + (", …" if len(known) > 12 else "")
    return f"unknown {kind} {name!r}; known: {listing}"
