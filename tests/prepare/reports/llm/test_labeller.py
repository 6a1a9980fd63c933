"""Labels of reports from a real local server, which answers well, badly, late, or not at all."""

import json
import re

import numpy as np
import pytest

from mavl.data.phantom.study import draw
from mavl.llm import LLMError
from mavl.prepare.reports.protocol import Mention, Report
from mavl.prepare.reports.sections import read_sentences
from mavl.text.synonyms import all_names
from mavl.vocab import ABSENT, ANATOMIES, FINDINGS, PRESENT, UNKNOWN
from tests.support.llm_server import Reply, ReportServer, answer, cut, hang, raw, status

TEXTS = ["Small left effusion.", "No pneumothorax.", "A nodule in the right upper lobe.", "Possible edema."]
REPORTS = [Report(f"s{number}", f"reports.csv:{number}", text) for number, text in enumerate(TEXTS, 2)]


def item(finding: str, status: str, quote: str, anatomy: str = "", laterality: str = "none") -> dict:
    return {"finding": finding, "status": status, "anatomy": anatomy, "laterality": laterality, "quote": quote}


ITEMS = [
    [item("pleural effusion", "present", TEXTS[0], "pleural", "left")],
    [item("pneumothorax", "absent", TEXTS[1])],
    [item("nodule", "present", TEXTS[2], "upper lobe", "right")],
    [item("edema", "uncertain", TEXTS[3])],
]
MENTIONS = [
    [Mention("effusion", "present", "left_pleural", TEXTS[0])],
    [Mention("pneumothorax", "absent", "unspecified", TEXTS[1])],
    [Mention("nodule", "present", "upper_right_lobe", TEXTS[2])],
    [Mention("edema", "uncertain", "unspecified", TEXTS[3])],
]


@pytest.fixture(autouse=True)
def answers(server):
    server.labels |= dict(zip(TEXTS, ITEMS, strict=True))


def batches(server: ReportServer) -> list[list[str]]:
    """The texts of each request, in a fixed order."""
    return sorted(server.subjects_of(body) for body in server.requests)


# Good answers ---------------------------------------------------------------------------------------------------------


def test_mentions_come_in_the_order_of_the_reports_whatever_the_batches(labeller, server):
    assert list(labeller(batch=3).label(REPORTS)) == MENTIONS
    assert batches(server) == [[TEXTS[3]], TEXTS[:3]] or batches(server) == [TEXTS[:3], [TEXTS[3]]]
    assert {request["response_format"]["type"] for request in server.requests} == {"json_schema"}
    assert {request["temperature"] for request in server.requests} == {0}


def test_what_was_paid_for_is_not_requested_again_and_a_text_only_once(labeller, server):
    twice = [*REPORTS, *(Report(f"t{each.study}", each.where, each.text) for each in REPORTS)]
    assert list(labeller(batch=2).label(twice)) == MENTIONS * 2
    assert len(server.requests) == 2
    assert list(labeller(batch=1).label(REPORTS)) == MENTIONS
    assert len(server.requests) == 2
    assert "0 requests" in labeller().estimate(REPORTS)


@pytest.mark.parametrize("changed", [{"model": "other"}, {"temperature": 0.5}, {"findings": ["effusion", "nodule"]}])
def test_another_model_temperature_or_vocabulary_is_another_answer(labeller, server, changed):
    list(labeller().label(REPORTS))
    list(labeller(**changed).label(REPORTS))
    assert len(server.requests) == 2


def test_the_prompt_lists_the_vocabulary_and_its_places_but_not_the_classes_of_the_rest(labeller, server):
    list(labeller(findings=["nodule", "rib lesion", "tail_abnorm_obs"]).label(REPORTS))
    system = server.requests[0]["messages"][0]["content"]
    assert "the report's word: nodule, rib lesion\n" in system
    assert "trachea, hilar, pleural, heart size" in system
    assert "tail_abnorm_obs" not in system
    assert "unspecified" not in system


def test_findings_that_the_vocabulary_lacks_are_counted_and_left_out(labeller, server):
    server.labels[TEXTS[1]] = [item("pneumothorax", "absent", TEXTS[1]), item("Flux of air", "present", TEXTS[1])]
    server.labels[TEXTS[2]] = [item("nodule", "present", TEXTS[2], "left nipple"), item("flux", "absent", TEXTS[2])]
    used = labeller()
    found = list(used.label(REPORTS))
    assert found[1] == MENTIONS[1]
    assert found[2] == [Mention("nodule", "present", "other", TEXTS[2])]
    described = used.describe()
    assert described["unknown_findings"] == {"Flux of air": 1, "flux": 1}
    assert described["unknown_places"] == {"left nipple": 1}
    assert (described["answers"], described["tokens_in"], described["tokens_out"]) == (1, 1000, 200)


def test_only_the_sections_that_were_chosen_are_sent(labeller, server):
    text = "INDICATION: Old fracture. FINDINGS: Small left effusion. IMPRESSION: No pneumothorax."
    report = [Report("s1", "reports.csv:2", text)]
    assert list(labeller(sections="findings").label(report)) == MENTIONS[:1]
    assert list(labeller(sections="impression").label(report)) == MENTIONS[1:2]


def test_reports_without_words_and_too_long_ones_are_not_sent(labeller, server):
    reports = [*REPORTS, Report("s8", "reports.csv:8", "FINDINGS:"), Report("s9", "reports.csv:9", "word " * 5000)]
    reasons = ["no words in the sections that are read", "24,999 letters; at most 20,000 are sent"]
    assert list(labeller().label(reports)) == [*MENTIONS, *reasons]
    assert sum(server.asked.values()) == len(TEXTS)


# Bad answers ----------------------------------------------------------------------------------------------------------

GOOD = [{"id": str(number), "findings": items} for number, items in enumerate(ITEMS, 1)]
WHOLE = json.dumps({"reports": GOOD})


def changed(**fields) -> dict:
    """A good answer to the batch whose third report has one item with other fields."""
    third = {"id": "3", "findings": [{name: value for name, value in (ITEMS[2][0] | fields).items() if value != "-"}]}
    return {"reports": [*GOOD[:2], third, GOOD[3]]}


SPOILT = {
    "a report is missing": ({"reports": [*GOOD[:2], GOOD[3]]}, [2]),
    "a report is there twice": ({"reports": [*GOOD, GOOD[2]]}, [2]),
    "an id is of no report": ({"reports": [*GOOD[:2], {**GOOD[2], "id": "7"}, GOOD[3]]}, [2]),
    "two ids are swapped": ({"reports": [{**GOOD[1], "id": "1"}, {**GOOD[0], "id": "2"}, *GOOD[2:]]}, [0, 1]),
    "an unknown status": (changed(status="perhaps"), [2]),
    "no status": (changed(status="-"), [2]),
    "a number for a finding": (changed(finding=7), [2]),
    "no name": (changed(finding=" "), [2]),
    "words of another report": (changed(quote=TEXTS[0]), [2]),
    "no quote": (changed(quote="..."), [2]),
    "half a pair of surrogates": (changed(finding="nodule\ud800"), [2]),
    "half a pair of surrogates in a name": (changed(**{"\ud800": 7}), [2]),
    "two sides": (changed(anatomy="left upper lobe"), [2]),
    "findings that are no list": ({"reports": [*GOOD[:2], {"id": "3", "findings": "none"}, GOOD[3]]}, [2]),
    "an entry that is no object": ({"reports": [*GOOD[:2], "3", GOOD[3]]}, [2]),
    "cut off in the last report": (WHOLE[:-40], [3]),
    "cut off in the third report": (WHOLE[: WHOLE.index("right upper")], [2, 3]),
    "no JSON": ("I labelled the four reports as you wished.", [0, 1, 2, 3]),
    "an array of other things": ("[1, 2, 3]", [0, 1, 2, 3]),
    "a null": ("null", [0, 1, 2, 3]),
    "nothing": ("", [0, 1, 2, 3]),
}


@pytest.mark.parametrize(("content", "again"), SPOILT.values(), ids=SPOILT)
def test_reports_whose_part_of_an_answer_is_bad_are_requested_again_alone(labeller, server, content, again):
    server.script[TEXTS[0]] = [answer(content)]
    assert list(labeller().label(REPORTS)) == MENTIONS
    assert server.requests[0]["messages"][1]["content"] == json.dumps(
        [{"id": str(number), "text": text} for number, text in enumerate(TEXTS, 1)]
    )
    assert [server.subjects_of(body) for body in server.requests[1:]] == [[TEXTS[number]] for number in again]
    complaints = [body["messages"][1]["content"].partition("could not be used:\n- ")[2] for body in server.requests]
    assert complaints[0] == ""
    assert all(complaints[1:])


ODD = {
    "thinking and a fence": f"<think>{{'reports': []}} hm</think>```json\n{WHOLE}\n```",
    "a draft before": '{"reports": [{"id": "1", "findings": []}]}\n' + WHOLE,
    "whole numbers for ids": re.sub(r'"id": "(\d)"', r'"id": \1', WHOLE),
    "other cases and empty places": WHOLE.replace("present", "Present").replace('"none"', "null").replace('""', "null"),
    "a report more": json.dumps({"reports": [*GOOD, {"id": "5", "findings": []}]}),
    "entries without their object": "\n".join(map(json.dumps, GOOD)),
}


@pytest.mark.parametrize("content", ODD.values(), ids=ODD)
def test_answers_that_are_odd_and_clear_are_taken(labeller, server, content):
    server.script[TEXTS[0]] = [answer(content)]
    assert list(labeller().label(REPORTS)) == MENTIONS
    assert len(server.requests) == 1


def test_a_report_that_is_silent_on_every_finding_has_an_empty_list(labeller, server):
    server.labels[TEXTS[1]] = []
    assert list(labeller().label(REPORTS)) == [MENTIONS[0], [], *MENTIONS[2:]]


# Failures -------------------------------------------------------------------------------------------------------------

PASSING = {
    "429": status(429, Retry_After="0.05"),
    "500": status(500),
    "cut": cut,
    "no completion": raw(b"<html>please log in</html>"),
    "refusal": answer(None, refusal="I cannot read reports"),
    "filter": answer("", finish="content_filter"),
    "limit": answer(WHOLE[:100], finish="length"),
}


@pytest.mark.parametrize("act", PASSING.values(), ids=PASSING)
def test_a_failure_that_passes_costs_further_requests_and_no_label(labeller, server, act):
    server.script[TEXTS[0]] = [act]
    assert list(labeller().label(REPORTS)) == MENTIONS
    assert 2 <= len(server.requests) <= 5


def test_a_server_that_hangs_is_left_after_the_time_limit(labeller, server):
    server.script[TEXTS[0]] = [hang]
    assert list(labeller(timeout=1).label(REPORTS)) == MENTIONS
    assert len(server.requests) == 2


LASTING = {
    "refusal": (
        answer(None, refusal="I cannot read reports"),
        "3 answers could not be used; the last: it is a refusal",
    ),
    "500": (status(500), "Error code: 500 - as scripted (3 attempts)"),
    "wrong words": (answer(changed(quote="Large mass.")), "the last: report \"1\": the quote 'Large mass.' is not in"),
}


@pytest.mark.parametrize(("act", "reason"), LASTING.values(), ids=LASTING)
def test_a_report_that_never_gets_labels_has_none_and_is_listed(labeller, server, act, reason):
    only = {"reports": [{"id": "1", "findings": [ITEMS[2][0] | {"quote": "Large mass."}]}]}
    act = answer(only) if "quote" in reason else act
    server.script[TEXTS[2]] = [act] * 9
    found = list(labeller(batch=1).label(REPORTS))
    assert [*found[:2], found[3]] == [*MENTIONS[:2], MENTIONS[3]]
    assert reason in found[2]
    server.script.clear()
    assert list(labeller().label(REPORTS)) == MENTIONS
    assert server.answered[TEXTS[0]] == 1


def test_a_wrong_key_ends_the_run_and_keeps_what_was_paid_for(labeller, server):
    server.script[TEXTS[2]] = [status(401)]
    with pytest.raises(LLMError, match=r"refuses requests with no key .*; left: 2 of 4 texts; the same command"):
        list(labeller(batch=1, concurrency=1).label(REPORTS))
    assert list(labeller().label(REPORTS)) == MENTIONS
    assert server.answered == dict.fromkeys(TEXTS, 1)


def test_no_request_is_sent_beyond_the_limits_of_the_run(labeller, server):
    with pytest.raises(LLMError, match=r"^--max-requests 3 is reached; left: 1 of 4 texts; the same command"):
        list(labeller(batch=1, max_requests=3).label(REPORTS))
    assert len(server.requests) == 3
    assert list(labeller(batch=1, max_requests=1).label(REPORTS)) == MENTIONS


def test_the_tokens_of_a_run_stay_below_their_limit_with_those_under_way(labeller, server):
    """The server counts 1,200 tokens a request, and a request is expected to cost some 1,050."""
    with pytest.raises(LLMError, match=r"^--max-total-tokens 3000 does not allow another .* 1,0\d\d tokens"):
        list(labeller(batch=1, concurrency=1, max_total_tokens=3000).label(REPORTS))
    assert len(server.requests) == 2
    with pytest.raises(LLMError, match=r"does not allow .*; left: 1 of 2 texts"):
        list(labeller(batch=1, concurrency=4, max_total_tokens=1400).label(REPORTS))
    assert len(server.requests) == 3


def test_a_folder_that_takes_no_answers_ends_the_run_before_any_request(labeller, server, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(OSError, match="cache"):
        labeller()
    assert server.requests == []


def test_reports_go_to_no_server_that_was_not_named(labeller, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-Zq8vT1xK9mW3")
    with pytest.raises(ValueError, match="no server; give --base-url"):
        labeller(base_url=None)


# Phantoms -------------------------------------------------------------------------------------------------------------


def items_of(phantom, rng: np.random.Generator) -> list[dict]:
    """The labels of a phantom as a model writes them: with synonyms, places without sides, and the sentences."""
    synonyms = {finding: [finding] for finding in FINDINGS}
    for name, finding in all_names():
        synonyms.setdefault(finding, [finding]).append(name)
    sentences = [f"{sentence} ." for sentence in re.split(r" \. | : ", phantom.graph["text"]) if sentence]
    made = []
    for row, column in np.argwhere(phantom.labels != UNKNOWN).tolist():
        finding, anatomy = FINDINGS[column], ANATOMIES[row]
        side = next((side for side in ("left", "right") if side in anatomy), "none")
        place = " ".join(word for word in anatomy.split("_") if word not in ("left", "right", "unspec", "unspecified"))
        stated = "present" if phantom.labels[row, column] == PRESENT else "absent"
        quote = next(each for each in sentences if re.search(rf"\b{finding}\b", each)).rstrip(" .")
        made.append(item(str(rng.choice(synonyms[finding])), stated, quote, place, side))
    return made


def test_two_hundred_reports_of_phantoms_get_their_own_labels(labeller, server):
    """With every fourth batch spoilt; equal labels at equal places, so that no left is a right."""
    rng = np.random.default_rng(0)
    phantoms = [draw(seed=5, index=index, size=32) for index in range(200)]
    reports = [Report(f"s{n}", f"reports.csv:{n}", each.graph["text"]) for n, each in enumerate(phantoms, 2)]
    for report, phantom in zip(reports, phantoms, strict=True):
        server.labels[" ".join(read_sentences(report, "both"))] = items_of(phantom, rng)
    number = iter(range(10**6))

    def spoil(reply: Reply) -> bool:
        entries = server.entries(reply)
        turn = next(number) % 16 if len(entries) > 1 else 1
        acts = {
            0: status(500),
            4: answer({"reports": entries[1:]}),
            8: answer(json.dumps({"reports": entries})[:-200]),
            12: answer({"reports": [{**entries[0], "id": "99"}, *entries[1:]]}),
        }
        return turn in acts and (acts[turn](reply) or True)

    server.always = spoil
    used = labeller()
    found = list(used.label(reports))
    assert used.describe()["unknown_findings"] == used.describe()["unknown_places"] == {}
    for mentions, phantom in zip(found, phantoms, strict=True):
        labels = np.full_like(phantom.labels, UNKNOWN)
        for mention in mentions:
            value = PRESENT if mention.status == "present" else ABSENT
            labels[ANATOMIES.index(mention.anatomy), FINDINGS.index(mention.finding)] = value
        np.testing.assert_array_equal(labels, phantom.labels)
