"""The funnel diagnosis: the planted bug by name, funnels named or guessed, little companies in plain sentences."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import ibis
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opslib.data.guess import write_playbook
from opslib.data.source import Data, open_data
from opslib.decide.funnel.culprit import Found, find_new_value, is_new
from opslib.decide.funnel.diagnosis import FunnelDiagnosis, diagnose_funnel
from opslib.decide.funnel.path import choose_path
from opslib.decide.funnel.visits import Ending, count_blocks
from opslib.decide.scope import Scope, choose_scope
from opslib.errors import InputError
from opslib.measure.estimate import estimate_rate
from opslib.present.answers import describe, describe_scope, list_limits, suggest_actions
from opslib.present.display import ChartView, ListView, TableView
from opslib.present.funnel import charts, tables
from tests.conftest import ROOT
from tests.data.company import open_events
from tests.decide.conftest import Company

HOSTILE = '<img src=x onerror="alert(1)">'
FIRST = dt.datetime(2024, 1, 1, 8)


@pytest.fixture(scope="module")
def sample(sample_funnel: FunnelDiagnosis) -> FunnelDiagnosis:
    return sample_funnel


def tell(diagnosis: FunnelDiagnosis) -> str:
    """Everything that a notebook shows of a diagnosis, in text; nothing may fail."""
    json.dumps(diagnosis.findings(), allow_nan=False)
    shown = [describe_scope(diagnosis), *describe(diagnosis), *list_limits(diagnosis), *suggest_actions(diagnosis)]
    for module in (tables, charts):
        for name in dir(module):
            if name.startswith(("show_", "plot_")):
                view = getattr(module, name)(diagnosis)
                assert isinstance(view, ChartView | ListView | TableView)
                if isinstance(view, TableView | ListView):
                    shown.append(view._repr_mimebundle_()["text/html"])
    return "\n".join(shown)


def list_events(users: int, *, broken_from: int = 10_000, broken: str = "android") -> list[str]:
    """Four users a day view, two on each platform; three pay an hour later.

    From a day on, none of those on the platform `broken` pays on every second day.
    """
    rows = []
    for n in range(users):
        day, platform = n // 4, "ios" if n % 2 else broken
        at = FIRST + dt.timedelta(days=day)
        rows.append(f"{n},{at},view,{platform}")
        pays = n % 4 != day % 4
        if pays and not (platform == broken and day >= broken_from and day % 2):
            rows.append(f"{n},{at + dt.timedelta(hours=1)},pay,{platform}")
    return rows


def test_the_planted_checkout_bug_is_named_with_version_platform_and_step(sample: FunnelDiagnosis) -> None:
    truth = json.loads((ROOT / "data" / "samples" / "truth.json").read_text())
    bug = next(i for i in truth["incidents"] if i["id"] == "checkout_bug")["changes"][0]
    assert sample.step_names == ("begin_checkout", "pay")
    culprit = sample.culprit
    assert culprit is not None
    assert culprit.segment == {k: str(v) for k, v in bug["segment"].items()} | {}
    assert culprit.kind == "new"
    first, second, third = describe(sample)[:3]
    assert "pay" in first and "within chance" not in first
    assert "from begin_checkout to pay" in second
    assert "5.3.0" in third and "android" in third
    # Users who tried once again lessen what sessions lost: the share that is gone is at least half the planted one.
    assert culprit.inside is not None and culprit.inside.value is not None and culprit.expected is not None
    lost_share = 1 - culprit.inside.value / culprit.expected
    assert (1 - bug["size"]) / 2 < lost_share < 1 - bug["size"] + 0.1
    assert culprit.lost is not None and culprit.lost[1] > 0
    # Users update within two weeks of the repair on 2026-06-01, and the answer says so.
    assert "all but over" in describe(sample)[3]


@pytest.mark.parametrize(("days", "as_of", "state"), [(56, "", "gone"), (28, "2026-06-07", "open")])
def test_the_bug_is_named_in_other_periods_too(days: int, as_of: str, state: str) -> None:
    found = diagnose_funnel(open_data(ROOT / "playbook.toml"), days=days, as_of=as_of)
    assert found.step == 4 and found.culprit is not None
    assert found.culprit.segment == {"platform": "android", "app_version": "5.3.0"}
    assert found.culprit.state == state


def test_users_whose_window_is_open_are_spoken_of_once_and_empty_periods_too() -> None:
    limits = list_limits(diagnose_funnel(open_data(ROOT / "playbook.toml"), days=7))
    assert sum("window is not over" in text for text in limits) == 1
    assert "No users with a whole window entered in the period." in limits


def test_users_lost_are_the_gap_times_the_users(sample: FunnelDiagnosis) -> None:
    culprit = sample.culprit
    assert culprit is not None and culprit.inside is not None and culprit.lost is not None
    assert culprit.expected is not None and culprit.inside.value is not None
    gap = culprit.expected - culprit.inside.value
    assert culprit.lost[0] == pytest.approx(gap * culprit.inside.denominator)
    assert culprit.inside.denominator + culprit.outside.denominator == sample.now.steps["entered_count"].iloc[3]  # type: ignore[union-attr]


def test_the_split_adds_up_and_the_breakdown_covers_everybody(sample: FunnelDiagnosis) -> None:
    assert sample.split is not None and sample.split.overall.difference is not None
    assert sample.split.steps["effect_rate"].sum() == pytest.approx(sample.split.overall.difference)
    by = sample.now.by_segment
    assert by is not None and sample.breakdown == "app_version"
    entered = by[by["step"] == 1]["entered_count"].sum()
    assert entered == sample.now.steps["entered_count"].iloc[0]


def test_the_running_experiment_is_read_out_and_told_to_go_on(sample: FunnelDiagnosis) -> None:
    trial = sample.trial
    assert trial is not None
    assert (trial.result.experiment, trial.result.decision.decision) == ("checkout_one_page", "go_on")
    assert trial.result.looks == "always"
    assert trial.others == ("june_sale_2026", "onboarding_checklist")
    assert any("go on" in s and "checkout one page" in s for s in describe(sample))


def test_everything_is_shown_and_nothing_is_markup(sample: FunnelDiagnosis) -> None:
    text = tell(sample)
    assert "nan" not in text.lower().replace("finan", "")
    assert "None" not in text
    kinds = [type(getattr(charts, name)(sample)) for name in dir(charts) if name.startswith("plot_")]
    assert set(kinds) == {ChartView}


def test_a_break_on_one_platform_is_found_with_its_users(company: Company) -> None:
    events = list_events(2000, broken_from=408)
    found = diagnose_funnel(company(events=("user_id,ts,event,platform", events)), funnel="view > pay")
    culprit = found.culprit
    assert culprit is not None and culprit.segment == {"platform": "android"}
    assert culprit.kind == "rate" and culprit.yardstick == "itself" and culprit.lost is not None
    # Everybody else did not change, so what is lost is the difference to before: three of four paid, now one.
    inside = culprit.inside
    assert inside is not None and culprit.expected == pytest.approx(0.75, abs=0.02)
    assert culprit.lost[0] == pytest.approx(0.5 * inside.denominator, rel=0.1)
    assert "it is not over" in " ".join(describe(found))
    assert "Today: try the way from view to pay with platform android" in suggest_actions(found)[0]
    plan = found.plan
    assert plan is not None and plan.base == pytest.approx(inside.value)


def test_nothing_broken_names_nobody(company: Company) -> None:
    found = diagnose_funnel(company(events=("user_id,ts,event,platform", list_events(2000))), funnel="view > pay")
    assert found.culprit is not None and not found.culprit.segment and found.culprit.lost is None
    assert "No step moved beyond chance" in describe(found)[1]
    tell(found)


def test_a_hostile_platform_is_text(company: Company) -> None:
    events = list_events(2000, broken_from=408, broken=HOSTILE.replace('"', "'"))
    found = diagnose_funnel(company(events=("user_id,ts,event,platform", events)), funnel="view > pay")
    assert found.culprit is not None and found.culprit.segment
    text = "".join(t for t in tell(found).split("\n") if t.startswith("<"))
    assert "<img" not in text


@pytest.mark.parametrize(
    ("rows", "funnel", "said"),
    [
        (["1,2026-01-01 10:00:00,view", "1,2026-01-01 11:00:00,pay"], "view > pay", "too few"),
        (["1,2026-01-01 10:00:00,view"], "", "too few"),
    ],
)
def test_one_user_is_too_few(company: Company, rows: list[str], funnel: str, said: str) -> None:
    found = diagnose_funnel(company(events=("user_id,ts,event", rows)), funnel=funnel)
    assert said in describe(found)[0]
    tell(found)


def test_a_step_that_nobody_reaches_is_said_to_be_that(company: Company) -> None:
    events = [*list_events(800), f"5000,{FIRST},refund,web"]
    data = company(events=("user_id,ts,event,platform", events))
    found = diagnose_funnel(data, funnel="view > refund > pay")
    assert "Nobody got to refund: either the step is broken, or its event is not recorded." in describe(found)[0]
    tell(found)


def test_a_step_unknown_to_a_segment_is_no_misspelling(company: Company) -> None:
    rows = list_events(800)
    users = [f"{n},2024-01-01 00:00:00,{'a' if n % 2 else 'b'}" for n in range(800)] + ["900,2024-01-01 00:00:00,b"]
    data = company(
        events=("user_id,ts,event,platform", [*rows, f"900,{FIRST},refund,web"]),
        users=("user_id,signup_at,channel", users),
    )
    found = diagnose_funnel(data, funnel="view > refund", segment="channel:a")
    assert "Nobody got to refund" in describe(found)[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"funnel": "view > pya"}, "Did you mean 'pay'"),
        ({"funnel": "checkuot"}, "Did you mean 'checkout'"),
        ({"funnel": "view >"}, "at least two steps"),
        ({"funnel": "view > pay", "step": 3}, "step 3"),
        ({"funnel": "view > pay", "breakdown": "platfrom"}, "Did you mean 'platform'"),
        ({"funnel": "view > pay", "experiment": "x"}, "no table exposures"),
        ({"funnel": "view > pay", "fixed_on": "june"}, "fixed_on"),
        ({"funnel": "view > pay", "as_of": "2030-01-01"}, "outside the data"),
    ],
)
def test_mistakes_are_named_with_the_nearest_name(company: Company, options: dict[str, Any], said: str) -> None:
    more = '[funnels.checkout]\nsteps = ["view", "pay"]\n'
    data = company(more=more, events=("user_id,ts,event,platform", list_events(800)))
    with pytest.raises(InputError, match=said):
        diagnose_funnel(data, **options)


def test_a_playbook_names_funnels_with_filters_and_limits(company: Company) -> None:
    more = """
[funnels.android]
steps = [{ event = "view", where = { platform = "android" } }, { event = "pay", within_hours = 2, name = "paid" }]
window_days = 2
excluded_events = ["refund"]
"""
    events = [*list_events(800), f"5000,{FIRST},refund,web"]
    data = company(more=more, events=("user_id,ts,event,platform", events))
    path = choose_path(data)
    assert (path.name, path.labels, path.window) == ("android", ["view", "paid"], dt.timedelta(days=2))
    found = diagnose_funnel(data)
    assert found.now.steps["converted_count"].iloc[0] == pytest.approx(91 * 2, abs=4)
    assert choose_path(data, window_days=5).window == dt.timedelta(days=5)


def test_a_playbook_funnel_with_a_misspelt_event_names_the_funnel(company: Company) -> None:
    more = '[funnels.buy]\nsteps = ["view", "pya"]\n'
    with pytest.raises(InputError, match=r"funnels\.buy: no event is called 'pya'.*'pay'"):
        choose_path(company(more=more, events=("user_id,ts,event,platform", list_events(40))))


def test_a_funnel_is_guessed_and_said_to_be_a_guess(company: Company) -> None:
    found = diagnose_funnel(company(events=("user_id,ts,event,platform", list_events(800, broken_from=0))))
    assert found.path.labels == ["view", "pay"]
    assert any("is a guess" in limit for limit in list_limits(found))


def test_orders_and_sign_ups_stand_for_events(company: Company) -> None:
    orders = [f"{n},{n % 300},{FIRST + dt.timedelta(hours=n)},5" for n in range(1200)]
    users = [f"{n},2023-12-31 00:00:00,x" for n in range(400)]
    only = company(orders=("order_id,user_id,ts,amount", orders))
    again = diagnose_funnel(only, window_days=30)
    assert again.path.labels == ["order", "order (no. 2)"]
    both = company(orders=("order_id,user_id,ts,amount", orders), users=("user_id,signup_at,channel", users))
    found = diagnose_funnel(both, funnel="sign_up > order", window_days=14, days=21)
    assert found.now.steps["event"].tolist() == ["sign_up", "order"]
    tell(found)


def test_before_and_after_a_repair_is_a_description(company: Company) -> None:
    events = list_events(2000, broken_from=408)
    for n in range(2000):
        # Mended on day 440: who did not pay there pays an hour and a half later.
        at = FIRST + dt.timedelta(days=n // 4)
        if n % 2 == 0 and n // 4 >= 440 and (n // 4) % 2 and n % 4 != n // 4 % 4:
            events.append(f"{n},{at + dt.timedelta(minutes=90)},pay,android")
    data = company(events=("user_id,ts,event,platform", events))
    fixed = (FIRST + dt.timedelta(days=440)).date()
    found = diagnose_funnel(data, funnel="view > pay", fixed_on=str(fixed))
    assert found.culprit is not None and found.culprit.segment == {"platform": "android"}
    repair = found.culprit.repair
    assert repair is not None and repair.evidence == "descriptive"
    assert (repair.change.before.value, repair.change.now.value) == (0.25, 0.75)
    assert repair.change.before.denominator == repair.change.now.denominator == 56
    assert "A description, not a proof." in tell(found)


visits = st.lists(
    st.tuples(st.integers(1, 5), st.integers(0, 60), st.booleans(), st.sampled_from(["ios", "web"])),
    min_size=1,
    max_size=60,
)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=visits, width=st.integers(1, 9), offset=st.integers(0, 60))
def test_blocks_count_each_user_once_a_block_and_side(
    small: Scope, rows: list[tuple[int, int, bool, str]], width: int, offset: int
) -> None:
    day = dt.date(2024, 1, 1)
    table = ibis.memtable(
        {
            "user_id": [u for u, *_ in rows],
            "arrived_at": [FIRST + dt.timedelta(days=n) for _, n, *_ in rows],
            "converted": [c for *_, c, _ in rows],
            "platform": [p for *_, p in rows],
        }
    )
    anchor = day + dt.timedelta(offset)
    found = count_blocks(table, {"platform": "ios"}, small, anchor=anchor, width=width)
    expected: dict[tuple[dt.date, str], dict[int, bool]] = {}
    for user, n, converted, platform in rows:
        start = anchor + dt.timedelta((n - offset) // width * width)
        users = expected.setdefault((start, "segment" if platform == "ios" else "rest"), {})
        users[user] = users.get(user, False) or converted
    counted = {(r.from_day, r.side): (r.users_count, r.converted_count) for r in found.itertuples()}
    assert counted == {key: (len(users), sum(users.values())) for key, users in expected.items()}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Scope:
    folder = tmp_path_factory.mktemp("small")
    return choose_scope(open_events(folder, [f"{n},{FIRST + dt.timedelta(days=n)},open" for n in range(100)]))


def count_cells(*rows: tuple[str, str, int, int]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["platform", "version", "converted", "users_count"])


def test_a_new_value_is_named_only_where_it_explains_most_of_the_loss() -> None:
    before = count_cells(("android", "1", 160, 200), ("ios", "1", 160, 200))
    broken = count_cells(("android", "1", 80, 100), ("android", "2", 40, 100), ("ios", "2", 80, 100))
    assert find_new_value(before, broken, {"platform": "android"}, ["platform", "version"]) == {"version": "2"}
    alike = count_cells(("android", "1", 60, 100), ("android", "2", 58, 100), ("ios", "2", 80, 100))
    assert find_new_value(before, alike, {"platform": "android"}, ["platform", "version"]) == {}
    few = count_cells(("android", "1", 80, 100), ("android", "2", 1, 9), ("ios", "2", 80, 100))
    assert find_new_value(before, few, {"platform": "android"}, ["platform", "version"]) == {}
    assert find_new_value(before.iloc[:0], broken, {"platform": "android"}, ["platform", "version"]) == {}


@pytest.mark.parametrize(
    ("converted", "users", "gone", "expected", "state"),
    [(20, 100, False, 0.6, "open"), (70, 100, False, 0.6, "over"), (40, 100, False, 0.45, "unknown"),
     (0, 3, True, 0.6, "gone"), (3, 10, False, 0.6, "unknown"), (50, 100, False, float("nan"), "unknown")],
)  # fmt: skip
def test_whether_it_is_over(converted: int, users: int, gone: bool, expected: float, state: str) -> None:
    recent = estimate_rate("recent_rate", converted, users)
    assert Ending(recent, 7, gone, expected, worst_rate=0.2).state == state


def test_an_experiment_without_a_control_asks_for_its_name(company: Company) -> None:
    data = company(
        events=("user_id,ts,event,platform", list_events(400)),
        exposures=("user_id,experiment,variant,ts", [f"{n},e,{'new' if n % 2 else 'old'},{FIRST}" for n in range(400)]),
    )
    assert diagnose_funnel(data, funnel="view > pay").trial is None
    with pytest.raises(InputError, match=r"\[experiments\.e\] control"):
        diagnose_funnel(data, funnel="view > pay", experiment="e")
    named = company(
        more='[experiments.e]\ncontrol = "old"\n',
        events=("user_id,ts,event,platform", list_events(400)),
        exposures=("user_id,experiment,variant,ts", [f"{n},e,{'new' if n % 2 else 'old'},{FIRST}" for n in range(400)]),
    )
    found = diagnose_funnel(named, funnel="view > pay")
    assert found.trial is not None and found.trial.result.control == "old"


@pytest.mark.shared
def test_online_retail_goes_from_order_to_repeat_order(shared: Path, tmp_path: Path) -> None:
    data = open_retail(shared, tmp_path)
    found = diagnose_funnel(data, window_days=30)
    assert found.path.labels == ["order", "order (no. 2)"]
    orders = pd.DataFrame(data.execute(data.table("orders").select("user_id", "ts")))
    days = pd.to_datetime(orders["ts"])
    last = pd.Timestamp(found.scope.as_of) + pd.Timedelta(days=1)
    start, end = (
        pd.Timestamp(found.scope.now.start),
        min(pd.Timestamp(found.scope.now.end), last - pd.Timedelta(days=30)),
    )
    entered = converted = 0
    for _, times in days.groupby(orders["user_id"]):
        ordered = times.sort_values().tolist()
        entries = [i for i, t in enumerate(ordered) if start <= t < end]
        entered += bool(entries)
        converted += any(
            i + 1 < len(ordered) and ordered[i + 1] - ordered[i] <= pd.Timedelta(days=30) and ordered[i + 1] < last
            for i in entries
        )
    assert found.now.steps["converted_count"].tolist() == [entered, converted]
    tell(found)


def open_retail(shared: Path, folder: Path) -> Data:
    """As `opslib init` writes it."""
    out = folder / "playbook.toml"
    write_playbook([shared / "real" / "online_retail" / "online_retail.parquet"], out=out)
    return open_data(out)


def test_a_value_that_hardly_anybody_had_is_new_and_one_that_grew_is_not() -> None:
    before = count_cells(("android", "1", 160, 1000), ("android", "2", 20, 25))
    now = count_cells(("android", "1", 160, 600), ("android", "2", 200, 400))
    cause = {"kind": "mix", "before_count": 25, "after_count": 400}
    # 25 of 1,025 against 400 of 1,000: a sixteenth.
    assert is_new(pd.Series(cause), before, now)
    assert not is_new(pd.Series(cause | {"before_count": 50}), before, now)
    assert not is_new(pd.Series(cause | {"kind": "rate"}), before, now)
    assert is_new(pd.Series(cause | {"kind": "rate", "before_count": 19}), before, now)


def test_what_is_new_must_have_moved_the_step_the_same_way() -> None:
    new = Found(new={"version": "2"}, lost=(100.0, 60.0, 140.0))
    assert new.agrees(fell=True) and not new.agrees(fell=False)
    assert not replace(new, lost=(50.0, -90.0, 190.0)).agrees(fell=True)
    assert replace(new, lost=(-50.0, -90.0, -10.0)).agrees(fell=False)
    assert replace(new, new={}, lost=(-50.0, -90.0, -10.0)).agrees(fell=True)
    assert replace(new, lost=None).agrees(fell=True)
