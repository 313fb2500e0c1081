"""Series read with rollups are those read without, after any deliveries."""

from __future__ import annotations

import datetime as dt
import tempfile
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.data.operations import METRICS
from opslib.data.playbook import Playbook, load_playbook
from opslib.data.rollups.update import update_rollups
from opslib.data.source import open_data
from opslib.decide.series.reader import SeriesReader
from opslib.errors import InputError
from tests.data.test_rollups import EVENT, Row, open_without, write_events, write_shop

# Each looks back or ahead in its own way.
OF_EVENTS = (
    "dau_count", "mau_count", "stickiness_rate", "d1_rate", "d7_rate", "churn_rate", "event_rate", "dwell_minutes_mean",
    "funnel_rate",
)  # fmt: skip
FUNNEL = '[funnels.buying]\nsteps = ["open", "buy"]\nwindow_days = 1.5\n'
TIMES = {
    "events": "ts", "orders": "ts", "referrals": "ts", "tickets": "opened_at", "surveys": "ts", "traffic": "ts",
    "users": "signup_at", "spend": "date",
}  # fmt: skip


def compare_series(
    playbook: Playbook, metrics: tuple[str, ...], views: tuple[tuple[str, str], ...], as_of: dt.date | None = None
) -> None:
    """Read with rollups and without, and compare everything."""
    update_rollups(playbook)
    data = open_data(playbook)
    assert data.rollups is not None
    kept, full = (SeriesReader(d, as_of=as_of, minimum=1) for d in (data, open_without(playbook)))
    for metric in metrics:
        for grain in ("day", "week", "month"):
            for by, segment in views:
                options = {"grain": grain, "by": by, "segment": segment}
                if metric == "event_rate":
                    options["event"] = "open" if "open" in full.event_names else full.event_names[0]
                expected, ours = (read_or_refuse(reader, metric, options) for reader in (full, kept))
                if isinstance(expected, str):
                    assert ours == expected
                else:
                    pd.testing.assert_frame_equal(ours, expected, rtol=1e-9, obj=f"{metric} {options}")


def read_or_refuse(reader: SeriesReader, metric: str, options: dict[str, str]) -> pd.DataFrame | str:
    """The series, or why there is none."""
    try:
        return reader.read(metric, **options).frame  # type: ignore[arg-type]
    except InputError as error:
        return str(error)


@settings(max_examples=5)
@given(
    first=st.lists(EVENT, min_size=10, max_size=60),
    deliveries=st.lists(st.lists(EVENT, min_size=1, max_size=9), max_size=3),
)
def test_any_deliveries_give_the_same_series(first: list[Row], deliveries: list[list[Row]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = [(1, 0.0, "open"), (1, 0.01, "buy")]
        playbook = write_shop(folder, {"z": first + names}, FUNNEL)
        compare_series(playbook, OF_EVENTS, (("", ""),))
        for number, rows in enumerate(deliveries):
            write_events(folder, "ab"[number % 2], rows)
            compare_series(playbook, OF_EVENTS, (("", ""),))


def test_only_what_is_not_known_yet_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    playbook = write_shop(tmp_path, {"a": [(u, d + 0.1, "open") for u in range(1, 7) for d in range(0, 80, u)]})
    compare_series(playbook, ("dau_count",), (("", ""),))
    asked = []
    cut = SeriesReader.cut

    def watch(reader: SeriesReader, name: str, *, since: dt.date | None = None) -> object:
        asked.append((name, since))
        return cut(reader, name, since=since)

    monkeypatch.setattr(SeriesReader, "cut", watch)
    update_rollups(playbook)
    SeriesReader(open_data(playbook)).read("dau_count")
    assert asked == []
    write_events(tmp_path, "b", [(1, 80.1, "open")])
    update_rollups(playbook)
    SeriesReader(open_data(playbook)).read("dau_count")
    # 21 March, the last full day now, and the thirty days before.
    assert asked == [("activity", dt.date(2026, 2, 19))]


def test_a_user_with_another_label_is_counted_where_he_belongs(tmp_path: Path) -> None:
    views = (("channel", ""), ("", "channel:ads"))
    playbook = write_shop(tmp_path, {"a": [(u, d + 0.1, "open") for u in range(1, 7) for d in range(0, 40, u)]})
    compare_series(playbook, ("dau_count", "d1_rate"), views)
    users = pd.read_parquet(tmp_path / "users.parquet")
    users.loc[users["user_id"] == 3, "channel"] = "ads"
    users.to_parquet(tmp_path / "users.parquet")
    compare_series(playbook, ("dau_count", "d1_rate"), views)


def test_a_user_who_signs_up_after_his_first_day_gets_his_label_then(tmp_path: Path) -> None:
    playbook = write_shop(tmp_path, {"a": [(u, d + 0.1, "open") for u in range(1, 7) for d in range(0, 40, u)]})
    users = pd.read_parquet(tmp_path / "users.parquet")
    users.loc[users["user_id"] == 2, "signup_at"] = dt.datetime(2026, 2, 12)
    users.to_parquet(tmp_path / "users.parquet")
    compare_series(playbook, ("dau_count",), (("channel", ""),))
    write_events(tmp_path, "b", [(u, 45.1, "open") for u in (1, 2, 3)])
    compare_series(playbook, ("dau_count",), (("channel", ""),))


@pytest.mark.slow
def test_all_metrics_of_the_sample_company(tmp_path: Path, samples: Path) -> None:
    def deliver(table: str, name: str, condition: str) -> None:
        (tmp_path / table).mkdir(exist_ok=True)
        source = samples / "events" / "*.parquet" if table == "events" else samples / f"{table}.parquet"
        duckdb.sql(f"COPY (FROM '{source}' WHERE {condition}) TO '{tmp_path / table / name}.parquet'")

    for table, time in TIMES.items():
        deliver(table, "a", f"{time} < '2025-04-20'")
    tables = "".join(f'{name} = {{ source = "{name}/*.parquet" }}\n' for name in TIMES)
    text = (
        '[company]\nname = "Sample"\ntimezone = "Asia/Shanghai"\nweek_start = "monday"\ndata_until = 2026-06-30\n'
        f'[data]\nrollups = "rollups"\n[tables]\n{tables}'
        '[funnels.purchase]\nsteps = ["view_item", "pay"]\nwindow_days = 7\n'
    )
    (tmp_path / "playbook.toml").write_text(text, encoding="utf-8")
    playbook = load_playbook(tmp_path / "playbook.toml")
    everything = tuple(METRICS)
    views = (("", ""), ("channel", ""))
    compare_series(playbook, everything, views)
    for table, time in TIMES.items():
        deliver(table, "b", f"{time} >= '2025-04-20' AND {time} < '2025-04-21'")
    compare_series(playbook, everything, views)
    deliver("events", "a", "ts < '2025-04-20' AND NOT (user_id % 40 = 3 AND ts < '2025-04-02')")
    deliver("events", "late", "ts >= '2025-04-11' AND ts < '2025-04-12' AND user_id % 50 = 1")
    compare_series(playbook, everything, (*views, ("", "channel:search")))
    compare_series(playbook, everything, (("", ""),), dt.date(2025, 4, 2))
