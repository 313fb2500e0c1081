"""Run the benchmarks, all or those named, and print which limits hold.

A busy machine must not fail a test run, so a missed limit ends with 0 unless `--strict` is given; wrong results and
crashes always fail.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys

import benchmarks


def main(names: list[str]) -> int:
    """Run each module of this folder that has a `run` function.

    Returns:
        0, or with `--strict` 1 when a limit is missed; 2 for an unknown name.
    """
    strict = "--strict" in names
    names = [name for name in names if name != "--strict"]
    known = [m.name for m in pkgutil.iter_modules(benchmarks.__path__) if not m.name.startswith("_")]
    if unknown := set(names) - set(known):
        print(f"There is no benchmark {', '.join(sorted(unknown))}. There are: {', '.join(known)}.", file=sys.stderr)
        return 2
    modules = [importlib.import_module(f"benchmarks.{name}") for name in (names or known)]
    missed = max((module.run() for module in modules if hasattr(module, "run")), default=0)
    return missed if strict else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
