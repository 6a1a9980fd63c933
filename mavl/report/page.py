"""HTML pages: a template and its context -> one file without external parts.

Images and plots are in the file itself (data URIs). Templates contain the style, no script and no URL to load.
"""

import base64
import io
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mavl.files import printable, write_text
from mavl.metrics.metric import percent
from mavl.progress import plural
from mavl.report.pictures.overlay import STRONGEST, blend, palette, reduced

if TYPE_CHECKING:
    from jinja2 import Environment
    from torch import Tensor

    from mavl.backbones import PatchGrid

REPORT = "report.html"
"""The page of an evaluation in its result folder."""

FINDINGS_SHOWN = 20
"""Findings with plots and gallery on the page of an evaluation; its table has all findings."""

THUMBNAIL = 200
"""Longest side in pixels of a picture in the gallery of an evaluation."""

BINS = 24


def render(template: str, **context: object) -> str:
    """The HTML of a template of mavl/report/templates; UndefinedError if it uses a name that `context` lacks."""
    return _environment().get_template(template).render(**context)


def write_report(folder: Path, template: str, **context: object) -> Path:
    """Write the page of an evaluation into its result folder, which holds the config; returns its path."""
    config = (folder / "config.yaml").read_text(encoding="utf-8")
    write_text(folder / REPORT, render(template, config=config, **context))
    return folder / REPORT


def image_uri(image: Image.Image, longest: int) -> str:
    """The image as a JPEG data URI, reduced so that no side is longer than `longest` pixels."""
    file = io.BytesIO()
    reduced(image, longest).save(file, "JPEG", quality=80)
    return _data_uri(file.getvalue(), "image/jpeg")


def figure_uri(path: Path) -> str:
    """The PNG file of a figure as a data URI."""
    return _data_uri(path.read_bytes(), "image/png")


def film(
    picture: Image.Image,
    heatmap: "Tensor | None" = None,
    masks: Mapping[str, np.ndarray] | None = None,
    patch_grid: "PatchGrid | None" = None,
    probability: float = 1.0,
    **caption: object,
) -> dict[str, object]:
    """picture (mode "L"), attention mass [h, w], {name: mask [H, W]} -> an image for a template.

    It holds the size, data URIs (plain; heat, None without a heatmap), outlines by name (without those of empty masks)
    and the caption (name, value). patch_grid: position of the patches of the map in the picture; probability: of the
    finding, in proportion to which the heatmap is opaque.
    """
    picture = reduced(picture, THUMBNAIL)
    outlines = {name: outline(mask) for name, mask in (masks or {}).items()}
    return {
        "size": picture.size,
        "plain": image_uri(picture, THUMBNAIL),
        "heat": None if heatmap is None else image_uri(blend(picture, heatmap, patch_grid, probability), THUMBNAIL),
        "outlines": {name: line for name, line in outlines.items() if line is not None},
        **caption,
    }


def histogram(
    series: Mapping[str, np.ndarray], low: float, high: float, threshold: float = np.nan
) -> dict[str, object]:
    """A histogram for a template: for each name the shares of its values in BINS from low to high, the largest is 1.

    NaN is ignored. Values too close for BINS share one. The place of the threshold is None if it is NaN or outside of
    low to high.
    """
    edges = np.linspace(low, high, BINS + 1)
    if not (np.diff(edges) > 1e-9 * max(abs(low), abs(high), 1e-9)).all():
        edges = np.array([low, max(high, low + 1e-6)])
    high = float(edges[-1])
    counts = {name: np.histogram(x[~np.isnan(x)], edges)[0] for name, x in series.items()}
    shares = {name: count / max(count.sum(), 1) for name, count in counts.items()}
    tallest = max(share.max() for share in shares.values()) or 1
    return {
        "bars": {name: (share / tallest).tolist() for name, share in shares.items()},
        "low": low,
        "high": high,
        "threshold": (threshold - low) / (high - low) if low <= threshold <= high else None,
    }


def outline(mask: np.ndarray) -> dict[str, object] | None:
    """mask [H, W] -> the SVG path around it, with its width and height of about THUMBNAIL pixels; None if it is empty.

    Thin parts are kept: a pixel of the reduced mask is set if one of its pixels in the mask is.
    """
    from contourpy import contour_generator  # part of matplotlib, slow to import

    if not mask.any():
        return None
    factor = max(1, max(mask.shape) // THUMBNAIL)
    height, width = mask.shape
    whole = np.pad(mask, ((0, -height % factor), (0, -width % factor)))
    small = whole.reshape(len(whole) // factor, factor, -1, factor).any(axis=(1, 3))
    framed = np.pad(small.astype(float), 1)  # closes outlines at the border
    y, x = (np.arange(-1, length - 1) + 0.5 for length in framed.shape)
    lines = contour_generator(x, y, framed).lines(0.5)
    path = "".join("M" + "L".join(f"{x:g} {y:g}" for x, y in _corners(np.asarray(line))) + "Z" for line in lines)
    return {"width": width / factor, "height": height / factor, "path": path}


def _corners(line: np.ndarray) -> np.ndarray:
    """A closed line [n, 2], whose last point is the first -> the points where it changes its direction."""
    line = line[:-1]
    before, after = line - np.roll(line, 1, axis=0), np.roll(line, -1, axis=0) - line
    return line[np.abs(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]) > 1e-9]


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _signed(value: float, decimals: int = 2) -> str:
    text = f"{value:+.{decimals}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def _colours() -> str:
    """The colours of heatmaps from weak to strong, as a list for a CSS gradient."""
    return ", ".join(f"#{bytes(colour).hex()}" for colour in palette()[[0, 42, 85, 128, 170, 213, 255]])


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("mavl.report")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,  # not of HTML, which is a subclass
    )
    environment.filters |= {"percent": percent, "signed": _signed}
    environment.globals |= {"colours": _colours, "strongest": STRONGEST, "plural": plural}
    return environment
