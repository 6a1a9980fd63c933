"""Evaluation on a benchmark: classification, grounding, wordings."""
