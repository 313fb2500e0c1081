"""Each rule of the contract: counted exactly, at most three examples, in one pass; what `drop` and `keep` do."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from opslib.data.source import Data
from opslib.language import speak
from tests.data.company import COMPANY, EVENTS, GOOD, ORDERS, USERS, find_problems, open_company, open_events

GOOD_ROWS = GOOD.splitlines()[1:]
ORDER_HEAD = "order_id,user_id,ts,amount\n"
# Five nulls, four unparsable, three future, two absurd times, among 90 good rows.
BAD_ROWS = [
    *(f",2026-03-0{i} 10:00:00,null" for i in range(1, 6)),
    *(f"1,{word},open" for word in ("soon", "later", "2026-13-01", "2026-02-30")),
    *(f"1,{year}-01-01,open" for year in (2027, 2099, 9999)),
    *(f"1,19{year}-01-01,open" for year in (70, 89)),
]
DROP_ALL = 'drop = ["null_key", "unparsable", "future_time", "absurd_time", "duplicate_key"]\n'


@pytest.fixture
def bad(tmp_path: Path) -> Data:
    return open_events(tmp_path, [*GOOD_ROWS, *BAD_ROWS])


def test_each_rule_is_counted_exactly(bad: Data) -> None:
    assert find_problems(bad) == {
        ("null_key", "events.user_id"): (5, "unfit"),
        ("unparsable", "events.ts"): (4, "unfit"),
        ("future_time", "events.ts"): (3, "unfit"),
        ("absurd_time", "events.ts"): (2, "unfit"),
    }
    assert all(p.rows == 104 for p in bad.fitness.problems)


def test_examples_are_three_distinct_raw_values(bad: Data) -> None:
    examples = {p.rule: p.examples for p in bad.fitness.problems}
    assert examples["unparsable"] == ("'2026-02-30'", "'2026-13-01'", "'later'")
    assert examples["future_time"] == ("'2027-01-01'", "'2099-01-01'", "'9999-01-01'")
    assert examples["absurd_time"] == ("'1970-01-01'", "'1989-01-01'")
    assert examples["null_key"][0] == "the row with ts 2026-03-01 10:00:00"
    assert len(examples["null_key"]) == 3


def test_problems_are_told_in_the_language_of_whoever_reads_them(bad: Data) -> None:
    """They are found once, and a report in another language may show them."""
    english = [str(p) for p in bad.fitness.problems]
    with speak("zh"):
        chinese = [str(p) for p in bad.fitness.problems]
        lines = bad.fitness.to_text().splitlines()
    assert chinese[0].startswith("events.user_id：104行中有5行没有值（null_key），例如")
    assert 'drop = ["null_key"]' in english[0] and 'drop = ["null_key"]' in chinese[0]
    assert [str(p) for p in bad.fitness.problems] == english
    # Chinese letters are two wide: columns stand below each other all the same.
    assert lines[0].startswith("表" + " " * 18 + "行数") and lines[1].startswith("events" + " " * 15 + "104")


def test_repeated_examples_are_shown_once(tmp_path: Path) -> None:
    data = open_events(tmp_path, [*GOOD_ROWS, *["1,soon,open"] * 50])
    (problem,) = data.fitness.problems
    assert (problem.count, problem.examples) == (50, ("'soon'",))


def test_one_pass_over_fit_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = open_events(tmp_path, GOOD_ROWS)
    results: list[object] = []
    fetch = type(data.connection).execute
    monkeypatch.setattr(type(data.connection), "execute", lambda *a, **k: results.append(a) or fetch(*a, **k))
    assert data.fitness.verdict == "fit"
    assert len(results) == 1


def test_dropped_rows_become_warnings_and_leave_no_trace(tmp_path: Path) -> None:
    data = open_events(tmp_path, [*GOOD_ROWS, *BAD_ROWS, ",2099-01-01,both"], DROP_ALL)
    assert data.fitness.verdict == "usable with warnings"
    assert find_problems(data) == {
        ("null_key", "events.user_id"): (6, "warning"),
        ("unparsable", "events.ts"): (4, "warning"),
        ("future_time", "events.ts"): (4, "warning"),
        ("absurd_time", "events.ts"): (2, "warning"),
    }
    assert all("are left out" in str(p) for p in data.fitness.problems)
    (profile,) = data.fitness.profiles
    # The row that breaks two rules is left out once.
    assert (profile.rows, profile.kept) == (105, 90)
    assert data.execute(data.table("events").count()) == 90
    # Years 1970 and 9999 would stretch the calendar.
    assert (profile.first_at, profile.last_at) == (dt.datetime(2026, 1, 10, 10), dt.datetime(2026, 6, 12, 12))
    assert data.as_of == dt.date(2026, 6, 11)


def test_dropping_one_rule_forgives_no_other(tmp_path: Path) -> None:
    data = open_events(tmp_path, [*GOOD_ROWS, *BAD_ROWS], 'drop = ["null_key"]\n')
    assert find_problems(data)["null_key", "events.user_id"] == (5, "warning")
    assert find_problems(data)["unparsable", "events.ts"] == (4, "unfit")
    assert data.fitness.verdict == "unfit"


def test_nothing_left_is_unfit(tmp_path: Path) -> None:
    data = open_events(tmp_path, ["1,soon,x", "2,later,x"], 'drop = ["unparsable"]\n')
    assert ("empty_table", "events.") in find_problems(data)
    assert "after [tables.events] drop" in data.fitness.to_text()
    assert data.fitness.verdict == "unfit"


ORDER_LINES = (
    ORDER_HEAD + "1,7,2026-01-01 10:00:00,5\n1,7,2026-01-01 09:00:00,6\n2,7,2026-02-01,1.5\n3,8,2026-06-30,2\n"
)


def test_repeated_orders(tmp_path: Path) -> None:
    data = open_company(tmp_path, {"orders.csv": ORDER_LINES}, ORDERS)
    assert find_problems(data) == {("duplicate_key", "orders.order_id"): (1, "unfit")}
    assert data.fitness.problems[0].examples == ("1 (2 times)",)


def test_repeated_orders_dropped(tmp_path: Path) -> None:
    text = ORDER_LINES + ",7,2026-03-01,4\n,7,2026-03-02,4\n"
    data = open_company(tmp_path, {"orders.csv": text}, ORDERS + 'drop = ["duplicate_key"]\n')
    assert find_problems(data) == {("duplicate_key", "orders.order_id"): (1, "warning")}
    rows = data.execute(data.table("orders"))
    # One of the two rows of order 1 stays; orders without a number repeat nothing.
    assert sorted(rows["order_id"].dropna()) == [1, 2, 3]
    assert len(rows) == data.fitness.profiles[0].kept == 5


def test_repeats_among_dropped_rows_do_not_count(tmp_path: Path) -> None:
    text = ORDER_HEAD + "1,7,2026-01-01,5\n1,,2026-01-01,5\n"
    data = open_company(tmp_path, {"orders.csv": text}, ORDERS + 'drop = ["null_key"]\n')
    assert find_problems(data) == {("null_key", "orders.user_id"): (1, "warning")}


def test_lines_are_summed_to_orders(tmp_path: Path) -> None:
    data = open_company(tmp_path, {"orders.csv": ORDER_LINES}, ORDERS + 'rows = "lines"\n')
    assert data.fitness.verdict == "fit"
    rows = data.execute(data.table("orders").order_by("order_id"))
    assert rows["amount"].tolist() == [11, 1.5, 2]
    assert rows["ts"][0] == pd.Timestamp("2026-01-01 09:00:00")
    assert rows["user_id"].tolist() == [7, 7, 8]


def test_lines_without_an_order_number(tmp_path: Path) -> None:
    data = open_company(tmp_path, {"orders.csv": ORDER_LINES + ",7,2026-03-01,4\n"}, ORDERS + 'rows = "lines"\n')
    assert find_problems(data) == {("null_key", "orders.order_id"): (1, "unfit")}


def test_lines_keep_further_columns_that_are_named(tmp_path: Path) -> None:
    text = "order_id,user_id,ts,amount,Country,City\n1,7,2026-01-01,5,FR,Paris\n1,7,2026-01-01,5,FR,Lyon\n"
    options = 'rows = "lines"\ncolumns = { country = "Country" }\n'
    data = open_company(tmp_path, {"orders.csv": text}, ORDERS + options)
    assert data.table("orders").columns == ("order_id", "user_id", "ts", "amount", "country")


def test_kept_rows(tmp_path: Path) -> None:
    keep = 'keep = [{ column = "amount", above = 0 }, { column = "order_id", not_starts_with = "C" }]\n'
    text = ORDER_HEAD + "A1,7,2026-01-01,5\nC2,7,2026-01-01,6\nA3,7,2026-01-01,0\nA4,7,2026-02-01,-1\n,7,2026-02-01,9\n"
    data = open_company(tmp_path, {"orders.csv": text}, ORDERS + keep)
    assert find_problems(data) == {("filtered", "orders."): (4, "note")}
    assert data.fitness.verdict == "fit"
    assert data.execute(data.table("orders"))["order_id"].tolist() == ["A1"]
    assert "amount above 0" in str(data.fitness.problems[0])


@pytest.mark.parametrize(
    ("condition", "kept"),
    [
        ("above = 1", [2, 3]), ("below = 2", [1]), ("equals = 2", [2]), ("is_in = [1, 3]", [1, 3]),
        ("not_in = [1]", [2, 3]), ('starts_with = "1"', [1]), ('not_starts_with = "1"', [2, 3]),
        ("is_present = true", [1, 2, 3]),
    ],
)  # fmt: skip
def test_every_condition(condition: str, kept: list[int], tmp_path: Path) -> None:
    text = "user_id,ts,event,x\n1,2026-01-01,a,1\n2,2026-01-01,a,2\n3,2026-01-01,a,3\n4,2026-01-01,a,\n"
    data = open_company(tmp_path, {"events.csv": text}, EVENTS + f'keep = [{{ column = "x", {condition} }}]\n')
    assert data.execute(data.table("events").order_by("user_id"))["user_id"].tolist() == kept
    assert data.fitness.profiles[0].kept == len(kept)


def test_a_text_of_blanks_is_not_present(tmp_path: Path) -> None:
    text = 'user_id,ts,event,x\n1,2026-01-01,a,k\n2,2026-01-01,a,"  "\n3,2026-01-01,a,\n'
    data = open_company(tmp_path, {"events.csv": text}, EVENTS + 'keep = [{ column = "x", is_present = true }]\n')
    assert data.execute(data.table("events"))["user_id"].tolist() == [1]


def test_bad_rows_that_are_not_kept_do_not_count(tmp_path: Path) -> None:
    data = open_events(tmp_path, [*GOOD_ROWS, *BAD_ROWS], 'keep = [{ column = "ts", starts_with = "2026-0" }]\n')
    problems = find_problems(data)
    assert problems["unparsable", "events.ts"] == (1, "unfit")  # 2026-02-30
    assert problems["null_key", "events.user_id"] == (5, "unfit")
    assert ("future_time", "events.ts") not in problems


SURVEYS = '[tables.surveys]\nsource = "surveys.csv"\n'


def test_unknown_category_is_a_warning(tmp_path: Path) -> None:
    surveys = "user_id,ts,kind,score\n1,2026-01-01,nps,9\n2,2026-01-01,NPS,9\n2,2026-01-02,ces,\n"
    data = open_company(tmp_path, {"events.csv": GOOD, "surveys.csv": surveys}, EVENTS + SURVEYS)
    assert find_problems(data) == {
        ("unknown_category", "surveys.kind"): (2, "warning"),
        ("null_value", "surveys.score"): (1, "warning"),
    }
    assert "nps or csat" in data.fitness.to_text()


def test_strangers_are_a_warning(tmp_path: Path) -> None:
    users = "user_id,signup_at\n1,2026-01-01\n2,2026-01-01\n3,2026-01-01\n"
    data = open_company(tmp_path, {"events.csv": GOOD, "users.csv": users}, EVENTS + USERS)
    assert find_problems(data) == {("unknown_user", "events.user_id"): (36, "warning")}
    assert data.fitness.problems[0].examples == ("4", "5")


def test_negative_and_broken_amounts(tmp_path: Path) -> None:
    frame = pd.DataFrame({"user_id": [1, 2, 3, 4], "ts": pd.Timestamp("2026-01-01"), "amount": [5.0, -1, None, None]})
    frame.loc[3, "amount"] = float("inf")
    data = open_company(tmp_path, {"orders.parquet": frame}, ORDERS.replace("csv", "parquet"))
    assert find_problems(data) == {
        ("negative_amount", "orders.amount"): (1, "warning"), ("null_value", "orders.amount"): (2, "warning"),
    }  # fmt: skip
    assert data.execute(data.table("orders").amount.sum()) == 4


@pytest.mark.parametrize("zone", ["+08:00", "+0800", "+08", "Z", " UTC", " +08:00"])
def test_zones_of_all_rows_are_read(zone: str, tmp_path: Path) -> None:
    data = open_events(
        tmp_path, [f"{u},2026-01-01 02:30:00{zone},open" for u in (1, 2)] + ["3,,x"], 'drop = ["null_key"]\n'
    )
    assert find_problems(data)["mixed_zones", "events.ts"] == (2, "note")
    expected = "2025-12-31 18:30" if "08" in zone else "2026-01-01 02:30"
    assert set(data.execute(data.table("events"))["ts"]) == {pd.Timestamp(expected)}


def test_mixed_zones_with_a_zone_for_the_others(tmp_path: Path) -> None:
    rows = ["1,2026-01-01 02:30:00+01:00,open", "2,2026-01-01 02:30:00,open"]
    options = 'columns = { ts = { column = "ts", timezone = "Asia/Shanghai" } }\n'
    data = open_events(tmp_path, rows, options)
    assert find_problems(data)["mixed_zones", "events.ts"] == (1, "warning")
    assert data.execute(data.table("events").order_by("user_id"))["ts"].tolist() == [
        pd.Timestamp("2026-01-01 01:30"), pd.Timestamp("2025-12-31 18:30"),
    ]  # fmt: skip


def test_dates_with_a_format_carry_no_zone(tmp_path: Path) -> None:
    options = 'columns = { ts = { column = "ts", format = "%d-%m-%Y" } }\ndrop = ["null_key"]\n'
    data = open_events(tmp_path, ["1,30-01-2026,x", "2,,x"], options)  # -2026 looks like an offset
    assert find_problems(data) == {("null_key", "events.ts"): (1, "warning")}


@pytest.mark.parametrize(
    ("zone", "last", "verdict"),
    [
        ("UTC", "2026-06-30 23:59:59", "fit"), ("UTC", "2026-07-01 00:00:00", "unfit"),
        ("Asia/Shanghai", "2026-06-30 15:59:59", "fit"), ("Asia/Shanghai", "2026-06-30 16:00:00", "unfit"),
        ("America/New_York", "2026-07-01 03:59:59", "fit"), ("America/New_York", "2026-07-01 04:00:00", "unfit"),
    ],
)  # fmt: skip
def test_data_until_is_a_day_of_the_company(zone: str, last: str, verdict: str, tmp_path: Path) -> None:
    data = open_events(tmp_path, [*GOOD_ROWS, f"1,{last},open"], company=COMPANY + f'timezone = "{zone}"\n')
    assert data.fitness.verdict == verdict


def test_without_data_until_the_clock_decides(tmp_path: Path) -> None:
    company = '[company]\nname = "x"\n'
    soon, late = (dt.datetime.now(dt.UTC) + dt.timedelta(days=d) for d in (1, 3))
    assert open_events(tmp_path, [f"1,{soon:%Y-%m-%d %H:%M},x"], company=company).fitness.verdict == "fit"
    assert open_events(tmp_path, [f"1,{late:%Y-%m-%d %H:%M},x"], company=company).fitness.verdict == "unfit"


def test_coupons_may_expire_later(tmp_path: Path) -> None:
    coupons = "coupon_id,user_id,issued_at,expires_at,redeemed_at\n1,1,2026-06-01,2027-01-01,\n"
    data = open_company(
        tmp_path, {"events.csv": GOOD, "coupons.csv": coupons}, EVENTS + '[tables.coupons]\nsource = "coupons.csv"\n'
    )
    assert data.fitness.verdict == "fit"


def test_frame_and_text(bad: Data) -> None:
    frame = bad.fitness.to_frame()
    assert frame.loc[0, ["table", "rows_count", "verdict"]].tolist() == ["events", 104, "unfit"]
    assert len(frame.loc[0, "problems"]) == 4
    text = bad.fitness.to_text()
    assert text.index("Verdict: unfit") < text.index("unparsable")
    assert "104" in text


def test_problems_stand_worst_first(tmp_path: Path) -> None:
    text = ORDER_HEAD + "1,7,2026-01-01,-5\n2,7,soon,5\n3,8,2026-01-01,-1\n"
    keep = 'keep = [{ column = "order_id", above = 0 }]\n'
    severities: list[Any] = [
        p.severity for p in open_company(tmp_path, {"orders.csv": text}, ORDERS + keep).fitness.problems
    ]
    assert severities == ["unfit", "warning"]


@pytest.mark.parametrize(("named", "count"), [("['open', 'opne']", 1), ("['open']", 0)])
def test_activity_that_names_unknown_events(named: str, count: int, tmp_path: Path) -> None:
    data = open_events(tmp_path, GOOD_ROWS, f"[activity]\nevents = {named}\n")
    assert [p.severity for p in data.fitness.problems] == ["warning"] * count
    assert all("Did you mean 'open'?" in str(p) for p in data.fitness.problems)


def test_excluding_every_event_is_unfit(tmp_path: Path) -> None:
    data = open_events(tmp_path, GOOD_ROWS, "[activity]\nexcept_events = ['open']\n")
    assert data.fitness.verdict == "unfit"
    assert "leaves nobody active" in data.fitness.to_text()
