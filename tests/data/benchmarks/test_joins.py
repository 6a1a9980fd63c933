"""Rows chosen by their cells, and tables joined by a key."""

import gzip

import pytest

from mavl.data.benchmarks.benchmark import BenchmarkError, examine_split, list_files, read_split
from tests.support.small_benchmarks import benchmark, positives, released

IMAGES = "dicom,study,part,view\na,s1,test,PA\nb,s1,test,LATERAL\nc,s2,train,AP\nd,s3,test,ap\ne,s4,validate,PA\n"
STUDIES = "study,edema,sex\ns1,1,F\ns3,0,M\ns9,1,M\ns2,1,F\ns4,0,F\n"
JOIN = {"file": "studies.csv", "on": "study"}


def listed(folder, table, text=IMAGES, studies=STUDIES, split="test", **settings):
    (folder / "all.csv").write_text(text)
    (folder / "studies.csv").write_text(studies)
    made = benchmark(table=table, **{"splits": {"test": "all.csv", "train": "all.csv"}} | settings)
    return read_split(made, split, folder)


def names(split):
    return [path.name for path in split.paths]


def problems(folder, table, **settings):
    with pytest.raises(BenchmarkError) as caught:
        listed(folder, table, **settings)
    return list(map(str, caught.value.problems))


def test_labels_of_studies_with_the_split_and_the_view_of_images(tmp_path):
    where = {"part": {"test": ["test"], "train": ["train", "validate"]}, "view": ["PA", "AP"]}
    table = {"where": where, "join": [JOIN]}
    test = listed(tmp_path, table, metadata={"sex": {"column": "sex"}})
    assert (names(test), test.labels.tolist(), test.rows) == (["a", "d"], [[1], [0]], ["all.csv:2", "all.csv:5"])
    assert test.metadata == {"sex": ["F", "M"]}
    train = listed(tmp_path, table, split="train")
    assert (names(train), positives(train)) == (["c", "e"], {"edema": 1})


def test_a_column_of_the_joined_table_may_choose_rows(tmp_path):
    table = {"join": [JOIN], "where": {"sex": ["M", "x"], "part": ["TEST"]}}
    assert names(listed(tmp_path, table)) == ["d"]


def test_a_joined_table_has_a_format_and_names_of_its_own(tmp_path):
    with gzip.open(tmp_path / "more.tsv.gz", "wt") as file:
        file.write("id\tedema\tage\na\t1\t40\nb\t0\t50\nc\t1\t60\nd\t1\t70\ne\t0\t80\n")
    join = [{"file": "more.tsv.gz", "on": "dicom", "key": "id", "columns": ["edema"]}, JOIN | {"columns": ["sex"]}]
    split = listed(tmp_path, {"join": join})
    assert (names(split), split.labels[:, 0].tolist()) == (list("abcde"), [1, 0, 1, 1, 0])
    made = benchmark(table={"join": join}, splits={"test": "all.csv"})
    assert [path.name for path in list_files(made, "test", tmp_path)] == ["all.csv", "more.tsv.gz", "studies.csv"]


def test_rows_without_a_partner(tmp_path):
    text = IMAGES + "f,s7,test,PA\ng,,test,PA\n"
    found = problems(tmp_path, {"join": [JOIN]}, text=text)
    assert [line.partition(":")[2][:1] for line in found] == ["7", "8"]
    assert found[0].startswith("all.csv:7: studies.csv has no row of 's7' (study): set table.join.missing to blank")
    blank = listed(tmp_path, {"join": [JOIN | {"missing": "blank"}]}, text=text)
    assert blank.labels[:, 0].tolist() == [1, 1, 1, 0, 0, -1, -1]
    assert names(listed(tmp_path, {"join": [JOIN | {"missing": "drop"}]}, text=text)) == list("abcde")


def test_several_partners(tmp_path):
    same = STUDIES + "s1,1,F\n"
    assert listed(tmp_path, {"join": [JOIN]}, studies=same).labels[:, 0].tolist() == [1, 1, 1, 0, 0]
    other = STUDIES + "s1,1,M\n"
    found = problems(tmp_path, {"join": [JOIN]}, studies=other)
    assert found == [
        "all.csv:2: 's1' has different cells in studies.csv:2 and studies.csv:7: set table.join.many for a row each, "
        "or table.join.columns to what is the same"
    ]
    chosen = {"join": [JOIN | {"columns": ["edema"]}]}
    assert listed(tmp_path, chosen, studies=other).labels[:, 0].tolist() == [1, 1, 1, 0, 0]
    boxes = {"kind": "box_rows", "finding": "f", "columns": ["box"], "size": [4, 6]}
    studies = "study,f,box\n" + "s1,edema,0;0;1;1\ns2,,\ns3,edema,0;0;2;1\ns4,,\ns1,edema,1;1;1;2\n"
    many = {"join": [JOIN | {"many": True}]}
    split = listed(tmp_path, many, studies=studies, labels={"kind": "mask"}, masks=boxes)
    assert [int(split.mask(i).sum()) for i in range(5)] == [3, 3, 0, 2, 0]


def test_a_column_of_both_tables_is_the_lists_and_may_not_differ(tmp_path):
    studies = STUDIES.replace("sex", "view").replace(",F", ",PA").replace(",M", ",AP")
    [found] = problems(tmp_path, {"join": [JOIN]}, studies=studies)
    assert found.startswith("all.csv:3: view is 'LATERAL' here and 'PA' in studies.csv:2: give the right table.join.on")
    split = listed(tmp_path, {"join": [JOIN | {"columns": ["edema"]}]}, studies=studies)
    assert split.views == ["PA", "LATERAL", "AP", "ap", "PA"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"where": {"part": ["tset"]}}, r"no row has 'tset' in column 'part', which holds 'test', 'train', 'validate'"),
        ({"where": {"prat": ["test"]}}, r"all.csv: unknown column 'prat'; did you mean 'part'"),
        ({"join": [JOIN | {"on": "studdy"}]}, r"all.csv: unknown column 'studdy'; did you mean 'study'"),
        ({"join": [JOIN | {"key": "id"}]}, r"studies.csv: unknown column 'id'"),
        ({"join": [JOIN | {"columns": ["sexx"]}]}, r"studies.csv: table.join.columns: unknown column 'sexx'; did you"),
        ({"join": [JOIN | {"file": "lost.csv"}]}, r"lost.csv, which table.join names|lost.csv: this table, which"),
        ({"join": [JOIN | {"on": "dicom", "key": "study", "missing": "drop"}]}, "none of its rows is of a dicom"),
    ],
)
def test_what_does_not_fit_is_named_with_the_fix(tmp_path, table, message):
    with pytest.raises(BenchmarkError, match=message):
        listed(tmp_path, table)
    split, found = examine_split(benchmark(table=table, splits={"test": "all.csv"}), "test", tmp_path)
    assert found
    assert split is None or len(split) == 5


def test_a_list_of_several_splits_says_which_rows_each_has():
    with pytest.raises(ValueError, match=r"table\.where\.part has nothing for the split train, valid"):
        benchmark(table={"where": {"part": {"test": ["x"]}}}, splits=dict.fromkeys(("test", "valid", "train"), "a.csv"))
    with pytest.raises(ValueError, match=r"images\.path has nothing for the split test"):
        benchmark(images={"path": {"train": "{}"}})


def test_a_joined_table_needs_a_header():
    with pytest.raises(ValueError, match="needs the names of its columns in a header"):
        benchmark(table={"join": [JOIN | {"header": False}]})


def test_numbers_choose_rows_by_value(tmp_path):
    text = "image,edema,target\na,1,1.0\nb,0,0\nc,1,1\n"
    assert names(listed(tmp_path, {"where": {"target": [1]}}, text=text)) == ["a", "c"]


def test_paths_made_of_cells(tmp_path):
    text = "image,edema,patient,study\na,1,10000001,7\nb,0,11000002,8\n"
    path = {"images": {"path": "p{patient:.2}/p{patient}/s{study}/{}.jpg"}}
    split = listed(tmp_path, {}, text=text, **path)
    found = [path.relative_to(tmp_path).as_posix() for path in split.paths]
    assert found == ["p10/p10000001/s7/a.jpg", "p11/p11000002/s8/b.jpg"]
    missing = {"images": {"path": "{patiend}/{}.jpg"}}
    assert problems(tmp_path, {}, text=text, **missing) == [
        "all.csv: unknown column 'patiend'; did you mean 'patient'?"
    ]
    for name in ("p[1]x", "p1x"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jpg").touch()
    escaped = {"images": {"path": "{patient}*/{}.jpg"}}
    split = listed(tmp_path, {}, text="image,edema,patient\na,1,p[1]\n", **escaped)
    assert split.paths == [tmp_path / "p[1]x/a.jpg"]


def test_mimic_cxr(tmp_path):
    def write(name, rows):
        with gzip.open(tmp_path / f"mimic-cxr-2.0.0-{name}.csv.gz", "wt") as file:
            file.write("\n".join(rows))

    write(
        "split",
        [
            "dicom_id,study_id,subject_id,split",
            *("d1,50,10000001,test", "d2,50,10000001,test", "d3,51,10000001,test"),
            *("d4,52,11000002,train", "d5,53,11000002,validate", "d6,54,12000003,test"),
        ],
    )
    rows = [f"d{number},{view},3056" for number, view in enumerate(["PA", "LATERAL", "AP", "AP", "PA", "AP"], start=1)]
    write("metadata", ["dicom_id,ViewPosition,Rows", *rows])
    chosen = released("mimic_cxr")
    columns = list(chosen.labels.columns.values())
    rows = ["subject_id,study_id," + ",".join(columns)]
    for study, patient, said in (
        (50, 10000001, {"Edema": "1.0", "Fracture": "-1.0"}),
        (51, 10000001, {"No Finding": "1.0"}),
        (52, 11000002, {}),
        (53, 11000002, {"Edema": "0.0"}),
    ):
        rows.append(",".join([str(patient), str(study), *(said.get(name, "") for name in columns)]))
    write("chexpert", rows)

    test = read_split(chosen, "test", tmp_path)
    found = [path.relative_to(tmp_path).as_posix() for path in test.paths]
    assert found == ["files/p10/p10000001/s50/d1.jpg", "files/p10/p10000001/s51/d3.jpg"]
    assert positives(test) == dict.fromkeys(test.findings, 0) | {"edema": 1, "normal": 1}
    assert (test.labels[0] == -1).tolist() == [name == "fracture" for name in test.findings]  # which is uncertain
    assert test.groups == ["10000001", "10000001"]
    assert test.views == test.metadata["view"] == ["PA", "AP"]
    assert [len(read_split(chosen, name, tmp_path)) for name in ("train", "valid")] == [1, 1]


def test_names_that_are_rewritten(tmp_path):
    rewrite = {"images": {"rewrite": {"pattern": r"^(p\d+)_", "by": r"\1/"}, "path": "films/{}.png"}}
    split = listed(tmp_path, {}, text="image,edema\np1_a_b,1\np2_c,0\n", **rewrite)
    assert split.paths == [tmp_path / "films/p1/a_b.png", tmp_path / "films/p2/c.png"]
    found = problems(tmp_path, {}, text="image,edema\nq1_a,1\n,0\np1_a,1\n", **rewrite)
    assert found == [
        r"all.csv:2: 'q1_a' does not fit ^(p\d+)_: check images.rewrite.pattern",
        "all.csv:3: column 0 names no image",
    ]
    with pytest.raises(ValueError, match="none of the 1 groups of the pattern"):
        benchmark(images={"rewrite": {"pattern": "(a)", "by": r"\2"}})
