"""prepare_data.py radgraph: from graphs and CSV files to what training reads, through damage, kills and other views."""

import argparse
import contextlib
import csv
import errno
import fcntl
import gzip
import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from mavl.config.data import LABELS, SPLITS, MimicData
from mavl.data.labels import LabelStore
from mavl.data.phantom import draw
from mavl.data.phantom.dataset import report_path
from mavl.data.samples import read_reports
from mavl.prepare import radgraph
from mavl.prepare.radgraph import labels as label_files
from mavl.prepare.radgraph.labels import SHAPE, draw_picture
from mavl.prepare.radgraph.mimic import METADATA
from mavl.vocab import ANATOMIES, FINDINGS

EDEMA = {"tokens": "edema", "label": "OBS-DP", "start_ix": 0, "relations": []}

ROOT = Path(__file__).resolve().parents[3]
NUMBER = 7
VIEWS = ("PA", "LATERAL", "AP")
WRITTEN = {"summary.json", "problems.csv", "statistics.csv", "statistics.png", LABELS} | {
    f"rad_graph_metric_{split}.json" for split in SPLITS
}


@pytest.fixture(scope="module")
def phantoms():
    return [draw(seed=3, index=index, size=32) for index in range(NUMBER)]


@pytest.fixture
def mimic(tmp_path, phantoms, monkeypatch):
    """A folder with graphs.json and MIMIC-CXR-JPG's CSV files: three images a study, one of each of VIEWS."""
    monkeypatch.setattr("mavl.prepare.radgraph.graphs.BATCH", 2)
    monkeypatch.setattr("mavl.prepare.radgraph.released.BATCH", 2)
    monkeypatch.setattr(label_files, "draw_picture", lambda *_: None)  # which takes most of the time
    write_graphs(tmp_path, {report_path(index): phantom.graph for index, phantom in enumerate(phantoms)})
    write_tables(tmp_path, [row for index in range(NUMBER) for row in image_rows(index)])
    return tmp_path


def write_graphs(folder: Path, reports: dict) -> None:
    (folder / "graphs.json").write_text(json.dumps(reports))


def image_rows(index: int) -> list[dict]:
    ids = {"subject_id": str(10_000_000 + index), "study_id": str(50_000_000 + index), "split": SPLITS[index % 3]}
    return [{"dicom_id": f"d{index}{view[0]}", "ViewPosition": view} | ids for view in VIEWS]


def write_tables(folder: Path, rows: list[dict], metadata: list[dict] | None = None) -> None:
    with gzip.open(folder / "mimic-cxr-2.0.0-split.csv.gz", "wt", newline="") as file:
        table = csv.DictWriter(file, ["dicom_id", "study_id", "subject_id", "split"], extrasaction="ignore")
        table.writeheader()
        table.writerows(rows)
    with open(folder / "mimic-cxr-2.0.0-metadata.csv", "w", newline="") as file:
        columns = ["dicom_id", "subject_id", "study_id", "Rows", "ViewPosition"]
        table = csv.DictWriter(file, columns, extrasaction="ignore")
        table.writeheader()
        table.writerows(reversed(rows if metadata is None else metadata))


def prepare(mimic: Path, *more: str, out: str = "out") -> Path:
    """What `prepare_data.py radgraph` does, in this process; the folder that it wrote."""
    prepare_data(["--graphs", str(mimic / "graphs.json"), "--root", str(mimic), "--out", str(mimic / out), *more])
    return mimic / out


def prepare_data(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser()
    radgraph.add_arguments(parser)
    assert radgraph.run(parser.parse_args([*arguments, "--workers", "1"])) == 0


def verify(out: Path) -> tuple[int, str]:
    """Exit code and output of `prepare_data.py radgraph --verify`."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = radgraph.run(argparse.Namespace(graphs=None, released=None, out=out, verify=True))
    return code, said.getvalue()


def manifest(out: Path, split: str) -> dict:
    return json.loads((out / f"rad_graph_metric_{split}.json").read_text())


def problems(out: Path) -> list[list[str]]:
    with open(out / "problems.csv", newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["kind", "where", "detail"]
    return rows


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.iterdir()) if path.is_file() and path.name != ".lock"}


# ---- what is written


def test_the_store_holds_the_phantoms_own_labels(mimic, phantoms):
    store = LabelStore(prepare(mimic) / LABELS)
    assert (len(store), store.array.dtype) == (NUMBER, np.int8)
    for row, phantom in enumerate(phantoms):
        np.testing.assert_array_equal(store[row], phantom.labels)


def test_a_row_takes_a_byte_a_label(mimic):
    assert (prepare(mimic) / LABELS).stat().st_size == 128 + NUMBER * 51 * 75


def test_frontal_images_are_listed_by_split_with_the_row_of_their_study(mimic):
    out = prepare(mimic)
    listed = {
        f"files/p10/p1000000{i}/s5000000{i}/d{i}{view[0]}.jpg": {"labels_id": i, "view": view}
        for i in (0, 3, 6)
        for view in ("PA", "AP")
    }
    assert manifest(out, "train") == listed
    assert [len(manifest(out, split)) for split in SPLITS] == [6, 4, 4]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["left_out_by_view"] == {"LATERAL": 7}
    assert summary["images"] == {"train": 6, "validate": 4, "test": 4}
    assert summary["problems"] == {}
    assert problems(out) == []


def test_all_views_are_listed_on_demand(mimic):
    out = prepare(mimic)
    labels = (out / LABELS).read_bytes()
    prepare(mimic, "--views", "all", "--images", "")
    assert [len(manifest(out, split)) for split in SPLITS] == [9, 6, 6]
    assert manifest(out, "test")["p10/p10000002/s50000002/d2L.jpg"] == {"labels_id": 2, "view": "LATERAL"}
    assert (out / LABELS).read_bytes() == labels


def test_training_reads_what_was_written(mimic, phantoms):
    out = prepare(mimic)
    manifest, store = out / "rad_graph_metric_validate.json", LabelStore(out / LABELS)
    samples = read_reports(manifest, store, Path("/jpg"), MimicData().prefix)
    assert samples.images[0] == "/jpg/files/p10/p10000001/s50000001/d1P.jpg"
    np.testing.assert_array_equal(samples.store[samples.images.label(len(samples) - 1)], phantoms[4].labels)


def test_the_names_are_those_that_a_training_config_expects(mimic):
    names = {path.name for path in prepare(mimic).iterdir()}
    assert {Path(getattr(MimicData(), key)).name for key in ("train_file", "valid_file", "label_file")} <= names
    assert [name for name in names if name.startswith(".")] == [".lock"]


def test_statistics_count_studies(mimic, phantoms):
    out, labels = prepare(mimic), np.stack([phantom.labels for phantom in phantoms])
    with open(out / "statistics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 51 * 75
    for row in rows:
        cell = labels[:, ANATOMIES.index(row["anatomy"]), FINDINGS.index(row["finding"])]
        assert (int(row["present"]), int(row["absent"])) == ((cell == 1).sum(), (cell == 0).sum())


def test_the_picture_shows_what_is_present_on_the_left_and_what_is_absent_on_the_right(tmp_path):
    counts = {"present": np.zeros(SHAPE, dtype=int), "absent": np.zeros(SHAPE, dtype=int)}
    counts["present"][:, :10] = 900  # of the first findings, at the top
    counts["absent"][:, -10:] = 900  # of the last ones, at the bottom
    draw_picture(counts, 900, tmp_path / "statistics.png")
    with Image.open(tmp_path / "statistics.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    redder = np.sign(pixels[:, :, 0] - pixels[:, :, 2]) * (np.ptp(pixels, axis=2) > 40)
    quarter, half = pixels.shape[0] // 4, pixels.shape[1] // 2
    top, bottom = redder[:quarter], redder[-quarter:]
    corners = [top[:, :half], top[:, half:], bottom[:, :half], bottom[:, half:]]
    assert [round(corner.mean(), 1) for corner in corners] == [0.3, 0.0, 0.0, -0.3]


# ---- problems


def test_everything_wrong_is_listed_and_nothing_stops(mimic, phantoms):
    good, edema = phantoms[0].graph, EDEMA
    graphs = {
        "p10/p10000000/s50000000.txt": good,
        "p10/p10000001/s50000001.txt": {"text": "", "entities": {}},
        "p10/p10000002/s50000002.txt": {"text": "edema", "entities": {"1": edema | {"label": "OBS-?"}}},
        "p10/p10000003/s50000003.txt": {"text": "edema", "entities": {"1": edema | {"relations": [["modify", "7"]]}}},
        "p10/p10000009/s50000009.txt": good,
        "p10/p10000008/s50000000.txt": good,
        "p10/p10000001/letter.txt": good,
        "p10/p10000004/s50000004.txt": None,
    }
    rows = [row for index in range(6) for row in image_rows(index)[:1]]
    images = [*rows, rows[0] | {"dicom_id": "d0S", "split": "valid"}, rows[0] | {"dicom_id": "d0U", "study_id": "s1"}]
    write_graphs(mimic, graphs)
    write_tables(mimic, [*images, rows[1] | {"dicom_id": "d1N"}], metadata=rows)
    with gzip.open(mimic / "mimic-cxr-2.0.0-split.csv.gz", "at") as file:
        file.write("d9,50000000\n\n")
    out = prepare(mimic)
    assert sorted((kind, where) for kind, where, _ in problems(out)) == [
        ("dangling relation", "p10/p10000003/s50000003.txt"),
        ("empty report", "p10/p10000001/s50000001.txt"),
        ("graph without images", "s50000009"),
        ("image without metadata", "files/p10/p10000001/s50000001/d1N.jpg"),
        ("name of no study", "p10/p10000001/letter.txt"),
        ("report is no graph", "p10/p10000004/s50000004.txt"),
        ("study with two graphs", "s50000000"),
        ("study without graph", "s50000004"),
        ("study without graph", "s50000005"),
        ("unknown label", "p10/p10000002/s50000002.txt"),
        ("unknown split", "mimic-cxr-2.0.0-split.csv.gz:8"),
        ("unreadable row", "mimic-cxr-2.0.0-split.csv.gz:11"),
        ("unreadable row", "mimic-cxr-2.0.0-split.csv.gz:9"),
    ]
    assert sum(json.loads((out / "summary.json").read_text())["problems"].values()) == 13
    assert [list(manifest(out, split).values()) for split in SPLITS] == [
        [{"labels_id": 0, "view": "PA"}, {"labels_id": 3, "view": "PA"}],
        [{"labels_id": 1, "view": "PA"}],
        [{"labels_id": 2, "view": "PA"}],
    ]
    assert len(LabelStore(out / LABELS)) == 7


def test_graphs_that_no_program_takes_are_listed_and_nothing_stops(mimic, phantoms):
    edema = {"tokens": "edema", "label": "OBS-DP", "start_ix": 0, "relations": []}
    graphs = {
        "p10/p10000000/s50000000.txt": phantoms[0].graph,
        "p10/p10000001/s50000001.txt": {"text": "edema", "entities": {"1": edema | {"label": "\ud800"}}},
        "p10/p10000002/s50000002.txt": {"text": "edema", "entities": {"1": edema | {"start_ix": "x"}}},
        "p10/p10000004/s50000004.txt": {"text": "edema"},
        "p10/p10000005/s50000005.txt": "DEEP",
        "p10/p10000006/s50000006.txt": "LONG",
        "p10/p10000003/s50000003.txt": phantoms[3].graph,
    }
    deep = json.dumps({"text": "edema", "entities": {"1": edema | {"label": "DEEP"}}})
    text = json.dumps(graphs).replace('"LONG"', "9" * 5000).replace('"DEEP"', deep, 1)
    (mimic / "graphs.json").write_text(text.replace('"DEEP"', "[" * 3000 + "]" * 3000))
    write_tables(mimic, [image_rows(index)[0] for index in range(7)])
    out = prepare(mimic)
    assert sorted((kind, where) for kind, where, _ in problems(out)) == [
        ("malformed entity", "p10/p10000002/s50000002.txt"),
        *(("report is no graph", f"p10/p1000000{index}/s5000000{index}.txt") for index in (4, 5, 6)),
        *(("study without graph", f"s5000000{index}") for index in (4, 5, 6)),
        ("unknown label", "p10/p10000001/s50000001.txt"),
    ]
    assert "\\ud800 of entity 1" in (out / "problems.csv").read_text()
    assert [list(manifest(out, split).values()) for split in SPLITS] == [
        [{"labels_id": 0, "view": "PA"}, {"labels_id": 3, "view": "PA"}],
        [{"labels_id": 1, "view": "PA"}],
        [{"labels_id": 2, "view": "PA"}],
    ]
    np.testing.assert_array_equal(LabelStore(out / LABELS)[3], phantoms[3].labels)


def test_graphs_without_any_label_of_radgraph_are_refused(mimic):
    other = {"tokens": "edema", "label": "Problem", "start_ix": 0, "relations": []}
    write_graphs(mimic, {"p10/p10000000/s50000000.txt": {"text": "edema", "entities": {"1": other}}})
    message = r"graphs\.json: no entity has a label of RadGraph 1\.0\.0 .*; p10/.*\.txt has Problem of entity 1"
    with pytest.raises(ValueError, match=message):
        prepare(mimic)
    assert not (mimic / "out" / LABELS).exists()


def test_reports_of_no_image_are_refused(mimic):
    """The radgraph package numbers its reports."""
    write_graphs(mimic, {"0": json.loads((mimic / "graphs.json").read_text())["p10/p10000000/s50000000.txt"]})
    with pytest.raises(
        ValueError, match=r"none of its reports belongs to an image of --root; '0' names no study, expec"
    ):
        prepare(mimic)
    write_graphs(mimic, {"s1.txt": {"text": "edema", "entities": {"1": EDEMA}}})
    with pytest.raises(ValueError, match=r"none of its reports belongs to an image of --root "):
        prepare(mimic)


def test_lateral_images_alone_need_all_views(mimic):
    write_tables(mimic, [row for row in image_rows(0) if row["ViewPosition"] == "LATERAL"])
    with pytest.raises(ValueError, match=r"1 image of other views \(.*: LATERAL 1\), and none to list; --views all"):
        prepare(mimic)


def test_of_the_other_views_the_five_most_frequent_are_named(mimic):
    views = ["LL", "LATERAL", "RL", "LPO", "XTABLE", "SWIMMERS"]
    ids = {"subject_id": "10000000", "study_id": "50000000", "split": "train"}
    rows = [
        {"dicom_id": f"{view}{copy}", "ViewPosition": view} | ids
        for rank, view in enumerate(views)
        for copy in range(9 - rank)
    ]
    write_tables(mimic, rows)
    with pytest.raises(ValueError, match=r"\(.*: LL 9, LATERAL 8, RL 7, LPO 6, XTABLE 5\), and none to list"):
        prepare(mimic)


def test_a_row_of_another_length_is_listed_and_never_shifts_cells(mimic):
    edit(mimic, "metadata.csv", ",PA", ",AP,PA")
    edit(mimic, "metadata.csv", "d4P,", "")
    assert [problem for problem in problems(prepare(mimic)) if "row" in problem[0] or "without" in problem[0]] == [
        ["unreadable row", "mimic-cxr-2.0.0-metadata.csv:4", "6 cells in 5 columns"],
        ["unreadable row", "mimic-cxr-2.0.0-metadata.csv:10", "4 cells in 5 columns"],
        [
            "image without metadata",
            "files/p10/p10000004/s50000004/d4P.jpg",
            f"{METADATA} has no row of it",
        ],
        [
            "image without metadata",
            "files/p10/p10000006/s50000006/d6P.jpg",
            f"{METADATA} has no row of it",
        ],
    ]


def test_the_shared_file_of_radgraph_xl_gives_its_labels(shared, tmp_path):
    case = shared("cases/radgraph_xl_labels")
    prepare_data(["--graphs", str(case / "graphs_xl.json"), "--root", str(case / "root"), "--out", str(tmp_path)])
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["present"], summary["absent"], summary["problems"]) == (3, 3, {})
    matrix = LabelStore(tmp_path / LABELS)[0]
    assert matrix[ANATOMIES.index("heart_size"), FINDINGS.index("enlarge")] == 1
    assert matrix[ANATOMIES.index("pleural_unspec"), FINDINGS.index("effusion")] == 0


def test_an_image_that_several_rows_name_counts_once(mimic):
    row = image_rows(0)[0]
    write_tables(mimic, [row | {"split": "none"}, row, row, *image_rows(1), row | {"split": "test"}])
    out = prepare(mimic)
    path = "files/p10/p10000000/s50000000/d0P.jpg"
    assert [problem for problem in problems(out) if problem[0] == "image twice"] == [
        *(["image twice", f"{METADATA}:{line}", "d0P again, as 'PA'; the first row counts"] for line in (6, 7, 8)),
        ["image twice", path, "again at mimic-cxr-2.0.0-split.csv.gz:4, as train; the first row counts"],
        ["image twice", path, "again at mimic-cxr-2.0.0-split.csv.gz:8, as test; the first row counts"],
    ]
    assert (out / "rad_graph_metric_train.json").read_text().count(path) == 1
    assert manifest(out, "test") == {}


def test_a_damaged_table_is_told_before_the_labels_are_made(mimic, monkeypatch):
    monkeypatch.setattr(radgraph, "write_labels", lambda *_: pytest.fail("labels are made"))
    with gzip.open(mimic / "mimic-cxr-2.0.0-split.csv.gz", "at") as file:
        file.write("".join(f"d{n},{n * n},1,train\n" for n in range(1000)))
    cut_short(mimic / "mimic-cxr-2.0.0-split.csv.gz")
    with pytest.raises(ValueError, match=r"cannot be read to its end .*; download it again"):
        prepare(mimic)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: (m / "mimic-cxr-2.0.0-split.csv.gz").unlink(), "holds no mimic-cxr-2.0.0-split.csv.gz; --root is"),
        (lambda m: (m / "mimic-cxr-2.0.0-metadata.csv").write_text("a,b\n1,2\n"), "has no column dicom_id, ViewPosit"),
        (lambda m: cut_short(m / "mimic-cxr-2.0.0-split.csv.gz"), "cannot be read to its end .*; download it again"),
        (lambda m: (m / "graphs.json").unlink(), r"graphs\.json: no such file; --graphs is"),
        (lambda m: (m / "graphs.json").write_text("{}"), r"graphs\.json: holds no report"),
        (lambda m: (m / "graphs.json").write_text('[{"0": {}}]'), r"graphs\.json: is a list; expected an object"),
        (lambda m: (m / "graphs.json").write_text('{"a": {"sentences": []}}'), r"a is no graph \(expected an object"),
        (lambda m: edit(m, "metadata.csv", ",Rows,", ",ViewPosition,"), "has no column ViewPosition, or has it twice"),
        (lambda m: bomb(m / "mimic-cxr-2.0.0-split.csv.gz"), "csv.gz: more than 536,870,912 bytes after unpacking"),
        (
            lambda m: cut_short(m / "graphs.json"),
            r"damaged or cut short at byte [\d,]+, after p10/p10000005/s50000005\.txt \(.*download it",
        ),
    ],
)
def test_a_source_that_cannot_be_used_is_one_line(mimic, change, message):
    change(mimic)
    with pytest.raises(ValueError, match=message) as error:
        prepare(mimic)
    assert "\n" not in str(error.value)
    assert type(error.value).__module__.startswith("mavl.")


def cut_short(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - 20])


def edit(folder: Path, name: str, old: str, new: str) -> None:
    """Replace a text where it is first in a table of MIMIC-CXR-JPG."""
    path = folder / f"mimic-cxr-2.0.0-{name}"
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new, 1))


def bomb(path: Path) -> None:
    """600 MB of one line in some 600 KB."""
    with gzip.open(path, "wb", 9) as file:
        for _ in range(600):
            file.write(bytes(1 << 20))


def test_the_script_says_what_is_missing_and_exits_with_two(tmp_path):
    command = [sys.executable, "prepare_data.py", "radgraph", "--graphs", "g.json", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == (
        "error: --root is missing: splits and views of the images are in MIMIC-CXR-JPG's CSV files\n"
    )


# ---- replaced together at the end


def test_a_download_that_was_cut_short_changes_nothing(mimic):
    before = contents(prepare(mimic))
    path = mimic / "graphs.json"
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(b"s50000005")])
    with pytest.raises(ValueError, match=r"cut short at .*, after p10/p10000004/s50000004\.txt"):
        prepare(mimic)
    assert contents(mimic / "out") == before
    path.write_bytes(whole)
    assert contents(prepare(mimic)) == before


def test_a_later_source_takes_the_place_of_an_earlier_one(mimic, phantoms):
    prepare(mimic)
    write_graphs(mimic, {report_path(index): phantoms[0].graph for index in range(5)})
    store = LabelStore(prepare(mimic) / LABELS)
    assert len(store) == 5
    np.testing.assert_array_equal(store[3], phantoms[0].labels)


def test_a_matrix_from_elsewhere_is_not_written_over(mimic, released):
    before = contents(released)
    with pytest.raises(ValueError, match=r"adj_mtx\.npy was not written by this command; choose another --out"):
        prepare(mimic, out="released")
    with pytest.raises(ValueError, match="which are read, would be written over; choose another --out"):
        prepare_data(["--released", str(released), "--root", str(mimic), "--out", str(released)])
    assert contents(released) == before


def test_what_is_read_is_not_written_over(mimic, released):
    out = prepare(mimic)
    before = contents(out)
    (mimic / "same").symlink_to(out)
    for source in ("out", "same"):
        with pytest.raises(ValueError, match="which are read, would be written over; choose another --out"):
            prepare_data(["--released", str(mimic / source), "--root", str(mimic), "--out", str(out)])
    assert contents(out) == before


@pytest.mark.slow
def test_killed_processes_leave_no_half_output_and_nobody_behind(mimic, phantoms):
    write_graphs(mimic, {report_path(index): phantoms[index % NUMBER].graph for index in range(4000)})
    command = [sys.executable, "prepare_data.py", "radgraph", "--graphs", str(mimic / "graphs.json"), "--workers", "2"]
    command += ["--root", str(mimic), "--out", str(mimic / "out")]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True)
    wait_until(lambda: any(path.stat().st_size for path in (mimic / "out").glob(f".drafts/.{LABELS}.*")))
    workers = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not psutil.wait_procs(workers, timeout=20)[1]
    assert contents(mimic / "out").keys().isdisjoint(WRITTEN)

    subprocess.run(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    assert contents(mimic / "out").keys() == WRITTEN  # no draft of the first run is left
    store = LabelStore(mimic / "out" / LABELS)
    assert len(store) == 4000
    for row in range(0, 4000, 37):
        np.testing.assert_array_equal(store[row], phantoms[row % NUMBER].labels)


def wait_until(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("room", [1000, 80_000])
def test_a_full_disk_names_the_file_and_leaves_the_former_ones(mimic, room):
    """The label file of this fixture has some 46 KB, the picture more than 80."""
    before = contents(prepare(mimic))
    write_graphs(mimic, {"s50000000": json.loads((mimic / "graphs.json").read_text())["p10/p10000001/s50000001.txt"]})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(OSError, match=LABELS if room == 1000 else "statistics") as caught:
            prepare(mimic)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert contents(mimic / "out") == before
    after = contents(prepare(mimic))
    assert {name for name in before if after[name] == before[name]} < WRITTEN - {LABELS}


def test_links_in_the_output_folder_are_replaced(mimic):
    before = contents(prepare(mimic))
    mine = mimic / "mine"
    mine.write_text("mine")
    for name in before:
        (mimic / "out" / name).unlink()
        (mimic / "out" / name).symlink_to(mine)
    assert contents(prepare(mimic)) == before
    assert mine.read_text() == "mine"
    assert not any(path.is_symlink() for path in (mimic / "out").iterdir())


def test_two_at_once_are_refused(mimic):
    out = prepare(mimic)
    with open(out / ".lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="out is being written by another process"):
            prepare(mimic)
    prepare(mimic)


# ---- verified


def test_any_flipped_byte_of_the_labels_is_found(mimic):
    out = prepare(mimic)
    path, content = out / LABELS, bytearray((out / LABELS).read_bytes())
    assert verify(out) == (0, f"{path}: every label is as it was written\n")
    for place in [*range(128), *range(128, len(content), 97)]:
        content[place] ^= 1
        path.write_bytes(content)
        assert verify(out) == (1, f"{path}: damaged; make it again\n"), place
        content[place] ^= 1
    path.write_bytes(content + b"\0")
    assert verify(out)[0] == 1
    clean = contents(prepare(mimic, "--verify"))
    assert clean[LABELS] == content


@pytest.mark.parametrize("summary", [None, "{", "{}"])
def test_without_a_checksum_there_is_nothing_to_verify_by(mimic, summary):
    """As in a folder that an earlier version wrote."""
    out = prepare(mimic)
    (out / "summary.json").unlink() if summary is None else (out / "summary.json").write_text(summary)
    with pytest.raises(ValueError, match=r"summary\.json: holds no checksum of the labels; make them again"):
        verify(out)


# ---- the released files


@pytest.fixture
def released(mimic, phantoms):
    """The files that the published labels come in, of the same studies: float64, and paths of the author's machine."""
    folder = mimic / "released"
    folder.mkdir()
    np.save(folder / LABELS, np.stack([phantom.labels for phantom in phantoms]).astype(np.float64))
    for split in SPLITS:
        entries = {
            f"{MimicData().prefix}/p10/p{row['subject_id']}/s{row['study_id']}/{row['dicom_id']}.jpg": {
                "labels_id": index,
                "annotation": "x",
            }
            for index in range(NUMBER)
            for row in image_rows(index)
            if row["split"] == split
        }
        (folder / f"rad_graph_metric_{split}.json").write_text(json.dumps(entries))
    return folder


@pytest.mark.parametrize("views", ["frontal", "all"])
def test_the_released_files_give_the_same_store(mimic, released, views):
    ours = contents(prepare(mimic, "--views", views))
    prepare_data(["--released", str(released), "--root", str(mimic), "--out", str(mimic / "theirs"), "--views", views])
    theirs = contents(mimic / "theirs")
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == ["summary.json"]  # which names the source
    assert (mimic / "theirs" / LABELS).stat().st_size * 7 < (released / LABELS).stat().st_size


def test_without_root_the_released_files_are_taken_as_they_are(mimic, released):
    prepare_data(["--released", str(released), "--out", str(mimic / "theirs"), "--views", "all"])
    entry = manifest(mimic / "theirs", "train")["files/p10/p10000000/s50000000/d0L.jpg"]
    assert entry == {"labels_id": 0, "view": None}


def test_what_is_wrong_with_released_files_is_listed(mimic, released):
    matrix = np.load(released / LABELS)
    matrix[1, 2, 3], matrix[1, 2, 4], matrix[2, 0, 0] = np.nan, 7, 2
    np.save(released / LABELS, matrix)
    entries = {"/x/p10/p10000000/s50000000/d0P.jpg": {"labels_id": 0}, "odd.jpg": {"labels_id": 1}, "off": {}}
    for split in SPLITS:
        (released / f"rad_graph_metric_{split}.json").write_text(json.dumps({"p10/p1/s1/a.jpg": {"labels_id": 0}}))
    (released / "rad_graph_metric_train.json").write_text(json.dumps(entries))
    prepare_data(["--released", str(released), "--out", str(mimic / "theirs"), "--views", "all"])
    found = [(kind, where) for kind, where, _ in problems(mimic / "theirs")]
    assert found == [
        ("value that is no label", "row 1"),
        ("faulty entry", "rad_graph_metric_train.json"),
        ("path of no MIMIC image", "rad_graph_metric_train.json: odd.jpg"),
    ]
    assert problems(mimic / "theirs")[1][2].startswith("off: labels_id is None")
    store = LabelStore(mimic / "theirs" / LABELS)
    assert (store[1][2, 3], store[1][2, 4], store[2][0, 0]) == (-1, -1, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: (r / LABELS).unlink(), "no such file; --released is the folder"),
        (lambda r: (r / "rad_graph_metric_test.json").unlink(), r"test\.json: no such file; --released is the folder"),
        (lambda r: cut_short(r / LABELS), "length is greater than file size.*; download it again"),
        (lambda r: np.save(r / LABELS, np.zeros((3, 75, 51))), r"expected \[studies, 51, 75\]"),
        (lambda r: (r / LABELS).write_bytes(b"PK"), "not an NPY file of numbers"),
        (lambda r: cut_short(r / "rad_graph_metric_test.json"), r"test\.json: not JSON .*; download it again"),
    ],
)
def test_released_files_that_cannot_be_used_are_named(mimic, released, change, message):
    change(released)
    with pytest.raises(ValueError, match=message):
        prepare_data(["--released", str(released), "--root", str(mimic), "--out", str(mimic / "theirs")])
