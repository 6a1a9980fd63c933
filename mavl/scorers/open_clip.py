"""Models of open_clip, BiomedCLIP among them: `open_clip:hf-hub:OWNER/NAME` or `open_clip:local-dir:FOLDER`.

Needs the package open_clip_torch. Scores and prompts are as in mavl.scorers.clip; there are no maps.
"""

from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mavl.backbones import PatchGrid, Preprocessing
from mavl.scorers.prompts import PromptKind, encode_prompts, presence, prompts_of
from mavl.scorers.protocol import ScorerError, ScorerOptions
from mavl.text.books import Books, read_books

SOURCES = ("hf-hub:", "local-dir:")
"""Of names that bring their weights; others would be random."""
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


class OpenCLIPScorer:
    """A two-tower model with prompts for each finding."""

    trained_findings: tuple[str, ...] = ()
    patch_grid: PatchGrid | None = None

    def __init__(
        self, name: str, model: Any, tokenizer: Any, preprocessing: Preprocessing, books: Books, kind: PromptKind
    ):
        self.name, self.model, self.tokenizer, self.books = name, model.eval(), tokenizer, books
        self.kind: PromptKind = kind
        self.preprocessing, self.scale = preprocessing, model.logit_scale.exp().item()
        self.device = model.logit_scale.device
        self._prompts = lru_cache(16)(self._encode_prompts)

    @torch.no_grad()
    def scores(self, images: Tensor, findings: Sequence[str]) -> Tensor:
        vectors = F.normalize(self.model.encode_image(images).float(), dim=-1)
        return presence(vectors, *self._prompts(tuple(findings)), self.scale)

    def heatmaps(self, images: Tensor, findings: Sequence[str]) -> None:
        return None

    def describe(self) -> dict[str, Any]:
        example = prompts_of("effusion", self.kind, self.books)
        prompts = {"kind": self.kind, "present": example.present, "absent": example.absent, "of": "effusion"}
        return {"model": f"open_clip:{self.name}", "prompts": prompts, "map": "none"}

    def _encode_prompts(self, findings: tuple[str, ...]) -> tuple[Tensor, Tensor]:
        def encode(sentences: list[str]) -> Tensor:
            return self.model.encode_text(self.tokenizer(sentences).to(self.device))

        return encode_prompts([prompts_of(name, self.kind, self.books) for name in findings], encode)


def open_open_clip(name: str, options: ScorerOptions, device: torch.device) -> OpenCLIPScorer:
    """The scorer of a hub id or a folder; ScorerError without the package, and for names without weights."""
    if find_spec("open_clip") is None:
        raise ScorerError("open_clip: the package open_clip_torch is not installed; pip install open_clip_torch")
    if not name.startswith(SOURCES):
        raise ScorerError(f"open_clip:{name}: expected hf-hub:OWNER/NAME or local-dir:FOLDER, which bring weights")
    folder = name.removeprefix("local-dir:")
    if folder != name and not any(Path(folder, file).is_file() for file in WEIGHTS):
        raise ScorerError(f"open_clip:{name}: {' or '.join(WEIGHTS)} is missing, and weights would be random")
    import open_clip

    try:
        model = open_clip.create_model(name, device=device)
        tokenizer = open_clip.get_tokenizer(name)
    except Exception as error:  # as its many libraries raise
        raise ScorerError(f"open_clip:{name}: {' '.join(str(error).split())[:300]}") from error
    stated = open_clip.get_model_preprocess_cfg(model)
    size = stated["size"] if isinstance(stated["size"], int) else stated["size"][0]
    interpolation = stated.get("interpolation", "bicubic")
    try:
        values = {"image_size": size, "mean": list(stated["mean"]), "std": list(stated["std"])}
        preprocessing = Preprocessing.from_dict(values | {"interpolation": interpolation})
    except (TypeError, ValueError) as error:
        raise ScorerError(f"open_clip:{name}: preprocessing: {error}") from error
    books = read_books(options.descriptions, options.aspects)
    return OpenCLIPScorer(name, model, tokenizer, preprocessing, books, options.prompts)
