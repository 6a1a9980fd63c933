"""A model folder small enough to be made in a second (drawn weights, this project's books), and films to show to it."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mavl import checkpoint
from mavl.config.settings import ASPECT_BOOKS, DESCRIPTION_BOOKS
from mavl.model.mavl import MAVL
from mavl.text.books import read_books
from mavl.text.embeddings import build_embeddings
from mavl.text.encoders.random_bert import write_random_bert
from mavl.text.encoders.transformers import TransformerEncoder
from mavl.text.scaling import ScalingName

ROOT = Path(__file__).resolve().parents[2]
FINDINGS = ("normal", "clear", "stable", "pneumonia", "effusion", "thicken", "cardiomegaly")


def write_model(
    folder: Path, seed: int = 0, findings: tuple[str, ...] = FINDINGS, scaling: ScalingName = "none", **changed
) -> Path:
    """Weights are drawn wider than they start, so that images and findings get scores of their own."""
    books = read_books([ROOT / path for path in DESCRIPTION_BOOKS], [ROOT / path for path in ASPECT_BOOKS])
    sentences = [sentence for finding in findings for sentence in books.sentences[finding].values()]
    bert = write_random_bert(folder / "bert", sentences, seed, width=32, layers=1)
    text = {"encoder": str(bert), "sep": False, "max_length": 128, "lower_case": True}
    sizes = {"image_size": 64, "width": 32, "layers": 2, "heads": 2, "feedforward": 32, "text_width": 32}
    arguments = {"backbone": "resnet18", **sizes} | changed
    torch.manual_seed(seed)
    model = MAVL(**arguments)
    with torch.no_grad():
        model.query_projection.weight.mul_(20)
        model.grid_projection[-1].weight.mul_(5)
        model.presence_head.bias.copy_(torch.tensor([-2.0, 2.5]))
    embeddings = build_embeddings(books, findings, TransformerEncoder(str(bert)), model.aspects)
    embeddings = embeddings.with_own_scaling(scaling)
    checkpoint.save(folder / "model", model, arguments, embeddings, text, {"epoch": 1}, {})
    return folder / "model"


def write_films(folder: Path) -> Path:
    """Seven good images, one of every kind."""
    grey = np.random.default_rng(0).integers(0, 256, (90, 70), dtype=np.uint8)
    Image.fromarray(grey).save(folder / "grey.png")
    Image.fromarray(grey.astype(np.uint16) * 200).save(folder / "deep.png")
    Image.fromarray(grey).convert("RGBA").save(folder / "rgba.png")
    Image.fromarray(grey).convert("P").save(folder / "palette.png")
    Image.fromarray(grey).convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(grey).resize((3000, 40)).save(folder / "long.png")
    Image.fromarray(grey).save(folder / "jpeg in a png.png", "JPEG")
    return folder


def write_broken_films(folder: Path) -> Path:
    """Bad ones, one of every kind."""
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (90, 70), dtype=np.uint8))
    for name in ("cut.png", "cut.jpg"):
        noise.save(folder / name)
        (folder / name).write_bytes((folder / name).read_bytes()[:2000])
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("not an image")
    (folder / "cut.dcm").write_bytes(bytes(128) + b"DICM")
    Image.new("1", (20_000, 20_000)).save(folder / "huge.png")  # 400 million pixels in some kilobytes
    return folder
