"""Predictions -> files: a table, JSON, overlays, and a page, written image by image."""

import csv
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, SupportsFloat

import pandas as pd
from PIL import Image
from tqdm import tqdm

from mavl.data.images.inputs import OVERLAYS, Failure, NoImageError
from mavl.files import whole_file, write_text
from mavl.model.explain import Explanation
from mavl.predict.predictor import TOP, ImageSource, Prediction, Predictor, Request
from mavl.progress import progress_bar
from mavl.provenance import provenance
from mavl.report import page
from mavl.report.overlay import blend, colour_scale, overlay

CSV, JSON, PAGE = "predictions.csv", "predictions.json", "predictions.html"
MANY = 8
"""More images than this get a progress bar, fewer a line each."""

IMAGES_ON_PAGE, EXPLAINED_ON_PAGE = 25, 6
"""So that the page opens at once, whatever the number of images and findings; the other files have all of them."""

ROWS_ON_PAGE = 10
"""Findings of an image that are always visible on the page, the most probable ones."""

_PICTURE, _THUMBNAIL = 460, 72  # pixels on the page
_COLUMNS = ("image", "finding", "asked", "supervised", "contrastive", "overlay")


class Written(NamedTuple):
    """The number of images with a result, and what was left out."""

    images: int
    failures: list[Failure]


def write_predictions(
    predictor: Predictor,
    request: Request,
    images: Sequence[ImageSource],
    folder: Path,
    *,
    failures: Sequence[Failure] = (),
    batch_size: int = 8,
    workers: int = 2,
) -> Written:
    """Write the predictions of all images into the folder; unreadable images are reported on the way and left out.

    CSV, JSON and PAGE appear whole at the end; then other overlays in the CSV of an earlier run are removed.
    failures: names that already proved to mean no image. NoImageError if no image can be read.
    """
    (folder / OVERLAYS).mkdir(parents=True, exist_ok=True)
    earlier = listed(folder / CSV, "overlay")
    about = _about(predictor, request)
    cases, left_out, number, names, endings = [], [], 0, Counter(), Counter()
    slugs = {finding: apart(finding, endings) for finding in request.findings}
    stream = predictor.stream(images, request, batch_size=batch_size, workers=workers)
    with whole_file(folder / CSV) as table, whole_file(folder / JSON) as document:
        rows = csv.writer(table)
        rows.writerow(_COLUMNS)
        document.write(f'{{"about": {json.dumps(about, indent=1)},\n"images": [')
        for number, prediction in enumerate(_reported(stream, failures, len(images), left_out), start=1):
            stem = apart(Path(prediction.name).stem, names)
            entry = _entry(prediction, _write_overlays(prediction, folder, stem, slugs))
            rows.writerows([prediction.name, *finding.values()] for finding in entry["findings"])
            document.write(("," if number > 1 else "") + "\n" + json.dumps(entry))
            earlier -= {finding["overlay"] for finding in entry["findings"]}
            if number <= IMAGES_ON_PAGE:
                cases.append(_case(prediction, entry))
        if not number:
            raise NoImageError(f"none of {len(left_out)} images could be read")
        document.write(f'],\n"failed": {json.dumps([vars(failure) for failure in left_out], indent=1)}}}\n')
    remove(folder / OVERLAYS, earlier)
    compared = dict(zip(request.findings, request.asked, strict=True))
    html = page.render(
        "predictions.html",
        cases=cases,
        images=number,
        failures=left_out,
        about=about,
        books_complete=predictor.books_complete,
        compared=compared if len(cases) > 1 and len(compared) <= ROWS_ON_PAGE else {},
        rows_shown=ROWS_ON_PAGE,
        files=(CSV, JSON),
    )
    write_text(folder / PAGE, html)
    return Written(number, left_out)


def apart(name: str, seen: Counter[str]) -> str:
    """A part of a file name that differs from all before, in upper or lower case: the second of a kind ends in ~2.

    100 bytes at most, as two and an ending must fit 255; __ stands only between two.
    """
    slug = re.sub(r"(?:[^\w.-]|_)+", "_", name).encode()[:100].decode(errors="ignore").strip("_")
    seen[slug.casefold()] += 1
    count = seen[slug.casefold()]
    return slug if count == 1 else f"{slug}~{count}"


def listed(table: Path, column: str) -> set[str]:
    """The files in this column of an earlier run's CSV; none if the CSV is absent or unreadable."""
    try:
        return set(pd.read_csv(table, usecols=[column], dtype=str, encoding_errors="replace")[column].dropna())
    except (OSError, ValueError):
        return set()


def remove(folder: Path, files: Iterable[str]) -> None:
    """Remove the files of these names from a folder."""
    for name in files:
        (folder / Path(name).name).unlink(missing_ok=True)


def _about(predictor: Predictor, request: Request) -> dict[str, Any]:
    return {
        "notice": "Research software. Not a medical device; not for diagnosis.",
        "model": predictor.source,
        "kind": predictor.kind,
        "vocabulary": len(predictor.vocabulary),
        "bank": request.embeddings.about if request.embeddings else {},
        "provenance": provenance(),
    }


def _reported(
    stream: Iterable[Prediction | Failure], failures: Sequence[Failure], images: int, left_out: list[Failure]
) -> Iterator[Prediction]:
    """The predictions of a stream, reported on the console; the failures are appended to `left_out`."""
    bar = progress_bar(stream, description="predicting", unit="image", total=images, show=images > MANY)
    answers: Iterator[Prediction | Failure] = chain(failures, bar)
    for answer in answers:
        if isinstance(answer, Failure):
            left_out.append(answer)
            tqdm.write(f"left out {answer}", file=sys.stderr)
            continue
        yield answer
        if images <= MANY:
            top = [f"{answer.asked[i]} {100 * answer.supervised[i]:.1f} %" for i in answer.ranked()[:TOP]]
            print(f"{answer.name}: {', '.join(top)}")


def _write_overlays(prediction: Prediction, folder: Path, stem: str, slugs: dict[str, str]) -> dict[str, str]:
    """{finding: path of its overlay under the folder}."""
    asked, written = dict(zip(prediction.findings, prediction.asked, strict=True)), {}
    for finding, of in prediction.explanations.items():
        assert of.heatmap is not None  # explanations of a prediction have attention
        score = f"{100 * of.probability:.1f} %"
        image = overlay(prediction.picture, of.heatmap, asked[finding], score, of.patch_grid)
        written[finding] = f"{OVERLAYS}/{stem}__{slugs[finding]}.png"
        image.save(folder / written[finding], compress_level=3)
    return written


def _entry(prediction: Prediction, overlays: dict[str, str]) -> dict[str, Any]:
    """What the JSON holds of one image."""
    findings = [
        {
            "finding": prediction.findings[i],
            "asked": prediction.asked[i],
            "supervised": _short(prediction.supervised[i]),
            "contrastive": None if prediction.contrastive is None else _short(prediction.contrastive[i]),
            "overlay": overlays.get(prediction.findings[i]),
        }
        for i in prediction.ranked()
    ]
    width, height = prediction.picture.size
    explained = {finding: _explained(of) for finding, of in prediction.explanations.items()}
    return {"image": prediction.name, "width": width, "height": height, "findings": findings, "explained": explained}


def _explained(explanation: Explanation) -> dict[str, Any]:
    """What the JSON holds of an explanation; heatmaps are in the overlays."""
    healthy, cosine = explanation.healthy_cosine or {}, explanation.cosine
    aspects = {
        aspect: {
            "share": _short(explanation.shares[i]),
            "sentence": explanation.sentences[i],
            "cosine": None if cosine is None else _short(cosine[i]),
            "healthy_cosine": {name: _short(each[i]) for name, each in healthy.items()},
        }
        for i, aspect in enumerate(explanation.aspects)
    }
    difference, bias = _short(explanation.logit_difference), _short(explanation.bias)
    return {"logit_difference": difference, "bias": bias, "aspects": aspects}


def _short(value: SupportsFloat) -> float:
    """Rounded to the digits that float32 holds."""
    return float(f"{float(value):.6g}")


def _case(prediction: Prediction, entry: dict[str, Any]) -> dict[str, Any]:
    """What the page shows of one image: its entry in the JSON, and images."""
    small = prediction.picture.copy()
    small.thumbnail((_PICTURE, _PICTURE), reducing_gap=2.0)
    asked = {finding["finding"]: finding["asked"] for finding in entry["findings"]}
    explained = list(prediction.explanations.items())
    return entry | {
        "name": Path(prediction.name).name,
        "picture": page.image_uri(small, _PICTURE),
        "supervised": {finding["finding"]: finding["supervised"] for finding in entry["findings"]},
        "explanations": [
            entry["explained"][finding] | {"asked": asked[finding]} | _images(of, small)
            for finding, of in explained[:EXPLAINED_ON_PAGE]
        ],
        "also_explained": [asked[finding] for finding, _ in explained[EXPLAINED_ON_PAGE:]],
    }


def _images(explanation: Explanation, picture: Image.Image) -> dict[str, Any]:
    """The overlays of an explanation for the page, the heatmap's and one for each aspect, with their scales."""
    assert explanation.heatmap is not None
    assert explanation.aspect_heatmaps is not None
    tiny, patch_grid, heatmaps = picture.copy(), explanation.patch_grid, explanation.aspect_heatmaps.unbind()
    tiny.thumbnail((_THUMBNAIL, _THUMBNAIL))
    scale = max(map(colour_scale, heatmaps))
    overlays = (blend(tiny, heatmap, patch_grid, scale) for heatmap in heatmaps)
    return {
        "probability": explanation.probability,
        "longest": max(explanation.shares.abs().max().item(), 1e-6),
        "picture": page.image_uri(blend(picture, explanation.heatmap, patch_grid), _PICTURE),
        "scale": colour_scale(explanation.heatmap),
        "aspect_pictures": [page.image_uri(image, _THUMBNAIL) for image in overlays],
        "healthy": explanation.healthy_cosine is not None,
    }
