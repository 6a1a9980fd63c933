"""Fine-tuned models on disk: folders like a pre-trained model's (mavl.checkpoint.folder), or released .pth files.

`KINDS` is the one place that knows what kinds there are.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from mavl.checkpoint.folder import CheckpointError, find, kind_of, read_folder, write_about, write_weights
from mavl.checkpoint.released import check_state, read_checkpoint
from mavl.checkpoint.released_finetuned import convert_classifier, released_kind
from mavl.model.classifier import Classifier
from mavl.model.unet import UNet, from_released

Converter = Callable[[Mapping[str, Tensor], str], tuple[dict, dict[str, Tensor]]]

KINDS: dict[str, tuple[type[nn.Module], Converter]] = {
    "classifier": (Classifier, convert_classifier),
    "segmenter": (UNet, from_released),
}
"""kind: (network, what turns the parameters of a released file into its keyword arguments and state dict)"""


@dataclass(frozen=True)
class Finetuned:
    """A model as it was saved, on the CPU in evaluation mode.

    findings: of its outputs, in order; image_size, equalize, interpolation: how images were shown to it; about: all
    that the folder tells.
    """

    kind: str
    model: nn.Module
    findings: tuple[str, ...]
    image_size: int
    equalize: bool
    interpolation: str
    about: dict


def save(
    folder: Path,
    kind: str,
    model: nn.Module,
    arguments: dict,
    findings: tuple[str, ...],
    shown: dict,
    state: dict,
    config: dict,
) -> None:
    """Write a model folder; the weights go last.

    arguments: what the network was built with; shown: image_size, equalize, interpolation; state: epoch, step, metrics.
    """
    folder.mkdir(parents=True, exist_ok=True)
    about = {"kind": kind, "model": arguments, "findings": findings, "input": shown, "config": config}
    write_about(folder, about)
    write_weights(folder, model, state)


def source_kind(source: str | Path) -> str:
    """mavl.checkpoint.folder.MAVL_KIND or one of KINDS: what a model folder, released .pth or hub id holds."""
    path = find(source)
    return released_kind(read_checkpoint(path)[0]) if path.is_file() else kind_of(path)


def load(source: str | Path) -> Finetuned:
    """A model folder, released .pth or hub id -> Finetuned; CheckpointError where it is of another kind.

    A released file does not tell the names of its outputs, nor how images were shown: they are called class 1, 2, ….
    """
    path = find(source)
    if path.is_file():
        weights, config = read_checkpoint(path)
        kind = _known(released_kind(weights), path)
        arguments, weights = KINDS[kind][1](weights, str(path))
        names = tuple(f"class {number + 1}" for number in range(arguments.get("classes", 1)))
        shown = {"image_size": config.get("image_res", 224), "equalize": False, "interpolation": "bilinear"}
        about = {"kind": kind, "model": arguments, "findings": names, "input": shown, "config": config}
    else:
        kind = _known(kind_of(path), path)
        about, weights = read_folder(path, ("model", "findings", "input"))
    try:
        model = KINDS[kind][0](**about["model"])
    except TypeError as error:  # a keyword that is not, or no longer, one of the network's
        raise CheckpointError(f"{path}: {error}") from error
    check_state(weights, model.state_dict(), str(path))
    model.load_state_dict(weights)
    return Finetuned(kind, model.eval(), tuple(about["findings"]), about=about, **about["input"])


def _known(kind: str, path: Path) -> str:
    if kind not in KINDS:
        raise CheckpointError(f"{path}: a model of kind {kind!r}; a fine-tuned one is {' or '.join(KINDS)}")
    return kind
