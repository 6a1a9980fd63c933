"""A local server that labels reports, and labellers that use it."""

import pytest

from mavl.prepare.reports.llm.labeller import LLMLabeller
from mavl.prepare.reports.llm.settings import LabelSettings
from mavl.vocab import FINDINGS
from tests.support.generation import environment
from tests.support.llm_server import ReportServer

__all__ = ["environment"]


@pytest.fixture
def server():
    with ReportServer({}) as server:
        yield server


@pytest.fixture
def labeller(server, tmp_path):
    """labeller(batch=2, …) -> a new labeller, which reads whole reports."""

    def labeller(findings=FINDINGS, sections="both", **changed) -> LLMLabeller:
        settings = {"model": "tiny", "base_url": server.url, "cache": str(tmp_path / "cache"), "max_retries": 2}
        return LLMLabeller(LabelSettings(**settings | changed), findings, sections)

    return labeller
