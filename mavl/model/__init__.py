"""The network, and losses, scores, heatmaps and explanations from its output."""

from mavl.model.mavl import MAVL, MAVLOutput

__all__ = ["MAVL", "MAVLOutput"]
