"""Predicted masks -> files: a PNG an image in its own size, a table, and one page to look at."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from mavl.data.images.grey import ImageError
from mavl.data.images.inputs import MASKS, Failure, NoImageError
from mavl.data.images.read import read_image
from mavl.model.unet import THRESHOLD
from mavl.predict.files import apart
from mavl.predict.segmenter import Segmenter
from mavl.progress import progress_bar
from mavl.provenance import provenance
from mavl.report import page
from mavl.text.synonyms import resolve

CSV, PAGE = "masks.csv", "masks.html"
IMAGES_ON_PAGE = 100


@dataclass(frozen=True)
class Written:
    """How many images have a mask now, and what was left out."""

    images: int
    failures: list[Failure]


def write_masks(
    segmenter: Segmenter,
    source: str,
    images: Sequence[Path],
    folder: Path,
    *,
    findings: Sequence[str] = (),
    failures: Sequence[Failure] = (),
) -> Written:
    """Outline the finding in every image; one that cannot be read is left out. NoImageError when all are.

    MASKS holds 0 and 255, and what an earlier run wrote there is gone. CSV has of each image the mask's pixels, their
    share, and the probability of the surest pixel (0.5 or less: no mask). source: what the segmenter was loaded from;
    findings: those asked for, UnknownFindingError for another than its own; failures: names that meant no image.
    """
    for name in findings:
        resolve(name, [segmenter.finding])
    (folder / MASKS).mkdir(parents=True, exist_ok=True)
    rows, films, names, left_out = [], [], Counter(), list(failures)
    for image in progress_bar(images, description="outlining", unit="image"):
        try:
            picture = read_image(image)
        except ImageError as error:
            left_out.append(Failure(str(image), str(error).removeprefix(f"{image}: ")))
            continue
        probability = segmenter.probability(picture)
        mask = probability > THRESHOLD
        name = f"{MASKS}/{apart(image.stem, names)}.png"
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / name)
        figures = {"pixels": int(mask.sum()), "share": mask.mean(), "surest": probability.max()}
        rows.append({"image": str(image), "mask": name} | figures)
        if len(films) < IMAGES_ON_PAGE:
            films.append(page.film(picture, None, {"predicted": mask}) | {"name": image.name, "value": mask.mean()})
    if not rows:
        raise NoImageError(f"none of {len(left_out)} images could be read")
    _write_table(folder, pd.DataFrame(rows))
    html = page.render(
        "masks.html",
        finding=segmenter.finding,
        source=source,
        films=films,
        images=len(rows),
        failures=left_out,
        provenance=provenance(),
    )
    (folder / PAGE).write_text(html, encoding="utf-8", errors="xmlcharrefreplace")
    return Written(len(rows), left_out)


def _write_table(folder: Path, table: pd.DataFrame) -> None:
    """CSV, and no more of the masks that an earlier one lists."""
    stale = _listed(folder / CSV) - set(table["mask"])
    table.to_csv(folder / CSV, index=False, float_format="%.6g", errors="backslashreplace")
    for mask in stale:
        (folder / MASKS / Path(mask).name).unlink(missing_ok=True)


def _listed(table: Path) -> set[str]:
    """The masks that an earlier run wrote; none where its table is not there or not readable."""
    try:
        return set(pd.read_csv(table, usecols=["mask"], dtype=str, encoding_errors="replace")["mask"].dropna())
    except (OSError, ValueError):
        return set()
