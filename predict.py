"""Score the findings of chest X-rays, show where and why: any number of images, folders, patterns or CSV lists.

    python predict.py film.png                                # the small model that comes with the package
    python predict.py film.png --model runs/demo/best --findings pneumonia "pleural effusion"
    python predict.py scans/ 'more/*.dcm' list.csv --model checkpoint_full_46.pth --out runs/scans

Writes predictions.csv, .json, .html and overlays/ into `--out`. Without `--findings` all of the model's are scored and
the most probable ones explained. A finding may be a synonym ("enlarged heart"), or new: described in a book given by
`--books`, or by `--descriptions` and `--aspects`. A model of finetune_cls.py scores its own findings; one of
finetune_seg.py outlines its own: masks/, masks.csv, masks.html. An unreadable file is reported and left out.
A folder of `--out` that holds an earlier result is replaced with `--overwrite` only; it appears whole at the end.
Exit code: 0 when all went well, 1 when some images failed, 2 when nothing could be done. Research software, not for
diagnosis.
"""

import argparse
import sys
from pathlib import Path

from mavl.config.cli import complain_in_one_line, positive
from mavl.config.settings import BUNDLED
from mavl.progress import plural


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", help="image, folder, pattern, or CSV with a column image or path")
    parser.add_argument(
        "--model", default=BUNDLED, help="model folder, released .pth, or hf://OWNER/NAME; by default %(default)s"
    )
    parser.add_argument("--findings", nargs="+", help="names or synonyms; the model's vocabulary when left out")
    parser.add_argument(
        "--books", nargs="+", default=[], help="books with findings of your own: whole, or a sentence each"
    )
    parser.add_argument("--descriptions", nargs="+", default=[], help="disease books with findings of your own")
    parser.add_argument("--aspects", nargs="+", default=[], help="aspect books with findings of your own")
    parser.add_argument("--text_encoder", help="folder or hub id of the BERT, if not the model's own")
    parser.add_argument("--out", type=Path, default=Path("runs/predictions"), help="output folder (%(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier result in --out")
    parser.add_argument("--top", type=int, help="explain so many findings an image (all named ones, else 5)")
    parser.add_argument("--bs", type=positive, default=8, help="images a batch (%(default)s)")
    parser.add_argument("--num_workers", type=positive, default=2, help="threads that decode images (%(default)s)")
    return parser.parse_args()


@complain_in_one_line
def main() -> int:
    arguments = parse()
    from mavl.data.images.inputs import find_images
    from mavl.report.folder import PREDICTED, check_free

    check_free(arguments.out, overwrite=arguments.overwrite, made=PREDICTED)
    images, failures = find_images(arguments.images, arguments.out)
    from mavl.checkpoint.finetuned import source_kind  # torch takes seconds; a mistyped folder should not
    from mavl.predict.commands import outline, score
    from mavl.predict.segmenter import KIND

    predict = outline if source_kind(arguments.model) == KIND else score
    written, page = predict(arguments, images, failures)
    print(f"{plural(written.images, 'image')}: {arguments.out / page}")
    return 1 if written.failures else 0


if __name__ == "__main__":
    sys.exit(main())
