"""DenseNet-121 classifiers of torchxrayvision, from a file of their weights: `xrv:FILE.safetensors`.

Their released files are pickles, which can run code when they are opened. Convert one in an environment of its own:

    import json, torch, torchxrayvision as xrv
    from safetensors.torch import save_file
    model = xrv.models.DenseNet(weights="densenet121-res224-all")
    names, points = json.dumps(list(model.pathologies)), json.dumps(model.op_threshs.tolist())
    state = {k: v.contiguous() for k, v in model.state_dict().items() if k.startswith(("features.", "classifier."))}
    save_file(state, "xrv_all.safetensors", {"pathologies": names, "op_threshs": points})

torchxrayvision itself is not needed: the network is torchvision's, with one channel. Its "all" weights have seen
ChestX-ray14, PadChest, CheXpert, MIMIC-CXR, Open-I and RSNA.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch
import torchvision
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from mavl.backbones import PatchGrid, Preprocessing
from mavl.scorers.protocol import ScorerError, ScorerOptions
from mavl.text.synonyms import resolve
from mavl.vocab import FINDINGS, UnknownFindingError, unknown_name

SIDE, RANGE = 224, 1024.0
"""Pixels of a side, and the largest value of an input, which is from -1024 to 1024."""


class XRVScorer:
    """names: of the outputs, "" for one that was not trained. points: their operating points, NaN for none."""

    preprocessing = Preprocessing(SIDE, (0.5, 0.5, 0.5), (0.5 / RANGE, 0.5 / RANGE, 0.5 / RANGE))
    patch_grid: PatchGrid | None = None

    def __init__(self, file: str, network: torchvision.models.DenseNet, names: Sequence[str], points: Sequence[float]):
        self.file, self.network, self.names = file, network.eval(), list(names)
        self.points = torch.tensor(points, dtype=torch.float32)
        self.trained_findings = tuple(_own_name(name) for name in self.names if name)

    @torch.no_grad()
    def scores(self, images: Tensor, findings: Sequence[str]) -> Tensor:
        columns = self._columns(findings)
        probabilities = self.network(images[:, :1]).float().sigmoid()[:, columns]
        return operating_point_half(probabilities, self.points.to(images.device)[columns])

    @torch.no_grad()
    def heatmaps(self, images: Tensor, findings: Sequence[str]) -> Tensor:
        features = F.relu(self.network.features(images[:, :1]))
        weights = self.network.classifier.weight[self._columns(findings)]
        maps = torch.einsum("fc,bchw->bfhw", weights, features)
        maps = maps.float().clamp(min=0) + 1e-8
        return maps / maps.sum(dim=(-2, -1), keepdim=True)

    def describe(self) -> dict:
        return {"model": f"xrv:{self.file}", "map": "the class activation map, of which the positive part is shown"}

    def _columns(self, findings: Sequence[str]) -> list[int]:
        """The output of each finding, by its name or a synonym."""
        columns = []
        for finding in findings:
            found = [column for column, name in enumerate(self.names) if name and _means(name, finding)]
            if not found:
                raise ScorerError(f"xrv:{self.file}: {unknown_name('finding', finding, self.trained_findings)}")
            columns.append(found[0])
        return columns


def operating_point_half(probabilities: Tensor, points: Tensor) -> Tensor:
    """Probabilities [B, C] scaled so that the operating point [C] of each output is 0.5, as torchxrayvision does.

    Linear below and above it; outputs without one (NaN) stay as they are.
    """
    low, high = probabilities / (2 * points), 1 - (1 - probabilities) / (2 * (1 - points))
    return torch.where(points.isnan(), probabilities, torch.where(probabilities < points, low, high))


def _own_name(name: str) -> str:
    """The name of an output among this project's."""
    try:
        return resolve(name, FINDINGS)
    except UnknownFindingError:
        return name.lower().replace("_", " ")


def _means(name: str, finding: str) -> bool:
    try:
        return resolve(name, [finding]) == finding
    except UnknownFindingError:
        return False


def open_xrv(name: str, options: ScorerOptions, device: torch.device) -> XRVScorer:
    """The scorer of a file of weights; ScorerError for another file."""
    if not name.endswith(".safetensors") or not Path(name).is_file():
        raise ScorerError(f"xrv:{name}: no .safetensors file; mavl/scorers/xrv.py says how to make one")
    try:
        with safe_open(name, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (it is no dict)
        names = json.loads(metadata["pathologies"])
        points = [math.nan if value is None else float(value) for value in json.loads(metadata.get("op_threshs", "[]"))]
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ScorerError(f"xrv:{name}: damaged, or without the names of its outputs ({error})") from error
    network = torchvision.models.densenet121(weights=None, num_classes=len(names))
    network.features.conv0 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ScorerError(
            f"xrv:{name}: not the weights of a DenseNet-121 ({str(error).splitlines()[-1].strip()})"
        ) from error
    return XRVScorer(name, network.to(device), names, points or [math.nan] * len(names))
