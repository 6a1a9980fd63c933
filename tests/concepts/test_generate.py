"""Runs of concept generation against a real local server: every paid answer is kept, and every fault is named."""

import csv
import json
from dataclasses import replace

import pytest
import torch

from mavl.concepts import ConceptError
from mavl.concepts.book import Entry, Provenance, read_whole_book
from mavl.concepts.generate import choose, generate, most_central
from mavl.concepts.review import ACCEPT, REJECT, read_review, write_sheet
from mavl.text.books import BookError, read_books
from mavl.text.encoder import load_text_encoder
from mavl.text.encoders.random_bert import write_random_bert
from mavl.vocab import ASPECTS
from tests.support.llm_server import NAMES, LLMServer, answer, good, status


def findings(tmp_path) -> list[str]:
    return list(read_whole_book(tmp_path / "book.json").findings)


def said(server: LLMServer) -> str:
    """The last message that the server got."""
    return server.requests[-1]["messages"][-1]["content"]


# When all goes well ---------------------------------------------------------------------------------------------------


def test_the_book_is_read_by_books_and_says_how_it_was_made(run, prompts, tmp_path):
    outcome = run(temperature=0.5)
    assert (outcome.complete, outcome.failed, outcome.exit_code) == (3, {}, 0)
    assert (outcome.calls, outcome.tokens_in, outcome.tokens_out) == (3, 3000, 600)
    book = tmp_path / "book.json"
    books = read_books([book], [book])
    books.require(NAMES, ASPECTS)
    assert books.sentences["covid19"]["description"] == good("covid19")["description"]
    assert books.sentences["covid19"]["border"] == "border: border that only covid19 has on a film"
    made = json.loads(book.read_text())["findings"]["covid19"]["provenance"]
    assert (made["model"], made["prompt_hash"], made["temperature"]) == ("tiny", prompts.hash, 0.5)
    assert made["created"].endswith("+00:00")
    assert made["reviewed"] is False


def test_a_whole_book_without_a_part_is_named(tmp_path):
    path = tmp_path / "book.json"
    path.write_text('{"findings": {"edema": {"description": "Fluid in the lung."}}}')
    assert read_books([path]).sentences["edema"]["description"] == "Fluid in the lung."
    with pytest.raises(BookError, match=r"book\.json: 'edema' has no 'aspects'"):
        read_books([path], [path])


def test_the_request_has_the_schema_the_examples_and_the_temperature(run, server, prompts):
    run(["rib fracture"], temperature=0.5)
    [request] = server.requests
    schema = request["response_format"]["json_schema"]
    assert schema["strict"] is True
    assert schema["schema"]["required"] == ["finding", *ASPECTS]
    assert schema["schema"]["additionalProperties"] is False
    assert (request["model"], request["temperature"]) == ("tiny", 0.5)
    roles = [message["role"] for message in request["messages"]]
    assert roles == ["system", *["user", "assistant"] * len(prompts.examples), "user"]


def test_an_example_of_the_finding_is_not_sent(run, server, prompts):
    example = next(iter(prompts.examples))
    run([example])
    assert sum(example in message["content"] for message in server.requests[0]["messages"]) == 1


# Answers that cannot be used ------------------------------------------------------------------------------------------

GOOD = good("covid19")
UNUSABLE = {
    "no JSON": (answer('{"finding": "covid19", "descr'), "it is not valid JSON (Unterminated string"),
    "broken JSON": (answer('{"finding": "covid19", }'), "it is not valid JSON"),
    "missing aspect": (answer({k: v for k, v in GOOD.items() if k != "shape"}), '"shape" is missing'),
    "too many aspects": (answer(GOOD | {"colour": "grey"}), '"colour" was not asked for'),
    "wrong finding": (answer(good("pneumonia")), '"finding" is "pneumonia", but "covid19" was asked'),
    "empty": (answer(""), "the answer is empty"),
    "null": (answer(None), "the answer is empty"),
    "refusal": (answer("I'm sorry, I can't help with that."), "it is not a JSON object"),
    "refusal by the API": (answer(None, refusal="I must not"), "it is a refusal (I must not)"),
    "cut by the limit": (
        answer(json.dumps(GOOD)[:200], finish="length"),
        "it was cut off at the server's own",
    ),
    "filtered": (answer("", finish="content_filter"), "it was withheld by the server's content filter"),
    "hedging": (answer(GOOD | {"shape": "it may be round or oval"}), '"shape" says "may"'),
}


@pytest.mark.parametrize(("act", "complaint"), UNUSABLE.values(), ids=UNUSABLE)
def test_the_model_is_told_what_was_wrong(run, server, tmp_path, act, complaint):
    run(["lung cyst"])
    server.requests.clear()
    server.script["covid19"] = [act]
    outcome = run(["covid19"])
    assert (outcome.failed, outcome.calls) == ({}, 2)
    assert complaint in said(server)
    assert server.requests[-1]["messages"][:-2] == server.requests[0]["messages"]
    assert findings(tmp_path) == ["lung cyst", "covid19"]
    [record] = (tmp_path / "cache").glob("covid19*.json")
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


def test_what_another_run_added_meanwhile_stays(plan, run, tmp_path):
    planned = plan(["lung cyst"])
    run(["rib fracture"])
    assert generate(planned).complete == 1
    assert findings(tmp_path) == ["rib fracture", "lung cyst"]


def test_a_book_that_names_a_finding_twice_is_left_alone(run, server, tmp_path):
    run(["rib fracture"])
    path, asked = tmp_path / "book.json", len(server.requests)
    text = path.read_text()
    path.write_text(text.replace('"findings": {', '"findings": {"rib fracture": 1, '))
    with pytest.raises(ConceptError, match=r"book\.json: no whole book \('rib fracture' is twice in one object\)"):
        run(["lung cyst"])
    assert len(server.requests) == asked


def test_a_book_grows_and_what_a_person_wrote_stays(run, server, tmp_path):
    run(["rib fracture"])
    book = json.loads((tmp_path / "book.json").read_text())
    own = book["findings"]["rib fracture"] | {"description": "By hand."}
    del own["provenance"]
    book["findings"] = {"covid19": own}
    (tmp_path / "book.json").write_text(json.dumps(book))
    assert run().complete == 3
    assert findings(tmp_path) == ["covid19", "rib fracture", "lung cyst"]
    assert read_books([tmp_path / "book.json"]).sentences["covid19"]["description"] == "By hand."
    assert "covid19" not in server.asked


def test_an_ensemble_asks_for_what_is_missing_and_says_what_was_chosen(run, server, tmp_path):
    odd = {aspect: f"zebra and {aspect} of okapi" for aspect in ASPECTS[1:]}
    server.script["covid19"] = [
        answer(good("covid19", **odd)),
        status(400),
        answer(good("covid19", shape="a round one")),
    ]
    sentences = [*good("covid19").values(), *odd.values()]
    encoder = str(write_random_bert(tmp_path / "bert", sentences, seed=0, width=32, layers=1))
    arguments = {"temperature": 0.7, "concurrency": 1, "text_encoder": encoder}
    first = run(["covid19"], ensemble=3, **arguments)
    assert list(first.failed) == ["covid19"]
    assert not (tmp_path / "book.json").exists()
    assert run(["covid19"], ensemble=3, **arguments).calls == 1
    made = read_whole_book(tmp_path / "book.json").findings["covid19"].provenance
    assert (made.samples, made.text_encoder) == (3, encoder)
    assert made.sample in (1, 2)
    assert run(["covid19"], ensemble=3, **arguments).calls == 0
    other = str(write_random_bert(tmp_path / "other bert", sentences, seed=1, width=32, layers=1))
    assert run(["covid19"], ensemble=3, **arguments | {"text_encoder": other}).calls == 0  # chosen anew all the same
    assert read_whole_book(tmp_path / "book.json").findings["covid19"].provenance.text_encoder == other
    assert run(["covid19"], ensemble=4, **arguments).calls == 1
    assert server.answered == {"covid19": 4}


def test_what_a_reviewer_took_stays_and_what_he_threw_out_is_asked_anew(run, server, tmp_path):
    run()
    book, sheet = tmp_path / "book.json", tmp_path / "sheet.csv"
    write_sheet(book, sheet)
    with sheet.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["verdict"] = {"rib fracture": ACCEPT, "covid19": REJECT}.get(row["finding"], "")
        row["reviewer"] = "Dr. Roe"
    with sheet.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
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
    with pytest.raises(FileExistsError, match="cache"):
        run()
    assert not server.requests


def test_nothing_is_asked_where_the_book_could_not_be_written(plan, server, tmp_path):
    (tmp_path / "folder").write_text("a file")
    planned = plan()
    with pytest.raises(FileExistsError, match="folder"):
        generate(replace(planned, out=tmp_path / "folder" / "book.json"))
    assert not server.requests


def test_a_cache_that_fails_later_ends_the_run(run, server, tmp_path):
    def spoil(reply):
        (tmp_path / "cache").rmdir()
        (tmp_path / "cache").write_text("a file")
        answer(good(reply.finding))(reply)

    server.script["rib fracture"] = [spoil]
    fatal = run(concurrency=1).fatal
    assert isinstance(fatal, NotADirectoryError)
    assert fatal.filename.startswith(str(tmp_path / "cache" / "rib_fracture"))
    assert len(server.requests) == 1


# Ensembles ------------------------------------------------------------------------------------------------------------


def test_the_most_central_answer_by_hand():
    """One aspect: at 0, 60 and 90 degrees the cosines are .5 + 0, .5 + .866 and 0 + .866."""
    angles = torch.deg2rad(torch.tensor([0.0, 60.0, 90.0]))
    vectors = torch.stack([angles.cos(), angles.sin()], dim=-1)[:, None] * torch.tensor([1.0, 9.0, 2.0])[:, None, None]
    assert most_central(vectors) == 1
    assert most_central(vectors.flip(0)[:2]) == 0  # of two, the first


def test_every_aspect_counts_alike():
    """Answer 0 agrees with 1 in the first aspect and with 2 in the two others; 1 and 2 agree in none."""
    x, y = [1.0, 0.0], [0.0, 1.0]
    vectors = torch.tensor([[x, y, y], [x, x, x], [y, y, y]])
    assert most_central(vectors) == 0
    assert most_central(vectors[[1, 2, 0]]) == 2


def test_the_odd_answer_out_is_not_chosen(tmp_path):
    lines = {aspect: f"{aspect} words here" for aspect in ASPECTS}
    odd = dict.fromkeys(ASPECTS, "zebra quagga okapi")
    entries = [Entry.of(each, Provenance()) for each in (odd, lines, lines | {"shape": "round words here"})]
    sentences = [sentence for entry in entries for sentence in (entry.description, *entry.aspects)]
    encoder = load_text_encoder(str(write_random_bert(tmp_path, sentences, seed=0, width=32, layers=1)))
    assert choose(entries, encoder) in (1, 2)
