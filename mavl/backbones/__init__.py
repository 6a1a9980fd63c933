"""Image encoders, one file for each library that they come from."""

from mavl.backbones.build import build_backbone

__all__ = ["build_backbone"]
