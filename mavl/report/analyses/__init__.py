"""Analyses of classifications: wordings, calibration, subgroups, stress, comparisons of models."""
