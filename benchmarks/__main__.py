"""Run the benchmarks, all or those named, and end with 1 when one of them misses a limit."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import benchmarks


def main(names: list[str]) -> int:
    """Run each module of this folder that has a `run` function.

    Returns:
        0 when every limit holds, else 1.
    """
    known = [m.name for m in pkgutil.iter_modules(benchmarks.__path__) if not m.name.startswith("_")]
    if unknown := set(names) - set(known):
        print(f"There is no benchmark {', '.join(sorted(unknown))}. There are: {', '.join(known)}.", file=sys.stderr)
        return 2
    modules = [importlib.import_module(f"benchmarks.{name}") for name in (names or known)]
    return max((module.run() for module in modules if hasattr(module, "run")), default=0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
