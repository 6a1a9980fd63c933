"""JSON in answers: what a long answer of broken objects costs is bounded."""

import pytest

from mavl.llm.answers import MOST_FAULTS, read_objects


@pytest.mark.parametrize(("braces", "expected"), [(MOST_FAULTS - 1, [{"a": 1}]), (300_000, [])])
def test_an_answer_of_braces_is_read_up_to_a_number_of_faults(braces, expected):
    accepted, error = read_objects("{ " * braces + '{"a": 1}', dict)
    assert accepted == expected
    assert "not valid JSON" in str(error)
