"""Labels from tables with a row for each finding of an image, of one reader or several."""

import pytest

from tests.support.small_benchmarks import problems_of, split_of

LABELS = {"kind": "rows", "column": "name", "names": {"Mass/Nodule": "mass", "Other": None}}
SETTINGS = {"findings": ["edema", "mass"], "labels": LABELS}

READ = """image,name,reader
a,Edema,R1
a,Edema,R2
a,No finding,R3
b,Edema,R1
b,Mass/Nodule,R1
b,Mass/Nodule,R1
b,edema,R2
c,Other,R2
c,mass,R3
d,no finding,R1
"""


def test_rows_of_an_image_are_pivoted(tmp_path):
    text = "image,name\na,EDEMA\nb,no finding\na,Mass/Nodule\nc,Other\nd,\ne,\ne,mass\n"
    split = split_of(tmp_path, text, **SETTINGS)
    assert split.labels.tolist() == [[1, 1], [0, 0], [0, 0], [-1, -1], [0, 1]]
    assert split.rows == [f"test.csv:{line}" for line in (2, 3, 5, 6, 7)]
    blank = SETTINGS | {"labels": LABELS | {"names": LABELS["names"] | {"": None}}}
    assert split_of(tmp_path, text, **blank).labels.tolist() == [[1, 1], [0, 0], [0, 0], [0, 0], [0, 1]]


@pytest.mark.parametrize(
    ("rule", "labels"),
    [
        ("any", [[1, 0], [1, 1], [0, 1], [0, 0]]),
        # edema of a: 2 of 3 readers; mass of b and c: 1 of 2, which is not more than half
        ("majority", [[1, 0], [1, 0], [0, 0], [0, 0]]),
        ("all", [[0, 0], [1, 0], [0, 0], [0, 0]]),
    ],
)
def test_several_readers(tmp_path, rule, labels):
    read = SETTINGS | {"labels": LABELS | {"readers": {"column": "reader", "rule": rule}}}
    assert split_of(tmp_path, READ, **read).labels.tolist() == labels


def test_boxes_of_a_finding_that_is_outvoted_are_left_out(tmp_path):
    masks = {"kind": "box_rows", "finding": "name", "names": {"Other": None}, "columns": ["box"], "size": [4, 6]}
    text = "image,name,reader,box\n"
    text += "a,Edema,R1,0;0;1;1\na,Edema,R2,0;0;2;1\na,Mass,R1,1;1;1;1\na,No finding,R3,\na,Other,R3,0;0;1;1\n"
    voted = SETTINGS | {"labels": LABELS | {"readers": {"column": "reader", "rule": "majority"}}, "masks": masks}
    split = split_of(tmp_path, text, **voted)
    assert split.labels.tolist() == [[1, 0]]
    assert (int(split.mask(0, "edema").sum()), split.masks["mass"]) == (2, [None])


def test_other_names_and_missing_readers_are_named_with_their_lines(tmp_path, capsys):
    read = SETTINGS | {"labels": LABELS | {"readers": {"column": "reader", "rule": "any"}}}
    found = problems_of(tmp_path, "image,name,reader\na,Edma,R1\nb,mass,\n", **read)
    assert found[0].startswith("test.csv:2: unknown finding 'Edma'; did you mean 'edema'? say under labels.names")
    assert found[1] == "test.csv:3: column 'reader' names no reader"
    ignoring = SETTINGS | {"labels": LABELS | {"others": "ignore"}}
    assert split_of(tmp_path, "image,name\na,Edma\nb,mass\n", **ignoring).labels.tolist() == [[0, 0], [0, 1]]
    assert "labels.others ignores 1 other text: 'Edma' (1)" in capsys.readouterr().err


def test_texts_anywhere_in_a_cell(tmp_path):
    names = {"atelectasis": "atelectasis", "atelectases": "atelectasis", "lung": "opacity", "": None}
    labels = {"kind": "list", "column": "terms", "match": "substring", "names": names}
    text = "image,terms\na,Bibasilar Atelectases|pleural effusion\nb,atelectasis; opacity of the lung\nc,\nd,normal\n"
    settings = {"findings": ["atelectasis", "effusion", "opacity"], "labels": labels}
    assert split_of(tmp_path, text, **settings).labels.tolist() == [[1, 1, 0], [1, 0, 1], [0, 0, 0], [0, 0, 0]]
    unknown = settings | {"labels": labels | {"names": {}}}
    assert split_of(tmp_path, text, **unknown).labels.tolist() == [[0, 1, 0], [1, 0, 1], [-1, -1, -1], [0, 0, 0]]
