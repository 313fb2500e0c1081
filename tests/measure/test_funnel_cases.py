"""Other tools' own funnel tests, each by its id: reproduced, or with the reason why our meaning differs."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import pandas as pd
import pytest

from opslib.data.periods import Period
from opslib.measure.funnel import plans as funnel_plans
from opslib.measure.funnel.funnel import measure_funnel
from opslib.measure.funnel.steps import Exclusion, Step

pytestmark = pytest.mark.shared
ALWAYS = Period(dt.date(2000, 1, 1), dt.date(2030, 1, 1), "always")
ORDERS = {"ordered": "ordered", "strict": "strict", "unordered": "any"}
UNITS = {"s": "seconds", "m": "minutes", "d": "days", "w": "weeks"}

# One event fills one step of ours; ClickHouse lets it fill all equal ones (which PostHog does not either).
# Its strict_order skips repeats of a step already filled; our strict lets no event at all lie between.
# It stops at the first break; ours takes the best attempt over all entries.
# Its strict_deduplication ends an attempt at a repeated event; ours goes on, as it does without that mode.
OURS_OF_CLICKHOUSE = {
    "ch18": 1,
    "ch13_strict_order_u3": 2,
    "ch13_strict_order_u5": 2,
    "ch13_strict_deduplication+strict_order_u3": 2,
    "ch11": 7,
    "ch22_strict_order_u2": 3,
}


@pytest.fixture(autouse=True, params=["packed", "windows"])
def plan(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every case on both plans."""
    if request.param == "windows":
        monkeypatch.setattr(funnel_plans, "choose_plan", lambda *_: "windows")
    return str(request.param)


def load(shared: Path, name: str) -> list[dict[str, Any]]:
    return json.loads((shared / "cases" / name).read_text())["cases"]


def to_table(rows: list[tuple[Any, str, dt.datetime, dict[str, str]]]) -> ir.Table:
    properties = sorted({k for *_, p in rows for k in p} | {"key"})
    columns: dict[str, Any] = {
        "user_id": [r[0] for r in rows],
        "event": [r[1] for r in rows],
        "ts": [r[2] for r in rows],
    }
    columns |= {k: [r[3].get(k) for r in rows] for k in properties}
    text = dict.fromkeys(["user_id", "event", *properties], "string")
    return ibis.memtable(pd.DataFrame(columns), schema={**text, "ts": "timestamp"})


def measure_posthog(case: dict[str, Any]) -> Any:
    query = case["query"]
    rows = [(e[0], e[1], dt.datetime.fromisoformat(e[2]), e[3] if len(e) > 3 else {}) for e in case["events"]]
    # A step's event that never happens is known to PostHog all the same.
    nobody = [("", s["event"], dt.datetime(1999, 1, 1), {}) for s in query["steps"]]
    number, letter = int(query["window"][:-1]), query["window"][-1]
    return measure_funnel(
        to_table(rows + nobody),
        [Step(s["event"], s.get("props")) for s in query["steps"]],
        exclusions=[
            Exclusion(e["event"], after=e["from_step"] + 1, before=e["to_step"] + 1)
            for e in query.get("exclusions", ())
        ],
        window=dt.timedelta(**{UNITS[letter]: number}),
        order=ORDERS[query["mode"]],  # type: ignore[arg-type]
        period=ALWAYS,
        as_of=dt.date(2031, 1, 1),
        breakdown=next(iter(case["expected"].get("by_breakdown", {"": 0}))),
        minimum=1,
    )


def test_cases_of_posthog(shared: Path, plan: str) -> None:
    """Every case, counts and, where the case has them, times and breakdown."""
    cases = load(shared, "posthog_funnel_cases.json")
    assert len(cases) >= 20
    check_posthog(cases if plan == "packed" else cases[::2])


@pytest.mark.slow
def test_all_cases_in_the_engine(shared: Path, plan: str) -> None:
    """The windows plan is slow: by default it gets every second and third."""
    check_posthog(load(shared, "posthog_funnel_cases.json"))
    check_clickhouse(load(shared, "clickhouse_windowfunnel_cases.json"))


def check_posthog(cases: list[dict[str, Any]]) -> None:
    for case in cases:
        result, expected = measure_posthog(case), case["expected"]
        assert result.steps["converted_count"].tolist() == expected["counts"], case["id"]
        times = result.times[result.times["since"] == "previous"]
        for key, column in (("avg_conversion_seconds", "mean_days"), ("median_conversion_seconds", "p50_days")):
            if key in expected:
                assert (times[column] * 86_400).tolist() == pytest.approx(expected[key][1:]), case["id"]
        for values in expected.get("by_breakdown", {}).values():
            for value, counts in values.items():
                frame = result.by_segment
                assert frame.loc[frame["segment"] == value, "converted_count"].tolist() == counts, case["id"]


def test_cases_of_clickhouse(shared: Path, plan: str) -> None:
    """Every case: its level, or ours where the meaning differs."""
    cases = load(shared, "clickhouse_windowfunnel_cases.json")
    assert {c["id"] for c in cases} >= set(OURS_OF_CLICKHOUSE)
    check_clickhouse(cases if plan == "packed" else cases[::3])


def check_clickhouse(cases: list[dict[str, Any]]) -> None:
    for case in cases:
        start = dt.datetime(2021, 1, 1)
        rows = [("u", str(e), start + dt.timedelta(seconds=t), {}) for t, e in case["rows[t,event]"]]
        rows += [("", str(e), dt.datetime(1999, 1, 1), {}) for e in case["steps"]]
        result = measure_funnel(
            to_table(rows),
            [str(e) for e in case["steps"]],
            window=dt.timedelta(seconds=case["window"]),
            order="strict" if "strict_order" in case["modes"] else "ordered",
            period=ALWAYS,
            as_of=dt.date(2031, 1, 1),
        )
        level = int((result.steps["converted_count"] > 0).sum())
        ours = OURS_OF_CLICKHOUSE.get(case["id"], case["expected_level"])
        assert level == ours, (case["id"], level, case["expected_level"])
