"""Did the fix work: the experiment on a funnel, and the one that should come next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ibis.expr.types as ir
import pandas as pd

from opslib.data.memory import remember
from opslib.data.playbook import ExperimentSettings
from opslib.decide.funnel.culprit import Culprit
from opslib.decide.funnel.path import FunnelPath, keep_events
from opslib.decide.scope import Scope
from opslib.errors import InputError, suggest_name
from opslib.measure.experiment.experiment import Behavior, ExperimentResult, Metric, measure_experiment
from opslib.measure.funnel.funnel import FunnelResult
from opslib.measure.funnel.steps import match_step
from opslib.measure.sample_size import ExperimentPlan, plan_experiment

# Gains worth a test where nothing was lost that could be won back.
ORDINARY_GAINS = (0.02, 0.05, 0.1)
# A repair may win back all that was lost, or half.
REPAIRED = (1.0, 0.5)
# Behaviour before exposure that takes noise out of the metrics (CUPED).
EARLIER_DAYS = 28


@dataclass(frozen=True)
class Trial:
    """An experiment read out on a funnel.

    Attributes:
        result: the read-out: the funnel's last step decides; revenue is told; complaints must not rise.
        goal: what the last step is called.
        others: names of the other experiments in the data.
    """

    result: ExperimentResult
    goal: str
    others: tuple[str, ...]

    def findings(self) -> list[dict[str, Any]]:
        """The read-out as flat records."""
        return self.result.findings()


def choose_experiment(scope: Scope, experiment: str = "") -> str:
    """Choose an experiment.

    Args:
        scope: data, segment and days.
        experiment: which one; empty: of those with a control, the one that users entered last.

    Returns:
        Its name; empty where the data have no experiment with a control.

    Raises:
        InputError: there is no such experiment, or its control is not among its variants.
    """
    if not scope.data.has("exposures"):
        if experiment:
            raise InputError(f"experiment '{experiment}': the playbook has no table exposures.")
        return ""
    variants = _list_variants(scope.narrow(now=False))
    names = list(dict.fromkeys(variants["experiment"]))
    if experiment and experiment not in names:
        known = f"There are: {', '.join(names)}." if names else "Nobody was exposed to any."
        raise InputError(f"There is no experiment '{experiment}'.{suggest_name(experiment, names)} {known}")
    able = _list_able(scope)
    chosen = experiment or next(iter(able), "")
    if chosen and chosen not in able:
        found = ", ".join(sorted(variants[variants["experiment"] == chosen]["variant"]))
        raise InputError(
            f"experiment '{chosen}' has the variants {found}, and none of them is its control. "
            f'Name it in the playbook: [experiments.{chosen}] control = "..."'
        )
    return chosen


def _list_able(scope: Scope) -> list[str]:
    """Experiments that have a control."""
    variants, settings = _list_variants(scope.narrow(now=False)), scope.data.playbook.experiments
    return [
        name
        for name in dict.fromkeys(variants["experiment"])
        if settings.get(name, ExperimentSettings()).control in set(variants[variants["experiment"] == name]["variant"])
    ]


def read_trial(scope: Scope, path: FunnelPath, experiment: str = "") -> Trial | None:
    """Read out an experiment by whether users got to the funnel's last step within its window after exposure.

    Args:
        experiment: which one, as in `choose_experiment`.

    Returns:
        A `Trial`; None where the data have no experiment with a control.

    Raises:
        InputError: as `choose_experiment`.
    """
    chosen = choose_experiment(scope, experiment)
    return _read_trial(scope.narrow(now=False), path, chosen) if chosen else None


@remember
def _read_trial(scope: Scope, path: FunnelPath, experiment: str) -> Trial:
    exposures = scope.table("exposures")
    assert exposures is not None
    plan = scope.data.playbook.experiments.get(experiment, ExperimentSettings())
    tables, metrics = make_metrics(scope, path, keep_events(scope, path))
    result = measure_experiment(
        exposures,
        tables,
        experiment=experiment,
        metrics=metrics,
        as_of=scope.as_of,
        control=plan.control,
        calendar=scope.data.calendar,
        shares=plan.shares,
        attributes=scope.attributes if scope.dimensions else None,
        attribute_columns=scope.dimensions or None,
        planned_users=plan.planned_users,
    )
    return Trial(result, path.labels[-1], tuple(name for name in _list_able(scope) if name != experiment))


@remember
def _list_variants(scope: Scope) -> pd.DataFrame:
    exposures = scope.table("exposures")
    assert exposures is not None
    return list_variants(scope, exposures)


def list_variants(scope: Scope, exposures: ir.Table) -> pd.DataFrame:
    """Experiments and their variants, the one entered last first: experiment, variant, last_at."""
    counted = exposures.group_by(
        experiment=exposures.experiment.cast("string"), variant=exposures.variant.cast("string")
    ).aggregate(last_at=exposures.ts.max())
    found = scope.data.execute(counted).dropna(subset=["experiment", "variant"])
    latest = found.groupby("experiment")["last_at"].transform("max")
    order = ["latest", "experiment", "variant"]
    return found.assign(latest=latest).sort_values(order, ascending=[False, True, True]).drop(columns="latest")


def make_metrics(scope: Scope, path: FunnelPath, events: ir.Table) -> tuple[dict[str, ir.Table], list[Metric]]:
    """What an experiment on a funnel is read out by."""
    days = (0, path.window_days)
    goal = path.steps[-1]
    tables = {"goal": events.filter(match_step(events, goal))}
    metrics = [Metric("goal_rate", Behavior("goal", days=days), role="primary")]
    orders, tickets = scope.table("orders"), _list_tickets(scope)
    if orders is not None and "amount" in orders.columns:
        tables["orders"] = orders
        revenue = Behavior("orders", how="sum", column="amount", days=days)
        metrics.append(Metric("revenue_amount", revenue, before=EARLIER_DAYS))
    if tickets is not None:
        tables["complaints"] = tickets
        metrics.append(Metric("complaint_rate", Behavior("complaints", days=days), role="guardrail", better="lower"))
    return tables, metrics


def _list_tickets(scope: Scope) -> ir.Table | None:
    if not scope.data.has("tickets"):
        return None
    tickets = scope.restrict(scope.data.table("tickets")).rename(ts="opened_at")
    return tickets.filter(tickets.is_complaint) if "is_complaint" in tickets.columns else None


def plan_repair(
    now: FunnelResult, path: FunnelPath, culprit: Culprit | None, step: int, scope: Scope
) -> ExperimentPlan | None:
    """Plan the experiment that would show whether a repair of a step works.

    Where users were lost and still are, it is sized on them: for all of the gap closed, and half. Otherwise on
    everybody at the step, for gains of 2, 5 and 10%.
    """
    rate = now.estimate(step)
    base, users_per_day = rate.value, rate.denominator / max(scope.now.days, 1)
    relative: tuple[float, ...] = ORDINARY_GAINS
    if culprit is not None and culprit.state == "open":
        assert culprit.inside is not None and culprit.expected is not None and culprit.ending is not None
        inside, recent = culprit.inside.value, culprit.ending.recent
        assert inside is not None
        base, users_per_day = inside, recent.denominator / culprit.ending.days
        relative = tuple(share * (culprit.expected - inside) / inside for share in REPAIRED)
    if base is None or not 0 < base < 1 or not users_per_day:
        return None
    return plan_experiment(base=base, relative=relative, users_per_day=users_per_day, window_days=path.window_days)
