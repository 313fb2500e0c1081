"""A company whose only data are subscriptions: what opens, what is refused, and what cannot be asked of it."""

# ruff: noqa: E501

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from opslib.data.source import Data, open_data
from opslib.decide.questions import survey_data
from opslib.errors import InputError
from opslib.present.answers import describe
from tests.data.company import COMPANY, EVENTS, GOOD, ORDERS, USERS, Content, find_problems, open_company

TABLE = '[tables.subscriptions]\nsource = "subscriptions.csv"\n'
UNDATED = '[company]\nname = "Tea shop"\n'
TIMED_HEAD = "user_id,started_at,ended_at,plan,is_gift\n"
# One user twice, one still running, one who came and left within a day.
TIMED = [
    "a,2025-01-10,2025-03-31,basic,true",
    "a,2025-05-01,,gold,false",
    "b,2024-12-01,,basic,false",
    "c,2026-02-10,2026-02-10,gold,false",
]
TENURE_HEAD = "user_id,tenure_months,ended,plan\n"
TENURE = ["a,0,No,basic", "b,12,Yes,basic", "c,72,No,gold"]


def open_timed(
    folder: Path, rows: list[str], options: str = "", company: str = UNDATED, head: str = TIMED_HEAD
) -> Data:
    files: dict[str, Content] = {"subscriptions.csv": head + "".join(f"{r}\n" for r in rows)}
    return open_company(folder, files, TABLE + options, company)


def open_tenure(
    folder: Path, rows: list[str], options: str = "", company: str = COMPANY, head: str = TENURE_HEAD
) -> Data:
    return open_timed(folder, rows, options, company, head)


def severities(data: Data) -> dict[tuple[str, str], tuple[int, str]]:
    """What `find_problems` finds, without the note that there is no activity."""
    return {k: v for k, v in find_problems(data).items() if k[0] != "missing_table"}


def plans(data: Data) -> dict[str, str]:
    frame = data.execute(data.attributes)
    return dict(zip(frame["user_id"], frame["plan"], strict=True))


def test_with_times(tmp_path: Path) -> None:
    data = open_timed(tmp_path, TIMED)
    assert data.fitness.verdict == "fit"
    assert not data.has_activity
    assert data.activity_name == ""
    # The first start to the last time of any kind, here a start and an end of the same day.
    assert (str(data.span.start), str(data.as_of)) == ("2024-12-01", "2026-02-10")
    assert (data.calendar.first_at, data.calendar.last_at) == (dt.datetime(2024, 12, 1), dt.datetime(2026, 2, 10))
    assert str(data.choose_quarter()) == "2025Q4"
    rows = data.execute(data.table("subscriptions").order_by(["user_id", "started_at"]))
    assert rows["ended_at"].isna().tolist() == [False, True, True, False]


def test_the_last_end_may_be_the_last_time(tmp_path: Path) -> None:
    data = open_timed(tmp_path, ["a,2025-01-10 08:00:00,2025-03-31 12:00:00,x,true"])
    # Half a day is not a full one.
    assert (str(data.span.start), str(data.as_of)) == ("2025-01-10", "2025-03-30")
    data = open_timed(tmp_path, ["a,2025-01-10,2025-03-31 12:00:00,x,true"])
    assert str(data.as_of) == "2025-03-30"


def test_the_companys_zone_decides_the_day(tmp_path: Path) -> None:
    rows = ["a,2025-01-10 18:00:00,,x,true", "b,2025-02-10 15:30:00,,x,true"]
    data = open_timed(tmp_path, rows, company=UNDATED + 'timezone = "Asia/Shanghai"\n')
    assert (str(data.span.start), str(data.as_of)) == ("2025-01-11", "2025-02-10")


def test_with_tenure_alone(tmp_path: Path) -> None:
    data = open_tenure(tmp_path, TENURE)
    assert data.fitness.verdict == "fit"
    rows = data.execute(data.table("subscriptions").order_by("user_id"))
    assert rows["tenure_months"].tolist() == [0, 12, 72]
    assert rows["ended"].tolist() == [False, True, False]
    assert data.as_of == data.span.start == dt.date(2026, 6, 30)
    assert data.span.days == 1
    assert data.calendar.day_of(data.calendar.first_at) == dt.date(2026, 6, 30)


@pytest.mark.parametrize("zone", ["Asia/Shanghai", "America/Los_Angeles"])
def test_the_day_that_is_named_is_a_local_day(zone: str, tmp_path: Path) -> None:
    data = open_tenure(tmp_path, TENURE, company=COMPANY + f'timezone = "{zone}"\n')
    assert data.as_of == data.calendar.day_of(data.calendar.last_at) == dt.date(2026, 6, 30)


def test_without_a_day_it_is_asked_for(tmp_path: Path) -> None:
    data = open_tenure(tmp_path, TENURE, company=UNDATED)
    assert severities(data) == {("missing_time", "subscriptions."): (0, "unfit")}
    for ask in (lambda: data.span, lambda: data.as_of, lambda: data.calendar, data.require_fit):
        with pytest.raises(InputError, match=r"\[company\], for example data_until = 2026-06-30"):
            ask()


def test_activity_cannot_be_asked_for(tmp_path: Path) -> None:
    data = open_timed(tmp_path, TIMED)
    with pytest.raises(InputError, match=r"events \(user, time, event\) or orders"):
        _ = data.active_days
    note = next(p for p in data.fitness.problems if p.rule == "missing_table")
    assert (note.severity, note.table) == ("note", "subscriptions")
    assert "neither events nor orders are given" in str(note)


def test_attributes_of_the_first_subscription(tmp_path: Path) -> None:
    data = open_timed(tmp_path, TIMED)
    assert data.segment_columns == ["plan", "is_gift"]
    assert plans(data) == {"a": "basic", "b": "basic", "c": "gold"}
    sizes = {
        s: data.execute(data.restrict(data.table("subscriptions"), s).count())
        for s in ("", "plan:basic", "is_gift:true")
    }
    # Whoever began with basic belongs there with all subscriptions.
    assert sizes == {"": 4, "plan:basic": 3, "is_gift:true": 2}
    data.check_segment("plan:gold")
    with pytest.raises(InputError, match="Did you mean 'plan'"):
        data.check_segment("plann:gold")
    with pytest.raises(InputError, match=r"nobody has plan 'gld'.*basic, gold"):
        data.check_segment("plan:gld")


def test_attributes_do_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    rows = ["a,5,No,x", "a,50,Yes,y", "a,50,Yes,b", "b,,No,z", "b,1,Yes,q"]
    options = 'drop = ["null_key"]\n'
    first = plans(open_tenure(tmp_path, rows, options))
    assert first == plans(open_tenure(tmp_path, rows[::-1], options)) == {"a": "b", "b": "q"}
    timed = ["a,,,late,true", "a,2025-01-01,,early,true"]
    assert plans(open_timed(tmp_path, timed, 'drop = ["null_key"]\n')) == {"a": "early"}


def test_users_without_attributes(tmp_path: Path) -> None:
    data = open_tenure(tmp_path, ["a,1,No", "a,2,No", "b,2,Yes"], head="user_id,tenure_months,ended\n")
    assert data.execute(data.attributes.order_by("user_id"))["user_id"].tolist() == ["a", "b"]
    with pytest.raises(InputError, match="no user attributes"):
        data.check_segment("plan:gold")


def test_a_table_of_users_describes_them_better(tmp_path: Path) -> None:
    files: dict[str, Content] = {
        "subscriptions.csv": TIMED_HEAD + "".join(f"{r}\n" for r in TIMED),
        "users.csv": "user_id,signup_at,city\na,2024-01-01,Rome\nb,2024-01-01,Oslo\n",
    }
    data = open_company(tmp_path, files, TABLE + USERS, UNDATED)
    assert data.segment_columns == ["city"]
    assert severities(data) == {("unknown_user", "subscriptions.user_id"): (1, "warning")}
    assert str(data.span.start) == "2024-12-01"


def test_beside_activity_nothing_changes(tmp_path: Path) -> None:
    files: dict[str, Content] = {"subscriptions.csv": TENURE_HEAD + "1,3,No,x\n2,4,Yes,y\n", "events.csv": GOOD}
    alone, both = open_company(tmp_path, files, EVENTS), open_company(tmp_path, files, EVENTS + TABLE, UNDATED)
    assert both.fitness.verdict == "fit"
    assert both.has_activity
    assert (both.span, both.activity_name) == (alone.span, "events")
    assert both.segment_columns == alone.segment_columns
    assert both.execute(both.active_days.count()) == alone.execute(alone.active_days.count())
    files["orders.csv"] = "user_id,ts,amount\n1,2026-01-01,2\n"
    assert open_company(tmp_path, files, ORDERS + TABLE).as_of == dt.date(2026, 1, 1)


BAD: dict[str, tuple[list[str], str, dict[tuple[str, str], tuple[int, str]]]] = {
    "ended before it started": (
        [*TIMED, "d,2025-02-02,2025-02-01,x,true", "e,2025-02-02 10:00:00,2025-02-02,x,true"], TIMED_HEAD,
        {("negative_time", "subscriptions.ended_at"): (1, "unfit")},
    ),
    "negative tenure": ([*TENURE, "d,-1,No,x"], TENURE_HEAD, {("negative_tenure", "subscriptions.tenure_months"): (1, "unfit")}),
    "rows twice": ([*TIMED, *TIMED[1:3], TIMED[1]], TIMED_HEAD, {("duplicate_key", "subscriptions."): (3, "unfit")}),
    "no start": ([*TIMED, "d,,2025-01-01,x,true"], TIMED_HEAD, {("null_key", "subscriptions.started_at"): (1, "unfit")}),
    "no user": ([*TIMED, ",2025-01-01,,x,true"], TIMED_HEAD, {("null_key", "subscriptions.user_id"): (1, "unfit")}),
    "no tenure, no end": (
        [*TENURE, "d,,No,x", "e,3,,x"], TENURE_HEAD,
        {("null_key", "subscriptions.tenure_months"): (1, "unfit"), ("null_key", "subscriptions.ended"): (1, "unfit")},
    ),
    "start that is none": ([*TIMED, "d,soon,,x,true"], TIMED_HEAD, {("unparsable", "subscriptions.started_at"): (1, "unfit")}),
    "tenure that is none": ([*TENURE, "d,long,No,x"], TENURE_HEAD, {("unparsable", "subscriptions.tenure_months"): (1, "unfit")}),
    "flag that is none": ([*TENURE, "d,3,perhaps,x"], TENURE_HEAD, {("unparsable", "subscriptions.ended"): (1, "unfit")}),
    "start to come": ([*TIMED, "d,2999-01-01,,x,true"], TIMED_HEAD, {("future_time", "subscriptions.started_at"): (1, "unfit")}),
    "start in another age": ([*TIMED, "d,1970-01-01,,x,true"], TIMED_HEAD, {("absurd_time", "subscriptions.started_at"): (1, "unfit")}),
    "neither start nor tenure": (["a,1,x", "b,2,y"], "user_id,tenure_months,plan\n", {("missing_column", "subscriptions."): (0, "unfit")}),
    "no rows": ([], TIMED_HEAD, {("empty_table", "subscriptions."): (0, "unfit")}),
    "an end nobody knows": (
        ["a,2025-01-01,Yes", "b,2025-01-01,No"], "user_id,started_at,ended\n", {("unknown_end", "subscriptions.ended"): (1, "warning")},
    ),
    "running and ended": (
        ["a,2025-01-01,2025-02-01,No", "b,2025-01-01,,No", "c,2025-01-01,,No", "d,2025-01-01,2025-02-01,Yes"], "user_id,started_at,ended_at,ended\n",
        {("contradiction", "subscriptions.ended"): (1, "warning")},
    ),
    "one of both is enough": (
        ["a,2025-01-01,,", "b,,3,Yes", "c,,,Yes", "d,,7,", "e,soon,,"], "user_id,started_at,tenure_months,ended\n",
        {
            ("null_key", "subscriptions.started_at"): (2, "unfit"), ("unknown_end", "subscriptions.ended"): (1, "warning"),
            ("unparsable", "subscriptions.started_at"): (1, "unfit"),
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_broken_rules(name: str, tmp_path: Path) -> None:
    rows, head, expected = BAD[name]
    data = open_timed(tmp_path, rows, company=COMPANY, head=head)
    assert severities(data) == expected
    for problem in data.fitness.problems:
        assert "subscriptions" in str(problem)
        assert problem.rule not in ("negative_time", "negative_tenure", "duplicate_key") or "drop = [" in problem.remedy


def test_messages(tmp_path: Path) -> None:
    rows, head, _ = BAD["neither start nor tenure"]
    text = open_timed(tmp_path, rows, head=head, company=COMPANY).fitness.to_text()
    assert "columns are missing: started_at, or tenure_months with ended" in text
    assert "The table has: user_id, tenure_months, plan" in text
    rows, head, _ = BAD["rows twice"]
    text = open_timed(tmp_path, rows).fitness.to_text()
    assert (
        "3 of 7 rows repeat another row in every column (duplicate_key), for example a (3 times), b (2 times)" in text
    )
    with pytest.raises(InputError, match="and started_at, or tenure_months with ended"):
        open_company(tmp_path, {"events.csv": GOOD}).table("subscriptions")


@pytest.mark.parametrize(
    ("name", "rule", "left"),
    [
        ("ended before it started", "negative_time", 5), ("negative tenure", "negative_tenure", 3), ("rows twice", "duplicate_key", 4),
        ("no start", "null_key", 4), ("no tenure, no end", "null_key", 3), ("start to come", "future_time", 4),
    ],
)  # fmt: skip
def test_rows_can_be_left_out(name: str, rule: str, left: int, tmp_path: Path) -> None:
    rows, head, _ = BAD[name]
    data = open_timed(tmp_path, rows, f'drop = ["{rule}"]\n', COMPANY, head)
    assert data.fitness.verdict == "usable with warnings"
    assert data.fitness.profiles[0].kept == left == data.execute(data.table("subscriptions").count())


def test_an_end_to_come_is_none_yet(tmp_path: Path) -> None:
    rows = ["a,2025-01-01,9999-12-31,x,true", "b,2025-01-01,2025-02-01,x,true", "c,2025-01-01,2026-07-01,x,true"]
    data = open_timed(tmp_path, rows, company=COMPANY)
    assert severities(data) == {("future_time", "subscriptions.ended_at"): (2, "warning")}
    assert "count as running" in data.fitness.to_text()
    assert data.as_of == dt.date(2025, 2, 1)
    ends = data.execute(data.table("subscriptions").order_by("user_id"))["ended_at"]
    assert ends.isna().tolist() == [True, False, True]
    assert "Write data_until" in open_timed(tmp_path, rows[:2]).fitness.to_text()


def test_filters_apply(tmp_path: Path) -> None:
    data = open_timed(tmp_path, TIMED, 'keep = [{ column = "plan", equals = "gold" }]\n')
    assert (str(data.span.start), data.execute(data.table("subscriptions").count())) == ("2025-05-01", 2)


def test_the_survey_says_what_cannot_be_asked(tmp_path: Path) -> None:
    survey = survey_data(open_tenure(tmp_path, TENURE))
    text = " ".join(describe(survey))
    assert "of one day, 2026-06-30" in text
    assert "who was active when is not in them" in text
    lacking = {q.notebook for q in survey.questions if "events or orders" in q.missing}
    assert {"10_growth_model", "20_funnel_diagnosis", "40_quarterly_review"} <= lacking
    text = " ".join(describe(survey_data(open_timed(tmp_path, TIMED))))
    assert "full days, from 2024-12-01 to 2026-02-10" in text


def test_a_check_is_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from opslib.data.checked import VARIABLE, store_fitness

    data = open_tenure(tmp_path, TENURE)
    store_fitness(data.fitness, data.fingerprint, tmp_path / "checked.json")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "checked.json"))
    again = open_data(tmp_path / "playbook.toml")
    assert again.fitness == data.fitness
    assert again.span == data.span


@pytest.mark.parametrize(
    ("kind", "expected"), [("number", [1.5, None]), ("text", ["1.5", " "]), ("flag", [None, None])]
)
def test_a_further_column_can_be_told_its_type(kind: str, expected: list[object], tmp_path: Path) -> None:
    head = "user_id,tenure_months,ended,fee\n"
    options = f'columns = {{ fee = {{ column = "fee", type = "{kind}" }} }}\n'
    data = open_tenure(tmp_path, ['a,1,No,"1.5"', 'b,2,No," "'], options, head=head)
    found = data.execute(data.table("subscriptions").order_by("user_id"))["fee"].astype(object)
    assert found.where(found.notna(), None).tolist() == expected
