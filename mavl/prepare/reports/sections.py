"""Reports -> sections -> sentences."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from textwrap import wrap
from typing import Literal

import yaml

from mavl.prepare.reports.protocol import Report

TABLES = Path(__file__).with_name("rules.yaml")
FINDINGS, IMPRESSION, LEFT_OUT, BODY = "findings", "impression", "left_out", ""

Sections = Literal["findings", "impression", "both"]
SECTIONS: dict[Sections, str] = {
    "findings": "the findings, or the impression of a report without findings",
    "impression": "the impression, or the findings of a report without impression",
    "both": "findings and impression",
}

LONGEST = 1000
"""Most characters of a sentence; a longer one, which no reader wrote as one, is cut between words."""

_ABBREVIATIONS = ("dr", "mr", "mrs", "ms", "st", "vs", "e.g", "i.e", "approx", "resp")
_END = re.compile(r"(?<=[.!?])[\s.]+(?=\S)|\n\s*\n|\n(?=\s*(?:\d+[.)]|[-*•])\s)")
_NUMBERED = re.compile(r"^(?:\d{1,2}[.)]|[-*•])\s*")


@cache
def tables() -> dict:
    """The content of rules.yaml."""
    return yaml.safe_load(TABLES.read_bytes())


@cache
def _headings() -> tuple[re.Pattern[str], dict[str, str]]:
    """A pattern of headings, and the section of each, in lower case."""
    section_of = {name: section for section, names in tables()["sections"].items() for name in names}
    names = _alternatives(section_of)
    read = _alternatives([name for name, section in section_of.items() if section != LEFT_OUT])
    after_a_sentence = rf"(?<=[.!?])[ \t]+(?=[A-Z])((?i:{read}))[ \t]*:"
    heading = rf"(?m)^[ \t]*((?i:{names}))[ \t]*(?::|$)|\b({names.upper()})[ \t]*:|{after_a_sentence}"
    return re.compile(heading), section_of


def _alternatives(names: Iterable[str]) -> str:
    """A pattern of one of the names, the longest first."""
    return "|".join(sorted(map(re.escape, names), key=len, reverse=True))


def split_sections(text: str) -> dict[str, str]:
    """{findings, impression, left_out, "" for what has no heading: text} of a report with headings in it.

    >>> split_sections("INDICATION: Cough. FINDINGS: Clear lungs.")
    {'left_out': 'Cough.', 'findings': 'Clear lungs.'}
    """
    pattern, section_of = _headings()
    parts: dict[str, list[str]] = {}
    name, start = BODY, 0
    for found in [*pattern.finditer(text), None]:
        if part := text[start : found.start() if found else len(text)].strip():
            parts.setdefault(name, []).append(part)
        if found:
            name, start = section_of[(found[1] or found[2] or found[3]).lower()], found.end()
    return {name: "\n\n".join(found) for name, found in parts.items()}


def known_sections(named: Mapping[str, str]) -> dict[str, str]:
    """The sections of `split_sections` of a report whose sections are given by name; other names have no heading."""
    section_of = _headings()[1]
    parts: dict[str, list[str]] = {}
    for name, text in named.items():
        parts.setdefault(section_of.get(name.strip().lower(), BODY), []).append(text)
    return {name: "\n\n".join(found) for name, found in parts.items()}


def read_sentences(report: Report, sections: Sections) -> list[str]:
    """The sentences of the sections of a report that are to be read; what has no heading counts as findings."""
    parts = known_sections(report.sections) if report.sections else split_sections(report.text)
    found = [text for text in (parts.get(FINDINGS) or parts.get(BODY), parts.get(IMPRESSION)) if text and text.strip()]
    if sections == "findings":
        found = found[:1]
    elif sections == "impression":
        found = found[-1:]
    return [sentence for text in found for sentence in split_sentences(text)]


def split_sentences(text: str) -> list[str]:
    """The sentences of a text, without the numbers of a list.

    >>> split_sentences("1. Clear lungs. 2. A nodule of 1.5 cm.")
    ['Clear lungs.', 'A nodule of 1.5 cm.']
    """
    sentences, rest = [], ""
    for part in _END.split(text):
        part = f"{rest} {' '.join(part.split())}".strip()
        last = part.rsplit(" ", 1)[-1].rstrip(".").lower()
        if part.endswith(".") and ((last in _ABBREVIATIONS and last != "no") or (last.isdecimal() and len(part) < 4)):
            rest = part  # the sentence goes on
            continue
        rest = ""
        sentences.append(_NUMBERED.sub("", part))
    sentences.append(rest)
    return [part for sentence in sentences if re.search(r"[^\W\d]", sentence) for part in wrap(sentence, LONGEST)]
