"""Dates whose day and month were swapped: suspected where they are, never where they are not, and mended."""

from __future__ import annotations

import datetime as dt
import json
import random
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opslib.data.guess import write_playbook
from opslib.data.source import Data, open_data
from opslib.data.swapped_dates import find_swapped_days, swap_day
from opslib.errors import InputError
from tests.conftest import ROOT
from tests.data.company import EVENTS, open_events

DAY = dt.timedelta(1)
COMCAST = "real/comcast_complaints/Comcast_telecom_complaints_data.csv"
TICKETS = """[company]
name = "Complaints"
timezone = "America/New_York"
[tables.tickets]
source = {source}
[tables.tickets.columns]
ticket_id = "Ticket #"
user_id = "Ticket #"
opened_at = {{ column = "Date", format = "%d-%m-%y"{more} }}
is_complaint = {{ value = true }}
"""
starts = st.dates(dt.date(2015, 1, 1), dt.date(2027, 12, 31))


def every_day(start: dt.date, days: int) -> list[dt.date]:
    return [start + i * DAY for i in range(days)]


def write_rows(days: Iterable[dt.date], form: str = "%Y-%m-%d 10:00:00") -> list[str]:
    return [f"{i % 7},{day.strftime(form)},open" for i, day in enumerate(days)]


def find_warning(data: Data) -> str:
    return next((str(p) for p in data.fitness.problems if p.rule == "swapped_days"), "")


def test_swapping_by_hand() -> None:
    days = [dt.date(2026, 5, d) for d in (3, 5, 13)]
    assert [swap_day(d) for d in days] == [dt.date(2026, 3, 5), dt.date(2026, 5, 5), dt.date(2026, 5, 13)]


@given(starts, st.integers(75, 200))
def test_a_swapped_stretch_is_suspected_and_its_true_days_are_named(start: dt.date, length: int) -> None:
    true = every_day(start, length)
    if true[-1].year > start.year and (start.month, start.day) <= (true[-1].month, true[-1].day):
        return
    found = find_swapped_days([swap_day(d) for d in true])
    assert found is not None
    assert found.count == sum(d.day <= 12 and d.day != d.month for d in true)
    assert (found.first_day, found.last_day, found.filled_rate) == (true[0], true[-1], 1.0)
    assert all(d < found.first_day or d > found.last_day for d in found.examples)


@given(starts, st.integers(75, 200), st.randoms(use_true_random=False))
def test_a_swapped_stretch_with_gaps_is_suspected(start: dt.date, length: int, chance: random.Random) -> None:
    true = [d for d in every_day(start, length) if chance.random() < 0.7]
    assert find_swapped_days([swap_day(d) for d in true]) is not None


@given(starts, st.integers(1, 1500))
def test_days_as_they_are_are_never_suspected(start: dt.date, length: int) -> None:
    days = every_day(start, length)
    assert find_swapped_days(days) is None
    assert find_swapped_days([d for d in days if d.weekday() < 5]) is None
    assert find_swapped_days(days[::7]) is None
    assert find_swapped_days([d for d in days if d.day == 1]) is None
    assert find_swapped_days([d for d in days if d.day in (1, 15)]) is None
    assert find_swapped_days([d for d in days if d.day == 5 or (d.day == 20 and d.month % 3 == 0)]) is None


@given(starts, st.integers(1, 1500), st.integers(1, 300), st.randoms(use_true_random=False))
def test_sparse_days_are_never_suspected(start: dt.date, span: int, number: int, chance: random.Random) -> None:
    assert find_swapped_days(sorted({start + chance.randrange(span) * DAY for _ in range(number)})) is None


@given(starts, st.integers(30, 400), st.integers(1, 24), st.integers(1, 12))
def test_monthly_reports_before_daily_ones_are_not_suspected(
    start: dt.date, length: int, months: int, day: int
) -> None:
    first = pd.Timestamp(start).replace(day=day)
    monthly = {(first - pd.DateOffset(months=i)).date() for i in range(1, months + 1)}
    assert find_swapped_days(sorted(monthly | set(every_day(start, length)))) is None


def test_a_few_days_say_nothing() -> None:
    assert find_swapped_days([]) is None
    assert find_swapped_days(every_day(dt.date(2026, 3, 1), 3)) is None
    # 1 to 12 March, swapped: the 3rd of every month, as a monthly bill would have it.
    assert find_swapped_days([swap_day(d) for d in every_day(dt.date(2026, 3, 1), 12)]) is None


def test_one_wrong_year_hides_nothing() -> None:
    days = [swap_day(d) for d in every_day(dt.date(2026, 4, 1), 91)]
    found = find_swapped_days([*days, dt.date(2024, 3, 3)], [10] * 92)
    assert found is not None and found.count == 330


@pytest.mark.parametrize("form", ["%Y-%m-%d 10:00:00", "%Y-%m-%d", "%Y-%m-%dT10:00:00Z"])
def test_parsed_times_are_warned_of_and_mended(tmp_path: Path, form: str) -> None:
    true = every_day(dt.date(2026, 2, 20), 100)
    rows = write_rows(map(swap_day, true), form)
    warning = find_warning(open_events(tmp_path, rows))
    assert warning.startswith("events.ts: 33 of 100 rows seem to have day and month swapped")
    assert warning.count("is read as") == 3
    assert 'ts = { column = "ts", swapped_days = true } under [tables.events.columns]' in warning
    mended = open_events(tmp_path, rows, '[tables.events.columns]\nts = { column = "ts", swapped_days = true }\n')
    assert mended.fitness.verdict == "fit"
    table = mended.table("events")
    read = mended.execute(table.select(day=table.ts.date(), hour=table.ts.hour()))
    assert sorted(pd.Timestamp(d).date() for d in read["day"]) == true
    assert set(read["hour"]) == {0 if form == "%Y-%m-%d" else 10}


def test_a_zone_is_applied_after_swapping_back(tmp_path: Path) -> None:
    true = every_day(dt.date(2026, 2, 20), 100)
    zone = 'timezone = "Asia/Shanghai", swapped_days = true'
    for form, extra in (("%Y-%m-%d 02:00:00", ""), ("%d/%m/%Y 02:00", ', format = "%d/%m/%Y %H:%M"')):
        options = f'[tables.events.columns]\nts = {{ column = "ts", {zone}{extra} }}\n'
        data = open_events(tmp_path, write_rows(map(swap_day, true), form), options)
        read = sorted(data.execute(data.table("events").ts))
        assert read == [pd.Timestamp(d) - pd.Timedelta(hours=6) for d in true]


def test_typed_times_and_dates_are_warned_of_and_mended(tmp_path: Path) -> None:
    true = every_day(dt.date(2026, 2, 20), 100)
    swapped = pd.to_datetime([swap_day(d) for d in true])
    for times in (swapped, swapped.tz_localize("UTC"), swapped.date):
        pd.DataFrame({"user_id": 1, "ts": times, "event": "open"}).to_parquet(tmp_path / "events.parquet")
        table = '[company]\nname = "A"\n' + EVENTS.replace("csv", "parquet")
        (tmp_path / "playbook.toml").write_text(table)
        assert "swapped_days" in find_warning(open_data(tmp_path / "playbook.toml"))
        mend = '[tables.events.columns]\nts = { column = "ts", swapped_days = true }\n'
        (tmp_path / "playbook.toml").write_text(table + mend)
        data = open_data(tmp_path / "playbook.toml")
        assert data.fitness.verdict == "fit"
        assert sorted(data.execute(data.table("events").ts)) == [pd.Timestamp(d) for d in true]


def test_a_column_of_dates_is_warned_of_and_mended(tmp_path: Path) -> None:
    true = every_day(dt.date(2026, 2, 20), 100)
    frame = pd.DataFrame({"date": [swap_day(d) for d in true], "channel": "ads", "amount": 5.0})
    frame.to_parquet(tmp_path / "spend.parquet")
    options = '[tables.spend]\nsource = "spend.parquet"\n'
    assert "spend.date: 33 of 100 rows" in find_warning(open_events(tmp_path, write_rows(true), options))
    options += '[tables.spend.columns]\ndate = { column = "date", swapped_days = true }\n'
    data = open_events(tmp_path, write_rows(true), options)
    assert data.fitness.verdict == "fit"
    assert sorted(pd.Timestamp(d).date() for d in data.execute(data.table("spend").date)) == true


def test_mending_what_is_right_is_suspected_too(tmp_path: Path) -> None:
    options = '[tables.events.columns]\nts = { column = "ts", swapped_days = true }\n'
    data = open_events(tmp_path, write_rows(every_day(dt.date(2026, 2, 20), 100)), options)
    assert "Take out swapped_days under [tables.events.columns] ts." in find_warning(data)


def test_seconds_have_no_day_and_month(tmp_path: Path) -> None:
    options = '[tables.events.columns]\nts = { column = "ts", unit = "s", swapped_days = true }\n'
    with pytest.raises(InputError, match="has no day and month"):
        open_events(tmp_path, ["1,1700000000,open"], options)


def test_init_asks(tmp_path: Path) -> None:
    true = every_day(dt.date(2026, 2, 20), 100)
    rows = "".join(f"{i % 9},{swap_day(d):%d/%m/%y},open\n" for i, d in enumerate(true))
    (tmp_path / "events.csv").write_text("user_id,ts,event\n" + rows)
    (guess,) = write_playbook([tmp_path / "events.csv"], out=tmp_path / "playbook.toml")
    (question,) = [q for q in guess.questions if "swapped" in q]
    assert question.startswith("events.ts: 33 of 100 rows seem to have day and month swapped")
    assert 'format = "%d/%m/%y", swapped_days = true' in question


def test_the_sample_company_is_not_suspected() -> None:
    data = open_data(ROOT / "playbook.toml")
    assert not find_warning(data)


@pytest.mark.shared
def test_complaints_whose_days_are_swapped(shared: Path, tmp_path: Path) -> None:
    facts = json.loads((shared / COMCAST).with_name("facts.json").read_text())["corrected"]
    playbook = tmp_path / "playbook.toml"
    playbook.write_text(TICKETS.format(source=json.dumps(str(shared / COMCAST)), more=""))
    warning = find_warning(open_data(playbook))
    assert f"{facts['rows_changed']} of 2,224 rows" in warning
    assert "2015-04-01 to 2015-06-30" in warning and "'06-12-15' is read as 2015-12-06" in warning
    playbook.write_text(TICKETS.format(source=json.dumps(str(shared / COMCAST)), more=", swapped_days = true"))
    data = open_data(playbook)
    assert not find_warning(data)
    tickets = data.table("tickets")
    counts = data.execute(tickets.group_by(day=tickets.opened_at.date()).aggregate(rows=tickets.count()))
    counts = counts.sort_values("day")
    assert [str(counts["day"].iloc[i])[:10] for i in (0, -1)] == [facts["first"], facts["last"]]
    assert counts["rows"].tolist() == facts["daily"]


@pytest.mark.shared
@pytest.mark.parametrize(
    "source", ["collegemsg/CollegeMsg.txt", "cdnow/CDNOW_master.txt", "online_retail/online_retail.parquet"]
)
def test_no_other_real_data_are_suspected(shared: Path, tmp_path: Path, source: str) -> None:
    guesses = write_playbook([shared / "real" / source], out=tmp_path / "playbook.toml")
    assert not any("swapped" in q for guess in guesses for q in guess.questions)
    assert not find_warning(open_data(tmp_path / "playbook.toml"))


@pytest.mark.shared
def test_real_orders_with_swapped_days_are_suspected(shared: Path) -> None:
    times = pd.read_parquet(shared / "real/online_retail/online_retail.parquet")["InvoiceDate"]
    days = sorted(set(pd.to_datetime(times).dt.date))
    assert find_swapped_days(days) is None
    spring = [d for d in days if dt.date(2011, 2, 1) <= d < dt.date(2011, 7, 1)]
    found = find_swapped_days([swap_day(d) for d in spring])
    assert found is not None and (found.first_day, found.last_day) == (spring[0], spring[-1])
    # The whole thirteen months: the first December tells.
    assert find_swapped_days([swap_day(d) for d in days]) is not None
