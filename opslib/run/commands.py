"""The commands that make reports: `opslib report` and `opslib watch`, once or by day."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from opslib.errors import InputError

if TYPE_CHECKING:
    from opslib.run.report import Report
    from opslib.run.schedule import DatedRun, Schedule

BAD_INPUT = 2
RULE_FIRED = 3
WATCH = "50_daily_watch"


class ReportCommand(click.Command):
    """Adds a flag for each parameter of the notebooks, made from their models only when needed."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Give the command's own options and the notebooks' parameters."""
        return [*parameter_options(), *super().get_params(ctx)]


@lru_cache(maxsize=1)
def parameter_options() -> tuple[click.Option, ...]:
    """Make one flag for each parameter that some notebook declares; its help is the field's description."""
    from opslib.parameters import NOTEBOOKS

    takers: dict[str, list[str]] = {}
    fields: dict[str, Any] = {}
    for slug, model in NOTEBOOKS.items():
        for name, field in model.model_fields.items():
            takers.setdefault(name, []).append(slug)
            fields.setdefault(name, field)
    options = []
    for name, field in fields.items():
        who = "" if len(takers[name]) == len(NOTEBOOKS) else f" [{', '.join(takers[name])}]"
        kind = {"int": "NUMBER", "float": "NUMBER", "bool": "true|false"}.get(
            getattr(field.annotation, "__name__", ""), "TEXT"
        )
        options.append(
            click.Option(
                [f"--{name.replace('_', '-')}", f"parameter_{name}"],
                metavar=kind,
                help=f"{field.description or name}{who}",
            )
        )
    return tuple(options)


def add_run_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that both commands have."""
    options = (
        click.option("--out", type=click.Path(path_type=Path), help="folder of one report that the next one replaces"),
        click.option(
            "--archive", type=click.Path(path_type=Path),
            help="folder of dated reports; default reports/COMPANY-archive, used with any option below or --as-of",
        ),
        click.option("--catch-up", type=click.IntRange(1, 3660), metavar="N", help="make what is missing of N days"),
        click.option("--keep", default="", metavar="DAYS", help="then remove dated reports older than, say, 90d"),
        click.option("--force", is_flag=True, help="make dated reports again that are done"),
        click.option(
            "--wait", type=click.FloatRange(0), default=0.0, metavar="SECONDS",
            help="wait for another command that writes the same archive; default: end with 4",
        ),
        click.option("--workers", type=click.IntRange(1), help="notebooks at once; default the number of processors"),
        click.option(
            "--notebooks", "folder", type=click.Path(path_type=Path, file_okay=False, exists=True),
            help="folder of the notebooks; default those that come with opslib",
        ),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@click.command(cls=ReportCommand)
@click.argument("notebooks", nargs=-1, metavar="[NOTEBOOK]...")
@click.option("-p", "pairs", nargs=2, multiple=True, metavar="NAME VALUE", help="a parameter by name; like its flag")
@click.option("--view", default="", metavar="NAME", help="a view of the playbook: its notebook and its parameters")
@click.option("--quarters", metavar="A[:B]", help="make what is missing of quarters such as 2025Q1:2026Q2, dated")
@add_run_options
@click.pass_context
def report(
    ctx: click.Context,
    notebooks: tuple[str, ...],
    pairs: tuple[tuple[str, str], ...],
    view: str,
    out: Path | None,
    workers: int | None,
    folder: Path | None,
    **options: Any,
) -> None:
    """Run notebooks (default all) and write a report that opens without a network.

    With --as-of, --quarters, --catch-up, --keep, --force or --archive it goes into an archive by day, and
    what is done there already is left alone.
    """
    from opslib.run.forkserver import open_fork_server
    from opslib.run.progress import choose_progress

    flags = {
        k.removeprefix("parameter_"): v for k, v in options.items() if k.startswith("parameter_") and v is not None
    }
    texts = flags | {name.replace("-", "_"): value for name, value in pairs}
    # First of all, because it imports while we do; it runs nothing before it is asked to.
    with open_fork_server() as server, choose_progress() as progress:
        from opslib.run.report import make_report
        from opslib.run.schedule import make_runs

        schedule = read_schedule(out, texts, options)
        names: Sequence[str] = notebooks
        if view:
            names, texts = apply_view(view, notebooks, texts)
        common: dict[str, Any] = {
            "notebooks": folder, "workers": workers, "server": server,
            "on_progress": progress.show_notebook, "on_stage": progress.show_stage,
        }  # fmt: skip
        if schedule:
            runs = make_runs(schedule, names, texts, **common)
        else:
            made = make_report(names, texts, out=out, **common)
    if schedule:
        finish_runs(ctx, runs, schedule)
    else:
        say(f"Report: {made.index}")
        ctx.find_root().obj = {**summarize_report(made), "alerts": find_alerts([made])}
        ctx.exit(made.exit_code)


@click.command()
@click.option("--playbook", default="playbook.toml", show_default=True, help="the playbook file")
@click.option("--as-of", default="", help="last day as an ISO date; default the last full day of the data")
@click.option("--segment", default="", help="one group of users such as channel:search")
@click.option("--lang", default="", help="language of the report: en or zh; default the playbook's")
@click.option("--days", metavar="A[:B]", help="make what is missing of days such as 2026-01-01:2026-03-31, dated")
@add_run_options
@click.option("--exit-code", is_flag=True, help="end with 3 when a rule fires")
@click.pass_context
def watch(
    ctx: click.Context,
    playbook: str,
    as_of: str,
    segment: str,
    lang: str,
    out: Path | None,
    workers: int | None,
    exit_code: bool,
    folder: Path | None,
    **options: Any,
) -> None:
    """Evaluate the playbook's rules for a day, and run what those that fire ask to be opened."""
    from opslib.run.forkserver import open_fork_server
    from opslib.run.progress import choose_progress

    # First of all, because it imports while we do; it runs nothing before it is asked to.
    with open_fork_server() as server, choose_progress() as progress:
        from opslib.run.watch import make_dated_watch, make_watch

        texts = {"playbook": playbook, "as_of": as_of, "segment": segment, "lang": lang}
        schedule = read_schedule(out, texts, options)
        common: dict[str, Any] = {
            "notebooks": folder, "workers": workers, "server": server,
            "on_progress": progress.show_notebook, "on_stage": progress.show_stage,
        }  # fmt: skip
        if schedule:
            runs = make_dated_watch(schedule, texts, **common)
        else:
            made = make_watch(texts, out=out, **common)
    if schedule:
        finish_runs(ctx, runs, schedule, is_watch=True, exit_code=exit_code)
    else:
        say(f"{describe_rules(made)}. Report: {made.index}")
        for problem in made.problems:
            say(f"Not opened: {problem}")
        ctx.find_root().obj = {**summarize_watch(made), "alerts": find_alerts([made])}
        ctx.exit(made.exit_code or (RULE_FIRED if exit_code and made.rules else 0))


def read_schedule(out: Path | None, texts: Mapping[str, str], options: Mapping[str, Any]) -> Schedule | None:
    """Tell whether reports by day are asked for, and which.

    Raises:
        InputError: an option of the archive beside `--out`, periods by name beside what else says which, or a span
            that cannot be read.
    """
    from opslib.run.backfill import read_days, read_quarters
    from opslib.run.schedule import Schedule, read_keep

    as_of, quarters, days = texts.get("as_of", ""), options.get("quarters"), options.get("days")
    names = ("archive", "catch_up", "keep", "force")
    given = [f"--{name.replace('_', '-')}" for name in names if options.get(name)]
    if quarters is not None or days is not None:
        option = "--days" if quarters is None else "--quarters"
        rivals = {"--as-of": as_of, "--quarter": texts.get("quarter"), "--out": out}
        beside = [name for name in given if name in ("--catch-up", "--keep")]
        beside += [name for name, value in rivals.items() if value]
        if beside:
            raise InputError(
                f"{option} makes a dated report of each of its {option.strip('-')}, which {beside[0]} does not go "
                "with. Leave out one of them."
            )
    elif out is not None:
        if given:
            raise InputError(
                f"{given[0]} is for dated reports, and --out names the folder of a single one. Leave out one of them."
            )
        return None
    elif not given and not as_of:
        return None
    return Schedule(
        as_of=as_of,
        archive=options["archive"],
        catch_up_days=options["catch_up"] or 1,
        keep_days=read_keep(options["keep"]),
        force=options["force"],
        wait_seconds=options["wait"],
        quarters=None if quarters is None else read_quarters(quarters),
        days=None if days is None else read_days(days),
    )


def apply_view(name: str, notebooks: Sequence[str], texts: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Take the notebook and the parameters of a view; parameters that are named besides take their place.

    Raises:
        InputError: there is no such view, or a notebook was named besides that is not the view's.
    """
    from opslib.parameters import find_notebook
    from opslib.parameters.views import read_view

    view = read_view(texts.get("playbook", "playbook.toml"), name)
    if {find_notebook(n).notebook for n in notebooks} - {view.notebook}:
        raise InputError(f"View {name} is of {view.notebook}. Leave out {', '.join(notebooks)}, or --view.")
    held = {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in view.parameters.items()}
    return [view.notebook], held | dict(texts)


def finish_runs(
    ctx: click.Context,
    runs: Sequence[DatedRun],
    schedule: Schedule,
    *,
    is_watch: bool = False,
    exit_code: bool = False,
) -> None:
    """Say what became of dated runs, and end with the worst of their exit codes."""
    from opslib.run.schedule import find_worst

    summaries: list[dict[str, Any]] = []
    codes = []
    for run in runs:
        code = run.exit_code
        about: dict[str, Any] = {"period": run.label, "as_of": run.day.isoformat(), "done_before": run.done_before}
        if run.report is None:
            say(f"{run.label}: error: {run.error}")
            about |= {"exit_code": code, "error": run.error}
        else:
            said = f"{describe_rules(run.report)}. " if is_watch else ""
            say(f"{run.label}: {said}{'Done already' if run.done_before else 'Report'}: {run.report.index}")
            for problem in run.report.problems:
                say(f"{run.label}: Not opened: {problem}")
            code = code or (RULE_FIRED if exit_code and run.report.rules else 0)
            summary = summarize_watch(run.report) if is_watch else summarize_report(run.report)
            about |= {"exit_code": code, **summary}
        codes.append(code)
        summaries.append(about)
    for line in sum_up(runs, schedule):
        say(line)
    # The last day's stands on top, as if it had been the only one.
    shown = {k: v for k, v in summaries[-1].items() if k not in ("exit_code", "error")}
    ctx.find_root().obj = {**shown, "runs": summaries, "alerts": find_run_alerts(runs)}
    ctx.exit(find_worst(codes))


def sum_up(runs: Sequence[DatedRun], schedule: Schedule) -> list[str]:
    """Say at the end of several runs which failed, why, and what to run then; and which are no longer up to date."""
    from opslib.run.alert import shorten

    lines = []
    failed = [run for run in runs if run.exit_code]
    if failed and len(runs) > 1:
        lines.append(f"{len(failed)} of {len(runs)} failed:")
        for run in failed:
            causes = run.report.causes if run.report else {}
            parts = [f"{name} did not finish: {cause}" for name, cause in causes.items() if cause]
            lines.append(f"  {run.label}: {shorten('; '.join(parts) or run.error)}")
        # The same command would begin with those that went well.
        again = " for these alone" if schedule.force else "; what is done is left alone"
        lines.append(f"To try again, run the same command{again}.")
    old = [run.label for run in runs if run.outdated]
    if schedule.named and old:
        lines.append(
            f"{len(old)} of {len(runs)} stay as they were made before data, playbook, notebooks or opslib changed: "
            f"{shorten(', '.join(old))}. --force makes them again."
        )
    return lines


def find_run_alerts(runs: Sequence[DatedRun]) -> list[Any]:
    """What is to be told of dated runs: of those that were done before, somebody was told then."""
    from dataclasses import replace

    from opslib.run.alert import describe_error

    alerts = []
    for run in runs:
        if run.report is None:
            alerts.append(replace(describe_error(run.error, run.exit_code), as_of=run.day.isoformat()))
        elif not run.done_before:
            alerts += find_alerts([run.report], root=run.out.parents[2])
    return alerts


def find_alerts(reports: Sequence[Report], *, root: Path | None = None) -> list[Any]:
    """What is to be told of reports."""
    from opslib.run.alert import describe_report

    return [alert for made in reports if (alert := describe_report(made, root=root))]


def describe_rules(made: Report) -> str:
    """Say how many rules fire, where that is known."""
    if made.causes[WATCH]:
        return "The watch did not finish"
    return f"{len(made.rules)} rule{'s fire' if len(made.rules) != 1 else ' fires'}"


def summarize_report(made: Report) -> dict[str, Any]:
    """What the JSON line says of a report."""
    return {
        "out": str(made.out),
        "index": str(made.index),
        "notebooks": {name: {"status": "failed" if cause else "ok", **({"cause": cause} if cause else {})}
                      for name, cause in made.causes.items()},
    }  # fmt: skip


def summarize_watch(made: Report) -> dict[str, Any]:
    """What the JSON line says of a watch."""
    return {**summarize_report(made), "rules_fired": len(made.rules), "not_opened": list(made.problems)}


def say(text: str) -> None:
    """Tell a person something: on stderr, so that stdout stays readable by programs."""
    click.echo(text, err=True)
