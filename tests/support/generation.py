"""A local server, and runs of concept generation against it, in this process and as one of their own."""

import os
import subprocess
import sys

import pytest

from mavl.concepts.generate import Outcome, generate
from mavl.concepts.plan import ConceptSettings, make_plan
from mavl.concepts.prompts import read_prompts
from tests.support.llm_server import NAMES, LLMServer
from tests.support.tiny import ROOT

SCRIPT = ROOT / "concept_gen" / "generate.py"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server():
    with LLMServer() as server:
        yield server


@pytest.fixture(scope="session")
def prompts():
    return read_prompts(SCRIPT.parent / "prompts")


@pytest.fixture
def plan(server, prompts, tmp_path):
    """plan(names, temperature=0.7, …) -> the plan of a run in tmp_path."""

    def plan(names=NAMES, **changed):
        settings = {"model": "tiny", "base_url": server.url, "max_retries": 2, "timeout": 60}
        settings = ConceptSettings(**settings | {"cache": str(tmp_path / "cache")} | changed)
        return make_plan(settings, names, tmp_path / "book.json", prompts)

    return plan


@pytest.fixture
def run(plan):
    """run(names, temperature=0.7, …) -> Outcome, in this process."""

    def run(names=NAMES, **changed) -> Outcome:
        return generate(plan(names, **changed))

    return run


@pytest.fixture
def start(server, tmp_path):
    """start("--names", …) -> the script as a process of its own."""

    def start(*arguments: str, **variables: str) -> subprocess.Popen:
        files = ["--out", str(tmp_path / "book.json"), "--cache", str(tmp_path / "cache")]
        command = [sys.executable, str(SCRIPT), *files, "--base-url", server.url, "--model", "tiny", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=os.environ | variables, **pipes)

    return start
