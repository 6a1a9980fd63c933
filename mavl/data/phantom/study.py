"""A study: random findings in a random body, its image, its labels and its report."""

import zlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from mavl import vocab
from mavl.data.phantom import airspace, devices, spots, structure
from mavl.data.phantom.anatomy import Finding, LungFinding, Scene
from mavl.data.phantom.body import sample_body
from mavl.data.phantom.report import CLEAR, NORMAL, Located, Report, compose
from mavl.data.phantom.view import develop, sample_exposure

CATALOGUE: dict[str, type[Finding]] = {
    "emphysema": airspace.Emphysema,
    "cardiomegaly": structure.Cardiomegaly,
    "elevation": structure.Elevation,
    "edema": airspace.Edema,
    "pneumothorax": airspace.Pneumothorax,
    "consolidation": airspace.Consolidation,
    "atelectasis": airspace.Atelectasis,
    "effusion": airspace.Effusion,
    "nodule": spots.Nodule,
    "mass": spots.Mass,
    "calcification": spots.Calcification,
    "hernia": structure.Hernia,
    "fracture": structure.Fracture,
    "pacemaker": devices.Pacemaker,
    "catheter": devices.Catheter,
    "tube": devices.Tube,
}
"""The findings in the order of painting: first those that change the lungs, last those that lie on top."""

FINDINGS: tuple[str, ...] = tuple(CATALOGUE)

LUNG_FINDINGS = frozenset(name for name, kind in CATALOGUE.items() if issubclass(kind, LungFinding))
"""Findings of lungs and pleura; the lungs are clear in a study that has none of them."""

MIN_SIZE = 32  # pixels; below it the smallest findings are under a pixel
NUMBERS = (0.22, 0.12, 0.16, 0.20, 0.18, 0.12)  # probability of 0, 1, 2, … findings in a study
DENIAL = 0.85  # probability that a report denies a finding that is not there
CLASHES = (
    {"edema", "emphysema"},
    {"elevation", "emphysema"},
    {"elevation", "effusion"},
)  # pairs of which one would hide the other


@dataclass(frozen=True, eq=False)
class Phantom:
    """One synthetic study.

    - `image` uint8 [size, size]: grey, air dark, bone bright; the left of the patient is on the right of the image.
    - `findings`: what was drawn, names of `FINDINGS`.
    - `labels` int8 [51, 75] by `vocab.ANATOMIES` and `vocab.FINDINGS`, as mavl.prepare.radgraph derives them: 1 at
      the anatomies of a finding that is present, 0 at "unspecified" for one that is denied ("clear": 0 at
      "lung_volumes"), -1 elsewhere.
    - `masks`: finding -> bool [size, size], its pixels.
    - `report`: the text, tokens with spaces between.
    - `graph`: the report's RadGraph 1.0.0 entry,
      {"text", "entities": {id: {tokens, label, start_ix, end_ix, relations}}}.
    """

    image: np.ndarray
    findings: frozenset[str]
    labels: np.ndarray
    masks: dict[str, np.ndarray]
    report: str
    graph: dict


def draw(seed: int, index: int, size: int = 224, exclude: Collection[str] = ()) -> Phantom:
    """Study number `index` of a seed; anatomy, findings and report are the same at every size (in pixels).

    The study lacks the findings in `exclude`, and its report does not mention them; body and other findings stay the
    same. Raises ValueError for names that are not in `FINDINGS`, a size under 32, a negative seed or index.
    """
    _check_names(exclude, FINDINGS)
    if size < MIN_SIZE or seed < 0 or index < 0:
        raise ValueError(f"seed {seed}, index {index}, size {size}: need seed >= 0, index >= 0 and size >= {MIN_SIZE}")
    body = sample_body(_stream(seed, index, "body"))
    present = {
        name: CATALOGUE[name].sample(_stream(seed, index, name), body)
        for name in _choose(_stream(seed, index, "findings"))
        if name not in exclude
    }
    for finding in present.values():
        body = finding.reshape(body)
    scene = Scene(body, size, _stream(seed, index, "texture"))
    masks = {name: finding.paint(scene) for name, finding in present.items()}
    exposure = sample_exposure(_stream(seed, index, "exposure"))
    report = _report(_stream(seed, index, "report"), present, exclude)
    return Phantom(
        image=develop(scene.attenuation, exposure, scene.view, _stream(seed, index, "grain")),
        findings=frozenset(present),
        labels=report.labels,
        masks=masks,
        report=report.text,
        graph={"text": report.text, "entities": report.entities},
    )


def truth(phantom: Phantom | Collection[str], names: Iterable[str]) -> np.ndarray:
    """What was drawn in a phantom, or is in a set of findings: int8 [names], 1 or 0.

    `names` are names of `FINDINGS`, "normal" (no finding) or "clear" (no finding of lungs or pleura); others raise
    ValueError. The report may leave findings out, `truth` does not.
    """
    findings = frozenset(phantom.findings if isinstance(phantom, Phantom) else phantom)
    names = list(names)
    _check_names(findings, FINDINGS)
    _check_names(names, (*FINDINGS, NORMAL, CLEAR))
    known = dict.fromkeys(findings, True) | {NORMAL: not findings, CLEAR: findings.isdisjoint(LUNG_FINDINGS)}
    return np.array([known.get(name, False) for name in names], dtype=np.int8)


def _check_names(names: Collection[str], known: Collection[str]) -> None:
    if isinstance(names, str):
        raise ValueError(f"expected a collection of findings, got the string {names!r}")
    for name in names:
        if name not in known:
            raise ValueError(vocab.unknown_name("phantom finding", name, known))


def _report(rng: np.random.Generator, present: Mapping[str, Finding], exclude: Collection[str]) -> Report:
    """The report of the present findings; it denies most of the others."""
    mentioned = rng.uniform(size=len(FINDINGS)) < DENIAL
    denied = [
        name
        for name, mention in zip(FINDINGS, mentioned.tolist(), strict=True)
        if mention and name not in present and name not in exclude
    ]
    located = {name: Located(finding.anatomies, finding.degree) for name, finding in present.items()}
    return compose(rng, located, denied, lungs_clear=LUNG_FINDINGS.isdisjoint(present))


def _stream(seed: int, index: int, purpose: str) -> np.random.Generator:
    """A random generator for one purpose alone, so that a finding left out changes nothing else."""
    return np.random.default_rng([seed, index, zlib.crc32(purpose.encode())])


def _choose(rng: np.random.Generator) -> list[str]:
    """Random findings without clashes, in the order of painting."""
    number = int(rng.choice(len(NUMBERS), p=NUMBERS))
    chosen: set[str] = set()
    for name in rng.permutation(FINDINGS).tolist():
        if len(chosen) == number:
            break
        if not any({name, other} in CLASHES for other in chosen):
            chosen.add(name)
    return [name for name in FINDINGS if name in chosen]
