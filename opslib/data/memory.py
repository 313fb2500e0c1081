"""Remember what a stage computed, so that a change of one option costs only what depends on it.

What is kept lives and dies with the `Data` it was computed from.
"""

from __future__ import annotations

import functools
import inspect
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Any, ParamSpec, TypeVar

from opslib.language import get_language

Inputs = ParamSpec("Inputs")
Result = TypeVar("Result")

# Going back to what was on screen a few changes ago costs nothing; results are small aggregates.
MOST_KEPT = 256


def remember(compute: Callable[Inputs, Result]) -> Callable[Inputs, Result]:
    """Make a function give the result that it gave before for the same data and options.

    For functions whose first argument is a `Data` or has one as its attribute `data` (a `Scope`), which depend on
    nothing but their arguments, and whose results nobody changes. Arguments that cannot be hashed, such as results
    with frames, count as the same only if they are the same object.

    >>> from types import SimpleNamespace
    >>> asked = []
    >>> @remember
    ... def measure(data, *, days=7):
    ...     asked.append(days)
    ...     return days
    >>> data = SimpleNamespace(memory=OrderedDict())
    >>> measure(data), measure(data, days=7), measure(data, days=9), asked
    (7, 7, 9, [7, 9])
    """
    signature = inspect.signature(compute)

    @functools.wraps(compute)
    def recall(*args: Inputs.args, **kwargs: Inputs.kwargs) -> Result:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        first, *rest = bound.arguments.values()
        kept: OrderedDict[Hashable, tuple[Any, ...]] = getattr(first, "data", first).memory
        # Notes in a result are in the language in which it was computed.
        key = (get_language(), compute.__module__, compute.__qualname__, _make_key(first), *map(_make_key, rest))
        if key in kept:
            kept.move_to_end(key)
            return kept[key][0]
        result = compute(*args, **kwargs)
        # The arguments are kept as well: an id means something only as long as its object lives.
        kept[key] = (result, args, kwargs)
        if len(kept) > MOST_KEPT:
            kept.popitem(last=False)
        return result

    return recall


def _make_key(value: Any) -> Hashable:
    if isinstance(value, Mapping):
        return tuple(sorted((name, _make_key(v)) for name, v in value.items()))
    if isinstance(value, list | tuple):
        return tuple(map(_make_key, value))
    try:
        hash(value)
    except TypeError:
        return ("object", id(value))
    return (type(value), value)
