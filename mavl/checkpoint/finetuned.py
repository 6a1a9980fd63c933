"""Fine-tuned models on disk: folders like a pre-trained model's (mavl.checkpoint.folder), or released .pth files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mavl.checkpoint.folder import find, make_folder, read_about, read_model, write_model
from mavl.checkpoint.released import read_checkpoint, released_kind

KINDS = ("classifier", "segmenter")


@dataclass(frozen=True)
class Finetuned:
    """A fine-tuned model on the CPU, in evaluation mode.

    model: Classifier or UNet, by its kind. findings: of its outputs, in order; a released file, which holds no names,
    has class 1, class 2, … equalize: whether histograms are equalized before its preprocessing. about: the content of
    mavl.json and, as "state", the epoch, step and metrics of its weights. trained_on: as
    mavl.checkpoint.about.TrainedOn; None where the folder does not say.
    """

    kind: str
    model: Any
    findings: tuple[str, ...]
    equalize: bool
    about: dict
    trained_on: dict | None = None


def save(
    folder: Path,
    kind: str,
    model: Any,
    arguments: dict,
    findings: tuple[str, ...],
    equalize: bool,
    state: dict,
    config: dict,
    trained_on: dict | None = None,
    lora: dict | None = None,
) -> None:
    """Write a model folder; the weights are written last.

    Args:
        arguments: keyword arguments of the network.
        equalize: whether histograms are equalized before the model's preprocessing.
        state: epoch, step, metrics.
        config: the settings of the run.
        trained_on: as mavl.checkpoint.about.TrainedOn.
        lora: of mavl.config.training.LoraSettings, where the backbone has adapters.
    """
    make_folder(folder)
    shown = model.preprocessing.to_dict() | {"equalize": equalize}
    about = {"kind": kind, "model": arguments, "findings": findings, "input": shown, "config": config}
    about |= {"trained_on": trained_on} | ({"lora": lora} if lora else {})
    write_model(folder, model, about, state)


def source_kind(source: str | Path) -> str:
    """The kind of model in a model folder, released .pth or hub id: a key of mavl.checkpoint.released.NETWORKS."""
    path = find(source)
    return released_kind(read_checkpoint(path)[0]) if path.is_file() else read_about(path)["kind"]


def load(source: str | Path) -> Finetuned:
    """A model folder, released .pth or hub id -> Finetuned; CheckpointError for a pre-trained model."""
    model, about, _ = read_model(source, KINDS)
    equalize = bool(about["preprocessing"].get("equalize", False))
    return Finetuned(about["kind"], model, tuple(about["findings"]), equalize, about, about.get("trained_on"))
