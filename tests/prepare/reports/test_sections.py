"""Sections and sentences of reports."""

import pytest

from mavl.prepare.reports.protocol import Report
from mavl.prepare.reports.sections import read_sentences, split_sections, split_sentences

TEXT = """EXAM: Chest.
INDICATION: Pneumonia?
COMPARISON: None.

FINDINGS: No edema. A nodule.

Impression:
1. A nodule of 1.5 cm. 2. No edema.
"""


def test_sections_are_found_by_their_headings():
    assert split_sections(TEXT) == {
        "left_out": "Chest.\n\nPneumonia?\n\nNone.",
        "findings": "No edema. A nodule.",
        "impression": "1. A nodule of 1.5 cm. 2. No edema.",
    }


def test_headings_in_a_line_are_capitals_or_begin_a_sentence():
    text = "Indication: Pneumonia? Findings: No edema. Impression: A nodule. Known history: Mass. A finding: scar."
    assert split_sections(text) == {
        "left_out": "Pneumonia?",
        "findings": "No edema.",
        "impression": "A nodule. Known history: Mass. A finding: scar.",
    }


@pytest.mark.parametrize(
    ("sections", "sentences"),
    [
        ("findings", ["No edema.", "A nodule."]),
        ("impression", ["A nodule of 1.5 cm.", "No edema."]),
        ("both", ["No edema.", "A nodule.", "A nodule of 1.5 cm.", "No edema."]),
    ],
)
def test_the_sections_to_read_are_a_choice(sections, sentences):
    assert read_sentences(Report("s", "", TEXT), sections) == sentences


@pytest.mark.parametrize("sections", ["findings", "impression", "both"])
def test_the_other_section_is_read_where_one_is_missing(sections):
    named = {"findings": "", "Impression": "A mass.", "indication": "Nodule?"}
    assert read_sentences(Report("s", "", "", named), sections) == ["A mass."]
    assert read_sentences(Report("s", "", "A mass."), sections) == ["A mass."]
    assert read_sentences(Report("s", "", "INDICATION: Nodule?"), sections) == []


def test_text_before_an_impression_counts_as_findings():
    assert read_sentences(Report("s", "", "A mass. IMPRESSION: Tumor."), "findings") == ["A mass."]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Clear . No mass .", ["Clear .", "No mass ."]),
        ("Seen by Dr. Smith. Clear.", ["Seen by Dr. Smith.", "Clear."]),
        ("- Clear\n- No mass", ["Clear", "No mass"]),
        ("No mass\n\nClear", ["No mass", "Clear"]),
        ("The lungs\nare clear.", ["The lungs are clear."]),
        (" . ", []),
    ],
)
def test_sentences(text, sentences):
    assert split_sentences(text) == sentences
