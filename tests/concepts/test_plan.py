"""What a run requests: names, settings, and what the book and the cache hold already."""

import json
from pathlib import Path

import pytest

from mavl.concepts import ConceptError
from mavl.concepts.book import read_whole_book
from mavl.concepts.plan import ConceptSettings, as_spelled_in, read_names
from mavl.config.loader import ConfigError, load
from mavl.files import NotTextError
from tests.support.llm_server import NAMES


def test_names_come_from_the_command_line_and_then_from_the_file(tmp_path):
    file = tmp_path / "names.txt"
    file.write_text("\ufeff# mine\n rib   fracture \n\ncovid19  # as in COVIDx\nlung cyst\r\n", encoding="utf-8")
    assert read_names(["lung cyst", "mass"], file) == ["lung cyst", "mass", "rib fracture", "covid19"]


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        ([], "no name of a finding; give --names or --file"),
        (["..."], r"'\.\.\.' is no name"),
        (["x" * 101], "is no name: it needs letters or digits, at most 100 characters"),
        (
            ["Rib Fracture", "mass", "rib fractures"],
            "'Rib Fracture' and 'rib fractures' are two spellings of one finding",
        ),
    ],
)
def test_names_that_cannot_be_asked_for(names, complaint):
    with pytest.raises(ConceptError, match=complaint):
        read_names(names, None)


def test_names_are_spelled_as_in_the_book():
    book = Path("book.json")
    assert as_spelled_in(book, ["r1", "R 2"], ["R1", "r-2", "new"]) == ["r1", "R 2", "new"]
    assert as_spelled_in(book, ["r1", "R1"], ["R1"]) == ["R1"]
    with pytest.raises(ConceptError, match=r"'the r1' is spelled 'r1' and 'R1' in book\.json"):
        as_spelled_in(book, ["r1", "R1"], ["the r1"])


def test_a_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / "names.xls").write_bytes(b"\xd0\xcf\x11\xe0")
    with pytest.raises(NotTextError, match=r"names\.xls: not UTF-8 text \(byte 0\)"):
        read_names([], tmp_path / "names.xls")


def test_a_missing_model_names_its_flag():
    with pytest.raises(ConfigError, match="no model; give --model"):
        load(ConceptSettings, None, ["temperature=0.5"])
    assert load(ConceptSettings, None, ['model="tiny"']).model == "tiny"


def test_an_ensemble_of_equal_answers_is_refused():
    with pytest.raises(ConfigError, match="an ensemble at temperature 0 is one answer many times"):
        load(ConceptSettings, None, ["model=m", "ensemble=3", "temperature=0.0"])


def test_another_spelling_is_not_paid_again(run, tmp_path):
    run(["rib fracture", "lung cyst"])
    assert run(["Rib-Fractures", "lung_cyst", "covid19"]).calls == 1
    assert list(read_whole_book(tmp_path / "book.json").findings) == ["rib fracture", "lung cyst", "covid19"]


def test_a_rejected_entry_is_known_by_another_spelling_too(run, plan, tmp_path):
    run(["covid19"])
    book = read_whole_book(tmp_path / "book.json")
    thrown_out = {"covid19": (book.findings["covid19"],)}
    book.model_copy(update={"findings": {}, "rejected": thrown_out}).write(tmp_path / "book.json")
    [job] = plan(["Covid19"]).jobs
    assert (job.finding, job.sample) == ("covid19", 1)


def test_an_estimate_sends_nothing_and_counts_what_is_missing(run, plan, prompts, server):
    run(["covid19"])
    more = plan()
    letters = [len(each["content"]) for name in NAMES if name != "covid19" for each in prompts.conversation(name)]
    letters += 2 * [len(json.dumps(server.requests[0]["response_format"]["json_schema"]))]
    assert more.estimate().startswith(f"2 calls to make, about {round(sum(letters) / 4):,} tokens in and ")
    assert "1 finding in" in more.estimate()
    assert [job.finding for job in more.jobs] == ["rib fracture", "lung cyst"]
    assert len(server.requests) == 1
