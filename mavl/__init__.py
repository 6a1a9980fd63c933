"""MAVL names the findings of a chest X-ray by describing them in words, and shows where they are and why.

    import mavl

    predictor = mavl.load()                         # the small model of this package; or a folder, a .pth, a hub id
    [prediction] = predictor.predict("film.png", ["pneumonia", "enlarged heart"])
    prediction.scores()                             # {finding: probability}, trained findings first
    prediction.heatmap("pneumonia")                 # [H, W] of the film, the attention to each patch
    prediction.explanations["pneumonia"].shares     # the part of each aspect in the decision

Images are files, folders, patterns, CSV lists, PIL images, arrays or tensors: uint8, uint16, or float with the range of
its values, `predictor.predict(pixels, "pneumonia", value_range=(0, 1))`. Findings of your own come from books:

    predictor = mavl.load("runs/demo/best", books="my_findings.json")

    predictor.explain("film.png", "pneumonia")      # one finding of one image
    predictor.stream(paths, predictor.request())    # any number of images, in bounded memory
    predictor.encode_image("film.png") @ predictor.encode_text("pneumonia")[0].T      # cosines with its aspects

`mavl.MAVL` is the network, `mavl.explain` its explanation from an output. The scripts of the
repository, such as train_mavl.py and predict.py, have --help. Nothing heavy is imported before it is used. Research
software, not for diagnosis.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import version

    from mavl.model import MAVL, explain
    from mavl.predict import load

    __version__ = version("mavl")

__all__ = ["MAVL", "__version__", "explain", "load"]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str):
    if name == "explain":
        return import_module("mavl.model.explain")
    if name == "load":
        return import_module("mavl.predict").load
    if name == "MAVL":
        return import_module("mavl.model").MAVL
    if name == "__version__":
        return import_module("importlib.metadata").version("mavl")
    raise AttributeError(f"module 'mavl' has no attribute {name!r}")
