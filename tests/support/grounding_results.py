"""Grounding results of two cases made by hand, in every output."""

import io

import numpy as np
import pandas as pd
from PIL import Image
from rich.console import Console

from mavl.metrics.grounding import METRICS, measure_and_sweep, summarize
from mavl.metrics.margins import ALL, MAPS, SPREADS, Measured, margins
from mavl.report import grounding as report
from mavl.report.pictures.gallery import Shown

RANDOM, CENTRE = [[0.1, 0.2], [0.3, 0.4]], [[0.25, 0.25], [0.25, 0.25]]
LEFT = np.array([[1, 0], [1, 0]])


MODEL = {"a.png": [[0.4, 0.1], [0.3, 0.2]], "b.png": [[0.1, 0.4], [0.3, 0.2]]}


ABOUT = {
    "title": "Films",
    "split": "test",
    "map": "attention",
    "aggregation": "avg",
    "protocol": "sound",
    "aspects": ["description"],
    "layers": "all",
    "map_size": 2,
    "grid": (2, 2),
    "alignment": "patches",
    "model": "runs/x",
    "bank": None,
    "thresholds": "best mean Dice on 3 cases",
    "without_cases": [],
    "left_out": {},
    "provenance": {"python": "3.11", "platform": "here", "packages": {}, "git": None},
}


def results(threshold: float | None) -> tuple[report.Localizations, Measured]:
    """Two cases of effusion, whose masks are the left column, each with a map of the model and the two baselines."""
    lines, dice = [], {name: np.zeros(len(SPREADS)) for name in MAPS}
    for path, model in MODEL.items():
        for name, heatmap in zip(MAPS, (model, RANDOM, CENTRE), strict=True):
            values, swept = measure_and_sweep(np.array(heatmap), LEFT, threshold, SPREADS / 4, path)
            place = {"path": path, "row": path, "group": path, "finding": "effusion", "map": name}
            lines.append({**place, "threshold": np.nan if threshold is None else threshold, **values})
            dice[name] += swept["dice"] / len(MODEL)
    measured = Measured(pd.DataFrame(lines), {"effusion": dice, ALL: dice})
    source = None if threshold is None else "validation"
    localizations = {
        finding: {
            name: summarize(
                {metric: measured.of(finding, name)[metric].to_numpy() for metric in METRICS},
                threshold,
                threshold_source=source,
                resamples=20,
                groups=[*MODEL],
            )
            for name in MAPS
        }
        for finding in ("effusion", ALL)
    }
    return localizations, measured


def write_all(folder, threshold: float | None = 0.25) -> dict[str, str]:
    """{terminal, csv, json, page: the text of each output}."""
    localizations, measured = results(threshold)
    above = {finding: margins({name: measured.of(finding, name) for name in MAPS}, 20, 0) for finding in localizations}
    console = Console(width=100, file=io.StringIO())
    console.print(report.table(localizations, "Films"))
    report.write_csv(localizations, folder / "results.csv")
    report.write_json(localizations, above, folder / "results.json", ABOUT)
    (folder / "config.yaml").write_text("split: test\n")
    page = report.write_page(folder, localizations, above, ABOUT, measured, lambda finding: {"best": [case("b.png")]})
    texts = {name: (folder / f"results.{name}").read_text() for name in ("csv", "json")}
    return texts | {"terminal": console.file.getvalue(), "page": page.read_text()}


def case(name: str) -> Shown:
    grid = np.array(MODEL[name], np.float32)
    picture = Image.new("L", (40, 40), 90)
    return Shown(picture, LEFT > 0, grid, None, grid > 0.25, "effusion", name, METRICS["dice"], 0.5)
