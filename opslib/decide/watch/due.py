"""What is due: experiments that can be read out, and initiatives that must be judged."""

from __future__ import annotations

import datetime as dt

import pandas as pd

from opslib.data.periods import DAY
from opslib.decide.scope import Scope

# An experiment is over when nobody entered it for so long; then its last users need the window to show what they do.
QUIET_DAYS = 3
WINDOW_DAYS = 14
# For so long it is told, unless the register says what was decided.
TOLD_DAYS = 14
COLUMNS = ["what", "name", "owner", "day", "notebook"]


def list_due(scope: Scope) -> pd.DataFrame:
    """List what is due on the last day of a scope.

    Returns:
        what ("experiment" or "initiative"), name, owner, day (from which it is due), notebook; the oldest first.
    """
    rows = [*_list_experiments(scope), *_list_initiatives(scope)]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return frame.sort_values(["day", "what", "name"]).reset_index(drop=True)


def _list_experiments(scope: Scope) -> list[tuple[str, str, str, dt.date, str]]:
    exposures = scope.table("exposures")
    if exposures is None:
        return []
    names = exposures.experiment.cast("string")
    last = exposures.group_by(experiment=names).aggregate(last_at=exposures.ts.max())
    found = scope.data.execute(last).dropna()
    decided = {i.experiment for i in scope.data.playbook.initiatives if i.decision}
    owners = {i.experiment: i.owner for i in scope.data.playbook.initiatives if i.experiment}
    rows = []
    for name, last_at in zip(found["experiment"], found["last_at"], strict=True):
        ended = scope.data.calendar.day_of(last_at)
        ready = ended + WINDOW_DAYS * DAY
        over = scope.as_of >= ended + QUIET_DAYS * DAY
        if over and ready <= scope.as_of < ready + TOLD_DAYS * DAY and name not in decided:
            rows.append(("experiment", str(name), owners.get(name, ""), ready, "20_funnel_diagnosis"))
    return rows


def _list_initiatives(scope: Scope) -> list[tuple[str, str, str, dt.date, str]]:
    from opslib.decide.initiatives import list_initiatives

    register = list_initiatives(scope.data.playbook)
    return [
        ("initiative", item.name, item.owner, item.last_day, "40_quarterly_review")
        for item in register.initiatives
        if not item.decision and item.last_day <= scope.as_of
    ]
