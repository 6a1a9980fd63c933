"""What the model is told, what it must not answer, and which of several answers is kept."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from mavl.concepts.answers import AnswerError, Checker
from mavl.concepts.book import Entry, Provenance
from mavl.concepts.ensemble import choose, most_central
from mavl.concepts.files import ConceptError
from mavl.concepts.known import diagnoses, without_ordinary
from mavl.concepts.names import NameListError, as_spelled_in, counted, read_names
from mavl.concepts.prompts import FILES, PromptError, read_prompts
from mavl.concepts.settings import ConceptSettings, read_settings
from mavl.config.loader import ConfigError, load
from mavl.text.encoder import TextEncoder, draw_bert
from mavl.vocab import ASPECTS
from tests.support.llm_server import good

PROMPTS = Path(__file__).resolve().parents[2] / "concept_gen" / "prompts"
OTHERS = ("pneumothorax", "pulmonary fibrosis", "lung abscess")


def problems(finding: str = "rib fracture", **changed: str) -> tuple[str, ...]:
    """Of a good answer with these lines."""
    checker = Checker(OTHERS, ["small teardrop beside the trachea", "no fluid"])
    try:
        checker.read(json.dumps(good(finding, **changed)), finding)
    except AnswerError as error:
        return error.problems
    return ()


# Answers --------------------------------------------------------------------------------------------------------------


def test_a_good_answer_is_tidied_and_read_in_the_order_of_the_aspects():
    answer = good("rib fracture", border="Border:  sharp\n broken ends ", fluid="no fluid")
    lines = Checker(OTHERS, ["no fluid"]).read(json.dumps(answer), "rib fracture")
    assert list(lines) == list(ASPECTS)
    assert (lines["border"], lines["fluid"]) == ("sharp broken ends", "no fluid")


@pytest.mark.parametrize(
    "wrapped", ["```\nJSON\n```", "<think>{it}</think>\nJSON", "Here it is: JSON. And now?", "JSON {that is all}"]
)
def test_json_is_found_in_what_weak_models_put_around_it(wrapped):
    answer = json.dumps(good("rib fracture"))
    assert Checker().read(wrapped.replace("JSON", answer), "rib fracture")["border"] == good("rib fracture")["border"]


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


def test_a_run_that_asks_for_air_may_speak_of_it():
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
    folder = PROMPTS.parent / "books"
    parts = ("descriptions", "aspects")
    descriptions, aspects = (json.loads((folder / f"{part}.json").read_text())["findings"] for part in parts)
    for finding, description in descriptions.items():
        checker = Checker(without_ordinary(set(descriptions) - {finding}), (), diagnoses())
        lines = dict(line.split(": ", 1) for line in aspects[finding])
        checker.read(json.dumps({"finding": finding, "description": description} | lines), finding)


# Prompts --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def prompts(tmp_path):
    return Path(shutil.copytree(PROMPTS, tmp_path / "prompts"))


@pytest.mark.parametrize("name", FILES)
def test_the_hash_covers_every_file(prompts, name):
    before = read_prompts(prompts)
    (prompts / name).write_text((prompts / name).read_text() + "\n")
    assert read_prompts(prompts).hash != before.hash


def test_the_system_prompt_asks_for_every_key():
    system = read_prompts(PROMPTS).texts["system.txt"]
    assert all(f"\n{key} " in system for key in ("finding", *ASPECTS))


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("request.txt", "Describe it.", r"request\.txt: has no \{finding\}"),
        ("correction.txt", "Wrong.", r"correction\.txt: has no \{problems\}"),
        ("examples.json", "[]", r"examples\.json: no example"),
        ("examples.json", "{", r"examples\.json: no list of answers"),
        ("examples.json", '[{"finding": "mass"}]', r'examples\.json: "description" is missing; "border" is missing'),
    ],
)
def test_bad_prompts_are_named(prompts, name, text, complaint):
    (prompts / name).write_text(text)
    with pytest.raises(PromptError, match=complaint):
        read_prompts(prompts)


def test_a_missing_prompt_is_named(prompts):
    (prompts / "system.txt").unlink()
    with pytest.raises(ConceptError, match=r"system\.txt: No such file"):
        read_prompts(prompts)


# Names ----------------------------------------------------------------------------------------------------------------


def test_names_come_from_the_command_line_and_then_from_the_file(tmp_path):
    file = tmp_path / "names.txt"
    file.write_text("\ufeff# mine\n rib   fracture \n\ncovid19  # as in COVIDx\nlung cyst\r\n", encoding="utf-8")
    assert read_names(["lung cyst", "mass"], file) == ["lung cyst", "mass", "rib fracture", "covid19"]


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        ([], "no finding to ask for; give --names or --file"),
        (["..."], r"'\.\.\.' is no name"),
        (["x" * 101], "is no name: letters or digits, at most 100 signs"),
        (
            ["Rib Fracture", "mass", "rib fractures"],
            "'Rib Fracture' and 'rib fractures' are two spellings of one finding",
        ),
    ],
)
def test_names_that_cannot_be_asked_for(names, complaint):
    with pytest.raises(NameListError, match=complaint):
        read_names(names, None)


def test_names_are_spelled_as_in_the_book():
    book = Path("book.json")
    assert as_spelled_in(book, ["r1", "R 2"], ["R1", "r-2", "new"]) == ["r1", "R 2", "new"]
    assert as_spelled_in(book, ["r1", "R1"], ["R1"]) == ["R1"]
    with pytest.raises(NameListError, match=r"'the r1' is spelled 'r1' and 'R1' in book\.json"):
        as_spelled_in(book, ["r1", "R1"], ["the r1"])


def test_one_is_singular():
    assert (counted(0, "call"), counted(1, "call"), counted(2, "call")) == ("0 calls", "1 call", "2 calls")


def test_a_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / "names.xls").write_bytes(b"\xd0\xcf\x11\xe0")
    with pytest.raises(ConceptError, match=r"names\.xls: not UTF-8 text"):
        read_names([], tmp_path / "names.xls")


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
    encoder = TextEncoder(str(draw_bert(tmp_path, sentences, seed=0, width=32, layers=1)))
    assert choose(entries, encoder) in (1, 2)


def test_a_missing_model_names_its_flag():
    with pytest.raises(ConceptError, match=r"^no model to ask: give --model"):
        read_settings(["temperature=0.5"])
    assert read_settings(['model="tiny"']).model == "tiny"


def test_an_ensemble_of_equal_answers_is_refused():
    with pytest.raises(ConfigError, match="an ensemble at temperature 0 is one answer many times"):
        load(ConceptSettings, None, ["model=m", "ensemble=3", "temperature=0.0"])
