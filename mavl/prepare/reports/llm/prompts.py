"""The conversation about a batch of reports: prompt.txt beside this file, with the names of findings and anatomies."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from mavl.llm.answers import Message
from mavl.prepare.reports.llm.answers import RESPONSE_SCHEMA

TEXT = Path(__file__).with_name("prompt.txt")


class Prompt:
    """hash: of everything in a request but the reports, the schema of the answer included."""

    def __init__(self, findings: Sequence[str], anatomies: Sequence[str]):
        text = TEXT.read_text(encoding="utf-8").strip()
        self.system = text.replace("{findings}", ", ".join(findings)).replace("{anatomies}", ", ".join(anatomies))
        self.hash = hashlib.sha256(json.dumps([self.system, RESPONSE_SCHEMA]).encode()).hexdigest()[:16]

    def conversation(self, texts: Sequence[str], problems: Sequence[str] = ()) -> list[Message]:
        """The messages of a request; report n has the id "n", from 1. problems: of an answer that was rejected."""
        request = json.dumps([{"id": str(n), "text": text} for n, text in enumerate(texts, 1)], ensure_ascii=False)
        if problems:
            complaint = "\n".join(f"- {problem}" for problem in problems)
            request = f"{request}\n\nAn earlier answer could not be used:\n{complaint}"
        return [{"role": "system", "content": self.system}, {"role": "user", "content": request}]
