"""What users do: who is active on a day, who leaves, and what a session is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from opslib.data.sample_company.company import (
    DAY_SECONDS,
    EVENT_GAP_SECONDS,
    EVENT_NAMES,
    EVENT_WORDS,
    EXPERIMENTS,
    Bools,
    Floats,
    Ints,
    SampleSettings,
    activity_season,
    day_profile_cdf,
    is_weekend,
)
from opslib.data.sample_company.incidents import Effects, Lookup
from opslib.data.sample_company.users import Users, versions_on

NEVER = -9_999
SLOT = {word: EVENT_WORDS.index(word) for word in EVENT_NAMES}
SECOND_LESSON = SLOT["lesson_complete"] + 1
SECOND_VIEW = SLOT["view_item"] + 1
_CODES = np.array([EVENT_NAMES.index(word) for word in EVENT_WORDS])
_GAPS = np.array(EVENT_GAP_SECONDS, dtype=np.float32)
_GAP_LIMIT = 2.5


class Columns:
    """Columns collected in pieces and joined once."""

    def __init__(self) -> None:
        self._pieces: dict[str, list[np.ndarray]] = {}

    def add(self, **columns: np.ndarray) -> None:
        """Append one piece of every column."""
        for name, values in columns.items():
            self._pieces.setdefault(name, []).append(values)

    def join(self) -> dict[str, np.ndarray]:
        """All columns in full."""
        return {name: np.concatenate(pieces) for name, pieces in self._pieces.items()}


@dataclass(slots=True)
class State:
    """What the days so far have made of a chunk of users."""

    users: Users
    settings: SampleSettings
    effects: Effects
    rng: np.random.Generator
    present: Bools = field(init=False)  # has not left
    last_active: Ints = field(init=False)
    last_paid: Ints = field(init=False)
    coupon_row: Ints = field(init=False)  # the coupon a user holds, -1 for none
    coupon_offer: Ints = field(init=False)
    coupon_from: Ints = field(init=False)  # local second since the window's start
    coupon_last_day: Ints = field(init=False)
    coupon_lapsed: Ints = field(init=False)  # the first day on which an unused coupon was no longer valid
    private_since: Ints = field(init=False)  # local second since the window's start, NEVER if not
    tenure_curve: Floats = field(init=False)

    def __post_init__(self) -> None:
        count, rates = self.users.count, self.settings.rates
        self.present = np.ones(count, dtype=bool)
        self.last_active = np.full(count, NEVER)
        self.last_paid = np.full(count, NEVER)
        self.coupon_row = np.full(count, -1)
        self.coupon_offer = np.zeros(count, dtype=np.int64)
        self.coupon_from = np.zeros(count, dtype=np.int64)
        self.coupon_last_day = np.full(count, NEVER)
        self.coupon_lapsed = np.full(count, NEVER)
        self.private_since = np.full(count, NEVER)
        days = np.arange(self.settings.days + 1)
        self.tenure_curve = (
            rates.pace_floor
            + rates.pace_mid_boost * np.exp(-days / rates.pace_mid_days)
            + rates.pace_early_boost * np.exp(-days / rates.pace_early_days)
        )

    def lookup(self, who: Ints | slice, day: int, **extra: np.ndarray) -> Lookup:
        """Columns of some users on a day, as segments ask for them."""

        def column(name: str) -> np.ndarray:
            if name in extra:
                return extra[name]
            if name == "tenure":
                return day - self.users.signup_day[who]
            if name == "coupon_expired_unused_14d":
                return (day - self.coupon_lapsed[who] < 14).astype(np.int64)
            if name == "app_version":
                rows = np.arange(self.users.count)[who] if isinstance(who, slice) else who
                return versions_on(self.users, rows, day)
            return self.users.codes[name][who]

        return column


def draw_active(state: State, day: int, pulled: Ints) -> Ints:
    """Users active on a day: sign-ups, users `pulled` in by a message, and users who return by themselves."""
    users, rates, rng = state.users, state.settings.rates, state.rng
    older = int(users.bounds[day])
    everyone = slice(0, older)
    chance = users.pace[:older] * state.tenure_curve[day - users.signup_day[:older]]
    chance *= activity_season(state.settings)[day]
    chance *= np.where(state.last_active[:older] == day - 1, rates.streak_boost, rates.streak_loss)
    np.minimum(chance, 0.9, out=chance)
    chance = chance * state.effects.multiplier("return_rate", day, state.lookup(everyone, day))
    ranks = rng.random(older)
    present = state.present[:older]
    active = present & (ranks < chance)
    back = ~present & (ranks < rates.come_back_per_day)
    back[pulled] |= ~present[pulled]
    present |= back
    active |= back
    active[pulled] = True
    return np.concatenate((np.flatnonzero(active), np.arange(older, users.bounds[day + 1])))


def draw_leavers(state: State, day: int, active: Ints) -> None:
    """Let some of today's active users leave; today is then their last day, unless they come back."""
    users, rates = state.users, state.settings.rates
    tenure = day - users.signup_day[active]
    chance = np.where(tenure == 0, users.first_leave[active], users.leave[active])
    chance[(tenure >= 6) & (tenure <= 8)] *= rates.leave_week_one_node
    since_paid = day - state.last_paid[active]
    chance[(since_paid >= 28) & (since_paid <= 34)] *= rates.leave_paid_month_node
    chance[state.private_since[active] != NEVER] *= 0.7
    chance = chance * state.effects.multiplier("leave_rate", day, state.lookup(active, day))
    state.present[active[state.rng.random(len(active)) < np.minimum(chance, 0.95)]] = False


@dataclass(slots=True)
class Sessions:
    """One day's sessions in order of start; `slots` says which events each of them holds."""

    user: Ints
    start: Ints
    version: Ints
    newcomer: Bools
    slots: Bools
    lookup: Lookup


def draw_sessions(state: State, day: int, active: Ints, pulled: Ints, pulled_at: Ints) -> Sessions:
    """Start times, app versions and everything but shopping for a day's sessions."""
    users, settings, rates, rng = state.users, state.settings, state.settings.rates, state.rng
    weekend = is_weekend(settings, day)
    edges = np.linspace(0, DAY_SECONDS, len(day_profile_cdf(weekend)))
    start = np.interp(rng.random(len(active)), day_profile_cdf(weekend), edges)
    newcomer = active >= users.bounds[day]
    start[newcomer] = users.signup_second[active[newcomer]]
    start[np.searchsorted(active, pulled)] = pulled_at

    again = rng.random(len(active)) < rates.second_session
    again &= ~(newcomer & (start > 54_000))
    shift = 7_200 + 18_000 * rng.random(len(active))
    second = np.where((start > 54_000) & ~newcomer, start - shift, start + shift)[again]
    who = np.concatenate((active, active[again]))
    first = np.concatenate((np.ones(len(active), bool), np.zeros(int(again.sum()), bool)))
    start = np.concatenate((start, second))
    order = np.argsort(start, kind="stable")
    who, first, starts = who[order], first[order], start[order].astype(np.int64)

    lookup = _once(state.lookup(who, day, hour=starts // 3600))
    new = first & (who >= users.bounds[day])
    slots = np.zeros((len(who), len(EVENT_WORDS)), dtype=bool)
    slots[:, SLOT["app_open"]] = True
    slots[:, SLOT["sign_up"]] = new
    _draw_learning(slots, users.drive[who], new, rng)
    return Sessions(who, starts, lookup("app_version"), new, slots, lookup)


def _once(lookup: Lookup) -> Lookup:
    known: dict[str, np.ndarray] = {}

    def column(name: str) -> np.ndarray:
        if name not in known:
            known[name] = lookup(name)
        return known[name]

    return column


def _draw_learning(slots: Bools, drive: Floats, new: Bools, rng: np.random.Generator) -> None:
    ranks = rng.random((8, len(drive)))
    lesson = ranks[0] < 0.15 + 0.32 * drive + 0.12 * new
    done = lesson & (ranks[1] < 0.52 + 0.36 * drive)
    another = done & (ranks[2] < 0.12 + 0.16 * drive)
    slots[:, SLOT["lesson_start"]] = lesson
    slots[:, SLOT["lesson_complete"]] = done
    slots[:, SECOND_LESSON] = another
    slots[:, SECOND_LESSON + 1] = another & (ranks[3] < 0.7)
    task = done & (ranks[4] < 0.30)
    slots[:, SLOT["task_complete"]] = task
    slots[:, SLOT["badge_earned"]] = task & (ranks[5] < 0.28)
    slots[:, SLOT["error_shown"]] = ranks[6] < 0.011
    slots[:, SLOT["post_message"]] = ranks[7] < 0.02 + 0.07 * drive
    # The upper end of the same draw is free: inviting and posting do not go together in one session.
    slots[:, SLOT["invite_sent"]] = ranks[7] > 0.978 - 0.02 * drive


def lay_out_events(sessions: Sessions, rng: np.random.Generator) -> tuple[Ints, Ints, Ints, Callable[[int], Ints]]:
    """Turn slots into events: (session row, event code, local second) in time order, and a lookup of
    the second at which a slot's event fell in each session (-1 where it did not)."""
    row, slot = np.nonzero(sessions.slots)
    ranks = rng.random(len(row), dtype=np.float32)
    gap = 1 + (_GAPS[slot] * np.minimum(-np.log1p(-ranks), _GAP_LIMIT)).astype(np.int64)
    starts = np.flatnonzero(np.diff(row, prepend=-1))
    ends = np.flatnonzero(np.diff(row, append=-1))
    gap[starts] = 0
    passed = np.cumsum(gap)
    offset = passed - passed[starts][row]
    length = offset[ends]
    # A session belongs to one local day: it starts early enough to end on it.
    sessions.start = np.clip(sessions.start, 0, DAY_SECONDS - 1 - length)
    second = sessions.start[row] + offset
    order = np.argsort(second, kind="stable")

    def when(wanted: int) -> Ints:
        found = np.full(len(sessions.user), -1)
        mask = slot == wanted
        found[row[mask]] = second[mask]
        return found

    return row[order], _CODES[slot[order]], second[order], when


def experiment_days(settings: SampleSettings, name: str) -> tuple[int, int]:
    """First day (included) and last day (excluded) of an experiment."""
    experiment = next(e for e in EXPERIMENTS if e.name == name)
    return settings.day_of(experiment.start), settings.day_of(experiment.end)
