"""Make a report: check everything, run the notebooks, write the folder, put it into place.

The order is the promise: parameters, destination, data; only then a kernel. Work that shows nothing (imports,
the script for charts) overlaps with the waiting.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opslib.data.periods import Quarter
from opslib.errors import EngineError, EngineLostError, EngineUnreachableError, InputError
from opslib.language import get_language, join_words, say, speak
from opslib.parameters import (
    NOTEBOOKS,
    SECRET_NAME,
    NotebookParameters,
    check_parameters,
    find_notebook,
    parse_parameters,
)
from opslib.run.chapters import CHECKED_FILE, Follow, Kitchen, Preparation, Run
from opslib.run.folder import check_destination, write_aside

if TYPE_CHECKING:
    from opslib.data.source import Data
    from opslib.run.execute import Progress
    from opslib.run.forkserver import ForkServer
    from opslib.run.publish import Chapter, Facts

MOST_PROBLEMS_NAMED = 20
# How the cause of a notebook begins whose database went away.
LOST_ENGINE = (EngineLostError.__name__, EngineUnreachableError.__name__)


@dataclass(frozen=True)
class Report:
    """A report that was written.

    Attributes:
        out: its folder.
        exit_code: 0, or 1 when a notebook failed.
        causes: notebook to one line of what went wrong, empty for those that finished.
        seconds: wall time of the whole run.
        findings: notebook to its findings.
        problems: a sentence for each notebook that another one asked for and that could not be run.
        company: whose data.
        rules: names of the rules that fire.
        as_of: the day of a dated run.
        lang: the language that it is written in.
    """

    out: Path
    exit_code: int
    causes: Mapping[str, str]
    seconds: float
    findings: Mapping[str, Sequence[Any]]
    problems: Sequence[str] = ()
    company: str = ""
    rules: Sequence[str] = ()
    as_of: str = ""
    lang: str = "en"

    @property
    def index(self) -> Path:
        """The page to open first."""
        return self.out / "index.html"


@dataclass(frozen=True)
class Dated:
    """What makes a report a dated run.

    Attributes:
        day: the day that it tells of.
        data: the company's data, opened.
        place: where it lies below the archive's folder, ending in a slash.
        done: what goes into the manifest, for a later command to tell whether this run is done.
    """

    day: dt.date
    data: Data
    place: str
    done: Mapping[str, Any]


def make_report(
    names: Sequence[str] = (),
    texts: Mapping[str, str] | None = None,
    *,
    out: Path | None = None,
    notebooks: Path | None = None,
    workers: int | None = None,
    server: ForkServer | None = None,
    follow: Follow | None = None,
    folder_name: str = "",
    dated: Dated | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Report:
    """Run notebooks and write their report.

    Args:
        names: which notebooks; default all there are.
        texts: parameters as text; each goes to the notebooks that declare it.
        out: the report's folder; default `reports/<company>`.
        notebooks: folder of the notebooks; default the one that comes with opslib.
        workers: how many notebooks run at once; default the number of processors.
        server: where kernels come from that have their libraries imported; default ordinary kernels.
        folder_name: what the default folder's name ends with.
        dated: the day, where this is one of an archive's runs.
        follow: called with each finished notebook and its findings: what to run because of them.
        on_progress: called from other threads as notebooks advance.
        on_stage: called with a few words when a new stage begins.

    Raises:
        InputError: parameters, destination or data are refused; nothing was run and nothing written.
        EngineError: the database failed in the middle; nothing was written.
    """
    from opslib.data.checked import store_fitness
    from opslib.run.publish import list_fired

    clock = _Clock()
    folder = notebooks or notebooks_folder()
    parameters = share_parameters(choose_notebooks(names, folder), texts or {})
    if out is not None:
        out = check_destination(out)
    clock.lap("parameters")
    if not dated:
        on_stage("Checking the data")
    with Preparation() as ready, contextlib.ExitStack() as language:
        data = dated.data if dated else open_input(parameters)
        language.enter_context(speak(choose_language(parameters, data)))
        parameters, left_out = leave_out(parameters, data, named=bool(names), texts=texts or {})
        if dated:
            parameters = give_day(parameters, data, dated.day)
        for model in parameters.values():
            model.check_data(data)
        named = "-".join(part for part in (slugify(data.playbook.company.name), folder_name) if part)
        out = out or check_destination(Path("reports") / named)
        clock.lap("check")
        on_stage(f"Running {len(parameters)} notebook{'s' * (len(parameters) != 1)}")
        with write_aside(out) as partial:
            store_fitness(data.fitness, data.fingerprint, partial / CHECKED_FILE)
            facts = _gather_facts(data, parameters, left_out, dated)
            runs = [Run(slug, model) for slug, model in parameters.items()]
            kitchen = Kitchen(folder, facts, partial, ready, workers, server, on_progress)
            chapters, opened = kitchen.run_chapters(runs, data, follow)
            check_engine(chapters)
            if opened:
                on_stage(f"Running {len(opened)} investigation{'s' * (len(opened) != 1)}")
                chapters += kitchen.run_chapters(opened, data, None)[0]
                check_engine(chapters)
            clock.lap("notebooks")
            (partial / CHECKED_FILE).unlink()
            exit_code = int(any(not chapter.outcome.ok for chapter in chapters))
            _write_rest(partial, facts, chapters, exit_code, clock)
        rules = list_fired([finding for chapter in chapters for finding in chapter.findings])
    causes = {chapter.name: chapter.outcome.cause for chapter in chapters}
    findings = {chapter.name: chapter.findings for chapter in chapters}
    problems = [problem for chapter in chapters for problem in chapter.problems]
    return Report(
        out, exit_code, causes, clock.total, findings, problems,
        company=facts.company, rules=rules, as_of=facts.day, lang=facts.lang,
    )  # fmt: skip


def notebooks_folder() -> Path:
    """The folder of the notebooks: beside the package in a checkout, inside it when installed.

    Raises:
        InputError: neither is there.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package.parent / "notebooks", package / "notebooks"):
        if folder.is_dir():
            return folder
    raise InputError("The notebooks that come with opslib are not there. Name their folder with --notebooks.")


def choose_notebooks(names: Sequence[str], folder: Path) -> dict[str, type[NotebookParameters]]:
    """Find the notebooks that are meant, in report order; all whose file exists when none is named.

    Raises:
        InputError: an unknown notebook, or one whose file is missing.
    """
    wanted = {find_notebook(name).notebook for name in names}
    chosen = {
        slug: model
        for slug, model in NOTEBOOKS.items()
        if (slug in wanted if wanted else (folder / f"{slug}.ipynb").is_file())
    }
    missing = [slug for slug in chosen if not (folder / f"{slug}.ipynb").is_file()]
    if missing:
        raise InputError(f"There is no {missing[0]}.ipynb in {folder}.")
    if not chosen:
        raise InputError(f"There is no notebook of opslib in {folder}.")
    return chosen


def share_parameters(
    chosen: Mapping[str, type[NotebookParameters]], texts: Mapping[str, str]
) -> dict[str, NotebookParameters]:
    """Give each notebook those of the parameters that it declares, checked.

    Raises:
        InputError: a value is refused, or a name that none of the notebooks declares.
    """
    known = {name for model in chosen.values() for name in model.model_fields}
    for name in texts:
        if name not in known and not SECRET_NAME.search(name):
            raise InputError(_refuse_stray(name, chosen, known))
    return {
        # A name that looks like a secret goes through, for the check to refuse it in its own words.
        slug: parse_parameters(slug, {k: v for k, v in texts.items() if k in model.model_fields or k not in known})
        for slug, model in chosen.items()
    }


def open_input(parameters: Mapping[str, NotebookParameters]) -> Data:
    """Open the data and check their contract; rollups, where the playbook keeps some, are brought up to date first.

    Raises:
        InputError: the data do not open or are unfit.
        BusyError: another command is bringing the rollups up to date, and does not end.
    """
    from opslib.data.source import open_data

    playbooks = {model.playbook for model in parameters.values()}
    if len(playbooks) != 1:
        raise InputError(f"One report has one playbook, not {len(playbooks)}: {', '.join(sorted(playbooks))}.")
    data = open_data(playbooks.pop())
    if data.playbook.data.rollups is not None:
        from opslib.data.rollups.update import update_rollups

        update_rollups(data.playbook)
        data = open_data(data.playbook)
    if data.fitness.verdict == "unfit":
        problems = [str(problem) for problem in data.fitness.problems if problem.severity == "unfit"]
        shown = "".join(f"\n  - {problem}" for problem in problems[:MOST_PROBLEMS_NAMED])
        more = len(problems) - MOST_PROBLEMS_NAMED
        rest = f"\n  and {more} more; see `opslib check`" if more > 0 else ""
        raise InputError(f"The data are unfit for a report:{shown}{rest}")
    return data


def choose_language(parameters: Mapping[str, NotebookParameters], data: Data) -> str:
    """Take the language that was asked for, or else the company's; English where neither is said."""
    asked = next((model.lang for model in parameters.values() if model.lang), "")
    return asked or data.playbook.company.lang or "en"


def chain_words(words: Sequence[str], *, last: str = "and") -> str:
    """Put the same word between all words.

    >>> chain_words(["events", "orders", "spend"], last="or")
    'events or orders or spend'
    """
    return functools.reduce(lambda before, word: join_words([before, word], last=last), words)


def leave_out(
    parameters: Mapping[str, NotebookParameters], data: Data, *, named: bool = False, texts: Collection[str] = ()
) -> tuple[dict[str, NotebookParameters], list[str]]:
    """Leave out notebooks that these data cannot fill, as long as nobody asked for them.

    Args:
        parameters: notebook -> its parameters.
        data: the company's data.
        named: whether the user named the notebooks.
        texts: the parameters that the user named.

    Returns:
        What is left, and a sentence that names the others; no sentence where there are none.

    Raises:
        InputError: the user named such a notebook, or a parameter that only such notebooks have, or nothing is left.
    """
    rest = {slug: model for slug, model in parameters.items() if not model.needs or any(map(data.has, model.needs))}
    lacking = [slug for slug in parameters if slug not in rest]
    if not lacking:
        return rest, []
    known = {name for model in rest.values() for name in type(model).model_fields}
    stray = [name for name in texts if name not in known]
    needed = list(dict.fromkeys(table for slug in lacking for table in parameters[slug].needs))
    wanted = " or ".join(needed)
    if named or stray or not rest:
        about = " and ".join(lacking) + " cannot do without"
        if stray and not named and rest:
            about = f"Parameter '{stray[0]}' is for notebooks that cannot do without"
        raise InputError(
            f"{about} {wanted}, and these data have none of them. Name such a table under [tables] in the "
            "playbook, or do without."
        )
    titles = say(", ").join(say("{title} ({name})", title=say(parameters[s].title), name=s) for s in lacking)
    tables = chain_words(needed, last="or")
    return rest, [say("Left out of this report, for want of {tables}: {titles}.", tables=tables, titles=titles)]


def give_day(parameters: Mapping[str, NotebookParameters], data: Data, day: dt.date) -> dict[str, NotebookParameters]:
    """Have notebooks tell of a day: as their last day, or of the last quarter that was complete then.

    A quarter that was asked for stays.
    """
    given = {}
    for slug, model in parameters.items():
        values = model.to_literals()
        if "as_of" in values:
            values["as_of"] = day.isoformat()
        elif values.get("quarter") == "":
            values["quarter"] = str(choose_quarter_on(data, day))
        given[slug] = check_parameters(slug, values)
    return given


def choose_quarter_on(data: Data, day: dt.date) -> Quarter:
    """Take the last quarter that was complete at the end of a day; that of the day if the data have none before."""
    quarter = Quarter.of(day)
    complete = quarter if quarter.period.last_day <= day else quarter.previous
    return complete if complete.period.overlaps(data.span) else quarter


def slugify(name: str) -> str:
    """Make a folder's name of a company's name; letters of any script stay.

    >>> slugify("Acme & Söhne / 北京"), slugify("..")
    ('acme-söhne-北京', 'report')
    """
    return re.sub(r"[\W_]+", "-", name.lower()).strip("-")[:60] or "report"


def check_engine(chapters: Sequence[Chapter]) -> None:
    """Refuse to go on when the database went away meanwhile, or answered no notebook: no report is better than that.

    Raises:
        EngineError: the first cause.
    """
    causes = [chapter.outcome.cause for chapter in chapters]
    lost = [cause for cause in causes if cause.startswith(LOST_ENGINE)]
    if not lost and not all(cause.startswith(EngineError.__name__) for cause in causes):
        return
    first = [cause for cause in lost or causes if cause][:1]
    if first:
        message = re.sub(r" \(code cell \d+\)$", "", first[0].partition(": ")[2])
        raise EngineError(f"{message} No report was written; an earlier one stands as it was.")


class _Clock:
    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self.laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name], self._last = now - self._last, now

    @property
    def total(self) -> float:
        return time.perf_counter() - self._start


def _gather_facts(
    data: Data, parameters: Mapping[str, NotebookParameters], left_out: Sequence[str], dated: Dated | None
) -> Facts:
    from opslib.run.publish import Facts

    periods = []
    for model in parameters.values():
        if hasattr(model, "quarter"):
            periods.append(str(data.choose_quarter(model.quarter)))
    return Facts(
        company=data.playbook.company.name,
        period=", ".join(dict.fromkeys(periods)),
        verdict=data.fitness.verdict,
        problems=[*left_out, *(str(problem) for problem in data.fitness.problems)],
        fingerprint=data.fingerprint,
        as_of=data.as_of.isoformat(),
        lang=get_language(),
        day=dated.day.isoformat() if dated else "",
        place=dated.place if dated else "",
        dated=dated.done if dated else {},
    )


def _write_rest(partial: Path, facts: Facts, chapters: Sequence[Chapter], exit_code: int, clock: _Clock) -> None:
    from dataclasses import replace

    from opslib.run.fonts import say_missing_font
    from opslib.run.publish import write_report

    seconds: dict[str, Any] = {**clock.laps, "total": clock.total}
    # What the answers say is what the pictures name.
    said = say_missing_font(" ".join(sentence for chapter in chapters for sentence in chapter.sentences))
    problems = [*facts.problems, said] if said else facts.problems
    write_report(partial, replace(facts, seconds=seconds, problems=problems), chapters, exit_code)


def _refuse_stray(name: str, chosen: Mapping[str, Any], known: set[str]) -> str:
    from opslib.errors import suggest_name

    names = ", ".join(chosen)
    verb = "have" if len(chosen) > 1 else "has"
    allowed = ", ".join(sorted(known))
    return f"{names} {verb} no parameter '{name}'.{suggest_name(name, known)} Allowed: {allowed}."
