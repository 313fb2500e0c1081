"""Tables for people: numbers aligned, with units, intervals and the counts behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from opslib.data.fitness import DataFitness
from opslib.decide.questions import list_questions
from opslib.decide.review import QuarterlyReview
from opslib.present.display import TableView
from opslib.present.words import MISSING, format_change, format_interval, format_number, label_metric

if TYPE_CHECKING:
    from opslib.data.source import Data


def make_table(
    frame: pd.DataFrame, labels: dict[str, str], *, name: str, note: str = "", numeric: tuple[str, ...] = ()
) -> TableView:
    """Make a table for people.

    Args:
        frame: texts and numbers, already written as they are to be read.
        labels: column -> heading, in order; other columns are left out.
        name: a fixed id, so that the same table is the same HTML.
        note: a line below the table.
        numeric: columns to align right.

    Returns:
        A `TableView`; every value is escaped.
    """
    import great_tables as gt

    shown = frame[list(labels)]
    table = gt.GT(shown, id=name).cols_label(**labels).cols_align("left")  # type: ignore[arg-type]
    if numeric:
        table = table.cols_align("right", columns=list(numeric))
    table = (
        table.sub_missing(missing_text=MISSING)
        .opt_horizontal_padding(scale=1.5)
        .tab_options(table_font_size="14px", column_labels_font_weight="600", table_margin_left="0")
    )
    if note:
        table = table.tab_source_note(note)
    return TableView(table, shown, labels)


def show_fitness(fitness: DataFitness) -> TableView:
    """The data-fitness table: what is there, from when to when, and what is wrong with it."""
    frame = fitness.to_frame()
    frame["rows"] = frame["rows_count"].map("{:,}".format)
    frame["left_out"] = frame["left_out_count"].map("{:,}".format)
    for column in ("first_at", "last_at"):
        frame[column] = pd.to_datetime(frame[column]).dt.strftime("%Y-%m-%d %H:%M")
    frame["problems"] = frame["problems"].map(lambda problems: " ".join(problems) or "none found")
    labels = {
        "table": "Table",
        "grain": "A row is",
        "rows": "Rows",
        "left_out": "Left out",
        "first_at": "First (UTC)",
        "last_at": "Last (UTC)",
        "verdict": "Verdict",
        "problems": "Problems",
    }
    return make_table(
        frame,
        labels,
        name="fitness",
        numeric=("rows", "left_out"),
        note=f"All tables together: {fitness.verdict}.",
    )


def show_questions(data: Data) -> TableView:
    """Which question each notebook answers, and whether these data can answer it."""
    frame = pd.DataFrame.from_records([vars(q) for q in list_questions(data)])
    frame["answer"] = [
        "yes" if not missing else f"needs {missing}" for missing in frame["missing"].map(lambda m: ", ".join(m))
    ]
    frame["needs"] = frame["needs"].map(", ".join)
    labels = {
        "question": "Question",
        "notebook": "Notebook",
        "section": "Section",
        "needs": "Tables needed",
        "answer": "Can these data answer it?",
    }
    return make_table(frame, labels, name="questions")


def show_metrics(review: QuarterlyReview) -> TableView:
    """Every headline metric: value, interval, counts, change and verdict against its target."""
    rows = []
    for name, change in review.changes().items():
        now, verdict = change.now, review.targets.get(name)
        rows.append(
            {
                "metric": label_metric(name),
                "value": format_number(now.value, now.unit, currency=review.currency),
                "interval": format_interval(now) or now.note,
                "counts": _format_counts(now.unit, now.numerator, now.denominator),
                "before": format_number(change.before.value, now.unit, currency=review.currency),
                "change": format_change(change),
                "target": _format_target(verdict, now.unit, review.currency),
                "status": verdict.status if verdict else "no target",
            }
        )
    before = review.before.period.label if review.before else "Before"
    labels = {
        "metric": "Metric",
        "value": review.now.period.label,
        "interval": "95% interval",
        "counts": "Made from",
        "before": before,
        "change": "Change",
        "target": "Target",
        "status": "Verdict",
    }
    note = (
        '"Within chance" means that the interval of the change includes none. '
        "A target is met or missed only when the whole interval lies on that side of it."
    )
    numeric = ("value", "interval", "counts", "before", "change", "target")
    return make_table(pd.DataFrame(rows), labels, name="metrics", note=note, numeric=numeric)


def show_growth(review: QuarterlyReview) -> TableView:
    """Growth accounting by quarter: opening + new + came back - left = closing."""
    frame = review.growth.periods.tail(6).copy()
    counts = ["opening_count", "new_count", "resurrected_count", "churned_count", "closing_count"]
    frame["quarter"] = [
        f"{p}" + ("" if complete else " (part)")
        for p, complete in zip(frame["period_start"].dt.to_period("Q"), frame["complete"], strict=True)
    ]
    for column in counts:
        sign = {"new_count": "+", "resurrected_count": "+", "churned_count": "−"}.get(column, "")
        frame[column] = [f"{sign}{n:,}" for n in frame[column]]
    frame["quick_ratio"] = [format_number(x, "ratio") for x in frame["quick_ratio"]]
    labels = {
        "quarter": "Quarter",
        "opening_count": "Active the quarter before",
        "new_count": "New",
        "resurrected_count": "Came back",
        "churned_count": "Left",
        "closing_count": "Active",
        "quick_ratio": "Gained per one lost",
    }
    return make_table(frame, labels, name="growth", numeric=tuple(labels)[1:])


def show_channels(review: QuarterlyReview) -> TableView:
    """New users by channel: how many, how many stay, what one and one who stays costs; the quarter before beside it."""
    frame = review.now.acquisition.by_channel
    if review.before:
        frame = frame.merge(review.before.acquisition.by_channel, on="channel", how="left", suffixes=("", "_before"))
    else:
        frame = frame.assign(**{f"{c}_before": None for c in frame.columns if c != "channel"})
    shown = pd.DataFrame({"channel": frame["channel"], "new": [f"{n:,}" for n in frame["new_users_count"]]})
    shown["new_before"] = [format_number(n, "count") for n in frame["new_users_count_before"]]
    shown["d7"] = [
        f"{format_number(rate, 'rate')} of {mature:,}" if pd.notna(rate) else "not enough data"
        for rate, mature in zip(frame["d7_rate"], frame["mature_count"], strict=True)
    ]
    shown["d7_before"] = [format_number(x, "rate") for x in frame["d7_rate_before"]]
    for cost in ("cac", "cost_per_retained"):
        shown[cost] = [
            format_number(value, "amount")
            + (f" [{format_number(low, 'amount')} to {format_number(high, 'amount')}]" if pd.notna(low) else "")
            for value, low, high in zip(
                frame[f"{cost}_amount"], frame[f"{cost}_low"], frame[f"{cost}_high"], strict=True
            )
        ]
        shown[f"{cost}_before"] = [format_number(x, "amount") for x in frame[f"{cost}_amount_before"]]
    now, before = review.now.period.label, review.before.period.label if review.before else "before"
    labels = {
        "channel": "Channel",
        "new": f"New users {now}",
        "new_before": before,
        "d7": f"D7 {now}",
        "d7_before": before,
        "cac": f"{review.currency} per new user {now}",
        "cac_before": before,
        "cost_per_retained": f"{review.currency} per user who stays to day 7",
        "cost_per_retained_before": before,
    }
    note = "Spend includes referral rewards. The share on day 7 counts only users whose day 7 has come."
    return make_table(shown, labels, name="channels", numeric=tuple(labels)[1:], note=note)


def _format_counts(unit: str, numerator: float, denominator: float) -> str:
    if not denominator and not numerator:
        return MISSING
    if unit == "count":
        return f"{numerator:,.0f} / {denominator:,.0f} days" if denominator > 1 else f"{numerator:,.0f} users"
    top = f"{numerator:,.0f}"
    return f"{top} / {denominator:,.0f} users"


def _format_target(verdict: object, unit: str, currency: str) -> str:
    if verdict is None:
        return MISSING
    target = verdict.target  # type: ignore[attr-defined]
    sign = "≥" if target.at_least is not None else "≤"
    return f"{sign} {format_number(target.bound, unit, currency=currency)}"
