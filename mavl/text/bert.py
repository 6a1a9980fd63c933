"""A frozen BERT as text encoder: a sentence's vector is the last hidden state at position 0.

The released tokenizer lower-cases and adds no closing [SEP] to a lone sentence, and the released checkpoints were
trained so; `sep` and `max_length` select the tokenisation.
"""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mavl.files import read_json
from mavl.progress import note, plural, progress_bar
from mavl.text.protocol import TextEncoderError

VOCABULARY_FILES = ("vocab.txt", "tokenizer.json")
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
ENCODER_FILES: list[str] = ["config.json", *VOCABULARY_FILES, *WEIGHT_FILES]


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
        """The folder of the files: `name`, or the hub's snapshot, which is downloaded on first use."""
        if Path(self.name).is_dir():
            return Path(self.name)
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

        with suppress(LocalEntryNotFoundError, HFValidationError):
            cached = Path(snapshot_download(self.name, allow_patterns=ENCODER_FILES, local_files_only=True))
            if _files(cached, WEIGHT_FILES):  # another program may have fetched the tokenizer alone
                return cached
        try:
            return Path(snapshot_download(self.name, allow_patterns=ENCODER_FILES))
        except (OSError, ValueError) as error:
            raise TextEncoderError(
                f"text encoder {self.name!r} is not a folder and cannot be downloaded from the hub "
                f"({type(error).__name__}); download it once with network access, "
                "or set text.encoder to a folder with a BERT"
            ) from error

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the encoder's files: two encoders with the same name but other weights differ."""
        digest = hashlib.sha256()
        for path in _files(self.folder, ENCODER_FILES):
            with path.open("rb") as file:
                digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    @cached_property
    def tokenizer(self):
        """The `tokenizers` tokenizer, with this encoder's own closing and length rules."""
        from tokenizers import normalizers, processors
        from transformers import BertTokenizer

        where = f"text encoder {self.folder}"
        if not _files(self.folder, VOCABULARY_FILES):  # transformers would make a tokenizer of five words
            raise TextEncoderError(f"{where}: none of {', '.join(VOCABULARY_FILES)} is there")
        template = "[CLS] $A [SEP]" if self.sep else "[CLS] $A"
        try:
            tokenizer = BertTokenizer.from_pretrained(str(self.folder)).backend_tokenizer
            special = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
            tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=special)
        except Exception as error:  # tokenizers raises nothing narrower
            raise TextEncoderError(f"{where}: its vocabulary cannot be read ({_line(error)})") from error
        words = tokenizer.get_vocab(with_added_tokens=False)
        if missing := [token for token, _ in special if token not in words]:  # transformers would add it as a new word
            raise TextEncoderError(f"{where}: its vocabulary has no {missing[0]}")
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=self.lower_case)
        tokenizer.enable_truncation(self.max_length)
        tokenizer.no_padding()
        return tokenizer

    @cached_property
    def bert(self):
        """The frozen BertModel; TextEncoderError where the folder holds none, or another kind of model."""
        from transformers import BertModel
        from transformers.utils import logging

        where = f"text encoder {self.folder}"
        try:
            config = read_json(self.folder / "config.json")
        except (OSError, ValueError) as error:
            raise TextEncoderError(f"{where}: no folder with a BERT ({error})") from error
        kind = config.get("model_type") if isinstance(config, dict) else None
        if kind != "bert":
            raise TextEncoderError(f"{where} is a {kind!r} model; only BERT models are supported")
        logging.disable_progress_bar()
        options = {"dtype": torch.float32, "add_pooling_layer": False, "output_loading_info": True}
        try:
            bert, loaded = cast(Any, BertModel).from_pretrained(str(self.folder), **options)
        except Exception as error:  # a config may hold anything, and transformers fails on it anywhere
            raise TextEncoderError(f"{where}: its weights cannot be read ({_line(error)})") from error
        if loaded["missing_keys"]:  # transformers only warns, and leaves them random
            raise TextEncoderError(f"{where}: weights lack {', '.join(sorted(loaded['missing_keys']))}")
        if (words := self.tokenizer.get_vocab_size()) > bert.config.vocab_size:
            raise TextEncoderError(f"{where}: a vocabulary of {words} words for {bert.config.vocab_size} vectors")
        if self.max_length > (most := bert.config.max_position_embeddings):
            raise TextEncoderError(f"{where} takes {most} tokens: set text.max_length to at most that")
        return bert.eval().requires_grad_(False)

    def token_ids(self, sentences: Sequence[str]) -> list[list[int]]:
        """Token ids of each sentence, cut, without padding."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch(list(sentences))]

    @torch.no_grad()
    def encode(self, sentences: Sequence[str], device: str = "cpu") -> Tensor:
        """sentences [n] -> vectors [n, T], float32 on the CPU. Equal sentences are encoded once, short with short."""
        bert = self.bert.to(device)
        unique = sorted(set(sentences))
        encodings = self.tokenizer.encode_batch(unique)
        if cut := sum(bool(encoding.overflowing) for encoding in encodings):
            of = f"{cut} of {plural(len(unique), 'sentence')} with more than {self.max_length} tokens"
            note(f"note: {self.name} reads the beginning of {of}")
        tokens = {text: torch.tensor(encoding.ids) for text, encoding in zip(unique, encodings, strict=True)}
        order = sorted(unique, key=lambda text: len(tokens[text]))
        vectors: dict[str, Tensor] = {}
        batches = range(0, len(order), self.batch_size)
        for start in progress_bar(batches, description="encoding text", unit="batch", show=len(batches) > 8):
            batch = order[start : start + self.batch_size]
            ids = pad_sequence([tokens[text] for text in batch], batch_first=True)
            mask = pad_sequence([torch.ones(len(tokens[text]), dtype=torch.bool) for text in batch], batch_first=True)
            hidden = bert(input_ids=ids.to(device), attention_mask=mask.to(device)).last_hidden_state
            vectors |= zip(batch, hidden[:, 0].float().cpu(), strict=True)
        return torch.stack([vectors[text] for text in sentences])


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _files(folder: Path, names: Sequence[str]) -> list[Path]:
    """Those of the files that the folder holds."""
    return [folder / name for name in names if (folder / name).exists()]
