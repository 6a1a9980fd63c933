"""Pages to look at: a template and its context -> one HTML file that needs nothing else.

Images and plots are put into the file itself (data URIs); templates hold style, no script and no address to load from.
"""

import base64
import io
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mavl.data.images import read_image
from mavl.data.splits import Split
from mavl.metrics import ClassResult, Evaluation
from mavl.overlay import blend
from mavl.report import notes, percent, percent_bounds
from mavl.vocab import ABSENT, PRESENT

if TYPE_CHECKING:
    from jinja2 import Environment
    from matplotlib.figure import Figure
    from torch import Tensor

EVALUATION = "report.html"
JPEG_QUALITY = 80
BINS = 24

GALLERY = 4
"""Images of each kind that the evaluation page shows of a finding."""

FINDINGS_SHOWN = 20
"""Findings with histogram and gallery on the evaluation page; its table has all of them."""

_THUMBNAIL = 150  # pixels


def render(template: str, **context: object) -> str:
    """The HTML of a template of mavl/templates; a name that it needs and `context` lacks is an error."""
    return _environment().get_template(template).render(**context)


def image_uri(image: Image.Image, longest: int) -> str:
    """The image as a JPEG data URI, made smaller until neither side is above `longest` pixels."""
    image = image.copy()
    image.thumbnail((longest, longest), reducing_gap=2.0)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=JPEG_QUALITY)
    return _data_uri(file.getvalue(), "image/jpeg")


def figure_uri(figure: "Figure | Path") -> str:
    """A matplotlib figure, or a PNG file that one was saved to, as a data URI."""
    if isinstance(figure, Path):
        return _data_uri(figure.read_bytes(), "image/png")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150, bbox_inches="tight")
    return _data_uri(file.getvalue(), "image/png")


def evaluation_page(
    evaluation: Evaluation,
    about: dict,
    split: Split,
    scores: np.ndarray,
    *,
    plots: "Mapping[str, Figure | Path]",
    config: str = "",
    equalize: bool = False,
    heatmaps: "Mapping[tuple[int, str], Tensor] | None" = None,
) -> str:
    """The page of a zero-shot classification: table, plots, and of each finding the scores and the surest images.

    scores [n, C] of the split's images and findings; plots by title; config as YAML; equalize as the benchmark has it;
    heatmaps: attention mass [h, w] by (image, finding), laid over those images of the gallery that have one.
    """
    gallery = _Gallery(split, scores, equalize, heatmaps or {})
    defined = [
        (column, result) for column, result in enumerate(evaluation.classes) if result.name not in evaluation.undefined
    ]
    findings = [
        {
            "result": result,
            "histogram": _histogram(split.labels[:, column], scores[:, column], result),
            "gallery": gallery.of(column),
        }
        for column, result in defined[:FINDINGS_SHOWN]
    ]
    return render(
        "evaluation.html",
        about=about,
        evaluation=evaluation,
        notes=list(notes(evaluation)),
        plots={title: figure_uri(figure) for title, figure in plots.items()},
        findings=findings,
        not_shown=[result.name for _, result in defined[FINDINGS_SHOWN:]],
        config=config,
    )


def write_evaluation_page(
    folder: Path, evaluation: Evaluation, about: dict, split: Split, scores: np.ndarray, equalize: bool
) -> Path:
    """`evaluation_page` into a result folder, with the plots and the config that lie there already."""
    plots = {"ROC": folder / "roc.png", "Precision and recall": folder / "pr.png"}
    plots = {title: path for title, path in plots.items() if path.exists()}
    config = (folder / "config.yaml").read_text(encoding="utf-8")
    html = evaluation_page(evaluation, about, split, scores, plots=plots, config=config, equalize=equalize)
    path = folder / EVALUATION
    path.write_text(html, encoding="utf-8", errors="xmlcharrefreplace")
    return path


class _Gallery:
    """The surest images of a finding; each file is read once."""

    def __init__(self, split: Split, scores: np.ndarray, equalize: bool, heatmaps: "Mapping[tuple[int, str], Tensor]"):
        self.split, self.scores, self.equalize, self.heatmaps = split, scores, equalize, heatmaps
        self._thumbnail = cache(self._read)

    def of(self, column: int) -> dict[str, list[dict]]:
        """{kind: its images} of a finding; high and low are the halves of its scores."""
        labels, scores = self.split.labels[:, column], self.scores[:, column]
        falling = np.argsort(-scores, kind="stable")
        high = scores[falling] > np.median(scores[(labels == PRESENT) | (labels == ABSENT)])
        present, absent = labels[falling] == PRESENT, labels[falling] == ABSENT
        kinds = {
            "present and scored high": falling[present & high],
            "present but scored low": falling[present & ~high][::-1],
            "absent but scored high": falling[absent & high],
        }
        return {kind: [self._entry(int(row), column) for row in rows[:GALLERY]] for kind, rows in kinds.items()}

    def _entry(self, row: int, column: int) -> dict:
        picture = self._thumbnail(row)
        heatmap = self.heatmaps.get((row, self.split.findings[column]))
        shown = picture if heatmap is None else blend(picture, heatmap)
        name, score = self.split.paths[row].name, float(self.scores[row, column])
        return {"name": name, "score": score, "picture": image_uri(shown, _THUMBNAIL)}

    def _read(self, row: int) -> Image.Image:
        picture = read_image(self.split.paths[row], equalize=self.equalize)
        picture.thumbnail((_THUMBNAIL, _THUMBNAIL), reducing_gap=2.0)
        return picture


def _histogram(labels: np.ndarray, scores: np.ndarray, result: ClassResult) -> dict:
    """Shares of the positives and of the negatives in each of BINS between the extreme scores, tallest 1."""
    low, high = float(scores.min()), float(scores.max())
    high = high if high > low else low + 1e-6
    counts = {
        kind: np.histogram(scores[labels == label], BINS, (low, high))[0]
        for kind, label in (("absent", ABSENT), ("present", PRESENT))
    }
    shares = {kind: count / count.sum() for kind, count in counts.items()}
    tallest = max(share.max() for share in shares.values())
    threshold = (result.threshold - low) / (high - low)
    return {
        "bars": {kind: (share / tallest).tolist() for kind, share in shares.items()},
        "low": low,
        "high": high,
        "threshold": threshold if 0 <= threshold <= 1 else None,
    }


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _signed(value: float) -> str:
    text = f"{value:+.2f}"
    return "0.00" if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("mavl"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": percent, "bounds": percent_bounds, "signed": _signed}
    return environment
