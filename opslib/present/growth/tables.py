"""The tables of the growth model: who is active, who stays, what comes; those of costs are in `cost_tables`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from opslib.decide.growth.model import GrowthModel
from opslib.language import get_language, mark, say
from opslib.measure.estimate import compare_estimates
from opslib.present.display import ListView, TableView
from opslib.present.growth.cell import show_cell, show_cell_users
from opslib.present.growth.cost_tables import (
    show_budget_shift,
    show_channels,
    show_domains,
    show_moved_users,
    show_referral,
    show_value,
)
from opslib.present.growth.names import LEVER_NAMES, RATE_LABELS, format_lever, name_common, name_grain
from opslib.present.parts import format_probability, format_range, format_shares, say_needed
from opslib.present.tables import format_accounting, label_accounting, make_table
from opslib.present.words import (
    MISSING,
    format_change,
    format_estimate,
    format_number,
    label_metric,
    name_column,
    name_segment,
)

__all__ = [
    "show_accounting",
    "show_backtest",
    "show_behaviors",
    "show_budget_shift",
    "show_causes",
    "show_cell",
    "show_cell_users",
    "show_channels",
    "show_domains",
    "show_levers",
    "show_metrics",
    "show_moved_users",
    "show_referral",
    "show_segments",
    "show_sensitivity",
    "show_value",
]

SHOWN_PERIODS = 10
SHOWN_ROWS = 12


def show_metrics(model: GrowthModel) -> TableView:
    """Headline metrics now and before, with counts and change."""
    audience, staying = model.audience, model.staying
    estimates = [audience.now.dau, audience.now.mau, audience.now.stickiness]
    estimates += [staying.now.estimate(n).rename(f"d{n}_rate") for n in (1, 7, 30)]
    estimates += [
        e for name, e in model.acquisition.channels.totals.items() if name.endswith(("users_count", "amount"))
    ]
    changes, rows = model.changes(), []
    if model.acquisition.before is not None:
        earlier = model.acquisition.before.totals
        changes |= {e.name: compare_estimates(e, earlier[e.name]) for e in estimates if e.name in earlier}
    for estimate in estimates:
        change = changes.get(estimate.name)
        rows.append(
            {
                "metric": label_metric(estimate.name),
                "value": format_estimate(estimate, currency=model.currency).replace(" to ", "\u00a0to\u00a0"),
                "counts": f"{estimate.numerator:,.0f} / {estimate.denominator:,.0f}" if estimate.known else MISSING,
                "before": (
                    format_number(change.before.value, estimate.unit, currency=model.currency) if change else MISSING
                ),
                "change": format_change(change) if change else MISSING,
            }
        )
    labels = {
        "metric": say("Metric"),
        "value": say("Now [95% interval]"),
        "counts": say("Made from"),
        "before": say("Before"),
        "change": say("Change"),
    }
    note = say("A change is within chance when its 95% interval holds zero. Monthly counts of two periods share users.")
    return make_table(
        pd.DataFrame(rows), labels, name="growth-metrics", numeric=tuple(labels)[1:], unbroken=("metric", "change"),
        note=note,
    )  # fmt: skip


def show_accounting(model: GrowthModel) -> TableView:
    """Growth accounting of the last periods."""
    frame = model.audience.accounting.periods.tail(SHOWN_PERIODS)
    names = frame["period_start"].dt.strftime("%Y-%m-%d")
    shown = format_accounting(frame, names)
    # Who has not come yet in a period that is not over may still come.
    shown.loc[~frame["complete"], ["churned_count", "quick_ratio"]] = MISSING
    grain = model.scope.grain
    labels = label_accounting(say("{grain} from", grain=name_grain(grain).capitalize()), grain)
    return make_table(
        shown, labels, name="accounting", numeric=tuple(labels)[1:], total=len(model.audience.accounting.periods)
    )


def show_segments(model: GrowthModel) -> TableView | ListView:
    """Activity and growth accounting of each segment over the complete periods looked at."""
    audience = model.audience
    if audience.by_segment is None or audience.segment_accounting is None:
        return say_needed(model, mark("Who moved retention"), mark("Activity by segment"))
    accounting = audience.segment_accounting.periods
    recent = accounting[accounting["complete"] & (accounting["period_start"] >= pd.Timestamp(model.scope.now.start))]
    sums = recent.groupby("segment")[["new_count", "resurrected_count", "churned_count"]].sum()
    frame = audience.by_segment.by_segment.merge(sums, left_on="segment", right_index=True, how="left")
    gained = frame["new_count"] + frame["resurrected_count"]
    shown = pd.DataFrame({"segment": frame["segment"]})
    shown["dau"] = frame["dau_count"].map("{:,.0f}".format)
    shown["mau"] = [
        say("{text} ({more})", text=f"{n:,}", more=format_number(r, "rate"))
        for n, r in zip(frame["mau_count"], frame["mau_rate"], strict=True)
    ]
    names = [f"stickiness_{part}" for part in ("rate", "low", "high")]
    shown["stickiness"] = [format_range(*row, form=".1%") for row in frame[names].itertuples(index=False)]
    shown["new"] = frame["new_count"].map(_format_count)
    shown["back"] = frame["resurrected_count"].map(_format_count)
    shown["left"] = frame["churned_count"].map(_format_count)
    ratio = gained / frame["churned_count"].where(frame["churned_count"] > 0)
    shown["ratio"] = [format_number(x, "ratio") for x in ratio]
    labels = {
        "segment": name_column(audience.column).capitalize(), "dau": say("Active a day"),
        "mau": say("Active in 30 days (share)"), "stickiness": say("Stickiness [95%]"), "new": say("New"),
        "back": say("Came back"), "left": say("Left"), "ratio": say("Gained per one lost"),
    }  # fmt: skip
    note = say(
        "New, came back and left add up the complete {grain}s of the period.", grain=name_grain(model.scope.grain)
    )
    return make_table(shown, labels, name="segments", numeric=tuple(labels)[1:], note=note)


def show_causes(model: GrowthModel) -> TableView | ListView:
    """Where the change of next-day retention comes from."""
    explanation = model.staying.explanation
    if explanation is None:
        return say_needed(model, mark("Who moved retention"), mark("Where the change comes from"))
    if explanation.causes.empty:
        reason = explanation.note or say("all moved alike")
        return ListView([say("No group of users moved apart from the rest: {reason}.", reason=reason)])
    frame = explanation.causes
    shown = pd.DataFrame({"segment": frame["segment"].map(name_segment)})
    for side in ("before", "after"):
        shown[side] = format_shares(frame[f"{side}_rate"], frame[f"{side}_count"])
    shown["others"] = [f"{100 * x:+.1f}" for x in frame["others_change_rate"]]
    rows = frame[["excess_rate", "excess_low", "excess_high"]].itertuples(index=False)
    shown["excess"] = [format_range(*row, form="+.1f", scale=100) for row in rows]
    shown["share"] = [format_number(x, "rate") for x in frame["share_of_change_rate"]]
    shown["noise"] = [format_probability(x) for x in frame["q_value"]]
    labels = {
        "segment": say("Users"), "before": say("Before"), "after": say("Now"),
        "others": say("Everybody else, points"), "excess": say("Beyond the others, points [95%]"),
        "share": say("Share of the change"), "noise": say("False alarm rate"),
    }  # fmt: skip
    note = say(
        "The false alarm rate counts how often such a cause would be named by chance, over all groups tried (q-value)."
    )
    return make_table(shown, labels, name="causes", numeric=tuple(labels)[1:], note=note)


def show_behaviors(model: GrowthModel) -> TableView | ListView:
    """First-week behaviours and staying, raw and among users alike."""
    activation = model.staying.activation
    if activation is None:
        return say_needed(model, mark("What goes with staying"), mark("What goes with staying"))
    if activation.behaviors.empty:
        reason = activation.note or say("all are rare or universal")
        return ListView([say("No behaviour could be compared: {reason}.", reason=reason)])
    frame = activation.behaviors.head(SHOWN_ROWS)
    shown = pd.DataFrame({"behavior": frame["behavior"]})
    for side in ("did", "did_not"):
        shown[side] = format_shares(frame[f"{side}_rate"], frame[f"{side}_count"])
    for kind in ("raw", "adjusted"):
        names = [f"{kind}_difference_{part}" for part in ("rate", "low", "high")]
        shown[kind] = [format_range(*row, form="+.1f", scale=100) for row in frame[names].itertuples(index=False)]
    shown["noise"] = [format_probability(x) for x in frame["q_value"]]
    sizes = zip(frame["arm_users_count"], frame["experiment_days"], strict=True)
    shown["test"] = [
        MISSING if pd.isna(n) else say("2 x {count:,.0f}, {days:,.0f} days", count=n, days=days) for n, days in sizes
    ]
    labels = {
        "behavior": say("In the first week"), "did": say("Stayed, of those who did"),
        "did_not": say("of those who did not"), "raw": say("Difference, points"),
        "adjusted": say("Among users alike, points [95%]"), "noise": say("False alarm rate"),
        "test": say("Users of a test"),
    }  # fmt: skip
    first, end = activation.outcome_days
    note = say(
        "Stayed: active on days {first} to {last}. Users alike have the same {columns}. An association, not an effect; "
        "the test is sized for the difference among users alike or, where that is not clear, the largest that is "
        "possible.",
        first=first + 1, last=end, columns=_list_columns(activation.confounders),
    )  # fmt: skip
    return make_table(
        shown, labels, name="behaviors", numeric=tuple(labels)[1:], note=note, total=len(activation.behaviors)
    )


def _list_columns(columns: Sequence[str]) -> str:
    # In English a column stays as it is written.
    return say(", ").join(column if get_language() == "en" else name_common(column) for column in columns)


def show_backtest(model: GrowthModel) -> TableView | ListView:
    """How earlier forecasts did."""
    summary = model.outlook.backtest.summary
    if summary.empty:
        reason = model.outlook.backtest.note or say("too few days")
        return ListView([say("No earlier forecast can be checked: {reason}.", reason=reason)])
    shown = pd.DataFrame({"horizon": [say("{days} days ahead", days=n) for n in summary["horizon"]]})
    counts = zip(summary["days_count"], summary["origins_count"], strict=True)
    shown["days"] = [say("{days:,} from {origins:,}", days=days, origins=origins) for days, origins in counts]
    for column in ("coverage80_rate", "coverage95_rate", "wape_rate", "last_value_wape_rate", "seasonal_wape_rate"):
        shown[column] = [format_number(x, "rate") for x in summary[column]]
    labels = {
        "horizon": say("Forecast"), "days": say("Days checked, from origins"),
        "coverage80_rate": say("80% interval held"), "coverage95_rate": say("95% interval held"),
        "wape_rate": say("Mean error"), "last_value_wape_rate": say("of the last value"),
        "seasonal_wape_rate": say("of the same weekday"),
    }  # fmt: skip
    note = say(
        "Mean error: sum of absolute errors / sum of what came. A forecast that loses to the last value is no use."
    )
    return make_table(shown, labels, name="backtest", numeric=tuple(labels)[1:], note=note)


def show_sensitivity(model: GrowthModel) -> TableView | ListView:
    """Which rate moves daily active users most."""
    frame = model.outlook.sensitivity
    if frame.empty:
        return ListView([say("Too few days of data to say which rate moves daily active users most.")])
    first, later = sorted(frame["horizon_days"].unique())[:2]
    parts = {days: frame[frame["horizon_days"] == days].set_index("rate") for days in (first, later)}
    order = parts[later].sort_values("per_tenth_count", ascending=False).index
    rows: list[dict[str, Any]] = []
    for rate in order:
        row: dict[str, Any] = {"rate": say(RATE_LABELS[rate]) if rate in RATE_LABELS else rate}
        row["value"] = format_number(parts[first].loc[rate, "value_rate"], "rate")
        for days, part in parts.items():
            for kind in ("per_tenth_count", "per_point_count"):
                row[f"{kind}{days}"] = _format_gain(part.loc[rate, kind])
        rows.append(row)
    labels = {"rate": say("Rate, a day"), "value": say("Today")}
    labels |= {f"per_tenth_count{d}": say("A tenth more: users a day after {days} days", days=d) for d in parts}
    labels |= {f"per_point_count{d}": say("A point more: users a day after {days} days", days=d) for d in parts}
    note = say(
        "A point is a large step for a small rate, and a tenth of a rate is not the same effort as a tenth of another."
    )
    return make_table(pd.DataFrame(rows), labels, name="sensitivity", numeric=tuple(labels)[1:], note=note)


def show_levers(model: GrowthModel) -> TableView | ListView:
    """Each lever's effect on users, revenue and cost, beside the base case."""
    levers = model.outlook.levers
    if levers.table.empty:
        return ListView([say("Too few days of data to simulate levers.")])
    settings = {row["lever"]: row for row in levers.levers.dropna(subset="then_value").to_dict("records")}
    rows: dict[tuple[str, float], dict[str, str]] = {}
    for cell in levers.table.to_dict("records"):
        lever = str(cell["lever"])
        # Named once, in the first of its rows.
        first = not any(lever == other for other, _ in rows)
        names = {"lever": say(LEVER_NAMES[lever]) if first else "", "setting": ""}
        row = rows.setdefault((lever, cell["months_count"]), names)
        row["months"] = f"{cell['months_count']}"
        if lever in settings and first:
            ends = (settings[lever]["now_value"], settings[lever]["then_value"])
            row["setting"] = " → ".join(format_lever(model, lever, float(x)) for x in ends)
        row[str(cell["metric"])] = _format_effect(cell, base=lever == "base")
    money = model.currency
    labels = {
        "lever": say("Lever"), "setting": say("From → to"), "months": say("Months"), "dau_count": say("Users a day"),
        "new_users_count": say("New users"), "revenue_amount": say("Revenue, {currency}", currency=money),
        "cost_amount": say("Cost, {currency}", currency=money),
    }  # fmt: skip
    note = say(
        "Base: level with 95% interval. Levers: difference to it with 95% interval. Users a day are the mean of the "
        "last 7 days; new users, revenue and cost add up from today."
    )
    return make_table(
        pd.DataFrame(rows.values()).reindex(columns=list(labels)),
        labels,
        name="levers",
        numeric=tuple(labels)[2:],
        unbroken=("setting",),
        note=note,
    )


def _format_effect(cell: Mapping[Any, Any], *, base: bool) -> str:
    names = ("value", "low", "high") if base else ("difference", "difference_low", "difference_high")
    value, low, high = (cell[n] for n in names)
    if not base and value == low == high == 0:
        return "0"
    return format_range(value, low, high, form=",.0f" if base else "+,.0f")


def _format_gain(value: Any) -> str:
    return MISSING if pd.isna(value) else f"{value:+,.0f}" if abs(value) >= 10 else f"{value:+,.1f}"


def _format_count(value: float) -> str:
    return MISSING if pd.isna(value) else f"{value:,.0f}"
