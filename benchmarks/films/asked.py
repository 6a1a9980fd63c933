"""A model and the images of a split, encoded once: scores of any findings, asked by any words."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from mavl import checkpoint
from mavl.config.loader import cache_folder, load
from mavl.config.settings import ASPECT_BOOKS, DESCRIPTION_BOOKS, TEXT_CACHE
from mavl.data.benchmarks.benchmark import Benchmark, read_split
from mavl.data.images.read import ImageFile
from mavl.data.images.transforms import eval_transform
from mavl.model.scores import HEADS, scores
from mavl.text.books import Books, read_books
from mavl.text.embeddings import TextEmbeddings, build_embeddings
from mavl.text.encoder import load_text_encoder

AT_ONCE = 128
BOOKS = read_books(DESCRIPTION_BOOKS, ASPECT_BOOKS)


class Asked:
    """labels [n, C] of the findings of a benchmark's test split, and the images' features by a model folder."""

    @torch.inference_mode()
    def __init__(self, folder: Path, benchmark: str, root: Path):
        loaded = checkpoint.load(folder)
        assert loaded.embeddings is not None
        self.model, self.trained, self.text = loaded.model, loaded.embeddings, dict(loaded.text)
        self.split = read_split(load(Benchmark, Path(f"configs/benchmarks/{benchmark}.yaml")), "test", root)
        transform = eval_transform(self.model.preprocessing)
        images = torch.stack([transform(ImageFile(path)) for path in self.split.paths])
        self.features = [self.model.encode_image(part) for part in images.split(AT_ONCE)]

    def words(self, finding: str, books: Books = BOOKS) -> TextEmbeddings:
        """The text of a finding that the model was not trained with, by books, through the model's scaling."""
        text = dict(self.text)
        text.pop("scaling", None)
        encoder = load_text_encoder(text.pop("encoder"), **text)
        names, anatomies = self.model.aspects, self.trained.anatomies
        embeddings = build_embeddings(books, [finding], encoder, names, cache_folder(TEXT_CACHE), anatomies)
        return embeddings.scaled(self.trained.scaling)

    @torch.inference_mode()
    def scores(self, findings: Sequence[str], more: TextEmbeddings | None = None) -> dict[str, np.ndarray]:
        """{head: [n, len(findings)]}; more: text of another finding, asked beside the trained ones."""
        text = self.trained.extended(more) if more is not None else self.trained
        queries = self.model.encode_text(text.vectors)
        outputs = [self.model.decode(part, queries) for part in self.features]
        return {head: torch.cat([scores(output, text, findings, head) for output in outputs]).numpy() for head in HEADS}

    def nearest(self, words: TextEmbeddings) -> str:
        """The trained finding, apart from a normal film, whose text has the largest mean cosine over the aspects."""
        known = [name for name in self.trained.findings if name != "normal"]
        cosines = torch.cosine_similarity(self.trained.select(known).vectors, words.vectors, dim=-1).mean(dim=1)
        return known[int(cosines.argmax())]
