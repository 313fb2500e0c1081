"""Metrics as series: each against counting by hand, against the other measures, on real data and the sample company."""

from __future__ import annotations

import datetime as dt
import json
import math
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from opslib.data.guess import write_playbook
from opslib.data.operations import METRICS
from opslib.data.periods import DAY, Period, Quarter
from opslib.data.source import Data, open_data
from opslib.decide.costs import find_channels, find_rewards
from opslib.decide.funnel.path import choose_path, gather_events
from opslib.decide.scope import choose_scope
from opslib.decide.series import SeriesReader
from opslib.errors import InputError
from opslib.measure.acquisition import measure_acquisition
from opslib.measure.activity import label_segments, measure_activity
from opslib.measure.funnel.funnel import measure_funnel
from opslib.measure.growth import account_growth
from opslib.measure.retention import measure_retention
from opslib.measure.revenue import measure_revenue
from opslib.measure.series.series import COLUMNS, MetricSeries
from tests.decide.conftest import Company

ROOT = Path(__file__).resolve().parents[2]
HEAD = "user_id,ts,event"
TICKETS = "ticket_id,user_id,opened_at,is_complaint"


def rows(days: dict[int, str]) -> Iterator[str]:
    """Events at noon: user -> days of January 2026, such as "1 2 8"."""
    return (f"{user},2026-01-{int(d):02} 12:00:00,open" for user, text in days.items() for d in text.split())


def read(data: Data, metric: str, **options: Any) -> MetricSeries:
    return SeriesReader(data, minimum=1).read(metric, **options)


def values(series: MetricSeries, group: str = "") -> dict[str, float]:
    """Known values by the first day of the period."""
    frame = series.of(group)
    known = frame[frame["status"] == "known"]
    return dict(zip(known["period_start"].dt.date.astype(str), known["value"], strict=True))


def statuses(series: MetricSeries, group: str = "") -> list[str]:
    return list(series.of(group)["status"])


@pytest.fixture(scope="module")
def sample() -> SeriesReader:
    return SeriesReader(open_data(ROOT / "playbook.toml"))


@pytest.fixture(scope="module")
def truth() -> dict[str, dict[str, Any]]:
    found = json.loads((ROOT / "data" / "samples" / "truth.json").read_text("utf-8"))
    return {incident["id"]: incident for incident in found["incidents"]}


# By hand


def test_active_and_new_users_by_day(company: Company) -> None:
    data = company(events=(HEAD, rows({1: "1 2 4", 2: "2", 3: "1 4"})), until="2026-01-04")
    data_until = read(data, "dau_count")
    assert data_until.of()["value"].tolist()[:3] == [2, 2, 0]
    assert read(data, "new_users_count").of()["numerator"].tolist()[:3] == [2, 1, 0]


def test_a_row_for_every_day_and_group(company: Company) -> None:
    users = ("user_id,signup_at,channel", ["1,2026-01-01,ads", "2,2026-01-01,search", "3,2026-01-01,"])
    data = company(events=(HEAD, rows({1: "1 2 4", 2: "2", 4: "1", 3: "10"})), users=users)
    series = read(data, "dau_count", by="channel")
    assert series.groups == ["(not given)", "ads", "search"]
    assert list(series.frame.columns) == list(COLUMNS)
    assert len(series.frame) == 9 * 3  # the tenth day ends at noon
    assert series.frame["period_start"].is_monotonic_increasing
    assert series.of("ads")["value"].tolist() == [1, 1, 0, 1, 0, 0, 0, 0, 0]
    assert series.of("(not given)")["value"].tolist()[0] == 1
    assert read(data, "dau_count", segment="channel:search").of()["value"].sum() == 1


def test_groups_that_nobody_is_in_are_left_out(company: Company) -> None:
    users = ("user_id,signup_at,channel", ["1,2026-01-01,ads", "2,2026-01-01,search"])
    data = company(events=(HEAD, rows({1: "1 2 4", 2: "2 9"})), users=users)
    for metric in ("dau_count", "d1_rate", "new_users_count", "mau_count"):
        assert read(data, metric, by="channel").groups == ["ads", "search"]


def test_many_groups_are_summed_up(company: Company) -> None:
    users = [f"{u},2026-01-01,c{min(u, 40):02}" for u in range(1, 50)]
    data = company(events=(HEAD, rows(dict.fromkeys(range(1, 50), "1 9"))), users=("user_id,signup_at,channel", users))
    series = read(data, "dau_count", by="channel")
    assert len(series.groups) == 31
    assert series.groups[0] == "(other)"
    assert "c40" in series.groups  # ten users
    assert series.of("(other)")["value"].iloc[0] == 10
    assert series.frame.groupby("period_start")["value"].sum().iloc[0] == 49


def test_weeks_and_months_that_are_not_whole(company: Company) -> None:
    days = (f"1,{dt.date(2026, 1, 7) + n * DAY} 12:00:00,open" for n in range(50))
    data = company(events=(HEAD, days))  # 7 January (a Wednesday) to 24 February, the day before the last
    weeks = read(data, "dau_count", grain="week")
    assert statuses(weeks) == ["partial", *["known"] * 6, "partial"]
    assert set(values(weeks).values()) == {1.0}
    assert weeks.of()["known_on"].iloc[1] == pd.Timestamp("2026-01-18")
    assert statuses(read(data, "new_users_count", grain="month")) == ["partial", "partial"]
    sunday = company(events=(HEAD, [f"1,{dt.date(2026, 1, 7) + n * DAY} 23:30:00,open" for n in range(25)]))
    assert statuses(read(sunday, "dau_count", grain="week")) == ["partial", "known", "known", "partial"]


def test_day_and_week_begin_in_the_playbooks_zone(company: Company) -> None:
    # The clocks of London go forward on 29 March 2026 at 01:00 UTC: that day has 23 hours.
    times = ["2026-03-28 23:59:59", "2026-03-29 00:30:00", "2026-03-29 22:59:59", "2026-03-29 23:00:00"]
    events = [f"{u},{at},open" for u, at in enumerate(times)] + ["9,2026-03-30 22:59:00,open"]
    data = company(zone="Europe/London", events=(HEAD, events))
    assert values(read(data, "dau_count")) == {"2026-03-28": 1, "2026-03-29": 2, "2026-03-30": 2}
    assert data.as_of == dt.date(2026, 3, 30)


def test_retention_is_known_when_all_have_had_the_day(company: Company) -> None:
    data = company(events=(HEAD, rows({1: "1 2", 2: "1 8", 3: "2 9", 4: "3 4", 9: "10 11"})))
    one, seven = read(data, "d1_rate"), read(data, "d7_rate")
    assert values(one) == {"2026-01-01": 0.5, "2026-01-02": 0.0, "2026-01-03": 1.0}
    assert statuses(one)[3:] == ["too few"] * 6 + ["immature"]
    assert values(seven) == {"2026-01-01": 0.5, "2026-01-02": 1.0, "2026-01-03": 0.0}
    assert statuses(seven)[3:] == ["immature"] * 7
    assert seven.of()["known_on"].iloc[0] == pd.Timestamp("2026-01-08")


def test_churn_is_of_whole_periods(company: Company) -> None:
    # Mondays: 5, 12, 19, 26 January 2026.
    data = company(events=(HEAD, rows({1: "5 13 20", 2: "6 26", 3: "7 14", 4: "19 26 31"})))
    series = read(data, "churn_rate", grain="week")
    assert values(series) == {"2026-01-12": 1 / 3, "2026-01-19": 0.5}
    assert statuses(series) == ["partial", "known", "known", "partial"]
    with pytest.raises(InputError, match="by week and by month"):
        read(data, "churn_rate")


def test_share_of_active_users_with_an_event(company: Company) -> None:
    events = [*rows({1: "1 2", 2: "1", 3: "2 9"}), "1,2026-01-01 13:00:00,play", "1,2026-01-01 14:00:00,play"]
    data = company(events=(HEAD, events))
    series = read(data, "event_rate", event="play")
    assert list(values(series).items())[:2] == [("2026-01-01", 0.5), ("2026-01-02", 0.0)]
    with pytest.raises(InputError, match=r"no event 'plya'\. Did you mean 'play'"):
        read(data, "event_rate", event="plya")
    with pytest.raises(InputError, match="name an event"):
        read(data, "event_rate")
    # Who did it counts as active, also where the playbook leaves the event out.
    strict = company(
        events=(HEAD, [*events, "7,2026-01-01 14:00:00,play"]), more='[activity]\nexcept_events = ["play"]'
    )
    assert values(read(strict, "event_rate", event="play"))["2026-01-01"] == 2 / 3


def test_dwell_is_minutes_between_near_events(company: Company) -> None:
    times = ["1,2026-01-01 10:00:00", "1,2026-01-01 10:10:00", "1,2026-01-01 10:40:00", "1,2026-01-01 11:10:01"]
    times += ["2,2026-01-01 10:00:00", "2,2026-01-01 23:50:00", "2,2026-01-02 00:05:00", "1,2026-01-03 23:30:00"]
    data = company(events=(HEAD, [f"{t},open" for t in times]))
    series = read(data, "dwell_minutes_mean")
    # User 1: 10 + 30 minutes; the last pause is a second too long. User 2: 0, then 15 over midnight.
    assert values(series) == {"2026-01-01": 20.0, "2026-01-02": 15.0, "2026-01-03": 0.0}
    assert series.of()["standard_error"].iloc[0] == pytest.approx(math.sqrt(20**2 + 20**2) / 2)


def test_funnel_by_day_of_entry(company: Company) -> None:
    steps = '[funnels.buy]\nsteps = ["view", "cart", "pay"]\nwindow_days = 2\n'
    events = ["1,2026-01-01 10:00:00,view", "1,2026-01-01 11:00:00,cart", "1,2026-01-03 10:00:00,pay"]
    events += ["2,2026-01-01 10:00:00,view", "2,2026-01-01 11:00:00,cart", "2,2026-01-03 10:00:01,pay"]
    events += ["3,2026-01-01 10:00:00,view", "3,2026-01-02 10:00:00,view", "3,2026-01-02 11:00:00,cart"]
    events += ["4,2026-01-05 23:30:00,view"]
    data = company(events=(HEAD, events), more=steps)
    whole = read(data, "funnel_rate")
    assert values(whole) == {"2026-01-01": 1 / 3, "2026-01-02": 0.0}
    assert statuses(whole) == ["known", "known", "too few", "immature", "immature"]
    assert whole.of()["known_on"].iloc[0] == pd.Timestamp("2026-01-03")
    # User 3's view of the first day leads to the cart of the second.
    assert values(read(data, "funnel_rate", step=2)) == {"2026-01-01": 1.0, "2026-01-02": 1.0}
    assert values(read(data, "funnel_rate", step=3, funnel="buy")) == {"2026-01-01": 1 / 3, "2026-01-02": 0.0}
    for step in (1, 4):
        with pytest.raises(InputError, match="steps to go on to are 2 to 3"):
            read(data, "funnel_rate", step=step)
    with pytest.raises(InputError, match="no funnel 'bui'"):
        read(data, "funnel_rate", funnel="bui")


def test_orders_payers_and_revenue(company: Company) -> None:
    orders = ("user_id,ts,amount", ["1,2026-01-01 10:00:00,5", "1,2026-01-01 11:00:00,7", "9,2026-01-01 12:00:00,9"])
    data = company(events=(HEAD, rows({1: "1", 2: "1 3", 3: "1"})), orders=orders)
    assert values(read(data, "orders_count")) == {"2026-01-01": 3, "2026-01-02": 0}
    assert values(read(data, "paying_users_count")) == {"2026-01-01": 2, "2026-01-02": 0}
    revenue = read(data, "revenue_amount")
    assert values(revenue) == {"2026-01-01": 21, "2026-01-02": 0}
    assert revenue.of()["standard_error"].iloc[0] == pytest.approx(math.sqrt(12**2 + 9**2))
    # User 9 bought without an event: of four users two paid.
    assert values(read(data, "paying_rate")) == {"2026-01-01": 0.5}
    assert statuses(read(data, "paying_rate")) == ["known", "too few"]


def test_only_buyers_have_no_paying_rate(company: Company) -> None:
    data = company(orders=("user_id,ts,amount", ["1,2026-01-01 10:00:00,5", "2,2026-01-03 10:00:00,5"]))
    series = read(data, "paying_rate")
    assert len(series.frame) == 0
    assert "100%" in series.note
    assert values(read(data, "dau_count"))["2026-01-01"] == 1


def test_costs_are_of_channels_with_spend(company: Company) -> None:
    users = [f"{u},2026-01-01,{'ads' if u < 5 else 'social' if u < 7 else 'none'}" for u in range(1, 10)]
    spend = ["2026-01-01,ads,100", "2026-01-01,social,30", "2026-01-02,ads,50", "2026-01-02,none,0"]
    days = {u: "1 8" if u in (1, 2, 5) else "1 2" for u in range(1, 10)} | {99: "12"}
    referrals = ("inviter_id,invitee_id,ts,reward", ["1,7,2026-01-01 12:00:00,8", "1,8,2026-01-02 12:00:00,4"])
    data = company(
        events=(HEAD, rows(days)),
        users=("user_id,signup_at,channel", users),
        spend=("date,channel,amount", spend),
        referrals=referrals,
    )
    # The reward for user 7 makes "none" a channel with costs on the first day.
    assert values(read(data, "cac_amount")) == {"2026-01-01": 138 / 9}
    by = read(data, "cac_amount", by="channel")
    assert [values(by, g)["2026-01-01"] for g in ("ads", "none", "social")] == [25, 8 / 3, 15]
    assert values(read(data, "cac_amount", segment="channel:ads")) == {"2026-01-01": 25}
    kept = read(data, "cost_per_d7_amount", by="channel")
    assert values(kept, "ads") == {"2026-01-01": 50}
    assert values(kept, "social") == {"2026-01-01": 30}
    assert values(kept, "none") == {}
    assert kept.of("ads")["standard_error"].iloc[0] == pytest.approx(50 / math.sqrt(2))
    assert values(read(data, "spend_amount"))["2026-01-02"] == 50
    largest = read(data, "spend_share_rate")
    assert values(largest)["2026-01-01"] == pytest.approx(100 / 130)
    assert largest.of()["largest"].tolist()[:3] == ["ads", "ads", ""]
    assert values(read(data, "spend_share_rate", by="channel"), "social")["2026-01-01"] == pytest.approx(30 / 130)
    assert values(read(data, "spend_share_rate", segment="channel:social"))["2026-01-02"] == 0
    assert statuses(largest)[2:] == ["too few"] * 9


def test_spend_is_only_known_by_channel(company: Company) -> None:
    users = ("user_id,signup_at,channel,platform", ["1,2026-01-01,ads,ios"])
    spend = ("date,channel,amount", ["2026-01-01,ads,100"])
    data = company(events=(HEAD, rows({1: "1 3"})), users=users, spend=spend)
    for options in ({"by": "platform"}, {"segment": "platform:ios"}):
        for metric in ("cac_amount", "cost_per_d7_amount", "spend_amount", "spend_share_rate"):
            with pytest.raises(InputError, match="only known by channel"):
                read(data, metric, **options)
    with pytest.raises(InputError, match="nobody has channel 'adz'"):
        read(data, "spend_amount", segment="channel:adz")


def test_spend_without_channels_of_users(company: Company) -> None:
    spend = ("date,channel,amount", ["2026-01-01,ads,100", "2026-01-01,tv,20"])
    data = company(events=("user_id,ts,event", rows({1: "1", 2: "1", 3: "3"})), spend=spend)
    assert values(read(data, "cac_amount")) == {"2026-01-01": 60}
    assert read(data, "spend_amount", by="channel").groups == ["ads", "tv"]
    assert values(read(data, "spend_amount", segment="channel:tv"))["2026-01-01"] == 20
    with pytest.raises(InputError, match="nothing was spent on channel 'tb'"):
        read(data, "spend_amount", segment="channel:tb")


def test_complaints_are_counted_once(company: Company) -> None:
    tickets = ["a,1,2026-01-01 08:00:00,true", "b,1,2026-01-01 09:00:00,true", "b,1,2026-01-02 09:00:00,true"]
    tickets += ["c,2,2026-01-01 09:00:00,false", "d,2,2026-01-02 09:00:00,true"]
    data = company(events=(HEAD, rows({1: "1 2", 2: "1", 3: "1", 4: "1 2 4"})), tickets=(TICKETS, tickets))
    rate = read(data, "complaint_rate")
    assert values(rate) == {"2026-01-01": 0.25, "2026-01-02": 0.5}
    assert values(read(data, "complaints_count")) == {"2026-01-01": 2, "2026-01-02": 1, "2026-01-03": 0}
    assert values(read(data, "tickets_count")) == {"2026-01-01": 3, "2026-01-02": 1, "2026-01-03": 0}


def test_more_complain_than_are_active(company: Company) -> None:
    tickets = [f"{n},{n},2026-01-01 08:00:00,true" for n in range(3)]
    data = company(events=(HEAD, rows({1: "1 3"})), tickets=(TICKETS, tickets))
    assert values(read(data, "complaint_rate"))["2026-01-01"] == 1.0


def test_satisfaction_and_recommendation(company: Company) -> None:
    answers = [("csat", s) for s in (5, 4, 3, 1)] + [("nps", s) for s in (10, 9, 9, 8, 6)]
    rows_of = [f"{n},2026-01-01 08:00:00,{kind},{score}" for n, (kind, score) in enumerate(answers)]
    data = company(events=(HEAD, rows({1: "1 3"})), surveys=("user_id,ts,kind,score", rows_of))
    assert values(read(data, "satisfaction_rate")) == {"2026-01-01": 0.5}
    nps = read(data, "nps_ratio")
    assert values(nps) == {"2026-01-01": pytest.approx(0.4)}
    assert (nps.of()["numerator"].iloc[0], nps.of()["denominator"].iloc[0]) == (2, 5)
    assert nps.of()["standard_error"].iloc[0] == pytest.approx(math.sqrt((0.8 - 0.4**2) / 5))
    assert SeriesReader(data).read("nps_ratio").of()["status"].tolist() == ["too few"] * 2


def test_traffic_knows_no_users(company: Company) -> None:
    traffic = ["2026-01-01 00:00:00,100,1,200", "2026-01-01 12:00:00,300,3,400", "2026-01-02 12:00:00,50,,"]
    users = ("user_id,signup_at,channel", ["1,2026-01-01,ads"])
    data = company(events=(HEAD, rows({1: "1 3"})), users=users, traffic=("ts,requests,errors,p95_ms", traffic))
    assert values(read(data, "requests_count")) == {"2026-01-01": 400, "2026-01-02": 50}
    assert values(read(data, "error_rate")) == {"2026-01-01": 0.01}
    slow = read(data, "p95_ms_mean")
    assert values(slow) == {"2026-01-01": 350}
    assert slow.of()["standard_error"].iloc[0] == pytest.approx(math.hypot(100 * 150, 300 * 50) / 400)
    for options in ({"by": "channel"}, {"segment": "channel:ads"}):
        with pytest.raises(InputError, match="knows no users"):
            read(data, "error_rate", **options)
    short = company(events=(HEAD, rows({1: "1 3"})), traffic=("ts,requests", ["2026-01-01 00:00:00,100"]))
    assert "no column p95_ms" in read(short, "p95_ms_mean").note


# Missing days, tables and options


def test_a_missing_day_is_not_a_zero(company: Company) -> None:
    days = [d for d in range(1, 31) if d != 15]
    events = [f"{u},2026-01-{d:02} 12:00:00,open" for u in range(1, 13) for d in (*days, 31)]
    data = company(events=(HEAD, events), tickets=(TICKETS, ["a,1,2026-01-02 08:00:00,true"]))
    series = read(data, "dau_count")
    assert statuses(series)[14] == "no data"
    assert math.isnan(series.of()["value"].iloc[14])
    assert series.of()["numerator"].iloc[14] == 0
    week = read(data, "dau_count", grain="week")  # of 12 to 18 January
    assert values(week)["2026-01-12"] == 12
    assert read(data, "new_users_count", grain="week").of()["status"].iloc[2] == "partial"
    # A table with a row now and then is empty on most days.
    assert values(read(data, "tickets_count"))["2026-01-15"] == 0
    assert statuses(read(data, "complaint_rate"))[14] == "no data"
    # New users of the day before could not be seen to come back.
    assert statuses(read(data, "d1_rate"))[13] == "no data"


def test_a_weekend_without_anybody_is_a_zero(company: Company) -> None:
    days = [d for d in range(1, 31) if dt.date(2026, 1, d).weekday() < 5]
    events = [f"{u},2026-01-{d:02} 12:00:00,open" for u in range(1, 13) for d in days]
    data = company(events=(HEAD, events))
    assert values(read(data, "dau_count"))["2026-01-03"] == 0


def test_without_its_table_a_metric_says_so(company: Company) -> None:
    reader = SeriesReader(company(messages=("message_id,user_id,ts", ["1,1,2026-01-01 10:00:00"])))
    for metric in METRICS:
        series = reader.read(metric, grain="week")
        assert list(series.frame.columns) == list(COLUMNS)
        assert len(series.frame) == 0
        assert "table" in series.note
        assert series.findings() == []


def test_tickets_alone(company: Company) -> None:
    tickets = ["a,1,2026-01-01 08:00:00,true", "b,1,2026-01-03 09:00:00,true", "c,1,2026-01-04 09:00:00,true"]
    data = company(tickets=(TICKETS, tickets))
    assert list(values(read(data, "complaints_count")).values()) == [1, 0, 1]
    assert len(read(data, "complaint_rate").frame) == 0


def test_one_user_on_one_day(company: Company) -> None:
    data = company(
        events=(HEAD, ["1,2026-01-01 12:00:00,open"]),
        users=("user_id,signup_at,channel", ["1,2026-01-01,ads"]),
        orders=("user_id,ts,amount", ["1,2026-01-01 10:00:00,5"]),
        spend=("date,channel,amount", ["2026-01-01,ads,1"]),
        tickets=(TICKETS, ["a,1,2026-01-01 08:00:00,false"]),
        surveys=("user_id,ts,kind,score", ["1,2026-01-01 10:00:00,csat,5"]),
        traffic=("ts,requests,errors,p95_ms", ["2026-01-01 10:00:00,0,0,1"]),
    )
    reader = SeriesReader(data)
    for metric in METRICS:
        for grain in ("day", "week", "month"):
            if (metric == "churn_rate" and grain == "day") or metric == "funnel_rate":
                continue
            series = reader.read(metric, grain=grain, event="open")  # type: ignore[arg-type]
            assert len(series.frame) == 1
            assert series.estimate(series.frame["period_start"].iloc[0].date()).name == metric


def test_what_is_not_understood(company: Company) -> None:
    users = ("user_id,signup_at,channel", ["1,2026-01-01,ads"])
    data = company(events=(HEAD, rows({1: "1 3"})), users=users)
    for options, message in (
        ({"metric": "dau_counts"}, "There is no metric 'dau_counts'. Did you mean 'dau_count'"),
        ({"grain": "quarter"}, "'quarter' for grain"),
        ({"by": "chanel"}, "no column 'chanel' of users. Did you mean 'channel'"),
        ({"segment": "channel:adz"}, "nobody has channel 'adz'"),
        ({"segment": "city:Oslo"}, "no column 'city'"),
    ):
        with pytest.raises(InputError, match=message):
            read(data, **({"metric": "dau_count"} | options))  # type: ignore[arg-type]
    for day in (dt.date(2025, 12, 31), dt.date(2026, 1, 4)):
        with pytest.raises(InputError, match="lies outside the data"):
            SeriesReader(data, as_of=day)


# What was known on an earlier day


def cut_company(company: Company, seed: int, until: dt.date) -> Data:
    """A random company whose tables hold nothing after a day."""
    import numpy as np

    generator = np.random.default_rng(seed)
    start = dt.datetime(2026, 1, 1, 1)
    end = dt.datetime.combine(until + DAY, dt.time())

    def draw(number: int) -> list[tuple[int, dt.datetime]]:
        users, minutes = generator.integers(1, 300, number), generator.integers(0, 60 * 24 * 90, number)
        return [(int(u), start + dt.timedelta(minutes=int(m))) for u, m in zip(users, minutes, strict=True)]

    def keep(found: list[tuple[dt.datetime, str]]) -> list[str]:
        return [text for at, text in found if at < end]

    kinds = ["view", "cart", "pay"]
    events = [(at, f"{u},{at},{kinds[n % 3]}") for n, (u, at) in enumerate(draw(1500))]
    events.append((dt.datetime(2026, 3, 5, 23, 30), "3,2026-03-05 23:30:00,view"))  # that day is whole
    joined = {u: start + dt.timedelta(days=u % 90) for u in range(1, 300)}
    channels, kind = ["ads", "search", ""], ["nps", "csat"]
    tables: dict[str, Any] = {
        "events": (HEAD, keep(events)),
        "users": ("user_id,signup_at,channel", keep([(a, f"{u},{a},{channels[u % 3]}") for u, a in joined.items()])),
        "orders": ("user_id,ts,amount", keep([(at, f"{u},{at},{u}") for u, at in draw(160)])),
        "tickets": (TICKETS, keep([(at, f"{n},{u},{at},{n % 2 == 0}") for n, (u, at) in enumerate(draw(160))])),
        "surveys": ("user_id,ts,kind,score", keep([(at, f"{u},{at},{kind[u % 2]},{u % 5 + 1}") for u, at in draw(99)])),
        "spend": ("date,channel,amount", keep([(at, f"{at.date()},{channels[u % 2]},{u}") for u, at in draw(160)])),
        "referrals": ("inviter_id,invitee_id,ts,reward", keep([(at, f"1,{u},{at},2") for u, at in draw(20)])),
        "traffic": (
            "ts,requests,errors,p95_ms",
            keep([(a := start + dt.timedelta(hours=n), f"{a},{n},{n % 3},{n % 7}") for n in range(24 * 90)]),
        ),
    }  # fmt: skip
    funnel = '[funnels.buy]\nsteps = ["view", "cart", "pay"]\nwindow_days = 3\n'
    return company(zone="UTC", more=funnel, **tables)


def test_an_earlier_day_gives_what_was_known_then(company: Company) -> None:
    day = dt.date(2026, 3, 5)
    now = SeriesReader(cut_company(company, 1, dt.date(2026, 4, 1)), as_of=day, minimum=1)
    wanted = []
    for metric in METRICS:
        options: dict[str, Any] = {"event": "pay"} if metric == "event_rate" else {}
        plain = "traffic" in METRICS[metric]
        ways = [("week", {}), ("month", {})] if metric == "churn_rate" else [("day", {}), ("month", {})]
        ways += [] if plain else [("week", {"by": "channel"}), ("week", {"segment": "channel:ads"})]
        for grain, more in ways:
            asked = options | more | {"grain": grain}
            wanted.append((metric, asked, now.read(metric, **asked).frame))
    then = SeriesReader(cut_company(company, 1, day), as_of=day, minimum=1)
    for metric, asked, frame in wanted:
        pd.testing.assert_frame_equal(frame, then.read(metric, **asked).frame, obj=f"{metric} {asked}")
        assert (frame["status"] == "known").any(), (metric, asked)


# The other measures


def months(reader: SeriesReader) -> list[Period]:
    """The last whole months but two, so that everybody has had a day 30."""
    starts = [dt.date(2026, month, 1) for month in range(1, 6)]
    return [Period(a, b, str(a)) for a, b in pairwise(starts)]


def test_months_are_those_of_the_other_measures(sample: SeriesReader) -> None:
    data, days = sample.data, sample.data.active_days
    for period in months(sample):
        kept = measure_retention(days, period, as_of=sample.as_of).days
        revenue = measure_revenue(data.table("orders"), days, period, calendar=data.calendar)
        cost = measure_acquisition(
            days,
            period,
            as_of=sample.as_of,
            channels=find_channels(data),
            spend=data.table("spend"),
            rewards=find_rewards(data, period, ""),
        )
        assert cost.cac is not None
        active = measure_activity(days, period)
        expected = {f"d{n}_rate": kept[n] for n in (1, 7, 30)} | {
            "paying_users_count": revenue.paying_users,
            "paying_rate": revenue.paying_rate,
            "revenue_amount": revenue.revenue,
            "new_users_count": cost.new_users,
            "cac_amount": cost.cac,
            "dau_count": active.dau,
            "mau_count": active.mau,
            "stickiness_rate": active.stickiness,
        }
        for name, one in expected.items():
            found = sample.read(name, grain="month").estimate(period.start)
            assert found.value == pytest.approx(one.value), name
            if name not in ("cac_amount", "stickiness_rate"):  # the intervals are made another way
                assert (found.low, found.high) == (pytest.approx(one.low), pytest.approx(one.high)), name
        error = sample.read("stickiness_rate", grain="month").of().set_index("period_start")["standard_error"]
        width = (active.stickiness.high or 0) - (active.stickiness.low or 0)
        assert 2 * 1.959964 * error[pd.Timestamp(period.start)] == pytest.approx(width)
        channels = cost.by_channel.set_index("channel")
        series = sample.read("cost_per_d7_amount", grain="month", by="channel")
        for channel in series.groups:
            found = series.estimate(period.start, channel)
            assert found.value == pytest.approx(channels.loc[channel, "cost_per_retained_amount"])


def test_a_quarters_last_month_has_the_quarters_monthly_users(sample: SeriesReader) -> None:
    for text in ("2025Q4", "2026Q2"):
        period = Quarter.parse(text).period
        found = sample.read("mau_count", grain="month").estimate(period.last_day.replace(day=1))
        assert found.value == measure_activity(sample.data.active_days, period).mau.value


def test_churn_is_that_of_growth_accounting(sample: SeriesReader) -> None:
    labelled = label_segments(sample.data.active_days, sample.data.attributes, "channel")
    periods = account_growth(labelled, sample.span, grain="week", by="segment").periods
    for channel in ("search", "paid_ads"):
        rows_of = periods[periods["segment"] == channel]
        found = sample.read("churn_rate", grain="week", by="channel").of(channel)
        assert found["numerator"].tolist() == rows_of["churned_count"].tolist()
        assert found["denominator"].tolist() == rows_of["opening_count"].tolist()


def test_daily_users_are_those_of_activity(sample: SeriesReader) -> None:
    daily = measure_activity(sample.data.active_days, sample.span).daily
    for name in ("dau_count", "mau_count"):
        assert sample.read(name).of()["numerator"].tolist() == daily[name].tolist()
    by = sample.read("dau_count", by="channel").frame
    assert by.groupby("period_start")["value"].sum().tolist() == daily["dau_count"].tolist()


def test_funnel_is_that_of_the_trend(sample: SeriesReader) -> None:
    scope, path = choose_scope(sample.data), choose_path(sample.data)
    trend = measure_funnel(
        gather_events(scope, path),
        path.steps,
        period=sample.span,
        as_of=sample.as_of,
        window=path.window,
        calendar=sample.data.calendar,
        trend="day",
    ).trend
    assert trend is not None
    expected = trend[trend["mature"]].set_index("entry_start")
    found = sample.read("funnel_rate").of().set_index("period_start")
    found = found[found["status"] != "immature"]
    assert len(found) == 539
    filled = expected.reindex(found.index, fill_value=0)
    assert found["denominator"].tolist() == filled["entered_count"].tolist()
    assert found["numerator"].tolist() == filled["converted_count"].tolist()
    by = sample.read("funnel_rate", by="platform").frame
    assert by.groupby("period_start")["numerator"].sum()[found.index].tolist() == found["numerator"].tolist()


# The sample company


def sum_days(series: MetricSeries, first: str, last: str, group: str = "") -> list[float]:
    frame = series.of(group).set_index("period_start")[first:last]  # type: ignore[misc]
    assert set(frame["status"]) <= {"known", "too few"}
    return frame[["numerator", "denominator"]].sum().round(2).tolist()


def test_planted_churn(sample: SeriesReader, truth: dict[str, dict[str, Any]]) -> None:
    cells = truth["coupon_churn"]["changes"][0]["realised"]["cells"]
    series = sample.read("churn_rate", grain="month").of().set_index("period_start")
    found = {name: cell for name, cell in cells.items() if name.startswith("churned/active_last_month 2")}
    assert len(found) == 6
    for name, cell in found.items():
        row = series.loc[pd.Timestamp(f"{name[-7:]}-01")]
        assert (row["numerator"], row["denominator"], row["status"]) == (
            cell["numerator"],
            cell["denominator"],
            "known",
        )


def test_planted_complaints(sample: SeriesReader, truth: dict[str, dict[str, Any]]) -> None:
    rate, satisfaction = sample.read("complaint_rate"), sample.read("satisfaction_rate")
    for change, series in zip(truth["complaint_wave"]["changes"], (rate, satisfaction), strict=True):
        cells = change["realised"]["cells"]
        for name, first, last in (
            ("segment_during", "2026-05-19", "2026-05-21"),
            ("segment_before", "2026-04-21", "2026-05-18"),
        ):
            assert sum_days(series, first, last) == [cells[name]["numerator"], cells[name]["denominator"]]
    above = rate.of()[rate.of()["value"] > 0.05]
    assert above["period_start"].dt.date.astype(str).tolist() == ["2026-05-19", "2026-05-20", "2026-05-21"]
    week = sample.read("complaint_rate", grain="week").estimate(dt.date(2026, 5, 18))
    assert [week.numerator, week.denominator] == sum_days(rate, "2026-05-18", "2026-05-24")


def test_planted_budget_and_retention(sample: SeriesReader, truth: dict[str, dict[str, Any]]) -> None:
    for change, metric in zip(truth["budget_shift"]["changes"], ("new_users_count", "spend_amount"), strict=False):
        cells = change["realised"]["cells"]
        series = sample.read(metric, by="channel")
        for name, first, last in (
            ("segment_during", "2026-04-01", "2026-06-30"),
            ("segment_before", "2025-12-31", "2026-03-31"),
        ):
            assert sum_days(series, first, last, "social")[0] == pytest.approx(cells[name]["numerator"])
    cells = truth["d1_drop"]["changes"][0]["realised"]["cells"]
    both = [cells["segment_during"][k] + cells["rest_during"][k] for k in ("numerator", "denominator")]
    assert sum_days(sample.read("d1_rate"), "2026-04-01", "2026-06-29") == both


def test_all_metrics_are_read_in_a_moment() -> None:
    reader = SeriesReader(open_data(ROOT / "playbook.toml"))
    start = time.process_time()
    for metric in METRICS:
        if metric != "churn_rate":
            assert len(reader.read(metric, event="view_item").frame) == 546
    assert reader.read("dau_count") is reader.read("dau_count", event="nothing to it")
    assert time.process_time() - start < 15


# Real data


@pytest.fixture(scope="module")
def real(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    def open_real(name: str) -> tuple[SeriesReader, dict[str, Any]]:
        folder = tmp_path_factory.mktemp("real")
        write_playbook([shared / "real" / name], out=folder / "playbook.toml")
        facts = json.loads((shared / "real" / name).with_name("facts.json").read_text("utf-8"))
        return SeriesReader(open_data(folder / "playbook.toml")), facts

    return open_real


@pytest.mark.shared
def test_collegemsg(real: Any) -> None:
    reader, facts = real("collegemsg/CollegeMsg.txt")
    dau, mau, new = (reader.read(m).of() for m in ("dau_count", "mau_count", "new_users_count"))
    assert dau["numerator"].tolist()[:14] == facts["DAU_first_14"]
    assert (dau["status"] == "known").all()
    assert new["numerator"].tolist()[:14] == facts["new_users_first_14"]
    at = mau.set_index("period_start")["value"]
    assert at["2004-05-31"] == facts["MAU30_2004-05-31"]
    assert [str(at.idxmax())[:10], at.max()] == facts["MAU30_max"]
    for n in (1, 7, 30):
        found = reader.read(f"d{n}_rate").of()
        mature = found[found["status"] != "immature"]
        # The facts count one more day, the begun last one: nobody new, nobody back.
        assert mature["numerator"].sum() == facts[f"D{n}"]["retained"]
        assert 0 <= facts[f"D{n}"]["eligible"] - mature["denominator"].sum() <= 2
    weeks = reader.read("churn_rate", grain="week").of().set_index("period_start")
    for start, *_, dormant in facts["weekly_lifecycle(week_start_Mon,new,returning,resurrecting,dormant)"][:-1]:
        assert weeks.loc[pd.Timestamp(start), "numerator"] == -dormant


@pytest.mark.shared
@pytest.mark.parametrize(
    ("source", "revenue", "active", "known"),
    [
        ("online_retail/online_retail.parquet", "clean_monthly_revenue", "clean_monthly_active_customers", 12),
        ("cdnow/CDNOW_master.txt", "monthly_revenue", "monthly_active", 18),
    ],
)
def test_orders_by_month(real: Any, source: str, revenue: str, active: str, known: int) -> None:
    reader, facts = real(source)
    facts = facts.get("master", facts)
    for metric, name in (("revenue_amount", revenue), ("paying_users_count", active)):
        found = values(reader.read(metric, grain="month"))
        assert len(found) == known
        for start, value in found.items():
            assert value == pytest.approx(facts[name][start[:7]]), (metric, start)
