"""The crisis plan: its steps, who does them until when, in which words, and what they cost."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import pandas as pd

from opslib.data.operations import CrisisStep
from opslib.data.periods import DAY
from opslib.decide.crisis.incident import Incident
from opslib.decide.scope import Scope
from opslib.language import mark, say
from opslib.measure.estimate import to_plain_record

COLUMNS = ["step", "name", "owner", "within_hours", "due_at", "overdue", "text", "users_count", "cost_amount"]
# The handbook's categories, and tickets without one; others are called as the data call them.
CATEGORIES = frozenset((mark("system failure"), mark("content violation"), mark("service delay"), mark("(not given)")))


@dataclass(frozen=True)
class CrisisPlan:
    """What to do about an incident.

    Attributes:
        fired_at: when the rule fired, in the company's time: at the end of the day that made it enough days in a row.
            None where it did not fire; then nothing is due, and the plan is a draft.
        steps: step (number), name, owner, within_hours, due_at (missing for a draft), overdue (due before the end of
            the last day looked at), text (ready to use), users_count (users concerned), cost_amount.
        users_count: users who complained in the incident, of the category that carries it.
    """

    fired_at: dt.datetime | None
    steps: pd.DataFrame
    users_count: int

    @property
    def cost_amount(self) -> float:
        """What all steps cost together."""
        return float(self.steps["cost_amount"].sum())

    def findings(self) -> list[dict[str, Any]]:
        """One record a step."""
        fired = None if self.fired_at is None else self.fired_at.isoformat()
        rows = self.steps.to_dict("records")
        return [
            {"name": "crisis_step", "fired_at": fired, "step_name": r.pop("name"), **to_plain_record(r)} for r in rows
        ]


def name_category(name: str) -> str:
    """A category of tickets, for people.

    >>> name_category("service_delay")
    'service delay'
    """
    words = name.replace("_", " ")
    return say(words) if words in CATEGORIES else words


def plan_crisis(scope: Scope, incident: Incident | None) -> CrisisPlan | None:
    """Fill in the playbook's steps for an incident; None where there is none."""
    if incident is None or not incident.complaints_count:
        return None
    playbook = scope.data.playbook
    fired = None
    if incident.fired_on is not None:
        fired = dt.datetime.combine(incident.fired_on + DAY, dt.time())
    day = say("%-d %B %Y")
    words = {
        "company": playbook.company.name,
        "category": name_category(incident.category),
        "first_day": f"{incident.period.start:{day}}",
        "users": f"{incident.users_count:,}",
    }
    now_at = dt.datetime.combine(scope.as_of + DAY, dt.time())
    rows = [
        _fill_step(n, step, fired, now_at, incident.users_count, words)
        for n, step in enumerate(playbook.crisis.steps, 1)
    ]
    frame = pd.DataFrame(rows, columns=COLUMNS).assign(due_at=lambda f: pd.to_datetime(f["due_at"]))
    return CrisisPlan(fired, frame, incident.users_count)


def _fill_step(
    number: int, step: CrisisStep, fired: dt.datetime | None, now_at: dt.datetime, users: int, words: dict[str, str]
) -> dict[str, Any]:
    # The handbook's texts are in every language, a user's own as they are written.
    text = say(step.text)
    for name, value in words.items():
        text = text.replace(f"{{{name}}}", value)
    due = None if fired is None else fired + dt.timedelta(hours=step.within_hours)
    return {
        "step": number,
        "name": step.name,
        "owner": step.owner,
        "within_hours": step.within_hours,
        "due_at": due,
        "overdue": due is not None and due < now_at,
        "text": text,
        "users_count": users,
        "cost_amount": step.cost_per_user * users,
    }
