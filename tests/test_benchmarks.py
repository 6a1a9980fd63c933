"""Split files into paths, labels, groups and masks: heads of the released files, the samples, and small ones."""

import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pydantic
import pytest
import yaml
from PIL import Image

from mavl.config import dump, load
from mavl.data.benchmarks import Benchmark, BenchmarkError, SplitError, read_split
from mavl.data.masks import BoxMask, MaskFile, RunLengthMask, resize_mask
from mavl.vocab import FINDINGS

CONFIGS = Path(__file__).resolve().parents[1] / "configs" / "benchmarks"
NAMES = sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def released(name: str) -> Benchmark:
    return load(Benchmark, CONFIGS / f"{name}.yaml")


def benchmark(**settings) -> Benchmark:
    plain = {
        "name": "t",
        "title": "t",
        "findings": ["edema"],
        "splits": {"test": "test.csv"},
        "labels": {"kind": "columns"},
    }
    return Benchmark.model_validate(plain | settings)


def split_of(folder: Path, text: str, **settings):
    (folder / "test.csv").write_text(text)
    return read_split(benchmark(**settings), "test", folder)


def problems_of(folder: Path, text: str, **settings) -> list[str]:
    with pytest.raises(BenchmarkError) as caught:
        split_of(folder, text, **settings)
    return caught.value.problems


@pytest.fixture
def head(shared, tmp_path):
    """head("rsna", "test", "rsna__test.csv") -> that split, read from the real file's head at its released place."""

    def read(name: str, split: str, file: str):
        chosen = released(name)
        shutil.copyfile(shared(f"data/csv/{file}"), tmp_path / chosen.splits[split])
        return read_split(chosen, split, tmp_path)

    return read


def positives(split) -> dict[str, int]:
    return dict(zip(split.findings, (split.labels == 1).sum(axis=0).tolist(), strict=True))


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
        ({"groups": {}}, "a column, a pattern or both"),
        ({"images": {"column": -1}}, "greater than or equal to 0"),
        ({"masks": {"kind": "boxes", "column": 2, "size": [0, 4]}}, "greater than 0"),
        (
            {"findings": ["edema", "mass"], "masks": {"kind": "boxes", "column": 2, "size": [4, 4]}},
            "show one finding, not 2: use kind box_rows, or {finding}",
        ),
        (
            {"labels": {"kind": "mask"}, "masks": {"kind": "file", "path": "{finding}/{}.png"}},
            "needs labels that tell which files there are",
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


# The heads of the released files; counts were taken from them with awk


def test_chexpert_test_and_validation_have_different_columns(head):
    test = head("chexpert5", "test", "chexpertv1__filter_test_labels.csv")
    assert positives(test) == {"cardiomegaly": 16, "edema": 4, "consolidation": 2, "atelectasis": 15, "effusion": 14}
    assert test.labels.dtype == np.int8
    assert test.groups[0] == "patient64741"
    assert test.rows[-1] == "filter_test_labels.csv:60"
    assert test.paths[0].parts[-4:] == ("test", "patient64741", "study1", "view1_frontal.jpg")
    valid = head("chexpert5", "valid", "chexpertv1__valid.csv")
    assert positives(valid) == {"cardiomegaly": 11, "edema": 7, "consolidation": 7, "atelectasis": 16, "effusion": 8}
    assert valid.groups[1] == valid.groups[2] == "patient64542"


def test_chexpert14_in_the_order_of_its_columns(head):
    test = head("chexpert14", "test", "chexpertv1__filter_test_labels.csv")
    assert list(positives(test).values()) == [11, 33, 16, 25, 4, 4, 2, 1, 15, 0, 14, 1, 1, 22]
    assert test.labels[0].tolist() == [0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]


def test_chestxray14_prefix_patients_and_counts(head, tmp_path):
    test = head("chestxray14", "test", "xray14__official_test.csv")
    assert list(positives(test).values()) == [2, 12, 9, 10, 12, 1, 1, 20, 0, 1, 16, 0, 5, 8]
    assert test.paths[0] == tmp_path / "images_001/images/00000003_000.png"
    assert Counter(test.groups) == {"3": 8, "13": 47, "32": 4}
    plain = head("chestxray14", "test", "xray14__test.csv")
    assert plain.paths == test.paths
    assert (plain.labels == test.labels).all()
    valid = head("chestxray14", "valid", "xray14__official_valid.csv")
    assert list(positives(valid).values()) == [8, 5, 11, 14, 1, 1, 0, 3, 0, 0, 2, 2, 4, 0]


def test_rsna_names_its_columns_differently_in_test_and_validation(head):
    test = head("rsna", "test", "rsna__test.csv")
    valid = head("rsna", "valid", "rsna__val.csv")
    assert (len(test), positives(test)) == (59, {"pneumonia": 11})
    assert (len(valid), positives(valid)) == (59, {"pneumonia": 19})
    for split in (test, valid):
        assert [mask.empty for mask in split.masks["pneumonia"]] == (split.labels[:, 0] == 0).tolist()
        assert {path.suffix for path in split.paths} == {".dcm"}


def test_rsna_box_is_x_y_w_h(head):
    test = head("rsna", "test", "rsna__test.csv")
    image = test.rows.index("test.csv:15")  # 611.0;553.0;206.0;205.0
    expected = np.zeros((1024, 1024), bool)
    expected[553 : 553 + 205, 611 : 611 + 206] = True
    assert (test.mask(image) == expected).all()
    two = test.mask(test.rows.index("test.csv:48"))  # 197;291;289;454 and 683;265;247;524, which do not touch
    assert two.sum() == 289 * 454 + 247 * 524


def test_siim_runs_go_down_the_columns_from_the_end_of_the_run_before(head):
    test = head("siim_acr", "test", "siimacr__test.csv")
    assert (len(test), positives(test)) == (59, {"pneumothorax": 21})
    mask = test.mask(0)
    # " 308411 2 1020 4 …": pixel 308411 = 301 · 1024 + 187, and 308413 + 1020 = 302 · 1024 + 185.
    assert np.flatnonzero(mask[:, 301]).tolist() == [187, 188]
    assert np.flatnonzero(mask[:, 302]).tolist() == [185, 186, 187, 188]
    assert not mask[:, :301].any()
    text = (test.paths[0].parents[1] / "test.csv").read_text().splitlines()[1].split(",")[1]
    assert mask.sum() == sum(int(number) for number in text.split()[1::2])


def test_siim_masks_look_like_pneumothoraces(head):
    splits = [head("siim_acr", "test", "siimacr__test.csv"), head("siim_acr", "valid", "siimacr__val.csv")]
    masks = [mask.read() for split in splits for mask in split.masks["pneumothorax"] if not mask.empty]
    assert len(masks) == 21 + 18
    centres = np.array([np.argwhere(mask).mean(axis=0) for mask in masks])
    # Air rises: most lie in the upper half. Both lungs are hit: left and right halves have their share.
    assert (centres[:, 0] < 512).mean() > 0.75
    assert 0.25 < (centres[:, 1] < 512).mean() < 0.75
    for mask in masks:  # one region: neighbouring columns overlap, but for a gap or two
        columns = np.flatnonzero(mask.any(axis=0))
        assert (np.diff(columns) > 1).sum() <= 1


def test_covidx_fields_are_patient_file_and_word(head, tmp_path):
    test = head("covidx_cxr2", "test", "covidx-cxr2__test_split.csv")
    assert (len(test), positives(test)) == (60, {"covid19": 33})
    assert test.labels[:3, 0].tolist() == [0, 1, 0]
    assert test.groups[1] == "A113004"
    name = "A113004-01-11-1901-NA-CHEST_AP_PORT-47446-1.000000-AP-63257-1-1.jpg"
    assert test.paths[1] == tmp_path / "train" / name
    assert test.rows[1] == "test_split.csv:2"
    assert positives(head("covidx_cxr2", "valid", "covidx-cxr2__val_split.csv")) == {"covid19": 23}


def test_covid_rural_labels_are_read_from_the_masks(shared, tmp_path):
    names = shared("data/csv/covid_rural__test.csv").read_text().split()[1:]
    (tmp_path / "pngs_masks").mkdir()
    for number, name in enumerate(names):
        mask = Image.new("L", (5, 4))
        if number % 3 == 0:
            mask.putpixel((4, 1), 255)
        mask.save(tmp_path / "pngs_masks" / f"{name}.png")
    shutil.copyfile(shared("data/csv/covid_rural__test.csv"), tmp_path / "test.csv")
    test = read_split(released("covid_rural"), "test", tmp_path)
    assert (len(test), positives(test)) == (45, {"covid19": 15})
    assert test.labels[:4, 0].tolist() == [1, 0, 0, 1]
    assert test.groups[0] == "COVID-19-AR-16424120"
    assert test.paths[0] == tmp_path / "jpgs" / f"{names[0]}.jpg"
    assert np.argwhere(test.mask(0)).tolist() == [[1, 4]]


# The samples with images


def test_nih_sample_is_disjoint_by_patient(shared):
    root = shared("data/nih")
    splits = {name: read_split(released("nih_sample"), name, root) for name in ("train", "valid", "test")}
    assert {name: len(split) for name, split in splits.items()} == {"train": 440, "valid": 103, "test": 181}
    assert list(positives(splits["test"]).values()) == [16, 1, 11, 32, 1, 1, 80, 4, 7, 13, 0, 0, 2, 0]
    patients = [set(split.groups) for split in splits.values()]
    assert len(set.union(*patients)) == sum(map(len, patients)) == 494
    assert all(path.is_file() for split in splits.values() for path in split.paths)


def test_covid_masks_sample_has_a_mask_for_every_image(shared):
    root = shared("data/covid_masks")
    splits = [read_split(released("covid_masks_sample"), name, root) for name in ("train", "valid", "test")]
    assert [len(split) for split in splits] == [18, 6, 6]
    first = splits[0]
    with Image.open(first.paths[0]) as image:
        assert first.mask(0).shape == (image.height, image.width)
    # all.csv gives the share of the image that the opacity covers: 0.4058 in 6db67ae523aa, the first of train.csv.
    assert first.mask(0).mean() == pytest.approx(0.4058296, abs=1e-3)


# The shapes of which no released file is here


def test_mura_labels_and_patients_are_in_the_path(tmp_path):
    (tmp_path / "MURA-v1.1").mkdir()
    (tmp_path / "MURA-v1.1/valid_image_paths.csv").write_text(
        "MURA-v1.1/valid/XR_WRIST/patient11185/study1_positive/image1.png\n"
        "MURA-v1.1/valid/XR_WRIST/patient11186/study1_negative/image1.png\n"
    )
    split = read_split(released("mura"), "test", tmp_path)
    assert split.labels.tolist() == [[1], [0]]
    assert split.groups == ["patient11185", "patient11186"]
    assert split.rows == ["valid_image_paths.csv:1", "valid_image_paths.csv:2"]


def test_mura_path_that_says_nothing(tmp_path):
    labels = {"kind": "path", "positive": "_positive/", "negative": "_negative/"}
    found = problems_of(tmp_path, "study1_positive/a.png\nstudy1/b.png\n", table={"header": False}, labels=labels)
    assert found == ["test.csv:2: study1/b.png holds neither of '_positive/' and '_negative/'"]


def test_lera_has_a_row_for_each_image_below_an_id(tmp_path):
    (tmp_path / "labels.csv").write_text("4002,XR HIP,1\n4003,XR KNEE,0\n")
    for name in ("4002/ST-1/b.png", "4002/ST-1/a.png", "4002/ST-2/c.png", "4003/ST-1/d.png", "4004/ST-1/unlisted.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    split = read_split(released("lera"), "test", tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in split.paths] == [
        "4002/ST-1/a.png",
        "4002/ST-1/b.png",
        "4002/ST-2/c.png",
        "4003/ST-1/d.png",
    ]
    assert split.labels[:, 0].tolist() == [1, 1, 1, 0]
    assert split.groups == ["4002", "4002", "4002", "4003"]
    assert split.rows == ["labels.csv:1"] * 3 + ["labels.csv:2"]


def test_lera_id_without_images(tmp_path):
    (tmp_path / "labels.csv").write_text("4002,XR HIP,1\n")
    with pytest.raises(BenchmarkError, match=r"labels.csv:1: no image matches .*4002/\*/\*.png"):
        read_split(released("lera"), "test", tmp_path)


def test_lera_row_without_an_id(tmp_path):
    (tmp_path / "labels.csv").write_text(",XR HIP,1\n")
    with pytest.raises(BenchmarkError, match=r"labels.csv:1: column 0 names no image"):
        read_split(released("lera"), "test", tmp_path)


def test_padchest_columns_may_stand_in_any_order(tmp_path):
    chosen = released("padchest_seen")
    columns = ["ImageID", "other", *reversed([chosen.labels.columns.get(name, name) for name in chosen.findings])]
    values = ["a.png", "x", *["0"] * 14]
    values[columns.index("pleural effusion")] = "1"
    (tmp_path / "test.csv").write_text(",".join(columns) + "\n" + ",".join(values) + "\n")
    split = read_split(chosen, "test", tmp_path)
    assert [name for name, count in positives(split).items() if count] == ["effusion"]
    assert split.groups is None
    with pytest.raises(ValueError, match="no masks"):
        split.mask(0)


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
        "unknown column 'edema'; did you mean 'Edema'?",
        "unknown column 'mass'; did you mean 'masses'?",
    ]
    by_number = {"labels": {"kind": "columns", "columns": {"edema": 3}}}
    assert problems_of(tmp_path, "image,edema\na,1\n", **by_number) == ["unknown column '3'; known: 0, 1"]


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
    assert found[0].startswith("test.csv:3: 'b.png' tells no group")


# Masks

RLE = {"labels": {"kind": "mask"}, "masks": {"kind": "rle", "column": "mask", "size": [4, 3]}}
BOXES = {"labels": {"kind": "mask"}, "masks": {"kind": "boxes", "column": "mask", "size": [4, 6]}}


def test_runs_in_a_small_frame():
    # 4 rows, 3 columns: pixels 3 and 4 end the first column and begin the second; 5 + 4 = 9 is row 1 of the third.
    expected = [[0, 1, 0], [0, 0, 1], [0, 0, 0], [1, 0, 0]]
    assert RunLengthMask.parse(" 3 2 4 1", (4, 3)).read().astype(int).tolist() == expected


def test_rows_of_one_image_are_united(tmp_path):
    split = split_of(tmp_path, "image,mask\na, -1\nb, 3 2\nc,-1\nb, 9 1\n", **RLE)
    assert split.labels[:, 0].tolist() == [0, 1, 0]
    assert np.argwhere(split.mask(1)).tolist() == [[0, 1], [1, 2], [3, 0]]
    assert split.mask(0).shape == (4, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3 2 4", "are 3 numbers, not pairs"),
        ("3 x", "'3 x' are not all whole numbers"),
        ("3 -2", "hold the negative number -2"),
        ("3 2 4 4", "runs end at pixel 13 of 12: check masks.size (4, 3)"),
    ],
)
def test_malformed_runs(tmp_path, text, message):
    (found,) = problems_of(tmp_path, f"image,mask\na,-1\nb,{text}\n", **RLE)
    assert found.startswith("test.csv:3: ")
    assert message in found


def test_boxes_are_cut_at_the_frame_and_united():
    mask = BoxMask.parse("-1.0;1.9;3.0;2.0|4;3;9;9", (4, 6)).read()
    assert np.argwhere(mask).tolist() == [[1, 0], [1, 1], [2, 0], [2, 1], [3, 4], [3, 5]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1;1;2", "'1;1;2' is not four numbers x;y;w;h"),
        ("1;1;2;two", "is not four numbers"),
        ("1;1;2;inf", "is not four numbers"),
        ("1;1;2;0", "holds no pixel of the 4 x 6 frame"),
        ("6;1;2;2", "holds no pixel"),
    ],
)
def test_malformed_boxes(tmp_path, text, message):
    (found,) = problems_of(tmp_path, f"image,mask\na,\nb,0;0;1;1|{text}\n", **BOXES)
    assert found.startswith("test.csv:3: box ")
    assert message in found


ROWS = {
    "findings": ["edema", "mass"],
    "labels": {"kind": "mask"},
    "masks": {
        "kind": "box_rows",
        "finding": "finding",
        "names": {"Tumour": "mass"},
        "columns": ["x", "y", "w", "h"],
        "size": [4, 6],
    },
}


def test_a_row_holds_one_box_of_one_finding(tmp_path):
    text = "image,finding,x,y,w,h\na,Edema,0,0,1,1\nb,Tumour,4.9,1,1,2\na,mass,1,0,9,1\na,EDEMA,2,3,1,1\n"
    split = split_of(tmp_path, text, **ROWS)
    assert split.labels.tolist() == [[1, 1], [-1, 1]]  # of edema in b the list says nothing
    assert split.rows == ["test.csv:2", "test.csv:3"]
    assert np.argwhere(split.mask(0, "edema")).tolist() == [[0, 0], [3, 2]]
    assert np.argwhere(split.mask(0, "mass")).tolist() == [[0, 1], [0, 2], [0, 3], [0, 4], [0, 5]]
    assert np.argwhere(split.mask(1, "mass")).tolist() == [[1, 4], [2, 4]]
    with pytest.raises(SplitError, match=r"test.csv:3: .*b has no mask of edema"):
        split.mask(1, "edema")
    fewer = split.select(["mass"]).without({0})
    assert (fewer.labels.tolist(), list(fewer.masks)) == ([[1]], ["mass"])
    assert fewer.mask(0).sum() == 2


def test_boxes_of_unknown_findings_and_bad_numbers_are_all_reported(tmp_path):
    text = "image,finding,x,y,w,h\na,Oedema,0,0,1,1\nb,mass,6,0,1,1\nc,mass,0,0,,1\nd,mass,0,0,1,1\n"
    unknown, outside, blank = problems_of(tmp_path, text, **ROWS)
    assert unknown.startswith("test.csv:2: a box of an unknown finding 'Oedema'; did you mean 'edema'?")
    assert outside.startswith("test.csv:3: box '6;0;1;1' holds no pixel of the 4 x 6 frame")
    assert blank.startswith("test.csv:4: box '0;0;;1' is not four numbers")


def test_chestxray14_boxes_in_the_official_list(tmp_path):
    (tmp_path / "images_002/images").mkdir(parents=True)
    (tmp_path / "images_002/images/00013118_008.png").touch()
    heading = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"
    row = "00013118_008.png,Atelectasis,225.084745762712,547.019216763771,86.7796610169492,79.1864406779661,,,\n"
    (tmp_path / "BBox_List_2017.csv").write_text(heading + row)
    split = read_split(released("chestxray14_boxes"), "test", tmp_path)
    assert split.paths == [tmp_path / "images_002/images/00013118_008.png"]
    assert split.groups == ["13118"]
    assert dict(zip(split.findings, split.labels[0].tolist(), strict=True))["atelectasis"] == 1
    mask = split.mask(0, "atelectasis")
    assert mask[547:626, 225:311].all()
    assert mask.sum() == 79 * 86


def test_nih_sample_boxes(shared):
    split = read_split(released("nih_sample_boxes"), "test", shared("data/nih"))
    counts = {"cardiomegaly": 1, "effusion": 1, "infiltrate": 1, "mass": 1, "pneumonia": 29, "pneumothorax": 1}
    assert (len(split), positives(split)) == (30, counts)
    box = split.mask(0, "cardiomegaly")  # 168.9,254.8,208.8,201.8
    assert (box.shape, box.sum()) == ((512, 512), 208 * 201)
    assert box[254:455, 168:376].all()


def test_mask_files_of_several_findings(tmp_path):
    settings = {"findings": ["edema", "mass"], "masks": {"kind": "file", "path": "masks/{finding}/{}.png"}}
    for finding, image in (("edema", "a"), ("mass", "a"), ("mass", "b")):
        (tmp_path / "masks" / finding).mkdir(parents=True, exist_ok=True)
        pixels = np.array([[finding == "edema", True]])
        Image.fromarray(pixels).save(tmp_path / f"masks/{finding}/{image}.png")
    split = split_of(tmp_path, "image,edema,mass\na,1,1\nb,0,1\nc,,0\n", **settings)
    assert split.mask(0, "edema").tolist() == [[True, True]]
    assert split.mask(0, "mass").tolist() == split.mask(1, "mass").tolist() == [[False, True]]
    assert split.masks["edema"][1:] == [None, None]
    (found,) = problems_of(tmp_path, "image,edema,mass\na,1,1\nb,1,1\n", **settings)
    assert re.match(r"test.csv:3: mask .*masks/edema/b.png is missing", found)


def test_masks_are_shrunk_to_the_pixels_that_centres_fall_on():
    mask = np.zeros((4, 9), bool)
    mask[1, 4] = mask[3, 0] = True
    # 4 rows to 2: the centres lie on rows 1 and 3; 9 columns to 2: on 2.25 and 6.75; to 3: on 1.5, 4.5, 7.5.
    assert not resize_mask(mask, 2).any()
    assert resize_mask(mask[:3], 3).astype(int).tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert resize_mask(np.eye(2, dtype=bool), 4).astype(int).tolist() == [[1, 1, 0, 0]] * 2 + [[0, 0, 1, 1]] * 2


@pytest.mark.parametrize("mode", ["1", "L", "P", "I;16", "RGBA"])
def test_mask_files_of_every_mode(tmp_path, mode):
    if mode == "I;16":
        image = Image.fromarray(np.array([[0, 0, 300]], np.uint16))
    else:
        image = Image.fromarray(np.array([[0, 0, 255]], np.uint8)).convert("RGB").convert(mode)
    image.save(tmp_path / "mask.png")
    mask = MaskFile(tmp_path / "mask.png")
    assert mask.read().tolist() == [[False, False, True]]
    assert not mask.empty


def test_missing_mask_files_are_all_named(tmp_path):
    settings = {"labels": {"kind": "mask"}, "masks": {"kind": "file", "path": "masks/{}.png"}}
    found = problems_of(tmp_path, "image\na\nb\n", **settings)
    assert len(found) == 2
    assert re.match(r"test.csv:3: mask .*masks/b.png is missing: check masks.path", found[1])
