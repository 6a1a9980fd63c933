"""CLIP and SigLIP models of Hugging Face transformers: `clip:FOLDER` or `clip:OWNER/NAME`, MedSigLIP among them.

The score of a finding is the softmax over its prompts and those against it; a map is the cosine of each patch with the
prompts of the finding, for CLIP, whose projection serves patches too.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mavl.backbones import PatchGrid, Preprocessing
from mavl.backbones.protocol import BackboneError
from mavl.backbones.transformers import read_preprocessing
from mavl.files import FileError, read_json
from mavl.scorers.prompts import PromptKind, encode_prompts, presence, prompts_of
from mavl.scorers.protocol import ScorerError, ScorerOptions
from mavl.text.books import Books, read_books

KINDS = {"clip": "CLIPModel", "siglip": "SiglipModel"}
"""{model_type: class of transformers}"""
SIGLIP_LENGTH = 64
"""Tokens to which SigLIP's text is padded, since it reads the last position."""


class CLIPScorer:
    """A two-tower model with prompts for each finding."""

    trained_findings: tuple[str, ...] = ()

    def __init__(
        self, name: str, model: Any, tokenizer: Any, preprocessing: Preprocessing, books: Books, kind: PromptKind
    ):
        self.name, self.model, self.tokenizer, self.books = name, model.eval(), tokenizer, books
        self.kind: PromptKind = kind
        self.preprocessing, vision = preprocessing, model.config.vision_config
        self.patch_grid: PatchGrid | None = None
        self.side, self.siglip = preprocessing.image_size // vision.patch_size, model.config.model_type == "siglip"
        self.scale = model.logit_scale.exp().item()
        self._prompts = lru_cache(16)(self._encode_prompts)

    @torch.no_grad()
    def scores(self, images: Tensor, findings: Sequence[str]) -> Tensor:
        vectors = F.normalize(self.model.get_image_features(pixel_values=images).pooler_output.float(), dim=-1)
        return presence(vectors, *self._prompts(tuple(findings)), self.scale)

    @torch.no_grad()
    def heatmaps(self, images: Tensor, findings: Sequence[str]) -> Tensor | None:
        if self.siglip:
            return None
        vision = self.model.vision_model
        patches = vision.post_layernorm(vision(pixel_values=images).last_hidden_state[:, 1:])
        patches = F.normalize(self.model.visual_projection(patches).float(), dim=-1)
        present, absent = self._prompts(tuple(findings))
        maps = (patches @ (present - absent).T).mT
        maps = (maps - maps.amin(dim=-1, keepdim=True)).clamp(min=1e-8)
        return (maps / maps.sum(dim=-1, keepdim=True)).unflatten(-1, (self.side, self.side))

    def describe(self) -> dict[str, Any]:
        maps = (
            "none: its patches are in another space than its text"
            if self.siglip
            else ("the cosine of each patch with the prompts of the finding, minus that with those against it")
        )
        [example] = [prompts_of("effusion", self.kind, self.books)]
        prompts = {"kind": self.kind, "present": example.present, "absent": example.absent, "of": "effusion"}
        return {"model": f"clip:{self.name}", "prompts": prompts, "map": maps}

    def _encode_prompts(self, findings: tuple[str, ...]) -> tuple[Tensor, Tensor]:
        return encode_prompts([prompts_of(name, self.kind, self.books) for name in findings], self._encode_text)

    def _encode_text(self, sentences: list[str]) -> Tensor:
        most = self.model.config.text_config.max_position_embeddings
        padding = (
            {"padding": "max_length", "max_length": min(SIGLIP_LENGTH, most)} if self.siglip else {"padding": True}
        )
        tokens = self.tokenizer(sentences, return_tensors="pt", truncation=True, **({"max_length": most} | padding))
        names = ("input_ids",) if self.siglip else ("input_ids", "attention_mask")
        inputs = {name: tokens[name].to(self.model.device) for name in names}
        return self.model.get_text_features(**inputs).pooler_output


def open_clip_like(name: str, options: ScorerOptions, device: torch.device) -> CLIPScorer:
    """The scorer of a folder or a hub id; ScorerError for another type of model, and for missing or random weights."""
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ScorerError(f"clip:{name}: no model of transformers ({' '.join(str(error).split())[:200]})") from error
    if config.model_type not in KINDS:
        raise ScorerError(f"clip:{name}: a model of type {config.model_type!r}; known are {', '.join(KINDS)}")
    try:
        loaded = getattr(transformers, KINDS[config.model_type]).from_pretrained(
            name, dtype=torch.float32, output_loading_info=True
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(name)
        preprocessing = _preprocessing(name, config.vision_config.image_size)
    except (OSError, ValueError, BackboneError) as error:
        raise ScorerError(f"clip:{name}: {' '.join(str(error).split())[:300]}") from error
    model, report = loaded
    if random := [*report["missing_keys"], *report["mismatched_keys"]]:
        raise ScorerError(f"clip:{name}: no weights of {len(random)} parameters, such as {random[0]}")
    books = read_books(options.descriptions, options.aspects)
    return CLIPScorer(name, model.to(device), tokenizer, preprocessing, books, options.prompts)


def _preprocessing(name: str, image_size: int) -> Preprocessing:
    """Of the processor's file; the whole image is resized, where the processor would cut its ends off."""
    from transformers.utils.hub import cached_file

    path = cached_file(name, "preprocessor_config.json", _raise_exceptions_for_missing_entries=False)
    if path is None:
        raise ScorerError(f"clip:{name}: preprocessor_config.json is missing, which states mean and standard deviation")
    try:
        stated = read_json(Path(path))
        if not isinstance(stated, dict):
            raise ScorerError(f"clip:{name}: {path} is no processor of images")
        return read_preprocessing(stated.get("image_processor", stated), image_size, f"clip:{name}")
    except FileError as error:
        raise ScorerError(f"clip:{name}: {error}") from error
