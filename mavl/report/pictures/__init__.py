"""Figures, overlays and galleries of images."""
