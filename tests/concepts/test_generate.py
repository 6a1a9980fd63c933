"""Concept generation against a real local server that fails in every usual way: no paid answer is lost."""

import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path

import pytest

from mavl.concepts.book import read_whole_book
from mavl.concepts.client import Client
from mavl.concepts.files import ConceptError
from mavl.concepts.generate import Outcome, generate
from mavl.concepts.plan import make_order, make_plan
from mavl.concepts.prompts import read_prompts
from mavl.concepts.review import ACCEPT, REJECT, read_review, write_sheet
from mavl.concepts.settings import ConceptSettings
from mavl.text.books import BookError, read_books
from mavl.text.encoder import draw_bert
from mavl.vocab import ASPECTS
from tests.support.llm_server import LLMServer, answer, cut, drip, good, hang, raw, status

SCRIPT = Path(__file__).resolve().parents[2] / "concept_gen" / "generate.py"
PROMPTS = read_prompts(SCRIPT.parent / "prompts")
KEY = "sk-test-Zq8vT1xK9mW3"
NAMES = ["rib fracture", "covid19", "lung cyst"]


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server():
    with LLMServer() as server:
        yield server


@pytest.fixture
def order(server, tmp_path):
    """order(names, temperature=0.7, …) -> the settings and the order of a run in tmp_path."""

    def order(names=NAMES, **changed):
        settings = {"model": "tiny", "base_url": server.url, "backoff": 0.01, "max_retries": 2, "timeout": 60}
        settings = ConceptSettings(**settings | {"cache": str(tmp_path / "cache")} | changed)
        return settings, make_order(settings, names, tmp_path / "book.json", PROMPTS)

    return order


@pytest.fixture
def run(order):
    """run(names, temperature=0.7, …) -> Outcome, in this process."""

    def run(names=NAMES, **changed) -> Outcome:
        settings, ordered = order(names, **changed)
        return generate(ordered, Client(settings))

    return run


@pytest.fixture
def start(server, tmp_path):
    """start("--names", …) -> the script as a process of its own."""

    def start(*arguments: str, **variables: str) -> subprocess.Popen:
        command = [
            sys.executable,
            str(SCRIPT),
            "--out",
            str(tmp_path / "book.json"),
            "--cache",
            str(tmp_path / "cache"),
        ]
        command += ["--base-url", server.url, "--model", "tiny", "--override", "backoff=0.01", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=os.environ | variables, **pipes)

    return start


def findings(tmp_path) -> list[str]:
    return list(read_whole_book(tmp_path / "book.json").findings)


def said(server: LLMServer) -> str:
    """The last thing that the server was told."""
    return server.requests[-1]["messages"][-1]["content"]


# When all goes well ---------------------------------------------------------------------------------------------------


def test_the_book_is_read_by_books_and_says_how_it_was_made(run, server, tmp_path):
    outcome = run(temperature=0.5)
    assert (outcome.complete, outcome.failed, outcome.exit_code) == (3, {}, 0)
    assert (outcome.calls, outcome.tokens_in, outcome.tokens_out) == (3, 3000, 600)
    book = tmp_path / "book.json"
    books = read_books([book], [book])
    books.require(NAMES, ASPECTS)
    assert books.sentence("covid19", "description") == good("covid19")["description"]
    assert books.sentence("covid19", "border") == "border: border that only covid19 has on a film"
    made = json.loads(book.read_text())["findings"]["covid19"]["provenance"]
    assert (made["model"], made["prompt_hash"], made["temperature"]) == ("tiny", PROMPTS.hash, 0.5)
    assert made["created"].endswith("+00:00")
    assert made["reviewed"] is False


def test_a_whole_book_without_a_part_is_named(tmp_path):
    path = tmp_path / "book.json"
    path.write_text('{"findings": {"edema": {"description": "Fluid in the lung."}}}')
    assert read_books([path]).sentence("edema", "description") == "Fluid in the lung."
    with pytest.raises(BookError, match=r"book\.json: 'edema' has no 'aspects'"):
        read_books([path], [path])


def test_the_model_is_asked_for_the_schema_with_examples_and_temperature(run, server):
    run(["rib fracture"], temperature=0.5)
    [request] = server.requests
    schema = request["response_format"]["json_schema"]
    assert schema["strict"] is True
    assert schema["schema"]["required"] == ["finding", *ASPECTS]
    assert schema["schema"]["additionalProperties"] is False
    assert (request["model"], request["temperature"]) == ("tiny", 0.5)
    roles = [message["role"] for message in request["messages"]]
    assert roles == ["system", *["user", "assistant"] * len(PROMPTS.examples), "user"]
    assert server.keys == {"Bearer none"}


def test_an_example_is_not_given_away(run, server):
    example = next(iter(PROMPTS.examples))
    run([example])
    assert sum(example in message["content"] for message in server.requests[0]["messages"]) == 1


# Failures of the server -----------------------------------------------------------------------------------------------

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
def test_an_answer_that_takes_too_long_is_asked_for_again(run, server, tmp_path, act):
    server.script["covid19"] = [act]
    assert run(timeout=1, max_retries=20).failed == {}
    assert findings(tmp_path) == NAMES
    assert server.asked["covid19"] >= 2


def test_what_never_comes_fails_alone_and_a_second_start_asks_for_it_alone(run, server, tmp_path):
    server.script["covid19"] = [status(500)] * 3
    outcome = run()
    assert outcome.exit_code == 1
    assert list(outcome.failed) == ["covid19"]
    assert "Error code: 500 - as scripted (3 tries)" in outcome.failed["covid19"]
    assert findings(tmp_path) == ["rib fracture", "lung cyst"]
    assert run().exit_code == 0
    assert findings(tmp_path) == ["rib fracture", "lung cyst", "covid19"]
    assert server.asked == {"rib fracture": 1, "covid19": 4, "lung cyst": 1}


LASTING = {
    "wrong key": (status(401, "you sent sk-te...W3"), r"^127.0.0.1:\d+ refuses requests without a key \(set OPENAI_AP"),
    "forbidden": (status(403), "status 403"),
    "no such model": (
        status(404, "model 'tiny' not found"),
        "no model 'tiny', or not the address .*mostly ends in /v1",
    ),
    "no credit": (status(402), "no credit left"),
    "no quota": (status(429, "pay up", code="insufficient_quota"), r"no credit left \(Error code: 429 - pay up\)"),
    "an hour": (status(429, Retry_After="3600"), "asks to wait for 3600 s"),
    "a far date": (status(503, Retry_After=formatdate(time.time() + 9999, usegmt=True)), r"to wait for 99\d\d s"),
    "too large": (status(413), "refuses the request"),
}


@pytest.mark.parametrize(("act", "complaint"), LASTING.values(), ids=LASTING)
def test_a_failure_that_lasts_ends_the_run_at_once_and_keeps_what_is_there(run, server, tmp_path, act, complaint):
    server.script["covid19"] = [act]
    outcome = run(concurrency=1)
    with pytest.raises(ConceptError, match=complaint):
        raise outcome.fatal
    assert "\n" not in str(outcome.fatal)
    assert "sk-te" not in str(outcome.fatal)
    assert server.asked == {"rib fracture": 1, "covid19": 1}
    assert findings(tmp_path) == ["rib fracture"]
    assert run().complete == 3
    assert server.asked == {"rib fracture": 1, "covid19": 2, "lung cyst": 1}


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


def test_a_server_that_is_not_there_ends_the_run_after_three_findings(server, run):
    server.__exit__()
    outcome = run(["a1", "b2", "c3", "d4", "e5", "f6"], concurrency=1, max_retries=1)
    assert list(outcome.failed) == ["a1", "b2", "c3"]
    assert "connection failed" in str(outcome.fatal)


def test_three_bad_findings_among_good_ones_do_not_end_the_run(run, server):
    names = ["a1", "b2", "c3", "d4", "e5", "f6"]
    server.script |= {name: [status(500)] for name in names[::2]}
    outcome = run(names, concurrency=1, max_retries=0)
    assert (list(outcome.failed), outcome.fatal, outcome.complete) == (names[::2], None, 3)


@pytest.mark.parametrize(("known", "tries"), [("json_object", 2), (None, 3)])
def test_a_server_that_knows_no_schema_is_asked_in_a_plainer_way(run, server, tmp_path, known, tries):
    def refuse(reply):
        kind = reply.body.get("response_format", {}).get("type")
        return kind not in (known, None) and (status(400, f"unknown response_format {kind}")(reply) or True)

    server.always = refuse
    assert run(concurrency=1).failed == {}
    assert findings(tmp_path) == NAMES
    assert server.asked == {"rib fracture": tries, "covid19": 1, "lung cyst": 1}
    assert run(concurrency=3, temperature=0.9).failed == {}  # and when all find it out at once


def test_a_model_that_takes_one_temperature_alone_ends_the_run_with_the_flag_to_change(run, server):
    server.always = status(400, "'temperature' does not support 0.5 with this model")
    outcome = run(temperature=0.5, concurrency=1)
    assert "refuses --temperature 0.5; try 1, all that some models take (Error code: 400 - 'temp" in str(outcome.fatal)
    assert len(server.requests) == 1


def test_a_request_that_is_wrong_in_every_way_ends_the_run_with_the_first_complaint(run, server):
    server.always = lambda reply: status(400, f"refusal {len(server.requests)}")(reply) or True
    outcome = run(concurrency=1)
    assert "refuses the request (Error code: 400 - refusal 1)" in str(outcome.fatal)
    assert len(server.requests) == 3


# Answers that cannot be used ------------------------------------------------------------------------------------------

GOOD = good("covid19")
UNUSABLE = {
    "no JSON": (answer('{"finding": "covid19", "descr'), "it is not a JSON object"),
    "broken JSON": (answer('{"finding": "covid19", }'), "it is not valid JSON"),
    "missing aspect": (answer({k: v for k, v in GOOD.items() if k != "shape"}), '"shape" is missing'),
    "too many aspects": (answer(GOOD | {"colour": "grey"}), '"colour" was not asked for'),
    "wrong finding": (answer(good("pneumonia")), '"finding" is "pneumonia", but "covid19" was asked'),
    "empty": (answer(""), "the answer is empty"),
    "null": (answer(None), "the answer is empty"),
    "refusal": (answer("I'm sorry, I can't help with that."), "it is not a JSON object"),
    "refusal by the API": (answer(None, refusal="I must not"), "it is a refusal (I must not)"),
    "cut by the limit": (answer(json.dumps(GOOD)[:200], finish="length"), "it was cut off at the token limit"),
    "filtered": (answer("", finish="content_filter"), "it was withheld by the server's content filter"),
    "hedging": (answer(GOOD | {"shape": "it may be round or oval"}), '"shape" says "may"'),
}


@pytest.mark.parametrize(("act", "complaint"), UNUSABLE.values(), ids=UNUSABLE)
def test_the_model_is_told_what_was_wrong(run, server, tmp_path, act, complaint):
    server.script["covid19"] = [act]
    outcome = run(["covid19"])
    assert (outcome.failed, outcome.calls) == ({}, 2)
    assert complaint in said(server)
    assert server.requests[-1]["messages"][:-2] == server.requests[0]["messages"]
    assert findings(tmp_path) == ["covid19"]
    [record] = (tmp_path / "cache").glob("*.json")
    first, second = json.loads(record.read_text())["attempts"]  # what was paid for is kept, usable or not
    assert any(complaint in problem for problem in first["problems"])
    assert (json.loads(second["answer"]), second["problems"]) == (GOOD, [])


def test_a_finding_without_a_usable_answer_fails_and_goes_on_from_the_last_one(run, server, tmp_path):
    server.script["covid19"] = [answer(GOOD | {"shape": shape}) for shape in ("round", "oval", "square")]
    outcome = run()
    assert outcome.failed == {"covid19": '3 answers could not be used; the last: "shape" has 1 word; write 2 to 25'}
    assert outcome.exit_code == 1
    assert findings(tmp_path) == ["rib fracture", "lung cyst"]
    assert run().exit_code == 0
    assert json.loads(server.requests[-1]["messages"][-2]["content"])["shape"] == "square"
    assert server.asked == {"rib fracture": 1, "covid19": 4, "lung cyst": 1}


# What is kept ---------------------------------------------------------------------------------------------------------


def test_the_cache_serves_another_book_and_another_question_is_asked_anew(run, server, tmp_path):
    run()
    (tmp_path / "book.json").unlink()
    assert run().calls == 0
    assert findings(tmp_path) == NAMES
    assert run(temperature=0.8).calls == 3
    assert run(model="other").calls == 3
    assert read_whole_book(tmp_path / "book.json").findings["covid19"].provenance.model == "other"


def test_a_book_grows_and_what_a_person_wrote_stays(run, server, tmp_path):
    run(["rib fracture"])
    book = json.loads((tmp_path / "book.json").read_text())
    own = book["findings"]["rib fracture"] | {"description": "By hand."}
    del own["provenance"]
    book["findings"] = {"covid19": own}
    (tmp_path / "book.json").write_text(json.dumps(book))
    assert run().complete == 3
    assert findings(tmp_path) == ["covid19", "rib fracture", "lung cyst"]
    assert read_books([tmp_path / "book.json"]).sentence("covid19", "description") == "By hand."
    assert "covid19" not in server.asked


def test_an_ensemble_asks_for_what_is_missing_and_says_what_was_chosen(run, server, tmp_path):
    odd = {aspect: f"zebra and {aspect} of okapi" for aspect in ASPECTS[1:]}
    server.script["covid19"] = [
        answer(good("covid19", **odd)),
        status(400),
        answer(good("covid19", shape="a round one")),
    ]
    sentences = [*good("covid19").values(), *odd.values()]
    encoder = str(draw_bert(tmp_path / "bert", sentences, seed=0, width=32, layers=1))
    arguments = {"temperature": 0.7, "concurrency": 1, "text_encoder": encoder}
    first = run(["covid19"], ensemble=3, **arguments)
    assert list(first.failed) == ["covid19"]
    assert not (tmp_path / "book.json").exists()
    assert run(["covid19"], ensemble=3, **arguments).calls == 1
    made = read_whole_book(tmp_path / "book.json").findings["covid19"].provenance
    assert (made.samples, made.text_encoder) == (3, encoder)
    assert made.sample in (1, 2)
    assert run(["covid19"], ensemble=3, **arguments).calls == 0
    other = str(draw_bert(tmp_path / "other bert", sentences, seed=1, width=32, layers=1))
    assert run(["covid19"], ensemble=3, **arguments | {"text_encoder": other}).calls == 0  # chosen anew all the same
    assert read_whole_book(tmp_path / "book.json").findings["covid19"].provenance.text_encoder == other
    assert run(["covid19"], ensemble=4, **arguments).calls == 1
    assert server.answered == {"covid19": 4}


def test_what_a_reviewer_took_stays_and_what_he_threw_out_is_asked_anew(run, server, tmp_path):
    run()
    book, sheet = tmp_path / "book.json", tmp_path / "sheet.md"
    write_sheet(book, sheet)
    for finding, choice in (("rib fracture", ACCEPT), ("covid19", REJECT)):
        head, section = sheet.read_text().split(f"## {finding}\n")
        sheet.write_text(f"{head}## {finding}\n" + section.replace(f"[ ] {choice}", f"[x] {choice}", 1))
    sheet.write_text(sheet.read_text().replace("Reviewer:", "Reviewer: Dr. Roe"))
    read_review(book, sheet)
    server.script["covid19"] = [answer(good("covid19", shape="other shape by now"))]
    assert run().calls == 1
    after = read_whole_book(book)
    assert after.findings["covid19"].lines["shape"] == "other shape by now"
    assert after.findings["covid19"].provenance.sample == 1
    assert len(after.rejected["covid19"]) == 1
    assert run(temperature=0.9).calls == 2  # another way of asking, but not for the reviewed one
    assert read_whole_book(book).findings["rib fracture"].provenance.temperature == 0.3
    assert server.asked == {"rib fracture": 1, "covid19": 3, "lung cyst": 2}


@pytest.mark.parametrize("content", ["{", '{"edema": "a released disease book"}', '{"findings": {"edema": {}}}'])
def test_a_file_that_is_no_whole_book_is_left_alone(run, server, tmp_path, content):
    (tmp_path / "book.json").write_text(content)
    with pytest.raises(ConceptError, match=r"book\.json: no whole book \(.*\); choose another --out$"):
        run()
    assert (tmp_path / "book.json").read_text() == content
    assert not server.requests


def test_a_damaged_cache_is_named(run, server, tmp_path):
    run(["covid19"])
    [record] = (tmp_path / "cache").glob("*.json")
    record.write_text(record.read_text()[:100])
    (tmp_path / "book.json").unlink()
    with pytest.raises(ConceptError, match=r"covid19-\w+\.json: damaged; delete it"):
        run(["covid19"])


def test_nothing_is_asked_where_the_answers_could_not_be_kept(run, server, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(
        ConceptError, match=r"cache: cannot be written \(.*\); nothing was asked, choose another --cache"
    ):
        run()
    assert not server.requests


def test_nothing_is_asked_where_the_book_could_not_be_written(order, server, tmp_path):
    (tmp_path / "folder").write_text("a file")
    settings, ordered = order()
    with pytest.raises(
        ConceptError, match=r"folder: cannot be written \(.*\); nothing was asked, choose another --out"
    ):
        generate(replace(ordered, out=tmp_path / "folder" / "book.json"), Client(settings))
    assert not server.requests


def test_a_cache_that_fails_later_ends_the_run(run, server, tmp_path):
    def spoil(reply):
        (tmp_path / "cache").rmdir()
        (tmp_path / "cache").write_text("a file")
        answer(good(reply.finding))(reply)

    server.script["rib fracture"] = [spoil]
    assert "cannot be written" in str(run(concurrency=1).fatal)
    assert len(server.requests) == 1


def test_another_spelling_is_not_paid_again(run, server, tmp_path):
    run(["rib fracture", "lung cyst"])
    assert run(["Rib-Fractures", "lung_cyst", "covid19"]).calls == 1
    assert findings(tmp_path) == ["rib fracture", "lung cyst", "covid19"]


def test_a_rejected_entry_is_known_by_another_spelling_too(run, order, tmp_path):
    run(["covid19"])
    book = read_whole_book(tmp_path / "book.json")
    thrown_out = {"covid19": (book.findings["covid19"],)}
    book.model_copy(update={"findings": {}, "rejected": thrown_out}).write(tmp_path / "book.json")
    [job] = make_plan(order(["Covid19"])[1]).jobs
    assert (job.finding, job.sample) == ("covid19", 1)


def test_an_estimate_sends_nothing_and_counts_what_is_missing(run, order, server):
    run(["covid19"])
    _, more = order()
    letters = [len(each["content"]) for name in NAMES if name != "covid19" for each in PROMPTS.conversation(name)]
    letters += 2 * [len(json.dumps(server.requests[0]["response_format"]["json_schema"]))]
    estimate = make_plan(more).estimate()
    assert estimate.startswith(f"2 calls to make, about {round(sum(letters) / 4):,} tokens in and ")
    assert "1 finding in" in estimate
    assert make_plan(more).to_ask == ["rib fracture", "lung cyst"]
    assert len(server.requests) == 1


# Processes ------------------------------------------------------------------------------------------------------------


def test_a_killed_run_started_again_asks_only_for_the_rest(start, server, tmp_path):
    names = [f"finding {letter}" for letter in "abcdef"]
    server.script |= {name: [hang] for name in names[3:]}
    process = start("--names", *names, "--concurrency", "2")
    while len(list((tmp_path / "cache").glob("*.json"))) < 3 or sum(server.asked.values()) < 5:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert not (tmp_path / "book.json").exists()
    under_way = [name for name in names if server.asked[name] and not server.answered[name]]
    server.script.clear()
    again = start("--names", *names)
    out, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert out.startswith("6 of 6 findings are in the book (3 answers in this run")
    assert findings(tmp_path) == names
    assert server.answered == dict.fromkeys(names, 1)
    assert server.asked == {name: 1 + (name in under_way) for name in names}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_waits_for_answers_under_way_and_writes_the_book(start, server, tmp_path, number, code):
    stopped = threading.Event()

    def answer_then(reply):
        stopped.wait(60)
        answer(good(reply.finding))(reply)

    server.script |= {name: [answer_then] for name in NAMES[:2]}
    process = start("--names", *NAMES, "--concurrency", "2")
    while len(server.requests) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(number)
    while "waiting for the answers under way" not in (line := process.stderr.readline()):
        assert line, process.communicate()
    stopped.set()
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert out.startswith("2 of 3 findings are in the book (2 answers in this run")
    assert findings(tmp_path) == NAMES[:2]
    assert server.asked == dict.fromkeys(NAMES[:2], 1)


def test_the_key_reaches_the_server_and_nothing_else(start, server, tmp_path):
    """Though the server quotes it in its errors and its answers, with debugging on."""
    quoted = {
        "a1": [status(500, f"Authorization: Bearer {KEY}"), answer(good("a1", other=f"the key {KEY} on a film"))],
        "b2": [answer(f"{KEY} is no JSON")] * 3,
        "c3": [answer(None, refusal=f"not with {KEY}"), raw(KEY.encode()), status(400, KEY)],
        "d4": [status(401, f"Incorrect API key provided: {KEY}", **{"Www_Authenticate": KEY})],
    }
    server.script |= quoted
    variables = {"OPENAI_API_KEY": f" {KEY}\n", "OPENAI_LOG": "debug", "MAVL_TRACEBACK": "1", "HOME": str(tmp_path)}
    process = start("--names", *quoted, "--concurrency", "1", "--max-retries", "2", **variables)
    out, err = process.communicate(timeout=60)
    assert server.keys == {f"Bearer {KEY}"}
    assert "refuses the key in OPENAI_API_KEY" in err  # it did come to the last finding
    assert "failed b2" in err
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 4  # three of the cache and the book
    assert "[key]" in "".join(path.read_text() for path in files)
    for text in (out, err, *(path.read_text() for path in files)):
        assert KEY not in text


def test_the_script_ends_with_one_line_and_its_exit_code(server, tmp_path, monkeypatch, capsys):
    server.script |= {"rib fracture": [status(404, "model 'tiny' not found\nsecond line")]}
    files = ["--out", str(tmp_path / "book.json"), "--cache", str(tmp_path / "cache")]
    arguments = ["--names", *NAMES, "--base-url", server.url, "--model", "tiny", "--concurrency", "1", *files]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    assert runpy.run_path(str(SCRIPT))["main"]() == 2
    out, err = capsys.readouterr()
    [line] = [line for line in err.splitlines() if line and "asking" not in line]
    assert line.startswith("error: 127.0.0.1:")
    assert "model 'tiny' not found second line" in line
    assert out.startswith("0 of 3 findings are in the book")
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments, "--dry-run"])
    with pytest.raises(SystemExit, match=r"^0$"):
        runpy.run_path(str(SCRIPT))["main"]()
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("3 calls to make, about ")
    assert second == "to ask: 'rib fracture', 'covid19', 'lung cyst'"
    assert len(server.requests) == 1


def test_a_sheet_of_named_findings_holds_these_alone(run, server, tmp_path, monkeypatch, capsys):
    run()
    files = ["--out", str(tmp_path / "book.json"), "--cache", str(tmp_path / "cache")]
    sheet = tmp_path / "sheet.md"
    arguments = ["--names", "Covid19", "--base-url", server.url, "--model", "tiny", "--review", str(sheet), *files]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    with pytest.raises(SystemExit, match=r"^0$"):
        runpy.run_path(str(SCRIPT))["main"]()
    out = capsys.readouterr().out
    assert out.startswith("1 of 1 finding is in the book (0 answers in this run")
    assert f"1 finding to review: {sheet}" in out
    assert [line for line in sheet.read_text().splitlines() if line.startswith("## ")] == ["## covid19"]
