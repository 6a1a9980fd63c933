"""`python -m benchmarks` runs the `main()` of every module here that has one."""

import pkgutil
from importlib import import_module

import benchmarks

for found in pkgutil.iter_modules(benchmarks.__path__):
    if found.name != "__main__" and hasattr(module := import_module(f"benchmarks.{found.name}"), "main"):
        print(f"{found.name}:", flush=True)
        module.main()
