"""Reports: sentences about a study, their RadGraph entities, and the label matrix that follows from them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mavl import vocab
from mavl.data.phantom.body import SIDES

NORMAL, CLEAR = vocab.HEALTHY

PLACES: dict[str, tuple[tuple[str, ...], ...]] = {
    "trachea": (("trachea",),),
    "stomach": (("stomach",),),
    "svc": (("svc",), ("mid", "svc")),
    "cavoatrial_junction": (("cavoatrial junction",),),
    "right_atrium": (("right", "atrium"),),
    "right_ventricle": (("right", "ventricle"),),
    "heart_size": (("heart",), ("cardiac", "silhouette")),
    "retrocardiac": (("retrocardiac", "region"), ("retrocardiac", "space")),
    "hilar_unspec": (("hila",), ("perihilar", "region")),
    "interstitium": (("interstitium",), ("pulmonary", "interstitium")),
    "lung_volumes": (("lungs",),),
    "lung_apices": (("apices",), ("lung", "apices")),
    "lung_bases": (("bases",), ("lung", "bases")),
    "rib": (("ribs",), ("lateral", "ribs")),
    "clavicle": (("clavicle",),),
} | {
    row.format(side=side): tuple((side, *words) for words in wordings)
    for side in SIDES
    for row, wordings in {
        "{side}_pleural": (("pleural", "space"), ("pleural", "cavity")),
        "{side}_costophrenic": (("costophrenic", "angle"), ("costophrenic", "sulcus")),
        "{side}_apical_lung": (("apex",), ("apical", "region")),
        "{side}_upper_lung": (("upper", "lung"),),
        "{side}_mid_lung": (("mid", "lung"),),
        "{side}_lower_lung": (("base",), ("lung", "base"), ("lower", "lung")),
        "upper_{side}_lobe": (("upper", "lobe"),),
        "middle_{side}_lobe": (("middle", "lobe"),),
        "lower_{side}_lobe": (("lower", "lobe"),),
        "{side}_diaphragm": (("hemidiaphragm",),),
    }.items()
}
"""Anatomy -> its wordings, each a tuple of entities: the last is the root, the others modify it. An entity may have two
tokens."""

SEEN = (
    "There is {finding} at the {places} .",
    "There is {finding} involving the {places} .",
    "The film shows {finding} at the {places} .",
    "Note is made of {finding} at the {places} .",
)
SEEN_OF = {
    "cardiomegaly": ("The {places} shows {finding} .", "There is {finding} , seen at the {places} ."),
    "fracture": ("There is {finding} of the {places} .", "The film shows {finding} of the {places} ."),
    "elevation": ("There is {finding} of the {places} .", "Note is made of {finding} of the {places} ."),
    "pacemaker": (
        "There is {finding} that ends in the {places} .",
        "The film shows {finding} leading to the {places} .",
    ),
    "catheter": ("There is {finding} that ends in the {places} .", "The tip of {finding} lies in the {places} ."),
    "tube": ("There is {finding} that ends in the {places} .", "The tip of {finding} lies in the {places} ."),
}
UNCOUNTED = frozenset(
    {"emphysema", "cardiomegaly", "edema", "atelectasis", "consolidation", "calcification", "elevation", NORMAL, CLEAR}
)
DENIED = (
    "No {findings} .",
    "There is no {findings} .",
    "No {findings} is seen .",
    "There is no evidence of {findings} .",
)
LUNGS_ARE = {True: "The {places} are {finding} .", False: "The {places} are not {finding} ."}
STUDY_IS = {
    True: ("This is a {finding} study .", "The examination is {finding} ."),
    False: ("This is not a {finding} study .", "The examination is not {finding} ."),
}


@dataclass(frozen=True)
class Located:
    """What a sentence says of a finding: its places (may be empty), its size, and whether it is present."""

    anatomies: tuple[str, ...]
    degree: str | None = None
    present: bool = True


@dataclass
class Report:
    """A report under construction: tokens, RadGraph's entities by their id, and labels int8 [51, 75]."""

    tokens: list[str] = field(default_factory=list)
    entities: dict[str, dict] = field(default_factory=dict)
    labels: np.ndarray = field(
        default_factory=lambda: np.full((len(vocab.ANATOMIES), len(vocab.FINDINGS)), vocab.UNKNOWN, dtype=np.int8)
    )

    @property
    def text(self) -> str:
        """The tokens with spaces between them."""
        return " ".join(self.tokens)

    def say(self, words: str) -> None:
        """Add words that are not entities."""
        self.tokens += words.split()

    def name(self, words: str, label: str) -> str:
        """Add an entity of one or more tokens; returns its id."""
        start = len(self.tokens)
        self.say(words)
        entity = {"tokens": words, "label": label, "start_ix": start, "end_ix": len(self.tokens) - 1, "relations": []}
        self.entities[str(len(self.entities) + 1)] = entity
        return str(len(self.entities))

    def name_place(self, words: Sequence[str]) -> str:
        """Add an anatomy, modifiers first; returns the id of its root, the last word."""
        *modifiers, root = [self.name(word, "ANAT-DP") for word in words]
        for modifier in modifiers:
            self.relate(modifier, "modify", root)
        return root

    def relate(self, source: str, kind: str, target: str) -> None:
        """Add an edge between two entities."""
        self.entities[source]["relations"].append([kind, target])

    def mark(self, finding: str, anatomy: str, value: int) -> None:
        """Set one label."""
        self.labels[vocab.ANATOMIES.index(anatomy), vocab.FINDINGS.index(finding)] = value


def compose(
    rng: np.random.Generator, present: Mapping[str, Located], denied: Sequence[str], lungs_clear: bool
) -> Report:
    """A report of the findings that are `present` and of those `denied`; the study is normal if none is present."""
    report = Report()
    report.say("FINAL REPORT FINDINGS :")
    sentences = [(str(rng.choice(SEEN_OF.get(name, SEEN))), name, located) for name, located in present.items()]
    sentences.append((LUNGS_ARE[lungs_clear], CLEAR, Located(("lung_volumes",), present=lungs_clear)))
    for number in rng.permutation(len(sentences)).tolist():
        _state(rng, report, *sentences[number])
    left = rng.permutation(denied).tolist()
    while left:
        number = int(rng.integers(1, 4))
        _deny(report, str(rng.choice(DENIED)), left[:number])
        left = left[number:]
    report.say("IMPRESSION :")
    normal = not present
    _state(rng, report, str(rng.choice(STUDY_IS[normal])), NORMAL, Located((), present=normal))
    return report


def _state(rng: np.random.Generator, report: Report, template: str, finding: str, located: Located) -> None:
    """Add a sentence about one finding and its places."""
    named, roots = "", []
    for piece in re.split(r"({\w+})", template):
        if piece == "{finding}":
            _introduce(report, finding, located.degree)
            named = report.name(finding, "OBS-DP" if located.present else "OBS-DA")
            if located.degree:
                report.relate(str(int(named) - 1), "modify", named)
        elif piece == "{places}":
            for number, anatomy in enumerate(located.anatomies):
                if number:
                    report.say("and the")
                wordings = PLACES[anatomy]
                roots.append(report.name_place(wordings[rng.integers(len(wordings))]))
        else:
            report.say(piece)
    for root in roots:
        report.relate(named, "located_at", root)
    for anatomy in located.anatomies or ("unspecified",):
        report.mark(finding, anatomy, vocab.PRESENT if located.present else vocab.ABSENT)


def _introduce(report: Report, finding: str, degree: str | None) -> None:
    """Add the article and the size before the name of a finding, where the finding has them."""
    first = degree or finding
    if finding not in UNCOUNTED:
        report.say("an" if first[0] in "aeiou" else "a")
    if degree:
        report.name(degree, "OBS-DP")


def _deny(report: Report, template: str, findings: Sequence[str]) -> None:
    """Add a sentence that denies all of the findings."""
    before, after = template.split("{findings}")
    report.say(before)
    for number, finding in enumerate(findings):
        if number:
            report.say("or" if number == len(findings) - 1 else ",")
        report.name(finding, "OBS-DA")
        report.mark(finding, "unspecified", vocab.ABSENT)
    report.say(after)
