"""Which text encoder, and which treatment of its vectors, finds what training has never named?

python -m benchmarks.encoders --out runs/encoders --seeds 0 1 2     trains what is missing in runs.csv, then the table
python -m benchmarks.encoders --out runs/encoders --seeds           the table alone

Each run trains the model of configs/demo.yaml at 64 pixels, 1,800 steps, without three findings, and scores all of them
on 600 phantoms with several texts. A run takes 80 to 90 seconds of one core and is one line of runs.csv. Two folds hold
out six findings in turn. Every text is scaled by the map of the run's training text. "shuffled" gives each finding
the text of another one (the mean of three permutations): what then remains is not read from the text.
"""

import argparse
import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before the next line imports torch

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score
from torch import Tensor

from mavl.config.loader import load
from mavl.config.settings import PretrainSettings
from mavl.cpu import keep_freed_memory
from mavl.data import phantom
from mavl.data.loading import to_device
from mavl.data.pretraining import EpochBatches, open_data
from mavl.model.losses import Targets, pretraining_losses
from mavl.model.mavl import MAVL
from mavl.model.scores import HEADS, scores
from mavl.progress import progress_bar
from mavl.text.books import Books, read_books
from mavl.text.embeddings import TextEmbeddings, build_embeddings
from mavl.text.encoder import load_text_encoder
from mavl.text.encoders.random_bert import write_random_bert
from mavl.text.protocol import TextEncoder
from mavl.text.scaling import ScalingName
from mavl.text.wordings import built_in_wordings
from mavl.train.optim import build_optimizer, build_scheduler
from mavl.vocab import ANATOMIES, HEALTHY, anatomy_sentence

FOLDS = (("mass", "tube", "effusion"), ("nodule", "pacemaker", "pneumothorax"))
WORDINGS = ("books", "descriptions", "names", "shuffled")
PERMUTATIONS = 3
TESTED, TEST_SEED = 600, 1
SMALL = ("model.image_size=64", "data.train=1600", "init.backbone=none")


@dataclass(frozen=True)
class Contender:
    """An encoder and what is done with its vectors. encoder: "random" has other weights for every seed."""

    encoder: str
    options: dict[str, Any] = field(default_factory=dict)
    scaling: ScalingName = "none"
    text_norm: bool = False


CONTENDERS = {
    "random": Contender("random"),
    "MiniLM, CLS": Contender("minilm", {"pooling": "cls", "normalize": False}),
    "MiniLM, mean": Contender("minilm"),
    "MiniLM, mean, standardized": Contender("minilm", scaling="standardize"),
    "MiniLM, mean, whitened": Contender("minilm", scaling="whiten"),
    "MiniLM, mean, LayerNorm": Contender("minilm", text_norm=True),
}


@dataclass(frozen=True)
class Fold:
    """The settings and the phantoms of a fold: `train` holds what a loader gives, one row an image, epoch by epoch."""

    held: tuple[str, ...]
    settings: PretrainSettings
    train: dict[str, Tensor]
    images: Tensor
    labels: np.ndarray

    @property
    def named(self) -> tuple[str, ...]:
        """The columns of `labels`: the trained findings, then those held out."""
        return (*self.settings.findings, *self.held)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of runs.csv")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2], help="none: the table alone")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    keep_freed_memory()
    runs = options.out / "runs.csv"
    for seed in options.seeds:
        for number, held in enumerate(FOLDS):
            for name in options.contenders:
                run = {"contender": name, "fold": number, "seed": seed}
                if not _done(runs, run):
                    _append(runs, run | train_and_score(name, open_fold(held, options.out), seed, options.out))
    print(table(pd.read_csv(runs)))


def open_fold(held: Sequence[str], folder: Path) -> Fold:
    """Made once for all runs and kept in the folder."""
    known = [name for name in (*HEALTHY, *phantom.FINDINGS) if name not in held]
    overrides = (f"findings={known}", f"data.exclude={list(held)}", *SMALL)
    settings = load(PretrainSettings, Path("configs/demo.yaml"), overrides)
    size, path = settings.model.image_size, folder / f"without_{held[0]}.safetensors"
    if not path.exists():
        dataset = open_data(settings, MAVL(**_arguments(settings, 1)).preprocessing).train
        keys = [(epoch, index) for epoch in range(settings.schedule.epochs) for index in range(len(dataset))]
        items = [dataset[key] for key in progress_bar(keys, description=path.stem, unit="phantom")]
        save_file(
            {name: torch.stack([item[name] for item in items]) for name in ("image", "labels", "locations")}, path
        )
    tested = [phantom.draw(TEST_SEED, index, size) for index in range(TESTED)]
    images = torch.stack([torch.from_numpy(each.image)[None] for each in tested])
    labels = np.stack([phantom.truth(each, (*known, *held)) for each in tested])
    return Fold(tuple(held), settings, load_file(path), images, labels)


def _arguments(settings: PretrainSettings, text_width: int) -> dict[str, Any]:
    return settings.model.model_dump(mode="json") | {"text_width": text_width}


def train_and_score(name: str, fold: Fold, seed: int, folder: Path) -> dict[str, float]:
    """{"wording head finding": AUROC} of one run."""
    contender = CONTENDERS[name]
    books = read_books(fold.settings.text.descriptions, fold.settings.text.aspects)
    encoder = _encoder(contender, books, seed, folder)
    text = build_embeddings(books, fold.settings.findings, encoder, fold.settings.model.aspects)
    text = text.with_own_scaling(contender.scaling)
    model = _train(fold, text, contender.text_norm, seed, f"{name}, {fold.held[0]}, {seed}")
    figures: dict[str, list[float]] = {}
    with torch.no_grad():
        parts = to_device({"image": fold.images}, torch.device("cpu"), model.preprocessing)["image"].split(50)
        features = [model.encode_image(part) for part in parts]
        for wording, changed in _wordings(books, fold, seed):
            embeddings = build_embeddings(changed, fold.named, encoder, model.aspects).scaled(text.scaling)
            queries = model.encode_text(embeddings.vectors)
            outputs = [model.decode(part, queries) for part in features]
            for head in HEADS:
                found = torch.cat([scores(output, embeddings, fold.named, head) for output in outputs])
                for column, finding in enumerate(fold.named):
                    if finding not in HEALTHY:
                        auroc = roc_auc_score(fold.labels[:, column], found[:, column])
                        figures.setdefault(f"{wording} {head} {finding}", []).append(float(auroc))
    return {key: round(float(np.mean(values)), 4) for key, values in figures.items()}


def _encoder(contender: Contender, books: Books, seed: int, folder: Path) -> TextEncoder:
    if contender.encoder != "random":
        return load_text_encoder(contender.encoder, **contender.options)
    sentences = [sentence for aspects in books.sentences.values() for sentence in aspects.values()]
    written = write_random_bert(folder / f"random_{seed}", [*sentences, *map(anatomy_sentence, ANATOMIES)], seed)
    return load_text_encoder(str(written))


def _wordings(books: Books, fold: Fold, seed: int) -> list[tuple[str, Books]]:
    aspects = fold.settings.model.aspects
    reworded = built_in_wordings(books, fold.named, aspects, ("descriptions", "names"))
    wordings = [("books", books), *((wording.name, wording.books) for wording in reworded)]
    findings = [name for name in fold.named if name not in HEALTHY]
    generator = np.random.default_rng(seed)
    for _ in range(PERMUTATIONS):
        order = list(generator.permutation(findings))  # each takes the text of the next one: none keeps its own
        swapped = {name: books.sentences[other] for name, other in zip(order, order[1:] + order[:1], strict=True)}
        wordings.append(("shuffled", Books(books.sentences | swapped, {})))
    return wordings


def _train(fold: Fold, text: TextEmbeddings, text_norm: bool, seed: int, description: str) -> MAVL:
    """The model of the demo after the last step."""
    settings, data = fold.settings, fold.settings.data
    torch.manual_seed(seed)
    model = MAVL(**_arguments(settings, text.vectors.shape[-1]) | {"text_norm": text_norm})
    model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  (not in torch's stubs)
    length = len(fold.train["image"]) // settings.schedule.epochs
    batches = EpochBatches(length, data.batch_size, seed, 0, 1, 1)
    optimizer = build_optimizer(model, **settings.optimizer.model_dump())
    rates = settings.schedule.model_dump() | {"steps_per_epoch": batches.steps_per_epoch}
    scheduler = build_scheduler(optimizer, lr=settings.optimizer.lr, **rates)
    for epoch in progress_bar(range(settings.schedule.epochs), description=description, unit="epoch"):
        batches.start_at(epoch)
        for keys in batches:
            rows = [epoch * length + index for _, index in keys]
            batch = {name: values[rows] for name, values in fold.train.items()}
            batch = to_device(batch, torch.device("cpu"), model.preprocessing)
            weight = settings.train.contrastive_weight
            targets = Targets(batch["labels"], batch["locations"], text.anatomy_vectors, weight)
            optimizer.zero_grad()
            pretraining_losses(model(batch["image"], text.vectors), targets)["loss"].backward()
            optimizer.step()
            scheduler.step()
    return model.eval()


def _done(runs: Path, run: dict[str, Any]) -> bool:
    if not runs.exists():
        return False
    done = pd.read_csv(runs)
    return bool((done[list(run)] == pd.Series(run)).all(axis=1).any())


def _append(runs: Path, row: dict[str, Any]) -> None:
    """A line with the columns of all findings."""
    findings = [name for name in phantom.FINDINGS if name not in HEALTHY]
    columns = ["contender", "fold", "seed"]
    columns += [f"{wording} {head} {name}" for wording in WORDINGS for head in HEADS for name in findings]
    new = not runs.exists()
    with runs.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns)
        if new:
            writer.writeheader()
        writer.writerow(row)


def table(runs: pd.DataFrame) -> str:
    """Markdown tables of trained and of unseen findings: mean AUROC in % ± half of its 95 % interval over findings.

    The value of a finding is the mean of its runs. The differences are paired by run and finding.
    """
    figures = _by_finding(runs)
    of_books, shuffled = (figures[figures.wording == wording] for wording in ("books", "shuffled"))
    columns = ["encoder", "runs", "head", *WORDINGS, "books − shuffled", "books − those of random"]
    lines = []
    for group in ("trained", "unseen"):
        lines += ["", f"{group} findings", "", f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]
        for name in (name for name in CONTENDERS if name in set(figures.contender)):
            for head in HEADS:
                keys = {"head": head, "group": group}
                own = _where(figures, contender=name, **keys)
                books = _where(of_books, contender=name, **keys)
                cells = [_mean(own[own.wording == wording]) for wording in WORDINGS]
                cells.append(_mean(_difference(books, _where(shuffled, contender=name, **keys))))
                cells.append(_mean(_difference(books, _where(of_books, contender="random", **keys))))
                lines.append(
                    f"| {name} | {len(own[['fold', 'seed']].drop_duplicates())} | {head} | {' | '.join(cells)} |"
                )
    return "\n".join(lines)


def _where(figures: pd.DataFrame, **values: str) -> pd.DataFrame:
    return figures[(figures[list(values)] == pd.Series(values)).all(axis=1)]


def _by_finding(runs: pd.DataFrame) -> pd.DataFrame:
    """A row for each AUROC: contender, fold, seed, wording, head, finding, group (trained or unseen), auroc."""
    figures = runs.melt(["contender", "fold", "seed"], value_name="auroc")
    figures[["wording", "head", "finding"]] = figures.pop("variable").str.split(" ", n=2, expand=True)
    held = [finding in FOLDS[fold] for fold, finding in zip(figures.fold, figures.finding, strict=True)]
    return figures.assign(group=np.where(held, "unseen", "trained"))


def _difference(figures: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    both = figures.merge(others, on=["fold", "seed", "finding"], suffixes=("", "_other"))
    return both.assign(auroc=both.auroc - both.auroc_other)


def _mean(figures: pd.DataFrame) -> str:
    """Mean over findings ± half of its 95 % interval by Student's t, in %."""
    values = 100 * figures.groupby("finding").auroc.mean()
    half = student.ppf(0.975, len(values) - 1) * values.std() / len(values) ** 0.5
    return f"{values.mean():.1f} ± {half:.1f}"


if __name__ == "__main__":
    main()
