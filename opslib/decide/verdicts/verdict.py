"""The verdict on an initiative from its looks: effective, not effective, or not enough data."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pandas as pd

from opslib.data.operations import InitiativeSettings, KillRule
from opslib.data.periods import DAY
from opslib.data.source import Data
from opslib.decide.initiatives import Status, find_status, list_initiatives
from opslib.decide.series import SeriesReader
from opslib.decide.series.asked import check_segment
from opslib.decide.verdicts.looks import Look, Role, Strength, correct_for_many
from opslib.decide.verdicts.otherwise import read_series_look
from opslib.decide.verdicts.trial import TrialLooks, read_trial_looks
from opslib.errors import InputError
from opslib.language import join_clauses, mark, say
from opslib.measure.estimate import Estimate, estimate_rate, quantile, to_plain_record

Answer = Literal["effective", "not effective", "not enough data"]

VERDICT_NAMES: dict[Answer, str] = {
    "effective": mark("effective"),
    "not effective": mark("not effective"),
    "not enough data": mark("not enough data"),
}
# A kill rule looks at the last days up to `as_of`.
KILL_DAYS = 28


@dataclass(frozen=True)
class KillState:
    """An initiative's kill rule at the end of `as_of`.

    Attributes:
        rule: as it was set.
        from_day: the first day on which it may be met.
        value: the metric over the last 28 days since the start; without a value where it is not known.
        met: True: give it up now. False: not, or not yet. None: it cannot be told.
        sure: the whole interval lies beyond the bound.
    """

    rule: KillRule
    from_day: dt.date
    value: Estimate
    met: bool | None
    sure: bool


@dataclass(frozen=True)
class Verdict:
    """Whether an initiative works.

    Attributes:
        initiative, as_of: what was judged, and by the end of which day.
        verdict: "effective", "not effective" or "not enough data".
        reason: why. effective: "core_improved". not effective: "core_worse", "gain_too_small" (every change worth
            having is ruled out), "no_clear_effect" (watched to the end, and nothing said what would have been worth
            having), "vetoed" (the core improved, but a guardrail got clearly worse), "contradicted" (the core improved,
            but what users do or say got worse). not enough data: "not_started", "unknown" (the core could not be read),
            "immature" (users still come in or have their days to go), "unclear", "descriptive_only" (the core moved the
            good way, but before/after alone proves nothing).
        core: the look that decides; `looks`: all, the core first.
        vetoed_by, contradicted_by: metrics.
        brought_forward: the gain of the first half of the window was partly taken from the second.
        early, late: the core look in the halves of the window, where there are (see `TrialLooks`).
        remedies: what the playbook does about this metric; empty unless not effective.
        kill: the kill rule; None without.
        status: see `find_status`.
        currency: of amounts.
    """

    initiative: InitiativeSettings
    as_of: dt.date
    verdict: Answer
    reason: str
    core: Look
    looks: tuple[Look, ...]
    vetoed_by: tuple[str, ...] = ()
    contradicted_by: tuple[str, ...] = ()
    brought_forward: bool = False
    early: Look | None = None
    late: Look | None = None
    remedies: tuple[str, ...] = ()
    kill: KillState | None = None
    status: Status = "watching"
    currency: str = ""

    @property
    def strength(self) -> Strength:
        """The evidence of the core look."""
        return self.core.strength

    @property
    def table(self) -> pd.DataFrame:
        """One row a look: initiative, and the columns of `Look.to_record`."""
        return pd.DataFrame([{"initiative": self.initiative.name, **look.to_record()} for look in self.looks])

    def findings(self) -> list[dict[str, Any]]:
        """The verdict and one record a look."""
        name = self.initiative.name
        head = {
            "name": "verdict", "initiative": name, "as_of": self.as_of, "verdict": self.verdict, "reason": self.reason,
            "strength": self.strength, "metric": self.core.metric, "status": self.status,
            "vetoed_by": ",".join(self.vetoed_by), "contradicted_by": ",".join(self.contradicted_by),
            "brought_forward": self.brought_forward, "remedies": join_clauses(map(say, self.remedies)),
            "kill_met": None if self.kill is None else self.kill.met,
        }  # fmt: skip
        records = [to_plain_record(head)]
        return records + [{"name": "look", "initiative": name, **look.to_record()} for look in self.looks]


def judge_initiative(
    source: Data | SeriesReader, initiative: InitiativeSettings, *, as_of: dt.date | None = None
) -> Verdict:
    """Judge one initiative by three looks and its guardrails.

    Args:
        source: the company's data, or a reader of its series that has read some already.
        initiative: its settings.
        as_of: the last day that is known; None: the data's (or the reader's).

    Returns:
        A `Verdict`.

    Each look takes the strongest evidence that there is: an experiment or holdout (users in it, within a window after
    first exposure), else segments against those that could not be reached, else before and after.

    Effective: the core's interval lies beyond zero on the good side, by evidence with a control; no guardrail is
    clearly worse, and no behaviour or feedback is (Holm over them). What is before/after only neither makes an
    initiative effective nor contradicts it; a guardrail vetoes by it only when it moved more than it usually does.

    Raises:
        InputError: a segment that is not there, or a reader of another day.
    """
    reader = _open(source, as_of)
    day = reader.as_of
    wanted = _list_looks(initiative)
    status = find_status(initiative, day)
    if day < initiative.start:
        look = Look(
            "core", initiative.metric, "ratio", "none", notes=(say("It starts on {day}.", day=initiative.start),)
        )
        return Verdict(initiative, day, "not enough data", "not_started", look, (look,), status=status)
    worth = find_worth(initiative)
    trial = read_trial_looks(reader.data, initiative, wanted, as_of=day, worth=worth)
    looks: list[Look] = []
    for role, metric in wanted:
        found = trial.looks.get((role, metric))
        if found is None:
            why = trial.why_not.get((role, metric), "")
            found = read_series_look(
                reader, initiative, role, metric, as_of=day, worth=worth if role == "core" else None,
                why_not=(why,) if why else (),
            )  # fmt: skip
        looks.append(found)
    looks = correct_for_many(looks)
    looks[0] = core = _add_worth(looks[0], initiative)
    worse = [look for look in looks[1:] if _counts_against(look)]
    vetoed = tuple(look.metric for look in worse if look.role == "guardrail")
    against = tuple(look.metric for look in worse if look.role != "guardrail")
    verdict, reason = _conclude(core, vetoed, against, initiative, trial, day)
    remedies = reader.data.playbook.remedies.get(initiative.metric, ()) if verdict == "not effective" else ()
    kill = None if initiative.kill_rule is None else read_kill_rule(reader, initiative, initiative.kill_rule)
    return Verdict(
        initiative, day, verdict, reason, core, tuple(looks), vetoed, against, trial.brought_forward, trial.early,
        trial.late, remedies, kill,
        find_status(initiative, day, killed=kill is not None and kill.met is True),
        reader.data.playbook.company.currency,
    )  # fmt: skip


def judge_initiatives(source: Data | SeriesReader, *, as_of: dt.date | None = None) -> tuple[Verdict, ...]:
    """Judge every initiative of the playbook and of its CSV, by start.

    Raises:
        InputError: as `list_initiatives` and `judge_initiative`; the message names the initiative.
    """
    reader = _open(source, as_of)
    found = []
    for initiative in list_initiatives(reader.data.playbook).initiatives:
        try:
            found.append(judge_initiative(reader, initiative))
        except InputError as error:
            raise InputError(f"Initiative '{initiative.name}': {error}") from None
    return tuple(found)


def check_initiatives(reader: SeriesReader) -> None:
    """Refuse a register that cannot be read, and initiatives under way that name segments that are not there.

    Raises:
        InputError: the message names the initiative.
    """
    for initiative in list_initiatives(reader.data.playbook).initiatives:
        if reader.span.start < initiative.start <= reader.as_of:
            for segment in (initiative.segment, *initiative.unaffected):
                try:
                    check_segment(reader.data, segment)
                except InputError as error:
                    raise InputError(f"Initiative '{initiative.name}': {error}") from None


def find_worth(initiative: InitiativeSettings) -> float | None:
    """The smallest change worth having, without a sign: the low end of the forecast, else the forecast itself.

    >>> item = {"name": "A", "owner": "B", "metric": "cac_amount", "start": dt.date(2026, 1, 1)}
    >>> find_worth(InitiativeSettings(**item, expected_change=-20, expected_low=-30, expected_high=-10))
    10.0
    """
    ends = (initiative.expected_low, initiative.expected_high)
    change = initiative.expected_change
    if ends[0] is not None and ends[1] is not None and ends[0] * ends[1] > 0:
        return float(min(abs(ends[0]), abs(ends[1])))
    return abs(change) if change else None


def _add_worth(core: Look, initiative: InitiativeSettings) -> Look:
    """Without a forecast, what is missing to the target is what would have been worth having."""
    without = None if core.without_it is None else core.without_it.value
    if core.worth is not None or initiative.target is None or without is None:
        return core
    missing = core.sign * (initiative.target - without)
    return replace(core, worth=missing) if missing > 0 else core


def read_kill_rule(reader: SeriesReader, initiative: InitiativeSettings, rule: KillRule) -> KillState:
    """Hold an initiative against its kill rule at the end of the reader's last day."""
    from_day = initiative.start + rule.after_days * DAY
    if reader.as_of < from_day:
        unread = Estimate(
            rule.metric, None, 0, 0, None, None, "none", "ratio", note=say("not read before {day}", day=from_day)
        )
        return KillState(rule, from_day, unread, False, False)
    first = max(initiative.start, reader.as_of - (KILL_DAYS - 1) * DAY)
    value = _read_recent(reader, initiative, rule.metric, first)
    if value.value is None:
        return KillState(rule, from_day, value, None, False)
    if rule.below is not None:
        met, sure = value.value < rule.below, value.high is not None and value.high < rule.below
    else:
        assert rule.above is not None
        met, sure = value.value > rule.above, value.low is not None and value.low > rule.above
    return KillState(rule, from_day, value, met, sure)


def _read_recent(reader: SeriesReader, initiative: InitiativeSettings, metric: str, first: dt.date) -> Estimate:
    """A metric from a day to the reader's last, of the users whom the initiative reaches where that can be told."""
    grain: Any = "week" if metric == "churn_rate" else "day"
    try:
        series = reader.read(metric, grain=grain, segment=initiative.segment)
    except InputError as error:
        try:
            series = reader.read(metric, grain=grain)
        except InputError:
            return Estimate(metric, None, 0, 0, None, None, "none", "ratio", note=str(error))
    rows = series.frame
    if len(rows):
        rows = rows[(rows["period_start"] >= pd.Timestamp(first)) & rows["status"].isin(["known", "too few"])]
        rows = rows[rows["denominator"] > 0]
    if rows.empty:
        note = series.note or say("not enough data since the start")
        return Estimate(metric, None, 0, 0, None, None, "none", series.unit, note=note)
    top, bottom = float(rows["numerator"].sum()), float(rows["denominator"].sum())
    if series.kind == "rate":
        return estimate_rate(metric, top, bottom)
    spread = float(rows["value"].astype(float).std(ddof=1)) if len(rows) > 1 else float("nan")
    half = quantile() * spread / len(rows) ** 0.5
    low, high = (None, None) if half != half else (top / bottom - half, top / bottom + half)
    return Estimate(metric, top / bottom, top, bottom, low, high, "scatter of days", series.unit)


def _open(source: Data | SeriesReader, as_of: dt.date | None) -> SeriesReader:
    if isinstance(source, Data):
        return SeriesReader(source, as_of=as_of)
    if as_of is not None and as_of != source.as_of:
        raise InputError(f"as_of {as_of}: the reader of the series ends on {source.as_of}. Make one of that day.")
    return source


def _list_looks(initiative: InitiativeSettings) -> list[tuple[Role, str]]:
    """Role and metric of every look, the core first, none twice."""
    parts: Mapping[Role, Sequence[str]] = {
        "core": (initiative.metric,),
        "behaviour": initiative.behaviour,
        "feedback": initiative.feedback,
        "guardrail": initiative.guardrails,
    }
    return list(dict.fromkeys((role, metric) for role, metrics in parts.items() for metric in metrics))


def _counts_against(look: Look) -> bool:
    """Whether a look speaks against it: of before/after alone only a guardrail does, and only beyond the usual."""
    if look.direction != "worse":
        return False
    return not look.descriptive or (look.role == "guardrail" and look.beyond_usual is True)


def _conclude(
    core: Look,
    vetoed: tuple[str, ...],
    against: tuple[str, ...],
    initiative: InitiativeSettings,
    trial: TrialLooks,
    as_of: dt.date,
) -> tuple[Answer, str]:
    if core.direction == "unknown":
        return "not enough data", "unknown"
    if core.direction == "worse":
        return "not effective", "core_worse"
    if core.direction == "better":
        if core.descriptive:
            return "not enough data", "descriptive_only"
        if vetoed:
            return "not effective", "vetoed"
        return ("not effective", "contradicted") if against else ("effective", "core_improved")
    if core.rules_out_worth:
        return "not effective", "gain_too_small"
    waiting = core.per_user and trial.result is not None and (trial.result.running or core.immature_count > 0)
    if waiting:
        return "not enough data", "immature"
    over = core.per_user or as_of >= initiative.last_day
    return ("not effective", "no_clear_effect") if over and core.worth is None else ("not enough data", "unclear")
