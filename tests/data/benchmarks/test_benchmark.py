"""Benchmarks as YAML, and their split files: paths, labels, groups, and what is wrong with them."""

import re
from pathlib import Path

import pydantic
import pytest
import yaml

from mavl.config.loader import dump, load
from mavl.data.benchmarks.benchmark import Benchmark, BenchmarkError, examine_split, read_split
from mavl.vocab import FINDINGS
from tests.support.small_benchmarks import NAMES, benchmark, problems_of, released, split_of

# The YAML files


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_loads_under_its_own_name(name):
    chosen = released(name)
    assert chosen.name == name
    assert "test" in chosen.splits or name == "own_csv"  # of which fine-tuning draws one
    assert chosen.root is None or name == "phantom"  # only the demo's images have a place of their own


def test_a_benchmark_survives_the_resolved_config_of_a_run(tmp_path):
    for name in NAMES:
        dump(released(name), tmp_path / "resolved.yaml")
        assert load(Benchmark, tmp_path / "resolved.yaml") == released(name)


def test_findings_outside_the_vocabulary():
    outside = {name: sum(finding not in FINDINGS for finding in released(name).findings) for name in NAMES}
    new = {"covid_rural": 1, "covidx_cxr2": 1, "padchest_rare": 39, "padchest_unseen": 60}
    new |= {"chestxray14": 1, "nih_sample": 1, "nih128": 1, "shenzhen": 1}  # fibrosis, tuberculosis
    new |= {"chestxdet": 2, "chestxdet10": 1, "nih_cxr_lt": 1, "openi": 2, "padchest_gr": 3, "tbx11k": 1}
    new |= {"vinbigdata": 4, "vindr_cxr": 13}
    assert outside == dict.fromkeys(NAMES, 0) | new


def test_select_and_without_keep_rows_together(tmp_path):
    rows = "image,edema,mass\na.png,1,0\nb.png,0,1\nc.png,1,1\n"
    split = split_of(tmp_path, rows, findings=["edema", "mass"])
    fewer = split.without({1}).select(["mass"])
    assert [path.name for path in fewer.paths] == ["a.png", "c.png"]
    assert fewer.labels.tolist() == [[0], [1]]
    assert fewer.rows == ["test.csv:2", "test.csv:4"]
    with pytest.raises(ValueError, match="unknown finding 'masss'; did you mean 'mass'"):
        split.select(["masss"])


def test_padchest_asks_the_published_classes(shared):
    classes = yaml.safe_load(shared("padchest_classes.yaml").read_text())
    seen = released("padchest_seen")
    assert [seen.labels.columns.get(name, name) for name in seen.findings] == classes["seen"]
    assert list(released("padchest_rare").findings) == classes["rare"]
    unseen = released("padchest_unseen")
    assert set(unseen.findings) == set(classes["rare"]) | set(classes["unseen"])
    assert unseen.interpolation == seen.interpolation == "bicubic"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"findings": ["edema", "mass", "edema"]}, "named twice: edema"),
        ({"labels": {"kind": "columns", "columns": {"Edema": 3}}}, "did you mean 'edema'"),
        ({"labels": {"kind": "mask"}}, "need masks"),
        ({"labels": {"kind": "path", "positive": "p", "negative": "n"}, "findings": ["edema", "mass"]}, "one finding"),
        ({"images": {"path": "images/"}}, "needs one {}"),
        ({"groups": {"pattern": "patient[0-9]+"}}, "needs one (group)"),
        ({"groups": {"pattern": "(p"}}, "'(p' is not a valid regular expression"),
        ({"groups": {}}, "a column, a pattern or both"),
        ({"images": {"column": -1}}, "greater than or equal to 0"),
        ({"masks": {"kind": "boxes", "column": 2, "size": [0, 4]}}, "greater than 0"),
        (
            {"findings": ["edema", "mass"], "masks": {"kind": "boxes", "column": 2, "size": [4, 4]}},
            "show one finding, not 2: use kind box_rows, or {finding}",
        ),
        (
            {"labels": {"kind": "mask"}, "masks": {"kind": "file", "path": "{finding}/{}.png"}},
            "needs labels that say which files there are",
        ),
        (
            {
                "labels": {"kind": "mask"},
                "masks": {
                    "kind": "box_rows",
                    "finding": 0,
                    "names": {"x": "edma"},
                    "columns": [1, 2, 3, 4],
                    "size": [4, 4],
                },
            },
            "masks.names: unknown finding 'edma'; did you mean 'edema'",
        ),
    ],
)
def test_settings_that_do_not_fit_together(settings, message):
    with pytest.raises(pydantic.ValidationError, match=re.escape(message)):
        benchmark(**settings)


# Labels


def test_label_texts(tmp_path):
    values = ["1", "1.0", "0", "0.0", "", "nan", "NaN", "-1", "-1.0"]
    text = "image,edema\n" + "".join(f"{row}.png,{value}\n" for row, value in enumerate(values))
    assert split_of(tmp_path, text).labels[:, 0].tolist() == [1, 1, 0, 0, -1, -1, -1, -1, -1]


def test_values_may_give_uncertain_another_meaning(tmp_path):
    settings = {"labels": {"kind": "columns", "values": {"-1.0": 1, "": 0, "Yes": 1}}}
    assert split_of(tmp_path, "image,edema\na,-1.0\nb,\nc,yes\n", **settings).labels[:, 0].tolist() == [1, 0, 1]


def test_every_bad_label_is_collected_with_its_line(tmp_path):
    text = "image,edema,mass\n\n" + "".join(f"{row}.png,2,maybe\n" for row in range(4))
    found = problems_of(tmp_path, text, findings=["edema", "mass"])
    assert len(found) == 8
    assert found[0].startswith("test.csv:3: edema (column 'edema') is '2': a label is 1, 0,")
    assert found[7].startswith("test.csv:6: mass (column 'mass') is 'maybe'")
    with pytest.raises(BenchmarkError, match=r"8 problems(?s:.*)… and 3 more"):
        split_of(tmp_path, text, findings=["edema", "mass"])


def test_missing_columns_are_named_with_the_nearest(tmp_path):
    found = problems_of(tmp_path, "image,Edema,masses\na,1,1\n", findings=["edema", "mass"])
    assert found == [
        "test.csv: unknown column 'edema'; did you mean 'Edema'?",
        "test.csv: unknown column 'mass'; did you mean 'masses'?",
    ]
    by_number = {"labels": {"kind": "columns", "columns": {"edema": 3}}}
    assert problems_of(tmp_path, "image,edema\na,1\n", **by_number) == ["test.csv: unknown column '3'; known: 0, 1"]


def test_an_image_named_twice_counts_once(tmp_path):
    split = split_of(tmp_path, "image,edema\na.png,1\nb.png,0\na.png,1\n")
    assert split.labels[:, 0].tolist() == [1, 0]
    assert split.rows == ["test.csv:2", "test.csv:3"]


def test_an_image_with_conflicting_labels(tmp_path):
    found = problems_of(tmp_path, "image,edema\na.png,1\nb.png,0\na.png,0\n")
    assert found == ["test.csv:4: a.png has other labels than in test.csv:2: keep one of the rows"]


# Files


def test_a_file_in_another_encoding(tmp_path):
    (tmp_path / "test.csv").write_bytes("image,edema\nmú.png,1\n".encode("latin-1"))
    with pytest.raises(BenchmarkError, match="not UTF-8"):
        read_split(benchmark(), "test", tmp_path)
    (tmp_path / "test.csv").write_bytes("image,edema\nmú.png,1\n".encode("utf-8-sig"))
    assert read_split(benchmark(images={"column": "image"}), "test", tmp_path).paths == [tmp_path / "mú.png"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("image,edema\n", "the file has no rows"),
        ("image,edema\n\n,\n", "the file has no rows"),
        ("image,edema\na,1\nb c,1,0,0\n", "check table.separator, which is ','"),
        ("image,edema\n,1\n", "names no image"),
    ],
)
def test_unreadable_files(tmp_path, text, message):
    assert any(message in problem for problem in problems_of(tmp_path, text))


def test_what_is_missing_is_named_with_the_fix(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"test.csv, the test split of benchmark 't', is missing: give"):
        read_split(benchmark(), "test", tmp_path)
    with pytest.raises(ValueError, match=r"does not say where test.csv lies: give the folder"):
        read_split(benchmark(), "test")
    with pytest.raises(ValueError, match="unknown split 'tset'; did you mean 'test'"):
        read_split(benchmark(), "tset", tmp_path)


def test_the_benchmarks_own_root_is_used_unless_another_is_given(tmp_path):
    for folder in ("own", "given"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "test.csv").write_text("image,edema\na.png,1\n")
    chosen = benchmark(root=tmp_path / "own", images={"path": "images/{}"})
    assert read_split(chosen, "test").paths == [tmp_path / "own/images/a.png"]
    assert read_split(chosen, "test", tmp_path / "given").paths == [tmp_path / "given/images/a.png"]


def test_an_image_without_a_group(tmp_path):
    found = problems_of(tmp_path, "image,edema\np1_a.png,1\nb.png,0\n", groups={"pattern": r"^(p\d+)_"})
    assert len(found) == 1
    assert found[0].startswith("test.csv:3: 'b.png' holds no group")


def test_a_patient_is_no_nan_and_a_number_has_one_spelling(tmp_path):
    rows = "image,edema,patient\na.png,1,{}\nb.png,0,{}\nc.png,0,{}\n"
    groups = {"column": "patient"}
    assert split_of(tmp_path, rows.format("1.0", "1", "20"), groups=groups).groups == ["1", "1", "20"]
    assert split_of(tmp_path, rows.format("1.0", "p1", "20"), groups=groups).groups == ["1.0", "p1", "20"]
    found = problems_of(tmp_path, rows.format("nan", "1", "NaN"), groups=groups)
    assert [line.partition(" holds")[0] for line in found] == ["test.csv:2: 'nan'", "test.csv:4: 'NaN'"]


# Problems


def test_an_examination_keeps_what_can_be_read_and_lists_all_problems_by_line(tmp_path):
    rows = ["a.png,maybe,p1", "b.png,1,", ",0,p2", "c.png,0,p3", "c.png,1,p3", "d.png,1,p4", "d.png,1,p4"]
    (tmp_path / "test.csv").write_text("\n".join(["image,edema,patient", *rows]))
    split, problems = examine_split(
        benchmark(findings=["edema", "mass"], groups={"column": "patient"}), "test", tmp_path
    )
    assert [path.name for path in split.paths] == ["a.png", "b.png", "c.png", "d.png"]
    assert split.labels.tolist() == [[-1, -1], [1, -1], [0, -1], [1, -1]]  # there is no column mass
    assert split.groups == ["p1", "", "p3", "p4"]
    assert [(problem.kind, problem.line, problem.tolerated) for problem in problems] == [
        ("column", None, False),
        ("label_value", 2, False),
        ("bad_row", 3, False),
        ("bad_row", 4, False),
        ("label_conflict", 6, False),
        ("repeated_row", 8, True),
    ]


def test_an_examination_of_a_file_that_is_no_table_has_no_split(tmp_path):
    (tmp_path / "test.csv").write_text("")
    split, problems = examine_split(benchmark(), "test", tmp_path)
    assert (split, [str(problem) for problem in problems]) == (None, ["test.csv: the file is empty"])


def test_the_view_of_an_image_is_that_of_its_first_row(tmp_path):
    split = split_of(tmp_path, "image,edema,View Position\na.png,1,PA\nb.png,0,LL\na.png,1,AP\n")
    assert split.views == ["PA", "LL"]
    assert split.without({0}).views == ["LL"]
    assert split_of(tmp_path, "image,edema\na.png,1\n").views is None


def test_an_absolute_path_and_a_relative_one_are_one_image(tmp_path):
    rows = f"image,edema\na.png,1\n{tmp_path}/./a.png,1\n../{tmp_path.name}/a.png,1\n../a.png,0\n/else/a.png,0\n"
    split = split_of(tmp_path, rows)
    assert split.paths == [tmp_path / "a.png", tmp_path / "../a.png", Path("/else/a.png")]
    _, problems = examine_split(benchmark(), "test", tmp_path)
    assert [problem.kind for problem in problems] == ["repeated_row"] * 2
    [conflict] = problems_of(tmp_path, f"image,edema\na.png,1\n{tmp_path}/a.png,0\n")
    assert conflict.startswith("test.csv:3: a.png has other labels")


def test_texts_of_labels_that_differ_by_case_or_spelling_alone_have_one_meaning(tmp_path):
    values = {"kind": "columns", "values": {"-1.0": 1, "Yes": 1, "yes": 1}}
    assert split_of(tmp_path, "image,edema\na,-1\nb,-1.00\nc,YES\n", labels=values).labels.tolist() == [[1]] * 3
    for values in ({"Yes": 1, "yes": 0}, {"-1": 1, "-1.0": 0}):
        with pytest.raises(pydantic.ValidationError, match="are one text with two meanings"):
            benchmark(labels={"kind": "columns", "values": values})
    names = {"Oedema": "edema", "oedema": None}
    with pytest.raises(pydantic.ValidationError, match="'Oedema' and 'oedema' are one text with two meanings"):
        benchmark(labels={"kind": "list", "column": "image", "names": names})


def test_other_texts_of_a_list_are_counted_and_hold_no_known_finding(tmp_path, capfd):
    settings = {"findings": ["edema", "mass"], "labels": {"kind": "list", "column": "found", "others": "ignore"}}
    split = split_of(tmp_path, "image,found\na,edema|hernia\nb,large mass\nc,hernia\nd,\n", **settings)
    assert split.labels.tolist() == [[1, 0], [0, 0], [0, 0], [-1, -1]]
    assert "test.csv: labels.others ignores 2 other texts: 'hernia' (2), 'large mass' (1)\n" in capfd.readouterr().err
    split_of(tmp_path, "image,found\na,r|s|s|s|t|t\n", **settings)
    assert "ignores 3 other texts: 's' (3), 't' (2), 'r' (1)\n" in capfd.readouterr().err
    split_of(tmp_path, "image,found\na,q|r|r|s|s|s|t|t|t|t\n", **settings)
    assert "ignores 4 other texts: 't' (4), 's' (3), 'r' (2), …\n" in capfd.readouterr().err
    [found] = problems_of(tmp_path, "image,found\na,hernia;Edema\n", **settings)
    assert found == "test.csv:2: 'hernia;Edema' holds the finding 'Edema': labels.separator is '|'"
