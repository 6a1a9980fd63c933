import pkgutil
from importlib import import_module

import benchmarks

for module in pkgutil.iter_modules(benchmarks.__path__):
    if module.name != "__main__":
        print(f"{module.name}:")
        import_module(f"benchmarks.{module.name}").main()
