"""Reports by day: which are missing, each run of its own, and the old ones removed.

The last day is run again when anything that it depends on has changed: data, playbook, notebooks, opslib. Days
before it that `--catch-up` looks at are run only where a good report is missing: they stay what was known and sent at
the time, and data that grow every night do not cost every day again. So do quarters and days asked for by name
(`backfill.py`), unless they end with the last full day of the data.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opslib.errors import InputError, OpslibError
from opslib.language import speak
from opslib.parameters import NOTEBOOKS
from opslib.run.archive import (
    MANIFEST,
    SHORT,
    check_archive,
    hash_inputs,
    hash_parameters,
    lock_archive,
    name_selection,
    remove_empty,
    remove_old_runs,
    write_overview,
)
from opslib.run.backfill import Due, list_days, list_quarters
from opslib.run.folder import is_report
from opslib.run.progress import describe_left
from opslib.run.report import (
    Dated,
    Report,
    choose_language,
    choose_notebooks,
    give_day,
    leave_out,
    make_report,
    notebooks_folder,
    open_input,
    share_parameters,
    slugify,
)

if TYPE_CHECKING:
    from opslib.data.periods import Quarter
    from opslib.data.source import Data
    from opslib.parameters import NotebookParameters
    from opslib.run.chapters import Follow
    from opslib.run.execute import Progress
    from opslib.run.forkserver import ForkServer

MOST_DAYS = 3660
# Exit codes from the least to the worst: good, a rule fired, alert not delivered, a notebook failed, refused.
WORST_LAST = (0, 3, 5, 1, 2)


@dataclass(frozen=True)
class Schedule:
    """What a dated command asks for.

    Attributes:
        as_of: the last day as an ISO date; empty for the last full day of the data.
        archive: where runs lie; default `reports/<company>-archive`.
        catch_up_days: how many days up to the last one are looked at.
        keep_days: runs that are more days older than the newest are removed; 0 keeps all.
        force: whether to run what is done again.
        wait_seconds: how long to wait for another command.
        quarters, days: the first and the last, where somebody asks for them by name; they stand in the place of
            `as_of` and `catch_up_days`.
    """

    as_of: str = ""
    archive: Path | None = None
    catch_up_days: int = 1
    keep_days: int = 0
    force: bool = False
    wait_seconds: float = 0
    quarters: tuple[Quarter, Quarter] | None = None
    days: tuple[dt.date, dt.date] | None = None

    @property
    def named(self) -> bool:
        """Whether somebody asks for periods by name."""
        return bool(self.quarters or self.days)


@dataclass(frozen=True)
class DatedRun:
    """What became of one day or quarter.

    Attributes:
        day: the day, a quarter's last one.
        label: what people call it.
        out: where its report lies, or would.
        report: the report; None when nothing could be written.
        done_before: whether it was there already and good.
        outdated: whether it was made before from other data, playbook, notebooks or opslib than there are now.
        error: why there is none.
        exit_code: 0, 1 when a notebook failed, 2 when the day was refused.
    """

    day: dt.date
    label: str
    out: Path
    report: Report | None = None
    done_before: bool = False
    outdated: bool = False
    error: str = ""
    exit_code: int = 0


def make_runs(
    schedule: Schedule,
    names: Sequence[str] = (),
    texts: Mapping[str, str] | None = None,
    *,
    selection: str = "",
    notebooks: Path | None = None,
    workers: int | None = None,
    server: ForkServer | None = None,
    follow: Follow | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> list[DatedRun]:
    """Make the reports of a schedule's days that are not done yet, oldest first; one that fails does not stop the rest.

    Args:
        schedule: which days or quarters, and where to.
        names, texts, notebooks, workers, server, follow, on_progress, on_stage: as in `make_report`; the days of
            `schedule` take the place of a parameter `as_of`, its quarters that of `quarter`.
        selection: what the runs are called in the archive; default after the notebooks.

    Returns:
        What became of each day, oldest first.

    Raises:
        InputError: parameters, archive, data or the last day are refused; nothing was run and nothing written. Of
            periods asked for by name: one lies outside the data, or all are refused.
        BusyError: another command is writing the archive.
    """
    folder = notebooks or notebooks_folder()
    ruled = ("as_of", "quarter") if schedule.quarters else ("as_of",)
    texts = {name: text for name, text in (texts or {}).items() if name not in ruled}
    as_of = read_day(schedule.as_of)
    if schedule.keep_days and schedule.catch_up_days > schedule.keep_days:
        raise InputError(
            f"--catch-up {schedule.catch_up_days} makes reports that --keep {schedule.keep_days}d would remove. "
            "Keep more days, or catch up fewer."
        )
    chosen = choose_notebooks(names, folder)
    parameters = share_parameters(chosen, texts)
    root = check_archive(schedule.archive) if schedule.archive else None
    on_stage("Checking the data")
    data = open_input(parameters)
    company = data.playbook.company.name
    root = root or check_archive(Path("reports") / f"{slugify(company)}-archive")
    dues = list_dues(schedule, data, as_of or data.as_of)
    selection = selection or name_selection(list(parameters), named=bool(names))
    # Rules may open any notebook.
    inputs_hash = hash_inputs(data, folder, list(NOTEBOOKS) if follow else list(parameters))
    left, _ = leave_out(parameters, data, named=bool(names), texts=texts)
    takes_quarter = any("quarter" in type(model).model_fields for model in left.values())
    plans = []
    for due in dues:
        given = {**texts, "quarter": due.quarter} if due.quarter and takes_quarter else texts
        shared = share_parameters(chosen, given)
        done = {
            "parameters_hash": hash_parameters(selection, shared),
            "inputs_hash": inputs_hash,
            "notebooks": list(shared),
        }
        place = f"{selection}/{due.day}/{done['parameters_hash'][:SHORT]}/"
        plans.append(_Plan(due, given, shared, done, place))
    # Of periods asked for by name those that a notebook refuses are told of at the end, as long as any is left.
    check_any(plans if schedule.named else plans[-1:], data, named=bool(names))
    moving = data.as_of if schedule.named else dues[-1].day
    with lock_archive(root, wait_seconds=schedule.wait_seconds), speak(choose_language(parameters, data)):
        missing = [
            schedule.force or not is_done(root / plan.place, plan.done, inputs=plan.due.day == moving) for plan in plans
        ]
        runs: list[DatedRun] = []
        seconds: list[float] = []
        for number, plan in enumerate(plans):
            due, out = plan.due, root / plan.place
            if not missing[number]:
                outdated = not is_done(out, plan.done, inputs=True)
                runs.append(DatedRun(due.day, due.label, out, read_report(out), done_before=True, outdated=outdated))
                continue
            if len(plans) > 1:
                time_left = describe_left(seconds, runs=sum(missing[number:]))
                on_stage(f"Report of {due.label} ({', '.join([f'{number + 1} of {len(plans)}', *time_left])})")

            def make(plan: _Plan = plan, out: Path = out) -> Report:
                return make_report(
                    names, plan.texts, out=out, notebooks=folder, workers=workers, server=server, follow=follow,
                    dated=Dated(plan.due.day, data, plan.place, plan.done), on_progress=on_progress, on_stage=on_stage,
                )  # fmt: skip

            began = time.perf_counter()
            runs.append(_run_due(make, due, out, alone=len(plans) == 1))
            # One that was refused at once says nothing of how long the others take.
            if runs[-1].report:
                seconds.append(time.perf_counter() - began)
            write_overview(root, company)
        if schedule.keep_days and not any(run.exit_code for run in runs):
            remove_old_runs(root, selection, keep_days=schedule.keep_days)
        # Also where all was done: whoever is killed may have left a report that the first page does not list.
        write_overview(root, company)
    return runs


def list_dues(schedule: Schedule, data: Data, last: dt.date) -> list[Due]:
    """List the runs that a schedule asks for, oldest first; those of `--catch-up` end with the last day.

    Raises:
        InputError: quarters or days asked for by name lie outside the data.
    """
    if schedule.quarters:
        return list_quarters(*schedule.quarters, data)
    if schedule.days:
        return list_days(*schedule.days, data)
    days = list_last_days(last, schedule.catch_up_days, first=data.span.start)
    return [Due(day, day.isoformat()) for day in days]


def read_day(text: str) -> dt.date | None:
    """Read a day; None where it is empty.

    Raises:
        InputError: it is no ISO date.
    """
    if not text:
        return None
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise InputError(
            f"Parameter 'as_of' cannot be '{text}': write a day as an ISO date, for example 2026-06-30."
        ) from None


def read_keep(text: str) -> int:
    """Read how long runs are kept, in days.

    >>> read_keep("90d"), read_keep("")
    (90, 0)
    """
    if not text:
        return 0
    match = re.fullmatch(r"0*([1-9][0-9]{0,4})d", text)
    if not match:
        raise InputError(f"--keep cannot be '{text}': write a number of days such as 90d.")
    return int(match[1])


def list_last_days(last: dt.date, count: int, *, first: dt.date) -> list[dt.date]:
    """List so many days up to the last one, oldest first, but none before the data begin.

    >>> [str(day) for day in list_last_days(dt.date(2026, 3, 1), 3, first=dt.date(2026, 2, 28))]
    ['2026-02-28', '2026-03-01']
    """
    days = [last - dt.timedelta(n) for n in reversed(range(count))]
    return [day for day in days if day >= first or day == last]


def check_any(plans: Sequence[_Plan], data: Data, *, named: bool) -> None:
    """Refuse plans for none of which the notebooks can be run; one look is enough where the newest is fine.

    Raises:
        InputError: why the newest is refused.
    """
    refusal = None
    for plan in reversed(plans):
        try:
            return check_day(plan.parameters, data, plan.due.day, named=named, texts=plan.texts)
        except InputError as error:
            refusal = refusal or error
    if refusal:
        raise refusal


def check_day(
    parameters: Mapping[str, NotebookParameters],
    data: Data,
    day: dt.date,
    *,
    named: bool,
    texts: Mapping[str, str],
) -> None:
    """Refuse a day for which the notebooks cannot be run.

    Raises:
        InputError: it lies outside the data, or a notebook refuses it.
    """
    if not data.span.start <= day < data.span.end:
        raise InputError(
            f"as_of {day} lies outside the data, which run from {data.span.start} to {data.as_of}. "
            "Choose a day between the two."
        )
    left, _ = leave_out(parameters, data, named=named, texts=texts)
    for model in give_day(left, data, day).values():
        model.check_data(data)


def is_done(out: Path, done: Mapping[str, Any], *, inputs: bool) -> bool:
    """Tell whether a good report is there, made with the same parameters, and the same inputs where these matter."""
    if not is_report(out):
        return False
    manifest = json.loads((out / MANIFEST).read_text("utf-8"))
    made = manifest.get("dated", {})
    keys = ("parameters_hash", "inputs_hash") if inputs else ("parameters_hash",)
    return manifest.get("exit_code") == 0 and all(made.get(key) == done[key] for key in keys)


def read_report(out: Path) -> Report:
    """Read a report that was written before."""
    from opslib.run.publish import list_fired

    manifest = json.loads((out / MANIFEST).read_text("utf-8"))
    found = json.loads((out / "findings.json").read_text("utf-8"))["notebooks"]
    notebooks = manifest["notebooks"]
    findings = {name: found[name]["findings"] for name in notebooks}
    language = manifest.get("lang", "en")
    with speak(language):
        rules = list_fired([finding for name in notebooks for finding in findings[name]])
    return Report(
        out,
        manifest["exit_code"],
        {name: about["cause"] for name, about in notebooks.items()},
        manifest["seconds"]["total"],
        findings,
        [problem for name in notebooks for problem in found[name].get("not_opened", [])],
        company=manifest["company"],
        rules=rules,
        as_of=manifest["dated"]["day"],
        lang=language,
    )


def find_worst(codes: Sequence[int]) -> int:
    """Choose the exit code that a command of several runs ends with.

    >>> find_worst([0, 2, 1]), find_worst([0, 3, 1]), find_worst([])
    (2, 1, 0)
    """
    return max(codes, key=WORST_LAST.index, default=0)


@dataclass(frozen=True)
class _Plan:
    """A run with the parameters that were named for it, what tells that it is done, and its place in the archive."""

    due: Due
    texts: Mapping[str, str]
    parameters: Mapping[str, NotebookParameters]
    done: Mapping[str, Any]
    place: str


def _run_due(make: Callable[[], Report], due: Due, out: Path, *, alone: bool) -> DatedRun:
    try:
        report = make()
        return DatedRun(due.day, due.label, out, report, exit_code=report.exit_code)
    except OpslibError as error:
        if alone:
            raise
        return DatedRun(due.day, due.label, out, error=str(error), exit_code=error.exit_code)
    except Exception as error:
        if alone:
            raise
        first = (str(error).splitlines() or [""])[0]
        return DatedRun(due.day, due.label, out, error=f"{type(error).__name__}: {first}", exit_code=1)
    finally:
        remove_empty(out.parent)
