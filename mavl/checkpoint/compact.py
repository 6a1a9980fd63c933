"""Write a model folder anew at half its size: matrices in fp16, without the folders that its training read and wrote.

    python -m mavl.checkpoint.compact runs/films/best --out mavl/checkpoint/films

It is computed with in fp32 as before; the rounding moves scores in the fourth digit.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from mavl.config.cli import complain_in_one_line
from mavl.config.settings import ASPECT_BOOKS, DESCRIPTION_BOOKS

PLACES = ("root", "cache", "output_dir")
"""Keys of the settings, and of those on data, that name folders of the machine."""


def compact(source: Path, target: Path) -> None:
    """Write `target`, a model folder of half the size; CheckpointError where it exists.

    Vectors, such as biases and the statistics of BatchNorm, stay in fp32.
    """
    from mavl.checkpoint.folder import read_model
    from mavl.checkpoint.merge import write_again
    from mavl.checkpoint.released import MAVL_KIND, NETWORKS

    model, about, folder = read_model(source, NETWORKS)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data = parameter.data.half()
    config = {key: value for key, value in (about.get("config") or {}).items() if key not in PLACES}
    if data := config.get("data"):
        config["data"] = {key: value for key, value in data.items() if key not in PLACES}
    about["config"] = config
    write_again(model, about, folder, target)
    if about["kind"] == MAVL_KIND:
        add_sentences(target)


def add_sentences(folder: Path) -> None:
    """Write the sentences of a folder's findings into it, as far as this project's books are those of its training."""
    from mavl.checkpoint.folder import EMBEDDINGS
    from mavl.text.books import read_books
    from mavl.text.embeddings import TextEmbeddings

    embeddings, books = TextEmbeddings.load(folder / EMBEDDINGS), read_books(DESCRIPTION_BOOKS, ASPECT_BOOKS)
    if embeddings.sentences or not set(embeddings.about["books"].values()) <= set(books.hashes.values()):
        return
    books = books.filled(embeddings.findings, embeddings.aspects)
    sentences = {
        name: {aspect: books.sentences[name][aspect] for aspect in embeddings.aspects} for name in embeddings.findings
    }
    replace(embeddings, sentences=sentences).save(folder / EMBEDDINGS)


@complain_in_one_line
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="a model folder")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    arguments = parser.parse_args()
    compact(arguments.source, arguments.out)
    size = sum(file.stat().st_size for file in arguments.out.rglob("*") if file.is_file())
    print(f"{arguments.out}: written, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    sys.exit(main())
