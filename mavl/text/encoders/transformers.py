"""Frozen encoders of Hugging Face's transformers, those of sentence-transformers among them: sentences -> vectors.

Pooling, tokens and length are those that the encoder's folder declares. A BERT that declares none is read as in the
released training (MAVL, CVPR 2024): the last hidden state at position 0, lower-cased, no closing [SEP], 128 tokens. No
code of a folder is ever run.
"""

import hashlib
import inspect
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from mavl.files import read_json
from mavl.progress import note, plural, progress_bar
from mavl.text.encoders.declared import KINDS, LENGTH, MODULES, PROMPTS, Declared, Pooling, read_declared
from mavl.text.encoders.minilm import MINILM, minilm_folder
from mavl.text.encoders.tokenizer import (
    OTHER_VOCABULARY_FILES,
    VOCABULARY_FILES,
    closes,
    lower_cases,
    one_line,
    opens,
    read_tokenizer,
)
from mavl.text.protocol import TextEncoderError

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
RELEASED_FILES = ("config.json", *VOCABULARY_FILES, *WEIGHT_FILES)
"""The files that shape the vectors of a BERT that is read as in the released training."""
ENCODER_FILES: list[str] = [
    *RELEASED_FILES,
    *OTHER_VOCABULARY_FILES,
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", MODULES, LENGTH, PROMPTS),
    *("*_Pooling/config.json", "0_*/*"),
]
"""Patterns of all files of an encoder's folder that are read."""

Auto = Literal["auto"]
AUTO: Auto = "auto"
Value = TypeVar("Value")


@dataclass(frozen=True)
class TransformerEncoder:
    """A frozen encoder, by hub id, folder or "minilm" (mavl.text.encoders.minilm). "auto" is what its folder declares.

    pooling: the vector of a sentence is the last hidden state at position 0 (cls; also where the folder declares
    nothing), the mean over all tokens (mean), or the output of the pooling layer (pooler); normalize: divided by its
    length; sep: whether a closing token follows the sentence; max_length: tokens kept, special ones included (128 in
    the released training, 64 in its zero-shot tests); lower_case: whether the text is lower-cased first.
    """

    name: str
    sep: bool | Auto = AUTO
    max_length: int | Auto = AUTO
    lower_case: bool | Auto = AUTO
    pooling: Pooling | Auto = AUTO
    normalize: bool | Auto = AUTO
    batch_size: int = 64

    @cached_property
    def tokenisation(self) -> dict[str, Any]:
        """What is computed, without "auto"."""
        declared = self.declared
        if self.pooling == AUTO and declared.unsupported:
            raise TextEncoderError(
                f"text encoder {self.folder} declares {declared.unsupported}, which is not supported; "
                "set text.pooling to cls or mean to use the encoder without it"
            )
        plain = declared.released
        return {
            "sep": _chosen(self.sep, False if plain else closes(self.tokenizer)),
            "max_length": self._length,
            "lower_case": _chosen(self.lower_case, True if plain else lower_cases(self.tokenizer)),
            "pooling": _chosen(self.pooling, declared.pooling),
            "normalize": _chosen(self.normalize, declared.normalize),
        }

    @cached_property
    def folder(self) -> Path:
        """The folder of the files: `name`, or the hub's snapshot, which is downloaded on first use."""
        if self.name == MINILM:
            return minilm_folder()
        if Path(self.name).is_dir():
            return Path(self.name)
        return _snapshot(self.name, self.pooling == AUTO)

    @cached_property
    def declared(self) -> Declared:
        return read_declared(self.folder)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the encoder's files: two encoders with the same name but other weights differ."""
        digest = hashlib.sha256()
        names = RELEASED_FILES if (self.folder / "config.json").exists() and self.declared.released else ENCODER_FILES
        for path in _files(self.folder, names):
            with path.open("rb") as file:
                digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    @property
    def _length(self) -> int:
        return _chosen(self.max_length, self.declared.max_length)

    @cached_property
    def tokenizer(self):
        """The `tokenizers` tokenizer, with this encoder's own closing and length rules."""
        sep, lower_case = (None if value == AUTO else value for value in (self.sep, self.lower_case))
        return read_tokenizer(self.declared, sep, self._length, lower_case)

    @cached_property
    def model(self):
        """The frozen model; TextEncoderError where the folder holds none, or another kind of model."""
        declared, pooling = self.declared, self.tokenisation["pooling"]
        where = f"text encoder {declared.folder}"
        tokenizer, model = self.tokenizer, _read_model(declared, pooling == "pooler")
        if (words := tokenizer.get_vocab_size()) > model.config.vocab_size:
            raise TextEncoderError(f"{where}: a vocabulary of {words} words for {model.config.vocab_size} vectors")
        if self._length > declared.most:
            raise TextEncoderError(f"{where} takes {declared.most} tokens: set text.max_length to at most that")
        if pooling != "mean" and not opens(tokenizer):
            raise TextEncoderError(f"{where}: no special token opens a sentence: set text.pooling to mean")
        return model.eval().requires_grad_(False)

    def token_ids(self, sentences: Sequence[str]) -> list[list[int]]:
        """Token ids of each sentence, cut, without padding."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch(list(sentences))]

    @torch.no_grad()
    def encode(self, sentences: Sequence[str], device: str = "cpu") -> Tensor:
        """sentences [n] -> vectors [n, T], float32 on the CPU. Equal sentences are encoded once, short with short."""
        model = self.model.to(device)
        unique = sorted(set(sentences))
        encodings = self.tokenizer.encode_batch(unique)
        if cut := sum(bool(encoding.overflowing) for encoding in encodings):
            of = f"{cut} of {plural(len(unique), 'sentence')} with more than {self._length} tokens"
            note(f"note: {self.name} reads the beginning of {of}")
        tokens = {text: torch.tensor(encoding.ids) for text, encoding in zip(unique, encodings, strict=True)}
        order = sorted(unique, key=lambda text: len(tokens[text]))
        padding = model.config.pad_token_id or 0  # RoBERTa counts positions by it
        vectors: dict[str, Tensor] = {}
        batches = range(0, len(order), self.batch_size)
        for start in progress_bar(batches, description="encoding text", unit="batch", show=len(batches) > 8):
            batch = order[start : start + self.batch_size]
            ids = pad_sequence([tokens[text] for text in batch], batch_first=True, padding_value=padding)
            mask = pad_sequence([torch.ones(len(tokens[text]), dtype=torch.bool) for text in batch], batch_first=True)
            output = model(input_ids=ids.to(device), attention_mask=mask.to(device))
            vectors |= zip(batch, self._pooled(output, mask.to(device)).float().cpu(), strict=True)
        return torch.stack([vectors[text] for text in sentences])

    def _pooled(self, output: Any, mask: Tensor) -> Tensor:
        """Output of the model for tokens [n, L], mask [n, L] -> vectors [n, T]."""
        hidden, pooling = output.last_hidden_state, self.tokenisation["pooling"]
        if pooling == "mean":
            vectors = (hidden * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        else:
            vectors = hidden[:, 0] if pooling == "cls" else output.pooler_output
        return F.normalize(vectors, dim=-1) if self.tokenisation["normalize"] else vectors


def encoder_files(folder: Path) -> list[Path]:
    """All files of an encoder's folder that are read."""
    return _files(folder, ENCODER_FILES)


def _read_model(declared: Declared, pooler: bool) -> Any:
    import transformers
    from transformers.utils import logging

    where = f"text encoder {declared.folder}"
    of_class = getattr(transformers, KINDS[declared.kind][0])
    options: dict[str, Any] = {"dtype": torch.float32, "output_loading_info": True, "weights_only": True}
    if "add_pooling_layer" in inspect.signature(of_class.__init__).parameters:
        options["add_pooling_layer"] = pooler
    elif pooler:
        raise TextEncoderError(f"{where}: a {declared.kind} model has no pooler: set text.pooling to cls or mean")
    if not _files(declared.folder, WEIGHT_FILES):  # transformers would read parts, which the fingerprint lacks
        raise TextEncoderError(f"{where}: its weights cannot be read (none of {', '.join(WEIGHT_FILES)} is there)")
    verbosity = logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # a head that is left out is no concern
    try:
        model, loaded = of_class.from_pretrained(str(declared.folder), **options)
    except Exception as error:  # a config may hold anything, and transformers fails on it anywhere
        raise TextEncoderError(f"{where}: its weights cannot be read ({one_line(error)})") from error
    finally:
        logging.set_verbosity(verbosity)
    if loaded["missing_keys"]:  # transformers only warns, and leaves them random
        raise TextEncoderError(f"{where}: weights lack {', '.join(sorted(loaded['missing_keys']))}")
    return model


def _snapshot(name: str, auto: bool) -> Path:
    """The folder of a hub's encoder. Without a network it is the cached one, if that is whole.

    auto: whether the files have to declare the pooling. Other programs fetch the weights alone, without modules.json,
    and the pooling of a sentence encoder would then be taken for undeclared.
    """
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError, LocalEntryNotFoundError

    lacking = ""
    with suppress(LocalEntryNotFoundError, HFValidationError):
        cached = Path(snapshot_download(name, allow_patterns=ENCODER_FILES, local_files_only=True))
        if _files(cached, [*WEIGHT_FILES, *(f"0_*/{file}" for file in WEIGHT_FILES)]):
            if not auto or _declaration_is_known(cached, name):
                return cached
            lacking = f"; of its cached files {MODULES} may be missing, so set text.pooling to use them"
    try:
        folder = Path(snapshot_download(name, allow_patterns=ENCODER_FILES))
        if not _declaration_is_known(folder, name):
            with suppress(EntryNotFoundError):  # the cache then records that there is none
                hf_hub_download(name, MODULES)
        return folder
    except (OSError, ValueError) as error:
        raise TextEncoderError(
            f"text encoder {name!r} is not a folder and cannot be downloaded from the hub ({type(error).__name__})"
            f"{lacking}; download it once with network access, or set text.encoder to a folder with a text encoder"
        ) from error


def _declaration_is_known(folder: Path, name: str) -> bool:
    """Whether modules.json is there, known not to exist, or not expected, as of a BERT that is no sentence encoder."""
    from huggingface_hub import try_to_load_from_cache

    if (folder / MODULES).exists():
        return True
    with suppress(OSError, ValueError, AttributeError):
        plain = read_json(folder / "config.json").get("model_type") in ("bert", "cxr-bert")
        return (plain and not name.startswith("sentence-transformers/")) or try_to_load_from_cache(
            name, MODULES
        ) is not None
    return True


def _chosen(value: Value | Auto, declared: Value) -> Value:
    return declared if value == AUTO else value  # pyright: ignore[reportReturnType]  (a text is no such value)


def _files(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """The files of the folder that the patterns name, in their order."""
    return [path for pattern in patterns for path in sorted(folder.glob(pattern)) if path.is_file()]
