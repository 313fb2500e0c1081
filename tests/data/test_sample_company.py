"""The sample company: the same every time, sound as data, and with its planted incidents visible to plain SQL."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from opslib.data.sample_company import INCIDENTS, Incident, SampleSettings, Segment, generate_sample
from opslib.data.sample_company.company import Rates
from opslib.data.sample_company.incidents import Effects
from opslib.data.sample_company.tables import TABLES
from opslib.errors import InputError

SAMPLES = Path(__file__).parents[2] / "data" / "samples"
SMALL = SampleSettings(chunk_users=2_000)
DAY = "(ts + interval 8 hour)::date"  # the local day in Asia/Shanghai, which keeps no summer time


def locate(folder: Path, name: str) -> Path:
    """A table's file, or its folder of files."""
    return folder / name if (folder / name).is_dir() else folder / f"{name}.parquet"


def connect(folder: Path) -> duckdb.DuckDBPyConnection:
    """A connection with a view for each table of a sample."""
    connection = duckdb.connect(config={"threads": 2})
    for name in TABLES:
        files = folder / name / "*.parquet" if (folder / name).is_dir() else folder / f"{name}.parquet"
        connection.execute(f"create view {name} as select * from read_parquet('{files}')")
    connection.execute(
        f"create table active as select distinct user_id, {DAY} as day from events;"
        "create table cohort as select *, (signup_at + interval 8 hour)::date as day from users"
    )
    return connection


@pytest.fixture(scope="module")
def again(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default sample, generated now."""
    folder = tmp_path_factory.mktemp("sample") / "default"
    generate_sample(folder)
    return folder


@pytest.fixture(scope="module")
def shipped() -> duckdb.DuckDBPyConnection:
    """The sample in `data/samples`."""
    return connect(SAMPLES)


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> duckdb.DuckDBPyConnection:
    """The same company with no incidents."""
    folder = tmp_path_factory.mktemp("sample") / "quiet"
    generate_sample(folder, incidents=())
    return connect(folder)


@pytest.fixture(scope="module")
def truth() -> dict[str, Any]:
    """What `truth.json` says."""
    found: dict[str, Any] = json.loads((SAMPLES / "truth.json").read_text(encoding="utf-8"))
    return found


def change_of(truth: dict[str, Any], story: str, kind: str, number: int = 0) -> dict[str, Any]:
    """One line of an incident in the truth."""
    (incident,) = (i for i in truth["incidents"] if i["id"] == story)
    changes = [change for change in incident["changes"] if change["kind"] == kind]
    found: dict[str, Any] = changes[number]
    return found


def cell(change: dict[str, Any], name: str) -> tuple[float, float]:
    """Numerator and denominator of one realised cell."""
    found = change["realised"]["cells"][name]
    return found["numerator"], found["denominator"]


def one(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[Any, ...]:
    """The only row of a query."""
    (row,) = connection.execute(sql).fetchall()
    return tuple(row)


def two_share_z(first: tuple[float, float], second: tuple[float, float]) -> float:
    """Standard errors between two shares (numerator, denominator)."""
    pooled = (first[0] + second[0]) / (first[1] + second[1])
    error = math.sqrt(pooled * (1 - pooled) * (1 / first[1] + 1 / second[1]))
    return (first[0] / first[1] - second[0] / second[1]) / error


# --- the same every time ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TABLES)
def test_shipped_sample_is_what_the_generator_writes(again: Path, name: str) -> None:
    assert pq.read_table(locate(again, name)).equals(pq.read_table(locate(SAMPLES, name)))


@pytest.mark.parametrize("name", ["truth.json", "README.md"])
def test_shipped_words_are_what_the_generator_writes(again: Path, name: str) -> None:
    assert (again / name).read_text(encoding="utf-8") == (SAMPLES / name).read_text(encoding="utf-8")


def test_chunks_give_the_same_bytes_in_one_process_or_two(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    alone = generate_sample(
        tmp_path / "one", events=300_000, settings=SMALL, processes=1, progress=lambda *at: seen.append(at[:2])
    )
    generate_sample(tmp_path / "two", events=300_000, settings=SMALL, processes=2)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert alone.rows["events"] == pytest.approx(300_000, rel=0.1)
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*") if p.is_file())
    assert [str(f) for f in files if f.parent.name == "events"] == [f"events/part-000{n}.parquet" for n in range(3)]
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file
    connection = connect(tmp_path / "one")
    for table, key in (("users", "user_id"), ("orders", "order_id"), ("coupons", "coupon_id")):
        assert one(connection, f"select count(*) = count(distinct {key}) from {table}") == (True,)


def test_seed_decides(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        generate_sample(tmp_path / name, users=800, seed=seed)
    first, same, other = ((tmp_path / name / "events" / "2026.parquet").read_bytes() for name in "abc")
    assert first == same != other


# --- sound as data ---------------------------------------------------------------------------------------


def test_size_stays_small() -> None:
    assert sum(path.stat().st_size for path in SAMPLES.rglob("*")) < 15e6


@pytest.mark.parametrize("name", TABLES)
def test_schema_is_the_dictionary(name: str) -> None:
    # Parquet readers see plain columns; nullability is checked by counting.
    schema = pq.read_table(locate(SAMPLES, name)).schema
    assert [(f.name, f.type) for f in schema] == [(c.name, c.type) for c in TABLES[name].columns]
    readme = (SAMPLES / "README.md").read_text(encoding="utf-8")
    for column in TABLES[name].columns:
        assert f"| `{column.name}` | {column.type}" in readme


@pytest.mark.parametrize("name", TABLES)
def test_only_nullable_columns_hold_nulls_and_files_are_sorted(name: str) -> None:
    table = pq.read_table(locate(SAMPLES, name))
    for column in TABLES[name].columns:
        assert column.nullable or table.column(column.name).null_count == 0, column.name
    times = table.column(TABLES[name].sorted_by).to_pylist()
    assert times == sorted(times)


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ("users", "user_id"), ("orders", "order_id"), ("coupons", "coupon_id"), ("messages", "message_id"),
        ("tickets", "ticket_id"), ("traffic", "ts"), ("referrals", "invitee_id"), ("spend", "(date, channel)"),
        ("exposures", "(user_id, experiment)"),
    ],
)  # fmt: skip
def test_keys_are_unique(shipped: duckdb.DuckDBPyConnection, table: str, key: str) -> None:
    assert one(shipped, f"select count(*) - count(distinct {key}) from {table}") == (0,)


@pytest.mark.parametrize(
    ("table", "key"),
    [
        *((t, "user_id") for t in ("events", "orders", "coupons", "messages", "tickets", "surveys", "exposures")),
        ("referrals", "inviter_id"),
        ("referrals", "invitee_id"),
    ],
)
def test_everything_names_a_user_who_had_signed_up(shipped: duckdb.DuckDBPyConnection, table: str, key: str) -> None:
    at = TABLES[table].sorted_by
    sql = f"select count(*) from {table} t left join users u on u.user_id = t.{key} where t.{at} < signup_at"
    assert one(shipped, sql + " or signup_at is null") == (0,)


def test_everything_lies_inside_the_window(shipped: duckdb.DuckDBPyConnection) -> None:
    for name, spec in TABLES.items():
        for column in spec.columns:
            if str(column.type).startswith("timestamp") and column.name != "expires_at":
                low, high = one(shipped, f"select min({column.name})::varchar, max({column.name})::varchar from {name}")
                assert "2024-12-31 16:00:00" <= low <= high < "2026-06-30 16:00:00", (name, column.name)
    assert one(shipped, "select min(date)::varchar, max(date)::varchar from spend") == ("2025-01-01", "2026-06-30")
    assert one(shipped, "select count(*) from traffic") == (546 * 288,)


def test_events_hang_together(shipped: duckdb.DuckDBPyConnection) -> None:
    first = "select user_id, min(ts) as ts, min_by(event, ts) as event from events group by 1"
    sql = f"select count(*) from users u left join ({first}) f using (user_id)"
    assert one(shipped, f"{sql} where f.ts is distinct from signup_at or f.event <> 'sign_up'") == (0,)
    opened = f"select count(distinct (user_id, {DAY})) from events where event = 'app_open'"
    assert one(shipped, opened) == one(shipped, "select count(*) from active")
    session = f"select session_id from events group by 1 having count(distinct (user_id, {DAY})) > 1"
    assert one(shipped, f"select count(*) from ({session})") == (0,)
    steps = ("view_item", "add_to_cart", "begin_checkout", "pay")
    for early, late in pairwise(steps):
        sql = f"select count(*) from (select session_id, min(ts) filter (event = '{early}') as a, "
        sql += f"min(ts) filter (event = '{late}') as b from events group by 1)"
        assert one(shipped, f"{sql} where b is not null and (a is null or a >= b)") == (0,), late


def test_money_hangs_together(shipped: duckdb.DuckDBPyConnection) -> None:
    paid = "(select user_id, ts from events where event = 'pay')"
    bought = "(select user_id, ts from orders)"
    assert one(shipped, f"select count(*) from ({paid} except all {bought})") == (0,)
    assert one(shipped, f"select count(*) from ({bought} except all {paid})") == (0,)
    assert one(shipped, "select count(*) from orders where amount <= 0 or cost <= 0 or discount < 0") == (0,)
    joined = "coupons c full join (select * from orders where coupon_id is not null) o using (coupon_id)"
    wrong = "redeemed_at is distinct from ts or (redeemed_at is not null and (c.user_id <> o.user_id "
    wrong += "or redeemed_at < issued_at or redeemed_at >= expires_at or discount <= 0))"
    assert one(shipped, f"select count(*) from {joined} where {wrong}") == (0,)
    assert one(shipped, "select count(*) from orders where (discount > 0) <> (coupon_id is not null)") == (0,)
    assert one(shipped, "select count(*) from coupons where expires_at <= issued_at") == (0,)


def test_messages_tickets_and_referrals_hang_together(shipped: duckdb.DuckDBPyConnection) -> None:
    assert one(shipped, "select count(*) from messages where clicked and not opened or opened and not delivered") == (
        0,
    )
    clicked = f"select user_id, {DAY} as day from messages where clicked"
    assert one(shipped, f"select count(*) from ({clicked} except select * from active)") == (0,)
    assert one(shipped, "select count(*) from tickets where closed_at <= opened_at") == (0,)
    assert one(shipped, "select count(*) from referrals where inviter_id = invitee_id") == (0,)
    invited = "select count(*) from users u full join referrals r on invitee_id = user_id"
    assert one(shipped, f"{invited} where (channel = 'referral') <> (invitee_id is not null)") == (0,)
    earlier = "exists (select 1 from events e where e.user_id = inviter_id and event = 'invite_sent' and e.ts < r.ts)"
    assert one(shipped, f"select count(*) from referrals r where not {earlier}") == (0,)
    assert one(
        shipped,
        "select count(*) from users where (domain = 'private') <> (channel in ('referral', 'wecom', 'community'))",
    ) == (0,)
    assert one(
        shipped,
        "select count(*) from surveys where score not between if(kind = 'nps', 0, 1) and if(kind = 'nps', 10, 5)",
    ) == (0,)
    assert one(shipped, "select count(*) from traffic where errors > requests or p95_ms <= 0") == (0,)


def test_labels_do_not_tell() -> None:
    words = {word for i in INCIDENTS for word in i.id.split("_")} | {
        "bug",
        "bad",
        "broken",
        "fake",
        "incident",
        "planted",
    }
    words -= {"june", "sale", "checkout", "onboarding", "checklist", "one", "page", "day", "coupon"}  # ordinary words
    for name, spec in TABLES.items():
        table = pq.read_table(locate(SAMPLES, name), columns=[c.name for c in spec.columns if str(c.type) == "string"])
        for column in table.column_names:
            for value in table.column(column).unique().drop_null().to_pylist():
                assert not words & set(re.split(r"[^a-z0-9]+", value.lower())), (name, column, value)


# --- a plausible company ---------------------------------------------------------------------------------


def retained(connection: duckdb.DuckDBPyConnection, day: int, where: str = "true") -> tuple[int, int]:
    """Users active on the given local day after sign-up, and all who could be."""
    hit = f"select 1 from active a where a.user_id = c.user_id and a.day = c.day + {day}"
    found = one(
        connection,
        f"select count(*) filter (exists ({hit})), count(*) from cohort c "
        f"where day + {day} < date '2026-07-01' and {where}",
    )
    return found[0], found[1]


def test_key_figures_are_those_of_a_company(shipped: duckdb.DuckDBPyConnection) -> None:
    for day, low, high in ((1, 0.30, 0.36), (7, 0.20, 0.26), (30, 0.115, 0.15)):
        value, total = retained(shipped, day)
        assert low < value / total < high, day
    for last in ("2025-06-30", "2025-10-31", "2026-02-28", "2026-06-30"):
        sql = "select count(*) / 28 / count(distinct user_id) from active where "
        assert 0.14 < one(shipped, f"{sql} day > date '{last}' - 28 and day <= date '{last}'")[0] < 0.22, last
    paid = "exists (select 1 from orders o where o.user_id = u.user_id and ts < signup_at + interval 30 day)"
    (conversion,) = one(shipped, f"select avg({paid}::int) from users u where signup_at < timestamp '2026-05-31'")
    assert 0.05 < conversion < 0.08
    (spent,) = one(shipped, "select sum(amount) from spend where channel = 'paid_ads'")
    (bought,) = one(shipped, "select count(*) from users where channel = 'paid_ads'")
    assert 80 < spent / bought < 200
    assert 0.4 < one(shipped, "select 1 - sum(cost) / sum(amount) from orders")[0] < 0.6
    assert 0.1 < one(shipped, "select (select count(*) from referrals) / count(*) from users")[0] < 0.2
    (satisfied,) = one(shipped, "select avg((score >= 4)::int) from surveys where kind = 'csat'")
    assert 0.85 < satisfied < 0.92


def test_daily_activity_neither_collapses_nor_explodes(shipped: duckdb.DuckDBPyConnection) -> None:
    weeks = shipped.execute(
        "select count(*) / 7.0 from active group by (day - date '2025-01-01') // 7 order by min(day)"
    ).fetchall()
    levels = [week[0] for week in weeks]
    for before, after in pairwise(levels[8:]):
        assert 0.7 < after / before < 1.4


# --- the planted incidents, by plain SQL -----------------------------------------------------------------

PAID_ANDROID = "channel = 'paid_ads' and platform = 'android'"
Q1 = "day >= date '2026-01-01' and day < date '2026-04-01'"
Q2 = "day >= date '2026-04-01' and day < date '2026-07-01'"


def test_d1_drop(shipped: duckdb.DuckDBPyConnection, quiet: duckdb.DuckDBPyConnection, truth: dict[str, Any]) -> None:
    during, before = (retained(shipped, 1, f"{PAID_ANDROID} and {q}") for q in (Q2, Q1))
    rest_during, rest_before = (
        retained(shipped, 1, f"not ({PAID_ANDROID}) and channel <> 'social' and {q}") for q in (Q2, Q1)
    )
    change = change_of(truth, "d1_drop", "return_rate")
    assert cell(change, "segment_during") == during
    assert two_share_z(during, before) < -4
    assert abs(two_share_z(rest_during, rest_before)) < 3
    assert 0.45 < (during[0] / during[1]) / (before[0] / before[1]) < 0.72
    assert abs(two_share_z(*(retained(quiet, 1, f"{PAID_ANDROID} and {q}") for q in (Q2, Q1)))) < 3


CHECKOUT = """
    select count(*) filter (paid), count(*) from (
        select session_id, any_value(platform) as platform, any_value(app_version) as version,
            bool_or(event = 'begin_checkout') as started, bool_or(event = 'pay') as paid, min(ts) as ts
        from events group by 1
    ) where started and ts >= timestamp '2026-05-10 16:00' and ts < timestamp '2026-06-14 16:00' and {where}"""


def test_checkout_bug(
    shipped: duckdb.DuckDBPyConnection, quiet: duckdb.DuckDBPyConnection, truth: dict[str, Any]
) -> None:
    version = "platform = 'android' and version = '5.3.0'"
    hit, rest = (one(shipped, CHECKOUT.format(where=w)) for w in (version, f"not ({version})"))
    other = one(shipped, CHECKOUT.format(where="platform = 'ios' and version = '5.3.0'"))
    change = change_of(truth, "checkout_bug", "step_rate:begin_checkout->pay")
    assert (cell(change, "segment_during"), cell(change, "rest_during")) == (hit, rest)
    assert hit[0] / hit[1] / (rest[0] / rest[1]) == pytest.approx(0.45, abs=0.06)
    assert two_share_z(hit, rest) < -10
    assert abs(two_share_z(other, rest)) < 3
    assert abs(two_share_z(*(one(quiet, CHECKOUT.format(where=w)) for w in (version, f"not ({version})")))) < 3
    # Adoption is gradual: two days after the release few Android users run it, two weeks after most.
    share = f"select avg((app_version = '5.3.0')::int) from events where platform = 'android' and {DAY} = date "
    early, late = (one(shipped, f"{share}'{day}'")[0] for day in ("2026-05-13", "2026-05-25"))
    assert early < 0.6 < 0.9 < late


MONTHLY = """
    with last_seen as (
        select user_id, date_trunc('month', day)::date as month, max(day) as day from active group by 1, 2
    ), lapsed as (
        select distinct s.user_id, s.month from last_seen s join coupons c using (user_id)
        where redeemed_at is null and s.day - (expires_at + interval 8 hour)::date between 0 and 13
    )
    select (s.month + interval 1 month)::date as month, n.user_id is null as churned, count(*) as users,
        count(*) filter (s.day - u.day >= 30) as established,
        count(*) filter (s.day - u.day >= 30 and l.user_id is not null) as expired
    from last_seen s join cohort u using (user_id)
    left join lapsed l on l.user_id = s.user_id and l.month = s.month
    left join last_seen n on n.user_id = s.user_id and n.month = s.month + interval 1 month
    where s.month between date '2025-12-01' and date '2026-05-01' group by 1, 2"""


def monthly_churn(connection: duckdb.DuckDBPyConnection) -> dict[tuple[str, bool], tuple[int, int, int]]:
    """By month and whether they left: users, established ones, those with a coupon that expired unused."""
    return {(str(m)[:7], gone): (n, old, hit) for m, gone, n, old, hit in connection.execute(MONTHLY).fetchall()}


def test_coupon_churn(
    shipped: duckdb.DuckDBPyConnection, quiet: duckdb.DuckDBPyConnection, truth: dict[str, Any]
) -> None:
    change = change_of(truth, "coupon_churn", "leave_rate")
    table = monthly_churn(shipped)
    shares = []
    for month in ("2026-01", "2026-02", "2026-03", "2026-04", "2026-05", "2026-06"):
        left, stayed = table[month, True], table[month, False]
        assert cell(change, f"churned/active_last_month {month}") == (left[0], left[0] + stayed[0])
        assert cell(change, f"expired_unused/leavers, established {month}") == (left[2], left[1])
        assert cell(change, f"expired_unused/stayers, established {month}") == (stayed[2], stayed[1])
        shares.append((left[0], left[0] + stayed[0]))
    for before, after in pairwise(shares[2:]):
        assert two_share_z(after, before) > 2
    assert two_share_z(shares[5], shares[2]) > 10
    expired, leavers = (sum(table[f"2026-0{m}", True][at] for m in (4, 5, 6)) for at in (2, 1))
    assert cell(change, "expired_unused/leavers, established, all incident months") == (expired, leavers)
    assert expired / leavers == pytest.approx(0.60, abs=0.03)
    held, stayers = (sum(table[f"2026-0{m}", False][at] for m in (4, 5, 6)) for at in (2, 1))
    assert two_share_z((expired, leavers), (held, stayers)) > 10
    calm = monthly_churn(quiet)
    rates = [calm[m, True][0] / (calm[m, True][0] + calm[m, False][0]) for m in ("2026-04", "2026-05", "2026-06")]
    assert max(rates) < 0.27
    # With nothing planted, leavers do not have it more than stayers: coupons come to those who are active.
    assert all(calm[m, True][2] / calm[m, True][1] < calm[m, False][2] / calm[m, False][1] for m, _ in calm)


def complaint_rates(connection: duckdb.DuckDBPyConnection) -> dict[str, float]:
    """Distinct complaining users over distinct active users, by local day."""
    sql = """select a.day::varchar, count(distinct t.user_id) / count(distinct a.user_id) from active a
        left join tickets t on t.is_complaint and (opened_at + interval 8 hour)::date = a.day
            and t.user_id = a.user_id group by 1"""
    return dict(connection.execute(sql).fetchall())


def test_complaint_wave(
    shipped: duckdb.DuckDBPyConnection, quiet: duckdb.DuckDBPyConnection, truth: dict[str, Any]
) -> None:
    days = {"2026-05-19", "2026-05-20", "2026-05-21"}
    rates = complaint_rates(shipped)
    assert {day for day, rate in rates.items() if rate > 0.05} == days
    assert 0.004 < sum(rate for day, rate in rates.items() if day not in days) / (len(rates) - 3) < 0.01
    assert max(complaint_rates(quiet).values()) < 0.05
    (cause,) = one(
        shipped,
        "select mode(category) from tickets where is_complaint and "
        "(opened_at + interval 8 hour)::date between date '2026-05-19' and date '2026-05-21'",
    )
    assert cause == "service_delay"
    csat = f"select count(*) filter (score >= 4), count(*) from surveys where kind = 'csat' and {DAY} "
    wave = one(shipped, csat + "between date '2026-05-19' and date '2026-05-21'")
    before = one(shipped, csat + "between date '2026-04-21' and date '2026-05-18'")
    change = change_of(truth, "complaint_wave", "satisfied_rate")
    assert (cell(change, "segment_during"), cell(change, "segment_before")) == (wave, before)
    assert two_share_z(wave, before) < -4


def test_budget_shift(shipped: duckdb.DuckDBPyConnection, truth: dict[str, Any]) -> None:
    social = "channel = 'social'"
    figures = {}
    for name, quarter in (("before", Q1), ("during", Q2)):
        kept = "select 1 from active a where a.user_id = c.user_id and a.day = c.day + 7"
        figures[name] = one(
            shipped,
            f"select count(*), count(*) filter (exists ({kept})) from cohort c where {social} and {quarter}",
        )
    spend = [
        one(shipped, f"select sum(amount) from spend where {social} and date >= '{a}' and date < '{b}'")[0]
        for a, b in (("2026-01-01", "2026-04-01"), ("2026-04-01", "2026-07-01"))
    ]
    assert figures["during"][0] / figures["before"][0] > 1.3
    assert 1.2 < spend[1] / spend[0] < 1.6
    assert figures["during"][1] / figures["before"][1] < 1.12  # retained users do not follow
    assert change_of(truth, "budget_shift", "signups")["realised"]["standard_errors"] > 4
    during, before = (retained(shipped, 7, f"{social} and {q}") for q in (Q2, Q1))
    assert cell(change_of(truth, "budget_shift", "return_rate"), "segment_during") == during
    assert two_share_z(during, before) < -3


def test_surge_day(shipped: duckdb.DuckDBPyConnection, quiet: duckdb.DuckDBPyConnection) -> None:
    evening = f"""select sum(requests) filter (day = date '2026-06-18') * 28
            / sum(requests) filter (day <> date '2026-06-18'),
        sum(errors) filter (day = date '2026-06-18') / sum(requests) filter (day = date '2026-06-18'),
        median(p95_ms) filter (day = date '2026-06-18') / median(p95_ms) filter (day <> date '2026-06-18')
        from (select *, {DAY} as day, hour(ts + interval 8 hour) as hour from traffic)
        where day between date '2026-05-21' and date '2026-06-18' and hour between 19 and 22"""
    requests, errors, slow = one(shipped, evening)
    assert 5 < requests < 11  # six times, on a busier day
    assert errors > 0.3
    assert slow > 5
    calm_requests, calm_errors, calm_slow = one(quiet, evening)
    assert calm_requests < 2.0
    assert calm_errors < 0.01
    assert calm_slow < 1.5
    worst = f"select {DAY}::varchar from traffic group by 1 having sum(errors) > 0.05 * sum(requests)"
    assert shipped.execute(worst).fetchall() == [("2026-06-18",)]


SALE = """
    select count(*) filter ({when} and variant = 'treated'), count(distinct x.user_id) filter (variant = 'treated'),
        count(*) filter ({when} and variant = 'holdout'), count(distinct x.user_id) filter (variant = 'holdout')
    from exposures x left join orders o on o.user_id = x.user_id where experiment = 'june_sale_2026'"""


def test_june_sale(shipped: duckdb.DuckDBPyConnection, quiet: duckdb.DuckDBPyConnection, truth: dict[str, Any]) -> None:
    def ratio(first: str, last: str) -> tuple[float, float]:
        when = f"(o.ts + interval 8 hour)::date between date '{first}' and date '{last}'"
        bought, treated, missed, held = one(shipped, SALE.format(when=when))
        assert held / (held + treated) == pytest.approx(0.1, abs=0.01)
        change = math.log(bought / treated) - math.log(missed / held)
        return math.exp(change), change / math.sqrt(1 / bought + 1 / missed)

    lift, lift_errors = ratio("2026-06-05", "2026-06-16")
    pull, pull_errors = ratio("2026-06-17", "2026-06-30")
    assert 1.3 < lift < 2.0
    assert lift_errors > 4
    assert 0.6 < pull < 0.9
    assert pull_errors < -2
    same, errors = ratio("2026-04-01", "2026-06-04")
    assert abs(errors) < 3, same
    assert change_of(truth, "june_sale", "order_rate")["realised"]["relative_change"] == pytest.approx(lift, abs=0.02)
    held_out = "select user_id from exposures where experiment = 'june_sale_2026' and variant = 'holdout'"
    given = "select count(*) from coupons where offer = 'mid_year_12_percent' and issued_at > timestamp '2026-06-01'"
    assert one(shipped, f"{given} and user_id in ({held_out})") == (0,)
    assert one(quiet, "select count(*) from exposures where experiment = 'june_sale_2026'") == (0,)
    assert one(quiet, "select count(*) from messages where campaign = 'june_sale'") == (0,)


def test_experiments(
    shipped: duckdb.DuckDBPyConnection, quiet: duckdb.DuckDBPyConnection, truth: dict[str, Any]
) -> None:
    def sides(connection: duckdb.DuckDBPyConnection) -> list[tuple[int, int]]:
        chosen = (
            "user_id in (select user_id from exposures where experiment = 'onboarding_checklist' and variant = '{}')"
        )
        return [retained(connection, 1, chosen.format(side)) for side in ("checklist", "control")]

    checklist, control = sides(shipped)
    assert two_share_z(checklist, control) > 3.5
    change = change_of(truth, "onboarding_checklist", "leave_rate")
    assert (cell(change, "segment_during"), cell(change, "rest_during")) == (checklist, control)
    assert abs(two_share_z(*sides(quiet))) < 3
    sql = "select experiment, min(share), max(share) from (select experiment, variant, count(*) / sum(count(*)) over "
    sql += "(partition by experiment) as share from exposures group by 1, 2) group by 1"
    shares = {name: (low, high) for name, low, high in shipped.execute(sql).fetchall()}
    for name in ("onboarding_checklist", "checkout_one_page"):
        assert 0.45 < shares[name][0] <= shares[name][1] < 0.55
    started = "select min(ts + interval 8 hour)::date::varchar from exposures where experiment = 'checkout_one_page'"
    assert one(shipped, started) == ("2026-06-15",)


# --- the engine ------------------------------------------------------------------------------------------


def test_a_later_incident_is_one_line(tmp_path: Path) -> None:
    later = Incident(
        "ios_billing", "complaint_rate:billing", date(2025, 9, 1), date(2025, 9, 8), Segment.of(platform="ios"), 60.0
    )
    generate_sample(tmp_path / "sample", users=6_000, incidents=(later,))
    truth = json.loads((tmp_path / "sample" / "truth.json").read_text(encoding="utf-8"))
    realised = change_of(truth, "ios_billing", "complaint_rate:billing")["realised"]
    assert realised["standard_errors"] > 4
    assert realised["cells"]["rest_during"]["rate"] < 0.03


def test_incidents_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="no rate is called"):
        Incident("x", "weather", date(2025, 1, 1), date(2025, 1, 2), Segment(), 2.0)
    with pytest.raises(ValueError, match="before it starts"):
        Incident("x", "signups", date(2025, 1, 2), date(2025, 1, 2), Segment(), 2.0)
    with pytest.raises(ValueError, match="cannot ask for"):
        Segment.of(channel="carrier_pigeon")


def test_effects_multiply_and_end_is_exclusive() -> None:
    line = Incident("x", "return_rate", date(2025, 1, 31), date(2025, 3, 1), Segment(), (2.0, 3.0))
    effects = Effects((line, replace(line, size=0.5)), SampleSettings())
    at = {day: effects.multiplier("return_rate", day, lambda name: pytest.fail(name)) for day in (29, 30, 31, 58, 59)}
    assert at == {29: 1.0, 30: 1.0, 31: 1.5, 58: 1.5, 59: 1.0}


def test_ordinary_rates_are_settings(tmp_path: Path) -> None:
    generate_sample(
        tmp_path / "s", users=500, settings=SampleSettings(rates=Rates(pay_after_checkout=0.0)), incidents=()
    )
    assert pq.read_metadata(tmp_path / "s" / "orders.parquet").num_rows == 0


def test_only_an_earlier_sample_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    generate_sample(target, users=300)  # empty: fine
    generate_sample(target, users=400)
    assert pq.read_metadata(target / "users.parquet").num_rows == 400
    (target / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not an earlier sample"):
        generate_sample(target, users=300)
    assert (target / "notes.txt").read_text() == "mine"
    with pytest.raises(InputError, match="is a file"):
        generate_sample(target / "notes.txt", users=300)


def test_a_failed_run_leaves_the_last_good_sample(tmp_path: Path) -> None:
    target = tmp_path / "out"
    generate_sample(target, users=300)
    before = {path: path.read_bytes() for path in target.rglob("*") if path.is_file()}

    def stop(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_sample(target, users=400, progress=stop)
    assert {path: path.read_bytes() for path in target.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
