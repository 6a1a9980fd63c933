"""The words about an unknown name."""

import pytest

from mavl.vocab import FINDINGS, unknown_name


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
