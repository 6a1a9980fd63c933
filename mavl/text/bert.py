"""A frozen BERT as text encoder: a sentence's vector is the last hidden state at position 0.

The released tokenizer lower-cases and adds no closing [SEP] to a lone sentence, and the released checkpoints were
trained so; `sep` and `max_length` select the tokenisation.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from mavl.progress import progress_bar
from mavl.text.protocol import TextEncoderError

VOCABULARY_FILES = ("vocab.txt", "tokenizer.json")
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
LARGE = 2**24  # bytes
DIGESTS = Path("~/.cache/mavl/digests")
ENCODER_FILES = ("config.json", *VOCABULARY_FILES, *WEIGHT_FILES)


@dataclass(frozen=True)
class BertEncoder:
    """A frozen BERT and its tokenisation: any Hugging Face BERT by hub id or folder.

    max_length: tokens kept, [CLS] included (128 in the released training, 64 in its zero-shot tests);
    sep: whether a closing [SEP] follows the sentence; lower_case: whether the text is lower-cased first.
    """

    name: str
    sep: bool = False
    max_length: int = 128
    lower_case: bool = True
    batch_size: int = 64

    @property
    def tokenisation(self) -> dict:
        return {"sep": self.sep, "max_length": self.max_length, "lower_case": self.lower_case}

    @cached_property
    def folder(self) -> Path:
        """Where the files are: the folder itself, or the hub's snapshot (downloaded on first use)."""
        if Path(self.name).is_dir():
            return Path(self.name)
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

        patterns = list(ENCODER_FILES)
        with suppress(LocalEntryNotFoundError, HFValidationError):
            cached = Path(snapshot_download(self.name, allow_patterns=patterns, local_files_only=True))
            if _holds(cached, WEIGHT_FILES):  # another program may have fetched the tokenizer alone
                return cached
        try:
            return Path(snapshot_download(self.name, allow_patterns=patterns))
        except (OSError, ValueError) as error:
            raise TextEncoderError(
                f"text encoder {self.name!r} is neither a folder nor to be had from the hub ({type(error).__name__});"
                " download it once with network access, or set text.encoder to a folder with a BERT"
            ) from error

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the encoder's files: two encoders with the same name but other weights differ."""
        digest = hashlib.sha256()
        for name in ENCODER_FILES:
            if (self.folder / name).exists():
                digest.update(name.encode())
                digest.update(_digest(self.folder / name))
        return digest.hexdigest()

    @cached_property
    def tokenizer(self):
        """The `tokenizers` tokenizer, with this encoder's own closing and length rules."""
        from tokenizers import normalizers, processors
        from transformers import BertTokenizerFast

        if not _holds(self.folder, VOCABULARY_FILES):  # else the tokenizer has five words, and says nothing
            raise TextEncoderError(f"text encoder {self.folder}: none of {', '.join(VOCABULARY_FILES)} is there")
        tokenizer = BertTokenizerFast.from_pretrained(str(self.folder)).backend_tokenizer
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=self.lower_case)
        special = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
        template = "[CLS] $A [SEP]" if self.sep else "[CLS] $A"
        tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=special)
        tokenizer.enable_truncation(self.max_length)
        tokenizer.no_padding()
        return tokenizer

    @cached_property
    def bert(self):
        """The frozen BertModel; TextEncoderError where the folder holds none, or another kind of model."""
        from transformers import BertModel
        from transformers.utils import logging

        if (kind := _model_type(self.folder)) != "bert":
            raise TextEncoderError(f"text encoder {self.name!r} is a {kind!r} model; only BERT models are supported")
        logging.disable_progress_bar()
        options = {"dtype": torch.float32, "add_pooling_layer": False, "output_loading_info": True}
        try:
            bert, loaded = BertModel.from_pretrained(str(self.folder), **options)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise TextEncoderError(f"text encoder {self.folder}: its weights cannot be read ({error})") from error
        if loaded["missing_keys"]:  # they would be left at random, with no more than a warning
            raise TextEncoderError(
                f"text encoder {self.folder}: weights lack {', '.join(sorted(loaded['missing_keys']))}"
            )
        return bert.eval().requires_grad_(False)

    def token_ids(self, sentences: Sequence[str]) -> list[list[int]]:
        """Token ids of each sentence, cut, without padding."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch(list(sentences))]

    @torch.no_grad()
    def encode(self, sentences: Sequence[str], device: str = "cpu") -> Tensor:
        """sentences [n] -> vectors [n, T], float32 on the CPU. Equal sentences are encoded once, short with short."""
        bert = self.bert.to(device)
        unique = sorted(set(sentences))
        ids = self.token_ids(unique)
        order = sorted(range(len(unique)), key=lambda i: len(ids[i]))
        vectors = torch.empty(len(unique), bert.config.hidden_size)
        batches = range(0, len(order), self.batch_size)
        for start in progress_bar(batches, description="encoding text", unit="batch", show=len(batches) > 8):
            batch = order[start : start + self.batch_size]
            tokens = torch.nn.utils.rnn.pad_sequence([torch.tensor(ids[i]) for i in batch], batch_first=True)
            lengths = torch.tensor([len(ids[i]) for i in batch])
            mask = torch.arange(tokens.shape[1]) < lengths[:, None]
            hidden = bert(input_ids=tokens.to(device), attention_mask=mask.to(device)).last_hidden_state
            vectors[batch] = hidden[:, 0].float().cpu()
        position = {sentence: i for i, sentence in enumerate(unique)}
        return vectors[[position[sentence] for sentence in sentences]].clone()


def _digest(path: Path) -> bytes:
    """SHA-256 of a file. That of a large one is remembered by its place, size and time of change, to the nanosecond."""
    path = path.resolve()
    state = path.stat()
    if state.st_size < LARGE:
        return hashlib.sha256(path.read_bytes()).digest()
    known = f"{path}\0{state.st_size}\0{state.st_mtime_ns}"
    note = DIGESTS.expanduser() / hashlib.sha256(known.encode()).hexdigest()
    with suppress(OSError):
        if len(remembered := note.read_bytes()) == hashlib.sha256().digest_size:
            return remembered
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
    with suppress(OSError):  # a home that cannot be written to costs a second each time
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_bytes(digest)
    return digest


def _model_type(folder: Path) -> str | None:
    try:
        return json.loads((folder / "config.json").read_bytes()).get("model_type")
    except (OSError, ValueError) as error:
        raise TextEncoderError(f"text encoder {folder}: no folder with a BERT ({error})") from error


def _holds(folder: Path, names: Iterable[str]) -> bool:
    return any((folder / name).exists() for name in names)
