"""The results of a classification by subgroups of its patients."""

from dataclasses import dataclass

import numpy as np

from mavl.config.evaluation import ZeroShotSettings
from mavl.evaluate.validated import Scored
from mavl.metrics.subgroups import Diagnosis, FindingBySubgroup, by_subgroup, diagnosis
from mavl.vocab import ABSENT, PRESENT


@dataclass(frozen=True)
class Subgroups:
    """findings: for each finding and attribute; diagnoses: of all findings together, where there are thresholds."""

    findings: list[FindingBySubgroup]
    diagnoses: list[Diagnosis]


def split_up(settings: ZeroShotSettings, tested: Scored, thresholds: dict[str, float]) -> Subgroups:
    """The results by the attributes of the benchmark; empty where it has none."""
    split, findings, diagnoses = tested.split, [], []
    cuts = np.array([thresholds.get(name, np.nan) for name in split.findings])
    options = {"groups": split.groups, "resamples": settings.resamples, "seed": settings.seed}
    for attribute, names in split.metadata.items():
        for column, finding in enumerate(split.findings):
            labels, scores = split.labels[:, column], tested.scores[:, column]
            if {PRESENT, ABSENT} <= set(labels.tolist()):
                found = by_subgroup(labels, scores, float(cuts[column]), finding, attribute, names, **options)
                findings.append(found)
        if not np.isnan(cuts).all():
            diagnoses += diagnosis(split.labels, tested.scores, cuts, attribute, names)
    return Subgroups(findings, diagnoses)
