"""Members of a JSON file: each is whole, wherever chunks end; damage is named with its byte and what precedes it."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mavl.prepare.radgraph import reading
from mavl.prepare.radgraph.reading import ReadingError, members

TEXTS = st.text(max_size=6) | st.sampled_from(["{", "}", '"', "\\", '\\"', '"}', "{{", "\\\\", "é\u2028", "\ud800"])
SIMPLE = TEXTS | st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
VALUES = SIMPLE | st.lists(st.dictionaries(TEXTS, TEXTS, max_size=2), max_size=2)
OBJECTS = st.dictionaries(TEXTS, SIMPLE | st.dictionaries(TEXTS, VALUES, max_size=2), max_size=5)


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
@given(content=OBJECTS, chunk=st.integers(1, 40), indent=st.sampled_from([None, 1]), ascii=st.booleans())
def test_every_member_is_found_wherever_chunks_end(tmp_path_factory, content, chunk, indent, ascii):
    path = tmp_path_factory.getbasetemp() / "drawn.json"
    text = json.dumps(content, indent=indent, ensure_ascii=ascii)
    path.write_text(text.replace("\ud800", "\\ud800"), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "CHUNK", chunk)
        assert read(path) == list(content.items())


def test_a_repeated_name_comes_twice(file):
    assert read(file('{"a": {"x": 1}, "a": {"x": 2}}')) == [("a", {"x": 1}), ("a", {"x": 2})]


def test_a_byte_order_mark_and_blanks_are_passed_over(file):
    assert read(file(b'\xef\xbb\xbf\n { "a" : {} } \r\n\t')) == [("a", {})]
    assert read(file(" {} \n")) == []


WHOLE = '{"a": {"x": "p"}, "b": {"y": [{}, {}]}, "c": {"z": {"t": "\\"}é"}}}'.encode()
ENDS = {"a": WHOLE.index(b'"p"}') + 4, "b": WHOLE.index(b"{}]}") + 4, "c": WHOLE.index(b"}}}") + 2}


@pytest.mark.parametrize("length", range(len(WHOLE)))
def test_of_a_file_that_is_cut_short_the_whole_members_are_had_and_the_last_is_named(file, length):
    whole = []
    path = file(WHOLE[:length])
    with pytest.raises(ReadingError, match=r"graphs\.json: damaged or cut short at byte \d+") as error:
        whole.extend(members(path))
    names = [name for name, _ in whole]
    assert names == [name for name, end in ENDS.items() if length > end]  # what follows a value tells that it is whole
    assert (f", after {names[-1]} (" if names else " (") in str(error.value)
    assert str(error.value).endswith("; download it again")


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    ("content", "place", "reason"),
    [
        ("", "0", "expected an object"),
        ("[{}]", "0", "expected an object"),
        ('"{"', "0", "expected an object"),
        ("}", "0", "expected an object"),
        ('{"a": {}} {"b": {}}', "9, after a", "more text after the object"),
        ('{"a": {}}\n}', "9, after a", "more text after the object"),
        ('{"a": {"x": 1 2}}', "14", "delimiter"),
        ('{"é": {}, "b": {"x": 1 2}}', "24, after é", "delimiter"),
        (b'\xef\xbb\xbf{"a": {}, "b": {"x": 1 2}}', "26, after a", "delimiter"),
        (b'{"a": {}} \xc3', "9, after a", "more text after the object"),
        ('{"a": {}, {}}', "10, after a", "expected a name"),
        ('{"a": {}, 1: {}}', "10, after a", "expected a name"),
        ('{"a" {}}', "4", "expected a colon"),
        ('{"a": {} "b": {}}', "8", "expected , or }"),
        ('{"a": 1.5.5, "b": {}}', "9", "expected , or }"),
        (b'{"a": {}, "b": {"x": "\xe9"}, "c": {}}', "22, after a", "not UTF-8"),
        (b'{"a": {}, "b": {"x": "p" \xff}}', "25, after a", "delimiter"),
        ('{"a": {}, "b": ' + "[" * 3000 + "]" * 3000 + "}", "8, after a", "recursion"),
        ('{"a": {}, "b": {"x": ' + "9" * 5000 + "}}", "8, after a", "4300"),
    ],
)
def test_damage_is_named_with_its_byte_and_the_member_before_it(file, monkeypatch, chunk, content, place, reason):
    monkeypatch.setattr(reading, "CHUNK", chunk)
    with pytest.raises(ReadingError, match=rf"cut short at byte {place} \(.*{reason}.*\); download it again"):
        read(file(content))


def test_a_huge_file_of_one_value_is_not_held(file, monkeypatch):
    monkeypatch.setattr(reading, "LARGEST", 1000)
    monkeypatch.setattr(reading, "CHUNK", 100)
    path = file('{"a":{},"b":{' + " " * 5000 + "}}")
    with pytest.raises(ReadingError, match=r"at byte 1,\d\d\d, after a"):
        read(path)
