"""A model folder small enough to be made in a second: drawn weights, this project's books, a drawn text encoder."""

from pathlib import Path

import torch

from mavl import checkpoint
from mavl.bank import build_bank
from mavl.books import read_books
from mavl.model import MAVL
from mavl.settings import EvaluationSettings
from mavl.text import TextEncoder, draw_bert

ROOT = Path(__file__).resolve().parents[1]
FINDINGS = ("normal", "clear", "stable", "pneumonia", "effusion", "thicken", "cardiomegaly")


def write_model(folder: Path, seed: int = 0, findings: tuple[str, ...] = FINDINGS, **changed) -> Path:
    """Weights are drawn wider than they start, so that images and findings get scores of their own."""
    defaults = EvaluationSettings(benchmark="none")
    books = read_books([ROOT / path for path in defaults.descriptions], [ROOT / path for path in defaults.aspects])
    sentences = [sentence for finding in findings for sentence in books.sentences[finding].values()]
    bert = draw_bert(folder / "bert", sentences, seed, width=32, layers=1)
    text = {"encoder": str(bert), "sep": False, "max_length": 128, "lower_case": True}
    sizes = {"image_size": 64, "width": 32, "layers": 2, "heads": 2, "feedforward": 32, "text_width": 32}
    arguments = {"backbone": "resnet18", **sizes} | changed
    torch.manual_seed(seed)
    model = MAVL(**arguments)
    with torch.no_grad():
        model.query_projection.weight.mul_(200)
        model.grid_projection[-1].weight.mul_(200)
        model.presence_head.weight.mul_(5)
        model.presence_head.bias.copy_(torch.tensor([-2.0, 2.5]))
    bank = build_bank(books, findings, TextEncoder(str(bert)), model.aspects)
    checkpoint.save(folder / "model", model, arguments, bank, text, {"epoch": 1}, {})
    return folder / "model"
