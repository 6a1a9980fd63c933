"""Figures with intervals, from arrays of labels, scores and masks."""
