"""Comparing what engines answered: results with all their parts, and where two of them differ."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import ibis.expr.types as ir
import numpy as np
import pandas as pd

from opslib.data.periods import Calendar
from opslib.data.playbook import Playbook
from opslib.data.source import Data
from opslib.decide.scope import Scope
from opslib.decide.series.reader import SeriesReader

RELATIVE = 1e-9
# Differences of equal numbers leave this much.
ABSOLUTE = 1e-12

_NOT_COMPARED = (Data, Scope, SeriesReader, Playbook, Calendar, ir.Expr)


def unfold(result: Any, *, fetch: bool = False) -> Any:
    """A result with all its parts, also those that are computed when first asked for.

    Args:
        result: what an answer gave.
        fetch: tables of users become frames; otherwise they are left out.
    """
    if isinstance(result, ir.Table):
        if not fetch:
            return None
        frame = result.to_pandas()
        return frame.sort_values(list(frame.columns), ignore_index=True)
    if isinstance(result, _NOT_COMPARED) or callable(result):
        return None
    if dataclasses.is_dataclass(result):
        lazy = [n for n in dir(type(result)) if isinstance(getattr(type(result), n, None), cached_property)]
        names = [*(f.name for f in dataclasses.fields(result)), *lazy]
        return {name: unfold(getattr(result, name), fetch=fetch) for name in names if not name.startswith("_")}
    if isinstance(result, Mapping):
        return {str(key): unfold(value, fetch=fetch) for key, value in result.items()}
    if isinstance(result, list | tuple):
        return [unfold(value, fetch=fetch) for value in result]
    return result


def compare_answers(ours: Any, theirs: Any, where: str = "") -> list[str]:
    """Where two unfolded results differ; floats by more than 1e-9 of their size. Empty: nowhere.

    >>> compare_answers({"users": [1, 2.0]}, {"users": [1, 2.0 + 1e-12]})
    []
    >>> compare_answers({"users": [1, 2.0]}, {"users": [1, 2.1]})
    ['.users[1]: 2.0 is not 2.1']
    """
    if isinstance(ours, pd.Series) and isinstance(theirs, pd.Series):
        ours, theirs = ours.to_frame(), theirs.to_frame()
    if isinstance(ours, pd.DataFrame) and isinstance(theirs, pd.DataFrame):
        return _compare_frames(ours, theirs, where)
    if isinstance(ours, np.ndarray) and isinstance(theirs, np.ndarray):
        if ours.shape != theirs.shape:
            return [f"{where}: shape {ours.shape} is not {theirs.shape}"]
        return compare_answers(ours.ravel().tolist(), theirs.ravel().tolist(), where)
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        if list(ours) != list(theirs):
            return [f"{where}: {list(ours)} is not {list(theirs)}"]
        return [d for key in ours for d in compare_answers(ours[key], theirs[key], f"{where}.{key}")]
    if isinstance(ours, list) and isinstance(theirs, list):
        if len(ours) != len(theirs):
            return [f"{where}: {len(ours)} parts, not {len(theirs)}"]
        pairs = enumerate(zip(ours, theirs, strict=True))
        return [d for i, (a, b) in pairs for d in compare_answers(a, b, f"{where}[{i}]")]
    return [] if _is_same(ours, theirs) else [f"{where}: {ours!r} is not {theirs!r}"]


def _compare_frames(ours: pd.DataFrame, theirs: pd.DataFrame, where: str) -> list[str]:
    if list(ours.columns) != list(theirs.columns):
        return [f"{where}: columns {list(ours.columns)} are not {list(theirs.columns)}"]
    if len(ours) != len(theirs):
        return [f"{where}: {len(ours)} rows, not {len(theirs)}"]
    found = compare_answers(ours.index.tolist(), theirs.index.tolist(), f"{where}.index")
    for name in ours.columns:
        kinds = ours[name].dtype.kind, theirs[name].dtype.kind
        # A whole number is one in 32 bits too.
        if len(ours) and kinds[0] != kinds[1] and not set(kinds) <= set("iu"):
            found.append(f"{where}.{name}: type {ours[name].dtype} is not {theirs[name].dtype}")
        found += compare_answers(ours[name].tolist(), theirs[name].tolist(), f"{where}.{name}")
    return found


def _is_same(ours: Any, theirs: Any) -> bool:
    if _is_missing(ours) or _is_missing(theirs):
        return _is_missing(ours) and _is_missing(theirs)
    if isinstance(ours, float | np.floating) or isinstance(theirs, float | np.floating):
        try:
            return math.isclose(ours, theirs, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
        except TypeError:
            return False
    try:
        return bool(ours == theirs)
    except (TypeError, ValueError):
        return repr(ours) == repr(theirs)


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NaT or value is pd.NA or (isinstance(value, float) and math.isnan(value))
