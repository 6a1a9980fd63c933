"""Predictions -> files: a table, JSON, overlays, and one page to read. Written as they come, so memory stays flat."""

import csv
import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import SupportsFloat

from PIL import Image
from tqdm import tqdm

from mavl.data.images.inputs import OVERLAYS, Failure, NoImageError
from mavl.model.explain import Explanation
from mavl.predict.predictor import TOP, Prediction, Predictor, Request
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
"""Findings of an image that stay unfolded, the most probable ones."""

_PICTURE, _THUMBNAIL = 460, 72  # pixels on the page
_COLUMNS = ("image", "finding", "asked", "supervised", "contrastive", "overlay")


class PredictionFilesError(ValueError):
    """An output folder that cannot be written."""


def write_predictions(
    predictor: Predictor,
    request: Request,
    images: Sequence[Path],
    folder: Path,
    *,
    failures: Sequence[Failure] = (),
    batch_size: int = 8,
    workers: int = 2,
) -> "PredictionFiles":
    """Ask about every image and write the answers into the folder; bad images are named on the way and left out.

    failures: names that already proved to mean no image. NoImageError when no image could be read.
    """
    many = len(images) > MANY
    with PredictionFiles(folder, predictor, request) as files:
        for failure in failures:
            files.add(failure)
            tqdm.write(f"left out {failure}", file=sys.stderr)
        answers = predictor.stream(images, request, batch_size=batch_size, workers=workers)
        for answer in progress_bar(answers, description="predicting", unit="image", total=len(images), show=many):
            files.add(answer)
            if isinstance(answer, Failure):
                tqdm.write(f"left out {answer}", file=sys.stderr)
            elif not many:
                print(f"{answer.name}: {_line(answer)}")
    if not files.images:
        raise NoImageError(f"none of {len(files.failures)} images could be read")
    return files


class PredictionFiles:
    """Use as a context manager: `add` each answer; leaving it ends the files and writes the page.

    A run that breaks off leaves files whose names end in .part.
    """

    def __init__(self, folder: Path, predictor: Predictor, request: Request):
        self.folder, self.request = folder, request
        self.about = {
            "notice": "Research software. Not a medical device; not for diagnosis.",
            "model": predictor.source,
            "kind": predictor.kind,
            "vocabulary": len(predictor.vocabulary),
            "bank": request.embeddings.about,
            "provenance": provenance(),
        }
        self.books_complete = predictor.books_complete
        self.failures: list[Failure] = []
        self.images = 0
        self._cases: list[dict] = []
        self._names: Counter[str] = Counter()
        numbered: Counter[str] = Counter()
        self._slugs = {finding: apart(finding, numbered) for finding in request.findings}
        self._stale: set[str] = set()

    def __enter__(self) -> "PredictionFiles":
        try:
            (self.folder / OVERLAYS).mkdir(parents=True, exist_ok=True)
            if any(path.exists() for path in (self.folder / CSV, _part(self.folder / CSV))):
                self._stale = {path.name for path in (self.folder / OVERLAYS).glob("*__*.png")}
            self._csv = _open(self.folder / CSV, newline="", errors="backslashreplace")
            self._json = _open(self.folder / JSON)
        except OSError as error:
            raise PredictionFilesError(f"{self.folder}: cannot be written ({error.strerror})") from error
        self._rows = csv.DictWriter(self._csv, _COLUMNS)
        self._rows.writeheader()
        self._json.write(f'{{"about": {json.dumps(self.about, indent=1)},\n"images": [')
        return self

    def __exit__(self, kind, *exception) -> None:
        failures = [vars(failure) for failure in self.failures]
        self._json.write(f'],\n"failed": {json.dumps(failures, indent=1)}}}\n')
        self._csv.close()
        self._json.close()
        if kind is None:
            for name in (CSV, JSON):
                _part(self.folder / name).replace(self.folder / name)
            for name in self._stale:
                (self.folder / OVERLAYS / name).unlink(missing_ok=True)
            html = self._page()
            (self.folder / PAGE).write_text(html, encoding="utf-8", errors="xmlcharrefreplace")

    def add(self, answer: Prediction | Failure) -> None:
        if isinstance(answer, Failure):
            self.failures.append(answer)
            return
        overlays = self._draw(answer)
        findings = [
            {
                "finding": answer.findings[i],
                "asked": answer.asked[i],
                "supervised": _short(answer.supervised[i]),
                "contrastive": None if answer.contrastive is None else _short(answer.contrastive[i]),
                "overlay": overlays.get(answer.findings[i]),
            }
            for i in answer.ranked()
        ]
        self._rows.writerows({"image": answer.name} | finding for finding in findings)
        explained = {name: _plain(explanation) for name, explanation in answer.explanations.items()}
        width, height = answer.picture.size
        entry = {"image": answer.name, "width": width, "height": height, "findings": findings, "explained": explained}
        self._json.write(("," if self.images else "") + "\n" + json.dumps(entry))
        if len(self._cases) < IMAGES_ON_PAGE:
            self._cases.append(_case(answer, findings, self.images + 1))
        self.images += 1

    def _draw(self, answer: Prediction) -> dict[str, str]:
        """Write the overlays; {finding: path under the folder}."""
        stem = apart(Path(answer.name).stem, self._names)
        asked = dict(zip(answer.findings, answer.asked, strict=True))
        written = {}
        for finding, explanation in answer.explanations.items():
            name = f"{stem}__{self._slugs[finding]}.png"
            self._stale.discard(name)
            written[finding] = f"{OVERLAYS}/{name}"
            score = f"{100 * explanation.probability:.1f} %"
            drawn = overlay(answer.picture, explanation.heatmap, asked[finding], score, explanation.patch_grid)
            drawn.save(self.folder / written[finding], compress_level=3)
        return written

    def _page(self) -> str:
        return page.render(
            "predictions.html",
            cases=self._cases,
            images=self.images,
            failures=self.failures,
            about=self.about,
            books_complete=self.books_complete,
            compared=self._compared(),
            rows_shown=ROWS_ON_PAGE,
            files=(CSV, JSON),
        )

    def _compared(self) -> dict[str, str]:
        """{finding: as it was asked} of the table that sets images side by side, where there are several, not many."""
        few = len(self._cases) > 1 and len(self.request.findings) <= ROWS_ON_PAGE
        return dict(zip(self.request.findings, self.request.asked, strict=True)) if few else {}


def _case(answer: Prediction, findings: list[dict], number: int) -> dict:
    """What the page shows of one image."""
    small = answer.picture.copy()
    small.thumbnail((_PICTURE, _PICTURE), reducing_gap=2.0)
    asked = dict(zip(answer.findings, answer.asked, strict=True))
    explained = list(answer.explanations.values())
    return {
        "number": number,
        "name": Path(answer.name).name,
        "path": answer.name,
        "size": answer.picture.size,
        "picture": page.image_uri(small, _PICTURE),
        "findings": findings,
        "supervised": {finding["finding"]: finding["supervised"] for finding in findings},
        "explanations": [_explained(each, asked[each.finding], small) for each in explained[:EXPLAINED_ON_PAGE]],
        "also_explained": [asked[each.finding] for each in explained[EXPLAINED_ON_PAGE:]],
    }


def _explained(explanation: Explanation, asked: str, picture: Image.Image) -> dict:
    """What the page shows of one finding: its overlay, and a bar for each aspect, in % of half a row."""
    tiny = picture.copy()
    tiny.thumbnail((_THUMBNAIL, _THUMBNAIL))
    longest = max(explanation.shares.abs().max().item(), 1e-6)
    scale = max(map(colour_scale, explanation.aspect_heatmaps))
    aspects = []
    for i, aspect in enumerate(explanation.aspects):
        share = explanation.shares[i].item()
        aspects.append(
            {
                "name": aspect,
                "sentence": _without_aspect(explanation.sentences[i], aspect),
                "share": share,
                "length": 50 * abs(share) / longest,
                "picture": page.image_uri(
                    blend(tiny, explanation.aspect_heatmaps[i], explanation.patch_grid, scale), _THUMBNAIL
                ),
                "cosine": None if explanation.cosine is None else explanation.cosine[i].item(),
                "healthy": {name: each[i].item() for name, each in (explanation.healthy_cosine or {}).items()},
            }
        )
    return {
        "asked": asked,
        "probability": explanation.probability,
        "logit_difference": explanation.logit_difference,
        "bias": explanation.bias,
        "bias_length": min(50, 50 * abs(explanation.bias) / longest),
        "picture": page.image_uri(blend(picture, explanation.heatmap, explanation.patch_grid), _PICTURE),
        "scale": colour_scale(explanation.heatmap),
        "aspects": aspects,
        "healthy": list(explanation.healthy_cosine or {}),
    }


def _line(answer: Prediction) -> str:
    top = [f"{answer.asked[i]} {100 * answer.supervised[i]:.1f} %" for i in answer.ranked()[:TOP]]
    return ", ".join(top)


def _plain(explanation: Explanation) -> dict:
    """An explanation for JSON; heatmaps are in the overlays."""
    healthy = explanation.healthy_cosine or {}
    aspects = {}
    for i, aspect in enumerate(explanation.aspects):
        aspects[aspect] = {
            "share": _short(explanation.shares[i]),
            "sentence": explanation.sentences[i],
            "cosine": None if explanation.cosine is None else _short(explanation.cosine[i]),
            "healthy_cosine": {name: _short(each[i]) for name, each in healthy.items()},
        }
    difference, bias = _short(explanation.logit_difference), _short(explanation.bias)
    return {"logit_difference": difference, "bias": bias, "aspects": aspects}


def _short(value: SupportsFloat) -> float:
    """Rounded to what float32 holds for certain."""
    return float(f"{float(value):.6g}")


def _without_aspect(sentence: str | None, aspect: str) -> str | None:
    """A line of an aspect book without the aspect's name before it, which stands beside it anyway."""
    if sentence is None:
        return None
    return re.sub(rf"^{aspect}s?:\s*", "", sentence, flags=re.IGNORECASE)


def apart(name: str, seen: Counter[str]) -> str:
    """A slug that none seen before has, in upper or lower case: the second of a kind ends in ~2, which no slug does."""
    slug = _slug(name)
    seen[slug.casefold()] += 1
    count = seen[slug.casefold()]
    return slug if count == 1 else f"{slug}~{count}"


def _slug(name: str) -> str:
    """A part of a file name: 100 bytes at most, as two and an ending must fit 255; __ stands only between two."""
    plain = re.sub(r"(?:[^\w.-]|_)+", "_", name)
    return plain.encode()[:100].decode(errors="ignore").strip("_")


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _open(path: Path, **options):
    return _part(path).open("w", encoding="utf-8", **options)
