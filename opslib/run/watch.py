"""The daily watch as a run: the watch notebook first, then whatever its rules ask to be opened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opslib.errors import InputError
from opslib.language import join_sentences, say
from opslib.parameters import check_parameters, find_notebook
from opslib.run.chapters import Opening, Run
from opslib.run.report import Report, chain_words, make_report, notebooks_folder
from opslib.run.schedule import DatedRun, Schedule, make_runs

if TYPE_CHECKING:
    from opslib.data.source import Data
    from opslib.run.execute import Progress
    from opslib.run.forkserver import ForkServer

WATCH = "50_daily_watch"


def make_watch(
    texts: Mapping[str, str] | None = None,
    *,
    out: Path | None = None,
    notebooks: Path | None = None,
    workers: int | None = None,
    server: ForkServer | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Report:
    """Run the daily watch, then the notebooks that fired rules open, with their parameters; write one report.

    Args:
        texts: parameters of the watch as text.
        out, notebooks, workers, server, on_progress, on_stage: as in `make_report`.

    Raises:
        InputError: parameters, destination or data are refused; nothing was run and nothing written.
    """
    folder = notebooks or notebooks_folder()
    return make_report(
        [WATCH], texts, out=out, notebooks=folder, workers=workers, server=server,
        follow=partial(open_runs, folder=folder), folder_name="watch", on_progress=on_progress, on_stage=on_stage,
    )  # fmt: skip


def make_dated_watch(
    schedule: Schedule,
    texts: Mapping[str, str] | None = None,
    *,
    notebooks: Path | None = None,
    workers: int | None = None,
    server: ForkServer | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> list[DatedRun]:
    """Run the watch of one day or several into the archive, as `make_runs` does with notebooks.

    Raises:
        InputError: parameters, archive or data are refused; nothing was run and nothing written.
        BusyError: another command is writing the archive.
    """
    folder = notebooks or notebooks_folder()
    return make_runs(
        schedule, [WATCH], texts, selection="watch", notebooks=folder, workers=workers, server=server,
        follow=partial(open_runs, folder=folder), on_progress=on_progress, on_stage=on_stage,
    )  # fmt: skip


def open_runs(run: Run, findings: Sequence[Any], data: Data, *, folder: Path) -> Opening:
    """List the runs that a watch's findings ask for, and say of the others why they cannot be.

    Args:
        run: the watch.
        findings: what it found.
        data: the company's data.
        folder: where the notebooks are.
    """
    opened: list[Run] = []
    problems: list[str] = []
    # A rule may ask for the watch itself, such as of one segment.
    count = Counter([run.name])
    for finding in findings:
        if finding.get("name") != "investigation":
            continue
        values = {"playbook": run.parameters.playbook, **finding["parameters"], "lang": run.parameters.lang}
        try:
            parameters = check_parameters(finding["notebook"], values)
            _check_file(parameters.notebook, folder)
            parameters.check_data(data)
        except InputError as error:
            problems.append(_say_problem(finding, error))
            continue
        count[parameters.notebook] += 1
        number = count[parameters.notebook]
        name = parameters.notebook if number == 1 else f"{parameters.notebook}-{number}"
        opened.append(Run(name, parameters, _say_reason(finding["rules"], data)))
    return Opening(opened, problems)


def _check_file(notebook: str, folder: Path) -> None:
    if not (folder / f"{notebook}.ipynb").is_file():
        raise InputError(f"there is no {notebook}.ipynb among the notebooks.")


def _say_problem(finding: Mapping[str, Any], error: InputError) -> str:
    """Why a notebook that rules asked for is not there."""
    from opslib.present.rules import name_rule

    rules = list(dict.fromkeys(name_rule(name, group) for name, group in finding["rules"]))
    reason = " ".join(str(error).split())
    title = say(find_notebook(finding["notebook"]).title)
    return say("{title}, for {rules}: {reason}", title=title, rules=chain_words(rules), reason=reason)


def _say_reason(rules: Sequence[tuple[str, str]], data: Data) -> str:
    """The rules that asked for a notebook, in their own words."""
    from opslib.present.rules import explain_rule, name_rule

    known = {rule.name: rule for rule in data.playbook.rules}
    return join_sentences(
        say("{name}: {value}", name=name_rule(name, group).capitalize(), value=explain_rule(known[name]))
        for name, group in rules
    )
