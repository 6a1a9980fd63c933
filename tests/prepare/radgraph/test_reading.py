"""Members of a JSON file: each is found whole; damage is named with its byte and the member before it."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mavl.prepare.radgraph import reading
from mavl.prepare.radgraph.reading import ReadingError, members

TEXTS = st.text(max_size=6) | st.sampled_from(["{", "}", '"', "\\", '\\"', '"}', "{{", "\\\\", "é\u2028", "\ud800"])
SIMPLE = TEXTS | st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
VALUES = st.recursive(SIMPLE, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2))
OBJECTS = st.dictionaries(TEXTS, VALUES, max_size=5)


@pytest.fixture
def file(tmp_path):
    """file(content) -> a path that holds it."""

    def write(content: str | bytes):
        path = tmp_path / "graphs.json"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def read(path) -> list:
    return [(name, json.loads(text)) for name, text in members(path)]


@settings(max_examples=150, deadline=None)
@given(content=OBJECTS, indent=st.sampled_from([None, 1]), ascii=st.booleans())
def test_every_member_is_found(tmp_path_factory, content, indent, ascii):
    path = tmp_path_factory.getbasetemp() / "random.json"
    text = json.dumps(content, indent=indent, ensure_ascii=ascii)
    path.write_text(text.replace("\ud800", "\\ud800"), encoding="utf-8")
    assert read(path) == list(content.items())


def test_what_was_read_may_be_given_back(file, monkeypatch):
    monkeypatch.setattr(reading, "STEP", 3000)
    content = {str(number): "x" * number for number in range(500)}
    assert read(file(json.dumps(content))) == list(content.items())


def test_a_repeated_name_comes_twice(file):
    assert read(file('{"a": {"x": 1}, "a": {"x": 2}}')) == [("a", {"x": 1}), ("a", {"x": 2})]


def test_a_byte_order_mark_and_blanks_are_passed_over(file):
    assert read(file(b'\xef\xbb\xbf\n { "a" : {} } \r\n\t')) == [("a", {})]
    assert read(file(" {} \n")) == []


@pytest.mark.parametrize(
    "value",
    [
        b'{"x": 1 2}',
        b'{"x": 1]',
        b'{"x": "\xe9"}',
        b'{"x": "p" \xff}',
        b"[" * 3000 + b"]" * 3000,
        b'{"x": ' + b"9" * 5000 + b"}",
    ],
)
def test_a_value_that_no_program_reads_is_passed_on_and_the_next_one_is_found(file, value):
    assert list(members(file(b'{"a": ' + value + b', "b": {}}'))) == [("a", value), ("b", b"{}")]


WHOLE = '{"a": {"x": "p"}, "b": {"y": [{}, {}]}, "c": {"z": {"t": "\\"}é"}}}'.encode()
ENDS = {"a": WHOLE.index(b'"p"}') + 4, "b": WHOLE.index(b"{}]}") + 4, "c": WHOLE.index(b"}}}") + 2}


@pytest.mark.parametrize("length", range(1, len(WHOLE)))
def test_of_a_file_that_is_cut_short_the_whole_members_are_had_and_the_last_is_named(file, length):
    whole = []
    path = file(WHOLE[:length])
    with pytest.raises(ReadingError, match=r"graphs\.json: damaged or cut short at byte \d+") as error:
        whole.extend(members(path))
    names = [name for name, _ in whole]
    assert names == [name for name, end in ENDS.items() if length > end]  # what follows a value tells that it is whole
    assert (f", after {names[-1]} (" if names else " (") in str(error.value)
    assert str(error.value).endswith("; download it again")


@pytest.mark.parametrize(
    ("content", "place", "missing"),
    [
        ('"{"', "0", "object"),
        ("}", "0", "object"),
        ('{"a": {}} {"b": {}}', "8, after a", "end of the file after the object"),
        ('{"a": {}}\n}', "8, after a", "end of the file after the object"),
        (b'{"a": {}} \xc3', "8, after a", "end of the file after the object"),
        ('{"é": {}, "b": {}]', "18, after é", "comma or }"),
        (b'\xef\xbb\xbf{"a": {}, "b": {"x": 1', "19, after a", "bracket that closes the value"),
        ('{"a": {}, {}}', "10, after a", "name"),
        ('{"a": {}, 1: {}}', "10, after a", "name"),
        ('{"a": {}, "\\x": {}}', "10, after a", "name"),
        ('{"a" {}}', "1", "name"),
        ('{"a": , "b": {}}', "6", "value"),
        ('{"a": {} "b": {}}', "8", "comma or }"),
    ],
)
def test_damage_is_named_with_its_byte_and_the_member_before_it(file, content, place, missing):
    with pytest.raises(ReadingError, match=rf"cut short at byte {place} \(no {missing}\); download it again"):
        read(file(content))


def test_a_list_is_not_called_damaged(file):
    with pytest.raises(ReadingError, match=r"graphs\.json: is a list; expected an object, report by report"):
        read(file(' [{"0": {}}]'))


def test_an_empty_file_is_named(file):
    with pytest.raises(ReadingError, match=r"graphs\.json: is empty; download it again"):
        read(file(""))
