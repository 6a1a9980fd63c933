"""The figures of benchmarks/gpu.sh as Markdown."""

import json
from collections.abc import Iterator
from pathlib import Path

MIMIC_IMAGES, EPOCHS = 377_110, 60
MATRIX = {"bf16": "bf16", "fp16": "fp16", "no": "tf32"}
"""The matrix product that a run in a precision is held against; products in fp32 are TF32's in training."""


def table(figures: Path) -> str:
    """All rows so far; docs/benchmarks.md takes them in."""
    lines = figures.read_text().splitlines() if figures.exists() else []
    return "\n".join(_lines([json.loads(line) for line in lines])) + "\n"


def failed(figures: Path) -> bool:
    """Whether a stage, a case or a test gave no figures."""
    rows = [json.loads(line) for line in figures.read_text().splitlines()]
    return any("error" in row or row.get("outcome") in ("failure", "error") for row in rows)


def _lines(rows: list[dict]) -> Iterator[str]:
    yield from _machine(rows)
    yield from _cases(rows)
    yield from _loader(rows)
    yield from _kernels(rows)
    yield from _tests(rows)
    yield from _stages(rows)


def _chosen(rows: list[dict], what: str) -> list[dict]:
    return [row for row in rows if row["what"] == what]


def _machine(rows: list[dict]) -> Iterator[str]:
    for row in _chosen(rows, "machine"):
        if row["small"]:
            yield "A rehearsal with small models: these are no figures of the encoders that they stand for."
        packages = ", ".join(f"{name} {version}" for name, version in row["packages"].items())
        yield f"{row['name']}, {row['gib']:.0f} GiB, {row['cores']} cores; {packages}"
    rates = [f"{row['precision']} {row['tflops']:.0f} TFLOP/s" for row in _chosen(rows, "matrix")]
    rates += [f"copy {row['tb_per_second']:.2f} TB/s" for row in _chosen(rows, "copy")]
    rates += [f"from the host {row['gb_per_second']:.0f} GB/s" for row in _chosen(rows, "host copy")]
    yield "Measured: " + ", ".join(rates)


def _cases(rows: list[dict]) -> Iterator[str]:
    matrix = {row["precision"]: 1000 * row["tflops"] for row in _chosen(rows, "matrix")}
    cases = _chosen(rows, "case")
    gflop = {_work(row): row["gflop_per_image"] for row in cases if "gflop_per_image" in row}
    yield ""
    head = "| encoder | step | precision | batch | images/s | GFLOP an image | of the matrix rate | GiB |"
    yield f"{head} {EPOCHS} × {MIMIC_IMAGES:,} |"
    yield "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    for row in cases:
        step = f"{row['trained'] or 'inference'}{', recomputed' if row['recomputed'] else ''}"
        step += "".join(f", {how}" for how in ("compiled" * row["compiled"], row["variant"]) if how)
        head = [row["encoder"], step, row["precision"], str(row["batch"])]
        if "error" in row:
            yield _row([*head, row["error"], "", "", "", ""])
            continue
        rate, work, peak = row["images_per_second"], gflop.get(_work(row)), matrix.get(MATRIX[row["precision"]])
        share = f"{rate * work / peak:.1%}" if work and peak else "-"
        hours = f"{MIMIC_IMAGES * EPOCHS / rate / 3600:.1f} h" if row["trained"] else ""
        yield _row([*head, f"{rate:,.0f}", f"{work:.1f}" if work else "-", share, f"{row['peak_gib']:.1f}", hours])


def _work(row: dict) -> tuple:
    """Cases of the same arithmetic for an image."""
    return row["encoder"], row["trained"]


def _loader(rows: list[dict]) -> Iterator[str]:
    if found := _chosen(rows, "loader"):
        yield "\n| files | operations | workers | images/s with the step | waiting for the loader |"
        yield "| --- | --- | ---: | ---: | ---: |"
    for row in found:
        figures = [f"{row['images_per_second']:,.0f}", f"{row['waited']:.0%}"]
        yield _row([row["files"], row["operations"], str(row["workers"]), *figures])


def _kernels(rows: list[dict]) -> Iterator[str]:
    for row in _chosen(rows, "kernels"):
        busy, how = sum(row["kinds"].values()), ", compiled" if row["compiled"] else ""
        title = f"{row['encoder']}, batch {row['batch']}{how}"
        yield f"\n{title}: {row['step_ms']:.1f} ms a step, kernels {busy:.1f} ms\n"
        yield "| kernels | ms | share |\n| --- | ---: | ---: |"
        for kind, milliseconds in row["kinds"].items():
            yield _row([kind, f"{milliseconds:.2f}", f"{milliseconds / busy:.0%}"])


def _tests(rows: list[dict]) -> Iterator[str]:
    tests = _chosen(rows, "test")
    if tests:
        yield "\n| test | outcome | seconds | figures |\n| --- | --- | ---: | --- |"
    for row in tests:
        fixed = ("stage", "what", "name", "outcome", "seconds", "message")
        figures = ", ".join(f"{name} {value}" for name, value in row.items() if name not in fixed)
        message = " ".join(row.get("message", "").split()).replace("|", "/")
        yield _row([row["name"], row["outcome"], f"{row['seconds']:.1f}", figures or message])


def _stages(rows: list[dict]) -> Iterator[str]:
    compilations = [f"{row['encoder']} {row['seconds']:.0f} s" for row in _chosen(rows, "compilation")]
    if compilations:
        yield "\nFirst compiled steps, beside one another: " + ", ".join(compilations)
    for row in _chosen(rows, "stage"):
        yield f"\nstage {row['stage']}: " + (row["error"] if "error" in row else f"{row['took']:.0f} s")


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
