"""What an answer must hold, and which answers are refused, with every fault named."""

import json

import pytest

from mavl.concepts.answers import AnswerError, Checker, diagnoses, without_ordinary
from mavl.vocab import ASPECTS
from tests.support.llm_server import good
from tests.support.tiny import ROOT

OTHERS = ("pneumothorax", "pulmonary fibrosis", "lung abscess")


def problems(finding: str = "rib fracture", **changed: str) -> tuple[str, ...]:
    """The problems of a good answer with these lines."""
    checker = Checker(OTHERS, ["small teardrop beside the trachea", "no fluid"])
    try:
        checker.read(json.dumps(good(finding, **changed)), finding)
    except AnswerError as error:
        return error.problems
    return ()


def test_a_good_answer_is_tidied_and_read_in_the_order_of_the_aspects():
    answer = good("rib fracture", border="Border:  sharp\n broken ends ", fluid="no fluid")
    lines = Checker(OTHERS, ["no fluid"]).read(json.dumps(answer), "rib fracture")
    assert list(lines) == list(ASPECTS)
    assert (lines["border"], lines["fluid"]) == ("sharp broken ends", "no fluid")


WRAPPED = {
    "fence": "```\nJSON\n```",
    "thinking": "<think>{it}</think>\nJSON",
    "thinking without a start": "Let me {think}.\n</think>\n\nJSON",
    "another tag": '<thinking>I must give {"finding": ...}</thinking>JSON',
    "channels": "<|channel|>analysis<|message|>We need JSON {..}<|end|><|channel|>final<|message|>JSON",
    "words around": "Here it is: JSON. And now?",
    "a brace before": "The object {finding} you asked:\n```json\nJSON\n```",
    "an object before": '{"thought": "short"} JSON',
    "braces behind": "JSON {that is all} {}",
    "in an object": '{"response": JSON}',
    "in a list": "[JSON]",
    "twice": "JSON JSON",
}


@pytest.mark.parametrize("wrapped", WRAPPED.values(), ids=WRAPPED)
def test_json_is_found_in_what_weak_models_put_around_it(wrapped):
    answer = json.dumps(good("rib fracture"))
    assert Checker().read(wrapped.replace("JSON", answer), "rib fracture")["border"] == good("rib fracture")["border"]


def test_the_last_of_several_answers_counts():
    draft, final = (json.dumps(good("rib fracture", shape=shape)) for shape in ("a round draft", "the final oval"))
    assert Checker().read(f"First {draft}, but better {final}", "rib fracture")["shape"] == "the final oval"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the answer is empty"),
        ("<think>hm</think> ", "the answer is empty"),
        ("Sorry.", "it is not a JSON object"),
        ("{finding} it is", "it is not valid JSON (Expecting property name"),
        ('{"a":' * 5000, "it is not valid JSON ("),
    ],
)
def test_a_text_without_an_answer_is_named(text, problem):
    with pytest.raises(AnswerError) as error:
        Checker().read(text, "rib fracture")
    [only] = error.value.problems
    assert only.startswith(problem)


def test_the_problems_are_those_of_the_object_that_comes_nearest():
    nearly = {key: line for key, line in good("rib fracture").items() if key != "shape"}
    with pytest.raises(AnswerError) as error:
        Checker().read(f"{{braces}} {{}} {json.dumps({'response': nearly})} {{", "rib fracture")
    assert error.value.problems == ('"shape" is missing',)


def test_the_name_may_be_spelled_otherwise():
    assert Checker().read(json.dumps(good("Rib_Fractures")), "rib fracture")


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"texture": ""}, '"texture" is empty'),
        ({"texture": " \n"}, '"texture" is empty'),
        ({"texture": "fine"}, '"texture" has 1 word; write 2 to 25'),
        ({"texture": "grain " * 26}, '"texture" has 26 words; write 2 to 25'),
        ({"description": "A broken rib."}, '"description" has 3 words; write 10 to 50'),
        ({"texture": "a\x07 bell"}, '"texture" holds characters that cannot be printed'),
        ({"texture": "depends on the age"}, '"texture" says "depends"; say firmly what is seen'),
        ({"texture": "As an AI I see none"}, '"texture" says "As an AI"; say firmly what is seen'),
        ({"texture": "may or may not be fine"}, '"texture" says "may"; say firmly what is seen'),
        ({"texture": "probably fine and even"}, '"texture" says "probably"; say firmly what is seen'),
        ({"texture": "ground-glass grain on CT"}, '"texture" says "CT"; say what a plain film shows'),
        ({"other": "Tomography shows it better"}, '"other" says "Tomography"; say what a plain film shows'),
        ({"other": "fever and a productive cough"}, '"other" says "fever"; say what a plain film shows'),
        ({"texture": "consult a radiologist"}, '"texture" says "consult"; say firmly what is seen'),
        ({"texture": "it could appear fine"}, '"texture" says "could"; say firmly what is seen'),
        ({"texture": "possibly fine"}, '"texture" says "possibly"; say firmly what is seen'),
        ({"texture": "potentially fine"}, '"texture" says "potentially"; say firmly what is seen'),
        ({"texture": "likely fine"}, '"texture" says "likely"; say firmly what is seen'),
        ({"texture": "nonspecific grain"}, '"texture" says "nonspecific"; say firmly what is seen'),
        ({"texture": "fine, not medical advice"}, '"texture" says "medical advice"; say firmly what is seen'),
        ({"texture": "Not visible on a film"}, '"texture" says "Not visible"; say firmly what is seen'),
        ({"border": "same words", "shape": "Same words."}, '"border" and "shape" hold the same words'),
        ({"border": "Small teardrop beside the trachea."}, '"border" is copied from an example'),
        ({"border": "The pneumothorax has a thin edge"}, '"border" describes "pneumothorax" instead of "rib fracture"'),
        ({"border": "Lung abscess: thick wall"}, '"border" describes "lung abscess" instead of "rib fracture"'),
    ],
)
def test_each_flaw_is_named(changed, problem):
    assert problems(**changed) == (problem,)


LEAKS = {
    "is": "A pneumothorax is air between the lung and the chest wall that pushes the lung to the hilum.",
    "with": "Pneumothorax with a thin white pleural line and a black strip without vessels beside it.",
    "dash": "Pneumothorax - air between the lung and the chest wall that pushes the lung to the hilum.",
    "in": "In pneumothorax, air lies between the lung and the chest wall and pushes the lung to the hilum.",
    "synonym": "A pleural effusion is fluid between the lung and the chest wall, white and level at its top.",
    "of the books": "Tuberculosis: patches with cavities in the upper lobes and chalk-white spots beside them.",
    "more than a disease": "Interstitial lung disease: a net of fine lines spreads from the bases through both lungs.",
}


@pytest.mark.parametrize("line", LEAKS.values(), ids=LEAKS)
def test_a_finding_that_nobody_named_is_not_described_in_its_place(line):
    answer = json.dumps(good("pneumopericardium", description=line))
    assert Checker().read(answer, "pneumopericardium")
    with pytest.raises(AnswerError, match=r'"description" describes ".*" instead of "pneumopericardium"'):
        Checker(known=diagnoses()).read(answer, "pneumopericardium")


@pytest.mark.parametrize(
    ("finding", "changed"),
    [
        ("pneumopericardium", {"border": "Air has a thin rim around the heart"}),
        ("pneumopericardium", {"other": "unlike a pneumothorax, it never reaches the apex"}),
        ("pneumopericardium", {"other": "pneumothorax is absent, pleural effusion is small"}),
        ("lung abscess", {"border": "The cavity has a ragged inner wall"}),
        ("lung abscess", {"fluid": "pleural effusion with a blunt angle beside it"}),
        ("metastases", {"patterns": "Multiple nodules: more at the bases"}),
        ("pneumocystis pneumonia", {"patterns": "Ground-glass opacities with spared outer lung"}),
        ("tension pneumothorax", {"border": "Pneumothorax with a pleural line far inside"}),
        ("rib fracture", {"border": "The fracture has a step in its cortex"}),
        ("enlarged heart", {"border": "Cardiomegaly is bounded by a smooth left border"}),
    ],
)
def test_ordinary_words_and_ones_own_name_are_no_other_findings(finding, changed):
    assert Checker(known=diagnoses()).read(json.dumps(good(finding, **changed)), finding)


def test_a_run_with_the_finding_air_allows_lines_about_air():
    assert without_ordinary({"air", "free", "mass", "pneumothorax", "lung abscess"}) == {"pneumothorax", "lung abscess"}


def test_all_flaws_are_named_at_once():
    assert len(problems(border="", shape="round", texture="varies with age")) == 3


@pytest.mark.parametrize(
    ("finding", "line"),
    [
        ("rib fracture", "pneumothorax and air beneath the skin beside it"),  # a companion
        ("rib fracture", "unlike a pneumothorax, no pleural line is seen"),
        ("fibrosis", "pulmonary fibrosis is a coarse net"),  # still fibrosis
        ("rib fracture", "maybe-free mayflies of dismay"),  # no hedge
    ],
)
def test_other_findings_may_be_mentioned(finding, line):
    assert problems(finding, other=line) == ()


def test_values_must_be_text():
    with pytest.raises(AnswerError, match='"shape" is no text'):
        Checker().read(json.dumps(good("rib fracture") | {"shape": ["round"]}), "rib fracture")


def test_this_projects_books_keep_the_rules():
    """No more is asked of a model than what is in the books, each entry against the names of all others."""
    folder = ROOT / "concept_gen" / "books"
    parts = ("descriptions", "aspects")
    descriptions, aspects = (json.loads((folder / f"{part}.json").read_text())["findings"] for part in parts)
    for finding, description in descriptions.items():
        checker = Checker(without_ordinary(set(descriptions) - {finding}), (), diagnoses())
        lines = dict(line.split(": ", 1) for line in aspects[finding])
        answer = {"description": description} | lines
        assert checker.read(json.dumps({"finding": finding} | answer), finding) == answer
