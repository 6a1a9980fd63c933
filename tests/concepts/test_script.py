"""concept_gen/generate.py as people run it: killed, interrupted, with a sheet, and its exit codes."""

import csv
import runpy
import signal
import sys
import threading
import time

import pytest

from mavl.concepts.book import read_whole_book
from tests.support.llm_server import NAMES, answer, good, hang, status
from tests.support.tiny import ROOT

SCRIPT = ROOT / "concept_gen" / "generate.py"


def findings(tmp_path) -> list[str]:
    return list(read_whole_book(tmp_path / "book.json").findings)


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
    assert out.startswith("in the book: 6 of 6 findings (3 answers in this run")
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
    assert out.startswith("in the book: 2 of 3 findings (2 answers in this run")
    assert findings(tmp_path) == NAMES[:2]
    assert server.asked == dict.fromkeys(NAMES[:2], 1)


def test_the_script_ends_with_one_line_and_its_exit_code(server, tmp_path, monkeypatch, capsys):
    server.script |= {"rib fracture": [status(404, "model 'tiny' not found\nsecond line")] * 3}
    files = ["--out", str(tmp_path / "book.json"), "--cache", str(tmp_path / "cache")]
    arguments = ["--names", *NAMES, "--base-url", server.url, "--model", "tiny", "--concurrency", "1", *files]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    assert runpy.run_path(str(SCRIPT))["main"]() == 2
    out, err = capsys.readouterr()
    [line] = [line for line in err.splitlines() if line and "requesting" not in line]
    assert line.startswith("error: 127.0.0.1:")
    assert "model 'tiny' not found second line" in line
    assert out.startswith("in the book: 0 of 3 findings")
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments, "--dry-run"])
    with pytest.raises(SystemExit, match=r"^0$"):
        runpy.run_path(str(SCRIPT))["main"]()
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("3 calls to make, about ")
    assert second == "to request: 'rib fracture', 'covid19', 'lung cyst'"
    assert len(server.requests) == 3


def test_a_sheet_of_named_findings_holds_these_alone(run, server, tmp_path, monkeypatch, capsys):
    run()
    files = ["--out", str(tmp_path / "book.json"), "--cache", str(tmp_path / "cache")]
    sheet = tmp_path / "sheet.csv"
    arguments = ["--names", "Covid19", "--base-url", server.url, "--model", "tiny", "--review", str(sheet), *files]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    with pytest.raises(SystemExit, match=r"^0$"):
        runpy.run_path(str(SCRIPT))["main"]()
    out = capsys.readouterr().out
    assert out.startswith("in the book: 1 of 1 finding (0 answers in this run")
    assert f"1 finding to review: {sheet}" in out
    with sheet.open(encoding="utf-8-sig", newline="") as file:
        assert {row["finding"] for row in csv.DictReader(file)} == {"covid19"}
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--out", str(tmp_path / "book.json"), "--read-review", str(sheet)])
    assert runpy.run_path(str(SCRIPT))["main"]() == 0
    assert capsys.readouterr().out.startswith("0 accepted (0 of them edited), 0 rejected, 1 without a verdict")
