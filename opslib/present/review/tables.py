"""The tables of the quarterly review."""

from __future__ import annotations

import pandas as pd

from opslib.decide.review.review import QuarterlyReview
from opslib.decide.targets import TargetVerdict
from opslib.present.display import TableView
from opslib.present.tables import format_accounting, label_accounting, make_table
from opslib.present.words import MISSING, format_change, format_estimate, format_number, label_metric


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
    before = review.before.period.label if review.before else "Before"
    labels = {
        "metric": "Metric",
        "value": f"{review.now.period.label} [95% interval]",
        "counts": "Made from",
        "before": before,
        "change": "Change",
        "target": "Target",
    }
    note = (
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
    labels = label_accounting("Quarter", "quarter")
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
        f"{now:,} ({format_number(before, 'count')})"
        for now, before in zip(frame["new_users_count"], frame["new_users_count_before"], strict=True)
    ]
    shown["d7"] = [
        f"{format_number(rate, 'rate')} of {mature:,} ({format_number(before, 'rate')})"
        for rate, mature, before in zip(frame["d7_rate"], frame["mature_count"], frame["d7_rate_before"], strict=True)
    ]
    for cost in ("cac", "cost_per_retained"):
        columns = [f"{cost}_amount", f"{cost}_low", f"{cost}_high", f"{cost}_amount_before"]
        shown[cost] = [_format_cost(*row) for row in frame[columns].itertuples(index=False)]
    labels = {
        "channel": "Channel",
        "new": "New users",
        "d7": "Back on day 7, of how many",
        "cac": f"{review.currency} per new user",
        "cost_per_retained": f"{review.currency} per user who stays to day 7",
    }
    earlier = f", in round ones {review.before.period.label}" if review.before else ""
    note = (
        "Spend includes referral rewards. The share on day 7 counts only users whose day 7 has come. "
        f"In square brackets 95% intervals{earlier}."
    )
    numeric = tuple(labels)[1:]
    return make_table(shown, labels, name="channels", numeric=numeric, unbroken=("new", "d7"), note=note)


def _format_cost(value: float, low: float, high: float, before: float) -> str:
    if pd.isna(value):
        return MISSING
    now, lower, upper, earlier = (format_number(x, "amount") for x in (value, low, high, before))
    return f"{now} [{lower} to {upper}] ({earlier})"


def _format_counts(unit: str, numerator: float, denominator: float) -> str:
    if not denominator and not numerator:
        return MISSING
    if unit == "count":
        return f"{numerator:,.0f} / {denominator:,.0f} days" if denominator > 1 else f"{numerator:,.0f} users"
    top = f"{numerator:,.0f}"
    return f"{top} / {denominator:,.0f} users"


def _format_target(verdict: TargetVerdict | None, unit: str, currency: str) -> str:
    if verdict is None:
        return MISSING
    sign = "≥" if verdict.target.at_least is not None else "≤"
    return f"{sign} {format_number(verdict.target.bound, unit, currency=currency)}: {verdict.status}"
