"""An installed wheel works in a folder of its own: it holds the books, configs, tables and templates."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import tiny
from tests.support.processes import ROOT, environment

CHECK = """
import sys
from pathlib import Path

import mavl
from mavl.config.loader import load
from mavl.config.settings import ASPECT_BOOKS, DESCRIPTION_BOOKS, PretrainSettings
from mavl.data.benchmarks.benchmark import Benchmark
from mavl.prepare.radgraph.rules import finding_column
from mavl.report.page import render
from mavl.text.books import read_books
from mavl.text.synonyms import resolve
from mavl.vocab import FINDINGS

installed, model, film = map(Path, sys.argv[1:])
assert Path(mavl.__file__).is_relative_to(installed), mavl.__file__
assert (installed / "mavl" / "py.typed").exists()
books = read_books(DESCRIPTION_BOOKS, ASPECT_BOOKS)
books.require(FINDINGS)
assert resolve("enlarged heart", FINDINGS) == "cardiomegaly"
assert finding_column("opacities") == FINDINGS.index("opacity")
assert load(Benchmark, Path("configs/benchmarks/rsna.yaml")).name
assert load(PretrainSettings, Path("configs/MAVL_resnet.yaml")).text.descriptions == DESCRIPTION_BOOKS
predictor = mavl.load(str(model))
[prediction] = predictor.predict([film], ["effusion", "rib fracture"])
assert prediction.findings == ("effusion", "rib fracture")
assert (installed / "mavl/report/templates/base.html").exists()
assert len(mavl.load().predict([film])[0].findings) == 14
print("fine")
"""


@pytest.mark.slow
def test_a_wheel_works_outside_the_checkout(tmp_path):
    source, wheels, installed = tmp_path / "source", tmp_path / "wheels", tmp_path / "installed"
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith(("tests/", "docs/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(wheels), str(source)]
    subprocess.run([*pip, *build], check=True, timeout=300)
    [wheel] = wheels.glob("mavl-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", str(installed), str(wheel)], check=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    model, films = tiny.write_model(tmp_path), tiny.write_films(elsewhere)
    line = [sys.executable, "-c", CHECK, str(installed), str(model), str(films / "grey.png")]
    paths = {"PYTHONPATH": str(installed)}
    done = subprocess.run(line, cwd=elsewhere, env=environment() | paths, capture_output=True, text=True, timeout=300)
    assert done.stdout.endswith("fine\n"), done.stderr[-2000:]
    assert not Path(elsewhere, "runs").exists()
