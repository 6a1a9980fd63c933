"""Measurements of time and memory. Their figures are in docs/benchmarks.md and docs/scale.md."""
