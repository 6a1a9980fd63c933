"""Predictions -> files: a table, JSON, overlays, and a page, written image by image."""

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, SupportsFloat

from PIL import Image
from tqdm import tqdm

from mavl.data.images.inputs import OVERLAYS, Failure, NoImageError
from mavl.files import csv_writer, printable, whole_file, write_text
from mavl.model.explain import Explanation
from mavl.predict.arrays import ImageSource
from mavl.predict.prediction import TOP, Prediction, Request
from mavl.predict.predictor import Predictor
from mavl.progress import plural, progress_bar
from mavl.provenance import provenance, training_sentence
from mavl.report import page
from mavl.report.folder import PREDICTED, whole_folder
from mavl.report.pictures.overlay import blend, overlay, reduced

CSV, JSON, PAGE = "predictions.csv", "predictions.json", "predictions.html"
MANY = 8
"""More images than this get a progress bar, fewer a line each."""

IMAGES_ON_PAGE, EXPLAINED_ON_PAGE = 25, 6
"""So that the page opens at once, whatever the number of images and findings; the other files have all of them."""

ROWS_ON_PAGE = 10
"""Findings of an image that are always visible on the page, the most probable ones."""

_PICTURE, _THUMBNAIL = 460, 72  # pixels on the page
_COLUMNS = ("image", "finding", "asked", "supervised", "contrastive", "overlay", "new", "threshold", "calibrated")


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
    overwrite: bool = False,
) -> Written:
    """Write the predictions of all images into a new folder; unreadable images are reported on the way and left out.

    Args:
        failures: names that already proved to mean no image.
        overwrite: replace the folder of an earlier run.

    The folder appears whole at the end. OccupiedError if it holds anything else, NoImageError if no image can be read.
    """
    stream = predictor.stream(images, request, batch_size=batch_size, workers=workers)
    with whole_folder(folder, overwrite=overwrite, made=PREDICTED) as draft:
        (draft / OVERLAYS).mkdir()
        return _write(predictor, request, _reported(stream, failures, len(images), left_out := []), left_out, draft)


def _write(
    predictor: Predictor, request: Request, predictions: Iterable[Prediction], left_out: list[Failure], folder: Path
) -> Written:
    """Write the files; `left_out` gets its failures while the predictions are iterated."""
    about = _about(predictor, request)
    cases, number, names, endings = [], 0, Counter(), Counter()
    slugs = {finding: apart(finding, endings) for finding in request.findings}
    with whole_file(folder / CSV) as table, whole_file(folder / JSON) as document:
        rows = csv_writer(table)
        rows.writerow(_COLUMNS)
        document.write(f'{{"about": {_json(about, 1)},\n"images": [')
        for number, prediction in enumerate(predictions, start=1):
            stem = apart(Path(prediction.name).stem, names)
            entry = _entry(prediction, _write_overlays(prediction, folder, stem, slugs, predictor.unit))
            rows.writerows([prediction.name, *finding.values()] for finding in entry["findings"])
            document.write(("," if number > 1 else "") + "\n" + _json(entry))
            if number <= IMAGES_ON_PAGE:
                cases.append(_case(prediction, entry))
        if not number:
            raise NoImageError(f"none of {plural(len(left_out), 'image')} could be read")
        document.write(f'],\n"failed": {_json([vars(failure) for failure in left_out], 1)}}}\n')
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


def _json(content: object, indent: int | None = None) -> str:
    """JSON without NaN; ValueError where the content has one."""
    return json.dumps(content, indent=indent, allow_nan=False)


def _about(predictor: Predictor, request: Request) -> dict[str, Any]:
    return {
        "notice": "Research software. Not a medical device; not for diagnosis.",
        "model": predictor.source,
        "kind": predictor.kind,
        "vocabulary": len(predictor.vocabulary),
        "trained_on": predictor.trained_on,
        "training_images": training_sentence(predictor.trained_on),
        "operating_points": predictor.operating_points,
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
            tqdm.write(printable(f"left out {answer}"), file=sys.stderr)
            continue
        for warning in answer.warnings:
            tqdm.write(printable(f"warning: {answer.name}: {warning}"), file=sys.stderr)
        yield answer
        if images <= MANY:
            top = [f"{answer.asked[i]} {_score(answer, i)}" for i in answer.ranked()[:TOP]]
            print(printable(f"{answer.name}: {', '.join(top)}"))


def _score(prediction: Prediction, finding: int) -> str:
    """The leading probability of a finding, such as 12.3 %, and the head and the mark of one never trained on."""
    score, name = f"{100 * prediction.leading[finding]:.1f} %", prediction.findings[finding]
    if name not in prediction.new:
        if (calibrated := prediction.calibrated(name)) is not None:
            score += f", calibrated {100 * calibrated:.1f} %"
        return f"{score}, above its threshold" if prediction.positive(name) else score
    head = "contrastive head, " if prediction.contrastive is not None else ""
    return f"{score} ({head}never trained on)"


def _write_overlays(
    prediction: Prediction, folder: Path, stem: str, slugs: dict[str, str], unit: str
) -> dict[str, str]:
    """{finding: path of its overlay under the folder}."""
    written = {}
    for finding, of in prediction.explanations.items():
        assert of.heatmap is not None  # explanations of a prediction have attention
        i = prediction.findings.index(finding)
        probability = float(prediction.leading[i])
        texts = prediction.asked[i], _score(prediction, i)
        image = overlay(prediction.picture, of.heatmap, *texts, of.patch_grid, probability, unit)
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
            "new": prediction.findings[i] in prediction.new,
            "threshold": prediction.points[name].threshold if name in prediction.points else None,
            "calibrated": None if (calibrated := prediction.calibrated(name)) is None else _short(calibrated),
        }
        for i in prediction.ranked()
        for name in [prediction.findings[i]]
    ]
    width, height = prediction.picture.size
    explained = {finding: _explained(of) for finding, of in prediction.explanations.items()}
    size = {"image": prediction.name, "width": width, "height": height, "warnings": list(prediction.warnings)}
    return size | {"findings": findings, "explained": explained}


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
    small, leading = reduced(prediction.picture, _PICTURE), prediction.scores()
    asked = {finding["finding"]: finding["asked"] for finding in entry["findings"]}
    explained = list(prediction.explanations.items())
    return entry | {
        "name": Path(prediction.name).name,
        "picture": page.image_uri(small, _PICTURE),
        "leading": leading,
        "explanations": [
            entry["explained"][finding]
            | {"asked": asked[finding], "new": finding in prediction.new}
            | _images(of, small, leading[finding])
            for finding, of in explained[:EXPLAINED_ON_PAGE]
        ],
        "also_explained": [asked[finding] for finding, _ in explained[EXPLAINED_ON_PAGE:]],
    }


def _images(explanation: Explanation, picture: Image.Image, leading: float) -> dict[str, Any]:
    """The overlays of an explanation for the page, the heatmap's and one for each aspect, and its leading score."""
    assert explanation.heatmap is not None
    assert explanation.aspect_heatmaps is not None
    tiny, patch_grid = reduced(picture, _THUMBNAIL), explanation.patch_grid
    overlays = (blend(tiny, heatmap, patch_grid, leading) for heatmap in explanation.aspect_heatmaps.unbind())
    return {
        "probability": explanation.probability,
        "leading": leading,
        "longest": max(explanation.shares.abs().max().item(), 1e-6),
        "picture": page.image_uri(blend(picture, explanation.heatmap, patch_grid, leading), _PICTURE),
        "aspect_pictures": [page.image_uri(image, _THUMBNAIL) for image in overlays],
        "healthy": explanation.healthy_cosine is not None,
    }
