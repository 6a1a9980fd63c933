"""Requests to a real local server that fails in every usual way, refuses parameters, or answers in unusual places."""

import json
import threading
import time
from email.utils import formatdate

import pytest

from mavl.concepts.book import read_whole_book
from mavl.llm import LLMError
from tests.support.llm_server import NAMES, answer, cut, drip, good, hang, raw, status


def findings(tmp_path) -> list[str]:
    return list(read_whole_book(tmp_path / "book.json").findings)


def completion(content: str, finish: str = '"stop"', usage: str = "{}") -> bytes:
    """A chat completion of these pieces of JSON."""
    choice = f'{{"message": {{"content": {content}}}, "finish_reason": {finish}}}'
    return f'{{"choices": [{choice}], "usage": {usage}}}'.encode()


# Failures that pass ---------------------------------------------------------------------------------------------------

PASSING = {
    "429": [status(429, Retry_After="0.05")] * 2,
    "429 without a word": [status(429)],
    "429 until a date in the past": [status(429, Retry_After=formatdate(0, usegmt=True))],
    "500": [status(500), status(503)],
    "cut": [cut],
    "half a JSON": [raw(b'{"choices": [')],
    "HTML": [raw(b"<html>please log in</html>")],
    "no choices": [raw(b"{}")],
    "no message": [raw(b'{"choices": [{"message": null}]}')],
    "nothing": [raw(b"")],
    "deep": [raw(b'{"choices": ' + b"[" * 50_000)],
    "half a pair of surrogates": [raw(completion('"\\ud800"'))],
    "error with status 200": [raw(b'{"error": {"message": "rate limit", "code": 429}}')],
}


@pytest.mark.parametrize("acts", PASSING.values(), ids=PASSING)
def test_a_failure_that_passes_costs_a_second_request_for_that_finding_only(run, server, tmp_path, acts):
    server.script["covid19"] = list(acts)
    assert run().failed == {}
    assert findings(tmp_path) == NAMES
    assert server.asked == {"rib fracture": 1, "covid19": 1 + len(acts), "lung cyst": 1}
    assert run().calls == 0
    assert server.answered == dict.fromkeys(NAMES, 1)


@pytest.mark.parametrize("act", [hang, drip])
def test_an_answer_that_takes_too_long_is_requested_again(run, server, tmp_path, act):
    server.script["covid19"] = [act]
    assert run(timeout=1, max_retries=20).failed == {}
    assert findings(tmp_path) == NAMES
    assert server.asked["covid19"] >= 2


@pytest.mark.parametrize("finish", ['"stop"', "[1]", '{"a": 1}', "7", "null"])
@pytest.mark.parametrize("tokens", ["NaN", '"12"', "12.5", "[1]", "null"])
def test_odd_fields_beside_a_good_answer_do_no_harm(run, server, tmp_path, finish, tokens):
    usage = f'{{"prompt_tokens": {tokens}, "completion_tokens": 7}}'
    server.script["covid19"] = [raw(completion(json.dumps(json.dumps(good("covid19"))), finish, usage))]
    outcome = run(["covid19"])
    assert (outcome.failed, outcome.tokens_in, outcome.tokens_out) == ({}, 0, 7)


# Failures that last ---------------------------------------------------------------------------------------------------


def test_what_never_comes_fails_alone_and_a_second_start_requests_it_alone(run, server, tmp_path):
    server.script["covid19"] = [status(500)] * 3
    outcome = run(concurrency=1)
    assert outcome.exit_code == 1
    assert list(outcome.failed) == ["covid19"]
    assert "Error code: 500 - as scripted (3 attempts)" in outcome.failed["covid19"]
    assert findings(tmp_path) == ["rib fracture", "lung cyst"]
    assert run().exit_code == 0
    assert findings(tmp_path) == ["rib fracture", "lung cyst", "covid19"]
    assert server.asked == {"rib fracture": 1, "covid19": 4, "lung cyst": 1}


def test_a_reply_that_is_no_completion_is_quoted(run, server):
    server.script["covid19"] = [raw(b"<html>please log in</html>")] * 3
    [reason] = run(["covid19"]).failed.values()
    assert reason.endswith("it sends no chat completion but <html>please log in</html> (3 attempts)")


FAR = formatdate(time.time() + 9999, usegmt=True)
LASTING = {
    "wrong key": (
        status(401, "you sent sk-te...W3"),
        r"^127.0.0.1:\d+: it refuses requests with no key \(see --api-key-env\), status 401",
    ),
    "forbidden": (status(403), "status 403"),
    "no such model": (
        status(404, "model 'tiny' not found"),
        "no model 'tiny', or a wrong address; see --model, --base-url .*: Error code: 404 - model 'tiny' not found",
    ),
    "no credit": (status(402), "no credit left"),
    "no quota": (status(429, "pay up", code="insufficient_quota"), r"no credit left \(Error code: 429 - pay up\)"),
    "an hour": (status(429, Retry_After="3600"), "requests a wait, Retry-After: 3600; start again then"),
    "a far date": (status(503, Retry_After=FAR), f"requests a wait, Retry-After: {FAR}"),
    "too large": (status(413), "refuses the request"),
}


@pytest.mark.parametrize(("act", "complaint"), LASTING.values(), ids=LASTING)
def test_a_failure_that_lasts_ends_the_run_at_once_and_keeps_what_is_there(run, server, tmp_path, act, complaint):
    server.script["covid19"] = [act] * 3
    outcome = run(concurrency=1)
    with pytest.raises(LLMError, match=complaint):
        raise outcome.fatal
    assert "\n" not in str(outcome.fatal)
    assert "sk-te" not in str(outcome.fatal)
    assert server.asked["rib fracture"] == 1
    assert "lung cyst" not in server.asked
    assert findings(tmp_path) == ["rib fracture"]
    server.script.clear()
    assert run().complete == 3
    assert server.answered == dict.fromkeys(NAMES, 1)


def test_requests_under_way_come_to_their_end_when_the_run_does(run, server, tmp_path):
    """Since they are paid for: the answer to rib fracture starts after the key was refused."""
    refused = threading.Event()

    def refuse(reply):
        status(401)(reply)
        refused.set()

    def answer_late(reply):
        refused.wait(60)
        time.sleep(0.2)
        answer(good("rib fracture"))(reply)

    server.script |= {"rib fracture": [answer_late], "covid19": [refuse]}
    assert run(concurrency=2).fatal is not None
    assert findings(tmp_path) == ["rib fracture"]


def test_a_request_that_waits_is_not_sent_again_when_the_run_ends(run, server):
    failed = threading.Event()

    def fail(reply):
        status(503, Retry_After="0.5")(reply)
        failed.set()

    def refuse(reply):
        failed.wait(60)
        status(401)(reply)

    server.script |= {"rib fracture": [fail], "covid19": [refuse]}
    outcome = run(concurrency=2)
    assert (outcome.failed, outcome.complete) == ({}, 0)
    assert server.asked == {"rib fracture": 1, "covid19": 1}


def test_a_server_that_is_not_there_ends_the_run_after_three_findings(server, run):
    server.__exit__()
    outcome = run(["a1", "b2", "c3", "d4", "e5", "f6"], concurrency=1, max_retries=1)
    assert list(outcome.failed) == ["a1", "b2", "c3"]
    assert "All connection attempts failed" in str(outcome.fatal)
    assert "(2 attempts)" in str(outcome.fatal)


def test_three_bad_findings_among_good_ones_do_not_end_the_run(run, server):
    names = ["a1", "b2", "c3", "d4", "e5", "f6"]
    server.script |= {name: [status(500)] * 3 for name in names[1::2]}
    outcome = run(names, concurrency=1)
    assert (list(outcome.failed), outcome.fatal, outcome.complete) == (names[1::2], None, 3)


# Parameters that a server refuses -------------------------------------------------------------------------------------


def refuse_formats(known: str | None, code: int):
    """Refuse the response formats but one (None: no format)."""

    def refuse(reply):
        kind = reply.body.get("response_format", {}).get("type")
        return kind not in (known, None) and (status(code, f"cannot handle {kind}")(reply) or True)

    return refuse


@pytest.mark.parametrize(("known", "formats"), [("json_object", 2), (None, 3)])
@pytest.mark.parametrize("code", [400, 404, 415, 422])
def test_a_server_that_refuses_a_schema_gets_plainer_requests(run, server, tmp_path, known, formats, code):
    server.always = refuse_formats(known, code)
    assert run(concurrency=1).failed == {}
    assert findings(tmp_path) == NAMES
    assert server.asked == {"rib fracture": formats, "covid19": 1, "lung cyst": 1}
    assert run(concurrency=3, temperature=0.9).failed == {}  # and when all find it out at once


@pytest.mark.parametrize("code", [500, 501])
def test_a_server_that_fails_on_a_schema_gets_plainer_requests_after_the_repetitions(run, server, tmp_path, code):
    server.always = refuse_formats(None, code)
    assert run(concurrency=1).failed == {}
    assert findings(tmp_path) == NAMES
    assert server.asked == {"rib fracture": 3 + 3 + 1, "covid19": 1, "lung cyst": 1}


def test_a_server_that_answers_nothing_in_a_format_gets_plainer_requests(run, server, tmp_path):
    server.always = lambda reply: "response_format" in reply.body and (reply.complete("") or True)
    outcome = run(concurrency=1)
    assert (outcome.failed, outcome.calls) == ({}, 5)
    assert server.asked == {"rib fracture": 3, "covid19": 1, "lung cyst": 1}
    attempts = [json.loads(path.read_text())["attempts"] for path in (tmp_path / "cache").glob("rib*.json")]
    assert [each["problems"] for each in attempts[0]] == [["the answer is empty"]] * 2 + [[]]  # paid for, so kept


def test_a_format_that_was_taken_is_not_left_for_one_refusal(run, server):
    server.script["covid19"] = [status(400, "not this one")]
    outcome = run(concurrency=1)
    assert outcome.failed == {"covid19": f"{server.url[7:-3]}: Error code: 400 - not this one (1 attempt)"}
    assert outcome.fatal is None
    assert {request["response_format"]["type"] for request in server.requests} == {"json_schema"}


def test_a_request_that_is_wrong_in_every_way_ends_the_run_with_the_first_complaint(run, server):
    server.always = lambda reply: status(400, f"refusal {len(server.requests)}")(reply) or True
    outcome = run(concurrency=1)
    assert "refuses the request (Error code: 400 - refusal 1)" in str(outcome.fatal)
    assert len(server.requests) == 3


def test_an_unknown_model_is_reported_after_the_plainer_requests(run, server):
    server.always = lambda reply: status(404, "model not found")(reply) or True
    assert "no model 'tiny'" in str(run(concurrency=1).fatal)
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    "complaint",
    [
        "Unsupported parameter: 'temperature' is not supported with this model.",
        "Unsupported value: 'temperature' does not support 0.3 with this model. Only the default (1) is supported.",
    ],
)
def test_a_model_that_refuses_a_temperature_is_asked_without_and_the_book_says_so(
    run, server, tmp_path, capsys, complaint
):
    server.always = lambda reply: "temperature" in reply.body and (status(400, complaint)(reply) or True)
    assert run(concurrency=1).failed == {}
    assert server.asked == {"rib fracture": 2, "covid19": 1, "lung cyst": 1}
    assert all(request["response_format"]["type"] == "json_schema" for request in server.requests)
    made = read_whole_book(tmp_path / "book.json").findings["covid19"].provenance
    assert (made.temperature, made.temperature_refused) == (0.3, True)
    assert capsys.readouterr().err.count("refuses a temperature; the model's own is used") == 1
    assert run().calls == 0  # the entries stay those of this run's settings


def test_a_token_limit_is_sent_where_it_is_set(run, server):
    run(["covid19"])
    run(["lung cyst"], max_tokens=900)
    assert [request.get("max_tokens") for request in server.requests] == [None, 900]


def test_a_token_limit_goes_by_its_other_name_where_the_server_wants_it(run, server):
    complaint = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
    server.always = lambda reply: "max_tokens" in reply.body and (status(400, complaint)(reply) or True)
    assert run(["covid19"], max_tokens=900).failed == {}
    assert [request.get("max_completion_tokens") for request in server.requests] == [None, 900]


# Answers in unusual places --------------------------------------------------------------------------------------------

TEXT = json.dumps(good("covid19"))
PLACES = {
    "reasoning_content": answer(None, reasoning_content=TEXT),
    "reasoning": answer("", reasoning=TEXT),
    "blank content": answer(" \n", reasoning_content=TEXT),
    "parts": answer([{"type": "thinking", "thinking": [{"text": "hm"}]}, {"type": "text", "text": TEXT}]),
    "content beside reasoning": answer(TEXT, reasoning_content='I need {"finding": "covid19"}'),
    "complete at the limit": answer(TEXT, finish="length"),
}


@pytest.mark.parametrize("act", PLACES.values(), ids=PLACES)
def test_an_answer_is_found_where_the_server_puts_it(run, server, act):
    server.script["covid19"] = [act]
    outcome = run(["covid19"])
    assert (outcome.failed, outcome.calls) == ({}, 1)


@pytest.mark.parametrize(
    ("limit", "named"),
    [(None, "at the server's own token limit, which --max-tokens can raise"), (50, "at --max-tokens 50")],
)
@pytest.mark.parametrize("text", [TEXT[:200], "<think>\nLet me think about {x: 1}", None])
def test_an_answer_that_was_cut_off_names_the_limit(run, server, limit, named, text):
    server.script["covid19"] = [answer(text, finish="length")]
    [reason] = run(["covid19"], max_retries=0, max_tokens=limit).failed.values()
    assert f"it was cut off {named}" in reason
