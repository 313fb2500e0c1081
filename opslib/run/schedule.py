"""Reports by day: which are missing, each run of its own, and the old ones removed.

The last day is run again when anything that it depends on has changed: data, playbook, notebooks, opslib. Days
before it that `--catch-up` looks at are run only where a good report is missing: they stay what was known and sent at
the time, and data that grow every night do not cost every day again.
"""

from __future__ import annotations

import datetime as dt
import json
import re
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
from opslib.run.folder import is_report
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
    """

    as_of: str = ""
    archive: Path | None = None
    catch_up_days: int = 1
    keep_days: int = 0
    force: bool = False
    wait_seconds: float = 0


@dataclass(frozen=True)
class DatedRun:
    """What became of one day.

    Attributes:
        day: the day.
        out: where its report lies, or would.
        report: the report; None when nothing could be written.
        done_before: whether it was there already and good.
        error: why there is none.
        exit_code: 0, 1 when a notebook failed, 2 when the day was refused.
    """

    day: dt.date
    out: Path
    report: Report | None = None
    done_before: bool = False
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
        schedule: which days, and where to.
        names, texts, notebooks, workers, server, follow, on_progress, on_stage: as in `make_report`; the day of
            `schedule` takes the place of a parameter `as_of`.
        selection: what the runs are called in the archive; default after the notebooks.

    Returns:
        What became of each day, oldest first.

    Raises:
        InputError: parameters, archive, data or the last day are refused; nothing was run and nothing written.
        BusyError: another command is writing the archive.
    """
    folder = notebooks or notebooks_folder()
    texts = {name: text for name, text in (texts or {}).items() if name != "as_of"}
    as_of = read_day(schedule.as_of)
    if schedule.keep_days and schedule.catch_up_days > schedule.keep_days:
        raise InputError(
            f"--catch-up {schedule.catch_up_days} makes reports that --keep {schedule.keep_days}d would remove. "
            "Keep more days, or catch up fewer."
        )
    parameters = share_parameters(choose_notebooks(names, folder), texts)
    root = check_archive(schedule.archive) if schedule.archive else None
    on_stage("Checking the data")
    data = open_input(parameters)
    company = data.playbook.company.name
    root = root or check_archive(Path("reports") / f"{slugify(company)}-archive")
    last = as_of or data.as_of
    check_day(parameters, data, last, named=bool(names), texts=texts)
    selection = selection or name_selection(list(parameters), named=bool(names))
    # Rules may open any notebook.
    read = list(NOTEBOOKS) if follow else list(parameters)
    done = {
        "parameters_hash": hash_parameters(selection, parameters),
        "inputs_hash": hash_inputs(data, folder, read),
        "notebooks": list(parameters),
    }
    days = list_days(last, schedule.catch_up_days, first=data.span.start)
    runs = []
    language = choose_language(parameters, data)
    with lock_archive(root, wait_seconds=schedule.wait_seconds), speak(language):
        for day in days:
            place = f"{selection}/{day}/{done['parameters_hash'][:SHORT]}/"
            out = root / place
            if not schedule.force and is_done(out, done, inputs=day == last):
                runs.append(DatedRun(day, out, read_report(out), done_before=True))
                continue
            if len(days) > 1:
                on_stage(f"Report of {day}")

            def make(day: dt.date = day, out: Path = out, place: str = place) -> Report:
                return make_report(
                    names, texts, out=out, notebooks=folder, workers=workers, server=server, follow=follow,
                    dated=Dated(day, data, place, done), on_progress=on_progress, on_stage=on_stage,
                )  # fmt: skip

            runs.append(_run_day(make, day, out, alone=len(days) == 1))
            write_overview(root, company)
        if schedule.keep_days and not any(run.exit_code for run in runs):
            remove_old_runs(root, selection, keep_days=schedule.keep_days)
            write_overview(root, company)
    return runs


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


def list_days(last: dt.date, count: int, *, first: dt.date) -> list[dt.date]:
    """List so many days up to the last one, oldest first, but none before the data begin.

    >>> [str(day) for day in list_days(dt.date(2026, 3, 1), 3, first=dt.date(2026, 2, 28))]
    ['2026-02-28', '2026-03-01']
    """
    days = [last - dt.timedelta(n) for n in reversed(range(count))]
    return [day for day in days if day >= first or day == last]


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


def _run_day(make: Callable[[], Report], day: dt.date, out: Path, *, alone: bool) -> DatedRun:
    try:
        report = make()
        return DatedRun(day, out, report, exit_code=report.exit_code)
    except OpslibError as error:
        if alone:
            raise
        return DatedRun(day, out, error=str(error), exit_code=error.exit_code)
    except Exception as error:
        if alone:
            raise
        first = (str(error).splitlines() or [""])[0]
        return DatedRun(day, out, error=f"{type(error).__name__}: {first}", exit_code=1)
    finally:
        remove_empty(out.parent)
