"""Model folders, released files, and the transfer of weights between models."""

from mavl.checkpoint.folder import BEST, LAST, MAVL_KIND, TEXT_ENCODER, CheckpointError, Pretrained, load, save

__all__ = ["BEST", "LAST", "MAVL_KIND", "TEXT_ENCODER", "CheckpointError", "Pretrained", "load", "save"]
