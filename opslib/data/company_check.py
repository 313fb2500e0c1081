"""The contract check of a whole company: every table by itself, then whether the tables fit each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from opslib.data.connect import first_line
from opslib.data.files import detect_format, explain_failure, find_files
from opslib.data.fitness import MEANINGS, DataFitness, Problem, TableProfile, check_key_types, check_table
from opslib.data.problems import INACTIVE, report_activity
from opslib.data.subscribers import NAME_A_DAY, NO_TIME, WITHOUT_USERS
from opslib.errors import EngineError, EngineUnreachableError, InputError

if TYPE_CHECKING:
    from opslib.data.source import Data


def check_company(data: Data, checked: Mapping[str, tuple[TableProfile, list[Problem]]] | None = None) -> DataFitness:
    """Check all tables of a company against the contract, and against each other.

    Args:
        data: the company's data.
        checked: tables that are checked already, each with its profile and problems.

    Raises:
        InputError: a table cannot be read.
    """
    profiles: dict[str, TableProfile] = {}
    problems: list[Problem] = []
    for name, mapped in data.mapped.items():
        try:
            known = (checked or {}).get(name)
            profiles[name], found = known or check_table(mapped, data.playbook.tables[name], data.playbook)
        except InputError:
            raise
        except EngineError as error:
            raise EngineUnreachableError(f"Table {name} cannot be read: {error}") from None
        except Exception as error:
            raise InputError(f"Table {name} cannot be read: {_explain(data, name, error)}") from None
        problems += found
    problems += check_key_types(data.mapped)
    if not data.has_activity:
        problems += _check_inactivity(data, profiles)
    if not any(p.severity == "unfit" for p in problems):
        problems += _check_activity(data, profiles)
    if not any(p.severity == "unfit" for p in problems) and data.has("users"):
        for name in ("events", "orders", "subscriptions"):
            if data.has(name):
                problems += _check_users_known(data, profiles[name])
    rank = {"unfit": 0, "warning": 1, "note": 2}
    return DataFitness(tuple(profiles.values()), tuple(sorted(problems, key=lambda p: rank[p.severity])))


def _explain(data: Data, table: str, error: Exception) -> str:
    """Why a table could be opened, but not be read to its end."""
    source = data.playbook.tables[table]
    if data.playbook.data.url is not None or not any(sign in str(error) for sign in ("CSV Error", "to read file")):
        return first_line(error)
    files = find_files(source.source, data.playbook.folder)
    form = detect_format(files[0], delimiter=source.delimiter, header=source.header)
    return explain_failure(files, form, error)


def _check_inactivity(data: Data, profiles: dict[str, TableProfile]) -> list[Problem]:
    """Without events and orders, subscriptions still tell who left, if it is known when they were looked up."""
    if data.base_name in WITHOUT_USERS:
        text = INACTIVE["events without users"]
        return [Problem(data.base_name, "", "missing_table", 0, 0, "note", text)]
    if not data.base_name:
        return [Problem("events", "", "missing_table", 0, 0, "unfit", INACTIVE["nothing"])]
    text = INACTIVE["subscriptions"]
    problems = [Problem("subscriptions", "", "missing_table", 0, 0, "note", text)]
    if profiles["subscriptions"].last_at is None and data.playbook.company.data_until is None:
        problems.append(Problem("subscriptions", "", "missing_time", 0, 0, "unfit", NO_TIME, remedy=NAME_A_DAY))
    return problems


def _check_activity(data: Data, profiles: dict[str, TableProfile]) -> list[Problem]:
    """Events that [activity] names must occur, and leave somebody active."""
    activity = data.playbook.activity
    named = list(dict.fromkeys((*activity.events, *activity.except_events)))
    if not named or data.activity_name != "events":
        return []
    events = data.event_counts
    counts = {str(i): events.rows.sum(where=events.event == name).fill_null(0) for i, name in enumerate(named)}
    active = events.rows.sum(where=data.is_active(events)).fill_null(0)
    found = data.execute(events.aggregate(active=active, **counts))
    absent = [name for i, name in enumerate(named) if not found[str(i)][0]]
    nobody = not found["active"][0]
    if not absent and not nobody:
        return []
    known = data.execute(events)
    known = known.sort_values(["rows", "event"], ascending=[False, True])["event"].dropna().tolist()
    return [report_activity(absent, known, profiles["events"].kept, nobody=nobody)]


def _check_users_known(data: Data, profile: TableProfile) -> list[Problem]:
    if data.rollups is not None and profile.table == data.activity_name:
        ids = data.rollups.users.select("user_id", rows="rows_count")
    else:
        ids = data.table(profile.table).group_by("user_id").aggregate(rows=lambda t: t.count())
    strangers = ids.anti_join(data.table("users"), "user_id")
    rows = int(data.execute(strangers.rows.sum().fill_null(0)))
    if not rows:
        return []
    examples = tuple(str(x) for x in data.execute(strangers.order_by("user_id").limit(3))["user_id"])
    text = MEANINGS["unknown_user"]
    return [Problem(profile.table, "user_id", "unknown_user", rows, profile.kept, "warning", text, examples)]
