"""Predicted masks -> files: a PNG an image in its own size, a table, and a page."""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from mavl.data.images.grey import ImageError
from mavl.data.images.inputs import MASKS, Failure, NoImageError
from mavl.data.images.read import read_image
from mavl.files import printable, write_text
from mavl.model.unet import THRESHOLD
from mavl.predict.files import Written, apart
from mavl.predict.prediction import doubts
from mavl.predict.segmenter import Segmenter
from mavl.progress import plural, progress_bar
from mavl.provenance import provenance, training_sentence
from mavl.report import page
from mavl.report.folder import PREDICTED, whole_folder
from mavl.report.tables import write_frame
from mavl.text.synonyms import resolve

CSV, PAGE = "masks.csv", "masks.html"
IMAGES_ON_PAGE = 100


def write_masks(
    segmenter: Segmenter,
    source: str,
    images: Sequence[Path],
    folder: Path,
    *,
    findings: Sequence[str] = (),
    failures: Sequence[Failure] = (),
    overwrite: bool = False,
) -> Written:
    """Outline the finding in every image; an unreadable image is left out. NoImageError when all are unreadable.

    The folder appears whole at the end; OccupiedError if it holds something already. MASKS holds masks of 0 and 255.
    CSV has of each image the mask's pixels, their share, and the highest probability of a pixel (0.5 or less: an empty
    mask).

    Args:
        source: what the segmenter was loaded from.
        findings: as requested; UnknownFindingError for another than the segmenter's.
        failures: names that meant no image.
        overwrite: replace the folder of an earlier run.
    """
    for name in findings:
        resolve(name, [segmenter.finding])
    with whole_folder(folder, overwrite=overwrite, made=PREDICTED) as draft:
        (draft / MASKS).mkdir()
        return _write(segmenter, source, images, draft, failures)


def _write(
    segmenter: Segmenter, source: str, images: Sequence[Path], folder: Path, failures: Sequence[Failure]
) -> Written:
    rows, films, names, left_out = [], [], Counter(), list(failures)
    for image in progress_bar(images, description="outlining", unit="image"):
        try:
            picture = read_image(image)
        except ImageError as error:
            left_out.append(Failure(str(image), str(error).removeprefix(f"{image}: ")))
            continue
        for warning in doubts(picture):
            tqdm.write(printable(f"warning: {image}: {warning}"), file=sys.stderr)
        probability = segmenter.probability(picture)
        mask = probability > THRESHOLD
        name = f"{MASKS}/{apart(image.stem, names)}.png"
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / name)
        figures = {"pixels": int(mask.sum()), "share": mask.mean(), "surest": probability.max()}
        rows.append({"image": str(image), "mask": name} | figures)
        if len(films) < IMAGES_ON_PAGE:
            films.append(page.film(picture, None, {"predicted": mask}) | {"name": image.name, "value": mask.mean()})
    if not rows:
        raise NoImageError(f"none of {plural(len(left_out), 'image')} could be read")
    write_frame(pd.DataFrame(rows), folder / CSV, digits=6)
    html = page.render(
        "masks.html",
        finding=segmenter.finding,
        source=source,
        films=films,
        images=len(rows),
        failures=left_out,
        training=training_sentence(segmenter.trained_on),
        provenance=provenance(),
    )
    write_text(folder / PAGE, html)
    return Written(len(rows), left_out)
