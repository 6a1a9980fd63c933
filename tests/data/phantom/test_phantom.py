"""Phantoms: report, labels and masks agree with what was drawn, at every size; excluded findings appear in none."""

from dataclasses import replace

import numpy as np
import pytest
import yaml
from PIL import Image

from mavl import vocab
from mavl.data.phantom import FINDINGS, draw, truth
from mavl.data.phantom.body import sample_body

SEED, SIZE = 5, 64
DARK = {"pneumothorax", "emphysema"}
REQUIRED = (
    """effusion pneumothorax cardiomegaly consolidation nodule mass edema atelectasis pacemaker fracture""".split()
)


@pytest.fixture(scope="module")
def phantoms():
    return [draw(SEED, index, SIZE) for index in range(300)]


def rows_of(phantom, finding: str) -> list[str]:
    """The anatomies at which the labels have a finding."""
    column = phantom.labels[:, vocab.FINDINGS.index(finding)]
    return [vocab.ANATOMIES[row] for row in np.flatnonzero(column == vocab.PRESENT)]


# ---- an independent labeller of RadGraph entries by the table of rules


def anatomy_of(joined: str, rules: dict) -> str:
    tokens = set(joined.split("|"))
    for anatomy, rule in rules.items():
        matches = (
            tokens & set(rule["any_of"])
            and all(tokens & set(words) for words in rule.get("and_any_of", []))
            and not any(tokens & set(words) for words in rule.get("and_none_of", []))
        )
        if matches or joined in rule.get("or_exactly", []):
            return anatomy
    return "unspecified" if joined == "unspecified" else "other"


def finding_of(word: str, tables: dict) -> str:
    word = tables["lemma_to_finding"].get(word, word)
    if word in vocab.FINDINGS:
        return word
    return "excluded_obs" if word in tables["excluded_words"] else "tail_abnorm_obs"


def read_graph(graph: dict, tables: dict) -> np.ndarray:
    labels = np.full((len(vocab.ANATOMIES), len(vocab.FINDINGS)), vocab.UNKNOWN)
    entities, tokens = graph["entities"], graph["text"].split(" ")
    sentence = {key: tokens[: entity["start_ix"]].count(".") for key, entity in entities.items()}
    anatomies = {key for key, entity in entities.items() if entity["label"] == "ANAT-DP"}
    places = {}  # a root's id -> the ids of its tokens, and their row
    for root in (key for key in anatomies if not entities[key]["relations"]):
        group = [
            key
            for key in anatomies
            if ["modify", root] in entities[key]["relations"] and sentence[key] == sentence[root]
        ]
        group = [root, *sorted(group, key=int)]
        places[root] = group, anatomy_of("|".join(entities[key]["tokens"] for key in group), tables["anatomies"])
    for key, entity in entities.items():
        value = {"OBS-DP": vocab.PRESENT, "OBS-DA": vocab.ABSENT}.get(entity["label"])
        if value is None:
            continue
        targets = {
            target for kind, target in entity["relations"] if kind == "located_at" and sentence[target] == sentence[key]
        }
        rows = [row for group, row in places.values() if targets & set(group)]
        rows += [] if entity["relations"] else ["unspecified"]
        for row in rows:
            at = vocab.ANATOMIES.index(row), vocab.FINDINGS.index(finding_of(entity["tokens"], tables))
            labels[at] = max(labels[at], value)
    return labels


def test_the_labels_follow_from_the_graph(phantoms, shared):
    tables = yaml.safe_load(shared("radgraph_rules.yaml").read_text())
    for phantom in phantoms:
        np.testing.assert_array_equal(read_graph(phantom.graph, tables), phantom.labels, err_msg=phantom.report)


def test_entities_index_the_tokens_of_the_text(phantoms):
    for phantom in phantoms:
        tokens = phantom.graph["text"].split(" ")
        assert phantom.graph["text"] == phantom.report
        assert "" not in tokens
        for entity in phantom.graph["entities"].values():
            assert " ".join(tokens[entity["start_ix"] : entity["end_ix"] + 1]) == entity["tokens"]
            assert all(target in phantom.graph["entities"] for _, target in entity["relations"])


def test_labels_are_what_was_drawn(phantoms):
    unspecified = vocab.ANATOMIES.index("unspecified")
    denied = total = 0
    for phantom in phantoms:
        for finding in FINDINGS:
            column = phantom.labels[:, vocab.FINDINGS.index(finding)]
            if finding in phantom.findings:
                assert vocab.PRESENT in column
                assert vocab.ABSENT not in column
            else:
                assert set(np.delete(column, unspecified)) == {vocab.UNKNOWN}
                denied, total = denied + (column[unspecified] == vocab.ABSENT), total + 1
        assert phantom.labels[unspecified, vocab.FINDINGS.index("normal")] == (not phantom.findings)
        clear = phantom.labels[vocab.ANATOMIES.index("lung_volumes"), vocab.FINDINGS.index("clear")]
        assert clear == truth(phantom, ["clear"])[0]
    assert 0.82 < denied / total < 0.88


# ---- what is drawn


def test_findings_are_names_of_the_vocabulary():
    assert set(FINDINGS) <= set(vocab.FINDINGS)
    assert set(REQUIRED) <= set(FINDINGS)
    assert len(FINDINGS) == len(set(FINDINGS)) >= 12


def test_every_finding_is_neither_rare_nor_common(phantoms):
    for finding in FINDINGS:
        assert 0.05 < np.mean([finding in phantom.findings for phantom in phantoms]) < 0.22, finding
    assert 0.18 < np.mean([not phantom.findings for phantom in phantoms]) < 0.34
    assert {len(phantom.findings) for phantom in phantoms} == {0, 1, 2, 3, 4, 5}


def test_a_study_depends_on_seed_and_index_alone(phantoms):
    again = draw(SEED, 7, SIZE)
    np.testing.assert_array_equal(again.image, phantoms[7].image)
    assert (again.findings, again.report) == (phantoms[7].findings, phantoms[7].report)
    assert (draw(SEED + 1, 7, SIZE).image != again.image).mean() > 0.5
    assert (draw(SEED, 8, SIZE).image != again.image).mean() > 0.5


def test_every_size_shows_the_same_study(phantoms):
    for index in range(24):
        small, large = phantoms[index], draw(SEED, index, 4 * SIZE)
        assert (small.findings, small.report, small.graph) == (large.findings, large.report, large.graph)
        np.testing.assert_array_equal(small.labels, large.labels)
        reduced = np.asarray(Image.fromarray(large.image).reduce(4), dtype=float)
        assert np.corrcoef(reduced.ravel(), small.image.ravel())[0, 1] > 0.96
        for finding, mask in small.masks.items():
            if mask.sum() > 200:  # pixels; a border of one pixel weighs little
                covered = large.masks[finding].reshape(SIZE, 4, SIZE, 4).mean(axis=(1, 3)) > 0.5
                assert (mask & covered).sum() / (mask | covered).sum() > 0.8, finding


def test_images_and_masks_have_the_documented_form(phantoms):
    for phantom in phantoms:
        assert (phantom.image.shape, phantom.image.dtype) == ((SIZE, SIZE), np.uint8)
        assert (phantom.labels.shape, phantom.labels.dtype) == ((51, 75), np.int8)
        assert phantom.masks.keys() == phantom.findings
        for finding, mask in phantom.masks.items():
            assert (mask.shape, mask.dtype) == ((SIZE, SIZE), bool)
            assert 0 < mask.mean() < 0.6, finding
    assert 70 < np.mean([phantom.image for phantom in phantoms]) < 180


def test_masks_lie_on_the_side_that_the_report_names(phantoms):
    sides_seen = set()
    for phantom in phantoms:
        for finding, mask in phantom.masks.items():
            sides = {side for side in ("left", "right") for row in rows_of(phantom, finding) if side in row.split("_")}
            if len(sides) == 1 and finding not in ("pacemaker", "catheter"):  # whose right atrium is near the midline
                (side,) = sides
                centre = np.nonzero(mask)[1].mean() / SIZE  # the patient's left is the image's right
                assert centre > 0.5 if side == "left" else centre < 0.5, (finding, side)
                sides_seen.add((finding, side))
    assert {finding for finding, _ in sides_seen} >= {"effusion", "pneumothorax", "nodule", "mass", "consolidation"}
    assert len(sides_seen) == 2 * len({finding for finding, _ in sides_seen})


def test_masks_lie_at_the_height_that_anatomy_has(phantoms):
    heights = {}
    for phantom in phantoms:
        if "elevation" not in phantom.findings:  # which pushes everything up
            for finding, mask in phantom.masks.items():
                for row in rows_of(phantom, finding):
                    part = next((part for part in ("upper", "lower", "apical") if part in row), "")
                    heights.setdefault((finding, part), []).append(np.nonzero(mask)[0].mean() / SIZE)
    for finding in ("nodule", "mass", "consolidation", "calcification"):
        assert max(heights[finding, "upper"]) < 0.52
        assert min(heights[finding, "lower"]) > 0.48
    assert max(heights["pneumothorax", "apical"]) < 0.45
    assert min(heights["effusion", ""]) > 0.5
    assert min(heights["hernia", ""]) > 0.5
    assert min(heights["cardiomegaly", ""]) > 0.45
    assert max(heights["catheter", ""]) < 0.55


def test_a_finding_is_brighter_or_darker_than_the_same_body_without_it(phantoms):
    for finding in FINDINGS:
        indices = [index for index, phantom in enumerate(phantoms) if finding in phantom.findings][:4]
        for index in indices:
            without, mask = draw(SEED, index, SIZE, exclude={finding}), phantoms[index].masks[finding]
            change = phantoms[index].image[mask].mean() - without.image[mask].mean()
            assert change < -2 if finding in DARK else change > 1, (finding, index, change)


def test_cardiomegaly_is_a_heart_wider_than_half_the_chest():
    body = replace(sample_body(np.random.default_rng(0)), cardiothoracic_ratio=0.6, midline=0.0)
    left, right = body.heart_borders
    heart = max(float(left(row) - right(row)) for row in np.linspace(-0.8, 0.8, 200))
    assert heart == pytest.approx(0.6 * 2 * body.width, rel=0.03)
    assert 2 * float(body.cage(body.widest)) == pytest.approx(2 * body.width, rel=0.03)


# ---- what is excluded


def test_excluded_findings_are_neither_drawn_nor_mentioned(phantoms):
    exclude = {"hernia", "edema", "tube"}
    for index in range(60):
        phantom = draw(SEED, index, 32, exclude)
        assert phantom.findings == phantoms[index].findings - exclude
        assert not exclude & set(phantom.report.split(" "))
        columns = [vocab.FINDINGS.index(finding) for finding in exclude]
        assert (phantom.labels[:, columns] == vocab.UNKNOWN).all()


def test_excluding_what_a_study_lacks_leaves_its_image_alone(phantoms):
    absent = set(FINDINGS) - phantoms[3].findings
    np.testing.assert_array_equal(draw(SEED, 3, SIZE, absent).image, phantoms[3].image)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"exclude": ["pneumotorax"]}, "'pneumotorax'; did you mean 'pneumothorax'"),
        ({"exclude": "effusion"}, "got the string 'effusion'"),
        ({"size": 8}, "size 8"),
        ({"index": -1}, "index -1"),
    ],
)
def test_what_cannot_be_drawn_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        draw(**{"seed": 0, "index": 0, "size": 32} | arguments)


# ---- truth


def test_truth_by_name():
    names = ["clear", "mass", "pacemaker", "normal"]
    assert truth(set(), names).tolist() == [1, 0, 0, 1]
    assert truth({"pacemaker"}, names).tolist() == [1, 0, 1, 0]  # a device leaves the lungs clear
    assert truth({"mass", "pacemaker"}, names).tolist() == [0, 1, 1, 0]
    assert truth({"mass"}, names).dtype == np.int8


def test_truth_refuses_names_that_are_no_phantom_findings():
    with pytest.raises(ValueError, match="unknown phantom finding 'pneumonia'"):
        truth(set(), ["mass", "pneumonia"])
    with pytest.raises(ValueError, match="'hernja'; did you mean 'hernia'"):
        truth({"hernja"}, ["mass"])
