"""The trainings: MAVL as in configs/films.yaml, what it is compared with, and MAVL without one finding."""

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mavl.config.loader import load
from mavl.config.settings import ASPECT_BOOKS, DESCRIPTION_BOOKS, PretrainSettings
from mavl.text.books import Books, read_books
from mavl.text.wordings import write_books

CONFIG = Path("configs/films.yaml")
MAVL = "MAVL"
PLAIN = {
    "linear head": Path("configs/finetune_cls/films_plain.yaml"),
    "ResNet-18, linear head": Path("configs/finetune_cls/films_resnet18.yaml"),
}
"""{arm: config of its fine-tuning}."""
COMPARED = ("random text", "shuffled books", "one aspect")
HELD = ("effusion", "cardiomegaly", "pneumothorax", "emphysema", "mass", "consolidation")
DONE = "done"


def trained_findings() -> tuple[str, ...]:
    return load(PretrainSettings, CONFIG).findings


def without(finding: str) -> str:
    """The name of the training without a finding."""
    return f"without {finding}"


def shuffled(books: Books, findings: Sequence[str]) -> Books:
    """The books of these findings, each with the sentences of the one after the next."""
    others = [*findings[2:], *findings[:2]]
    return Books({name: books.sentences[other] for name, other in zip(findings, others, strict=True)}, {})


def overrides(arm: str, out: Path) -> list[str]:
    """What differs from the configuration of MAVL."""
    findings = trained_findings()
    if arm == "random text":
        return ["text.encoder=random"]
    if arm == "one aspect":
        return ["model.aspects=[description]"]
    if arm == "shuffled books":
        books = read_books(DESCRIPTION_BOOKS, ASPECT_BOOKS)
        files = write_books(out / "shuffled_books", shuffled(books, findings))
        return [f"text.{kind}={list(paths)}" for kind, paths in files.items()]
    return [f"findings={[name for name in findings if arm != without(name)]}"] if arm != MAVL else []


def folder(out: Path, arm: str, seed: int) -> Path:
    """The run folder."""
    return out / arm.replace(" ", "_") / f"seed_{seed}"


def train(root: Path, out: Path, runs: Sequence[tuple[str, int]], jobs: int) -> None:
    """Train (arm, seed) of `runs`, so many at a time, of one thread; what was begun goes on, what is done stays."""
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(lambda run: _train(root, out, *run), runs))


def _train(root: Path, out: Path, arm: str, seed: int) -> None:
    run = folder(out, arm, seed)
    if (run / DONE).exists():
        return
    if arm in PLAIN:  # fine-tuning makes seed_N itself
        config, parent = str(PLAIN[arm]), str(run.parent)
        line = ["finetune_cls.py", "--config", config, "--seeds", str(seed), "--output_dir", parent]
        changed = []
    else:
        line = ["train_mavl.py", "--config", str(CONFIG), "--output_dir", str(run)]
        changed = [f"train.seed={seed}", *overrides(arm, out)]
    line += ["--root", str(root), "--resume", *(part for change in changed for part in ("--override", change))]
    run.mkdir(parents=True, exist_ok=True)
    with open(run.with_suffix(".txt"), "a") as log:
        one = os.environ | {"OMP_NUM_THREADS": "1"}
        code = subprocess.run([sys.executable, *line], stdout=log, stderr=subprocess.STDOUT, env=one).returncode
    print(f"{arm}, seed {seed}: {'done' if code == 0 else f'failed, see {log.name}'}", flush=True)
    if code == 0:
        (run / DONE).touch()
