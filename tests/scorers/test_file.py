"""Scores of a table: the right number for the right image and finding, and nothing guessed."""

import numpy as np
import pytest
import torch

from mavl.scorers import ListedScorer, ScorerError, ScorerOptions, open_scorer


def scorer(tmp_path, text: str):
    (tmp_path / "scores.csv").write_text(text)
    return open_scorer(f"file:{tmp_path / 'scores.csv'}", ScorerOptions(findings=()))


def test_scores_are_those_of_the_rows_and_columns_by_name_or_synonym(tmp_path):
    text = "image,Pleural Effusion,edema_score,other\nb/2.png,-3.5,0.25,x\na/1.png,1e-3,7,y\n"
    of_file = scorer(tmp_path, text)
    assert isinstance(of_file, ListedScorer)
    found = of_file.listed_scores(["a/1.png", "b/2.png"], ["edema", "effusion"])
    assert found.tolist() == [[7, 0.001], [0.25, -3.5]]
    assert of_file.heatmaps(torch.zeros(1, 3, 4, 4), ["edema"]) is None
    with pytest.raises(ScorerError, match="not of pixels"):
        of_file.scores(torch.zeros(1, 3, 4, 4), ["edema"])


@pytest.mark.parametrize("written", ["1.png", "a/1.png", "data/a/1.png", "/mnt/films/data/a/1.png", "a\\1.png"])
def test_an_image_may_be_written_with_more_folders_or_fewer(tmp_path, written):
    of_file = scorer(tmp_path, f"path,mass\n{written},0.5\nb/2.png,0.1\n")
    name = "data/a/1.png" if written.startswith(("data", "/")) else "a/1.png"
    assert of_file.listed_scores([name], ["mass"]).tolist() == [[0.5]]
    assert of_file.lists_any([name, "c.png"])
    assert not of_file.lists_any(["c.png"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,mass\nb/1.png,1\n", "1 image of the benchmark in no row, such as a/1.png"),
        ("image,mass\n1.png,1\na/1.png,2\n", r"scores\.csv:2 and scores\.csv:3 both name a/1\.png"),
        ("image,mass\na/1.png,\n", r"scores\.csv:2: the score of mass is '', not a finite number"),
        ("image,mass\na/1.png,inf\n", "is 'inf', not a finite number"),
        ("image,mass\na/1.png,high\n", "is 'high', not a finite number"),
        ("image,nodule\na/1.png,1\n", "mass: no column means it; columns are nodule"),
        ("image,mass,lung mass\na/1.png,1,2\n", "mass: 2 columns mean it, mass, lung mass"),
        ("picture,mass\na/1.png,1\n", "no column image or path; it has picture, mass"),
    ],
)
def test_what_is_missing_or_twice_is_named(tmp_path, text, message):
    with pytest.raises(ScorerError, match=message):
        scorer(tmp_path, text).listed_scores(["a/1.png"], ["mass"])


def test_a_row_that_could_be_two_images_is_refused(tmp_path):
    with pytest.raises(ScorerError, match=r"scores\.csv:2 could be a/1\.png or b/1\.png: write its folder"):
        scorer(tmp_path, "image,mass\n1.png,1\n").listed_scores(["a/1.png", "b/1.png"], ["mass"])


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ScorerError, match=r"none\.csv"):
        open_scorer(f"file:{tmp_path / 'none.csv'}", ScorerOptions(findings=()))


def test_numbers_keep_all_their_digits(tmp_path):
    values = np.random.default_rng(0).random(5)
    rows = "".join(f"{i}.png,{value!r}\n" for i, value in enumerate(values.tolist()))
    found = scorer(tmp_path, f"image,mass\n{rows}").listed_scores([f"{i}.png" for i in range(5)], ["mass"])
    assert found[:, 0].tolist() == values.tolist()
