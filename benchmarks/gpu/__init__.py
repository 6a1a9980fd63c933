"""What `benchmarks/gpu.sh` runs: stages in processes of their own, each with a time limit.

`__main__` runs the stages, `stages` measures, `steps` builds what is measured, `table` shows it (docs/benchmarks.md).
"""
