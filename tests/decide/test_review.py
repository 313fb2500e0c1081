"""The quarterly review on tiny companies made for each case, and on the sample company."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import duckdb
import pytest

from opslib.data.source import Data, open_data
from opslib.decide.questions import list_questions
from opslib.decide.review.review import QuarterlyReview, review_quarter
from opslib.errors import InputError
from opslib.present.answers import describe, describe_scope, suggest_actions

ROOT = Path(__file__).resolve().parents[2]


def make_company(folder: Path, days: list[tuple[int, str]], extra: str = "", tables: str = "") -> Data:
    """A playbook with an events table of user and day."""
    lines = ["user_id,ts,event", *(f"{user},{day} 12:00:00,open" for user, day in days)]
    (folder / "events.csv").write_text("\n".join(lines))
    text = f'[company]\nname = "Tiny"\n{extra}\n[tables.events]\nsource = "events.csv"\n{tables}'
    (folder / "playbook.toml").write_text(text)
    return open_data(folder / "playbook.toml")


def daily(user: int, first: str, last: str, step: int = 1) -> list[tuple[int, str]]:
    day, end = dt.date.fromisoformat(first), dt.date.fromisoformat(last)
    return [(user, (day + dt.timedelta(days=n)).isoformat()) for n in range(0, (end - day).days + 1, step)]


@pytest.fixture(scope="module")
def sample() -> QuarterlyReview:
    return review_quarter(open_data(ROOT / "playbook.toml"), quarter="2026Q2")


def test_last_complete_quarter_is_the_default(tmp_path: Path) -> None:
    data = make_company(tmp_path, daily(1, "2025-10-01", "2026-05-10"))
    review = review_quarter(data)
    assert (review.now.period.label, review.before.period.label if review.before else "") == ("2026Q1", "2025Q4")
    assert review.notes == ()


def test_a_cut_quarter_is_compared_with_as_many_days(tmp_path: Path) -> None:
    data = make_company(tmp_path, daily(1, "2025-12-01", "2026-04-21"))
    review = review_quarter(data, quarter="2026Q2")
    assert review.now.period.days == 20
    assert review.before is not None
    assert (review.before.period.start, review.before.period.days) == (dt.date(2026, 1, 1), 20)
    assert "cover 20 of the 91 days" in review.notes[0]


def test_no_quarter_before(tmp_path: Path) -> None:
    review = review_quarter(make_company(tmp_path, daily(1, "2026-01-01", "2026-04-05")), quarter="2026Q1")
    assert review.before is None
    assert "no 2025Q4 to compare with" in review.notes[0]
    assert all(c.difference is None for c in review.changes().values())
    assert describe(review)


def test_totals_of_a_half_empty_quarter_are_not_compared(tmp_path: Path) -> None:
    """Data begin in mid-March: 2026Q2 has 91 days, 2026Q1 has 17, so new users went neither up nor down."""
    days = [d for u in range(30) for d in daily(u, "2026-03-15", "2026-07-05", 3)]
    review = review_quarter(make_company(tmp_path, days), quarter="2026Q2")
    change = review.changes()["new_users_count"]
    assert change.difference is None
    assert "17 days" in change.before.note
    assert review.changes()["dau_count"].difference is not None


def test_one_user_and_few_days_give_sentences_not_numbers(tmp_path: Path) -> None:
    review = review_quarter(make_company(tmp_path, [(1, "2026-05-01"), (1, "2026-05-02")]))
    text = " ".join(describe(review))
    assert "Too few new users" in text
    assert "nan" not in text.lower()
    assert suggest_actions(review)


def test_segments_split_users_completely(sample: QuarterlyReview) -> None:
    data = open_data(ROOT / "playbook.toml")
    parts = [review_quarter(data, quarter="2026Q2", segment=f"platform:{name}") for name in ("android", "ios", "web")]
    for name in ("new_users_count", "revenue_amount", "paying_users_count", "dau_count"):
        total = sum(p.now.estimates()[name].value or 0 for p in parts)
        assert total == pytest.approx(sample.now.estimates()[name].value), name
    assert "Cost of new users" in parts[0].missing
    assert "platform android" in describe_scope(parts[0])


def test_unknown_segment_and_quarter_are_refused(tmp_path: Path) -> None:
    data = open_data(ROOT / "playbook.toml")
    with pytest.raises(InputError, match=r"Did you mean 'channel'\?"):
        review_quarter(data, segment="chanel:search")
    with pytest.raises(InputError, match=r"nobody has channel 'tv'.*paid_ads"):
        review_quarter(data, segment="channel:tv")
    with pytest.raises(InputError, match="outside the data"):
        review_quarter(data, quarter="2019Q1")


def test_sample_numbers_by_independent_sql(sample: QuarterlyReview) -> None:
    """The review's headline numbers, counted again in plain SQL with the engine's own time zone conversion."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone='UTC'")
    folder = ROOT / "data" / "samples"
    events = "*.parquet" if (folder / "events").is_dir() else "events.parquet"
    source = folder / "events" / events if (folder / "events").is_dir() else folder / events
    connection.execute(
        f"CREATE TABLE days AS SELECT DISTINCT user_id, "
        f"CAST(timezone('Asia/Shanghai', timezone('UTC', ts)) AS DATE) AS day FROM read_parquet('{source}')"
    )
    first = "SELECT user_id, min(day) AS f FROM days GROUP BY 1"
    inside = "f BETWEEN '2026-04-01' AND '2026-06-30'"
    estimates = sample.now.estimates()

    def count(query: str) -> float:
        row = connection.execute(query).fetchone()
        assert row is not None
        return row[0]

    assert estimates["new_users_count"].value == count(f"SELECT count(*) FROM ({first}) WHERE {inside}")
    assert estimates["dau_count"].value == pytest.approx(
        count("SELECT count(*) FROM days WHERE day BETWEEN '2026-04-01' AND '2026-06-30'") / 91
    )
    assert estimates["mau_count"].value == count(
        "SELECT count(DISTINCT user_id) FROM days WHERE day BETWEEN '2026-06-01' AND '2026-06-30'"
    )
    for n in (1, 7, 30):
        mature = f"SELECT * FROM ({first}) WHERE {inside} AND f + {n} <= DATE '2026-06-30'"
        back = f"SELECT count(*) FROM ({mature}) c JOIN days d ON d.user_id = c.user_id AND d.day = c.f + {n}"
        assert estimates[f"d{n}_rate"].denominator == count(f"SELECT count(*) FROM ({mature})")
        assert estimates[f"d{n}_rate"].numerator == count(back)
    orders = f"read_parquet('{folder / 'orders.parquet'}')"
    when = "timezone('Asia/Shanghai', timezone('UTC', ts)) >= '2026-04-01' AND ts < '2026-06-30 16:00'"
    assert estimates["revenue_amount"].value == pytest.approx(count(f"SELECT sum(amount) FROM {orders} WHERE {when}"))
    assert estimates["paying_users_count"].value == count(f"SELECT count(DISTINCT user_id) FROM {orders} WHERE {when}")


def test_sample_growth_adds_up_and_shows_the_planted_story(sample: QuarterlyReview) -> None:
    rows = sample.growth.periods
    net = rows["new_count"] + rows["resurrected_count"] - rows["churned_count"]
    assert (rows["opening_count"] + net == rows["closing_count"]).all()
    changes = sample.changes()
    assert (changes["new_users_count"].difference or 0) > 0
    assert changes["d1_rate"].clear
    assert (changes["d1_rate"].difference or 0) < 0
    assert any("Look into channel social" in action for action in suggest_actions(sample))


def test_findings_are_plain_and_repeatable(sample: QuarterlyReview) -> None:
    again = review_quarter(open_data(ROOT / "playbook.toml"), quarter="2026Q2")
    assert json.dumps(sample.findings(), allow_nan=False) == json.dumps(again.findings(), allow_nan=False)
    for finding in sample.findings():
        if finding["name"] == "look" and finding["with_value"] is not None:
            assert finding["with_denominator"] and finding["without_denominator"], finding
        elif "unit" in finding and "value" in finding:
            assert finding["denominator"] is not None, finding
            assert finding["method"], finding


def test_questions_say_what_is_missing(tmp_path: Path) -> None:
    data = make_company(tmp_path, daily(1, "2026-01-01", "2026-01-05"))
    missing = {q.question: q.missing for q in list_questions(data)}
    assert missing["How many users pay, and how much?"] == ("orders",)
    assert missing["Are more people using the product than last quarter?"] == ()
    # The sample company sells no subscriptions, and has all else.
    asked = [q.missing for q in list_questions(open_data(ROOT / "playbook.toml")) if q.missing]
    assert asked == [("subscriptions",)]


def test_unfit_data_stop_the_review(tmp_path: Path) -> None:
    data = make_company(tmp_path, [(1, "2026-01-01"), (1, "1970-01-01")])
    with pytest.raises(InputError, match=r"events\.ts: 1 of 2 rows lie before 1990"):
        review_quarter(data)
