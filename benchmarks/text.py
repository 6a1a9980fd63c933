"""The text embeddings of 75 findings with a BERT-base: sorted by length against padded to 128, and warm from the cache.

python -m benchmarks.text       some 2 minutes on two cores

Weights are drawn, which costs what real ones cost, and so is the vocabulary: every word of the books. That makes
sentences about as long as BERT's own does (16.6 tokens on average by bert-base-uncased, special ones included).
"""

import json
import re
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import torch

from mavl.config.settings import TextSettings
from mavl.text.bert import BertEncoder
from mavl.text.books import read_books
from mavl.text.embeddings import build_embeddings
from mavl.text.random_bert import SPECIAL_TOKENS
from mavl.vocab import FINDINGS

PADDED, SAMPLE = 128, 8
"""Every SAMPLE-th sentence is encoded padded; the rest of that time is extrapolated."""


def seconds(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def write_bert(folder: Path, sentences: Iterable[str]) -> None:
    """A BERT-base of drawn weights that knows the words of the sentences."""
    from transformers import BertConfig, BertModel

    words = {word for sentence in sentences for word in re.findall(r"\w+|[^\w\s]", sentence.lower())}
    vocabulary = [*SPECIAL_TOKENS, *sorted(words)]
    BertModel(BertConfig(vocab_size=len(vocabulary)), add_pooling_layer=False).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))


@torch.no_grad()
def encode_padded(encoder: BertEncoder, sentences: list[str]) -> None:
    """As the release does: batches in the order of the book, each sentence padded to PADDED tokens."""
    for start in range(0, len(sentences), encoder.batch_size):
        ids = encoder.token_ids(sentences[start : start + encoder.batch_size])
        tokens, mask = torch.zeros(len(ids), PADDED, dtype=torch.long), torch.zeros(len(ids), PADDED, dtype=torch.long)
        for row, each in enumerate(ids):
            tokens[row, : len(each)], mask[row, : len(each)] = torch.tensor(each), 1
        encoder.bert(input_ids=tokens, attention_mask=mask)


def main() -> None:
    settings = TextSettings()
    books = read_books(settings.descriptions, settings.aspects)
    sentences = [sentence for finding in FINDINGS for sentence in books.sentences[finding].values()]
    with tempfile.TemporaryDirectory() as name:
        folder, cache = Path(name) / "bert", Path(name) / "cache"
        write_bert(folder, sentences)
        encoder = BertEncoder(str(folder))
        lengths = [len(ids) for ids in encoder.token_ids(sentences)]
        some = sentences[::SAMPLE]
        encode_padded(encoder, some[:8])
        padded = seconds(lambda: encode_padded(encoder, some)) * len(sentences) / len(some)
        cold = seconds(lambda: build_embeddings(books, FINDINGS, encoder, cache=cache))
        warm = seconds(lambda: build_embeddings(books, FINDINGS, BertEncoder(str(folder)), cache=cache))
    print(f"  {len(sentences)} sentences, {sum(lengths) / len(lengths):.0f} tokens on average")
    print(f"  padded to {PADDED}, extrapolated from {len(some)}: {padded:.0f} s; cold: {cold:.0f} s, ", end="")
    print(f"{padded / cold:.1f} times faster; warm: {warm:.3f} s")


if __name__ == "__main__":
    main()
