"""Whom to win back: by which channel, with which offer, at what cost, and who is held out to know if it worked."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import ibis
import ibis.expr.types as ir
import pandas as pd

from opslib.data.periods import DAY, Calendar
from opslib.decide.winback.lists import (
    REACH_COLUMNS,
    STATES,
    Offer,
    assign_states,
    count_reach,
    count_states,
    read_segments,
)
from opslib.decide.winback.reach import choose_channels, count_contacts
from opslib.decide.winback.size import ALL, tabulate_effects
from opslib.decide.winback.tables import (
    estimate_rates,
    note_channels,
    note_effects,
    note_states,
    tabulate_channels,
    tabulate_segments,
)
from opslib.errors import InputError, suggest_name
from opslib.language import say
from opslib.measure.estimate import Estimate, to_plain_record
from opslib.measure.recall.arms import HOLDOUT, TREATED

__all__ = ["Offer", "WinBackPlan", "plan_win_back"]

REACH_DAYS = 90
CAP_DAYS = 7
CAP_MESSAGES = 3
HOLDOUT_SHARE = 0.1
# Shares of users who come back by themselves that the detectable effects are shown for.
BASES = (0.05, 0.1, 0.2)
# The handbook's "recall up 15%".
LIFT = 0.15
FEWEST = "reach_days, cap_days and cap_messages are 1 or more"


@dataclass(frozen=True)
class WinBackPlan:
    """A win-back list in numbers, and the list itself for an export on request.

    Attributes:
        as_of: the day that reach and frequency are counted back from.
        seed, holdout: how the arms are drawn.
        rates: reachable_rate (of users with an offer), capped_rate (of those reachable), holdout_rate (of those on the
            list) -> estimate.
        segments: segment, offer, users_count, then how many are in each state: no_offer_count, unreachable_count (no
            channel arrives), capped_count (hear from us too often), over_budget_count, holdout_count, treated_count;
            holdout_rate (of the list), cost_amount, value_amount (of the treated; missing without values). Each user is
            in exactly one state. One row a segment, also those that are named in the offers and empty.
        channels: segment, channel, offer, reachable_count and the states after it, cost_amount, value_amount; one row a
            segment and channel chosen.
        reach: channel, message_amount, reachable_count, answered_count (opened or clicked), chosen_count; one row a
            channel; a user may be reachable by several.
        effects: what these arms can show, see `tabulate_effects`; "(all)" first.
        cost_amount, budget: what the list costs, of what was allowed (None: no limit).
        value_amount: expected value of the treated; None without values.
        users: the list as an Ibis table, user_id, segment, channel, offer, arm, cost_amount, value_amount; in rank
            order on export; nothing of it is fetched here.
        notes: what a reader must know, in sentences.
    """

    as_of: dt.date
    seed: str | int
    holdout: float
    rates: dict[str, Estimate]
    segments: pd.DataFrame
    channels: pd.DataFrame
    reach: pd.DataFrame
    effects: pd.DataFrame
    cost_amount: float
    budget: float | None
    value_amount: float | None
    users: ir.Table
    notes: tuple[str, ...]

    def findings(self) -> list[dict[str, Any]]:
        """Rates, segments, channels, reach and effects as flat records; never a user."""
        context = {"as_of": self.as_of.isoformat(), "seed": self.seed}
        head = {"holdout": self.holdout, "cost_amount": self.cost_amount, "budget_amount": self.budget}
        records = [{"name": "win_back", **context, **to_plain_record(head | {"value_amount": self.value_amount})}]
        records += [e.to_finding(**context) for e in self.rates.values()]
        frames = {"segment": self.segments, "channel": self.channels, "reach": self.reach, "effect": self.effects}
        for name, frame in frames.items():
            records += [
                {"name": f"win_back_{name}", **context, **to_plain_record(row)} for row in frame.to_dict("records")
            ]
        return records + [{"name": "win_back_note", **context, "note": note} for note in self.notes]


def plan_win_back(
    segments: ir.Table,
    messages: ir.Table | None,
    *,
    as_of: dt.date,
    offers: Mapping[str, Offer | str],
    channels: Mapping[str, float],
    calendar: Calendar | None = None,
    value: str = "",
    budget: float | None = None,
    reach_days: int = REACH_DAYS,
    cap_messages: int = CAP_MESSAGES,
    cap_days: int = CAP_DAYS,
    holdout: float = HOLDOUT_SHARE,
    seed: str | int = 1,
    bases: Sequence[float] = BASES,
    lift: float = LIFT,
) -> WinBackPlan:
    """Plan a win-back: from segments to lists with channel, offer, cost and a random holdout.

    Args:
        segments: user_id, segment and the column that `value` names; one row a user.
        messages: user_id, ts (UTC), channel and, if known, delivered, opened, clicked. None: nobody's reach is known.
        as_of: the last day that counts.
        offers: segment -> what it is offered; segments that are not named are left alone.
        channels: channel -> cost of a message; only these are used. At the same cost the first named is preferred.
        calendar: the company's clock.
        value: the column with what each user is expected to bring; users are ranked by it, else by past reach.
        budget: what all messages and offers may cost; None: no limit.
        reach_days: a channel reaches a user to whom it delivered in so many days.
        cap_messages, cap_days: users who were sent so many messages, by any channel, in so many days are left out.
        holdout: share held out.
        seed: of the lots; take a new one for each campaign, or the same users are held out for ever.
        bases: shares of users who may come back by themselves, for what the arms can show.
        lift: the relative effect worth showing.

    Returns:
        A `WinBackPlan`. A user's arm depends on user and seed alone. Whether the budget reaches a user does not depend
        on the user's own arm, so that both arms stay alike.

    Raises:
        InputError: a column is missing, a user is in two segments, an option makes no sense.

    >>> people = ibis.memtable({"user_id": range(100), "segment": ["dormant"] * 100})
    >>> sent = {"ts": [dt.datetime(2026, 1, 5)] * 80, "channel": ["sms"] * 80, "delivered": [True] * 80}
    >>> plan = plan_win_back(
    ...     people, ibis.memtable({"user_id": range(80), **sent}), as_of=dt.date(2026, 1, 31),
    ...     offers={"dormant": Offer("20% off", 4.0)}, channels={"sms": 0.05}, holdout=0.2,
    ... )
    >>> plan.segments[["unreachable_count", "holdout_count", "treated_count"]].to_numpy().tolist()
    [[20, 18, 62]]
    >>> round(plan.cost_amount, 2), plan.users.columns[:5]
    (251.1, ('user_id', 'segment', 'channel', 'offer', 'arm'))
    """
    _check_options(budget, cap_messages, holdout, bases, lift)
    candidates = gather_candidates(
        segments, messages, as_of=as_of, offers=offers, channels=channels, calendar=calendar, value=value,
        reach_days=reach_days, cap_days=cap_days,
    )  # fmt: skip
    return plan_candidates(
        candidates, budget=budget, cap_messages=cap_messages, holdout=holdout, seed=seed, bases=bases, lift=lift
    )


@dataclass(frozen=True)
class Candidates:
    """Who may be won back, before it is decided how many of them and who is held out.

    Attributes:
        as_of: the day that reach and frequency are counted back from.
        offers: segment -> what it is offered.
        valued: whether it is known what each user is expected to bring.
        reach_days, cap_days: how far back deliveries counted, and messages that tire.
        users: one row a user with segment, offer, channel and what was sent, kept in the engine.
        reach: as of `WinBackPlan`, nobody chosen yet.
        notes: what a reader must know.
    """

    as_of: dt.date
    offers: dict[str, Offer]
    valued: bool
    reach_days: int
    cap_days: int
    users: ir.Table
    reach: pd.DataFrame
    notes: tuple[str, ...]


def gather_candidates(
    segments: ir.Table,
    messages: ir.Table | None,
    *,
    as_of: dt.date,
    offers: Mapping[str, Offer | str],
    channels: Mapping[str, float],
    calendar: Calendar | None = None,
    value: str = "",
    reach_days: int = REACH_DAYS,
    cap_days: int = CAP_DAYS,
) -> Candidates:
    """Gather whom a win-back may address and by which channel; arguments as of `plan_win_back`.

    Raises:
        InputError: a column is missing, a user is in two segments, an option makes no sense.
    """
    _check_segments(segments, value, reach_days, cap_days, channels)
    named = {k: o if isinstance(o, Offer) else Offer(o) for k, o in offers.items()}
    _check_offers(named)
    people, notes = read_segments(segments, value, named)
    end = ibis.timestamp((calendar or Calendar()).day_start(as_of + DAY))
    reach = pd.DataFrame({c: pd.Series(dtype=object) for c in REACH_COLUMNS})
    if messages is None:
        nothing = {"channel": ibis.null("string"), "message_cost": ibis.null("float64")}
        counts = dict.fromkeys(("clicked", "opened", "delivered", "sent"), ibis.literal(0))
        joined = people.mutate(**nothing, **counts)
        notes.append(
            say("There is no messages table (user_id, ts, channel, delivered), so nobody is known to be reachable.")
        )
    else:
        asked = people.filter(people.offer.notnull()).select("user_id")
        contacts = count_contacts(asked, messages, end=end, reach_days=reach_days, cap_days=cap_days).cache()
        chosen = choose_channels(contacts, channels)
        joined = people.left_join(chosen, "user_id").drop("user_id_right").cache()
        reach = count_reach(contacts, channels)
        notes += note_channels(contacts, reach, channels, messages)
    return Candidates(as_of, named, bool(value), reach_days, cap_days, joined, reach, tuple(notes))


def plan_candidates(
    candidates: Candidates,
    *,
    budget: float | None = None,
    cap_messages: int = CAP_MESSAGES,
    holdout: float = HOLDOUT_SHARE,
    seed: str | int = 1,
    bases: Sequence[float] = BASES,
    lift: float = LIFT,
) -> WinBackPlan:
    """Plan a win-back among candidates; arguments as of `plan_win_back`.

    Raises:
        InputError: an option makes no sense.
    """
    _check_options(budget, cap_messages, holdout, bases, lift)
    named, valued, notes = candidates.offers, candidates.valued, list(candidates.notes)
    states = assign_states(candidates.users, cap_messages, budget, holdout, seed, valued).cache()
    counted = count_states(states)
    reach = candidates.reach.copy()
    if len(reach):
        chosen_counts = counted.groupby("channel")["users"].sum()
        reach["chosen_count"] = reach["channel"].map(chosen_counts).fillna(0).astype(int)
    table = tabulate_segments(counted, named, valued)
    by_channel = tabulate_channels(counted, valued)
    totals = {name: int(table[f"{name}_count"].sum()) for name in STATES}
    arms = [(ALL, totals[HOLDOUT], totals[TREATED])]
    offered = table[table["segment"].isin(list(named))]
    arms += [(str(r["segment"]), r["holdout_count"], r["treated_count"]) for r in offered.to_dict("records")]
    effects = tabulate_effects(arms, bases=bases, lift=lift, holdout=holdout)
    windows = (cap_messages, candidates.cap_days, candidates.reach_days)
    notes += note_states(totals, counted, budget, holdout, *windows, named, table)
    unpaid = int(counted["unpaid"].sum())
    if valued and unpaid:
        notes.append(say("For {users:,} of the treated the cost is above the value expected.", users=unpaid))
    notes += note_effects(effects, lift)
    on_list = states.filter(states.state.isin([HOLDOUT, TREATED]))
    kept = ("user_id", "segment", "channel", "offer")
    users = on_list.order_by("rank").select(*kept, arm="state", cost_amount="cost", value_amount="value")
    value_amount = float(table["value_amount"].sum()) if valued else None
    cost = float(table["cost_amount"].sum())
    return WinBackPlan(
        candidates.as_of, seed, holdout, estimate_rates(totals), table, by_channel, reach, effects, cost, budget,
        value_amount, users, tuple(notes),
    )  # fmt: skip


def _check_offers(offers: Mapping[str, Offer]) -> None:
    for name, offer in offers.items():
        if not 0 <= offer.cost < float("inf"):
            raise InputError(f"offers: '{offer.name}' for '{name}' costs {offer.cost}: give 0 or more.")


def _check_segments(
    segments: ir.Table, value: str, reach_days: int, cap_days: int, channels: Mapping[str, float]
) -> None:
    for column in ("user_id", "segment", *([value] if value else [])):
        if column not in segments.columns:
            raise InputError(f"Table segments has no column '{column}'.{suggest_name(column, segments.columns)}")
    if value and not segments[value].type().is_numeric():
        raise InputError(f"Column '{value}' of segments holds {segments[value].type()}, not numbers.")
    if reach_days < 1 or cap_days < 1:
        _refuse(FEWEST)
    bad = next((name for name, cost in channels.items() if not 0 <= cost < float("inf")), None)
    if bad is not None:
        _refuse(f"a message by '{bad}' costs {channels[bad]}: give 0 or more")


def _check_options(
    budget: float | None, cap_messages: int, holdout: float, bases: Sequence[float], lift: float
) -> None:
    if not 0 <= holdout <= 1:
        _refuse(f"holdout = {holdout} is no share: 0.1 holds out one in ten")
    check_budget(budget)
    if cap_messages < 1:
        _refuse(FEWEST)
    if any(not 0 < base < 1 for base in bases) or not lift > 0:
        _refuse("bases are shares between 0 and 1, and the lift is above 0")


def check_budget(budget: float | None) -> None:
    """Refuse to spend less than nothing.

    Raises:
        InputError: the budget is below 0, or no number.
    """
    if budget is not None and not budget >= 0:
        _refuse(f"budget = {budget} is below 0: leave it out for no limit")


def _refuse(wrong: str) -> NoReturn:
    raise InputError(f"The win-back cannot be planned: {wrong}.")
