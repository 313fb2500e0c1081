"""Going through a series period by period, as a daily run would have: foresee, judge, learn."""

from __future__ import annotations

import datetime as dt
import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import pandas as pd

from opslib.measure.expected.chance import Surprises, find_all_limits, find_limits, find_tails
from opslib.measure.expected.level import LEAST_SEASON_WEEKS, SEASON_WEEKS, WEEK, Level, find_middle, find_season
from opslib.measure.grains import Grain
from opslib.measure.series.series import SeriesKind

JUDGED = "judged"
# So many periods outside on one side (all but a few of as many) are no alarm any more, but a new level.
SHIFT_AFTER = {"day": 14, "week": 6, "month": 4, "quarter": 4}
SHIFT_SHARE = 0.85
EPISODE = (
    "first_day", "last_day", "side", "days_count", "worst_day", "worst_value", "expected", "excess", "excess_low",
    "excess_high", "peak_score", "p_value",
)  # fmt: skip
# Past surprises that say how far chance goes.
SPREAD_PERIODS = 182
TAIL_PERIODS = 365
# A surprise is cut at so many standard deviations before it counts as spread; chance itself goes there rarely.
SPREAD_CUT = 2.5
SPREAD_CUT_SHARE = 0.957
CAUTION = 5
# An earlier year's holiday counts with so many of its days at least, those so near to the same day if there are.
LEAST_HOLIDAYS = 3
HOLIDAY_REACH = 2
HOLIDAYS_DIFFER = 0.1
SMALL_COUNT = 10


class HolidayDay(NamedTuple):
    """A day of a holiday: its name, when this one began, and how many days later the day is."""

    name: str
    start: dt.date
    offset: int


def watch_periods(
    frame: pd.DataFrame,
    holidays: list[HolidayDay | None],
    kind: SeriesKind,
    grain: Grain,
    alpha: float,
    side: str,
    warm_up: int,
) -> pd.DataFrame:
    """Judge every period from those before it. See `expect_values`."""
    watch = _Watch(frame, holidays, kind, grain, alpha, warm_up)
    rows = [watch.step(i) for i in range(len(frame))]
    found = pd.DataFrame(
        rows, columns=["expected", "low", "high", "p_low", "p_high", "status", "deviation", "uncertain"]
    )
    daily = pd.DataFrame({"period_start": pd.to_datetime(frame["period_start"]).to_numpy()})
    daily["value"], daily["numerator"], daily["denominator"] = watch.values, watch.tops, watch.sizes
    daily[["expected", "low", "high"]] = found[["expected", "low", "high"]].astype(float)
    if watch.asked:
        at, low, high = watch.find_limits()
        daily.loc[at, "low"], daily.loc[at, "high"] = low, high
    p_low, p_high = found["p_low"].astype(float), found["p_high"].astype(float)
    normal = NormalDist()
    lower = p_low < p_high
    tail = np.maximum(np.minimum(np.minimum(p_low, p_high), 0.5), 1e-300)
    daily["score"] = [
        (-1 if b else 1) * -normal.inv_cdf(p) if p == p else math.nan for b, p in zip(lower, tail, strict=True)
    ]
    daily["p_value"] = np.minimum(2 * np.minimum(p_low, p_high), 1.0)
    unusual = np.where((p_low <= alpha) & (side != "high"), "low", "")
    daily["unusual"] = np.where((p_high <= alpha) & (side != "low"), "high", unusual)
    daily["status"] = found["status"]
    daily["holiday"] = [day.name if day else "" for day in holidays]
    daily["deviation"], daily["uncertain"] = found["deviation"].astype(float), found["uncertain"].astype(float)
    return daily


class _Watch:
    def __init__(
        self,
        frame: pd.DataFrame,
        holidays: list[HolidayDay | None],
        kind: SeriesKind,
        grain: Grain,
        alpha: float,
        warm_up: int,
    ) -> None:
        self.kind, self.grain, self.alpha, self.warm_up = kind, grain, alpha, warm_up
        self.holidays = holidays
        self.values = frame["value"].to_numpy(dtype=float)
        self.tops = _column(frame, "numerator", self.values)
        self.sizes = _column(frame, "denominator", np.ones(len(frame)))
        self.errors = _column(frame, "standard_error", np.full(len(frame), math.nan))
        self.known = np.isfinite(self.values)
        if "status" in frame:
            self.known &= frame["status"].to_numpy() == "known"
        if kind != "mean":
            self.known &= self.sizes > 0
        self.positive = False
        self.precision = np.ones(len(frame))
        self.status = frame["status"].to_numpy() if "status" in frame else np.where(self.known, "known", "no data")
        self.cleaned = np.full(len(frame), math.nan)
        self.surprises = np.full(len(frame), math.nan)
        self.sides = np.zeros(len(frame), dtype=int)
        self.learnt: list[int] = []
        self.season = np.ones(WEEK)
        self.season_at = -1
        self.level: Level | None = None
        self.spread = 1.0
        self.ratios: dict[str, list[tuple[HolidayDay, float]]] = {}
        # Of counts and rates: period, mean and spread, whose limits are found for all at the end.
        self.asked: list[tuple[int, float, float]] = []

    def step(self, i: int) -> tuple[object, ...]:
        nothing = (math.nan,) * 5
        if not self.known[i]:
            if self.level is not None:
                self.level.skip()
            return (*nothing, self.status[i], math.nan, math.nan)
        if len(self.learnt) < self.warm_up:
            if self.holidays[i]:
                return (*nothing, "holiday", math.nan, math.nan)
            self.learnt.append(i)
            self.cleaned[i] = self.values[i]
            return (*nothing, "too few", math.nan, math.nan)
        if self.level is None:
            self._begin(i)
        if self.grain == "day" and i - self.season_at >= WEEK:
            self._find_season(i)
        return self._judge(i)

    def _begin(self, i: int) -> None:
        """Learn the first periods, once enough are known: their season first, then level and spread."""
        if self.grain == "day":
            self._find_season(i)
        first = np.array(self.learnt)
        if self.kind == "mean":
            # Amounts such as money; scores such as NPS lie on both sides of zero.
            self.positive = bool((self.values[first] >= 0).all())
            if np.allclose(self.values[first] * self.sizes[first], self.tops[first], rtol=1e-6):
                self.precision = np.sqrt(np.nan_to_num(self.sizes, nan=1.0).clip(1e-12))
        plain = self.values[first] / self.season[first % WEEK]
        middle = find_middle(plain, self._slack(first[0]))
        self.level = Level(middle)
        if self.kind == "mean":
            rough = np.array([self._surprise(j, middle * self.season[j % WEEK]) for j in first])
            self.spread = max((float(np.median(np.abs(rough))) / 0.6745) ** 2, 1e-12)
        # Their season was made from these periods themselves, so that they surprise less than later ones will.
        weeks = len(first) / WEEK
        share = math.sqrt((weeks + 1) / (weeks - 1)) if (self.season != 1).any() and weeks > 1 else 1.0
        for j in self.learnt:
            mean = self.level.expected * self.season[j % WEEK]
            self.surprises[j] = share * self._surprise(j, mean)
            self._learn(j, mean, self.spread)
        self._measure_spread(i)

    def _judge(self, i: int) -> tuple[object, ...]:
        assert self.level is not None
        holiday = self.holidays[i]
        factor, shaky = 1.0, 0.0
        if self.kind != "mean":
            cases = float(self.level.value[0]) * self.sizes[i]
            self.level.rest_on(min(cases, self.sizes[i] - cases) if self.kind == "rate" else cases)
        usual = self.level.expected * self.season[i % WEEK]
        if holiday is not None:
            past = self._recall_holiday(holiday)
            if usual > 0:
                self.ratios.setdefault(holiday.name, []).append((holiday, self.values[i] / usual))
            if len(past) < LEAST_HOLIDAYS:
                self.level.skip()
                return (*(math.nan,) * 5, "holiday", math.nan, math.nan)
            factor = float(np.median(past))
            # One holiday differs from the next by more than chance.
            shaky = max(float(np.median(np.abs(past - factor))) / 0.6745, HOLIDAYS_DIFFER) * (1 + 1 / len(past))
        mean = usual * factor
        mean = self._within(mean)
        spread = (
            self.spread * (1 + (shaky * usual / self._deviation(i, mean, self.spread)) ** 2) if shaky else self.spread
        )
        low, high, p_low, p_high = self._find_range(i, mean, spread)
        deviation = self._deviation(i, mean, spread)
        row = (mean, low, high, p_low, p_high, JUDGED, deviation, math.sqrt(self.level.uncertainty))
        if holiday is not None:
            self.level.skip()
            return row
        self.learnt.append(i)
        self.surprises[i] = self._surprise(i, mean)
        self.sides[i] = -1 if p_low <= self.alpha else 1 if p_high <= self.alpha else 0
        if self.sides[i]:
            if self.kind != "mean":
                _, center, wide = self.asked[-1]
                low, high = find_limits(self.kind, center, wide, self.sizes[i], self.alpha)
                low, high = low / self.sizes[i], high / self.sizes[i]
            self.cleaned[i] = min(max(self.values[i], low), high)
            self.level.hold()
            self._take_shift(i)
        else:
            self._learn(i, mean, spread)
        self._measure_spread(i + 1)
        return row

    def _recall_holiday(self, holiday: HolidayDay) -> np.ndarray:
        """How days of an earlier year's holiday lay to ordinary ones: about the same day of it, or all."""
        earlier = [(day, ratio) for day, ratio in self.ratios.get(holiday.name, []) if day.start != holiday.start]
        near = [ratio for day, ratio in earlier if abs(day.offset - holiday.offset) <= HOLIDAY_REACH]
        return np.array(near if len(near) >= LEAST_HOLIDAYS else [ratio for _, ratio in earlier])

    def _learn(self, i: int, mean: float, spread: float) -> None:
        assert self.level is not None
        season = self.season[i % WEEK]
        weight = 1.0
        if self.kind == "rate":
            latest = np.sort(self.sizes[self.learnt[-SPREAD_PERIODS:]])
            middle = (latest[(len(latest) - 1) // 2] + latest[len(latest) // 2]) / 2
            weight = min(float(self.sizes[i] / middle), 2.0)
        # A day on which little happens says little of the level.
        weight *= min(season, 1.0)
        deviation = self._deviation(i, mean, spread)
        self.level.update(self.values[i] / season, deviation / season, weight, self._slack(i) / season)
        self.cleaned[i] = self.values[i]

    def _take_shift(self, i: int) -> None:
        """Take a level that has lasted as the usual one."""
        assert self.level is not None
        latest = np.array(self.learnt[-SHIFT_AFTER[self.grain] :])
        same = int((self.sides[latest] == self.sides[i]).sum())
        if same < math.ceil(SHIFT_SHARE * SHIFT_AFTER[self.grain]):
            return
        self.level.restart(find_middle(self.values[latest] / self.season[latest % WEEK], self._slack(i)), len(latest))
        self.surprises[latest] = math.nan
        self.cleaned[latest] = self.values[latest]
        self.sides[latest] = 0

    def _find_season(self, i: int) -> None:
        weeks = min(i // WEEK, SEASON_WEEKS)
        self.season_at = i
        found = np.ones(WEEK)
        block = self.cleaned[i - weeks * WEEK : i].reshape(weeks, WEEK)
        enough = weeks >= LEAST_SEASON_WEEKS and (~np.isnan(block)).any(axis=1).all()
        if enough and np.nanmin(block, initial=0) >= 0:
            counts = block * self.sizes[i - weeks * WEEK : i].reshape(weeks, WEEK)
            found = find_season(block, self.kind == "count" and bool(np.nanmean(counts) < SMALL_COUNT))
        # The block's first day is the day of the week of period i.
        self.season = np.roll(found, i % WEEK)

    def _measure_spread(self, i: int) -> None:
        """How much more than chance alone the latest surprises vary, each cut so that a few do not say it."""
        past = self.surprises[max(0, i - SPREAD_PERIODS) : i]
        squares = past[~np.isnan(past)] ** 2
        if not len(squares):
            return
        spread = self.spread
        for _ in range(3):
            mean = float(np.add.reduce(np.minimum(squares, SPREAD_CUT**2 * spread))) / len(squares)
            spread = max(mean / SPREAD_CUT_SHARE, 1e-12)
        # Few surprises do not say well how far they go.
        spread *= 1 + CAUTION / len(squares)
        if self.kind != "mean":
            assert self.level is not None
            spread = max(spread, 1 + self.level.uncertainty)
        self.spread = spread

    def _surprise(self, i: int, mean: float) -> float:
        """How far a value lies from what was expected, in units of chance alone (of amounts: up to a factor)."""
        if self.kind != "mean":
            return (self.values[i] - mean) / self._base(i, mean)
        if self.positive:
            # Chance in amounts grows with the root of what is expected: roots differ by the same everywhere.
            return 2 * (_root(self.values[i]) - _root(mean)) * self.precision[i]
        return (self.values[i] - mean) * self.precision[i]

    def _deviation(self, i: int, mean: float, spread: float) -> float:
        """Standard deviation of a value."""
        return self._base(i, mean) * math.sqrt(spread)

    def _slack(self, i: int) -> float:
        """One more or less, of counts."""
        return 1 / max(self.sizes[i], 1e-12) if self.kind == "count" else 0.0

    def _base(self, i: int, mean: float) -> float:
        if self.kind == "count":
            return math.sqrt(max(mean, 0.05 / self.sizes[i]) / self.sizes[i])
        if self.kind == "rate":
            inside = self._within(mean)
            return math.sqrt(inside * (1 - inside) / self.sizes[i])
        return max(math.sqrt(max(mean, 0.0)) if self.positive else 1.0, 1e-12) / self.precision[i]

    def _within(self, mean: float) -> float:
        if self.kind == "count":
            return max(mean, 0.0)
        if self.kind == "rate":
            return min(max(mean, 1e-6), 1 - 1e-6)
        return max(mean, 0.0) if self.positive else mean

    def _find_range(self, i: int, mean: float, spread: float) -> tuple[float, float, float, float]:
        size = self.sizes[i]
        if self.kind == "mean":
            past = self.surprises[max(0, i - TAIL_PERIODS) : i]
            surprises = Surprises(past[~np.isnan(past)])
            wider = math.sqrt(spread / self.spread)
            ends = [x * wider / self.precision[i] for x in surprises.find_limits(self.alpha)]
            if self.positive:
                low, high = (max(_root(mean) + x / 2, 0.0) ** 2 for x in ends)
            else:
                low, high = (mean + x for x in ends)
            return low, high, *surprises.find_tails(self._surprise(i, mean) / wider)
        # Nothing seen yet does not mean that nothing can come: half a case in all that the level rests on.
        assert self.level is not None
        mean = self._within(mean + 0.5 * self.level.uncertainty / size)
        mean *= size if self.kind == "count" else 1.0
        self.asked.append((i, mean, spread))
        return math.nan, math.nan, *find_tails(self.kind, self.tops[i], mean, spread, size)

    def find_limits(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of counts and rates: the periods judged, and their limits."""
        at, mean, spread = (np.array(part) for part in zip(*self.asked, strict=True))
        sizes = self.sizes[at]
        low, high = find_all_limits(self.kind, mean, spread, sizes, self.alpha)
        return at, low / sizes, high / sizes


def _column(frame: pd.DataFrame, name: str, otherwise: np.ndarray) -> np.ndarray:
    return frame[name].to_numpy(dtype=float) if name in frame else otherwise


def _root(value: float) -> float:
    return math.copysign(math.sqrt(abs(value)), value)
