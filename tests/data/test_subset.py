"""Drawing a share of a split: stratified and reproducible, worked by hand; patients are drawn as a whole."""

import hashlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mavl.data.classification import draw_share


def drawn_names(labels, names, share, seed=0, **options) -> set[str]:
    return {names[image] for image in draw_share(np.array(labels), names, share, seed, "train", **options)}


def test_patients_are_drawn_with_all_their_images_and_have_what_one_of_these_has():
    labels = np.array([[0], [1], [0], [-1]] * 5)
    names = [name + str(i // 4) for i, name in enumerate("baac" * 5)]
    drawn = draw_share(labels, names, 0.2, 0, "train")
    assert drawn == [image for image, name in enumerate(names) if name in {names[i] for i in drawn}]
    # Of the 5 patients a* one is drawn, whose second image has no finding, and of the 10 others two.
    assert sorted(name[0] for name in {names[i] for i in drawn}) in (["a", "b", "b"], ["a", "b", "c"], ["a", "c", "c"])


def turn(names: list[str], seed: int, purpose: str) -> list[str]:
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed}\n{purpose}\n{name}".encode()).hexdigest())


def test_the_order_is_that_of_a_hash_of_seed_purpose_and_name():
    names = ["a", "b", "c", "d"]
    assert turn(names, 3, "train") == ["b", "d", "c", "a"]
    for share, chosen in ((0.25, "b"), (0.5, "bd"), (0.75, "bdc")):
        drawn = draw_share(np.zeros((4, 1)), names, share, 3, "train")
        assert {names[image] for image in drawn} == set(chosen)


def test_each_finding_gives_its_share_the_rarest_first():
    # 4 have both findings, 16 the second alone, 20 none. Half of 4 is 2; half of the second's 20 is 10, of which 2 are
    # drawn already; half of 20 is 10.
    labels = [[1, 1]] * 4 + [[0, 1]] * 16 + [[0, 0]] * 20
    names = [f"p{i:02d}" for i in range(40)]
    drawn = draw_share(np.array(labels), names, 0.5, 0, "train")
    strata = [sum(image in range(*bounds) for image in drawn) for bounds in ((0, 4), (4, 20), (20, 40))]
    # what the second finding adds may come from those with both
    assert strata[0] >= 2
    assert strata[0] + strata[1] == 10
    assert strata[2] == 10
    order = [names.index(name) for name in turn(names, 0, "train")]
    both = [image for image in order if image < 4][:2]
    others = [image for image in order if image < 20 and image not in both][:8]
    assert {image for image in drawn if image < 20} == {*both, *others}


def test_a_small_share_has_one_of_each_finding_and_one_without():
    labels = np.eye(4, dtype=int)[[0] * 30 + [1] * 3 + [3] * 60 + [2]]
    names = list(map(str, range(len(labels))))
    drawn = drawn_names(np.column_stack([labels[:, :3]]), names, 0.01)
    assert len(drawn) == 4
    assert sorted(labels[[int(name) for name in drawn]].argmax(axis=1)) == [0, 1, 2, 3]


def test_spare_leaves_the_last_one_of_a_finding():
    labels = [[1, 0]] + [[0, 1]] * 10 + [[0, 0]] * 10
    names = list(map(str, range(21)))
    assert "0" in drawn_names(labels, names, 0.1)
    assert "0" not in drawn_names(labels, names, 0.1, spare=1)


def test_all_is_all():
    assert drawn_names([[1], [-1], [0]], ["x", "y", "x"], 1.0) == {"x", "y"}


tables = st.lists(
    st.tuples(st.integers(0, 12), st.lists(st.sampled_from([-1, 0, 1]), min_size=3, max_size=3)), min_size=1
)


@given(rows=tables, share=st.floats(0.01, 0.99), seed=st.integers(0, 5), shuffle=st.randoms())
def test_a_drawing_does_not_depend_on_the_order_of_the_rows(rows, share, seed, shuffle):
    first = drawn_names([labels for _, labels in rows], [f"p{who}" for who, _ in rows], share, seed)
    shuffle.shuffle(rows)
    assert drawn_names([labels for _, labels in rows], [f"p{who}" for who, _ in rows], share, seed) == first


@given(rows=tables, share=st.floats(0.01, 0.99), seed=st.integers(0, 5))
def test_every_finding_that_somebody_has_is_drawn_and_none_more_than_its_share_wants(rows, share, seed):
    labels, names = np.array([labels for _, labels in rows]), [f"p{who}" for who, _ in rows]
    drawn = drawn_names(labels, names, share, seed)
    patients = sorted(set(names))
    positive = np.array([(labels[[name == who for name in names]] == 1).any(axis=0) for who in patients])
    chosen = np.array([who in drawn for who in patients])
    taken, there = positive[chosen].sum(axis=0), positive.sum(axis=0)
    assert (taken[there > 0] >= np.maximum(1, np.round(share * there[there > 0]))).all()
    rarest = there.argmin()
    without = ~positive.any(axis=1)
    assert without[chosen].sum() == (max(1, round(share * without.sum())) if without.any() else 0)
    if there[rarest]:
        others = np.delete(np.arange(3), rarest)
        alone = not positive[positive[:, rarest]][:, others].any()
        assert not alone or taken[rarest] == max(1, round(share * there[rarest]))
