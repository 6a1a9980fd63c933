"""The rule labeller: sentences -> findings, whether they are there, and where."""

import numpy as np
import pytest

from mavl.data.phantom import draw
from mavl.prepare.reports.protocol import Mention, Report
from mavl.prepare.reports.rules import RuleLabeller
from mavl.prepare.reports.store import label_matrix
from mavl.vocab import ANATOMIES, FINDINGS

OWN = (
    *(
        "effusion",
        "pneumothorax",
        "nodule",
        "mass",
        "atelectasis",
        "pneumonia",
        "cardiomegaly",
        "edema",
        "consolidation",
    ),
    *("fracture", "rib fracture", "granuloma", "calcified granuloma", "emphysema", "opacity"),
    *("pleural thickening", "infiltrate", "fibrosis"),
)


def stated(sentence: str, findings=OWN) -> dict[str, str]:
    return {mention.finding: mention.status for mention in RuleLabeller(findings).mentions(sentence)}


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("There is a small effusion.", {"effusion": "present"}),
        (
            "No pneumothorax, effusion or consolidation.",
            dict.fromkeys(("pneumothorax", "effusion", "consolidation"), "absent"),
        ),
        ("No effusion, but a nodule.", {"effusion": "absent", "nodule": "present"}),
        ("No pneumothorax is seen and the effusion is small.", {"pneumothorax": "absent", "effusion": "present"}),
        ("Effusion without pneumothorax.", {"effusion": "present", "pneumothorax": "absent"}),
        ("The lungs are clear of consolidation and edema.", {"consolidation": "absent", "edema": "absent"}),
        ("Without significant interval change of the atelectasis.", {"atelectasis": "present"}),
        ("No change in the effusion.", {"effusion": "present"}),
        ("The pneumothorax has resolved.", {"pneumothorax": "absent"}),
        ("The pneumothorax has almost completely resolved.", {"pneumothorax": "present"}),
        ("The effusion has resolved and a nodule is seen.", {"effusion": "absent", "nodule": "present"}),
        ("No interval effusion.", {"effusion": "absent"}),
        ("No effusion or interval change.", {"effusion": "absent"}),
        ("Opacity which may be compatible with atelectasis.", {"opacity": "present", "atelectasis": "uncertain"}),
        ("Findings most suggestive of edema.", {"edema": "present"}),
        ("Resolution of the edema.", {"edema": "absent"}),
        ("Interval resolution of the left lower lobe pneumonia.", {"pneumonia": "absent"}),
        ("The pneumonia shows complete resolution.", {"pneumonia": "absent"}),
        ("No interval resolution of the pneumothorax.", {"pneumothorax": "present"}),
        ("Partial clearing of left lower lobe pneumonia.", {"pneumonia": "present"}),
        ("Lack of improvement of the consolidation.", {"consolidation": "present"}),
        ("No worsening of the edema.", {"edema": "present"}),
        ("No enlargement of the nodule.", {"nodule": "present"}),
        ("No pneumothorax, small left effusion.", {"pneumothorax": "absent", "effusion": "present"}),
        ("No pneumothorax and stable edema.", {"pneumothorax": "absent", "edema": "present"}),
        ("No pneumothorax, mild edema, or effusion.", dict.fromkeys(("pneumothorax", "edema", "effusion"), "absent")),
        ("The nodule is not seen on the prior study.", {"nodule": "present"}),
        ("Previously seen nodule in the right upper lobe is unchanged.", {"nodule": "present"}),
        ("Previously seen left effusion is no longer visualized.", {"effusion": "absent"}),
        ("Previously seen nodule in the right upper lobe.", {}),
        ("Pneumothorax: None.", {"pneumothorax": "absent"}),
        ("Effusions are small, if any.", {"effusion": "uncertain"}),
        ("Effusion where pneumonia cannot be excluded.", {"effusion": "present", "pneumonia": "uncertain"}),
        ("Non-specific opacity.", {"opacity": "present"}),
        ("The nodule is no longer seen.", {"nodule": "absent"}),
        ("Effusion is not seen.", {"effusion": "absent"}),
        ("An effusion is noted.", {"effusion": "present"}),
        ("Pneumonia cannot be excluded.", {"pneumonia": "uncertain"}),
        ("Definite infiltrate is not excluded.", {"infiltrate": "uncertain"}),
        ("Possible pneumonia.", {"pneumonia": "uncertain"}),
        (
            "Opacity may be due to atelectasis or pneumonia.",
            {"opacity": "present", "atelectasis": "uncertain", "pneumonia": "uncertain"},
        ),
        ("Atelectasis versus pneumonia.", {"atelectasis": "present", "pneumonia": "uncertain"}),
        ("Consolidation, consistent with pneumonia.", {"consolidation": "present", "pneumonia": "present"}),
        ("History of pneumonia.", {}),
        ("CT is more sensitive for a nodule.", {}),
    ],
)
def test_negation_and_doubt_have_a_scope(sentence, expected):
    assert stated(sentence) == expected


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("Masses are seen.", {"mass": "present"}),
        ("Pneumothoraces.", {"pneumothorax": "present"}),
        ("Oedema.", {"edema": "present"}),
        ("The cardiac silhouette is mildly enlarged.", {"cardiomegaly": "present"}),
        ("The heart is not enlarged.", {"cardiomegaly": "absent"}),
        ("Enlargement of the heart.", {"cardiomegaly": "present"}),
        ("A large hydropneumothorax.", {"effusion": "present", "pneumothorax": "present"}),
        ("Pericardial effusion.", {}),
        ("Subcutaneous emphysema.", {}),
        ("Emphysematous changes.", {"emphysema": "present"}),
        ("Peribronchial thickening.", {}),
        ("Thickening of the pleura.", {"pleural thickening": "present"}),
        ("Cystic fibrosis.", {}),
        ("A calcified left hilar granuloma.", {"granuloma": "present", "calcified granuloma": "present"}),
        ("A rib fracture.", {"fracture": "present", "rib fracture": "present"}),
        ("No rib fracture.", {"rib fracture": "absent"}),  # which leaves other fractures open
        ("The mediastinum is unremarkable.", {}),
    ],
)
def test_a_finding_has_many_names_and_some_look_like_it(sentence, expected):
    assert stated(sentence) == expected


def test_names_of_the_vocabulary_count_and_places_do_not():
    found = stated("Low lung volumes. The lungs are clear.", FINDINGS)
    assert (found["low"], found["clear"]) == ("present", "present")
    assert stated("No abnormality.", FINDINGS)["normal"] == "present"
    assert "low" not in stated("Opacity in the left lower lobe.", FINDINGS)
    assert "lead" not in stated("A pacemaker leading to the right atrium.", FINDINGS)


@pytest.mark.parametrize(
    ("sentence", "finding", "places"),
    [
        ("Left pleural effusion.", "effusion", {"left_pleural"}),
        ("Effusion.", "effusion", {"unspecified"}),
        ("Opacity in the right middle and lower lobes.", "opacity", {"middle_right_lobe", "lower_right_lobe"}),
        ("Opacity at the base of the left lung.", "opacity", {"left_lower_lung"}),
        ("Nodules in the right apex and the left base.", "nodule", {"right_apical_lung", "left_lower_lung"}),
        ("In the left base, there is a nodule.", "nodule", {"left_lower_lung"}),
        ("The right lung base shows consolidation.", "consolidation", {"right_lower_lung"}),
        ("Left upper lobe nodule and right lower lobe mass.", "nodule", {"upper_left_lobe"}),
        ("Left upper lobe nodule and right lower lobe mass.", "mass", {"lower_right_lobe"}),
        ("Atelectasis and effusion at the left base.", "atelectasis", {"left_lower_lung"}),
        ("The heart is enlarged, no edema.", "edema", {"unspecified"}),
        ("Bibasilar atelectasis.", "atelectasis", {"lung_bases"}),
        ("Opacity in the left base, consistent with atelectasis.", "atelectasis", {"left_lower_lung"}),
        ("Opacity in the left base and effusion.", "effusion", {"unspecified"}),
        ("Opacity in the posterior right upper lobe and mass.", "mass", {"unspecified"}),
        ("Fracture of the left clavicle.", "fracture", {"clavicle"}),
    ],
)
def test_a_finding_is_where_the_words_near_it_say(sentence, finding, places):
    mentions = RuleLabeller(OWN).mentions(sentence)
    assert {mention.anatomy for mention in mentions if mention.finding == finding} == places


def test_labels_of_200_phantoms_are_their_own():
    """Each finding, its presence and its side, as the phantoms' own graphs have them."""
    phantoms = [draw(seed=5, index=index, size=32) for index in range(200)]
    labeller = RuleLabeller(FINDINGS, sections="both")
    reports = [Report(str(number), "", phantom.report) for number, phantom in enumerate(phantoms)]
    made = np.array([label_matrix(mentions, FINDINGS) for mentions in labeller.label(reports)])
    own = np.array([phantom.labels for phantom in phantoms])
    columns = np.flatnonzero((own != -1).any(axis=(0, 1)))
    assert (own == 1).sum() > 600
    assert np.array_equal(made[:, :, columns], own[:, :, columns])


def test_uncertain_is_unknown_unless_another_sentence_says_that_it_is_present():
    findings = ("effusion", "pneumonia", "edema")
    matrix = label_matrix(
        [
            Mention("effusion", "uncertain"),
            Mention("effusion", "present", "left_pleural"),
            Mention("effusion", "absent", "right_pleural"),
            Mention("pneumonia", "absent"),
            Mention("pneumonia", "uncertain", "left_lower_lung"),
            Mention("edema", "absent"),
            Mention("edema", "present"),
        ],
        findings,
    )
    known = {
        (ANATOMIES[row], findings[column]): matrix[row, column].item()
        for row, column in np.argwhere(matrix != -1).tolist()
    }
    assert known == {
        ("left_pleural", "effusion"): 1,
        ("right_pleural", "effusion"): 0,
        ("unspecified", "edema"): 1,
    }


def test_a_sentence_without_end_takes_no_time():
    words = "no left effusion and possible nodule may not be excluded " * 2000
    [mentions] = RuleLabeller(OWN).label([Report("s", "", words)])
    assert {mention.finding for mention in mentions} == {"effusion", "nodule"}
