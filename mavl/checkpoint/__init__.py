"""Model folders, released files, and the transfer of weights between models."""

from mavl.checkpoint.folder import BEST, LAST, TEXT_ENCODER, Pretrained, load, save
from mavl.checkpoint.released import MAVL_KIND, CheckpointError

__all__ = ["BEST", "LAST", "MAVL_KIND", "TEXT_ENCODER", "CheckpointError", "Pretrained", "load", "save"]
