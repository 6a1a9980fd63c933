"""Score the findings of chest X-rays, show where and why: any number of images, folders, patterns or CSV lists.

    python predict.py film.png --model runs/demo/best --findings pneumonia "pleural effusion"
    python predict.py scans/ 'more/*.dcm' list.csv --model checkpoint_full_46.pth --out runs/scans

Writes predictions.csv, .json, .html and overlays/ into `--out`. Without `--findings` all of the model's are scored and
the most probable ones explained. A finding may be a synonym ("enlarged heart"), or new: described in a book given by
`--books`, or by `--descriptions` and `--aspects`. A file that cannot be read is named and left out. Exit code: 0 when
all went well, 1 when some images failed, 2 when nothing could be done. Research software, not for diagnosis.
"""

import argparse
import sys
from pathlib import Path

from mavl.cli import complain_in_one_line


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", help="image, folder, pattern, or CSV with a column image or path")
    parser.add_argument("--model", required=True, help="model folder, released .pth, or hub id")
    parser.add_argument("--findings", nargs="+", help="names or synonyms; the model's vocabulary when left out")
    parser.add_argument("--books", nargs="+", default=[], help="books of concept_gen/generate.py, with both in one")
    parser.add_argument("--descriptions", nargs="+", default=[], help="disease books with findings of your own")
    parser.add_argument("--aspects", nargs="+", default=[], help="aspect books with findings of your own")
    parser.add_argument("--text_encoder", help="folder or hub id of the BERT, if not the model's own")
    parser.add_argument("--out", type=Path, default=Path("runs/predictions"), help="output folder (%(default)s)")
    parser.add_argument("--top", type=int, help="explain so many findings an image (all named ones, else 5)")
    parser.add_argument("--bs", type=int, default=8, help="images a batch (%(default)s)")
    parser.add_argument("--num_workers", type=int, default=2, help="threads that decode images (%(default)s)")
    return parser.parse_args()


@complain_in_one_line
def main() -> None:
    arguments = parse()
    from mavl.data.inputs import find_images

    images, failures = find_images(arguments.images)
    from mavl.predict import load  # torch takes seconds; a mistyped folder should not
    from mavl.prediction_files import PAGE, write_predictions

    predictor = load(
        arguments.model,
        descriptions=[*arguments.books, *arguments.descriptions],
        aspects=[*arguments.books, *arguments.aspects],
        text_encoder=arguments.text_encoder,
    )
    written = write_predictions(
        predictor,
        predictor.question(arguments.findings, arguments.top),
        images,
        arguments.out,
        failures=failures,
        batch_size=arguments.bs,
        workers=arguments.num_workers,
    )
    print(f"{written.images} images: {arguments.out / PAGE}")
    if written.failures:
        sys.exit(1)


if __name__ == "__main__":
    sys.exit(main())
