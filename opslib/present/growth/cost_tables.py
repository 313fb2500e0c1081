"""The tables of the growth model: what users cost, bring, and bring along."""

from __future__ import annotations

import pandas as pd

from opslib.decide.growth.model import GrowthModel
from opslib.measure.channels import ChannelsResult
from opslib.present.display import ListView, TableView
from opslib.present.growth.words import VERDICT_NAMES
from opslib.present.parts import format_range, format_shares, say_needed
from opslib.present.tables import make_table
from opslib.present.words import MISSING, format_estimate, format_number

PAYBACKS = {
    "paid_back": "month {payback_month_count:.0f}",
    "may_have_paid_back": "perhaps month {payback_month_count:.0f}",
    "not_paid_back": "not within {observed_month_count:.0f} months",
    "not_enough_data": "not enough data",
}


def show_channels(model: GrowthModel) -> TableView | ListView:
    """New, activated and retained users by channel, with what each costs."""
    result = model.acquisition.channels
    if not result.totals["new_users_count"].value:
        return ListView(["Nobody was active for the first time in these days, so there is nothing to show by channel."])
    note = "Activated: active on 3 of the first 7 days. Shares count only users whose day has come."
    note = f"{note} {_say_concentration(result)}".rstrip()
    return _show_groups(result, "Channel", "growth-channels", note)


def show_domains(model: GrowthModel) -> TableView | ListView:
    """The same by public and private domain."""
    result = model.acquisition.domains
    if result is None:
        return say_needed(model, "Public and private domain")
    if not result.totals["new_users_count"].value:
        return ListView(["Nobody was active for the first time in these days."])
    note = "Public: search, stores, ads, social. Private: groups and chats of our own, and users brought by users."
    return _show_groups(result, "Domain", "domains", note)


def show_budget_shift(model: GrowthModel) -> TableView | ListView:
    """What moved spend brought, channel by channel."""
    shift = model.acquisition.shift
    if shift is None or shift.by_channel.empty:
        return say_needed(model, "Cost of new users")
    frame = shift.by_channel
    shown = pd.DataFrame({"channel": frame["channel"]})
    shown["spend"] = [
        f"{format_number(now, 'amount')} ({'' if pd.isna(change) else f'{change:+.0%}'})".replace(" ()", "")
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
    shown["verdict"] = [VERDICT_NAMES.get(v, MISSING) for v in frame["verdict"]]
    day, money = shift.retained_day, model.currency
    labels = {
        "channel": "Channel", "spend": f"Spend, {money} (change)", "users": "More new users [95%]",
        "retained": f"More back on day {day} [95%]", "rate": f"Share back on day {day}",
        "cost_user": f"{money} per user more", "cost_retained": f"{money} per one more who stays", "verdict": "Verdict",
    }  # fmt: skip
    note = (
        f"{shift.now.start} to {shift.now.last_day} against {shift.before.start} to {shift.before.last_day}, scaled "
        "to as many days. Before against after, no experiment: hold moved channels against those that did not move."
    )
    return make_table(shown, labels, name="budget-shift", numeric=tuple(labels)[1:-1], note=note)


def show_value(model: GrowthModel) -> TableView | ListView:
    """What an acquired user has brought by age, against what one costs."""
    value, payback = model.acquisition.value, model.acquisition.payback
    if value is None:
        return say_needed(model, "Value of new users")
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
            row["payback"] = PAYBACKS[str(cost["status"])].format(**cost)
        rows.append(row)
    kind = value.basis
    labels = {"group": "Channel"} | {f"value{a}": f"{kind.capitalize()} by day {a}" for a in ages}
    labels["users"] = f"Users with {ages[-1]} days"
    shown = pd.DataFrame(rows)
    if "cac" in shown:
        labels |= {"cac": f"Cost today, {model.currency}", "ratio": f"Day {ages[-1]} / cost", "payback": "Paid back"}
    shown = shown.reindex(columns=list(labels)).fillna(MISSING)
    note = (
        f"{model.currency} per acquired user, buyer or not, observed and not projected: later ages rest on older "
        "users. Round the value its 95% interval. Costs are today's, values those of all users so far."
    )
    return make_table(shown, labels, name="value", numeric=tuple(labels)[1:], note=note)


def show_moved_users(model: GrowthModel) -> TableView | ListView:
    """Users who moved to the private domain against others like them."""
    moved = model.acquisition.moved
    if moved is None:
        return say_needed(model, "Users moved to the private domain")
    if not moved.compared_count:
        return ListView(["Nobody moved to the private domain long enough ago to be compared with others."])
    names = {
        "active_days_count": f"Active days in {moved.window_days} days",
        "still_active_rate": "Share active in the last 7 of them",
        "margin_amount": f"Margin a user, {model.currency}",
    }
    means = moved.means.set_index("metric")
    rows = []
    for metric, estimate in moved.differences.items():
        unit = "rate" if metric.endswith("rate") else "ratio"
        key = metric if metric in means.index else estimate.name
        rows.append(
            {
                "metric": names.get(metric, metric),
                "moved": format_number(float(means.loc[key, "moved_mean"]), unit),  # type: ignore[arg-type]
                "others": format_number(float(means.loc[key, "matched_mean"]), unit),  # type: ignore[arg-type]
                "difference": format_range(
                    estimate.value, estimate.low, estimate.high, form="+.2f", scale=100 if unit == "rate" else 1
                )
                + (" points" if unit == "rate" and estimate.known else ""),
            }
        )
    labels = {"metric": "Measure", "moved": "Moved", "others": "Others like them", "difference": "Difference [95%]"}
    note = (
        f"{moved.compared_count:,} of {moved.movers_count:,} who moved; {moved.waiting_count:,} moved less than "
        f"{moved.window_days} days ago, {moved.not_active_count:,} were not active that day, "
        f"{moved.unmatched_count:,} had nobody like them. An association: nobody was moved by lot."
    )
    return make_table(pd.DataFrame(rows), labels, name="moved-users", numeric=tuple(labels)[1:], note=note)


def show_referral(model: GrowthModel) -> TableView | ListView:
    """Users brought by users, by kind of reward."""
    result = model.acquisition.referral
    if result is None:
        return say_needed(model, "Users brought by users")
    if result.by_kind.empty:
        return ListView(["Nobody was brought by another user in these days."])
    frame = result.by_kind
    shown = pd.DataFrame({"kind": frame["kind"], "joined": frame["joined_count"].map("{:,}".format)})
    rows = frame[["d7_rate", "d7_low", "d7_high"]].itertuples(index=False)
    shown["d7"] = [format_range(*row, form=".1%") for row in rows]
    labels = {"kind": "Kind", "joined": "Users brought", "d7": "Back on day 7 [95%]"}
    if "reward_amount" in frame.columns:
        shown["reward"] = [format_number(x, "amount") for x in frame["reward_amount"]]
        columns = [f"cost_per_retained_{part}" for part in ("amount", "low", "high")]
        shown["cost"] = [_format_cost(*row) for row in frame[columns].itertuples(index=False)]
        labels |= {"reward": f"Rewards, {model.currency}", "cost": f"{model.currency} per user back on day 7"}
    parts = []
    if result.k_cohort.known:
        parts.append(
            f"A new user brings {format_estimate(result.k_cohort)} others within {result.window_days} days (K)"
        )
    if 0.5 in result.cycle and result.cycle[0.5].known:
        parts.append(
            f"half of the users brought came within {result.cycle[0.5].value:,.0f} days of their inviter's first day"
        )
    note = "; ".join([*parts, "rewards are counted whole: some would have come anyway, which only a holdout tells"])
    return make_table(shown, labels, name="referral", numeric=tuple(labels)[1:], note=f"{note[0].upper()}{note[1:]}.")


def _show_groups(result: ChannelsResult, title: str, name: str, note: str) -> TableView:
    frame = result.by_group
    shown = pd.DataFrame({"group": frame["group"]})
    counts = zip(frame["new_users_count"], frame["new_users_rate"], strict=True)
    shown["new"] = [f"{n:,} ({format_number(r, 'rate')})" for n, r in counts]
    labels = {"group": title, "new": "New users (share)"}
    for key, words in (("activated", "Activated"), ("d7", "Back on day 7"), ("d30", "Back on day 30")):
        shown[key] = format_shares(frame[f"{key}_rate"], frame[f"{key}_mature_count"])
        labels[key] = words
    if "spend_amount" in frame.columns and frame["spend_amount"].notna().any():
        spend = zip(frame["spend_amount"], frame["spend_rate"], strict=True)
        shown["spend"] = [MISSING if pd.isna(x) else f"{x:,.0f} ({format_number(r, 'rate')})" for x, r in spend]
        labels["spend"] = "Spend (share)"
        for key, words in (("cac", "Cost per new user"), ("cost_per_activated", "per activated"),
                           ("cost_per_d7", "per user back on day 7"), ("cost_per_d30", "on day 30")):  # fmt: skip
            costs = frame[[f"{key}_amount", f"{key}_low", f"{key}_high"]].itertuples(index=False)
            shown[key] = [_format_cost(*row) for row in costs]
            labels[key] = words
    return make_table(shown, labels, name=name, numeric=tuple(labels)[1:], note=note)


def _say_concentration(result: ChannelsResult) -> str:
    parts = []
    for kind, words in (("spend", "of the spend"), ("new_users", "of new users")):
        found = result.concentration.get(kind)
        if found is not None and found.largest is not None and found.index.known and found.largest_rate.known:
            index, share = f"{found.index.value:,.0f}", format_number(found.largest_rate.value, "rate")
            parts.append(f"{share} {words} is {found.largest}'s (concentration {index} of 10,000)")
    return f"{'; '.join(parts)}." if parts else ""


def _format_cost(value: float, low: float, high: float) -> str:
    if pd.isna(value):
        return MISSING if pd.isna(low) else f"at least {format_number(low, 'amount')}"
    return f"{format_number(value, 'amount')} [{format_number(low, 'amount')} to {format_number(high, 'amount')}]"
