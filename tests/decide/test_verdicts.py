"""Verdicts: the strongest evidence there is, what it may and may not say, and what was promised against what came."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from opslib.data.operations import InitiativeSettings
from opslib.data.source import Data, open_data
from opslib.decide.series import SeriesReader
from opslib.decide.verdicts.forecasts import review_forecasts, score_interval
from opslib.decide.verdicts.looks import Look, adjust_holm, correct_for_many, judge_direction
from opslib.decide.verdicts.verdict import Verdict, judge_initiative, judge_initiatives
from opslib.errors import InputError
from tests.conftest import ROOT
from tests.decide.conftest import Company

FIRST = dt.datetime(2026, 1, 5, 8)
USERS = 1200


def make(**more: Any) -> InitiativeSettings:
    given = {"name": "Plan", "owner": "Growth", "metric": "d1_rate", "start": dt.date(2026, 2, 2), **more}
    return InitiativeSettings.model_validate(given)


def list_trial(
    users: int = USERS, *, d1: tuple[float, float] = (0.3, 0.5), complain: tuple[float, float] = (0.1, 0.1),
    pay: tuple[float, float] = (0.2, 0.2), skew: bool = False,
) -> dict[str, tuple[str, list[str]]]:  # fmt: skip
    """Users drawn one after the other into control and new; exact shares of each do what is asked."""
    exposures, events, tickets, orders = [], [], [], []
    for n in range(users):
        arm = int(n % 3 > 0) if skew else n % 2
        at = FIRST + dt.timedelta(minutes=12 * n)
        place = (n // 2 * 37) % 100 / 100
        exposures.append(f"{n},test,{'new' if arm else 'control'},{at}")
        events.append(f"{n},{at},open")
        if place < d1[arm]:
            events.append(f"{n},{at + dt.timedelta(days=1)},open")
        if place < complain[arm]:
            tickets.append(f"{n},{n},{at + dt.timedelta(days=2)},service,true")
        if place < pay[arm]:
            orders.append(f"{n},{n},{at + dt.timedelta(days=3)},10")
    events.append(f"0,{FIRST + dt.timedelta(days=80, hours=15)},open")
    return {
        "exposures": ("user_id,experiment,variant,ts", exposures),
        "events": ("user_id,ts,event", events),
        "tickets": ("ticket_id,user_id,opened_at,category,is_complaint", tickets),
        "orders": ("order_id,user_id,ts,amount", orders),
    }


def tell(verdict: Verdict) -> str:
    """All findings as text; nothing may fail."""
    assert len(verdict.table) == len(verdict.looks)
    return json.dumps(verdict.findings(), allow_nan=False)


def test_an_experiment_that_works_is_effective(company: Company) -> None:
    item = make(experiment="test", behaviour=("paying_rate",), guardrails=("complaint_rate",), expected_change=0.1)
    verdict = judge_initiative(company(**list_trial()), item)
    assert (verdict.verdict, verdict.reason, verdict.strength) == ("effective", "core_improved", "experiment")
    core = verdict.core
    assert core.with_it is not None
    assert core.without_it is not None
    assert (core.with_it.numerator, core.with_it.denominator) == (300, 600)
    assert (core.without_it.numerator, core.effect) == (180, pytest.approx(0.2))
    assert verdict.remedies == ()
    tell(verdict)


@pytest.mark.parametrize(
    ("trial", "settings", "verdict", "reason"),
    [
        ({"complain": (0.05, 0.2)}, {"guardrails": ("complaint_rate",)}, "not effective", "vetoed"),
        ({"pay": (0.3, 0.1)}, {"behaviour": ("paying_rate",)}, "not effective", "contradicted"),
        ({"d1": (0.5, 0.3)}, {}, "not effective", "core_worse"),
        ({"d1": (0.4, 0.4)}, {"expected_change": 0.2}, "not effective", "gain_too_small"),
        ({"d1": (0.4, 0.4)}, {}, "not effective", "no_clear_effect"),
        ({"d1": (0.4, 0.4)}, {"expected_change": 0.01}, "not enough data", "unclear"),
        ({"d1": (0.3, 0.5), "skew": True}, {}, "not enough data", "unknown"),
    ],
)
def test_rules_of_the_verdict(
    company: Company, trial: dict[str, Any], settings: dict[str, Any], verdict: str, reason: str
) -> None:
    found = judge_initiative(company(**list_trial(**trial)), make(experiment="test", **settings))
    assert (found.verdict, found.reason) == (verdict, reason)
    if trial.get("skew"):
        assert "not split as planned" in found.core.why_not[0]
        assert found.strength in ("before/after only", "none")
    tell(found)


def test_too_few_users_say_what_would_be_enough(company: Company) -> None:
    verdict = judge_initiative(company(**list_trial(d1=(0.4, 0.4))), make(experiment="test", expected_change=0.05))
    # Evan Miller: about 1,500 a side for 40% against 45%; 600 are there.
    assert verdict.core.more_users_count == pytest.approx(2 * 1511 - 1200, rel=0.05)


def test_users_who_have_not_had_their_days_wait(company: Company) -> None:
    """Four days in, users still come: the interval is that of looks at any time, and nobody is lost too early."""
    item = make(experiment="test", start=FIRST.date(), expected_change=0.2)
    verdict = judge_initiative(company(**list_trial(d1=(0.4, 0.42))), item, as_of=dt.date(2026, 1, 8))
    assert (verdict.verdict, verdict.reason) == ("not enough data", "immature")
    assert verdict.core.immature_count > 0
    result: Any = verdict.core.result
    assert result.looks == "always"


def test_remedies_are_the_playbooks_else_the_handbooks(company: Company) -> None:
    rows = list_trial(pay=(0.3, 0.1))
    item = make(experiment="test", metric="paying_rate")
    shipped = judge_initiative(company(**rows), item).remedies
    assert len(shipped) == 3
    assert "price" in shipped[0]
    own = company(more='[remedies]\npaying_rate = ["Ask why"]', **rows)
    assert judge_initiative(own, item).remedies == ("Ask why",)


def list_days(
    weeks: int, before: dict[str, int], after: dict[str, int], start: int
) -> dict[str, tuple[str, list[str]]]:
    """Ten users a channel sign up a day; so many of them are back next day before and after a week."""
    events, users = [], []
    for day in range(7 * weeks):
        for channel in before:
            back = (before if day < 7 * start else after)[channel]
            # A little noise that repeats every three days.
            back = min(10, max(0, back + (day % 3 == 0) - (day % 3 == 1)))
            for n in range(10):
                at = FIRST - dt.timedelta(days=7 * start - day)
                name = f"{channel}{day}_{n}"
                users.append(f"{name},{at},{channel}")
                events += [f"{name},{at},open"] + ([f"{name},{at + dt.timedelta(days=1)},open"] if n < back else [])
    events.append(f"x,{FIRST + dt.timedelta(days=7 * (weeks - start), hours=15)},open")
    return {"users": ("user_id,signup_at,channel", users), "events": ("user_id,ts,event", events)}


def test_before_and_after_alone_is_never_effective(company: Company) -> None:
    data = company(**list_days(20, {"a": 3}, {"a": 7}, 12))
    item = make(start=FIRST.date(), guardrails=("d7_rate",))
    verdict = judge_initiative(data, item)
    assert (verdict.verdict, verdict.reason) == ("not enough data", "descriptive_only")
    assert verdict.core.direction == "better"
    assert verdict.core.descriptive
    assert "No experiment or holdout is named." in verdict.core.why_not
    tell(verdict)


def test_segments_that_were_not_reached_are_a_control(company: Company) -> None:
    """Both channels rise by 2 in 10, the treated one by 2 more."""
    data = company(**list_days(20, {"a": 3, "b": 4, "c": 4}, {"a": 7, "b": 6, "c": 6}, 12))
    item = make(start=FIRST.date(), segment="channel:a", unaffected=("channel:b", "channel:c"))
    verdict = judge_initiative(data, item)
    assert (verdict.verdict, verdict.strength) == ("effective", "difference in differences")
    assert verdict.core.effect == pytest.approx(0.2, abs=0.02)
    alike = make(start=FIRST.date(), segment="channel:b", unaffected=("channel:c",), expected_change=0.1)
    assert judge_initiative(data, alike).reason == "gain_too_small"
    with pytest.raises(InputError, match="nobody has channel 'zz'"):
        judge_initiative(data, make(start=FIRST.date(), segment="channel:a", unaffected=("channel:zz",)))


def test_companies_that_lack_something(company: Company) -> None:
    rows = list_trial()
    events = {"events": rows["events"]}
    data = company(**events)
    last = data.as_of
    cases = [
        (make(experiment="test"), "no table exposures"),
        (make(start=dt.date(2020, 1, 1)), "nothing is known of before"),
        (make(start=last + dt.timedelta(5)), "It starts on"),
        (make(metric="satisfaction_rate"), "surveys"),
        (make(metric="cac_amount"), "spend"),
        (make(metric="event_rate"), "event"),
        (make(metric="churn_rate"), ""),
        (make(start=last), "no whole week"),
        (make(metric="revenue_amount", start=last), "orders"),
    ]
    for item, words in cases:
        verdict = judge_initiative(data, item)
        assert verdict.verdict == "not enough data" or item.metric == "churn_rate", item
        assert words in tell(verdict)
    with pytest.raises(InputError, match="no column 'channel'"):
        judge_initiative(data, make(unaffected=("channel:a",)))
    with pytest.raises(InputError, match="ends on"):
        judge_initiative(SeriesReader(data), make(), as_of=dt.date(2026, 1, 10))


def test_an_experiment_that_nobody_entered_is_told(company: Company) -> None:
    verdict = judge_initiative(company(**list_trial()), make(experiment="tset"))
    assert "Nobody was exposed to experiment 'tset'" in verdict.core.why_not[0]
    other = list_trial()
    other["exposures"] = (other["exposures"][0], [r.replace("control", "old") for r in other["exposures"][1]])
    verdict = judge_initiative(company(**other), make(experiment="test"))
    assert "none to compare with" in verdict.core.why_not[0]


def test_a_kill_rule_is_met_only_after_its_days(company: Company) -> None:
    data = company(**list_days(20, {"a": 6}, {"a": 2}, 12))
    rule = {"metric": "d1_rate", "below": 0.4, "after_days": 30}
    item = make(start=FIRST.date(), kill_rule=rule)
    early = judge_initiative(data, item, as_of=FIRST.date() + dt.timedelta(20))
    late = judge_initiative(data, item)
    assert early.kill is not None
    assert late.kill is not None
    assert (early.kill.met, early.status) == (False, "running")
    assert (late.kill.met, late.kill.sure, late.status) == (True, True, "killed")
    assert late.kill.value.value == pytest.approx(0.2, abs=0.03)


def test_holm_over_behaviour_and_feedback_alone() -> None:
    assert adjust_holm([]) == []
    assert adjust_holm([0.04, 0.01]) == [0.04, 0.02]
    looks = [
        judge_direction(Look(role, "d1_rate", "rate", "experiment", effect=0.1, low=0.01, high=0.2, p_value=p))  # type: ignore[arg-type]
        for role, p in (
            ("core", 0.04),
            ("behaviour", 0.04),
            ("behaviour", 0.03),
            ("feedback", 0.001),
            ("guardrail", 0.04),
        )
    ]
    found = correct_for_many(looks)
    assert [k.direction for k in found] == ["better", "unclear", "unclear", "better", "better"]
    assert [k.adjusted_p_value for k in found] == pytest.approx([0.04, 0.06, 0.06, 0.003, 0.04])
    worse = judge_direction(Look("core", "churn_rate", "rate", "experiment", effect=0.1, low=0.01, high=0.2))
    assert worse.direction == "worse"


def fake(expected: float, low: float, high: float, came: float, day: int, **more: Any) -> Verdict:
    look = Look("core", "d1_rate", "rate", "experiment", effect=came, low=came - 0.01, high=came + 0.01)
    item = make(name=f"P{day}", expected_change=expected, expected_low=low, expected_high=high, **more)
    return Verdict(item, dt.date(2027, 1, 1), "effective", "core_improved", look, (look,), status="due")


def test_forecasts_are_scored_by_hand() -> None:
    """Promised .10 each [.05 to .15]; came .06, .08, .04, .02, .12: three of five inside, medians .6 of it."""
    verdicts = [fake(0.1, 0.05, 0.15, came, i) for i, came in enumerate((0.06, 0.08, 0.04, 0.02, 0.12))]
    review = review_forecasts(verdicts)
    assert (review.inside.numerator, review.inside.denominator) == (3, 5)
    assert review.inside.value == 0.6
    assert review.inside.low is not None
    assert review.bias_ratio == pytest.approx(-0.4)
    assert review.clear_bias is False
    # Widths .1, and ten times what lies outside: .01 and .03.
    assert review.mean_score_ratio == pytest.approx((5 * 0.1 + 10 * (0.01 + 0.03)) / 5 / 0.1)
    few = review_forecasts(verdicts[:4])
    assert few.note.startswith("too few finished forecasts")
    assert (few.bias_ratio, few.inside.value, len(few.table)) == (None, None, 4)
    assert score_interval(-3, -1, -4) == 12
    json.dumps(review.findings() + few.findings() + review_forecasts([]).findings(), allow_nan=False)


def test_money_that_comes_back_in_time() -> None:
    look = Look(
        "core", "revenue_amount", "amount", "holdout", effect=2.0, low=1.0, high=3.0, direction="better",
        per_user=True, window_days=30, users_count=1000,
    )  # fmt: skip
    item = make(metric="revenue_amount", budget=4000, payback_months=(1, 3))
    row = review_forecasts([Verdict(item, item.last_day, "effective", "", look, (look,), status="due")]).table.iloc[0]
    assert (row["gain_amount"], row["gain_low"]) == (2000, 1000)
    assert row["payback_months"] == pytest.approx(4000 / (2000 / 30 * 30.4375))
    assert row["payback"] == "in time"


SAMPLE: list[dict[str, Any]] = [
    {
        "name": "Onboarding checklist", "metric": "d1_rate", "start": "2026-01-05", "watch_until": "2026-06-30",
        "experiment": "onboarding_checklist", "behaviour": ["d7_rate", "stickiness_rate", "paying_rate"],
        "feedback": ["satisfaction_rate"], "guardrails": ["complaint_rate"],
        "expected_change": 0.05, "expected_low": 0.02, "expected_high": 0.08,
    },
    {
        "name": "One-page checkout", "metric": "funnel_rate", "start": "2026-06-15", "guardrails": ["error_rate"],
        "experiment": "checkout_one_page", "expected_change": 0.05, "expected_low": 0.03, "expected_high": 0.08,
    },
    {
        "name": "June sale", "metric": "orders_count", "start": "2026-06-05", "watch_until": "2026-06-30",
        "experiment": "june_sale_2026", "behaviour": ["paying_rate"],
    },
    {
        "name": "Social", "metric": "d7_rate", "start": "2026-04-01", "watch_until": "2026-06-30",
        "segment": "channel:social", "unaffected": ["channel:search", "channel:app_store", "channel:community"],
        "behaviour": ["new_users_count"], "expected_change": 0.02,
    },
    {
        "name": "Private traffic", "metric": "d30_rate", "start": "2026-01-01", "segment": "domain:private",
        "unaffected": ["domain:public"], "expected_change": 0.05,
    },
]  # fmt: skip


@pytest.fixture(scope="module")
def sample() -> Data:
    data = open_data(ROOT / "playbook.toml")
    items = tuple(InitiativeSettings.model_validate({"owner": "A", **one}) for one in SAMPLE)
    update = {"initiatives": items, "initiatives_file": None}
    return Data(data.playbook.model_copy(update=update), data.connection, data.mapped)


@pytest.fixture(scope="module")
def judged(sample: Data) -> dict[str, Verdict]:
    return {v.initiative.name: v for v in judge_initiatives(sample)}


def test_the_samples_initiatives(judged: dict[str, Verdict]) -> None:
    """Planted: the checklist helps, the checkout is too young, the sale borrows, the social budget buys nobody."""
    assert {name: v.verdict for name, v in judged.items()} == {
        "Onboarding checklist": "effective",
        "One-page checkout": "not enough data",
        "June sale": "effective",
        "Social": "not effective",
        "Private traffic": judged["Private traffic"].verdict,
    }
    assert judged["Private traffic"].verdict != "effective"
    checklist = judged["Onboarding checklist"].core
    assert checklist.relative == pytest.approx(0.21, abs=0.02)
    assert checklist.strength == "experiment"
    social = judged["Social"]
    assert social.strength == "difference in differences"
    assert social.looks[1].direction == "better"
    assert social.core.effect is not None
    assert social.core.effect < 0
    for verdict in judged.values():
        tell(verdict)


def test_the_june_sale_takes_from_the_weeks_after(judged: dict[str, Verdict]) -> None:
    sale = judged["June sale"]
    assert (sale.strength, sale.core.window_days) == ("holdout", 26)
    assert sale.early is not None
    assert sale.late is not None
    assert sale.core.effect is not None
    assert sale.early.effect is not None
    assert sale.late.effect is not None
    assert sale.early.direction == "better"
    assert sale.late.effect < 0
    assert sale.early.effect > sale.core.effect
    assert sale.early.effect + sale.late.effect == pytest.approx(sale.core.effect, rel=0.02)


def test_judged_earlier_nothing_of_later_days_is_known(sample: Data) -> None:
    item = sample.playbook.initiatives[0]
    early = judge_initiative(sample, item, as_of=dt.date(2026, 1, 12))
    assert (early.verdict, early.reason) == ("not enough data", "immature")
    assert early.core.with_it is not None
    assert early.core.with_it.denominator < 300
    assert judge_initiative(sample, item, as_of=dt.date(2026, 1, 1)).reason == "not_started"


@pytest.mark.shared
def test_cookie_cats_gate_is_not_effective(shared: Path, tmp_path: Path) -> None:
    """The gate at level 40 costs day-7 retention: 19.0% of 44,700 against 18.2% of 45,489 (facts.json)."""
    raw = pd.read_csv(shared / "real" / "cookie_cats" / "cookie_cats.csv")
    drawn = pd.Timestamp("2026-01-05 10:00")
    frame = pd.DataFrame({"user_id": raw["userid"], "experiment": "gate", "variant": raw["version"], "ts": drawn})
    frame.to_parquet(tmp_path / "exposures.parquet")
    days = [(drawn, raw), (drawn + pd.Timedelta(days=1), raw[raw["retention_1"]])]
    days += [(drawn + pd.Timedelta(days=7), raw[raw["retention_7"]])]
    events = pd.concat([pd.DataFrame({"user_id": r["userid"], "ts": at, "event": "play"}) for at, r in days])
    late = pd.DataFrame({"user_id": [116], "ts": [pd.Timestamp("2026-02-20 23:30")], "event": ["play"]})
    pd.concat([events, late]).to_parquet(tmp_path / "events.parquet")
    (tmp_path / "playbook.toml").write_text(
        '[company]\nname = "Cats"\n[experiments.gate]\ncontrol = "gate_30"\n'
        "shares = { gate_30 = 44700, gate_40 = 45489 }\n"
        '[tables]\nevents = { source = "events.parquet" }\nexposures = { source = "exposures.parquet" }\n'
    )
    item = make(metric="d7_rate", start=drawn.date(), experiment="gate", behaviour=("d1_rate",))
    verdict = judge_initiative(open_data(tmp_path / "playbook.toml"), item)
    assert (verdict.verdict, verdict.reason) == ("not effective", "core_worse")
    assert verdict.core.with_it is not None
    assert (verdict.core.with_it.numerator, verdict.core.with_it.denominator) == (8279, 45489)
    assert verdict.core.effect == pytest.approx(-0.0082, abs=0.0001)


@pytest.mark.shared
def test_online_retail_before_and_after_stays_descriptive(shared: Path, tmp_path: Path) -> None:
    source = shared / "real" / "online_retail" / "online_retail.parquet"
    raw = pd.read_parquet(source).dropna(subset=["CustomerID"])
    raw = raw[raw["Quantity"].astype(float) > 0]
    orders = pd.DataFrame({"order_id": raw["InvoiceNo"], "user_id": raw["CustomerID"].astype(float).astype(int)})
    orders["ts"] = pd.to_datetime(raw["InvoiceDate"])
    orders["amount"] = raw["Quantity"].astype(float) * raw["UnitPrice"].astype(float)
    whole = orders.groupby(["order_id", "user_id"], as_index=False).agg(ts=("ts", "min"), amount=("amount", "sum"))
    whole.to_parquet(tmp_path / "orders.parquet")
    (tmp_path / "playbook.toml").write_text(
        '[company]\nname = "Shop"\n[tables]\norders = { source = "orders.parquet" }\n'
    )
    item = make(metric="orders_count", start=dt.date(2011, 9, 5), watch_until=dt.date(2011, 11, 30))
    verdict = judge_initiative(open_data(tmp_path / "playbook.toml"), item)
    assert (verdict.verdict, verdict.reason) == ("not enough data", "descriptive_only")
    assert verdict.core.direction == "better"
