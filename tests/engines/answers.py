"""What engines are asked: every public measure and explanation, on one company.

`ANSWERS` holds functions `Data -> result`, by name; `decisions` has whole investigations, `compare` says where two
results differ.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import ibis.expr.types as ir

from opslib.data.periods import DAY, Period
from opslib.data.source import Data
from opslib.decide.costs import find_channels, find_rewards, find_spend
from opslib.decide.scope import Scope, choose_scope
from opslib.decide.series.reader import SeriesReader, open_reader
from opslib.explain import activation, causes, causes_cases, causes_expiry, change, outcomes, portrait, totals
from opslib.measure import (
    acquisition,
    activity,
    channels,
    cohorts,
    economics,
    growth,
    lifetime_value,
    moved_users,
    referral,
    retention,
    revenue,
    satisfaction,
    segments,
    states,
    tiers,
    voice,
)
from opslib.measure.bridge.bridge import measure_bridge
from opslib.measure.churn.definition import define_churn, define_churn_by_subscription, find_spells
from opslib.measure.churn.rates import measure_churn
from opslib.measure.experiment.experiment import Behavior, Metric, measure_experiment, read_experiment
from opslib.measure.experiment.rehearsal import rehearse_experiment
from opslib.measure.funnel.arrivals import list_arrivals
from opslib.measure.funnel.follow import list_dropped_users, measure_conversion_curve
from opslib.measure.funnel.funnel import measure_funnel
from opslib.measure.funnel.steps import Exclusion, Step
from opslib.measure.purchase_model.check import check_purchase_model
from opslib.measure.purchase_model.purchase_model import fit_purchase_model
from opslib.measure.recall.arms import assign_arm
from opslib.measure.recall.recall import measure_recall
from opslib.measure.recall.uplift import measure_uplift
from opslib.measure.rfm.concentration import measure_concentration
from opslib.measure.rfm.customers import label_customers, score_customers, summarize_customers
from opslib.measure.rfm.migration import measure_rfm_migration
from opslib.measure.rfm.rfm import measure_rfm
from opslib.measure.survival.lifetimes import find_lifetimes
from opslib.measure.survival.survival import measure_survival

Ask = Callable[[Data], Any]

ANSWERS: dict[str, Ask] = {}
# These give a table of users on purpose; nothing of it is fetched before somebody exports it.
LISTS_USERS: set[str] = set()

PATH = ("view_item", "add_to_cart", "begin_checkout", "pay")
WEEK = dt.timedelta(days=7)


def answer(ask: Ask) -> Ask:
    """Register a question that every engine answers alike."""
    ANSWERS[ask.__name__] = ask
    return ask


def answer_users(ask: Ask) -> Ask:
    """Register a question whose answer lists users."""
    LISTS_USERS.add(ask.__name__)
    return answer(ask)


# What the questions are asked about.


def _now(data: Data) -> Period:
    days = min(91, data.span.days // 2)
    return Period(data.span.end - days * DAY, data.span.end, "now")


def _before(data: Data) -> Period:
    now = _now(data)
    return Period(now.start - now.days * DAY, now.start, "before")


def _month(data: Data) -> Period:
    """A month that is long enough ago for what follows it to be known."""
    end = data.span.end - 60 * DAY
    return Period(end - 30 * DAY, end, "month")


def _options(data: Data) -> dict[str, Any]:
    return {"as_of": data.as_of, "calendar": data.calendar}


def _funnel(data: Data) -> dict[str, Any]:
    return {"period": _month(data), "window": WEEK, **_options(data)}


def _costs(data: Data) -> dict[str, Any]:
    return {"as_of": data.as_of, "channels": find_channels(data), "spend": find_spend(data, "")}


def _scope(data: Data) -> Scope:
    return choose_scope(data)


def _signups(data: Data) -> ir.Table:
    users = data.table("users")
    return users.select("user_id", day=data.calendar.local_day(users.signup_at))


def _arms(data: Data) -> tuple[str, str]:
    """The experiment that most users entered, and its first arm by name."""
    counted = data.table("exposures").group_by("experiment", "variant").aggregate(n=lambda t: t.count())
    rows = data.execute(counted.order_by([counted.n.desc(), "experiment", "variant"]))
    name = rows["experiment"].iloc[0]
    return name, sorted(rows.loc[rows["experiment"] == name, "variant"])[0]


def _plan_shares(data: Data, name: str, control: str) -> dict[str, float]:
    """Shares that nobody would have planned for what the arms got, so that the split does not match."""
    rows = data.table("exposures")
    arms = sorted(data.execute(rows.filter(rows.experiment == name).select("variant").distinct())["variant"])
    return {arm: 0.98 if arm == control else 0.02 / (len(arms) - 1) for arm in arms}


# Who is active.


@answer
def activity_of_a_quarter(data: Data) -> Any:
    return activity.measure_activity(data.active_days, _now(data))


@answer
def activity_by_segment(data: Data) -> Any:
    labelled = activity.label_segments(data.active_days, data.attributes, "channel", top=3)
    return activity.measure_activity_by_segment(labelled, _now(data))


@answer
def stickiness(data: Data) -> Any:
    return activity.measure_stickiness(data.active_days, data.as_of)


@answer
def days_active(data: Data) -> Any:
    return activity.measure_days_active(data.active_days, last_day=data.as_of)


@answer
def active_intervals(data: Data) -> Any:
    days, now = data.active_days, _now(data)
    return [
        activity.count_active_intervals(days, now, every=2),
        activity.count_active_intervals(days, now, grain="week", criterion=("at_least", 2)),
        activity.count_active_intervals(days, now, grain="month", cumulative=True),
    ]


@answer
def growth_accounting(data: Data) -> Any:
    labelled = activity.label_segments(data.active_days, data.attributes, "platform")
    return [
        growth.account_growth(data.active_days, data.span, grain="day"),
        growth.account_growth(data.active_days, data.span, grain="week"),
        growth.account_growth(data.active_days, data.span, grain="month"),
        growth.account_growth(labelled, data.span, grain="quarter", by="segment"),
    ]


@answer
def tiers_of_users(data: Data) -> Any:
    return [
        tiers.measure_tiers(data.active_days, data.span, as_of=data.as_of, signups=_signups(data)),
        tiers.measure_tiers(data.active_days, data.span, grain="month"),
    ]


@answer_users
def tier_of_each_user(data: Data) -> Any:
    return tiers.label_tiers(data.active_days, data.span)


@answer
def state_rates(data: Data) -> Any:
    return states.measure_state_rates(data.active_days, data.span)


@answer
def bridge(data: Data) -> Any:
    now, before = _now(data), _before(data)
    openings = {
        "opening_now": Period(now.start - 28 * DAY, now.start, ""),
        "opening_before": Period(before.start - 28 * DAY, before.start, ""),
    }
    orders = data.table("orders")
    return [
        measure_bridge(data.active_days, now, before, **openings, draws=50),
        measure_bridge(data.active_days, now, before, **openings, orders=orders, calendar=data.calendar, draws=50),
    ]


# Who stays.


@answer
def retention_of_a_quarter(data: Data) -> Any:
    return retention.measure_retention(data.active_days, _now(data), as_of=data.as_of)


@answer
def cohorts_of_days(data: Data) -> Any:
    days, options = data.active_days, {"period": _now(data), "as_of": data.as_of}
    return [
        cohorts.measure_cohorts(days, intervals=14, **options),
        cohorts.measure_cohorts(days, kind="rolling", intervals=14, **options),
        cohorts.measure_cohorts(days, kind="bracket", **options),
        cohorts.measure_cohorts(days, grain="week", intervals=6, minimum_returns=2, **options),
        cohorts.measure_cohorts(days, grain="month", intervals=3, cohorts="each", **options),
        cohorts.measure_cohorts(days, grain="week", attributes=data.attributes, by="channel", intervals=3, **options),
    ]


@answer
def cohorts_of_moments(data: Data) -> Any:
    starts, orders = data.table("events"), data.table("orders")
    options = {"period": _now(data), **_options(data)}
    return [
        cohorts.measure_cohorts(starts, orders, grain="week", intervals=4, **options),
        cohorts.measure_cohorts(starts, orders, grain="24h", intervals=7, **options),
    ]


@answer
def behaviours_that_go_with_staying(data: Data) -> Any:
    events, days = data.table("events"), data.active_days
    return [
        activation.rank_behaviors(events, days, _month(data), minimum=5, **_options(data)),
        activation.rank_behaviors(events, days, _month(data), attributes=data.attributes, minimum=5, **_options(data)),
    ]


# What growth costs.


@answer
def acquisition_of_a_quarter(data: Data) -> Any:
    rewards = find_rewards(data, _now(data), "")
    return [
        acquisition.measure_acquisition(data.active_days, _now(data), rewards=rewards, **_costs(data)),
        acquisition.measure_budget_shift(data.active_days, _now(data), _before(data), **_costs(data)),
    ]


@answer
def channels_of_a_quarter(data: Data) -> Any:
    rewards = find_rewards(data, _now(data), "")
    groups = data.attributes.select("user_id", group="domain")
    events = data.table("events")
    activated = events.filter(events.event == PATH[-1]).select("user_id", day=data.calendar.local_day(events.ts))
    return [
        channels.measure_channels(data.active_days, _now(data), rewards=rewards, **_costs(data)),
        channels.measure_channels(data.active_days, _now(data), groups=groups, activation=activated, **_costs(data)),
    ]


@answer
def value_of_users(data: Data) -> Any:
    return lifetime_value.measure_lifetime_value(
        data.table("orders"),
        retention.find_first_days(data.active_days),
        breakdown=data.attributes.select("user_id", group="channel"),
        **_options(data),
    )


@answer
def moved_users_against_others(data: Data) -> Any:
    return moved_users.measure_moved_users(
        data.active_days,
        retention.find_first_days(data.active_days),
        data.attributes.select("user_id", moved_at="private_since"),
        orders=data.table("orders"),
        **_options(data),
    )


@answer
def referrals(data: Data) -> Any:
    return referral.measure_referral(data.table("referrals"), data.active_days, _now(data), **_options(data))


@answer
def revenue_of_a_quarter(data: Data) -> Any:
    return revenue.measure_revenue(data.table("orders"), data.active_days, _now(data), calendar=data.calendar)


@answer
def economics_of_a_quarter(data: Data) -> Any:
    orders = data.table("orders")
    return economics.measure_economics(data.active_days, _now(data), calendar=data.calendar, orders=orders)


# The funnel.


@answer
def funnel(data: Data) -> Any:
    return measure_funnel(data.table("events"), PATH, **_funnel(data))


@answer
def funnel_by_segment(data: Data) -> Any:
    events = data.table("events")
    return [
        measure_funnel(events, PATH[1:], breakdown="platform", attribution="last", **_funnel(data)),
        measure_funnel(events, PATH[1:], breakdown="channel", attributes=data.attributes, **_funnel(data)),
    ]


@answer
def funnel_in_any_order(data: Data) -> Any:
    return [
        measure_funnel(data.table("events"), PATH[1:], order="any", **_funnel(data)),
        measure_funnel(data.table("events"), PATH[1:], order="strict", **_funnel(data)),
    ]


@answer
def funnel_with_limits(data: Data) -> Any:
    hour = dt.timedelta(hours=1)
    steps = [PATH[0], Step(PATH[1], where={"platform": ["ios", "android"]}, at_most=48 * hour), Step(PATH[3])]
    return [
        measure_funnel(data.table("events"), steps, exclusions=[Exclusion("error_shown")], **_funnel(data)),
        measure_funnel(data.table("events"), [PATH[0], PATH[1], PATH[0]], **_funnel(data)),
    ]


@answer
def funnel_of_attempts(data: Data) -> Any:
    return [
        measure_funnel(data.table("events"), PATH[1:], unit="attempts", trend="week", **_funnel(data)),
        measure_funnel(data.table("events"), PATH[1:], reentry="after", trend="day", **_funnel(data)),
    ]


@answer
def funnel_of_sessions(data: Data) -> Any:
    return [
        measure_funnel(data.table("events"), PATH[:3], unit="sessions", **_funnel(data)),
        measure_funnel(data.table("events"), PATH[:2], hold="platform", **_funnel(data)),
    ]


@answer
def conversion_curve(data: Data) -> Any:
    return measure_conversion_curve(data.table("events"), PATH[1:], **_funnel(data))


@answer_users
def dropped_users(data: Data) -> Any:
    return list_dropped_users(data.table("events"), PATH, step=2, **_funnel(data))


@answer_users
def arrivals(data: Data) -> Any:
    options = {"step": 2, "columns": ["platform"], **_funnel(data)}
    return [
        list_arrivals(data.table("events"), PATH[1:], **options),
        list_arrivals(data.table("events"), PATH[1:], unit="attempts", **options),
    ]


# Why a number moved.


@answer
def change_of_retention(data: Data) -> Any:
    dimensions = ["channel", "platform", "city_tier"]
    counts = [
        outcomes.count_outcomes(
            outcomes.mark_returned(data.active_days, data.attributes, period, as_of=data.as_of),
            dimensions=dimensions,
            numerator="returned",
        )
        for period in (_before(data), _now(data))
    ]
    return [
        *counts,
        change.explain_change(*counts, dimensions=dimensions, numerator="returned", denominator="users_count"),
    ]


@answer
def change_of_a_total(data: Data) -> Any:
    orders = data.table("orders")
    joined = orders.inner_join(data.attributes.select("user_id", "channel", "platform"), "user_id")
    day = data.calendar.local_day(joined.ts)
    sides = [joined.filter(day >= p.start, day < p.end) for p in (_before(data), _now(data))]
    summed = [
        side.group_by("channel", "platform").aggregate(
            amount=side.amount.sum(), squares=(side.amount * side.amount).sum()
        )
        for side in sides
    ]
    return totals.explain_total(
        *summed, dimensions=["channel", "platform"], amount="amount", squares="squares", days=(91, 91)
    )


@answer
def change_from_tables(data: Data) -> Any:
    rows = outcomes.mark_returned(data.active_days, data.attributes, _now(data), as_of=data.as_of, day=7)
    counted = rows.group_by("channel", "platform").aggregate(back=rows.returned.sum(), users=rows.count())
    sides = [counted.filter(counted.platform != "web"), counted]
    return change.explain_change(*sides, dimensions=["channel", "platform"], numerator="back", denominator="users")


@answer
def portrait_of_a_segment(data: Data) -> Any:
    return [
        portrait.describe_segment(data.attributes, "channel:search"),
        portrait.describe_segment(
            data.attributes,
            lambda t: t.platform == "ios",
            period=_now(data),
            active_days=data.active_days,
            events=data.table("events"),
            orders=data.table("orders"),
            calendar=data.calendar,
        ),
    ]


@answer
def causes_of_leaving(data: Data) -> Any:
    period = Period(data.span.end - 120 * DAY, data.span.end - 60 * DAY, "two months")
    cases = causes_cases.choose_cases(
        data.active_days, period, signups=data.attributes.select("user_id", "signup_at"), inactive_days=30,
        **_options(data),
    )  # fmt: skip
    names = ("events", "coupons", "tickets", "orders", "messages")
    tables = {name: data.table(name) for name in names}
    return causes.find_causes(cases, tables, calendar=data.calendar, minimum=5)


@answer
def reasons_that_are_columns(data: Data) -> Any:
    users = data.attributes
    flags = users.mutate(
        left=users.user_id % 3 == 0, searched=users.channel == "search", young=users.age_band.fill_null("") < "25"
    )
    return causes.compare_reasons(flags, left="left", reasons=["searched", "young"], strata=["platform"])


@answer
def leaving_when_coupons_expire(data: Data) -> Any:
    return causes_expiry.check_expiry(
        data.active_days, data.table("coupons"), _month(data), minimum=5, **_options(data)
    )


# Who leaves and when.


@answer
def churn_by_silence(data: Data) -> Any:
    definition = define_churn(data.active_days, **_options(data))
    fixed = define_churn(data.active_days, inactive_days=30, **_options(data))
    spells = find_spells(data.active_days, fixed, calendar=data.calendar)
    return [
        definition,
        measure_churn(spells, fixed),
        measure_churn(spells, fixed, grain="week", attributes=data.attributes, by="channel"),
    ]


@answer
def churn_by_orders(data: Data) -> Any:
    orders = data.table("orders")
    definition = define_churn(orders, basis="orders", inactive_days=60, **_options(data))
    return [definition, measure_churn(find_spells(orders, definition, calendar=data.calendar), definition)]


@answer
def churn_by_subscription(data: Data) -> Any:
    coupons = data.table("coupons")
    contracts = coupons.select("user_id", start_at="issued_at", end_at="expires_at")
    definition = define_churn_by_subscription(contracts, as_of=data.as_of)
    lives = find_lifetimes(contracts, definition, calendar=data.calendar)
    return [definition, measure_survival(lives)]


@answer
def survival(data: Data) -> Any:
    definition = define_churn(data.active_days, inactive_days=30, **_options(data))
    options: dict[str, Any] = {"payments": data.table("orders"), "calendar": data.calendar}
    lives = find_lifetimes(data.active_days, definition, attributes=data.attributes, by="channel", **options)
    after = find_lifetimes(
        data.active_days, definition, origins=data.table("orders"), origin="each", calendar=data.calendar
    )
    spells = find_lifetimes(data.active_days, definition, leaving="first", **options)
    return [
        measure_survival(lives, nodes={"day 7": (6, 8)}),
        measure_survival(lives, by="segment", hazard_every=7),
        measure_survival(after),
        measure_survival(spells),
    ]


# Customers.


@answer
def rfm_of_customers(data: Data) -> Any:
    orders = data.table("orders")
    return [
        measure_rfm(orders, **_options(data)),
        measure_rfm(orders, split="median", scores=3, **_options(data)),
        measure_concentration(orders, **_options(data)),
    ]


@answer
def rfm_moves(data: Data) -> Any:
    orders, now = data.table("orders"), _now(data)
    first = retention.find_first_days(data.active_days)
    ends: dict[str, Any] = {"before": now.start, "now": now.last_day, "calendar": data.calendar}
    return [
        measure_rfm_migration(orders, first_days=first, **ends),
        measure_rfm_migration(orders, by="cell", **ends),
    ]


@answer_users
def rfm_of_each_customer(data: Data) -> Any:
    orders = data.table("orders")
    return [label_customers(orders, **_options(data)), score_customers(summarize_customers(orders, **_options(data)))]


@answer
def purchase_model(data: Data) -> Any:
    orders = data.table("orders")
    return [fit_purchase_model(orders, **_options(data)), check_purchase_model(orders, **_options(data))]


@answer
def value_of_segments(data: Data) -> Any:
    return segments.measure_segment_value(data.table("orders"), **_options(data))


@answer_users
def value_of_each_customer(data: Data) -> Any:
    return segments.list_customers(data.table("orders"), draws=20, **_options(data))


# Experiments and recalls.


@answer
def experiment(data: Data) -> Any:
    name, control = _arms(data)
    week = Behavior("orders", how="sum", column="amount", days=(0, 7))
    metrics = [
        Metric("pay_rate", Behavior("events", (PATH[-1],)), role="primary"),
        Metric("revenue_amount", week, before=28, cap=500.0),
        Metric("active_days", Behavior("events", how="days", clock="day")),
        Metric("items_count", Behavior("events", how="distinct", column="item_category")),
        Metric("order_amount", week, per=Behavior("orders", how="rows", days=(0, 7))),
    ]
    return measure_experiment(
        data.table("exposures"),
        {"events": data.table("events"), "orders": data.table("orders")},
        experiment=name,
        metrics=metrics,
        control=control,
        attributes=data.attributes,
        attribute_columns=["channel", "platform"],
        **_options(data),
    )


@answer
def experiment_with_lopsided_arms(data: Data) -> Any:
    name, control = _arms(data)
    return measure_experiment(
        data.table("exposures"),
        {"events": data.table("events")},
        experiment=name,
        metrics=[Metric("pay_rate", Behavior("events", (PATH[-1],)), role="primary")],
        control=control,
        shares=_plan_shares(data, name, control),
        attributes=data.attributes,
        attribute_columns=["channel"],
        **_options(data),
    )


@answer
def experiment_from_a_table(data: Data) -> Any:
    users = data.attributes
    table = users.select(
        "user_id",
        variant=(users.user_id % 2 == 0).ifelse("a", "b"),
        stayed=users.channel == "search",
        weight=(users.user_id % 7).cast("float64"),
    )
    metrics = [Metric("stay_rate", "stayed", role="primary"), Metric("weight_count", "weight")]
    return read_experiment(table, metrics=metrics, control="a", user="user_id")


@answer
def rehearsal(data: Data) -> Any:
    users = data.attributes
    starts = users.select("user_id", ts="signup_at")
    metrics = [Metric("pay_rate", Behavior("orders", days=(0, 7)), role="primary")]
    return rehearse_experiment(starts, {"orders": data.table("orders")}, metrics=metrics, splits=20, **_options(data))


@answer
def recall(data: Data) -> Any:
    name, control = _arms(data)
    rows = data.table("exposures")
    other = data.execute(rows.filter(rows.experiment == name, rows.variant != control).variant.min())
    return measure_recall(
        rows,
        {"orders": data.table("orders")},
        experiment=name,
        treated=other,
        holdout=control,
        segments=data.attributes.select("user_id", segment="channel"),
        messages=data.table("messages"),
        message_costs={"push": 0.0, "sms": 0.05},
        minimum=5,
        **_options(data),
    )


@answer
def uplift(data: Data) -> Any:
    users = data.attributes
    spent = data.table("orders").group_by("user_id").aggregate(amount=lambda t: t.amount.sum())
    joined = users.left_join(spent, "user_id")
    table = joined.select(
        "user_id",
        treated=assign_arm(joined.user_id, holdout=0.5, seed=3) == "treated",
        outcome=joined.amount.fill_null(0.0) > 50,
        score=joined.amount.fill_null(0.0),
        segment=joined.channel.fill_null("none"),
    )
    return [measure_uplift(table, score="score"), measure_uplift(table, segment="segment")]


# What users say.


@answer
def complaints(data: Data) -> Any:
    tickets = data.table("tickets")
    by = ["channel", "platform"]
    return [
        voice.measure_complaints(tickets, data.active_days, _now(data), calendar=data.calendar),
        voice.measure_complaints(
            tickets, data.active_days, _now(data), calendar=data.calendar, attributes=data.attributes, by=by
        ),
        voice.measure_tickets(tickets, _now(data), **_options(data)),
    ]


@answer
def satisfaction_of_users(data: Data) -> Any:
    surveys, days = data.table("surveys"), data.active_days
    return satisfaction.measure_satisfaction(surveys, _now(data), calendar=data.calendar, active_days=days)


# Series of each metric.


def _read(data: Data, *metrics: str, **options: Any) -> Any:
    reader: SeriesReader = open_reader(data, data.as_of)
    return [reader.read(metric, **options) for metric in metrics]


@answer
def series_of_activity(data: Data) -> Any:
    metrics = ("dau_count", "mau_count", "stickiness_rate", "new_users_count", "d1_rate", "d7_rate", "d30_rate")
    return [_read(data, *metrics, grain="week"), _read(data, "dau_count", "d1_rate", grain="week", by="channel")]


@answer
def series_of_churn(data: Data) -> Any:
    return _read(data, "churn_rate", grain="month")


@answer
def series_of_money(data: Data) -> Any:
    orders = ("orders_count", "paying_users_count", "paying_rate", "revenue_amount")
    costs = ("cac_amount", "cost_per_d7_amount", "spend_amount", "spend_share_rate")
    by_channel = _read(data, "cost_per_d7_amount", "spend_share_rate", grain="month", by="channel")
    return [_read(data, *orders, *costs, grain="month"), by_channel]


@answer
def series_of_behaviour(data: Data) -> Any:
    return [
        _read(data, "event_rate", event=PATH[-1], grain="week"),
        _read(data, "funnel_rate", "dwell_minutes_mean", grain="week"),
    ]


@answer
def series_of_voice(data: Data) -> Any:
    tickets = ("tickets_count", "complaints_count", "complaint_rate")
    return _read(data, *tickets, "satisfaction_rate", "nps_ratio", grain="week")


@answer
def series_of_traffic(data: Data) -> Any:
    return _read(data, "requests_count", "error_rate", "p95_ms_mean", grain="day")
