"""Who was to be won back, who came, and what it cost: one row a user of a win-back with a holdout."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ibis
import ibis.expr.types as ir
import pandas as pd

from opslib.data.periods import DAY, Calendar
from opslib.errors import InputError, suggest_name
from opslib.measure.experiment.metrics import Metric, Outcomes, collect_outcomes

NOT_GIVEN = "(not given)"
# More segments than this are no segments but a wrong column.
MOST_SEGMENTS = 200
SHOWN = 20


@dataclass(frozen=True)
class Assigned:
    """Users as they were drawn into arms.

    Attributes:
        table: user_id, variant, exposed_at, day; one row a user, users of both arms left out.
        counts: variant -> users.
        crossed: first variant -> users seen in both arms.
        lost_count: rows without a user, an arm or a time.
        span: first and last moment of drawing; None when nobody was drawn.
    """

    table: ir.Table
    counts: dict[str, int]
    crossed: dict[str, int]
    lost_count: int
    span: tuple[dt.datetime, dt.datetime] | None


def read_assigned(
    exposures: ir.Table, *, experiment: str, arms: Sequence[str], as_of: dt.date, calendar: Calendar
) -> Assigned:
    """Read the arms of a win-back.

    Args:
        exposures: user_id, experiment, variant, ts (UTC).
        arms: names of the holdout and of the treated.

    Raises:
        InputError: a column, the experiment or both arms are not there.
    """
    for column in ("user_id", "experiment", "variant", "ts"):
        if column not in exposures.columns:
            raise InputError(f"Table exposures has no column '{column}'.{suggest_name(column, exposures.columns)}")
    rows = exposures.filter(exposures.experiment == experiment)
    whole = rows.user_id.notnull() & rows.variant.notnull() & rows.ts.notnull()
    seen = rows.group_by(variant=rows.variant.cast("string")).aggregate(n=rows.count(), lost=(~whole).sum())
    known = seen.limit(1000).to_pandas()
    if known.empty:
        names = exposures.select("experiment").distinct().limit(1000).to_pandas()["experiment"].dropna()
        listed = ", ".join(sorted(map(str, names))[:SHOWN]) or "nobody was in any"
        raise InputError(f"There is no experiment '{experiment}' ({listed}).{suggest_name(experiment, names)}")
    variants = sorted(known["variant"].dropna())
    if not set(arms) & set(variants):
        raise InputError(
            f"Experiment '{experiment}' has no arm '{arms[1]}' and no '{arms[0]}': it has {', '.join(variants)}. "
            "Say which is which with `treated` and `holdout`."
        )
    near = [suggest_name(arm, set(variants) - set(arms)) for arm in arms if arm not in variants]
    if any(near):
        raise InputError(f"Experiment '{experiment}' has the arms {', '.join(variants)}.{''.join(near)}")
    ours = rows.variant.cast("string").isin(list(arms))
    kept = rows.filter(whole & ours & (rows.ts < ibis.timestamp(calendar.day_start(as_of + DAY))))
    variant = kept.variant.cast("string")
    users = kept.group_by("user_id").aggregate(
        variant=variant.argmin(kept.ts), several=variant.nunique() > 1, exposed_at=kept.ts.min()
    )
    users = users.mutate(day=calendar.local_day(users.exposed_at)).cache()
    counted = (
        users.group_by("variant", "several")
        .aggregate(users=users.count(), first=users.exposed_at.min(), last=users.exposed_at.max())
        .to_pandas()
    )
    one = counted[~counted["several"]]
    both = counted[counted["several"]].set_index("variant")["users"].astype(int).to_dict()
    counts = dict.fromkeys(arms, 0) | one.set_index("variant")["users"].astype(int).to_dict()
    span = None if one.empty else (one["first"].min().to_pydatetime(), one["last"].max().to_pydatetime())
    return Assigned(users.filter(~users.several).drop("several"), counts, both, int(known["lost"].sum()), span)


def collect_recalls(
    assigned: Assigned,
    tables: Mapping[str, ir.Table],
    metrics: Sequence[Metric],
    *,
    days: int,
    as_of: dt.date,
    calendar: Calendar,
    segments: ir.Table | None,
    messages: ir.Table | None,
    campaign: str,
    message_costs: Mapping[str, float],
    costs: ir.Table | None,
) -> Outcomes:
    """Collect what each user did and cost: outcomes with the further columns segment, delivered (0 or 1) and cost."""
    end = calendar.day_start(as_of + DAY)
    span = assigned.span or (end, end)
    outcomes = collect_outcomes(assigned.table, tables, metrics, span=span, as_of=as_of, calendar=calendar)
    users = outcomes.table
    if segments is None:
        users = users.mutate(segment=ibis.literal(NOT_GIVEN))
    else:
        _check_columns(segments, ("user_id", "segment"), "segments")
        # A user of two segments is counted once, in the first by name.
        label = segments.group_by("user_id").aggregate(segment=segments.segment.cast("string").min())
        users = users.left_join(label, "user_id").drop("user_id_right")
        users = users.mutate(segment=users.segment.fill_null(NOT_GIVEN))
    if messages is None:
        users = users.mutate(delivered=ibis.literal(0), sent_cost=ibis.literal(0.0), free=ibis.literal(0))
    else:
        sent = _sum_messages(assigned.table, messages, span, days, campaign, message_costs)
        users = users.left_join(sent, "user_id").drop("user_id_right")
    if costs is None:
        users = users.mutate(other_cost=ibis.literal(0.0))
    else:
        _check_columns(costs, ("user_id", "amount"), "costs")
        summed = costs.group_by("user_id").aggregate(other_cost=costs.amount.cast("float64").sum())
        users = users.left_join(summed, "user_id").drop("user_id_right")
    table = users.mutate(
        # Everybody in one group: arms are compared as a whole, not day by day.
        day=ibis.null("date"),
        delivered=users.delivered.fill_null(0),
        free=users.free.fill_null(0),
        cost=users.sent_cost.fill_null(0.0) + users.other_cost.fill_null(0.0),
    ).drop("sent_cost", "other_cost")
    return Outcomes(table.cache(), outcomes.metrics, outcomes.kinds, outcomes.columns)


def sum_costs(outcomes: Outcomes) -> pd.DataFrame:
    """Sum up by variant and segment.

    Returns:
        variant, segment; users, delivered (users reached), free (messages by channels without a cost); of users whose
        window is over: known, back, cost, cost2 (of squares), product (of cost and back).
    """
    table = outcomes.table
    over = table.m0
    return (
        table.group_by("variant", "segment")
        .aggregate(
            users=table.count(),
            delivered=table.delivered.sum(),
            free=table.free.sum(),
            known=over.sum().fill_null(0),
            back=table.v0.sum(where=over).fill_null(0.0),
            cost=table.cost.sum(where=over).fill_null(0.0),
            cost2=(table.cost * table.cost).sum(where=over).fill_null(0.0),
            product=(table.cost * table.v0).sum(where=over).fill_null(0.0),
        )
        .order_by("segment", "variant")
        .to_pandas()
    )


def check_segments(names: Sequence[str]) -> None:
    """Refuse a column that holds no segments."""
    if len(names) > MOST_SEGMENTS:
        raise InputError(f"{len(names):,} segments, more than {MOST_SEGMENTS}: the column holds something else.")


def check_campaign(messages: ir.Table, campaign: str) -> None:
    """Refuse a campaign that no message belongs to: it would read as one that reached nobody."""
    names = messages.select("campaign").distinct().limit(10_000).to_pandas()["campaign"].dropna()
    if campaign not in set(names):
        raise InputError(f"No message belongs to campaign '{campaign}'.{suggest_name(campaign, names)}")


def _sum_messages(
    assigned: ir.Table,
    messages: ir.Table,
    span: tuple[dt.datetime, dt.datetime],
    days: int,
    campaign: str,
    message_costs: Mapping[str, float],
) -> ir.Table:
    """user_id, delivered, sent_cost, free (messages without a cost) of the messages in each user's window."""
    wanted = ["user_id", "ts", *(["channel"] if message_costs else []), *(["campaign"] if campaign else [])]
    _check_columns(messages, wanted, "messages")
    near = messages.filter(
        messages.ts >= ibis.timestamp(span[0]), messages.ts < ibis.timestamp(span[1] + (days + 1) * DAY)
    )
    if campaign:
        near = near.filter(near.campaign == campaign)
    arrived = near.delivered.cast("boolean").fill_null(False) if "delivered" in near.columns else ibis.literal(True)
    price: ir.Value = ibis.literal(0.0)
    free: ir.Value = ibis.literal(False)
    if message_costs:
        free = ~near.channel.isin(list(message_costs))
        price = ibis.cases(*((near.channel == c, ibis.literal(float(p))) for c, p in message_costs.items()), else_=0.0)
    drawn = assigned.select("user_id", drawn_at="exposed_at")
    rows = near.select("user_id", _ts=near.ts, _arrived=arrived, _price=price, _free=free).inner_join(drawn, "user_id")
    inside = rows.filter(rows["_ts"] >= rows.drawn_at, rows["_ts"] < rows.drawn_at + ibis.interval(hours=24 * days))
    return inside.group_by("user_id").aggregate(
        delivered=inside["_arrived"].cast("int64").max(), sent_cost=inside["_price"].sum(), free=inside["_free"].sum()
    )


def _check_columns(table: ir.Table, columns: Sequence[str], name: str) -> None:
    for column in columns:
        if column not in table.columns:
            raise InputError(f"Table {name} has no column '{column}'.{suggest_name(column, table.columns)}")
