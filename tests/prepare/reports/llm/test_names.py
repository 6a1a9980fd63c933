"""Names in answers: which finding and which anatomies they mean, and which mean none."""

import pytest

from mavl.prepare.reports.llm.answers import Stated
from mavl.prepare.reports.llm.names import Names
from mavl.prepare.reports.protocol import Mention
from mavl.vocab import ANATOMIES, FINDINGS


def stated(anatomy: str, laterality: str = "none", finding: str = "nodule") -> Stated:
    return Stated(finding=finding, status="present", anatomy=anatomy, laterality=laterality, quote="A\n nodule.")


PLACES = [
    ("lower lobe", "left", ["lower_left_lobe"]),
    ("left lower lobe", "none", ["lower_left_lobe"]),
    ("Left_Lower_Lobes", "left", ["lower_left_lobe"]),
    ("pleural", "both", ["left_pleural", "right_pleural"]),
    ("pleural", "none", ["pleural_unspec"]),
    ("pleural space", "right", ["right_pleural"]),
    ("", "none", ["unspecified"]),
    ("unspecified", "none", ["unspecified"]),
    ("", "left", ["left_lung_unspec"]),
    ("lung", "both", ["left_lung_unspec", "right_lung_unspec"]),
    ("left and right lung", "none", ["left_lung_unspec", "right_lung_unspec"]),
    ("lung bases", "none", ["lung_bases"]),
    ("lung bases", "both", ["left_lower_lung", "right_lower_lung"]),
    ("base", "right", ["right_lower_lung"]),
    ("apices", "none", ["lung_apices"]),
    ("hila", "none", ["hilar_unspec"]),
    ("heart", "none", ["heart_size"]),
    ("heart size", "left", ["heart_size"]),
    ("spine", "both", ["spine"]),
    ("right atrium", "none", ["right_atrium"]),
    ("middle lobe", "right", ["middle_right_lobe"]),
]


@pytest.mark.parametrize(("place", "side", "anatomies"), PLACES)
def test_a_place_and_a_side_are_an_anatomy(place, side, anatomies):
    names = Names(FINDINGS)
    assert [mention.anatomy for mention in names.mentions([stated(place, side)])] == anatomies
    assert names.unknown_places == {}


@pytest.mark.parametrize(
    ("place", "side", "counted"),
    [
        ("nipple", "left", "left nipple"),
        ("upper lobe", "none", "upper lobe"),
        ("middle lobe", "left", "left middle lobe"),
    ],
)
def test_a_place_that_is_no_anatomy_is_elsewhere_and_counted(place, side, counted):
    names = Names(FINDINGS)
    for _ in range(2):
        assert [mention.anatomy for mention in names.mentions([stated(place, side)])] == ["other"]
    assert names.unknown_places == {counted: 2}


def test_every_anatomy_is_found_by_the_place_that_the_prompt_states_and_its_side():
    names = Names(FINDINGS)
    for anatomy in ANATOMIES:
        side = next((side for side in ("left", "right") if side in anatomy.split("_")), "none")
        words = [word for word in anatomy.split("_") if word not in (side, "unspec", "unspecified")]
        if anatomy != "other":
            assert not words or " ".join(words) in names.places
            assert [each.anatomy for each in names.mentions([stated(" ".join(words), side)])] == [anatomy]


def test_own_anatomies_take_no_place_of_others():
    names = Names(["nodule"], ["left knee", "right knee", "unspecified"])
    assert names.places == ["knee"]
    found = names.mentions([stated("knee", "both"), stated("pleural", "left"), stated("")])
    assert [each.anatomy for each in found] == ["left knee", "right knee", "unspecified"]
    assert names.unknown_places == {"left pleural": 1}


def test_a_finding_counts_by_its_synonyms_and_once():
    names = Names(["cardiomegaly", "rib lesion"])
    items = [
        stated("", finding=name) for name in ("enlarged heart", "Cardiomegaly", "Rib Lesions", "pneumonia", "x" * 99)
    ]
    assert list(names.mentions(items)) == [
        Mention("cardiomegaly", "present", "unspecified", "A nodule."),
        Mention("rib lesion", "present", "unspecified", "A nodule."),
    ]
    assert names.unknown_findings == {"pneumonia": 1, "x" * 60: 1}
