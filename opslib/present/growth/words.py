"""The sentences of the growth model."""

from __future__ import annotations

from typing import Any

import pandas as pd

from opslib.decide.growth.model import GrowthModel
from opslib.language import join_clauses, join_sentences, join_words, mark, say
from opslib.measure.acquisition import BudgetShiftResult
from opslib.present.growth.names import BASES, LEVER_NAMES, name_a_grain, name_grain, name_lever
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

LATER_MONTHS = 6
# An interval that ends at so many times the forecast tells nothing.
TOO_WIDE = 4

# A group that chance alone would show in fewer than one of five companies is the first place to look.
WORTH_A_LOOK = 0.2
SHIFT_VERDICTS = {
    "more_retained": mark("{text}. The budget brought users who stay"),
    "more_users_not_retained": mark("{text}. The budget brought visitors, not users who stay"),
    "more_users_retained_unclear": mark("{text}. Whether they stay is not clear yet"),
    "no_clear_gain": mark("{text}. No clear gain"),
    "fewer_retained": mark("{text}. The cut cost users who stay"),
    "fewer_users_retained_unclear": mark("{text}. Whether users who stay were lost is not clear"),
    "no_clear_loss": mark("{text}. No clear loss"),
}


@describe.register
def _describe_growth(model: GrowthModel) -> list[str]:
    sentences = [_say_activity(model), _say_retention(model), _say_shift(model), _say_cost(model), _say_outlook(model)]
    return [s for s in sentences if s]


@describe_scope.register
def _describe_scope(model: GrowthModel) -> str:
    scope = model.scope
    values = {"company": scope.data.playbook.company.name, "start": scope.now.start, "end": scope.as_of}
    values |= {"users": name_users(scope.segment)}
    if not scope.before:
        return say("{company}, {start} to {end}, {users}.", **values)
    return say(
        "{company}, {start} to {end}, {users}, compared with {before_start} to {before_end}.",
        before_start=scope.before.start, before_end=scope.before.last_day, **values,
    )  # fmt: skip


def add_clause(text: str, more: str) -> str:
    """Add a clause to a text, with a comma; nothing where one of them is empty."""
    return say("{text}, {more}", text=text, more=more) if text and more else text or more


def add_change(text: str, model: GrowthModel, name: str, *, against: str = "") -> str:
    """Add to a text how a headline metric changed, where there is something before."""
    change = model.changes().get(name)
    known = change is not None and change.difference is not None
    return add_clause(text, format_change(change, against=against)) if known and change is not None else text


def format_effect(value: float, low: float, high: float) -> str:
    """A difference in users with its interval, for example `+120 [80 to 160]`."""
    return f"{value:+,.0f} {format_counts(low, high)}"


def format_counts(low: float, high: float) -> str:
    """An interval of users."""
    return say("[{low} to {high}]", low=f"{low:,.0f}", high=f"{high:,.0f}")


def _say_activity(model: GrowthModel) -> str:
    users = format_estimate(model.audience.now.dau)
    text = say("{users} users were active on an average day", users=users)
    text = add_change(text, model, "dau_count", against=say("the period before"))
    return say("{text}.", text=join_clauses([text, _say_accounting(model)]))


def _say_accounting(model: GrowthModel) -> str:
    rows = model.audience.accounting.periods
    rows = rows[rows["complete"] & (rows["period_start"] >= pd.Timestamp(model.scope.now.start))]
    if rows.empty:
        return ""
    new, back, lost = (int(rows[f"{state}_count"].sum()) for state in ("new", "resurrected", "churned"))
    grain, once = name_grain(model.scope.grain), name_a_grain(model.scope.grain)
    periods = say("one complete {grain}", grain=grain)
    if len(rows) > 1:
        periods = say("{count} complete {grain}s", count=len(rows), grain=grain)
    text = say(
        "from {grain} to {grain}, over {periods}, {gained:,} were gained ({new:,} new, {back:,} back after {once} or "
        "more away) and {lost:,} lost",
        grain=grain, once=once, periods=periods, gained=new + back, new=new, back=back, lost=lost,
    )  # fmt: skip
    return add_clause(text, say("{ratio:.2f} for each one lost", ratio=(new + back) / lost) if lost else "")


def _say_retention(model: GrowthModel) -> str:
    now, changes = model.staying.now, model.staying.changes()
    parts = []
    for n, words in ((1, mark("{rate} of {count:,.0f} came back the next day")),
                     (7, mark("{rate} of {count:,.0f} came back on day 7"))):  # fmt: skip
        estimate = now.estimate(n)
        if estimate.known:
            share = say(words, rate=format_number(estimate.value, "rate"), count=estimate.denominator)
            change = changes.get(f"d{n}_rate")
            if change is not None and change.difference is not None:
                share = say("{text} ({more})", text=share, more=format_change(change))
            parts.append(share)
    if not parts:
        return say("Too few new users have had time to come back to say anything of retention.")
    return join_sentences([say("Of new users {shares}.", shares=join_clauses(parts)), _say_causes(model)])


def _say_causes(model: GrowthModel) -> str:
    explanation = model.staying.explanation
    if explanation is None or not explanation.overall.clear:
        return ""
    causes = explanation.causes.head(2)
    if causes.empty:
        text = say("No group of users moved apart from the rest: {reason}.", reason=explanation.note)
        return join_sentences([text, _say_clearest(model)])
    first, *others = [_name_cause(row) for row in causes.to_dict("records")]
    if not others:
        return say("The change of the next day sits first in {first}.", first=first)
    return say("The change of the next day sits first in {first}; then in {second}.", first=first, second=others[0])


def _name_cause(row: dict[Any, Any]) -> str:
    text = say(
        "{segment}, from {before:.1%} to {after:.1%} of {count:,.0f}",
        segment=name_segment(row["segment"]), before=row["before_rate"], after=row["after_rate"],
        count=row["after_count"],
    )  # fmt: skip
    share = row["share_of_change_rate"]
    return add_clause(text, say("{share:.0%} of the change", share=share) if pd.notna(share) else "")


def _say_clearest(model: GrowthModel) -> str:
    """Where nothing is beyond chance, the group that comes nearest, as long as it is worth a look."""
    explanation = model.staying.explanation
    if explanation is None or explanation.segments["q_value"].dropna().empty:
        return ""
    row = explanation.segments.sort_values(["q_value", "p_value"], kind="stable").iloc[0]
    if row["q_value"] >= WORTH_A_LOOK:
        return ""
    return say(
        "The nearest to it is {segment}, from {before:.1%} of {before_count:,.0f} to {after:.1%} of "
        "{after_count:,.0f}: among so many groups chance shows one like it {noise:.0%} of the time, so look there "
        "first.",
        segment=name_segment(row["segment"]), before=row["before_rate"], before_count=row["before_count"],
        after=row["after_rate"], after_count=row["after_count"], noise=row["q_value"],
    )  # fmt: skip


def _say_shift(model: GrowthModel) -> str:
    shift = model.acquisition.shift
    if shift is None:
        return ""
    if not shift.moved:
        return say(
            "No channel's spend a day moved by more than a fifth, so what more budget would bring is not in these data."
        )
    text = join_clauses(_say_moved(model, shift, channel) for channel in shift.moved[:2])
    if not shift.moved[2:]:
        return say("{text}.", text=text)
    return say(
        "The spend on {count} channels moved by more than a fifth, most of all: {text}.",
        count=len(shift.moved), text=text,
    )  # fmt: skip


def _say_moved(model: GrowthModel, shift: BudgetShiftResult, channel: str) -> str:
    row = shift.by_channel.set_index("channel").loc[channel]
    money = format_number(abs(row["extra_spend_amount"]), "amount", currency=model.currency)
    moved = say("{money} more", money=money) if row["extra_spend_amount"] > 0 else say("{money} less", money=money)
    if pd.notna(row["spend_change_rate"]):
        moved = say("{text} ({more})", text=moved, more=f"{row['spend_change_rate']:+.0%}")
    users, retained = (
        format_counts(*row[[f"extra_{name}_low", f"extra_{name}_high"]]) for name in ("users", "retained")
    )
    text = say(
        "{moved} went to {channel}: {more_users:+,.0f} new users {users_interval}, {more_retained:+,.0f} of them "
        "there on day {day} {retained_interval}",
        moved=moved, channel=channel, day=shift.retained_day, users_interval=users, retained_interval=retained,
        more_users=row["extra_users_count"], more_retained=row["extra_retained_count"],
    )  # fmt: skip
    verdict = SHIFT_VERDICTS.get(str(row["verdict"]))
    return say(verdict, text=text) if verdict else text


def _say_cost(model: GrowthModel) -> str:
    totals, currency = model.acquisition.channels.totals, model.currency
    text = ""
    for name, words in (("cac_amount", mark("A new user costs {cost}")),
                        ("cost_per_d7_amount", mark("one who is back on day 7 {cost}"))):  # fmt: skip
        if name in totals and totals[name].known:
            text = add_clause(text, say(words, cost=format_estimate(totals[name], currency=currency)))
    value = model.acquisition.value
    ages = [(age, e) for age, e in value.ages.items() if e.known] if value is not None else []
    if value is not None and ages:
        age, estimate = ages[-1]
        earned, basis = format_estimate(estimate, currency=currency), say(BASES[value.basis])
        more = say("an acquired user has brought {amount} of {basis} after {days} days",
                   amount=earned, basis=basis, days=age)  # fmt: skip
        text = add_clause(text, more)
    return write_sentence(join_clauses([text, _say_late(model)])) if text else ""


def _say_late(model: GrowthModel) -> str:
    """Channels that have not paid back."""
    payback = model.acquisition.payback
    if payback is None:
        return ""
    late = payback.by_group[payback.by_group["status"] == "not_paid_back"]
    if late.empty:
        return ""
    names, months = say(", ").join(late["group"].head(3)), int(late["observed_month_count"].max())
    if len(late) == 1:
        return say("{channel} has not paid back within the {months} months observed", channel=names, months=months)
    return say("{channels} have not paid back within the {months} months observed", channels=names, months=months)


def _say_outlook(model: GrowthModel) -> str:
    forecast = model.outlook.forecast.daily
    if forecast.empty:
        return ""
    last = forecast.iloc[-1]
    values = {"day": f"{last['day']:%Y-%m-%d}", "low": last["low80_count"], "high": last["high80_count"]}
    if last["high80_count"] > TOO_WIDE * max(last["dau_count"], 1):
        return say(
            "What comes cannot be told: on {day} anything from {low:,.0f} to {high:,.0f} active users would be no "
            "surprise (80% interval).",
            **values,
        )
    text = say(
        "If nothing changes, about {count:,.0f} users will be active on {day} (80% interval {low:,.0f} to "
        "{high:,.0f})",
        count=last["dau_count"], **values,
    )  # fmt: skip
    if rival := find_better_rival(model):
        text = say("{text}, though here such forecasts did worse than {rival}", text=text, rival=rival)
    return say("{text}.", text=join_clauses([text, _say_levers(model)]))


def _say_levers(model: GrowthModel) -> str:
    """The levers that do most."""
    effects = [
        say(
            "{effect} a day with {lever}",
            effect=format_effect(row["difference"], row["difference_low"], row["difference_high"]),
            lever=name_lever(model, row["lever"]),
        )
        for row in rank_levers(model).head(2).to_dict("records")
    ]
    if not effects:
        return ""
    text = mark("after {months} months it would be {effects}, the largest effect of the levers tried")
    if len(effects) > 1:
        text = mark("after {months} months it would be {effects}, the largest effects of the levers tried")
    return say(text, months=LATER_MONTHS, effects=join_words(effects))


def find_better_rival(model: GrowthModel) -> str:
    """Which simple forecast did better on earlier days than ours; empty where none did."""
    summary = model.outlook.backtest.summary
    if summary.empty:
        return ""
    row = summary.iloc[-1]
    rivals = {
        say("repeating the last value"): row["last_value_wape_rate"],
        say("repeating the same weekday"): row["seasonal_wape_rate"],
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
        listed = say(", ").join(say("{count:,} for day {day}", count=waiting[n], day=n) for n in days)
        limits.append(say("New users whose day has not come yet are in no retention rate: {counts}.", counts=listed))
    shift = model.acquisition.shift
    if shift is not None and shift.note:
        limits.append(write_sentence(shift.note))
    elif shift is not None and len(shift.by_channel) > 3:
        limits.append(
            say(
                "The budget shift is judged for each of {count} channels by itself, before against after: with many "
                "channels one may look moved by chance, and a season looks the same as a budget.",
                count=len(shift.by_channel),
            )
        )
    value = model.acquisition.value
    if value is not None and value.early_orders_count:
        text = say("{count:,} orders lie before their user's first day and are in no value.",
                   count=value.early_orders_count)  # fmt: skip
        limits.append(text)
    limits += [
        say("{section}: not shown, it needs {table}.", section=say(section), table=say(table))
        for section, table in model.missing.items()
    ]
    return limits


def _limit_outlook(model: GrowthModel) -> list[str]:
    outlook, limits = model.outlook, []
    if outlook.backtest.summary.empty or outlook.forecast.daily.empty:
        note = outlook.forecast.note or outlook.backtest.note or say("too few days of data")
        text = mark("The forecast could not be tried on earlier days: {reason}.")
        if outlook.forecast.daily.empty:
            text = mark("There is no forecast: {reason}.")
        limits.append(say(text, reason=note))
    else:
        limits.append(_limit_forecast(model))
    if outlook.levers.table.empty:
        return limits
    limits.append(
        say(
            "Levers are arithmetic, not causes: they say what follows if the rate moves and all else stays, not what "
            "would move it. Rely on their differences, not on the level six months ahead, which is far less certain."
        )
    )
    if outlook.unknown:
        names = say(", ").join(say(LEVER_NAMES[name]) for name in outlook.unknown)
        limits.append(say("Not tried, because these data do not tell where they stand today: {levers}.", levers=names))
    return limits + [
        say("{lever}: {note}.", lever=say(LEVER_NAMES[lever]) if lever in LEVER_NAMES else lever, note=note)
        for lever, note in outlook.levers.notes.items()
    ]


def _limit_forecast(model: GrowthModel) -> str:
    """How far forecasts on earlier days were off."""
    row = model.outlook.backtest.summary.iloc[-1]
    origins = int(row["origins_count"])
    days = say("1 earlier day") if origins == 1 else say("{count:,} earlier days", count=origins)
    text = say(
        "Forecasts as they would have been made on {days} were off by {error:.1%} (against {last_error:.1%} for the "
        "last value and {weekday_error:.1%} for the same weekday), and their 80% interval held {held:.0%} of "
        "{count:,.0f} compared.",
        days=days, error=row["wape_rate"], last_error=row["last_value_wape_rate"],
        weekday_error=row["seasonal_wape_rate"], held=row["coverage80_rate"], count=row["days_count"],
    )  # fmt: skip
    if rival := find_better_rival(model):
        more = say("{rival} would have done better: do not plan with this forecast.", rival=rival.capitalize())
    else:
        more = say("A forecast goes on as the last weeks did: it cannot foresee a break.")
    return join_sentences([text, more])
