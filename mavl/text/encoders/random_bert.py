"""A small BERT with random weights, for tests and the demo."""

from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import save as serialize
from torch import nn

from mavl.files import whole_file, write_json, write_text
from mavl.text.encoders.transformers import TransformerEncoder
from mavl.text.scaling import SPREAD

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def write_random_bert(folder: Path, sentences: Iterable[str], seed: int, width: int = 128, layers: int = 2) -> Path:
    """Write a small BERT with random weights and the vocabulary of the sentences into a folder; returns the folder.

    It has no medical knowledge: sentences that share words get similar vectors, no more. Its weights are wider than
    BERT's usual 0.02, so that its attention depends on the words. Its last LayerNorm gives the vectors of the sentences
    mean 0 and standard deviation SPREAD in each dimension: their common part carries no information, and small
    vectors start the location scores, dot products over the whole width, near zero.
    """
    from transformers import BertConfig, BertModel

    sentences = sorted(set(sentences))
    words = {word for sentence in sentences for word in _words(sentence)}
    letters = sorted({letter for word in words for letter in word})
    vocabulary = [*SPECIAL_TOKENS, *letters, *(f"##{letter}" for letter in letters)]
    vocabulary += sorted(words - set(vocabulary))
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
    write_text(folder / "config.json", config.to_json_string())
    write_text(folder / "vocab.txt", "\n".join(vocabulary) + "\n")
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer"})
    _write_weights(folder, bert)
    vectors = TransformerEncoder(str(folder)).encode(sentences)
    norm = bert.get_submodule(f"encoder.layer.{layers - 1}.output.LayerNorm")
    assert isinstance(norm, nn.LayerNorm)
    with torch.no_grad():
        scale = SPREAD / vectors.std(dim=0, correction=0).clamp(min=0.1)
        norm.bias.sub_(vectors.mean(dim=0)).mul_(scale)
        norm.weight.mul_(scale)
    _write_weights(folder, bert)
    return folder


def _write_weights(folder: Path, bert: nn.Module) -> None:
    """Not by save_pretrained, which lets only the owner read the weights."""
    with whole_file(folder / "model.safetensors", "wb") as file:
        file.write(serialize(bert.state_dict(), {"format": "pt"}))


def _words(sentence: str) -> list[str]:
    from tokenizers import normalizers, pre_tokenizers

    text = normalizers.BertNormalizer(lowercase=True).normalize_str(sentence)
    return [word for word, _ in pre_tokenizers.BertPreTokenizer().pre_tokenize_str(text)]
