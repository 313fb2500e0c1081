"""The tables of the growth model: what users cost, bring, and bring along."""

from __future__ import annotations

import pandas as pd

from opslib.decide.growth.model import GrowthModel
from opslib.language import join_clauses, join_sentences, mark, say
from opslib.measure.channels import ChannelsResult
from opslib.measure.referral import ReferralResult
from opslib.present.display import ListView, TableView
from opslib.present.growth.names import VERDICT_NAMES, name_value
from opslib.present.parts import format_range, format_shares, say_needed
from opslib.present.tables import make_table
from opslib.present.words import MISSING, format_estimate, format_number, write_sentence

PAYBACKS = {
    "paid_back": mark("month {payback_month_count:.0f}"),
    "may_have_paid_back": mark("perhaps month {payback_month_count:.0f}"),
    "not_paid_back": mark("not within {observed_month_count:.0f} months"),
    "not_enough_data": mark("not enough data"),
}


def show_channels(model: GrowthModel) -> TableView | ListView:
    """New, activated and retained users by channel, with what each costs."""
    result = model.acquisition.channels
    if not result.totals["new_users_count"].value:
        text = say("Nobody was active for the first time in these days, so there is nothing to show by channel.")
        return ListView([text])
    note = say("Activated: active on 3 of the first 7 days. Shares count only users whose day has come.")
    return _show_groups(result, say("Channel"), "growth-channels", join_sentences([note, _say_concentration(result)]))


def show_domains(model: GrowthModel) -> TableView | ListView:
    """The same by public and private domain."""
    result = model.acquisition.domains
    if result is None:
        return say_needed(model, mark("Public and private domain"))
    if not result.totals["new_users_count"].value:
        return ListView([say("Nobody was active for the first time in these days.")])
    note = say("Public: search, stores, ads, social. Private: groups and chats of our own, and users brought by users.")
    return _show_groups(result, say("Domain"), "domains", note)


def show_budget_shift(model: GrowthModel) -> TableView | ListView:
    """What moved spend brought, channel by channel."""
    shift = model.acquisition.shift
    if shift is None or shift.by_channel.empty:
        return say_needed(model, mark("Cost of new users"))
    frame = shift.by_channel
    shown = pd.DataFrame({"channel": frame["channel"]})
    shown["spend"] = [
        format_number(now, "amount")
        if pd.isna(change)
        else say("{text} ({more})", text=format_number(now, "amount"), more=f"{change:+.0%}")
        for now, change in zip(frame["spend_amount"], frame["spend_change_rate"], strict=True)
    ]
    for name in ("users", "retained"):
        rows = frame[[f"extra_{name}_count", f"extra_{name}_low", f"extra_{name}_high"]].itertuples(index=False)
        shown[name] = [format_range(*row, form="+,.0f") for row in rows]
    rates = zip(frame["before_retained_rate"], frame["retained_rate"], strict=True)
    shown["rate"] = [f"{format_number(a, 'rate')} → {format_number(b, 'rate')}" for a, b in rates]
    for name in ("user", "retained"):
        columns = [f"cost_per_extra_{name}_{part}" for part in ("amount", "low", "high")]
        shown[f"cost_{name}"] = [_format_cost(*row) for row in frame[columns].itertuples(index=False)]
    shown["verdict"] = [say(VERDICT_NAMES[v]) if v in VERDICT_NAMES else MISSING for v in frame["verdict"]]
    day, money = shift.retained_day, model.currency
    labels = {
        "channel": say("Channel"), "spend": say("Spend, {currency} (change)", currency=money),
        "users": say("More new users [95%]"), "retained": say("More back on day {day} [95%]", day=day),
        "rate": say("Share back on day {day}", day=day), "cost_user": say("{currency} per user more", currency=money),
        "cost_retained": say("{currency} per one more who stays", currency=money), "verdict": say("Verdict"),
    }  # fmt: skip
    note = say(
        "{start} to {end} against {before_start} to {before_end}, scaled to as many days. Before against after, no "
        "experiment: hold moved channels against those that did not move.",
        start=shift.now.start, end=shift.now.last_day,
        before_start=shift.before.start, before_end=shift.before.last_day,
    )  # fmt: skip
    return make_table(shown, labels, name="budget-shift", numeric=tuple(labels)[1:-1], note=note)


def show_value(model: GrowthModel) -> TableView | ListView:
    """What an acquired user has brought by age, against what one costs."""
    value, payback = model.acquisition.value, model.acquisition.payback
    if value is None:
        return say_needed(model, mark("Value of new users"))
    ages = list(value.ages)
    frame = value.by_age
    costs = {r["group"]: r for r in payback.by_group.to_dict("records")} if payback is not None else {}
    rows = []
    for group, part in frame.groupby("group", sort=False):
        row: dict[str, object] = {"group": group}
        for cell in part.to_dict("records"):
            row[f"value{cell['age_days']}"] = _format_cost(cell["value_amount"], cell["value_low"], cell["value_high"])
        row["users"] = f"{int(part.iloc[-1]['users_count']):,}"
        if payback is not None and group in costs:
            cost = {str(k): v for k, v in costs[group].items()}
            row["cac"] = _format_cost(cost["cac_amount"], cost["cac_low"], cost["cac_high"])
            last = payback.ratios.get(str(group), {}).get(ages[-1])
            row["ratio"] = format_estimate(last) if last is not None and last.known else MISSING
            row["payback"] = say(PAYBACKS[str(cost["status"])], **cost)
        rows.append(row)
    basis, money = name_value(value.basis), model.currency
    labels = {"group": say("Channel")}
    labels |= {f"value{age}": say("{basis} by day {day}", basis=basis, day=age) for age in ages}
    labels["users"] = say("Users with {days} days", days=ages[-1])
    shown = pd.DataFrame(rows)
    if "cac" in shown:
        labels["cac"] = say("Cost today, {currency}", currency=money)
        labels |= {"ratio": say("Day {day} / cost", day=ages[-1]), "payback": say("Paid back")}
    shown = shown.reindex(columns=list(labels)).fillna(MISSING)
    note = say(
        "{currency} per acquired user, buyer or not, observed and not projected: later ages rest on older users. Round "
        "the value its 95% interval. Costs are today's, values those of all users so far.",
        currency=money,
    )
    return make_table(shown, labels, name="value", numeric=tuple(labels)[1:], note=note)


def show_moved_users(model: GrowthModel) -> TableView | ListView:
    """Users who moved to the private domain against others like them."""
    moved = model.acquisition.moved
    if moved is None:
        return say_needed(model, mark("Users moved to the private domain"))
    if not moved.compared_count:
        text = say("Nobody moved to the private domain long enough ago to be compared with others.")
        return ListView([text])
    names = {
        "active_days_count": say("Active days in {days} days", days=moved.window_days),
        "still_active_rate": say("Share active in the last 7 of them"),
        "margin_amount": say("Margin a user, {currency}", currency=model.currency),
    }
    means = moved.means.set_index("metric")
    rows = []
    for metric, estimate in moved.differences.items():
        unit = "rate" if metric.endswith("rate") else "ratio"
        key = metric if metric in means.index else estimate.name
        ends, scale = (estimate.value, estimate.low, estimate.high), 100 if unit == "rate" else 1
        difference = format_range(*ends, form="+.2f", scale=scale)
        if unit == "rate" and estimate.known:
            difference = say("{number} points", number=difference)
        rows.append(
            {
                "metric": names.get(metric, metric),
                "moved": format_number(float(means.loc[key, "moved_mean"]), unit),  # type: ignore[arg-type]
                "others": format_number(float(means.loc[key, "matched_mean"]), unit),  # type: ignore[arg-type]
                "difference": difference,
            }
        )
    labels = {
        "metric": say("Measure"), "moved": say("Moved"), "others": say("Others like them"),
        "difference": say("Difference [95%]"),
    }  # fmt: skip
    note = say(
        "{compared:,} of {movers:,} who moved; {waiting:,} moved less than {days} days ago, {inactive:,} were not "
        "active that day, {unmatched:,} had nobody like them. An association: nobody was moved by lot.",
        compared=moved.compared_count, movers=moved.movers_count, waiting=moved.waiting_count, days=moved.window_days,
        inactive=moved.not_active_count, unmatched=moved.unmatched_count,
    )  # fmt: skip
    return make_table(pd.DataFrame(rows), labels, name="moved-users", numeric=tuple(labels)[1:], note=note)


def show_referral(model: GrowthModel) -> TableView | ListView:
    """Users brought by users, by kind of reward."""
    result = model.acquisition.referral
    if result is None:
        return say_needed(model, mark("Users brought by users"))
    if result.by_kind.empty:
        return ListView([say("Nobody was brought by another user in these days.")])
    frame = result.by_kind
    shown = pd.DataFrame({"kind": frame["kind"], "joined": frame["joined_count"].map("{:,}".format)})
    rows = frame[["d7_rate", "d7_low", "d7_high"]].itertuples(index=False)
    shown["d7"] = [format_range(*row, form=".1%") for row in rows]
    labels = {"kind": say("Kind"), "joined": say("Users brought"), "d7": say("Back on day 7 [95%]")}
    if "reward_amount" in frame.columns:
        shown["reward"] = [format_number(x, "amount") for x in frame["reward_amount"]]
        columns = [f"cost_per_retained_{part}" for part in ("amount", "low", "high")]
        shown["cost"] = [_format_cost(*row) for row in frame[columns].itertuples(index=False)]
        labels["reward"] = say("Rewards, {currency}", currency=model.currency)
        labels["cost"] = say("{currency} per user back on day 7", currency=model.currency)
    note = _say_referral(result)
    return make_table(shown, labels, name="referral", numeric=tuple(labels)[1:], note=note)


def _say_referral(result: ReferralResult) -> str:
    parts = []
    if result.k_cohort.known:
        number = format_estimate(result.k_cohort)
        parts.append(
            say("A new user brings {number} others within {days} days (K)", number=number, days=result.window_days)
        )
    if 0.5 in result.cycle and result.cycle[0.5].known:
        text = mark("half of the users brought came within {days:,.0f} days of their inviter's first day")
        parts.append(say(text, days=result.cycle[0.5].value))
    parts.append(say("rewards are counted whole: some would have come anyway, which only a holdout tells"))
    return write_sentence(join_clauses(parts))


def _show_groups(result: ChannelsResult, title: str, name: str, note: str) -> TableView:
    frame = result.by_group
    shown = pd.DataFrame({"group": frame["group"]})
    counts = zip(frame["new_users_count"], frame["new_users_rate"], strict=True)
    shown["new"] = [say("{text} ({more})", text=f"{n:,}", more=format_number(r, "rate")) for n, r in counts]
    labels = {"group": title, "new": say("New users (share)")}
    for key, words in (("activated", mark("Activated")), ("d7", mark("Back on day 7")),
                       ("d30", mark("Back on day 30"))):  # fmt: skip
        shown[key] = format_shares(frame[f"{key}_rate"], frame[f"{key}_mature_count"])
        labels[key] = say(words)
    if "spend_amount" in frame.columns and frame["spend_amount"].notna().any():
        spend = zip(frame["spend_amount"], frame["spend_rate"], strict=True)
        shown["spend"] = [
            MISSING if pd.isna(x) else say("{text} ({more})", text=f"{x:,.0f}", more=format_number(r, "rate"))
            for x, r in spend
        ]
        labels["spend"] = say("Spend (share)")
        for key, words in (("cac", mark("Cost per new user")), ("cost_per_activated", mark("per activated")),
                           ("cost_per_d7", mark("per user back on day 7")),
                           ("cost_per_d30", mark("on day 30"))):  # fmt: skip
            costs = frame[[f"{key}_amount", f"{key}_low", f"{key}_high"]].itertuples(index=False)
            shown[key] = [_format_cost(*row) for row in costs]
            labels[key] = say(words)
    return make_table(shown, labels, name=name, numeric=tuple(labels)[1:], note=note)


def _say_concentration(result: ChannelsResult) -> str:
    parts = []
    for kind, words in (
        ("spend", mark("{share} of the spend is {channel}'s (concentration {index:,.0f} of 10,000)")),
        ("new_users", mark("{share} of new users is {channel}'s (concentration {index:,.0f} of 10,000)")),
    ):
        found = result.concentration.get(kind)
        if found is not None and found.largest is not None and found.index.known and found.largest_rate.known:
            share = format_number(found.largest_rate.value, "rate")
            parts.append(say(words, share=share, channel=found.largest, index=found.index.value))
    return say("{text}.", text=join_clauses(parts)) if parts else ""


def _format_cost(value: float, low: float, high: float) -> str:
    if pd.isna(value):
        return MISSING if pd.isna(low) else say("at least {amount}", amount=format_number(low, "amount"))
    amount, least, most = (format_number(x, "amount") for x in (value, low, high))
    return say("{value} [{low} to {high}]", value=amount, low=least, high=most)
