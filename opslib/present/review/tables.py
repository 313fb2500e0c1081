"""The tables of the quarterly review."""

from __future__ import annotations

import pandas as pd

from opslib.decide.review.review import QuarterlyReview
from opslib.decide.targets import TargetVerdict
from opslib.language import join_sentences, mark, say
from opslib.present.display import TableView
from opslib.present.tables import format_accounting, label_accounting, make_table
from opslib.present.words import MISSING, format_change, format_estimate, format_number, label_metric

STATUSES = {
    "met": mark("met"),
    "missed": mark("missed"),
    "too close to call": mark("too close to call"),
    "not enough data": mark("not enough data"),
}


def show_metrics(review: QuarterlyReview) -> TableView:
    """Every headline metric: value, interval, counts, change and verdict against its target."""
    rows = []
    for name, change in review.changes().items():
        now, verdict = change.now, review.targets.get(name)
        rows.append(
            {
                "metric": label_metric(name),
                # An interval stays on one line.
                "value": format_estimate(now, currency=review.currency).replace(" to ", "\u00a0to\u00a0"),
                "counts": _format_counts(now.unit, now.numerator, now.denominator),
                "before": format_number(change.before.value, now.unit, currency=review.currency),
                "change": format_change(change),
                "target": _format_target(verdict, now.unit, review.currency),
            }
        )
    before = review.before.period.label if review.before else say("Before")
    labels = {
        "metric": say("Metric"),
        "value": say("{period} [95% interval]", period=review.now.period.label),
        "counts": say("Made from"),
        "before": before,
        "change": say("Change"),
        "target": say("Target"),
    }
    note = say(
        "A change is within chance when its 95% interval holds zero. "
        "A target is met or missed only when the whole interval lies on that side of it."
    )
    return make_table(
        pd.DataFrame(rows),
        labels,
        name="metrics",
        note=note,
        numeric=tuple(labels)[1:],
        unbroken=("metric", "before", "change", "target"),
    )


def show_growth(review: QuarterlyReview) -> TableView:
    """Growth accounting by quarter: opening + new + came back - left = closing."""
    frame = review.growth.periods.tail(6)
    labels = label_accounting(say("Quarter"), "quarter")
    shown = format_accounting(frame, frame["period_start"].dt.to_period("Q").astype(str))
    return make_table(shown, labels, name="growth", numeric=tuple(labels)[1:])


def show_channels(review: QuarterlyReview) -> TableView:
    """New users by channel: how many, how many stay, what one and one who stays costs; the quarter before beside it."""
    frame = review.now.acquisition.by_channel
    if review.before:
        frame = frame.merge(review.before.acquisition.by_channel, on="channel", how="left", suffixes=("", "_before"))
    else:
        frame = frame.assign(**{f"{c}_before": None for c in frame.columns if c != "channel"})
    shown = pd.DataFrame({"channel": frame["channel"]})
    shown["new"] = [
        say("{now} ({before})", now=f"{now:,}", before=format_number(before, "count"))
        for now, before in zip(frame["new_users_count"], frame["new_users_count_before"], strict=True)
    ]
    shown["d7"] = [
        say(
            "{rate} of {count:,} ({before})",
            rate=format_number(rate, "rate"),
            count=mature,
            before=format_number(before, "rate"),
        )
        for rate, mature, before in zip(frame["d7_rate"], frame["mature_count"], frame["d7_rate_before"], strict=True)
    ]
    for cost in ("cac", "cost_per_retained"):
        columns = [f"{cost}_amount", f"{cost}_low", f"{cost}_high", f"{cost}_amount_before"]
        shown[cost] = [_format_cost(*row) for row in frame[columns].itertuples(index=False)]
    labels = {
        "channel": say("Channel"),
        "new": say("New users"),
        "d7": say("Back on day 7, of how many"),
        "cac": say("{currency} per new user", currency=review.currency),
        "cost_per_retained": say("{currency} per user who stays to day 7", currency=review.currency),
    }
    notes = [
        say("Spend includes referral rewards."),
        say("The share on day 7 counts only users whose day 7 has come."),
        say("In square brackets 95% intervals."),
    ]
    if review.before:
        notes[-1] = say("In square brackets 95% intervals, in round ones {before}.", before=review.before.period.label)
    note = join_sentences(notes)
    numeric = tuple(labels)[1:]
    return make_table(shown, labels, name="channels", numeric=numeric, unbroken=("new", "d7"), note=note)


def _format_cost(value: float, low: float, high: float, before: float) -> str:
    if pd.isna(value):
        return MISSING
    now, lower, upper, earlier = (format_number(x, "amount") for x in (value, low, high, before))
    return say("{value} [{low} to {high}] ({before})", value=now, low=lower, high=upper, before=earlier)


def _format_counts(unit: str, numerator: float, denominator: float) -> str:
    if not denominator and not numerator:
        return MISSING
    if unit != "count":
        return say("{top:,.0f} / {bottom:,.0f} users", top=numerator, bottom=denominator)
    if denominator > 1:
        return say("{top:,.0f} / {bottom:,.0f} days", top=numerator, bottom=denominator)
    return say("{count:,.0f} users", count=numerator)


def _format_target(verdict: TargetVerdict | None, unit: str, currency: str) -> str:
    if verdict is None:
        return MISSING
    sign = "≥" if verdict.target.at_least is not None else "≤"
    bound = format_number(verdict.target.bound, unit, currency=currency)
    return say("{target}: {status}", target=f"{sign} {bound}", status=say(STATUSES[verdict.status]))
