"""Inspect books of findings: what is missing, too long, repeated, or too similar to be told apart.

    python concept_gen/inspect_book.py                                        # this project's books, by words alone
    python concept_gen/inspect_book.py concept_gen/books/*.json book.json --out runs/book        # with one of your own
    python concept_gen/inspect_book.py --text-encoder emilyalsentzer/Bio_ClinicalBERT     # or a folder with a BERT

Writes a page (report.html), maps of the similarity of findings, and the nearest neighbours and the problems as CSV
into `--out`. By words it takes seconds; `--text-encoder` also compares the vectors that a model would get. Exceptions
stand with their reasons in a file beside the books (justified.yaml, or `--justified`). Exit code: 0 when no problem
remains, 1 when something has to be mended, 2 when a book cannot be read.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mavl.config.cli import complain_in_one_line
from mavl.config.settings import ASPECT_BOOKS, DESCRIPTION_BOOKS, RANDOM
from mavl.files import shipped

if TYPE_CHECKING:
    from mavl.concepts.inspection import Entries
    from mavl.text.protocol import TextEncoder

OWN = (*DESCRIPTION_BOOKS, *ASPECT_BOOKS)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("books", nargs="*", type=Path, default=[shipped(path) for path in OWN], help="JSON files")
    parser.add_argument("--out", type=Path, default=Path("runs/inspection"), help="output folder (%(default)s)")
    parser.add_argument("--text-encoder", help="hub id or folder of a BERT; `random` for one with random weights")
    parser.add_argument("--justified", type=Path, nargs="+", help="exceptions (justified.yaml beside the books)")
    return parser.parse_args()


def text_encoder(arguments: argparse.Namespace, entries: "Entries") -> "TextEncoder | None":
    """The encoder of `--text-encoder`; a random one is written into the output folder."""
    if arguments.text_encoder is None:
        return None
    from mavl.text.encoder import load_text_encoder
    from mavl.text.encoders.random_bert import write_random_bert

    if arguments.text_encoder not in (RANDOM, "drawn"):  # "drawn" is its former name
        return load_text_encoder(arguments.text_encoder)
    sentences = [line for of in entries.lines.values() for line in of.values()]
    return load_text_encoder(str(write_random_bert(arguments.out / "random_text_encoder", sentences, seed=0)))


@complain_in_one_line
def main() -> int:
    arguments = parse()
    from mavl.concepts.inspection import inspect, read_entries, read_justified
    from mavl.concepts.inspection_report import lines, write

    entries = read_entries(arguments.books)
    beside = dict.fromkeys(book.parent / "justified.yaml" for book in arguments.books)
    justified = read_justified(arguments.justified or [path for path in beside if path.exists()])
    inspection = inspect(entries, justified, text_encoder(arguments, entries))
    page = write(inspection, arguments.out)
    print("\n".join([*lines(inspection), f"report: {page}"]))
    return 1 if inspection.problems else 0


if __name__ == "__main__":
    sys.exit(main())
