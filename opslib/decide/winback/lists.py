"""The list itself, one row a user: offer, state, arm and rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import ibis
import ibis.expr.types as ir
import pandas as pd

from opslib.errors import InputError
from opslib.language import say
from opslib.measure.recall.arms import HOLDOUT, TREATED, assign_arm, draw_lot

NOT_GIVEN = "(not given)"
# Every user of the segments is in exactly one.
STATES = ("no_offer", "unreachable", "capped", "over_budget", HOLDOUT, TREATED)
REACH_COLUMNS = ("channel", "message_amount", "reachable_count", "answered_count", "chosen_count")


@dataclass(frozen=True)
class Offer:
    """What a segment is offered.

    Attributes:
        name: what it is called in the list.
        cost: what it costs for each user who gets it, on average: its price times the share who take it.
    """

    name: str
    cost: float = 0.0


def read_segments(segments: ir.Table, value: str, offers: Mapping[str, Offer]) -> tuple[ir.Table, list[str]]:
    """One row a user: user_id, segment, offer, offer_cost, value; and what is odd about the table."""
    known = segments.filter(segments.user_id.notnull())
    label = known.segment.cast("string").fill_null(NOT_GIVEN)
    worth = known[value].cast("float64") if value else ibis.null("float64")
    if value and known[value].type().is_floating():
        worth = worth.nullif(float("nan"))
    names = [(label == name, ibis.literal(offer.name)) for name, offer in offers.items()]
    costs = [(label == name, ibis.literal(float(offer.cost))) for name, offer in offers.items()]
    people = known.select(
        "user_id",
        segment=label,
        value=worth,
        offer=ibis.cases(*names, else_=ibis.null("string")) if names else ibis.null("string"),
        offer_cost=ibis.cases(*costs, else_=ibis.null("float64")) if costs else ibis.null("float64"),
    ).cache()
    counts = people.aggregate(rows=people.count(), users=people.user_id.nunique()).to_pandas().iloc[0]
    twice = int(counts["rows"] - counts["users"])
    if twice:
        raise InputError(
            f"Table segments has {twice:,} rows of users who are in it already: give each user one row and one segment."
        )
    lost = int(segments.filter(segments.user_id.isnull()).count().to_pandas())
    notes = [say("{rows:,} rows of the segments name no user and are left out.", rows=lost)] if lost else []
    if not counts["rows"]:
        notes.append(say("There is nobody in the segments."))
    return people, notes


def assign_states(
    joined: ir.Table, cap_messages: int, budget: float | None, holdout: float, seed: str | int, valued: bool
) -> ir.Table:
    """One row a user with state, cost and rank."""
    arm = assign_arm(joined.user_id, holdout=holdout, seed=seed)
    # The lot that breaks ties is not the one that draws the arms: those held out must not come first.
    drawn = joined.mutate(
        arm=arm,
        tie=draw_lot(joined.user_id, f"{seed}:rank"),
        cost=joined.message_cost + joined.offer_cost,
        waits=ibis.cases(
            (joined.offer.isnull(), "no_offer"),
            (joined.channel.isnull(), "unreachable"),
            (joined.sent.fill_null(0) >= cap_messages, "capped"),
            else_="",
        ),
    )
    past = [drawn[name].fill_null(0).desc() for name in ("clicked", "opened", "delivered")]
    worth = [drawn.value.isnull(), drawn.value.desc()] if valued else []
    order = [(drawn.waits != ""), *worth, *past, drawn.tie, drawn.user_id]
    ranked = drawn.mutate(rank=ibis.row_number().over(order_by=order))
    if budget is None:
        fits = ibis.literal(True)
    else:
        paid = ibis.ifelse((ranked.waits == "") & (ranked.arm == TREATED), ranked.cost, 0.0)
        above = paid.sum().over(ibis.window(order_by=ranked["rank"], preceding=(None, 1))).fill_null(0.0)
        # The user's own cost counts in either arm, so that the arm does not decide who is on the list.
        # What is free is never too dear.
        fits = (ranked.cost == 0) | (above + ranked.cost <= budget + 1e-9 * max(1.0, budget))
    placed = ranked.mutate(fits=fits)
    state = ibis.cases(
        (placed.waits != "", placed.waits), (~placed.fits, ibis.literal("over_budget")), else_=placed.arm
    )
    return placed.mutate(state=state).select(
        "user_id", "segment", "channel", "offer", "state", "rank", "value",
        cost=ibis.ifelse(state == TREATED, placed.cost, 0.0),
    )  # fmt: skip


def count_states(states: ir.Table) -> pd.DataFrame:
    """segment, channel, offer, state, users, cost, value, valued, unpaid."""
    treated = states.state == TREATED
    return (
        states.group_by("segment", "channel", "offer", "state")
        .aggregate(
            users=states.count(),
            cost=states.cost.sum().fill_null(0.0),
            value=states.value.sum(where=treated).fill_null(0.0),
            valued=states.value.count(where=treated),
            unpaid=(treated & (states.cost > states.value)).sum().fill_null(0),
        )
        .order_by("segment", "channel", "state")
        .to_pandas()
    )


def count_reach(contacts: ir.Table, channels: Mapping[str, float]) -> pd.DataFrame:
    able = contacts.filter(contacts.delivered > 0)
    counts = able.group_by("channel").aggregate(
        reachable_count=able.count(), answered_count=((able.opened > 0) | (able.clicked > 0)).sum()
    )
    frame = counts.to_pandas().set_index("channel").reindex(list(channels)).fillna(0).astype(int)
    frame = frame.rename_axis("channel").reset_index()
    frame.insert(1, "message_amount", [float(channels[c]) for c in frame["channel"]])
    return frame.assign(chosen_count=0)[list(REACH_COLUMNS)]
