"""The text bank of 75 findings with a BERT-base: sorted by length against padded to 128, and warm from the cache.

python -m benchmarks.text       some 2 minutes on two cores; weights are drawn, which costs what real ones cost
"""

import tempfile
import time
from pathlib import Path

import torch

from mavl.bank import build_bank
from mavl.books import read_books
from mavl.settings import TextSettings
from mavl.text import TextEncoder, draw_bert
from mavl.vocab import FINDINGS

PADDED, SAMPLE = 128, 8
"""Every SAMPLE-th sentence is encoded padded; the rest of that time is extrapolated."""


def seconds(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@torch.no_grad()
def encode_padded(encoder: TextEncoder, sentences: list[str]) -> None:
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
        draw_bert(folder, sentences[:9], seed=0, width=768, layers=12)
        encoder = TextEncoder(str(folder))
        lengths = [len(ids) for ids in encoder.token_ids(sentences)]
        some = sentences[::SAMPLE]
        encode_padded(encoder, some[:8])
        padded = seconds(lambda: encode_padded(encoder, some)) * len(sentences) / len(some)
        cold = seconds(lambda: build_bank(books, FINDINGS, encoder, cache=cache))
        warm = seconds(lambda: build_bank(books, FINDINGS, TextEncoder(str(folder)), cache=cache))
    print(f"  {len(sentences)} sentences, {sum(lengths) / len(lengths):.0f} tokens on average")
    print(f"  padded to {PADDED}, extrapolated from {len(some)}: {padded:.0f} s; cold: {cold:.0f} s, ", end="")
    print(f"{padded / cold:.1f} times faster; warm: {warm:.3f} s")


if __name__ == "__main__":
    main()
