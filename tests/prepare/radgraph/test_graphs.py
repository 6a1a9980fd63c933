"""Report graphs -> labels: every anatomy and every rule on graphs written by hand, lemmas, tables, damaged graphs.

Graphs are written as sentences. [words LABEL edges] is an entity, numbered from 1 on, and its label A is ANAT-DP, DP,
DA and U are OBS-DP, OBS-DA and OBS-U. An edge is a kind and an entity: @3 located_at, +3 modify, >3 suggestive_of.
"""

import re

import numpy as np
import pytest
import yaml

from mavl import vocab
from mavl.data.phantom import draw
from mavl.prepare.radgraph.graphs import label_matrix
from mavl.prepare.radgraph.rules import TABLES, anatomy_row, finding_column, lemma

LABELS = {"A": "ANAT-DP", "DP": "OBS-DP", "DA": "OBS-DA", "U": "OBS-U"}
KINDS = {"@": "located_at", "+": "modify", ">": "suggestive_of"}
ENTITY = re.compile(r"\[(?P<words>.+?) (?P<label>[A-Z]+)(?P<edges>( [@+>]\d+)*)\]")


def graph(text: str) -> dict:
    tokens, entities, seen = [], {}, 0
    for match in ENTITY.finditer(text):
        tokens += text[seen : match.start()].split()
        relations = [[KINDS[edge[0]], edge[1:]] for edge in match["edges"].split()]
        start = len(tokens)
        tokens += match["words"].split()
        entity = {"tokens": match["words"], "label": LABELS.get(match["label"], match["label"])}
        entity |= {"start_ix": start, "end_ix": len(tokens) - 1, "relations": relations}
        entities[str(len(entities) + 1)] = entity
        seen = match.end()
    return {"text": " ".join(tokens + text[seen:].split()), "entities": entities}


def told(matrix: np.ndarray) -> dict[str, int]:
    """{"anatomy finding": value} of what is not unknown."""
    rows, columns = np.nonzero(matrix != vocab.UNKNOWN)
    return {
        f"{vocab.ANATOMIES[row]} {vocab.FINDINGS[column]}": int(matrix[row, column])
        for row, column in zip(rows, columns, strict=True)
    }


def labels(report: dict) -> dict[str, int]:
    matrix, problems = label_matrix(report)
    assert problems == []
    return told(matrix)


PLACES = {
    "trachea": ["[Trachea A]", "[tracheal A]"],
    "left_hilar": ["[left A +3] [hilum A]", "[left A +3] [perihilar A]"],
    "right_hilar": ["[right A +3] [infrahilar A]"],
    "hilar_unspec": ["[hilar A]", "[hila A]", "[perihilar A +3] [region A]"],
    "left_pleural": ["[left A +3] [pleural A]"],
    "right_pleural": ["[Right A +3] [Pleural A]"],
    "pleural_unspec": ["[pleural A]", "[pleural A] [bilateral A +2] [right A +2] [left A +2]"],
    "heart_size": ["[heart A]", "[cardiac A +3] [silhouette A]", "[left A +3] [heart A]"],
    "heart_border": ["[right A +4] [heart A +4] [border A]"],
    "left_diaphragm": ["[left A +3] [hemidiaphragm A]"],
    "right_diaphragm": ["[right A +3] [diaphragm A]"],
    "diaphragm_unspec": ["[hemidiaphragms A]", "[hemidiaphragm A] [right A +2] [left A +2]"],
    "retrocardiac": ["[retrocardiac A +3] [region A]"],
    "lower_left_lobe": ["[left A +4] [lower A +4] [lobe A]", "[lower A +4] [left A +4] [lobe A]"],
    "upper_left_lobe": ["[upper A +4] [left A +4] [lobe A]", "[lingula A]", "[lingular A]"],
    "lower_right_lobe": ["[right A +4] [lower A +4] [lobe A]"],
    "middle_right_lobe": ["[right A +4] [middle A +4] [lobe A]"],
    "upper_right_lobe": ["[right A +4] [upper A +4] [lobe A]"],
    "left_lower_lung": [
        "[left A +3] [base A] [lung A +3]",
        "[base A] [left A +2]",
        "[lower A +4] [left A +4] [lung A]",
    ],
    "left_mid_lung": ["[left A +3] [midlung A]", "[left A +4] [mid A +4] [lung A]"],
    "left_upper_lung": ["[left A +4] [upper A +4] [lung A]"],
    "left_apical_lung": ["[left A +3] [apex A]", "[left A +3] [apicolateral A]"],
    "left_lung_unspec": ["[left A +3] [lung A]", "[left-sided A +3] [lung A]", "[left A]", "[left side A]"],
    "right_lower_lung": ["[right A +3] [basilar A]", "[right A +3] [lung A] [bases A +3]"],
    "right_mid_lung": ["[right A +4] [mid A +4] [lung A]"],
    "right_upper_lung": ["[right A +4] [upper A +4] [lung A]"],
    "right_apical_lung": ["[right A +3] [apical A]"],
    "right_lung_unspec": ["[right A +3] [hemithorax A]", "[thorax A] [right A +2] [hemi A +2]"],
    "lung_apices": ["[apices A]", "[biapical A]", "[lungs A] [upper A +2]"],
    "lung_bases": ["[bibasilar A]", "[lung A +3] [bases A]", "[lobes A] [lower A +2]", "[bases A] [both A +2]"],
    "left_costophrenic": ["[left A +4] [costophrenic A +4] [angle A]"],
    "right_costophrenic": ["[right A +4] [costophrenic A +4] [sulcus A]"],
    "costophrenic_unspec": ["[costophrenic A +3] [angles A]"],
    "cardiophrenic_sulcus": ["[left A +3] [cardiophrenic A]"],
    "mediastinal": ["[mediastinal A +3] [contours A]", "[cardiomediastinum A]"],
    "spine": ["[thoracic A +3] [spine A]"],
    "clavicle": ["[left A +3] [clavicle A]", "[clavicles A]"],
    "rib": ["[right A +4] [seventh A +4] [rib A]", "[ribs A]"],
    "stomach": ["[stomach A]", "[upper A +3] [abdomen A]"],
    "right_atrium": ["[right A +3] [atrium A]", "[right A +3] [atrial A]"],
    "right_ventricle": ["[right A +3] [ventricle A]"],
    "aorta": ["[aortic A +3] [knob A]", "[aorta A]"],
    "svc": ["[mid A +3] [SVC A]"],
    "interstitium": ["[interstitium A]", "[interstitial A]"],
    "parenchymal": ["[parenchymal A]"],
    "cavoatrial_junction": ["[cavoatrial junction A]"],
    "cardiopulmonary": ["[cardiopulmonary A]"],
    "pulmonary": ["[pulmonary A +3] [vascular A]", "[left A +3] [pulmonary A]"],
    "lung_volumes": ["[lungs A]", "[lung A +3] [volumes A]"],
    "unspecified": ["[unspecified A]"],
    "other": [
        "[chest A]",
        "[left A +3] [atrium A]",
        "[lower A +3] [neck A]",
        "[left A +3] [lobe A]",
        "[base A]",
        "[left A +3] [hila A]",
    ],
}


def test_there_is_a_place_for_every_anatomy():
    assert set(PLACES) == set(vocab.ANATOMIES)


@pytest.mark.parametrize(("anatomy", "place"), [(name, place) for name, places in PLACES.items() for place in places])
def test_a_place_is_its_anatomy(anatomy, place):
    root = 2 + next(i for i, found in enumerate(ENTITY.finditer(place)) if not found["edges"])
    assert labels(graph(f"There is a [mass DP @{root}] in the {place} .")) == {f"{anatomy} mass": 1}


CASES = [
    # present, absent, uncertain
    ("There is an [effusion DP @2] in the [pleural A] space .", {"pleural_unspec effusion": 1}),
    ("No [effusion DA @2] in the [pleural A] space .", {"pleural_unspec effusion": 0}),
    ("Possible [effusion U @2] in the [pleural A] space .", {}),
    ("[Pneumonia U] .", {}),
    # no edge: nowhere in particular, whatever else the sentence has
    ("No [pneumothorax DA] .", {"unspecified pneumothorax": 0}),
    ("[Heart A] . [Pneumonia DP] .", {"unspecified pneumonia": 1}),
    ("[Heart A] and [pneumonia DP] .", {"unspecified pneumonia": 1}),
    ("[Edema DP] . No [edema DA] .", {"unspecified edema": 1}),
    # 0 never takes the place of 1, in either order, nor does doubt of either
    ("[Edema DP @2] [interstitial A] . No [edema DA @4] [interstitial A] .", {"interstitium edema": 1}),
    ("No [edema DA @2] [interstitial A] . [Edema DP @4] [interstitial A] .", {"interstitium edema": 1}),
    ("No [edema DA @2] [interstitial A] . [Edema U @4] [interstitial A] .", {"interstitium edema": 0}),
    ("[Edema DP @2] [interstitial A] . [Edema U @4] [interstitial A] .", {"interstitium edema": 1}),
    ("[Edema DA @2] [interstitial A] . [Edema DP] .", {"interstitium edema": 0, "unspecified edema": 1}),
    # at any part of the place, at several places, at a place that several roots share
    ("[Opacity DP @2] [left A +4] [lower A +4] [lobe A] .", {"lower_left_lobe opacity": 1}),
    ("[Opacity DP @2 @4] [left A +4] [lower A +4] [lobe A] .", {"lower_left_lobe opacity": 1}),
    ("[Scar DP @3 @5] [left A +3] [apex A] , [right A +5] [apex A] .", dict.fromkeys(
        ["left_apical_lung scar", "right_apical_lung scar"], 1)),
    ("[Scar DP @2] [left A +3 +4] [hilum A] and [pleural A] .", {"left_hilar scar": 1, "left_pleural scar": 1}),
    ("[Line DP @2] [right A +3] [atrium A] , [clip DP @5] [aorta A] .", {"right_atrium line": 1, "aorta clip": 1}),
    ("[Mass DP @2] and [nodule DA @3] [apices A] .", {"lung_apices nodule": 0}),  # a nodule is no place of a mass
    ("[Mass DP @3] and [nodule DA @3] [apices A] .", {"lung_apices mass": 1, "lung_apices nodule": 0}),
    ("[Mass DP @2] and [nodule DP] .", {"unspecified nodule": 1}),  # though the nodule has no place
    ("[Mass DP @2 @3] and [nodule DA @3] [apices A] .", {"lung_apices mass": 1, "lung_apices nodule": 0}),
    ("[Severe DP +2] [edema DP] .", {"unspecified edema": 1}),
    ("[Mass DP @1] .", {}),
    # a modifier of a modifier is no part of the place, nor is what only the text puts beside it
    ("[Mass DP @4] [left A +3] [middle A +4] [lobe A] .", {"other mass": 1}),
    ("[Mass DP @2] [left A +3] [middle A +4] [lobe A] .", {}),
    ("[Mass DP @3] [left A] [lung A] .", {"lung_volumes mass": 1}),
    ("[Mass DP @2] [lobe A +3] [lobe A +2] .", {}),  # no root
    ("[Mass DP @3] [small DP +3] [lobe A] .", {"other mass": 1}),  # an observation is no part of a place
    # edges of other kinds only
    ("[Small DP +2] [effusion DP @3] [pleural A] .", {"pleural_unspec effusion": 1}),
    ("[Opacity DP >2] [pneumonia U] .", {}),
    ("[Opacity DP >2 @3] [pneumonia DP] [lingula A] .", {"upper_left_lobe opacity": 1, "unspecified pneumonia": 1}),
    ("[Mass DP +2] [lungs A] .", {}),
    # sentences are worlds of their own: entities join and meet in one
    ("[Opacity DP @2] . [lungs A] .", {}),
    ("[Opacity DP @3] [left A +4] [lower A +4] . [lobe A] .", {}),
    ("[Left A +3] . [Opacity DP @3] [lung A] .", {"lung_volumes opacity": 1}),
    ("[Clear DP @2] [lungs A] ? [Left A +4] [lung A] ! [Mass DP @4] .", {"lung_volumes clear": 1}),
    ("Size 1.5 cm [mass DP @2] , 2. in the [lungs A] .", {"lung_volumes mass": 1}),  # these points end no sentence
    ("FINDINGS : [Mass DP @2] : in the [lungs A]", {"lung_volumes mass": 1}),
    # names: inflected, renamed, of change and size, of none
    ("[Opacities DP @2] [lungs A] .", {"lung_volumes opacity": 1}),
    ("[Enlarged DP @2] [heart A] , [increased DP @4] [aorta A] .", {"heart_size enlarge": 1, "aorta enlarge": 1}),
    ("[Infectious process DP] .", {"unspecified pneumonia": 1}),
    ("[Lower DP @2] [lung A +3] [volumes A] .", {"lung_volumes low": 1}),
    ("[Unchanged DP @2] [heart A] .", {"heart_size excluded_obs": 1}),
    ("[Larger DP] . No [worsening DA @3] [lungs A] .", {"unspecified excluded_obs": 1, "lung_volumes excluded_obs": 0}),
    ("[Granuloma DP @2] [apices A] .", {"lung_apices tail_abnorm_obs": 1}),
    ("[Granuloma DA @3] , [fibrosis DP @3] [apices A] .", {"lung_apices tail_abnorm_obs": 1}),  # one column, 1 counts
    ("[Pleural effusion DP] .", {"unspecified tail_abnorm_obs": 1}),  # a name of two words is no name of the list
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_a_graph_amounts_to_the_labels_worked_out_by_hand(text, expected):
    assert labels(graph(text)) == expected


def test_the_matrix_is_unknown_beyond_what_is_told():
    matrix, _ = label_matrix(graph("No [effusion DA] ."))
    assert (matrix.shape, matrix.dtype) == ((51, 75), np.int8)
    assert (matrix == -1).sum() == 51 * 75 - 1


def test_the_sentence_of_an_entity_is_where_it_starts_and_not_where_it_is_listed():
    report = graph("[Opacity DP @2] [lungs A] . No [mass DA @4] [apices A] .")
    report["entities"] = dict(reversed(report["entities"].items()))
    assert labels(report) == {"lung_volumes opacity": 1, "lung_apices mass": 0}


def test_phantom_reports_amount_to_the_phantoms_own_labels():
    for index in range(60):
        phantom = draw(seed=11, index=index, size=32)
        matrix, problems = label_matrix(phantom.graph)
        np.testing.assert_array_equal(matrix, phantom.labels, err_msg=phantom.report)
        assert problems == []


# ---- what is wrong with a graph is told, and the rest of it counts


def entity(**changed) -> dict:
    return {"tokens": "edema", "label": "OBS-DP", "start_ix": 1, "end_ix": 1, "relations": []} | changed


EDEMA = {"unspecified edema": 1}
DAMAGED = [
    ({"text": "", "entities": {}}, {}, ["empty report"]),
    ({"text": " ", "entities": {}}, {}, ["empty report"]),
    ({"text": "No change .", "entities": {}}, {}, ["report without entities"]),
    ({"entities": {}}, {}, ["empty report"]),
    ({"text": "a b", "entities": {"1": entity(label="OBS-XX"), "2": entity()}}, EDEMA, ["unknown label"]),
    ({"text": "a b", "entities": {"1": entity(label=None), "2": entity()}}, EDEMA, ["unknown label"]),
    ({"text": "a b", "entities": {"1": entity(label=[]), "2": entity()}}, EDEMA, ["unknown label"]),
    ({"text": "a b", "entities": {"1": entity(relations=[["located_at", "9"]])}}, {}, ["dangling relation"]),
    ({"text": "a b", "entities": {"1": entity(relations=[["near", "2"]]), "2": entity()}}, EDEMA, ["unknown relation"]),
    ({"text": "a b", "entities": {"1": entity(relations=[None])}}, EDEMA, []),
    ({"text": "a b", "entities": {"1": entity(relations=[["modify"]]), "2": entity()}}, EDEMA, ["malformed entity"]),
    ({"text": "a b", "entities": {"1": entity(relations="x"), "2": entity()}}, EDEMA, ["malformed entity"]),
    ({"text": "a b", "entities": {"1": entity(relations=None), "2": entity()}}, EDEMA, ["malformed entity"]),
    ({"text": "a b", "entities": {"1": entity(tokens=None), "2": entity()}}, EDEMA, ["malformed entity"]),
    ({"text": "a b", "entities": {"1": {"tokens": "edema"}, "2": entity()}}, EDEMA, ["malformed entity"]),
    ({"text": "a b", "entities": {"1": "edema", "2": entity()}}, EDEMA, ["malformed entity"]),
    ({"text": "a b .", "entities": {"1": entity(start_ix=[1]), "2": entity()}}, EDEMA, ["malformed entity"]),
    ({"text": "a b", "entities": {"1": entity(start_ix=1e999), "2": entity()}}, EDEMA, ["malformed entity"]),
    ({"text": "a b", "entities": {"1": entity(start_ix=2)}}, EDEMA, ["entity outside the text"]),
    ({"text": "a b", "entities": {"1": entity(start_ix=-1)}}, EDEMA, ["entity outside the text"]),
]


@pytest.mark.parametrize(("report", "expected", "kinds"), DAMAGED)
def test_a_damaged_graph_gives_what_it_can_and_its_problems(report, expected, kinds):
    matrix, problems = label_matrix(report)
    assert told(matrix) == expected
    assert [kind for kind, _ in problems] == kinds


def test_a_dangling_relation_is_named_and_leaves_others_alone():
    report = graph("[Edema DP @9 @2] [lungs A] .")
    matrix, problems = label_matrix(report)
    assert told(matrix) == {"lung_volumes edema": 1}
    assert problems == [("dangling relation", "entity 1 located_at 9")]


def with_labels(report: dict, names: dict[str, str]) -> dict:
    """The report with these labels in place of others."""
    for fields in report["entities"].values():
        fields["label"] = names.get(fields["label"], fields["label"])
    return report


def test_the_labels_of_radgraph_xl_mean_the_same():
    report = graph("[Edema DP @2] [lungs A] . No [mass DA @2] . [Pneumonia U] .")
    names = {
        "ANAT-DP": "Anatomy::definitely present",
        "OBS-DP": "Observation::definitely present",
        "OBS-DA": "Observation::definitely absent",
        "OBS-U": "Observation::uncertain",
    }
    expected = labels(report)
    assert labels(with_labels(report, names)) == expected == {"lung_volumes edema": 1}


def test_measurements_and_absent_anatomy_of_radgraph_xl_give_no_label():
    report = graph("[Mass DP @2] [lungs A] , [3 cm M +1] . [Nodule DP @5] [apices X] . [2 mm N] .")
    names = {
        "M": "Observation::measurement::definitely present",
        "X": "Anatomy::uncertain",
        "N": "Anatomy::measurement::definitely absent",
    }
    assert labels(with_labels(report, names)) == {"lung_volumes mass": 1}


# ---- words


LEMMAS = """opacities opacity, effusions effusion, masses mass, processes process, diseases disease, devices device,
densities density, findings finding, markings marking, loss loss, losses loss, hernias hernia, enlarged enlarge,
expanded expand, dilated dilate, calcified calcify, thickening thicken,
thickened thicken, blunting blunt,
scarring scar, scarred scar, clipped clip, widened widen, widening widen, crowding crowd, hyperinflated hyperinflate,
obscured obscure,
collapsed collapse, changes change, changed change, improving improve, decreased decrease, worsening worsen, lower low,
larger large, worse bad, greater great, sternotomies sternotomy, spleen spleen, is is, s s, unchanged unchanged,
tub tub, densit densit"""


@pytest.mark.parametrize("pair", LEMMAS.replace("\n", " ").split(", "))
def test_an_inflected_word_is_one_of_the_tables(pair):
    word, expected = pair.split()
    assert lemma(word) == expected


@pytest.mark.parametrize(
    ("words", "finding"),
    [
        ("Effusions ;", "effusion"),
        ("opacity-", "opacity"),
        ("pneumothoraces", "pneumothorax"),
        ("atelectases", "atelectasis"),
        ("infectious processes", "pneumonia"),
        ("pacers", "pacemaker"),
        ("deviated", "tail_abnorm_obs"),
        ("can not be assessed", "tail_abnorm_obs"),
        ("CABG", "excluded_obs"),
        ("", "tail_abnorm_obs"),
    ],
)
def test_an_observation_is_a_finding(words, finding):
    assert vocab.FINDINGS[finding_column(words)] == finding


def test_every_finding_is_itself():
    for finding in vocab.FINDINGS[:-2]:
        assert vocab.FINDINGS[finding_column(finding)] == finding


# ---- the tables are the shared ones


def test_the_rules_of_anatomies_are_the_shared_ones_in_their_order(shared):
    theirs, ours = (yaml.safe_load(path.read_text())["anatomies"] for path in (shared("radgraph_rules.yaml"), TABLES))
    assert list(ours) == list(theirs)
    for name, rule in theirs.items():
        assert set(rule["any_of"]) == set(ours[name]["any_of"]), name
        assert [set(words) for words in rule.get("and_any_of", [])] == list(map(set, ours[name].get("each_of", [])))
        assert {word for words in rule.get("and_none_of", []) for word in words} == set(ours[name].get("none_of", []))
        assert set(rule.get("or_exactly", [])) == set(ours[name].get("or_exactly", []))


def test_the_names_of_findings_are_the_shared_ones(shared):
    """But for the names with punctuation behind them, which is dropped from all."""
    theirs, ours = (yaml.safe_load(path.read_text()) for path in (shared("radgraph_rules.yaml"), TABLES))
    plain = {form.rstrip(" ;-"): name for form, name in theirs["lemma_to_finding"].items()}
    plain = {form: name for form, name in plain.items() if form != name}
    assert {form: name for name, forms in ours["lemmas"].items() for form in forms} == plain
    assert set(ours["excluded_words"]) == set(theirs["excluded_words"])
    assert tuple(theirs["normal_findings"]) == vocab.NORMALITY
    for form, name in theirs["lemma_to_finding"].items():
        excluded, known = name in theirs["excluded_words"], name in vocab.FINDINGS
        expected = "excluded_obs" if excluded else name if known else "tail_abnorm_obs"
        assert vocab.FINDINGS[finding_column(form)] == expected
    for word in theirs["excluded_words"]:
        assert vocab.FINDINGS[finding_column(word)] == "excluded_obs"


def test_a_place_that_no_rule_knows_is_other():
    assert vocab.ANATOMIES[anatomy_row("azygos|fissure")] == "other"
