"""Timings of what must stay fast: `python -m benchmarks` runs the `main()` of every module here."""
