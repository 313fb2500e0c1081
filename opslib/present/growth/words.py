"""The sentences of the growth model."""

from __future__ import annotations

import pandas as pd

from opslib.decide.growth.model import GrowthModel
from opslib.present.words import (
    describe,
    describe_scope,
    format_change,
    format_estimate,
    format_number,
    list_limits,
    name_segment,
    name_users,
    write_sentence,
)

LEVER_NAMES = {
    "base": "nothing changes",
    "d1_rate": "next-day retention",
    "d7_rate": "day-7 retention",
    "reactivation_rate": "daily return of users away for 7 to 29 days",
    "k_factor": "users brought by each new user",
    "cac_amount": "cost of a new user",
    "all": "all of them together",
}
VERDICT_NAMES = {
    "more_retained": "more users who stay",
    "more_users_not_retained": "more users, not more who stay",
    "more_users_retained_unclear": "more users; whether they stay is not clear",
    "no_clear_gain": "no clear gain",
    "fewer_retained": "fewer users who stay",
    "fewer_users_retained_unclear": "fewer users; whether users who stay were lost is not clear",
    "no_clear_loss": "no clear loss",
    "not_moved": "spend hardly moved",
    "not_enough_data": "not enough data",
}
STATE_NAMES = {
    "potential": "Signed up, never active",
    "new": "New",
    "current": "Current",
    "resurrected": "Came back",
    "at_risk": "At risk",
    "dormant": "Dormant",
    "churned": "Gone",
    "none": "Not known before",
}
LATER_MONTHS = 6
# An interval that ends at so many times the forecast tells nothing.
TOO_WIDE = 4

# A group that chance alone would show in fewer than one of five companies is the first place to look.
WORTH_A_LOOK = 0.2


@describe.register
def _describe_growth(model: GrowthModel) -> list[str]:
    sentences = [_say_activity(model), _say_retention(model), _say_shift(model), _say_cost(model), _say_outlook(model)]
    return [s for s in sentences if s]


@describe_scope.register
def _describe_scope(model: GrowthModel) -> str:
    scope = model.scope
    who = name_users(scope.segment)
    text = f"{scope.data.playbook.company.name}, {scope.now.start} to {scope.as_of}, {who}"
    return text + (f", compared with {scope.before.start} to {scope.before.last_day}." if scope.before else ".")


def say_change(model: GrowthModel, name: str, *, against: str = "") -> str:
    """How a headline metric changed, to follow its value in a title; empty where there is nothing before."""
    change = model.changes().get(name)
    return f", {format_change(change, against=against)}" if change is not None and change.difference is not None else ""


def name_lever(model: GrowthModel, lever: str) -> str:
    """A lever with the value that it is set to, for example `day-7 retention at 25.0%`."""
    name = LEVER_NAMES[lever]
    values = model.outlook.levers.levers.set_index("lever")["then_value"].dropna()
    return f"{name} at {format_lever(model, lever, float(values[lever]))}" if lever in values.index else name


def format_lever(model: GrowthModel, lever: str, value: float) -> str:
    """A lever's value in its unit."""
    if lever == "k_factor":
        return f"{value:.3f}"
    unit = "amount" if lever == "cac_amount" else "rate"
    return format_number(value, unit, currency=model.currency)


def _say_activity(model: GrowthModel) -> str:
    activity, changes = model.audience.now, model.changes()
    text = f"{format_estimate(activity.dau)} users were active on an average day"
    if "dau_count" in changes and changes["dau_count"].difference is not None:
        text += f", {format_change(changes['dau_count'], against='the period before')}"
    rows = model.audience.accounting.periods
    start = pd.Timestamp(model.scope.now.start)
    rows = rows[rows["complete"] & (rows["period_start"] >= start)]
    if len(rows):
        gained, lost = (
            int(rows[list(columns)].to_numpy().sum())
            for columns in (("new_count", "resurrected_count"), ("churned_count",))
        )
        new = int(rows["new_count"].sum())
        grain = model.scope.grain
        times = f"{len(rows)} complete {grain}s" if len(rows) > 1 else f"one complete {grain}"
        text += f"; from {grain} to {grain}, over {times}, {gained:,} were gained ({new:,} new, {gained - new:,} back "
        text += f"after a {grain} or more away) and {lost:,} lost"
        text += f", {gained / lost:.2f} for each one lost" if lost else ""
    return text + "."


def _say_retention(model: GrowthModel) -> str:
    now, changes = model.staying.now, model.staying.changes()
    parts = []
    for n, words in ((1, "the next day"), (7, "on day 7")):
        estimate = now.estimate(n)
        if estimate.known:
            share = f"{format_number(estimate.value, 'rate')} of {estimate.denominator:,.0f} came back {words}"
            change = changes.get(f"d{n}_rate")
            known = change is not None and change.difference is not None
            parts.append(share + (f" ({format_change(change)})" if known and change is not None else ""))
    if not parts:
        return "Too few new users have had time to come back to say anything of retention."
    return f"Of new users {'; '.join(parts)}.{_say_causes(model)}"


def _say_causes(model: GrowthModel) -> str:
    explanation = model.staying.explanation
    if explanation is None or not explanation.overall.clear:
        return ""
    causes = explanation.causes.head(2)
    if causes.empty:
        return f" No group of users moved apart from the rest: {explanation.note}.{_say_clearest(model)}"
    named = []
    for row in causes.to_dict("records"):
        text = f"{name_segment(row['segment'])}, from {row['before_rate']:.1%} to {row['after_rate']:.1%} of "
        text += f"{row['after_count']:,.0f}"
        if pd.notna(row["share_of_change_rate"]):
            text += f", {row['share_of_change_rate']:.0%} of the change"
        named.append(text)
    return f" The change of the next day sits first in {'; then in '.join(named)}."


def _say_clearest(model: GrowthModel) -> str:
    """Where nothing is beyond chance, the group that comes nearest, as long as it is worth a look."""
    explanation = model.staying.explanation
    if explanation is None or explanation.segments["q_value"].dropna().empty:
        return ""
    row = explanation.segments.sort_values(["q_value", "p_value"], kind="stable").iloc[0]
    if row["q_value"] >= WORTH_A_LOOK:
        return ""
    return (
        f" The nearest to it is {name_segment(row['segment'])}, from {row['before_rate']:.1%} of "
        f"{row['before_count']:,.0f} to {row['after_rate']:.1%} of {row['after_count']:,.0f}: among so many groups "
        f"chance shows one like it {row['q_value']:.0%} of the time, so look there first."
    )


def _say_shift(model: GrowthModel) -> str:
    shift = model.acquisition.shift
    if shift is None:
        return ""
    if not shift.moved:
        return (
            "No channel's spend a day moved by more than a fifth, so what more budget would bring is not in these data."
        )
    rows = shift.by_channel.set_index("channel")
    parts = []
    lead = (
        f"The spend on {len(shift.moved)} channels moved by more than a fifth, most of all: " if shift.moved[2:] else ""
    )
    for channel in shift.moved[:2]:
        row = rows.loc[channel]
        more = row["extra_spend_amount"] > 0
        change = format_number(abs(row["extra_spend_amount"]), "amount", currency=model.currency)
        share = f" ({row['spend_change_rate']:+.0%})" if pd.notna(row["spend_change_rate"]) else ""
        text = f"{change} {'more' if more else 'less'}{share} went to {channel}: "
        users, retained = (
            f"[{row[f'extra_{name}_low']:,.0f} to {row[f'extra_{name}_high']:,.0f}]" for name in ("users", "retained")
        )
        text += f"{row['extra_users_count']:+,.0f} new users {users}, "
        text += f"{row['extra_retained_count']:+,.0f} of them there on day {shift.retained_day} {retained}"
        parts.append(text + _judge_shift(str(row["verdict"])))
    return f"{lead}{'; '.join(parts)}."


def _judge_shift(verdict: str) -> str:
    return {
        "more_retained": ". The budget brought users who stay",
        "more_users_not_retained": ". The budget brought visitors, not users who stay",
        "more_users_retained_unclear": ". Whether they stay is not clear yet",
        "no_clear_gain": ". No clear gain",
        "fewer_retained": ". The cut cost users who stay",
        "fewer_users_retained_unclear": ". Whether users who stay were lost is not clear",
        "no_clear_loss": ". No clear loss",
    }.get(verdict, "")


def _say_cost(model: GrowthModel) -> str:
    totals, currency = model.acquisition.channels.totals, model.currency
    parts = []
    for name, words in (("cac_amount", "A new user costs"), ("cost_per_d7_amount", "one who is back on day 7")):
        if name in totals and totals[name].known:
            parts.append(f"{words} {format_estimate(totals[name], currency=currency)}")
    value = model.acquisition.value
    if value is not None:
        ages = [(age, e) for age, e in value.ages.items() if e.known]
        if ages:
            age, estimate = ages[-1]
            earned = format_estimate(estimate, currency=currency)
            parts.append(f"an acquired user has brought {earned} of {value.basis} after {age} days")
    if not parts:
        return ""
    text = ", ".join(parts)
    payback = model.acquisition.payback
    if payback is not None:
        late = payback.by_group[payback.by_group["status"] == "not_paid_back"]
        if len(late):
            names = ", ".join(late["group"].head(3))
            months = int(late["observed_month_count"].max())
            text += f"; {names} {'has' if len(late) == 1 else 'have'} not paid back within the {months} months observed"
    return write_sentence(text)


def _say_outlook(model: GrowthModel) -> str:
    forecast = model.outlook.forecast.daily
    if forecast.empty:
        return ""
    last = forecast.iloc[-1]
    if last["high80_count"] > TOO_WIDE * max(last["dau_count"], 1):
        return (
            f"What comes cannot be told: on {last['day']:%Y-%m-%d} anything from {last['low80_count']:,.0f} to "
            f"{last['high80_count']:,.0f} active users would be no surprise (80% interval)."
        )
    text = (
        f"If nothing changes, about {last['dau_count']:,.0f} users will be active on {last['day']:%Y-%m-%d} "
        f"(80% interval {last['low80_count']:,.0f} to {last['high80_count']:,.0f})"
    )
    ranked = rank_levers(model)
    if rival := find_better_rival(model):
        text += f", though here such forecasts did worse than {rival}"
    if len(ranked):
        parts = []
        for row in ranked.head(2).to_dict("records"):
            effect = f"{row['difference']:+,.0f} [{row['difference_low']:,.0f} to {row['difference_high']:,.0f}]"
            parts.append(f"{effect} a day with {name_lever(model, row['lever'])}")
        largest = "the largest effects" if len(parts) > 1 else "the largest effect"
        text += f"; after {LATER_MONTHS} months it would be {' and '.join(parts)}, {largest} of the levers tried"
    return text + "."


def find_better_rival(model: GrowthModel) -> str:
    """Which simple forecast did better on earlier days than ours; empty where none did."""
    summary = model.outlook.backtest.summary
    if summary.empty:
        return ""
    row = summary.iloc[-1]
    rivals = {
        "repeating the last value": row["last_value_wape_rate"],
        "repeating the same weekday": row["seasonal_wape_rate"],
    }
    best = min(rivals, key=lambda name: rivals[name])
    return best if rivals[best] < row["wape_rate"] else ""


def rank_levers(model: GrowthModel) -> pd.DataFrame:
    """Levers by what they add to daily active users after six months; those that add nothing clearly are left out."""
    table = model.outlook.levers.table
    rows = table[(table["metric"] == "dau_count") & (table["months_count"] == LATER_MONTHS)]
    rows = rows[~rows["lever"].isin(["base", "all"]) & (rows["difference_low"] > 0)]
    return rows.sort_values(["difference", "lever"], ascending=[False, True], ignore_index=True)


@list_limits.register
def _list_limits(model: GrowthModel) -> list[str]:
    limits = [*model.scope.notes, *_limit_outlook(model)]
    waiting = model.staying.now.curve.set_index("n")["immature_count"]
    days = [n for n in (1, 7, 30) if n in waiting.index and waiting[n]]
    if days:
        listed = ", ".join(f"{waiting[n]:,} for day {n}" for n in days)
        limits.append(f"New users whose day has not come yet are in no retention rate: {listed}.")
    shift = model.acquisition.shift
    if shift is not None and shift.note:
        limits.append(write_sentence(shift.note))
    elif shift is not None and len(shift.by_channel) > 3:
        limits.append(
            f"The budget shift is judged for each of {len(shift.by_channel)} channels by itself, before against after: "
            "with many channels one may look moved by chance, and a season looks the same as a budget."
        )
    value = model.acquisition.value
    if value is not None and value.early_orders_count:
        limits.append(f"{value.early_orders_count:,} orders lie before their user's first day and are in no value.")
    limits += [f"{section}: not shown, it needs {table}." for section, table in model.missing.items()]
    return limits


def _limit_outlook(model: GrowthModel) -> list[str]:
    outlook, limits = model.outlook, []
    summary = outlook.backtest.summary
    if summary.empty or outlook.forecast.daily.empty:
        note = outlook.forecast.note or outlook.backtest.note or "too few days of data"
        lead = (
            "There is no forecast"
            if outlook.forecast.daily.empty
            else "The forecast could not be tried on earlier days"
        )
        limits.append(f"{lead}: {note}.")
    else:
        row = summary.iloc[-1]
        errors = {"the last value": row["last_value_wape_rate"], "the same weekday": row["seasonal_wape_rate"]}
        rivals = " and ".join(f"{error:.1%} for {name}" for name, error in errors.items())
        origins = int(row["origins_count"])
        days = "1 earlier day" if origins == 1 else f"{origins:,} earlier days"
        text = (
            f"Forecasts as they would have been made on {days} were off by {row['wape_rate']:.1%} (against {rivals}), "
            f"and their 80% interval held {row['coverage80_rate']:.0%} of {row['days_count']:,.0f} compared. "
        )
        if rival := find_better_rival(model):
            text += f"{rival.capitalize()} would have done better: do not plan with this forecast."
        else:
            text += "A forecast goes on as the last weeks did: it cannot foresee a break."
        limits.append(text)
    if outlook.levers.table.empty:
        return limits
    limits.append(
        "Levers are arithmetic, not causes: they say what follows if the rate moves and all else stays, not what would "
        "move it. Rely on their differences, not on the level six months ahead, which is far less certain."
    )
    if outlook.unknown:
        names = ", ".join(LEVER_NAMES[name] for name in outlook.unknown)
        limits.append(f"Not tried, because these data do not tell where they stand today: {names}.")
    return limits + [f"{LEVER_NAMES.get(lever, lever)}: {note}." for lever, note in outlook.levers.notes.items()]
