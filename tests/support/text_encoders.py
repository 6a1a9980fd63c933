"""Folders of small text encoders with random weights, as their libraries write them."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

SENTENCES = [
    "Fluid in the lung.",
    "edge",
    "round opacity with a sharp edge, in the upper lung",
    "Pleural thickening",
    "the lung",
]
WIDTH = 32
OF_ROBERTA = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
OF_BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_WORDS = sorted({word.strip(".,").lower() for sentence in SENTENCES for word in sentence.split()} | {".", ",", "a"})
_SIZES = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 66,
    "initializer_range": 0.1,
    "vocab_size": len(_WORDS) + 5,
}
_OWN: dict[str, dict[str, Any]] = {
    "distilbert": {"dim": WIDTH, "n_layers": 2, "n_heads": 2, "hidden_dim": 48},
    "electra": {"embedding_size": 16},
    "mpnet": {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2},
    "modernbert": {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "max_relative_positions": 16},
}


def special_tokens(kind: str) -> tuple[str, ...]:
    return OF_ROBERTA if kind in ("mpnet", "roberta", "xlm-roberta") else OF_BERT


def write_encoder(folder: Path, kind: str, template: str | None = None, head: bool = False, seed: int = 0) -> Path:
    """The folder of an encoder. template: of its special tokens, by default both. head: of masked words, no pooler."""
    from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM

    torch.manual_seed(seed)
    built = "bert" if kind == "cxr-bert" else kind
    config = AutoConfig.for_model(built, **_SIZES, **_OWN.get(built, {}))
    model = (AutoModelForMaskedLM if head or kind == "cxr-bert" else AutoModel).from_config(config)
    model.save_pretrained(folder)
    if kind == "cxr-bert":  # with a head of its own and code, which must not run
        weights = load_file(folder / "model.safetensors")
        weights["cls_projection_head.dense_to_hidden.weight"] = torch.zeros(4, WIDTH)
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        code = {"auto_map": {"AutoModel": "modeling.Model", "AutoConfig": "modeling.Config"}}
        change(folder / "config.json", model_type=kind, **code)
        (folder / "modeling.py").write_text("raise SystemExit('the code of a folder ran')\n")
    tokenizer(special_tokens(kind), template).save(str(folder / "tokenizer.json"))
    return folder


def tokenizer(special: tuple[str, ...], template: str | None = None) -> Tokenizer:
    """One token a word, lower-cased."""
    opening, closing, unknown = ("<s>", "</s>", "<unk>") if special is OF_ROBERTA else ("[CLS]", "[SEP]", "[UNK]")
    built = Tokenizer(models.WordLevel({word: i for i, word in enumerate((*special, *_WORDS))}, unk_token=unknown))
    built.add_special_tokens(list(special))
    built.normalizer = normalizers.BertNormalizer(lowercase=True)
    built.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    of = [(token, built.token_to_id(token)) for token in (opening, closing)]
    built.post_processor = processors.TemplateProcessing(
        single=template or f"{opening} $A {closing}", special_tokens=of
    )
    return built


def change(path: Path, **values: Any) -> None:
    """Other values in the JSON object of a file, which need not exist."""
    content = json.loads(path.read_text()) if path.exists() else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content | values))


def declare(folder: Path, *modules: str, path: str = "", prefix: str = "sentence_transformers.models.") -> Path:
    """modules.json of sentence-transformers: a Transformer, then these."""
    named = [("Transformer", path), *((name, f"{i}_{name}") for i, name in enumerate(modules, start=1))]
    content = [
        {"idx": i, "name": str(i), "path": where, "type": f"{prefix}{name}"} for i, (name, where) in enumerate(named)
    ]
    folder.mkdir(exist_ok=True)
    (folder / "modules.json").write_text(json.dumps(content))
    return folder
