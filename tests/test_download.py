"""download.sh against a real HTTP server on this machine, and a gdown that behaves as the real one does."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "download.sh"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n"

GDOWN = '''
"""gdown's command line as download.sh uses it: partial files beside the output, refusals on stderr, exit code 1."""
import json, os, pathlib, sys

home = pathlib.Path(os.environ["FAKE_DRIVE"])
arguments = sys.argv[1:]
with (home / "calls").open("a") as calls:
    calls.write(" ".join(arguments) + "\\n")
if arguments == ["--help"]:
    sys.exit(print("usage: gdown [--json] [--continue] url_or_id"))
plan = json.loads((home / "plan.json").read_text())
if "--json" in arguments:
    print("Retrieving folder contents", file=sys.stderr)
    entries = [{"url": f"https://drive.google.com/uc?id={name}", "path": path} for name, path in plan["paths"].items()]
    sys.exit(print(json.dumps(entries)))
name, output = arguments[-1].rpartition("=")[2], pathlib.Path(arguments[arguments.index("--output") + 1])
content, moods = (home / name).read_bytes(), plan["moods"].get(name, [])
mood = moods.pop(0) if moods else "well"
(home / "plan.json").write_text(json.dumps(plan))
part = output.with_name(output.name + "abcd1234.part")
done = part.stat().st_size if "--continue" in arguments and part.exists() else 0
if mood == "cut":
    part.write_bytes(content[: len(content) // 2])
    sys.exit("Error: connection reset")
if mood == "refused":
    sys.exit("Failed to retrieve file url: Too many users have viewed or downloaded this file recently.")
if mood == "page":
    content, done = b"<!DOCTYPE html><html>Quota exceeded</html>", 0
(home / "resumed").write_text(str(done))
with part.open("ab" if done else "wb") as file:
    file.write(content[done:])
part.rename(output)
'''


class GitHub(BaseHTTPRequestHandler):
    """A repository: its listing, raw files and LFS files, with ranges; `cuts`: how often a path is cut off half-way."""

    def do_GET(self):
        server = self.server
        path = unquote(self.path)
        server.asked.append((path, self.headers.get("Range")))
        if path.startswith("/tree"):
            return self._answer(json.dumps({"tree": server.tree()}).encode())
        content = server.files.get(path)
        if content is None:
            return self.send_error(404)
        if server.cuts.get(path, 0):
            server.cuts[path] -= 1
            return self._answer(content, cut=True)
        self._answer(content)

    def _answer(self, content: bytes, cut: bool = False) -> None:
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : start + (len(content) - start) // 2] if cut else content[start:])

    def log_message(self, *arguments):
        pass


class Repository(ThreadingHTTPServer):
    """files: by /raw/PATH and /lfs/PATH; asked: every (path, range); blobs: checksums that are listed wrongly."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), GitHub)
        self.files, self.cuts, self.asked, self.blobs = {}, {}, [], {}

    def tree(self) -> list[dict]:
        def sha(content: bytes) -> str:
            return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

        raw = {path.removeprefix("/raw/"): content for path, content in self.files.items() if path.startswith("/raw/")}
        return [{"type": "blob", "path": path, "sha": self.blobs.get(path, sha(raw[path]))} for path in raw]


@pytest.fixture
def github():
    server = Repository()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def drive(tmp_path):
    """drive({id: (path, content)}, moods={id: ["cut", …]}) sets up the folder that the fake gdown serves."""
    home, binaries = tmp_path / "drive", tmp_path / "bin"
    home.mkdir()
    binaries.mkdir()
    (binaries / "gdown").write_text(f"#!{sys.executable}{GDOWN}")
    (binaries / "gdown").chmod(0o755)

    def place(files: dict[str, tuple[str, bytes]], moods: dict[str, list[str]] | None = None) -> Path:
        for name, (_, content) in files.items():
            (home / name).write_bytes(content)
        paths = {name: path for name, (path, _) in files.items()}
        (home / "plan.json").write_text(json.dumps({"paths": paths, "moods": moods or {}}))
        return home

    return place


def download(tmp_path: Path, *arguments: str, server: Repository | None = None) -> subprocess.CompletedProcess:
    url = "http://127.0.0.1:1" if server is None else f"http://127.0.0.1:{server.server_port}"
    environment = os.environ | {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "FAKE_DRIVE": str(tmp_path / "drive"),
        "MAVL_TREE_URL": f"{url}/tree?recursive=1",
        "MAVL_RAW_URL": f"{url}/raw",
        "MAVL_LFS_URL": f"{url}/lfs",
        "MAVL_PAUSE": "0",
        "MAVL_TRIES": "3",
        "no_proxy": "127.0.0.1",
    }
    line = ["bash", str(SCRIPT), *arguments, "--out", str(tmp_path / "out")]
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=60)


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


BOOK = "Pretrain/data_file/observation explanation.json"
SPLIT = "data/rsna/test.csv"


def test_books_and_splits_come_whole_with_their_checksums(tmp_path, github):
    github.files = {
        f"/raw/{BOOK}": b'{"edema": "fluid"}',
        "/raw/Pretrain/concept_gen/gpt4_mimic.json": b"{}",
        "/raw/Pretrain/concept_gen/gpt3_mimic_important_chest.json": b"other",
        f"/raw/{SPLIT}": b"ID,img_path\n",
        "/raw/data/covidx-cxr2/train_split.csv": b"a b c\n",
        "/raw/README.md": b"# readme",
    }
    finished = download(tmp_path, "--only", "books", server=github)
    assert finished.returncode == 0, finished.stderr
    finished = download(tmp_path, "--only", "splits", server=github)
    assert finished.returncode == 0, finished.stderr
    got = files(tmp_path / "out")
    sums = got.pop("SHA256SUMS").decode()
    assert got == {
        f"released_books/{BOOK}": b'{"edema": "fluid"}',
        "released_books/Pretrain/concept_gen/gpt4_mimic.json": b"{}",
        SPLIT: b"ID,img_path\n",
        "data/covidx-cxr2/train_split.csv": b"a b c\n",
    }
    checked = subprocess.run(["sha256sum", "--check", "--strict", "-"], input=sums, cwd=tmp_path / "out", text=True)
    assert checked.returncode == 0
    assert len(sums.splitlines()) == 4


def test_what_is_there_is_not_asked_for_again_but_checked(tmp_path, github):
    github.files = {f"/raw/{SPLIT}": b"ID,img_path\n"}
    download(tmp_path, "--only", "splits", server=github)
    github.asked.clear()
    again = download(tmp_path, "--only", "splits", server=github)
    assert again.returncode == 0
    assert [path for path, _ in github.asked if "/raw/" in path] == []
    (tmp_path / "out" / SPLIT).write_bytes(b"ID,img_patH\n")
    refused = download(tmp_path, "--only", "splits", server=github)
    assert refused.returncode == 1
    assert f"error: {tmp_path / 'out' / SPLIT} is no longer what was downloaded" in refused.stderr


def test_a_connection_that_is_cut_is_gone_on_with(tmp_path, github):
    content = bytes(range(256)) * 400
    github.files, github.cuts = {f"/raw/{SPLIT}": content}, {f"/raw/{SPLIT}": 2}
    finished = download(tmp_path, "--only", "splits", server=github)
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / "out" / SPLIT).read_bytes() == content
    half, three_quarters = len(content) // 2, len(content) // 2 + len(content) // 4
    ranges = [asked for path, asked in github.asked if path == f"/raw/{SPLIT}"]
    assert ranges == [None, f"bytes={half}-", f"bytes={three_quarters}-"]


def test_a_connection_that_stays_cut_leaves_nothing_half_written(tmp_path, github):
    content = bytes(range(256)) * 400
    github.files, github.cuts = {f"/raw/{SPLIT}": content}, {f"/raw/{SPLIT}": 3}
    finished = download(tmp_path, "--only", "splits", server=github)
    assert finished.returncode == 1
    assert f"error: {SPLIT} could not be downloaded from" in finished.stderr
    assert not (tmp_path / "out" / SPLIT).exists()
    resumed = download(
        tmp_path, "--only", "splits", server=github
    )  # the second run goes on where the first one gave up
    assert resumed.returncode == 0
    assert github.asked[-1][1] == f"bytes={len(content) * 7 // 8}-"
    assert (tmp_path / "out" / SPLIT).read_bytes() == content


def test_a_file_that_is_not_what_github_lists_is_refused(tmp_path, github):
    github.files, github.blobs = {f"/raw/{SPLIT}": b"damaged"}, {SPLIT: "0" * 40}
    finished = download(tmp_path, "--only", "splits", server=github)
    assert finished.returncode == 1
    assert f"the checksum is not {'0' * 40}" in finished.stderr
    assert len([path for path, _ in github.asked if path == f"/raw/{SPLIT}"]) == 3
    assert files(tmp_path / "out").keys().isdisjoint({SPLIT, "SHA256SUMS"})


NAMES = ["data/../../escaped.csv", "data//x.csv", "data/./x.csv", "data/a\x1b.csv", "data/a\\b.csv", "data/a\tb.csv"]


@pytest.mark.parametrize("name", NAMES)
def test_a_listed_name_never_leaves_the_folder(tmp_path, github, name):
    github.files = {f"/raw/{SPLIT}": b"good"}
    listed = [*github.tree(), {"type": "blob", "path": name, "sha": github.tree()[0]["sha"]}]
    github.files[f"/raw/{name}"] = b"good"
    github.tree = lambda: listed
    finished = download(tmp_path, "--only", "splits", server=github)
    assert finished.returncode == 0, finished.stderr
    assert files(tmp_path / "out").keys() == {SPLIT, "SHA256SUMS"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert f"left out {name!r}" in finished.stderr


def test_the_shared_names_are_left_out(shared, tmp_path, github):
    names = json.loads(shared("cases/download_traversal/names.json").read_text())
    github.files = {f"/raw/{name}": b"x" for name in names}
    finished = download(tmp_path, "--only", "splits", server=github)
    assert finished.returncode == 1
    assert "left out 'data/../../escaped.csv'" in finished.stderr
    assert files(tmp_path) == {} or set(files(tmp_path)) <= {"out/.download/tree.json", "out/.download/files"}


@pytest.mark.parametrize("source", ["x\t../../y", "--output=/tmp/x", "0" * 39])
def test_a_listed_checksum_or_address_that_is_none_is_left_out(tmp_path, github, source):
    github.files, github.blobs = {f"/raw/{SPLIT}": b"x", "/raw/data/a.csv": b"a"}, {SPLIT: source}
    finished = download(tmp_path, "--only", "splits", server=github)
    assert finished.returncode == 0, finished.stderr
    assert files(tmp_path / "out").keys() == {"data/a.csv", "SHA256SUMS"}
    assert f"left out {SPLIT!r}" in finished.stderr


def test_links_in_the_folder_are_not_followed(tmp_path, github):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    (out / "data" / "rsna").mkdir(parents=True)
    elsewhere.mkdir()
    for name in ("a", "b", "c"):
        (elsewhere / name).write_text("mine")
    (out / ".download").mkdir()
    (out / SPLIT).symlink_to(elsewhere / "none")
    (out / "SHA256SUMS").symlink_to(elsewhere / "a")
    for name in ("tree.json", "files", "SHA256SUMS", "data_rsna_test.csv.part"):
        (out / ".download" / name).symlink_to(elsewhere / "b")
    github.files = {f"/raw/{SPLIT}": b"x"}
    finished = download(tmp_path, "--only", "splits", server=github)
    assert finished.returncode == 0, finished.stderr
    assert files(out).keys() == {SPLIT, "SHA256SUMS"}
    assert not (out / SPLIT).is_symlink()
    assert files(elsewhere) == dict.fromkeys("abc", b"mine")


@pytest.mark.parametrize("place", ["data", ".download"])
def test_a_folder_that_is_a_link_is_refused(tmp_path, github, place):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (out / place).symlink_to(elsewhere)
    github.files = {f"/raw/{SPLIT}": b"x"}
    finished = download(tmp_path, "--only", "splits", server=github)
    assert finished.returncode == 1
    assert " is a link" in finished.stderr
    assert files(elsewhere) == {}


def test_a_pointer_of_git_lfs_is_followed(tmp_path, github):
    content = b"ID,img_path\n" * 1000
    pointer = POINTER.format(hashlib.sha256(content).hexdigest(), len(content)).encode()
    github.files = {f"/raw/{SPLIT}": pointer, f"/lfs/{SPLIT}": content}
    finished = download(tmp_path, "--only", "splits", server=github)
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / "out" / SPLIT).read_bytes() == content
    assert files(tmp_path / "out").keys() == {SPLIT, "SHA256SUMS"}
    (tmp_path / "out" / SPLIT).unlink()
    github.files[f"/lfs/{SPLIT}"] = content[:-1] + b"!"
    damaged = download(tmp_path, "--only", "splits", server=github)
    assert damaged.returncode == 1
    assert "could not be downloaded from Git LFS" in damaged.stderr
    assert not (tmp_path / "out" / SPLIT).exists()


def test_a_file_that_is_gone_is_not_asked_for_again_and_again(tmp_path, github):
    github.files = {f"/raw/{SPLIT}": b"x"}
    tree = github.tree()
    github.files, github.tree = {}, lambda: tree
    assert download(tmp_path, "--only", "splits", server=github).returncode == 1
    assert len([path for path, _ in github.asked if path == f"/raw/{SPLIT}"]) == 1


def test_a_server_that_is_not_reached_is_told_from_one_that_refuses(tmp_path, github):
    unreached = download(tmp_path, "--only", "splits").stderr
    assert "could not be had from http://127.0.0.1:1/tree?recursive=1; curl said why above" in unreached
    assert "an hour" not in unreached
    github.RequestHandlerClass = type("Refusing", (GitHub,), {"do_GET": lambda self: self.send_error(403)})
    assert "it answers 60 questions an hour" in download(tmp_path, "--only", "splits", server=github).stderr


CHECKPOINT, LABELS = b"PK weights " * 100, b"\x93NUMPY labels " * 100
DRIVE = {"id1": ("runs/checkpoint_full_46.pth", CHECKPOINT), "id2": ("landmark_observation_adj_mtx.npy", LABELS)}


def test_label_files_and_checkpoints_are_told_apart(tmp_path, drive):
    home = drive(DRIVE)
    assert download(tmp_path, "--only", "checkpoints").returncode == 0
    assert files(tmp_path / "out").keys() == {"checkpoints/checkpoint_full_46.pth", "SHA256SUMS"}
    assert download(tmp_path, "--only", "data").returncode == 0
    assert (tmp_path / "out/data_file/landmark_observation_adj_mtx.npy").read_bytes() == LABELS
    before = (home / "calls").read_text().count("--continue")
    assert download(tmp_path, "--only", "data").returncode == 0
    assert (home / "calls").read_text().count("--continue") == before == 2


@pytest.mark.parametrize("path", ["..", "folder/..", "a\n.pth", "/etc/"])
def test_names_of_drive_that_are_none_are_left_out(tmp_path, drive, path):
    drive(DRIVE | {"id3": (path, b"x"), "id4": ("files", b"a file called files"), "id5": ("errors", b"e")})
    finished = download(tmp_path, "--only", "data")
    assert finished.returncode == 0, finished.stderr
    labels = "data_file/landmark_observation_adj_mtx.npy"
    assert files(tmp_path / "out").keys() == {labels, "data_file/files", "data_file/errors", "SHA256SUMS"}
    assert (tmp_path / "out/data_file/files").read_bytes() == b"a file called files"


def test_a_cut_download_from_drive_is_gone_on_with(tmp_path, drive):
    home = drive(DRIVE, {"id1": ["cut"]})
    finished = download(tmp_path, "--only", "checkpoints")
    assert finished.returncode == 0, finished.stderr
    assert (home / "resumed").read_text() == str(len(CHECKPOINT) // 2)
    assert (tmp_path / "out/checkpoints/checkpoint_full_46.pth").read_bytes() == CHECKPOINT


@pytest.mark.parametrize("mood", ["refused", "page"])
def test_when_drive_refuses_it_says_so_and_what_to_do(tmp_path, drive, mood):
    home = drive(DRIVE, {"id1": [mood]})
    finished = download(tmp_path, "--only", "checkpoints")
    assert finished.returncode == 1
    assert "Google Drive refuses checkpoint_full_46.pth" in finished.stderr
    assert "run this again tomorrow" in finished.stderr
    assert "https://drive.google.com/uc?id=id1" in finished.stderr
    assert (home / "calls").read_text().count("--continue") == 1  # asking again at once would not help
    assert not (tmp_path / "out/checkpoints").exists()


def test_a_changed_checkpoint_is_found_on_the_second_run(tmp_path, drive):
    drive(DRIVE)
    download(tmp_path, "--only", "checkpoints")
    checkpoint = tmp_path / "out/checkpoints/checkpoint_full_46.pth"
    checkpoint.write_bytes(CHECKPOINT.replace(b"PK", b"Pk", 1))
    again = download(tmp_path, "--only", "checkpoints")
    assert again.returncode == 1
    assert "is no longer what was downloaded" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "images"], "error: --only images: expected data, checkpoints, books or splits"),
        (["--only", ""], "error: --only needs a value (./download.sh --help)"),
        (["--only", " "], "error: --only needs a value (./download.sh --help)"),
        (["--all"], "error: unknown argument --all (./download.sh --help)"),
    ],
)
def test_mistaken_arguments_are_told(tmp_path, arguments, message):
    finished = download(tmp_path, *arguments)
    assert (finished.returncode, finished.stderr.strip()) == (1, message)
