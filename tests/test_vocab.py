"""The words about an unknown name."""

import pytest

from mavl.vocab import ANATOMIES, FINDINGS, mirrored, unknown_name


def test_near_names_are_suggested_whatever_the_case():
    assert unknown_name("finding", "pneumotorax", FINDINGS) == (
        "unknown finding 'pneumotorax'; did you mean 'pneumothorax' or 'pneumonia'?"
    )
    assert unknown_name("metric", "AUROK", ["auroc", "AUROCs", "dice"]) == (
        "unknown metric 'AUROK'; did you mean 'auroc' or 'AUROCs'?"
    )


def test_without_a_near_name_the_first_twelve_are_listed():
    letters = list("abcdefghijklm")
    assert unknown_name("key", "12345", letters[:12]) == (
        "unknown key '12345'; known: a, b, c, d, e, f, g, h, i, j, k, l"
    )
    assert unknown_name("key", "12345", iter(letters)).endswith("known: a, b, c, d, e, f, g, h, i, j, k, l, …")


@pytest.mark.parametrize(("length", "shown"), [(80, 80 * "x"), (81, 79 * "x" + "…")])
def test_a_name_of_more_than_80_characters_is_cut(length, shown):
    assert unknown_name("key", length * "x", ["a"]) == f"unknown key '{shown}'; known: a"


def test_a_mirror_exchanges_left_and_right_where_both_exist():
    names = ("left_pleural", "heart_size", "right_pleural", "right_atrium", "upper_left_lobe", "upper_right_lobe")
    assert mirrored(names) == [2, 1, 0, 3, 5, 4]
    assert mirrored(["left lung", "right lung", "brighter", "leftover"]) == [1, 0, 2, 3]
    exchanged = [(name, ANATOMIES[other]) for name, other in zip(ANATOMIES, mirrored(ANATOMIES), strict=True)]
    moved = [pair for pair in exchanged if pair[0] != pair[1]]
    assert len(moved) == 22
    assert ("lower_left_lobe", "lower_right_lobe") in moved
    assert ("right_hilar", "left_hilar") in moved
