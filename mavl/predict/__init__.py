"""Prediction for single images.

Public: `load`.
"""

from mavl.predict.predictor import load

__all__ = ["load"]
