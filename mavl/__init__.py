"""MAVL: name the findings of a chest X-ray by describing them in words.

    predictor = mavl.load("runs/demo/best")
    predictor.predict("film.png", ["pneumonia", "enlarged heart"])

Nothing heavy is imported before it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import version

    from mavl.model import MAVL, explain
    from mavl.predict import load

    __version__ = version("mavl")

__all__ = ["MAVL", "__version__", "explain", "load"]


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
