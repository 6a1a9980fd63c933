"""A JSON object cut by bytes: whatever stands in its strings and wherever reads end, no member is lost or cut."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mavl.prepare.radgraph import json_parts
from mavl.prepare.radgraph.json_parts import JsonPartsError, Unreadable, cut, members

TEXTS = st.text(max_size=6) | st.sampled_from(["{", "}", '"', "\\", '\\"', '"}', "{{", "\\\\", "é\u2028"])
VALUES = TEXTS | st.none() | st.lists(st.dictionaries(TEXTS, TEXTS, max_size=2), max_size=2)
OBJECTS = st.dictionaries(TEXTS, st.dictionaries(TEXTS, VALUES, max_size=2), max_size=5)


@pytest.fixture
def file(tmp_path):
    """file(content) -> a path that holds it."""

    def write(content: str | bytes):
        path = tmp_path / "graphs.json"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def read(path, size: int = 2) -> list:
    return [member for part in cut(path, size) for member in members(path, part)]


@settings(max_examples=60, deadline=None)
@given(content=OBJECTS, chunk=st.integers(1, 40), indent=st.sampled_from([None, 1]), ascii=st.booleans())
def test_every_member_is_found_wherever_reads_end(tmp_path_factory, content, chunk, indent, ascii):
    path = tmp_path_factory.getbasetemp() / "drawn.json"
    path.write_text(json.dumps(content, indent=indent, ensure_ascii=ascii), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_parts, "CHUNK", chunk)
        assert read(path) == list(content.items())


def test_a_part_is_its_bytes_and_rows(file):
    text = '{"a": {"x": 1}, "b": {}, "c": {"y": "}"}}'
    path = file(text)
    first, second = cut(path, 2)
    assert text[first.start : first.end] == '"a": {"x": 1}, "b": {}'
    assert text[second.start : second.end] == ', "c": {"y": "}"}'
    assert [(part.number, part.first_row, part.rows) for part in (first, second)] == [(0, 0, 2), (1, 2, 1)]


def test_the_digest_is_of_the_bytes(file):
    before = list(cut(file('{"a": {"x": 1}, "b": {"x": 1}, "c": {}}'), 1))
    after = list(cut(file('{"a": {"x": 1}, "b": {"x": 2}, "c": {}, "d": {}}'), 1))
    assert [old.digest == new.digest for old, new in zip(before, after, strict=False)] == [True, False, True]


def test_full_parts_leave_no_empty_one_behind(file):
    assert [part.rows for part in cut(file('{"a": {}, "b": {}}'), 2)] == [2]
    assert list(cut(file(" {} \n"), 2)) == []


def test_a_repeated_name_comes_twice(file):
    assert read(file('{"a": {"x": 1}, "a": {"x": 2}}')) == [("a", {"x": 1}), ("a", {"x": 2})]


def test_a_byte_order_mark_and_blanks_are_passed_over(file):
    assert read(file(b'\xef\xbb\xbf\n { "a" : {} } \r\n\t')) == [("a", {})]


WHOLE = '{"a": {"x": "p"}, "b": {"y": [{}, {}]}, "c": {"z": {"t": "\\"}"}}}'


@pytest.mark.parametrize("length", range(1, len(WHOLE)))
def test_of_a_file_that_is_cut_short_the_whole_members_are_had(file, length):
    path, whole = file(WHOLE[:length]), []
    with pytest.raises(JsonPartsError, match=r"graphs\.json: is cut short inside the entry at byte \d+ .*are whole"):
        whole.extend(member for part in cut(path, 2) for member in members(path, part))
    ends = [WHOLE.index(text) + len(text) for text in ('"p"}', "{}]}", '}"}}')]
    assert whole == list(json.loads(WHOLE).items())[: sum(length >= end for end in ends)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "does not begin as a JSON object"),
        ("[{}]", "does not begin as a JSON object"),
        ('"{"', "does not begin as a JSON object"),
        ("}", "does not begin as a JSON object"),
        ('{"a": {}} {"b": {}}', "goes on after byte 9"),
        ('{"a": {}}\n}', "goes on after byte 9"),
        ('{"a": {"x": 1 2}}', r"between bytes 1 and 16: .*delimiter"),
        ('{"a": {}, {}}', "between bytes 1 and 12"),
        ('{"a" {}}', "between bytes 1 and 7: no name and colon"),
        (b'{"a": {"x": "p" \xff}}', "between bytes 1 and 18: .*delimiter"),
        ('{"a": {}, ' + "[" * 3000 + "]" * 3000 + "}", "between bytes 1 and 6,010: .*recursion"),
    ],
)
def test_what_is_no_object_of_objects_is_refused_by_name_and_byte(file, content, message):
    with pytest.raises(JsonPartsError, match=rf"graphs\.json: {message}"):
        read(file(content))


@pytest.mark.parametrize(
    ("value", "reason", "is_object"),
    [
        (b'{"x": "\xe9", "y": "}"}', "the byte 0xe9 is not UTF-8", True),
        (b'{"x": ' + b"9" * 5000 + b', "y": "\\"}"}', "4300 digits", True),
        (b"9" * 5000, "4300 digits", False),
        (b'{"a":' * 3000 + b'"{"' + b"}" * 3000, "recursion", True),
        (b"[" * 3000 + b"]" * 3000, "recursion", False),
    ],
    ids=["byte", "digits", "number", "deep", "array"],
)
def test_a_value_that_cannot_be_read_leaves_the_others(file, value, reason, is_object):
    read_ones = dict(read(file(b'{"a": {"x": "\xc3\xa9"}, "b": %b, "c": {}}' % value), 9))
    assert (read_ones["a"], read_ones["c"]) == ({"x": "é"}, {})
    assert isinstance(read_ones["b"], Unreadable)
    assert reason in read_ones["b"].reason
    assert read_ones["b"].is_object == is_object


def test_a_huge_file_without_objects_is_not_held(file, monkeypatch):
    monkeypatch.setattr(json_parts, "LARGEST", 1000)
    monkeypatch.setattr(json_parts, "CHUNK", 100)
    with pytest.raises(JsonPartsError, match="from byte 6 on are no object of objects"):
        read(file('{"a":{' + " " * 5000))
