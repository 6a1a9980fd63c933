"""Paid answers on disk: torn and damaged lines, other kinds of requests, and who may read them."""

import pytest

from mavl.prepare.reports.llm.answers import Stated
from mavl.prepare.reports.llm.cache import Cache

KIND = {"model": "org/tiny:7b", "prompt": "0123", "temperature": 0.0}
LABELS = (Stated(finding="edema", status="present", anatomy="", laterality="none", quote='Ödem \u2265 "mild"\n'),)


def test_answers_are_read_back_and_are_for_their_owner_alone(tmp_path):
    cache = Cache(tmp_path / "a" / "b", KIND)
    cache.add({"one": LABELS, "two": ()})
    cache.add({})
    again = Cache(tmp_path / "a" / "b", KIND)
    assert (again.get("one"), again.get("two"), again.get("three")) == (LABELS, (), None)
    assert again.path.stat().st_mode & 0o777 == 0o600
    assert again.path.name.startswith("org_tiny_7b-")


@pytest.mark.parametrize("changed", [{"model": "org/tiny:8b"}, {"prompt": "0124"}, {"temperature": 0.1}])
def test_another_kind_of_request_has_other_answers(tmp_path, changed):
    Cache(tmp_path, KIND).add({"one": LABELS})
    assert Cache(tmp_path, KIND | changed).get("one") is None


def test_a_line_that_a_kill_cut_costs_its_own_answer_only(tmp_path, capsys):
    cache = Cache(tmp_path, KIND)
    cache.add({"one": LABELS, "two": ()})
    content = cache.path.read_bytes()
    for cut in range(1, len(content), 9):
        cache.path.write_bytes(content[:cut])
        torn = Cache(tmp_path, KIND)
        whole = content[: cut + 1].count(b"\n")
        assert [torn.get(text) is not None for text in ("one", "two")] == [whole > 0, whole > 1]
        torn.add({"three": LABELS})
        after = Cache(tmp_path, KIND)
        assert [after.get(text) is not None for text in ("one", "two", "three")] == [whole > 0, whole > 1, True]
    assert "1 damaged line; the reports of these are requested again" in capsys.readouterr().err


def test_lines_of_another_form_are_left_and_named(tmp_path, capsys):
    cache = Cache(tmp_path, KIND)
    cache.add({"one": LABELS})
    with cache.path.open("ab") as file:
        file.write(b'\xff\xfe\n{"text": 7, "labels": []}\n[1]\n')
    assert Cache(tmp_path, KIND).get("one") == LABELS
    assert f"{cache.path}: 3 damaged lines; the reports of these are requested again" in capsys.readouterr().err
