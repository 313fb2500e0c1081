"""Cases and reasons from tables: against plain Python, guarded against looking ahead; the sample and real data."""

from __future__ import annotations

import datetime as dt
from itertools import product
from typing import Any

import ibis
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.data.periods import DAY, Calendar, Period
from opslib.data.source import Data, open_data
from opslib.errors import InputError
from opslib.explain.causes import (
    Cases,
    Occurrence,
    Reason,
    check_expiry,
    choose_cases,
    compare_reasons,
    find_causes,
    make_reasons,
)
from opslib.explain.causes_reasons import flag_reasons
from tests.conftest import ROOT
from tests.measure.streams import START, to_table, user_days

SHANGHAI = Calendar("Asia/Shanghai")
MIDNIGHT = dt.datetime(2026, 1, 31, 16)  # the end of January's last day in Shanghai
INDEX = dt.date(2026, 1, 31)


def one_case(index: dt.date = INDEX) -> Cases:
    return Cases.of_table(ibis.memtable({"user_id": [1], "index_day": [index], "left": [True]}))


def flag(reason: Reason, rows: dict[str, list[Any]], schema: dict[str, str]) -> int:
    table = ibis.memtable(pd.DataFrame(rows, columns=list(schema)), schema=schema)
    flags = flag_reasons(one_case(), {reason.table: table}, [reason], calendar=SHANGHAI)
    return int(flags.to_pandas()["r0"].iloc[0])


COUPON = {"user_id": "int64", "issued_at": "timestamp", "expires_at": "timestamp", "redeemed_at": "timestamp"}


def coupon(
    expires: dt.datetime, redeemed: dt.datetime | None, issued: dt.datetime | None = None
) -> dict[str, list[Any]]:
    issued = issued or expires - 7 * DAY
    return {"user_id": [1], "issued_at": [issued], "expires_at": [expires], "redeemed_at": [redeemed]}


def usual(name: str, schema: dict[str, str], table: str) -> Reason:
    empty = ibis.memtable(pd.DataFrame(columns=list(schema)), schema=schema)
    return next(r for r in make_reasons({table: empty}) if r.name == name)


@pytest.mark.parametrize(
    ("expires", "redeemed", "expected"),
    [
        (MIDNIGHT - DAY, None, 1),  # the index day's own midnight: expired that day
        (MIDNIGHT, None, 0),  # the midnight after it: not yet
        (MIDNIGHT - 14 * DAY, None, 1),
        (MIDNIGHT - 15 * DAY, None, 0),
        (MIDNIGHT - 3 * DAY, MIDNIGHT - 5 * DAY, 0),  # used in time
        (MIDNIGHT - 3 * DAY, MIDNIGHT + DAY, 1),  # a use after the index day is not known on it
    ],
)
def test_coupon_expired_unused(expires: dt.datetime, redeemed: dt.datetime | None, expected: int) -> None:
    assert flag(usual("coupon_expired_unused", COUPON, "coupons"), coupon(expires, redeemed), COUPON) == expected


def test_coupon_expires_soon_only_if_it_was_issued() -> None:
    reason = usual("coupon_expires_soon", COUPON, "coupons")
    assert flag(reason, coupon(MIDNIGHT + DAY, None), COUPON) == 1
    assert flag(reason, coupon(MIDNIGHT + DAY, None, issued=MIDNIGHT + dt.timedelta(hours=1)), COUPON) == 0


def test_ticket_closed_later_was_open() -> None:
    schema = {"user_id": "int64", "opened_at": "timestamp", "is_complaint": "boolean", "closed_at": "timestamp"}
    rows = {"user_id": [1], "opened_at": [MIDNIGHT - 3 * DAY], "is_complaint": [False], "closed_at": [MIDNIGHT + DAY]}
    answers = {n: flag(usual(n, schema, "tickets"), rows, schema)
               for n in ("ticket_opened", "complaint", "ticket_unresolved", "support_slow")}  # fmt: skip
    assert answers == {"ticket_opened": 1, "complaint": 0, "ticket_unresolved": 1, "support_slow": 1}
    rows["closed_at"] = [MIDNIGHT - 2 * DAY]
    assert flag(usual("support_slow", schema, "tickets"), rows, schema) == 0


def test_price_rise_compares_with_the_user_before() -> None:
    schema = {"user_id": "int64", "ts": "timestamp", "amount": "float64", "discount": "float64"}
    days = [40, 30, 3]
    rows = {"user_id": [1] * 3, "ts": [MIDNIGHT - n * DAY for n in days], "amount": [10.0, 20.0, 18.0],
            "discount": [2.0, 0.0, 0.0]}  # fmt: skip
    assert flag(usual("price_rise", schema, "orders"), rows, schema) == 1
    assert flag(usual("discount_ended", schema, "orders"), rows, schema) == 1
    rows["amount"] = [10.0, 20.0, 17.0]
    assert flag(usual("price_rise", schema, "orders"), rows, schema) == 0


def test_reasons_that_look_ahead_are_refused() -> None:
    ahead = Reason("next_week", "orders", (Occurrence((-7, 0), at_least=0, at_most=0),))
    orders = ibis.memtable({"user_id": [1], "ts": [MIDNIGHT], "amount": [1.0]})
    with pytest.raises(InputError, match="beyond the index day"):
        find_causes(one_case(), {"orders": orders}, calendar=SHANGHAI, reasons=[ahead])
    for reason, words in (
        (Reason("x", "order", (Occurrence((0, 1)),)), "Did you mean 'orders'"),
        (Reason("x", "orders", (Occurrence((0, 1), ("amout > 1",)),)), "Did you mean 'amount'"),
        (Reason("x", "orders", (Occurrence((0, 1), ("amount >> 1 or",)),)), "cannot be read"),
        (Reason("x", "orders", (Occurrence((0, 1), ("amount > much",)),)), "no number"),
        (Reason("x", "orders", (Occurrence((5, 5)),)), "are none"),
        (Reason("x", "orders", ()), "says nothing"),
    ):
        with pytest.raises(InputError, match=words):
            find_causes(one_case(), {"orders": orders}, calendar=SHANGHAI, reasons=[reason])


EVENTS = {"user_id": "int64", "ts": "timestamp", "event": "string"}
stream = st.lists(
    st.tuples(st.integers(1, 4), st.integers(0, 40 * 24), st.sampled_from(["pay", "search", "crash"])), max_size=40
)
case_list = st.sets(st.tuples(st.integers(1, 5), st.integers(10, 40)), min_size=1, max_size=8)
REASONS = (
    Reason("paid", "events", (Occurrence((0, 7), ("event = pay",)),)),
    Reason("often", "events", (Occurrence((0, 14), ("event in pay; search",), at_least=2, at_most=4),)),
    Reason("stopped", "events", (Occurrence((0, 7), ("event = search",), at_least=0, at_most=0),
                                 Occurrence((7, 21), ("event = search",)))),
    Reason("quiet", "events", (Occurrence((0, 3), at_least=0, at_most=0),)),
)  # fmt: skip


@settings(max_examples=25)
@given(stream, case_list)
def test_flags_agree_with_plain_python(rows: list[tuple[int, int, str]], chosen: set[tuple[int, int]]) -> None:
    first = dt.datetime(2026, 1, 1)
    events = [(u, first + dt.timedelta(hours=h), e) for u, h, e in rows]
    cases = sorted((u, first.date() + n * DAY, u % 2 == 0) for u, n in chosen)
    frame = pd.DataFrame(cases, columns=["user_id", "index_day", "left"])
    schema = {"user_id": "int64", "index_day": "date", "left": "boolean"}
    frame["key"] = range(len(frame))
    table = Cases.of_table(ibis.memtable(frame, schema={**schema, "key": "int64"}), ["key"])
    source = ibis.memtable(pd.DataFrame(events, columns=list(EVENTS)), schema=EVENTS)
    found = flag_reasons(table, {"events": source}, REASONS, calendar=SHANGHAI).to_pandas().sort_values("key")

    def count(user: int, index: dt.date, first_day: int, end: int, names: tuple[str, ...]) -> int:
        ages = [(index - (ts + dt.timedelta(hours=8)).date()).days for u, ts, e in events if u == user and e in names]
        return sum(first_day <= age < end for age in ages)

    for (user, index, _), row in zip(cases, found.to_dict("records"), strict=True):
        everything = ("pay", "search", "crash")
        assert row["r0"] == (count(user, index, 0, 7, ("pay",)) >= 1)
        assert row["r1"] == (2 <= count(user, index, 0, 14, ("pay", "search")) <= 4)
        stopped = count(user, index, 0, 7, ("search",)) == 0 and count(user, index, 7, 21, ("search",)) >= 1
        assert row["r2"] == stopped
        assert row["r3"] == (count(user, index, 0, 3, everything) == 0)


@settings(max_examples=25)
@given(user_days, st.sampled_from([None, 10]))
def test_cases_agree_with_plain_python(days: set[tuple[int, dt.date]], silent: int | None) -> None:
    as_of = START + 110 * DAY
    period = Period(dt.date(2026, 1, 1), dt.date(2026, 3, 1), "two months")
    cases = choose_cases(to_table(days), period, as_of=as_of, inactive_days=silent, min_tenure_days=5)
    found = {(r["user_id"], r["index_day"]): r for r in cases.table.to_pandas().to_dict("records")}
    known = {(u, d) for u, d in days if d <= as_of}
    expected = {}
    for user, month in product({u for u, _ in known}, (1, 2)):
        own = sorted(d for u, d in known if u == user)
        inside = [d for d in own if (d.year, d.month) == (2026, month)]
        if not inside or (inside[-1] - own[0]).days < 5:
            continue
        index = inside[-1]
        if silent is None:
            back = any((d.year, d.month) == (2026, month + 1) for d in own)
        else:
            back = any(0 < (d - index).days <= silent for d in own)
        late = sum(0 <= (index - d).days < 14 for d in own)
        early = sum(14 <= (index - d).days < 28 for d in own)
        expected[user, pd.Timestamp(index)] = (not back, late, early, (index - own[0]).days)
    names = ("left", "late_count", "early_count", "tenure_days")
    assert {(u, pd.Timestamp(d)): tuple(r[n] for n in names) for (u, d), r in found.items()} == expected


def test_months_that_are_not_known_yet_wait() -> None:
    period = Period(dt.date(2026, 1, 1), dt.date(2026, 4, 1), "quarter")
    days = {(u, dt.date(2026, m, 5)) for u in range(5) for m in (1, 2, 3)}
    cases = choose_cases(to_table(days), period, as_of=dt.date(2026, 3, 31), min_tenure_days=0)
    assert cases.waiting == (dt.date(2026, 3, 1),)
    assert "2026-03 is not known yet" in cases.notes[0]
    assert cases.counts["month"].astype(str).str[:7].tolist() == ["2026-01", "2026-02"]
    nobody = choose_cases(to_table(days), period, as_of=dt.date(2025, 3, 31))
    assert nobody.counts.empty
    found = find_causes(nobody, {}, calendar=SHANGHAI)
    assert "nobody to compare" in " ".join(found.notes)


def test_a_user_too_young_for_a_reason_is_in_neither_group() -> None:
    table = ibis.memtable({"user_id": [1, 2], "index_day": [INDEX] * 2, "left": [True, False], "history_days": [5, 50]})
    events = ibis.memtable({"user_id": [1], "ts": [MIDNIGHT - 2 * DAY], "event": ["pay"]})
    flags = flag_reasons(Cases.of_table(table), {"events": events}, REASONS[:1], calendar=SHANGHAI).to_pandas()
    assert flags.loc[flags["left"], "r0"].isna().all()
    assert flags.loc[~flags["left"], "r0"].tolist() == [0]


@pytest.fixture(scope="module")
def sample() -> Data:
    return open_data(ROOT / "playbook.toml")


def search(data: Data, start: dt.date, end: dt.date) -> Any:
    period = Period(start, end, "")
    cases = choose_cases(
        data.active_days, period, as_of=data.as_of, calendar=data.calendar, signups=data.table("users")
    )
    tables = {n: data.table(n) for n in ("coupons", "tickets", "orders", "messages", "events")}
    found = check_expiry(data.active_days, data.table("coupons"), period, as_of=data.as_of, calendar=data.calendar)
    return find_causes(cases, tables, calendar=data.calendar, experiments={"coupon_expired_unused": found})


def test_sample_names_the_coupon_first(sample: Data) -> None:
    """truth.json: 2,379 of 3,965 established leavers, 4,888 of 13,225 stayers; the equal share is .365 raw."""
    found = search(sample, dt.date(2026, 3, 1), dt.date(2026, 6, 1))
    row = found.named.iloc[0]
    counts = ("leavers_with_count", "leavers_count", "stayers_with_count", "stayers_count")
    assert row["reason"] == "coupon_expired_unused"
    assert [row[c] for c in counts] == [2379, 3965, 4888, 13225]
    assert row["raw_attributable_rate"] == pytest.approx(0.365, abs=0.001)
    # Planted: chances to leave of 2.4, 4.6 and 8.5 times by month, which made 46.6% of the leavers; users who left for
    # other reasons on such days hide some of it.
    assert 0.365 <= row["attributable_low"] < row["attributable_high"] < 0.466
    assert row["evidence"] == "natural_experiment"
    # The sample's other true node: more leave about 30 days after a payment. Nothing else was planted.
    assert set(found.named["reason"]) <= {"coupon_expired_unused", "month_after_purchase"}
    assert found.counts["leavers_count"].tolist() == [1149, 1323, 1493]
    assert found.findings()[1]["name"] == "attributable_together_rate"


def test_sample_does_not_name_it_before_the_incident(sample: Data) -> None:
    found = search(sample, dt.date(2025, 10, 1), dt.date(2026, 3, 1))
    rows = found.reasons.set_index("reason")
    assert set(found.named["reason"]) <= {"month_after_purchase"}
    assert rows.loc["coupon_expired_unused", "leavers_rate"] < rows.loc["coupon_expired_unused", "stayers_rate"]
    assert rows.loc["coupon_expired_unused", "evidence"] == "association"


@pytest.mark.shared
def test_telco_reasons_as_columns(shared: Any) -> None:
    """Real columns: counts as pandas has them; what goes with tenure alone shrinks at equal tenure."""
    frame = pd.read_csv(shared / "real" / "telco_churn" / "Telco-Customer-Churn.csv")
    flags = pd.DataFrame({
        "left": frame["Churn"] == "Yes", "tenure": frame["tenure"] // 6, "contract": frame["Contract"],
        "electronic_check": frame["PaymentMethod"] == "Electronic check",
        "fiber": frame["InternetService"] == "Fiber optic",
        "paperless": frame["PaperlessBilling"] == "Yes", "no_support": frame["TechSupport"] == "No",
        "senior": frame["SeniorCitizen"] == 1, "female": frame["gender"] == "Female",
    })  # fmt: skip
    reasons = ["electronic_check", "fiber", "paperless", "no_support", "senior", "female"]
    found = compare_reasons(ibis.memtable(flags), left="left", reasons=reasons, strata=["tenure", "contract"])
    rows = found.reasons.set_index("reason")
    assert found.leavers_rate.numerator == 1869
    assert (
        rows.loc["electronic_check", "leavers_with_count"] == int((flags.left & flags.electronic_check).sum()) == 1071
    )
    assert rows.loc["female", "status"] == "not clear"
    assert {"fiber", "electronic_check"} <= set(found.named["reason"])
    assert (rows.loc[reasons[:4], "risk_ratio"] < rows.loc[reasons[:4], "raw_risk_ratio"]).all()
