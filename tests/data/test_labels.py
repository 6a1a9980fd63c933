"""Labels: one label a finding from its 51 anatomies, candidate places drawn evenly, the matrix file read row by row.

And the vocabulary that orders them stands in one place.
"""

import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

from mavl.data.labels import (
    LabelStore,
    Selection,
    Vocabulary,
    VocabularyError,
    draw_locations,
    finding_labels,
    unlocated,
)
from mavl.vocab import ANATOMIES, ASPECTS, FINDINGS

ROOT = Path(__file__).resolve().parents[2]
SHAPE = (len(ANATOMIES), len(FINDINGS))


def matrix(*columns: dict[int, int], default: int = -1) -> np.ndarray:
    """A column a finding, {anatomy: value}; the rest holds the default."""
    result = np.full((len(ANATOMIES), len(columns)), default, dtype=np.int8)
    for column, values in enumerate(columns):
        for anatomy, value in values.items():
            result[anatomy, column] = value
    return result


@pytest.fixture
def file(tmp_path):
    """file(array) -> a path it is saved under."""

    def save(array: np.ndarray):
        np.save(tmp_path / "matrix.npy", array)
        return tmp_path / "matrix.npy"

    return save


def test_a_finding_is_present_if_anywhere_else_absent_if_anywhere_else_unknown():
    columns = [{}, {3: 1}, {3: 0}, {3: 1, 4: 0}, {3: 1, 4: 1}, {50: 0, 0: 0}, {0: 2}, {0: 2, 1: 1}]
    labels = finding_labels(matrix(*columns))
    assert labels.tolist() == [-1, 1, 0, 1, 1, 0, -1, 1]
    assert labels.dtype == np.int8
    assert finding_labels(matrix({}, {9: 1}, default=0)).tolist() == [0, 1]


def test_the_first_candidate_of_a_present_finding_holds_it_and_the_others_do_not():
    generator = np.random.default_rng(0)
    values = np.random.default_rng(1).choice([-1, 0, 1], p=[0.6, 0.2, 0.2], size=SHAPE).astype(np.int8)
    present = finding_labels(values) == 1
    assert present.sum() > 60
    for _ in range(20):
        locations = draw_locations(values, generator)
        assert locations.shape == (75, 8)
        assert locations.dtype == np.int64
        held = values[locations, np.arange(75)[:, None]] == 1
        assert np.array_equal(held[:, 0], present)
        assert not held[:, 1:].any()
        assert all(len(set(row)) == 8 for row in locations.tolist())


def test_the_draw_is_the_generators():
    values = matrix({3: 1, 9: 1}, {}, {50: 0})
    first, again, other = (draw_locations(values, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_every_anatomy_is_drawn_as_often_as_the_next():
    """Chi-square of 3000 draws against even counts; the bounds are the 0.1 % points of its distribution."""
    held = {2: 1, 17: 1, 30: 1}
    values, generator = matrix(held, {}), np.random.default_rng(0)
    drawn = np.stack([draw_locations(values, generator) for _ in range(3000)])
    true = np.bincount(drawn[:, 0, 0], minlength=51)
    others = np.bincount(drawn[:, 0, 1:].ravel(), minlength=51)
    absent = np.bincount(drawn[:, 1].ravel(), minlength=51)
    assert set(np.flatnonzero(true)) == set(held)
    assert ((true[list(held)] - 1000) ** 2 / 1000).sum() < 13.8  # 2 degrees of freedom
    negatives = np.delete(others, list(held))
    assert ((negatives - 3000 * 7 / 48) ** 2 / (3000 * 7 / 48)).sum() < 82.7  # 47, and fewer for distinct draws
    assert ((absent - 3000 * 8 / 51) ** 2 / (3000 * 8 / 51)).sum() < 86.7  # 50
    places = np.stack([np.bincount(drawn[:, 1, place], minlength=51) for place in (0, 7)])
    assert (((places - 3000 / 51) ** 2 / (3000 / 51)).sum(axis=1) < 86.7).all()  # no place prefers an anatomy


def test_candidates_that_run_out_are_minus_one():
    nearly_all = matrix(
        {anatomy: 1 for anatomy in range(51) if anatomy not in (7, 20, 33)}, dict.fromkeys(range(51), 1)
    )
    locations = draw_locations(nearly_all, np.random.default_rng(0))
    assert sorted(locations[0, 1:]) == [-1, -1, -1, -1, 7, 20, 33]
    assert (locations[0, 4:] == -1).all()
    assert locations[0, 0] not in (7, 20, 33)
    assert locations[1, 0] >= 0
    assert (locations[1, 1:] == -1).all()


def test_exactly_seven_negatives_are_all_drawn():
    values = matrix(dict.fromkeys(range(44), 1))
    locations = draw_locations(values, np.random.default_rng(0))
    assert sorted(locations[0, 1:]) == [44, 45, 46, 47, 48, 49, 50]


def test_labels_without_places_are_at_unspecified():
    labels = np.array([1, 0, -1], dtype=np.int8)
    values = unlocated(labels)
    assert np.array_equal(finding_labels(values), labels)
    assert draw_locations(values, np.random.default_rng(0))[0, 0] == ANATOMIES.index("unspecified")
    assert values.shape == (51, 3)


def test_the_store_maps_its_file_and_copies_a_row(file):
    array = np.random.default_rng(0).integers(-1, 2, (4, *SHAPE)).astype(np.int8)
    store = LabelStore(file(array))
    assert isinstance(store.array, np.memmap)
    assert len(store) == 4
    assert np.array_equal(store[2], array[2])
    assert store[2].dtype == np.int8


def test_the_released_float64_is_read_as_int8(file):
    array = np.random.default_rng(0).integers(-1, 2, (3, *SHAPE)).astype(np.float64)
    store = LabelStore(file(array))
    assert isinstance(store.array, np.memmap)
    assert store[1].dtype == np.int8
    assert np.array_equal(store[1], array[1])


def test_chosen_findings_come_in_their_order(file):
    array = np.random.default_rng(0).integers(-1, 2, (3, *SHAPE)).astype(np.int8)
    columns = [FINDINGS.index(name) for name in ("edema", "normal")]
    assert np.array_equal(LabelStore(file(array), ("edema", "normal"))[1], array[1][:, columns])


def test_workers_get_the_path_and_not_the_numbers(file):
    store = LabelStore(file(np.ones((50, *SHAPE), dtype=np.int8)), ["stable"])
    store[0]
    pickled = pickle.dumps(store)
    assert len(pickled) < 1000
    again = pickle.loads(pickled)
    assert (again.path, again.selection.columns) == (store.path, (FINDINGS.index("stable"),))
    assert np.array_equal(again[49], store[49])


@pytest.mark.parametrize("shape", [(4, 75, 51), (4, 51, 74), (51, 75), (4, 51 * 75)])
def test_a_matrix_of_another_shape_is_refused(file, shape):
    path = file(np.zeros(shape, dtype=np.int8))
    with pytest.raises(ValueError, match=r"matrix\.npy: shape \(.*\), expected \[studies, 51, 75\]"):
        len(LabelStore(path))


@pytest.mark.parametrize("content", [b"", b"labels", pickle.dumps([1])])
def test_a_file_that_is_no_matrix_is_named(tmp_path, content):
    (tmp_path / "matrix.npy").write_bytes(content)
    with pytest.raises(ValueError, match=r"matrix\.npy: not an NPY file of numbers"):
        len(LabelStore(tmp_path / "matrix.npy"))


def test_a_missing_matrix_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"matrix\.npy"):
        len(LabelStore(tmp_path / "matrix.npy"))


def sources() -> list[Path]:
    """The repository's Python files, without those of environments and caches."""
    visible = [path for path in ROOT.iterdir() if not path.name.startswith(".")]
    return [*ROOT.glob("*.py"), *(file for folder in visible if folder.is_dir() for file in folder.rglob("*.py"))]


@pytest.mark.parametrize(("names", "length"), [(FINDINGS, 5), (ANATOMIES, 5), (ASPECTS, 9)])
def test_each_list_of_the_vocabulary_has_one_home(names, length):
    runs = {tuple(names[start : start + length]) for start in range(len(names) - length + 1)}
    homes = []
    for path in sources():
        words = re.findall(r"\w+", path.read_text(encoding="utf-8"))
        if any(tuple(words[start : start + length]) in runs for start in range(len(words))):
            homes.append(path.relative_to(ROOT).as_posix())
    assert homes == ["mavl/vocab.py"]


def test_the_label_file_is_opened_for_reading_only(tmp_path):
    path = tmp_path / "labels.npy"
    np.save(path, np.zeros((2, len(ANATOMIES), len(FINDINGS)), dtype=np.int8))
    path.chmod(0o444)
    array = LabelStore(path).array
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0, 0] = 1


def write_vocabulary(folder, **content):
    (folder / "vocabulary.json").write_text(json.dumps(content))


def test_a_vocabulary_beside_the_file_names_its_findings_and_anatomies(tmp_path):
    array = np.array([[[1, -1, 0], [-1, 0, 2]]], dtype=np.int8)  # one study, two anatomies, three findings
    np.save(tmp_path / "labels.npy", array)
    write_vocabulary(tmp_path, findings=["silicosis", "edema", "mesothelioma"], anatomies=["unspecified", "left lung"])
    store = LabelStore(tmp_path / "labels.npy", ["mesothelioma", "silicosis"], ["left lung", "unspecified"])
    assert store[0].tolist() == [[-1, -1], [0, 1]]  # a 2 of the released alphabet is unknown
    assert LabelStore(tmp_path / "labels.npy")[0].tolist() == array[0].tolist()
    with pytest.raises(VocabularyError, match=r"labels\.npy: unknown finding 'silicose'; did you mean 'silicosis'\?"):
        LabelStore(tmp_path / "labels.npy", ["silicose"])
    with pytest.raises(VocabularyError, match="unknown anatomy 'right lung'; did you mean 'left lung'"):
        LabelStore(tmp_path / "labels.npy", ["edema"], ["unspecified", "right lung"])


def test_names_in_another_order_than_the_labels_were_made_with_are_refused(tmp_path):
    Vocabulary(("edema", "mass"), ("unspecified", "left lung")).save(tmp_path)
    assert Vocabulary.beside(tmp_path / "labels.npy").findings == ("edema", "mass")
    stored = json.loads((tmp_path / "vocabulary.json").read_text())
    write_vocabulary(tmp_path, **stored | {"findings": ["mass", "edema"]})
    with pytest.raises(VocabularyError, match=r"vocabulary\.json: its names, or their order, are not those"):
        Vocabulary.beside(tmp_path / "labels.npy")
    del stored["sha256"]
    write_vocabulary(tmp_path, **stored | {"findings": ["mass", "oedema"]})
    assert Vocabulary.beside(tmp_path / "labels.npy").findings == ("mass", "oedema")


def test_labels_at_other_anatomies_are_kept_at_unspecified():
    vocabulary = Vocabulary(("f", "g", "h", "i"), ("a", "unspecified", "b", "c"))
    values = np.array([[1, 0, 0, 2], [-1, 1, -1, 0], [0, -1, -1, -1], [-1, -1, -1, 1]], dtype=np.int8)
    chosen = Selection.of(["f", "g", "h", "i"], ["unspecified", "b"], vocabulary)(values)
    assert chosen.tolist() == [[1, 1, 0, 1], [0, -1, -1, -1]]  # a and c are added to unspecified
    assert finding_labels(chosen).tolist() == finding_labels(np.where(values == 2, -1, values)).tolist()


@pytest.mark.parametrize(
    "content",
    [
        "[1]",
        "{",
        '{"findings": ["a"]}',
        '{"findings": [1], "anatomies": ["b"]}',
        '{"findings": ["a", "a"], "anatomies": ["b"]}',
        '{"findings": ["a"], "anatomies": "b\\n"}',
    ],
)
def test_a_damaged_vocabulary_is_refused(tmp_path, content):
    (tmp_path / "vocabulary.json").write_text(content)
    with pytest.raises(VocabularyError, match=r"vocabulary\.json"):
        LabelStore(tmp_path / "labels.npy")


def test_of_few_anatomies_the_missing_candidates_are_minus_one():
    values = np.array([[-1, 0], [1, -1], [-1, -1]], dtype=np.int8)
    locations = draw_locations(values, np.random.default_rng(0))
    assert locations.shape == (2, 8)
    assert locations[0, 0] == 1
    assert sorted(locations[0, 1:]) == [-1] * 5 + [0, 2]
    assert sorted(locations[1]) == [-1] * 5 + [0, 1, 2]
