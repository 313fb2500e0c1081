"""Series of what users say: tickets, complaints, satisfaction and recommendation."""

from __future__ import annotations

import ibis.expr.types as ir
import numpy as np
import pandas as pd

from opslib.measure.series.activity import find_binomial_error
from opslib.measure.series.grid import Grid, make_series
from opslib.measure.series.series import MetricSeries

SATISFIED_FROM = 4
PROMOTER_FROM, DETRACTOR_TO = 9, 6


def count_tickets(tickets: ir.Table, grid: Grid) -> pd.DataFrame:
    """Count tickets and who complained, by the day on which a ticket was opened.

    Args:
        tickets: ticket_id, user_id, day, is_complaint, group; rows of one ticket count once, on its first day, and as a
            complaint if any of them is one.
        grid: by day.

    Returns:
        tickets_count, complaints_count, complainers_count (distinct users with a complaint on the day); tickets_squares
        and complaints_squares (sums over users of the squares of each one's of the day).
    """
    keys = ["user_id", *(["group"] if grid.by else [])]
    once = tickets.group_by("ticket_id").aggregate(
        day=tickets.day.min(),
        complaint=tickets.is_complaint.fill_null(False).any().cast("int64"),
        **{k: tickets[k].argmin(tickets.day) for k in keys},
    )
    inside = grid.clip(once)
    per_user = inside.group_by("user_id", **grid.keys(inside)).aggregate(
        tickets=inside.count(), complaints=inside.complaint.sum()
    )
    counted = per_user.group_by("at", *keys[1:]).aggregate(
        tickets_count=per_user.tickets.sum(),
        complaints_count=per_user.complaints.sum(),
        complainers_count=(per_user.complaints > 0).sum(),
        tickets_squares=(per_user.tickets * per_user.tickets).sum(),
        complaints_squares=(per_user.complaints * per_user.complaints).sum(),
    )
    names = ("tickets_count", "complaints_count", "complainers_count", "tickets_squares", "complaints_squares")
    return grid.fill(counted.to_pandas(), *names)


def make_tickets(tickets: pd.DataFrame, grid: Grid, gaps: np.ndarray, *, metric: str) -> MetricSeries:
    """Tickets or complaints of a period; the tickets of one user on a day go together in the standard error."""
    head = metric.removesuffix("_count")
    rolled = grid.roll_up(tickets)
    top = rolled[f"{head}_count"].to_numpy()
    return make_series(
        grid,
        metric,
        unit="count",
        kind="count",
        numerator=top,
        denominator=np.ones(len(top)),
        error=np.sqrt(rolled[f"{head}_squares"].to_numpy()),
        gaps=gaps,
        is_sum=True,
    )


def make_complaint_rate(tickets: pd.DataFrame, windows: pd.DataFrame, grid: Grid, gaps: np.ndarray) -> MetricSeries:
    """Distinct complaining users of a day, of the distinct active users of that day.

    Of weeks and months the sums of both over their days, those left out for which data are missing. On a day with more
    who complain than are active, all are taken as active.
    """
    top = tickets["complainers_count"].to_numpy()
    below = np.maximum(windows["dau_count"].to_numpy(), top)
    both = grid.roll_up(grid.blank(pd.DataFrame({"top": top, "below": below}), gaps))
    top, below = both["top"].to_numpy(), both["below"].to_numpy()
    error = find_binomial_error(top, below)
    return make_series(
        grid, "complaint_rate", unit="rate", kind="rate", numerator=top, denominator=below, error=error, gaps=gaps
    )


def count_answers(surveys: ir.Table, grid: Grid) -> pd.DataFrame:
    """Count survey answers: csat_count, satisfied_count (4 or 5), nps_count, promoters_count, detractors_count.

    Takes day, kind (csat or nps), score, group.
    """
    inside = grid.clip(surveys.filter(surveys.score.notnull()))
    csat, nps, score = inside.kind == "csat", inside.kind == "nps", inside.score
    return grid.count(
        inside,
        csat_count=csat.sum(),
        satisfied_count=(csat & (score >= SATISFIED_FROM)).sum(),
        nps_count=nps.sum(),
        promoters_count=(nps & (score >= PROMOTER_FROM)).sum(),
        detractors_count=(nps & (score <= DETRACTOR_TO)).sum(),
    )


def make_satisfaction(answers: pd.DataFrame, grid: Grid, gaps: np.ndarray) -> MetricSeries:
    """Share of a period's answers that are 4 or 5 of 5 (CSAT)."""
    rolled = grid.roll_up(answers)
    top, below = rolled["satisfied_count"].to_numpy(), rolled["csat_count"].to_numpy()
    error = find_binomial_error(top, below)
    return make_series(
        grid, "satisfaction_rate", unit="rate", kind="rate", numerator=top, denominator=below, error=error, gaps=gaps
    )


def make_nps(answers: pd.DataFrame, grid: Grid, gaps: np.ndarray) -> MetricSeries:
    """Net promoter score of a period from -1 to 1: share of answers 9 and 10, less share of answers 0 to 6.

    The numerator is promoters less detractors. Standard error: multinomial, the root of (p + d - (p - d)^2) / n.
    """
    rolled = grid.roll_up(answers)
    below = rolled["nps_count"].to_numpy()
    up, down = rolled["promoters_count"].to_numpy(), rolled["detractors_count"].to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = (up + down) / below - ((up - down) / below) ** 2
        error = np.sqrt(np.maximum(spread, 0) / below)
    return make_series(
        grid, "nps_ratio", unit="ratio", kind="mean", numerator=up - down, denominator=below, error=error, gaps=gaps
    )
