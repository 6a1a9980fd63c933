"""Zero-shot classification of a benchmark: settings -> scores, table, curves in a result folder."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import Dataset

from mavl import checkpoint
from mavl.bank import Bank, build_bank
from mavl.books import read_books
from mavl.config import dump, load
from mavl.data.benchmarks import Benchmark, Split, read_split
from mavl.data.images import read_image
from mavl.data.pretraining import bad_images
from mavl.data.transforms import Transform, eval_transform
from mavl.engine import check_device, predict
from mavl.metrics import Evaluation, best_f1, evaluate
from mavl.provenance import provenance
from mavl.settings import ZeroShotSettings
from mavl.text import TextEncoder
from mavl.vocab import DESCRIPTION, HEALTHY, PRESENT, UNKNOWN
from mavl.zero_shot import scores

RELEASED_MAX_LENGTH = 64


class EvaluationError(ValueError):
    """An evaluation that cannot be done as asked; the message says why."""


class EvaluationImages(Dataset):
    """dataset[i] -> {image [3, S, S], index}."""

    def __init__(self, paths: Sequence[Path], transform: Transform, equalize: bool):
        self.paths, self.transform, self.equalize = paths, transform, equalize

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict:
        return {"image": self.transform(read_image(self.paths[index], equalize=self.equalize)), "index": index}


@dataclass(frozen=True)
class Scored:
    """A split and what the model says of it: scores [n, C] in the order of `split.findings`; left_out: bad images."""

    split: Split
    scores: np.ndarray
    left_out: list[str]


@dataclass(frozen=True)
class Result:
    """What a run wrote into `folder`."""

    evaluation: Evaluation
    about: dict
    folder: Path


def run(settings: ZeroShotSettings) -> Result | None:
    """Evaluate as the settings say; the main process writes and returns the result, the others return None."""
    if settings.model_path is None:
        raise EvaluationError("no model: give --model_path a model folder, a released .pth or a hub id")
    accelerator = Accelerator(mixed_precision=settings.mixed_precision)
    check_device(accelerator)
    benchmark = load(Benchmark, Path(settings.benchmark))
    pretrained = checkpoint.load(settings.model_path)
    with accelerator.main_process_first():
        bank = text_bank(settings, pretrained, benchmark.findings)
    model = accelerator.prepare_model(pretrained.model, evaluation_mode=True).eval()
    score = partial(score_split, settings, benchmark, model, bank.to(accelerator.device), accelerator)
    image_size = pretrained.about["model"].get("image_size", 224)
    scored = score(settings.split, image_size)
    thresholds, source, note = _thresholds(settings, benchmark, partial(score, image_size=image_size))
    if not accelerator.is_main_process:
        return None
    about = {
        "benchmark": benchmark.name,
        "title": benchmark.title,
        "split": settings.split,
        "protocol": settings.protocol,
        "head": settings.head,
        "model": str(settings.model_path),
        "bank": bank.about,
        "findings_in_bank": len(bank.findings),
        "thresholds": note,
        "left_out": scored.left_out,
        "provenance": provenance(),
    }
    folder = Path(settings.output_dir) / f"{benchmark.name}_{settings.head}_{settings.protocol}"
    folder.mkdir(parents=True, exist_ok=True)
    dump(settings, folder / "config.yaml")
    _write_scores(folder / "scores.csv", scored)
    evaluation = evaluate(
        scored.split.labels,
        scored.scores,
        scored.split.findings,
        thresholds=thresholds,
        threshold_source=source,
        strict=settings.protocol == "released",
        resamples=settings.resamples,
        groups=scored.split.groups,
        seed=settings.seed,
    )
    _write(folder, scored, evaluation, about)
    return Result(evaluation, about, folder)


def text_bank(settings: ZeroShotSettings, pretrained: checkpoint.Pretrained, findings: Sequence[str]) -> Bank:
    """The vocabulary the model was trained with, then the benchmark's other findings, then missing healthy ones.

    A model folder brings the vectors it was trained with; the rest, and all for a released file or under the released
    protocol (which cut texts at 64 tokens), is encoded from the books.
    """
    asked = [*findings, *(HEALTHY if settings.head == "contrastive" else ())]
    known = pretrained.findings
    new = [name for name in dict.fromkeys(asked) if name not in known]
    rebuild = pretrained.bank is None or settings.protocol == "released" or settings.max_length is not None
    if not rebuild and not new:
        return pretrained.bank
    aspects = pretrained.model.aspects
    books = read_books(settings.descriptions, settings.aspects if aspects != (DESCRIPTION,) else ())
    text = dict(pretrained.text)
    name = settings.text_encoder or text.pop("encoder")
    text.pop("encoder", None)
    text["max_length"] = settings.max_length or (
        RELEASED_MAX_LENGTH if settings.protocol == "released" else text["max_length"]
    )
    cache = Path(settings.bank_cache).expanduser() if settings.bank_cache else None
    build = partial(build_bank, books, encoder=TextEncoder(name, **text), aspects=aspects, cache=cache)
    return build([*known, *new]) if rebuild else pretrained.bank.extended(build(new))


def score_split(
    settings: ZeroShotSettings,
    benchmark: Benchmark,
    model: torch.nn.Module,
    bank: Bank,
    accelerator: Accelerator,
    name: str,
    image_size: int,
) -> Scored:
    """Scores of every image of a split; bad images are an error, or left out and listed (`max_bad_share`)."""
    split = read_split(benchmark, name, Path(settings.root) if settings.root else None)
    if settings.findings:
        split = split.select(settings.findings)
    bad = bad_images(split.paths, split.rows, name, settings, accelerator.is_main_process)
    split = split.without(set(bad)) if bad else split
    if not split.paths:
        raise EvaluationError(f"{benchmark.name}: no readable image in its {name} split")

    def compute(batch: dict) -> dict[str, Tensor]:
        output = model(batch["image"], bank.vectors)
        return {"scores": scores(output, bank, split.findings, settings.head)}

    rows = predict(
        accelerator,
        EvaluationImages(split.paths, eval_transform(image_size, benchmark.interpolation), benchmark.equalize),
        range(len(split.paths)),
        compute,
        batch_size=settings.batch_size,
        workers=settings.workers,
        description=f"{benchmark.name} {name}",
    )
    return Scored(split, rows["scores"], list(bad.values()))


def _thresholds(settings: ZeroShotSettings, benchmark: Benchmark, score) -> tuple[np.ndarray | None, str | None, str]:
    """Thresholds [C] or None, where they come from, and a sentence on it for the report."""
    if settings.protocol == "released":
        return None, "test", "best F1 on the test images themselves, positive is score > threshold (released protocol)"
    if settings.split == "valid":
        return None, None, "none: the validation split itself is evaluated"
    if "valid" not in benchmark.splits:
        return None, None, "none: the benchmark has no validation split"
    try:
        valid = score("valid")
    except FileNotFoundError as error:
        return None, None, f"none: {error}"
    columns = zip(valid.split.labels.T, valid.scores.T, strict=True)
    thresholds = np.array([_best_threshold(label, score) for label, score in columns])
    return thresholds, "validation", f"best F1 on the {len(valid.scores)} images of the validation split"


def _best_threshold(labels: np.ndarray, scores: np.ndarray) -> float:
    """NaN when the validation split lacks one of the two labels."""
    known = labels != UNKNOWN
    positive = labels[known] == PRESENT
    return best_f1(positive, scores[known]).threshold if 0 < positive.sum() < positive.size else float("nan")


def _write_scores(path: Path, scored: Scored) -> None:
    """A line an image: path, patient, then label and score of each finding."""
    split = scored.split
    table = {"path": [str(path) for path in split.paths], "row": split.rows}
    if split.groups is not None:
        table["group"] = split.groups
    for column, finding in enumerate(split.findings):
        table[f"{finding}_label"] = split.labels[:, column]
        table[f"{finding}_score"] = scored.scores[:, column]
    pd.DataFrame(table).to_csv(path, index=False, float_format="%.9g")


def _write(folder: Path, scored: Scored, evaluation: Evaluation, about: dict) -> None:
    from mavl import report  # matplotlib and rich only where they are needed

    report.write_csv(evaluation, folder / "results.csv")
    report.write_json(evaluation, folder / "results.json", about)
    (folder / "left_out.json").write_text(json.dumps(scored.left_out, indent=2) + "\n")
    split = scored.split
    report.plot_curves(split.labels, scored.scores, split.findings, evaluation, folder / "roc.png", folder / "pr.png")
