"""The network and what is computed from its output: losses, scores, heatmaps, explanations."""

from mavl.model.mavl import MAVL, MAVLOutput

__all__ = ["MAVL", "MAVLOutput"]
