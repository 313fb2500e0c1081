"""Who stops before a step: those who got to the step before and no further, against those who went on."""

from __future__ import annotations

from opslib.data.memory import remember
from opslib.decide.funnel.path import FunnelPath, list_columns
from opslib.decide.funnel.stages import collect_arrivals
from opslib.decide.scope import Scope
from opslib.explain.portrait import PortraitResult, describe_segment
from opslib.language import say


def describe_stopped(scope: Scope, path: FunnelPath, step: int) -> PortraitResult | None:
    """Describe who stopped before a step, of all who got to the one before in the days looked at.

    Users whose window is not over are in neither group.

    Returns:
        A `PortraitResult` over the columns of events (as at the step before) and of users; None without any.
    """
    return _describe_stopped(scope.narrow(), path, step)


@remember
def _describe_stopped(scope: Scope, path: FunnelPath, step: int) -> PortraitResult | None:
    rows, columns = collect_arrivals(scope, path, step, scope.now), list_columns(scope, path)
    numbers = [c for c in scope.numbers if c not in rows.columns]
    if not columns and not numbers:
        return None
    if numbers:
        users = scope.attributes.group_by("user_id").aggregate(**{c: scope.attributes[c].min() for c in numbers})
        joined = rows.left_join(users, "user_id")
        rows = joined.select(*rows.columns, *numbers)
    name = say("stopped before {step}", step=path.labels[step - 1])
    return describe_segment(rows, lambda t: ~t.converted, name=name, columns=columns + numbers)
