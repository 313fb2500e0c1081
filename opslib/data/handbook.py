"""The handbook's defaults, and how a playbook changes them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from opslib.data.operations import CONDITIONS


@lru_cache(maxsize=1)
def load_handbook() -> dict[str, Any]:
    """Read what every playbook starts from."""
    return tomllib.loads((Path(__file__).parent / "handbook.toml").read_text("utf-8"))


def add_handbook(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Complete a playbook as read with the handbook's rules, remedies and crisis plan.

    The playbook's own rules come first, in their order. One with the name of a rule of the handbook changes only the
    keys that it gives; a condition of its own replaces the handbook's.
    """
    handbook = load_handbook()
    found = dict(raw)
    own = raw.get("rules", [])
    if isinstance(own, list) and all(isinstance(rule, dict) for rule in own):
        defaults = {rule["name"]: rule for rule in handbook["rules"]}
        named = {rule.get("name") for rule in own}
        rules = [_change(defaults.get(rule.get("name"), {}), rule) for rule in own]
        found["rules"] = rules + [rule for name, rule in defaults.items() if name not in named]
    for table in ("remedies", "crisis"):
        if isinstance(raw.get(table, {}), dict):
            found[table] = handbook[table] | raw.get(table, {})
    return found


def _change(default: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    replaced = any(name in own for name in CONDITIONS)
    return {k: v for k, v in default.items() if not (replaced and k in CONDITIONS)} | dict(own)
