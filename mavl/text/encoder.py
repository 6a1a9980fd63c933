"""Text: sentences -> vectors, by a frozen BERT.

A vector is the last hidden state at position 0. The released tokenizer lower-cases and puts no closing [SEP] behind a
lone sentence, and the released checkpoints were trained with what that gives; `sep` and `max_length` say which way.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save as serialize
from torch import Tensor

from mavl.progress import progress_bar

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
VOCABULARY_FILES = ("vocab.txt", "tokenizer.json")
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
DRAWN_SPREAD = 0.05
LARGE = 2**24  # bytes
DIGESTS = Path("~/.cache/mavl/digests")
ENCODER_FILES = ("config.json", *VOCABULARY_FILES, *WEIGHT_FILES)


class TextEncoderError(ValueError):
    """A text encoder that cannot be loaded; the message says where it was looked for and how to get it."""


@dataclass(frozen=True)
class TextEncoder:
    """A frozen BERT and how its input is cut: any Hugging Face BERT by hub id or folder.

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


def draw_bert(folder: Path, sentences: Iterable[str], seed: int, width: int = 128, layers: int = 2) -> Path:
    """Write a small BERT with weights drawn from a seed and a vocabulary learnt from the sentences.

    For tests and the demo, where no encoder can be downloaded. It knows no medicine: sentences that share words get
    near vectors, no more. Weights are drawn wider than BERT's usual 0.02, so that attention tells words apart, and its
    last norm patch_grid and scales the sentences' vectors: what all of them share tells nothing, and small vectors start
    the scores of locations, dot products over the whole width, near zero.
    """
    from transformers import BertConfig, BertModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    sentences = sorted(set(sentences))
    words = Counter(word for sentence in sentences for word in _words(sentence))
    letters = sorted({letter for word in words for letter in word})
    vocabulary = [*SPECIAL_TOKENS, *letters, *(f"##{letter}" for letter in letters)]
    vocabulary += sorted(set(words) - set(vocabulary))
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 32),
        intermediate_size=2 * width,
        initializer_range=0.2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        bert = BertModel(config, add_pooling_layer=False)
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    _write_weights(folder, bert)
    _standardise(bert.encoder.layer[-1].output.LayerNorm, TextEncoder(str(folder)).encode(sentences))
    _write_weights(folder, bert)
    return folder


@torch.no_grad()
def _standardise(norm: torch.nn.LayerNorm, vectors: Tensor) -> None:
    """Have the norm that gave the vectors [n, T] give them with mean 0 and spread DRAWN_SPREAD in each dimension."""
    spread = vectors.std(dim=0, correction=0).clamp(min=0.1)
    norm.bias.sub_(vectors.mean(dim=0)).mul_(DRAWN_SPREAD / spread)
    norm.weight.mul_(DRAWN_SPREAD / spread)


def _write_weights(folder: Path, bert) -> None:
    """Not by save_pretrained, whose weights none but their owner may read."""
    (folder / "model.safetensors").write_bytes(serialize(bert.state_dict(), {"format": "pt"}))


def _words(sentence: str) -> list[str]:
    from tokenizers import normalizers, pre_tokenizers

    text = normalizers.BertNormalizer(lowercase=True).normalize_str(sentence)
    return [word for word, _ in pre_tokenizers.BertPreTokenizer().pre_tokenize_str(text)]
