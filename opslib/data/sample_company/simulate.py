"""One chunk of the company from its first day to its last. Chunks know nothing of each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from opslib.data.sample_company.behaviour import (
    NEVER,
    SLOT,
    Columns,
    State,
    draw_active,
    draw_leavers,
    draw_sessions,
    experiment_days,
    lay_out_events,
)
from opslib.data.sample_company.commerce import Coupons, draw_shopping, place_orders
from opslib.data.sample_company.company import (
    CHANNELS,
    DAY_SECONDS,
    EVENT_NAMES,
    EXPERIMENTS,
    Ints,
    SampleSettings,
)
from opslib.data.sample_company.contact import open_tickets, send_messages
from opslib.data.sample_company.incidents import Effects, Incident
from opslib.data.sample_company.users import Users, draw_users

_SHOPPING = np.isin(np.array(EVENT_NAMES), ("search", "view_item", "add_to_cart", "begin_checkout", "pay"))
_REFERRAL = next(i for i, channel in enumerate(CHANNELS) if channel.name == "referral")


@dataclass(slots=True)
class Chunk:
    """What one chunk of users did. Users are rows 0.., times are seconds from the window's start."""

    number: int
    users: Users
    private_since: Ints
    tables: dict[str, dict[str, np.ndarray]]
    active: dict[str, np.ndarray]  # one row per user and active day
    shopping: dict[str, np.ndarray]  # one row per session with a view, and how far it went


def chunk_sizes(settings: SampleSettings) -> list[int]:
    """Users in each chunk."""
    full, rest = divmod(settings.users, settings.chunk_users)
    return [settings.chunk_users] * full + ([rest] if rest else [])


def simulate_chunk(number: int, settings: SampleSettings, incidents: tuple[Incident, ...]) -> Chunk:
    """Simulate chunk `number`; the result depends on the settings and the number alone."""
    # The chunk's own stream: results do not depend on which process ran it, or after what.
    seed = np.random.SeedSequence(settings.seed, spawn_key=(number,))
    rng = np.random.Generator(np.random.SFC64(seed))
    effects = Effects(incidents, settings)
    users = draw_users(chunk_sizes(settings)[number], settings, effects, rng)
    state = State(users, settings, effects, rng)
    coupons = Coupons()
    names = ("events", "orders", "messages", "tickets", "surveys", "active", "shopping")
    logs = {name: Columns() for name in names}
    sessions_so_far = 0
    for day in range(settings.days):
        coupons.expire(state, day)
        coupons.issue_festival(state, day)
        pulled, pulled_at = send_messages(state, day, coupons, logs["messages"])
        active = draw_active(state, day, pulled)
        sessions = draw_sessions(state, day, active, pulled, pulled_at)
        coupons.claim(state, sessions)
        category = draw_shopping(state, day, sessions)
        row, event, second, when = lay_out_events(sessions, rng)
        logs["events"].add(
            user=sessions.user[row].astype(np.int32),
            second=(day * DAY_SECONDS + second).astype(np.int32),
            event=event.astype(np.int8),
            version=sessions.version[row].astype(np.int8),
            session=(sessions_so_far + row).astype(np.int32),
            category=np.where(_SHOPPING[event], category[row], -1).astype(np.int8),
        )
        sessions_so_far += len(sessions.user)
        place_orders(state, day, sessions, category, when(SLOT["pay"]), coupons, logs["orders"])
        coupons.issue_claimed(state, day, sessions, when(SLOT["coupon_claimed"]))
        open_tickets(state, day, sessions, logs["tickets"], logs["surveys"])
        _note_progress(state, day, active, sessions.start, sessions.user)
        viewed = np.flatnonzero(sessions.slots[:, SLOT["view_item"]])
        steps = ("add_to_cart", "begin_checkout", "pay")
        logs["shopping"].add(
            user=sessions.user[viewed],
            day=np.full(len(viewed), day),
            hour=sessions.start[viewed] // 3600,
            app_version=sessions.version[viewed],
            **{step: sessions.slots[viewed, SLOT[step]] for step in steps},
        )
        logs["active"].add(user=active, day=np.full(len(active), day))
        draw_leavers(state, day, active)
    tables = {name: logs[name].join() for name in names[:5]}
    tables["coupons"] = _finish_coupons(coupons)
    tables["referrals"] = _match_referrals(users, tables["events"], rng)
    tables["exposures"] = _list_exposures(users, tables["events"], settings, effects)
    return Chunk(number, users, state.private_since, tables, logs["active"].join(), logs["shopping"].join())


def _note_progress(state: State, day: int, active: Ints, start: Ints, who: Ints) -> None:
    state.last_active[active] = day
    joins = (state.users.codes["domain"][who] == 0) & (state.private_since[who] == NEVER)
    joins &= state.rng.random(len(who)) < state.settings.rates.join_private
    state.private_since[who[joins]] = day * DAY_SECONDS + start[joins]
    state.users.pace[np.unique(who[joins])] *= 1.15


def _finish_coupons(coupons: Coupons) -> dict[str, np.ndarray]:
    table, used = coupons.issued.join(), coupons.used.join()
    table["redeemed"] = np.full(coupons.count, -1)
    table["redeemed"][used["row"]] = used["second"]
    return table


def _match_referrals(users: Users, events: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Give each invited user an inviter: somebody who sent an invitation in the seven days before."""
    sent = np.flatnonzero(events["event"] == EVENT_NAMES.index("invite_sent"))
    sent_at, sender = events["second"][sent], events["user"][sent].astype(np.int64)
    invitee = np.flatnonzero(users.codes["channel"] == _REFERRAL)
    joined = users.signup_day[invitee] * DAY_SECONDS + users.signup_second[invitee]
    last = np.searchsorted(sent_at, joined)
    first = np.minimum(np.searchsorted(sent_at, joined - 7 * DAY_SECONDS), np.maximum(last - 20, 0))
    row = first + (rng.random(len(invitee)) * (last - first)).astype(np.int64)
    kind = (rng.random(len(invitee)) < 0.3).astype(np.int64)
    known = last > 0  # in a tiny chunk nobody may have invited yet
    return {
        "inviter": sender[row[known]],
        "invitee": invitee[known],
        "second": joined[known],
        "kind": kind[known],
        "reward": np.where(kind == 0, 20.0, 12.0)[known],
    }


def _list_exposures(
    users: Users, events: dict[str, np.ndarray], settings: SampleSettings, effects: Effects
) -> dict[str, np.ndarray]:
    pieces = Columns()
    signed_up = users.signup_day * DAY_SECONDS + users.signup_second
    for code, experiment in enumerate(EXPERIMENTS):
        first, _ = experiment_days(settings, experiment.name)
        who = np.flatnonzero(users.codes[experiment.name] >= 0)
        if experiment.entry == "signup":
            seen = signed_up[who]
        elif experiment.entry == "checkout":
            rows = np.flatnonzero(
                (events["event"] == EVENT_NAMES.index("begin_checkout")) & (events["second"] >= first * DAY_SECONDS)
            )
            who, earliest = np.unique(events["user"][rows], return_index=True)
            seen = events["second"][rows][earliest]
        else:
            # A sale that does not take place has no holdout.
            if not any(experiment.name in dict(i.who.where) for i in effects.incidents if i.kind == "promotion"):
                continue
            seen = np.full(len(who), first * DAY_SECONDS)
        pieces.add(
            user=who.astype(np.int64),
            second=seen.astype(np.int64),
            experiment=np.full(len(who), code),
            arm=users.codes[experiment.name][who],
        )
    table = pieces.join()
    order = np.argsort(table["second"], kind="stable")
    return {name: values[order] for name, values in table.items()}
