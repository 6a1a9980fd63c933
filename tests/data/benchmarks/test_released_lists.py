"""Split files as they were released, and the samples: paths, labels, groups and masks, counted by other means."""

import shutil
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from mavl.data.benchmarks.benchmark import BenchmarkError, read_split
from tests.support.small_benchmarks import positives, problems_of, released


@pytest.fixture
def head(shared, tmp_path):
    """head("rsna", "test", "rsna__test.csv") -> that split, read from the real file's head at its released place."""

    def read(name: str, split: str, file: str):
        chosen = released(name)
        shutil.copyfile(shared(f"data/csv/{file}"), tmp_path / chosen.splits[split])
        return read_split(chosen, split, tmp_path)

    return read


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
    with pytest.raises(ValueError, match="has no mask of"):
        split.mask(0)
