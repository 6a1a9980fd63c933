"""`prepare_data.py reports --labeler llm` as people run it: from a CSV to a label store."""

import csv
import json
import os
import runpy
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from mavl.vocab import ANATOMIES, FINDINGS
from tests.support.llm_server import answer, hang, status
from tests.support.tiny import ROOT

SCRIPT = ROOT / "prepare_data.py"

ROWS = [(f"films/{letter}.png", f"Nodule {letter} in the {side} upper lobe. No effusion.") for letter, side in
        zip("abcdef", ["left", "right"] * 3, strict=True)]  # fmt: skip
TEXTS = [text for _, text in ROWS]


@pytest.fixture
def command(server, tmp_path):
    """command("--batch", "2", …) -> the arguments of a run on the reports of ROWS, in the folder tmp_path."""
    with open(tmp_path / "reports.csv", "w", newline="") as file:
        csv.writer(file).writerows([("image", "report"), *ROWS])
    for text in TEXTS:
        nodule, effusion = (f"{sentence}." for sentence in text.rstrip(".").split(". "))
        side = "left" if "left" in text else "right"
        server.labels[text] = [
            {"finding": "nodule", "status": "present", "anatomy": "upper lobe", "laterality": side, "quote": nodule},
            {"finding": "pleural effusion", "status": "absent", "anatomy": "", "laterality": "none", "quote": effusion},
        ]
    source = ["--csv", "reports.csv", "--image-column", "image", "--text-column", "report", "--labeler", "llm"]
    server_of = ["--base-url", server.url, "--model", "tiny", "--cache", "cache", "--batch", "1"]
    return lambda *arguments: [str(SCRIPT), "reports", *source, "--out", "labels", *server_of, *arguments]


@pytest.fixture
def start(command, tmp_path):
    """start("--batch", "2", …) -> the command as a process of its own."""

    def start(*arguments: str) -> subprocess.Popen:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": tmp_path}
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        return subprocess.Popen([sys.executable, *command(*arguments)], env=environment, **pipes)

    return start


@pytest.fixture
def run(command, tmp_path, monkeypatch, capsys):
    """run("--batch", "2", …) -> (exit code, output, the last line of the errors) of the command in this process."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", command(*arguments))
        code = runpy.run_path(str(SCRIPT))["main"]()
        out, err = capsys.readouterr()
        return code, out, (err.splitlines() or [""])[-1]

    return run


def kept(tmp_path) -> int:
    """Answers on disk."""
    return sum(len(path.read_text().splitlines()) for path in (tmp_path / "cache").glob("*.jsonl"))


def test_a_killed_run_started_again_requests_only_the_rest_and_writes_the_store(start, server, tmp_path):
    server.script |= {text: [hang] for text in TEXTS[3:]}
    process = start("--concurrency", "2")
    while kept(tmp_path) < 3 or sum(server.asked.values()) < 5:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.kill()
    process.communicate()
    under_way = [text for text in TEXTS if server.asked[text] and not server.answered[text]]
    server.script.clear()
    again = start()
    out, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert "sending 3 texts of reports to tiny at 127.0.0.1" in err
    assert server.answered == dict.fromkeys(TEXTS, 1)
    assert server.asked == {text: 1 + (text in under_way) for text in TEXTS}
    labels = np.load(tmp_path / "labels" / "landmark_observation_adj_mtx.npy")
    nodule, effusion = labels[:, :, FINDINGS.index("nodule")], labels[:, :, FINDINGS.index("effusion")]
    for row in range(6):
        place = "upper_left_lobe" if row % 2 == 0 else "upper_right_lobe"
        assert np.flatnonzero(nodule[row] == 1).tolist() == [ANATOMIES.index(place)]
        assert np.flatnonzero(effusion[row] == 0).tolist() == [ANATOMIES.index("unspecified")]
    summary = json.loads((tmp_path / "labels" / "summary.json").read_text())
    assert (summary["labeler"], summary["model"], summary["answers"], summary["tokens_in"]) == ("llm", "tiny", 3, 3000)
    assert "sections read: findings and impression" in out


def test_an_interrupt_keeps_the_answers_under_way_and_says_how_to_go_on(start, server, tmp_path):

    def interrupt(reply):
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        server.answer_well(reply)

    process = start("--concurrency", "1", "--timeout", "60")
    server.script[TEXTS[2]] = [interrupt]
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "interrupted; left: 3 of 6 texts; the same command goes on with the rest"
    assert "Traceback" not in err
    assert kept(tmp_path) == 3
    assert not (tmp_path / "labels" / "summary.json").exists()


def test_a_report_without_labels_is_listed_and_left_out_of_the_store(run, server, tmp_path):
    server.script[TEXTS[1]] = [answer(None, refusal="no")] * 9
    code, out, _ = run("--max-retries", "1")
    assert code == 0
    assert np.load(tmp_path / "labels" / "landmark_observation_adj_mtx.npy").shape[0] == 5
    with open(tmp_path / "labels" / "problems.csv", newline="") as file:
        [problem] = csv.DictReader(file)
    assert (problem["kind"], problem["where"]) == ("report without labels", "reports.csv:3")
    assert problem["detail"].startswith("films/b.png: 2 answers could not be used; the last: it is a refusal (no)")
    assert "1 problem, listed in problems.csv" in out


def test_a_run_that_could_not_go_on_writes_no_store(run, server, tmp_path):
    code, _, line = run("--max-requests", "2")
    assert code == 2
    assert line == "error: --max-requests 2 is reached; left: 4 of 6 texts; the same command goes on with the rest"
    server.script |= {text: [status(401)] for text in TEXTS}
    code, _, line = run()
    assert code == 2
    assert line.endswith("status 401; left: 4 of 4 texts; the same command goes on with the rest")
    assert not (tmp_path / "labels" / "summary.json").exists()


def test_a_dry_run_counts_and_sends_nothing(run, server, tmp_path):
    code, out, _ = run("--dry-run", "--batch", "4")
    assert code == 0
    assert out.startswith("2 requests to make for 6 texts, about ")
    assert out.endswith("Nothing was sent.\n")
    assert server.requests == []
    assert not (tmp_path / "labels").exists()


def test_settings_of_the_model_are_no_settings_of_the_rules(run):
    code, _, line = run("--labeler", "rules")
    assert (code, line) == (2, "error: --base_url is a setting of --labeler llm")


def test_without_a_server_or_a_model_nothing_is_sent(run, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-Zq8vT1xK9mW3")
    code, _, line = run("--override", "base_url=null")
    assert code == 2
    assert "no server; give --base-url, as http://localhost:8000/v1: it receives the reports" in line
