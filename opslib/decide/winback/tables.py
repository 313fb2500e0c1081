"""A win-back list in tables and sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import ibis.expr.types as ir
import pandas as pd

from opslib.decide.winback.lists import STATES, Offer
from opslib.decide.winback.size import ALL
from opslib.errors import suggest_name
from opslib.language import join_sentences, mark, say
from opslib.measure.estimate import Estimate, estimate_rate
from opslib.measure.recall.arms import HOLDOUT, TREATED

_SUMS = ("cost_amount", "value_amount")
SEGMENT_COLUMNS = ("segment", "offer", "users_count", *(f"{s}_count" for s in STATES), "holdout_rate", *_SUMS)
CHANNEL_COLUMNS = ("segment", "channel", "offer", "reachable_count", *(f"{s}_count" for s in STATES[2:]), *_SUMS)


def tabulate_segments(counted: pd.DataFrame, offers: Mapping[str, Offer], valued: bool) -> pd.DataFrame:
    names = sorted({*counted["segment"], *offers})
    wide = counted.pivot_table(index="segment", columns="state", values="users", aggfunc="sum", fill_value=0)
    wide = wide.reindex(index=names, columns=list(STATES), fill_value=0).fillna(0).astype(int)
    sums = counted.groupby("segment")[["cost", "value"]].sum().reindex(names).fillna(0.0)
    frame = pd.DataFrame({f"{s}_count": wide[s].to_numpy() for s in STATES})
    listed = frame[["holdout_count", "treated_count"]].sum(axis=1)
    frame["segment"] = names
    frame["offer"] = [offers[n].name if n in offers else None for n in names]
    frame["users_count"] = frame[[f"{s}_count" for s in STATES]].sum(axis=1)
    frame["holdout_rate"] = (frame["holdout_count"] / listed.where(listed > 0)).astype(float)
    frame["cost_amount"] = sums["cost"].to_numpy(dtype=float)
    frame["value_amount"] = sums["value"].to_numpy(dtype=float) if valued else float("nan")
    return frame[list(SEGMENT_COLUMNS)]


def tabulate_channels(counted: pd.DataFrame, valued: bool) -> pd.DataFrame:
    on = counted[counted["channel"].notna() & (counted["state"] != "no_offer")]
    keys = ["segment", "channel", "offer"]
    if on.empty:
        return pd.DataFrame(columns=list(CHANNEL_COLUMNS))
    wide = on.pivot_table(index=keys, columns="state", values="users", aggfunc="sum", fill_value=0)
    wide = wide.reindex(columns=list(STATES[2:]), fill_value=0).astype(int).add_suffix("_count")
    wide["reachable_count"] = wide.sum(axis=1)
    sums = on.groupby(keys)[["cost", "value"]].sum()
    wide["cost_amount"], wide["value_amount"] = sums["cost"], sums["value"] if valued else float("nan")
    return wide.reset_index().rename_axis(columns=None)[list(CHANNEL_COLUMNS)]


def estimate_rates(totals: Mapping[str, int]) -> dict[str, Estimate]:
    listed = totals[HOLDOUT] + totals[TREATED]
    reachable = listed + totals["capped"] + totals["over_budget"]
    parts = {
        "reachable_rate": (reachable, reachable + totals["unreachable"]),
        "capped_rate": (totals["capped"], reachable),
        "holdout_rate": (totals[HOLDOUT], listed),
    }
    return {name: estimate_rate(name, top, of) for name, (top, of) in parts.items()}


def note_channels(
    contacts: ir.Table, reach: pd.DataFrame, channels: Mapping[str, float], messages: ir.Table
) -> Iterable[str]:
    if "delivered" not in messages.columns:
        yield say("Messages do not say whether they arrived: what was sent counts as delivered.")
    seen = contacts.select("channel").distinct().limit(1000).to_pandas()["channel"]
    for name in sorted(set(channels) - set(seen)):
        hint = suggest_name(name, set(seen) - set(channels))
        nobody = say("No message went to these users by '{channel}', so it reaches nobody.", channel=name)
        yield join_sentences([nobody, hint.strip()])
    unused = sorted(set(seen) - set(channels))
    if unused:
        yield say(
            "Messages also went by {channels}: without a cost there they count for the frequency cap alone.",
            channels=say(", ").join(unused),
        )


def note_states(
    totals: Mapping[str, int],
    counted: pd.DataFrame,
    budget: float | None,
    holdout: float,
    cap_messages: int,
    cap_days: int,
    reach_days: int,
    offers: Mapping[str, Offer],
    table: pd.DataFrame,
) -> Iterable[str]:
    eligible = sum(totals.values()) - totals["no_offer"]
    empty = table.loc[(table["users_count"] == 0), "segment"].tolist()
    filled = [n for n in table["segment"] if n not in empty]
    for name in empty:
        hint = suggest_name(name, [n for n in filled if n not in offers])
        yield join_sentences([say("Nobody is in segment '{segment}'.", segment=name), hint.strip()])
    if totals["no_offer"]:
        yield say(
            "{users:,} users of {segments} have no offer and are left alone.",
            users=totals["no_offer"],
            segments=say(", ").join(n for n in filled if n not in offers),
        )
    if eligible and totals["unreachable"] == eligible:
        yield say(
            "Nobody with an offer is reachable: no channel delivered to them in the last {days} days.", days=reach_days
        )
    elif totals["unreachable"]:
        yield say(
            "{users:,} of {eligible:,} users with an offer are unreachable: no channel delivered to them in the last "
            "{days} days.",
            users=totals["unreachable"],
            eligible=eligible,
            days=reach_days,
        )
    reachable = eligible - totals["unreachable"]
    if totals["capped"]:
        every = mark(
            "All {reachable:,} reachable users were sent {messages} or more messages in the last {days} days and are "
            "left out."
        )
        some = mark(
            "{users:,} of the {reachable:,} reachable users were sent {messages} or more messages in the last {days} "
            "days and are left out."
        )
        yield say(
            every if totals["capped"] == reachable else some,
            users=totals["capped"],
            reachable=reachable,
            messages=cap_messages,
            days=cap_days,
        )
    if totals["over_budget"]:
        yield say(
            "The budget of {budget:,.10g} ends before {users:,} users.", budget=budget, users=totals["over_budget"]
        )
    listed = totals[HOLDOUT] + totals[TREATED]
    if not listed:
        yield say("Nobody is on the list.")
    elif not totals[HOLDOUT]:
        why = say("the share held out is 0")
        if holdout > 0:
            why = say("the lot held out none of {users:,}", users=listed)
        yield say("Nobody is held out ({why}), so what the messages bring cannot be measured.", why=why)
    elif not totals[TREATED]:
        yield say("Everybody is held out, so nobody gets a message.")


def note_effects(effects: pd.DataFrame, lift: float) -> Iterable[str]:
    """Whether the arms are large enough for the effect worth showing, at the middle one of the bases."""
    rows = effects[effects["segment"] == ALL].to_dict("records")
    if not rows:
        return
    row = rows[len(rows) // 2]
    listed = row["holdout_count"] + row["treated_count"]
    if row["needed_users_count"] > listed > 0:
        yield say(
            "To show a rise of {lift:.0%} where {base:.0%} come back by themselves takes {needed:,.0f} users on such a "
            "list; it has {listed:,}.",
            lift=lift,
            base=row["base_rate"],
            needed=row["needed_users_count"],
            listed=listed,
        )
