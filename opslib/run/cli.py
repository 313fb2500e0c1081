"""The command line: `opslib report | watch | check | init | notebooks | recall-list | training | sample`.

stdout gets the result, for programs: one JSON line a `report` or `watch`. Everything for people goes to stderr. Nothing
heavy is imported before it is known which command runs, so `opslib --help` answers at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from opslib import __version__
from opslib.data.engines import close_engines
from opslib.errors import OpslibError
from opslib.run.commands import BAD_INPUT, RULE_FIRED, report, say, watch
from opslib.run.training import training

BUSY = 4
NOT_TOLD = 5
INTERRUPTED = 130
STATUSES = {
    0: "ok", 1: "failed", BAD_INPUT: "refused", RULE_FIRED: "rule fired", BUSY: "busy", NOT_TOLD: "alert not sent",
    INTERRUPTED: "interrupted",
}  # fmt: skip


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="opslib", message="opslib %(version)s")
@click.option("--debug", is_flag=True, help="Show the whole traceback of an unexpected error.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """From a number that moved to why, what to do, and whether it worked.

    Exit codes: 0 good, 1 a notebook failed, 2 bad data or parameters, 3 a rule fired
    (watch --exit-code), 4 another command is writing there, 5 good but an alert could not be
    sent, 130 interrupted.
    """


cli.add_command(report)
cli.add_command(watch)
cli.add_command(training)


@cli.command()
@click.option("--playbook", default="playbook.toml", show_default=True, help="the playbook file to check")
@click.pass_context
def check(ctx: click.Context, playbook: str) -> None:
    """Check the data against what the notebooks need, and print what was found."""
    from opslib.data.source import open_data
    from opslib.language import speak
    from opslib.parameters import check_rules

    data = open_data(playbook)
    check_rules(data.playbook)
    fitness = data.fitness
    with speak(data.playbook.company.lang):
        click.echo(fitness.to_text())
    ctx.exit(BAD_INPUT if fitness.verdict == "unfit" else 0)


@cli.command()
@click.argument("data", nargs=-1, required=True)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), default="playbook.toml", show_default=True,
    help="the playbook file to write",
)  # fmt: skip
@click.option("--force", is_flag=True, help="replace a playbook that is already there")
def init(data: tuple[str, ...], out: Path, force: bool) -> None:
    """Look at your data files and write a playbook that guesses what they hold."""
    from opslib.data.guess import write_playbook

    for guess in write_playbook(list(data), out=out, force=force):
        click.echo(f"{guess.source}: table {guess.table}, {guess.rows:,} rows")
        for line in (*guess.settings, *guess.columns):
            click.echo(f"  {line.key} = {line.value}  ({line.reason})")
        for question in guess.questions:
            click.echo(f"  Please confirm: {question}")
    say(f"Playbook: {out}. Read it, then run: opslib check --playbook {out}")


@cli.command()
@click.option("--lang", default="", help="language of the notebooks: en or zh; default English")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="folder; default notebooks-LANG")
@click.option("--playbook", default="", help="the playbook file that they open; default playbook.toml")
@click.option("--force", is_flag=True, help="replace notebooks that are already there")
def notebooks(lang: str, out: Path | None, playbook: str, force: bool) -> None:
    """Write the notebooks to work with in JupyterLab, in a language of your choice, without results."""
    from opslib.run.translation import write_notebooks

    out = out or Path(f"notebooks-{lang or 'en'}")
    written = write_notebooks(out, language=lang, playbook=playbook, force=force)
    say(f"{len(written)} notebooks: {out}. Open {written[0]} in JupyterLab.")


@cli.command("recall-list")
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--playbook", default="playbook.toml", show_default=True, help="the playbook file")
@click.option("--as-of", default="", help="last day as an ISO date; default the last full day of the data")
@click.option("--segment", default="", help="one group of users such as channel:search")
@click.option("--inactive-days", type=click.IntRange(0), default=0, help="silent days that count as gone; 0: chosen")
@click.option("--budget", type=click.FloatRange(0), default=0.0, help="what winning back may cost; 0: no limit")
@click.option("--bom", is_flag=True, help="begin a CSV so that Excel knows its letters")
@click.option("--force", is_flag=True, help="replace a file that is already there")
def recall_list(
    out: Path, playbook: str, as_of: str, segment: str, inactive_days: int, budget: float, bom: bool, force: bool
) -> None:
    """Write whom to win back to OUT (.csv or .parquet): user, segment, channel, offer, and who is left alone by lot."""
    from opslib.data.source import open_data
    from opslib.decide.churn.leaving import choose_definition, define_leaving
    from opslib.decide.churn.recall import plan_list
    from opslib.decide.scope import choose_scope
    from opslib.run.export import export_table

    data = open_data(playbook)
    data.require_fit()
    scope = choose_scope(data, as_of=as_of, segment=segment)
    definition = define_leaving(scope, choose_definition(scope), inactive_days=inactive_days)
    plan = plan_list(scope, definition.need_days(), budget_amount=budget)
    written = export_table(plan.users, out, bom=bom, force=force)
    for note in plan.notes:
        say(note)
    held, treated = (int(plan.segments[f"{arm}_count"].sum()) for arm in ("holdout", "treated"))
    say(f"{written.path}: {treated:,} to write to, {held:,} to leave alone (do not write to these).")


@cli.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="folder to write the Parquet files to")
@click.option("--events", type=click.IntRange(1), help="about how many events")
@click.option("--users", type=click.IntRange(1), help="how many users")
@click.option("--seed", type=int, help="another company of the same kind")
def sample(out: Path, events: int | None, users: int | None, seed: int | None) -> None:
    """Generate a sample company, of any size, with known incidents in it."""
    from opslib.data.sample_company import generate_sample

    if events and users:
        raise click.UsageError("Give --events or --users, not both.")
    generate_sample(
        out,
        events=events,
        users=users,
        seed=seed,
        progress=lambda done, parts, rows: say(f"{done} of {parts} parts, {rows:,} events"),
    )
    say(f"Sample: {out}")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and end the process with its exit code."""
    is_process = arguments is None
    arguments = sys.argv[1:] if arguments is None else arguments
    started = time.perf_counter()
    result: dict[str, Any] = {}
    with _terminable():
        code = _run(arguments, result)
    if _is_report(arguments):
        code = _tell(code, result)
        seconds = round(time.perf_counter() - started, 2)
        head = {"status": STATUSES.get(code, "failed"), "exit_code": code}
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps({**head, **result, "seconds": seconds}, ensure_ascii=False), flush=True)
    if is_process:
        # All is written and closed: taking apart a process with this many libraries costs half a second.
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        close_engines()
        os._exit(code)
    sys.exit(code)


def _run(arguments: list[str], result: dict[str, Any]) -> int:
    try:
        with cli.make_context("opslib", list(arguments)) as ctx:
            try:
                cli.invoke(ctx)
            except click.exceptions.Exit as end:
                result |= ctx.obj or {}
                return end.exit_code
            return 0
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        error.show()
        result["error"] = error.format_message()
        return error.exit_code
    except OpslibError as error:
        say(f"error: {error}")
        result["error"] = str(error)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort) as stop:
        say("error: interrupted; what was not finished was not written")
        result["error"] = "interrupted"
        return stop.exit_code if isinstance(stop, _Terminated) else INTERRUPTED
    except Exception as error:
        if "--debug" in arguments:
            raise
        first = (str(error).splitlines() or [""])[0]
        result["error"] = f"{type(error).__name__}: {first}"
        say(f"error: unexpected {type(error).__name__}: {first} (opslib --debug ... shows the details)")
        return 1


def _tell(code: int, result: dict[str, Any]) -> int:
    """Send the alerts of a report; give the exit code, which says of a good one that nobody could be told."""
    from opslib.run.alert import describe_error, send_alerts

    alerts = result.pop("alerts", [])
    if code in (1, BAD_INPUT) and "error" in result:
        alerts = [describe_error(result["error"], code)]
    problems = send_alerts(alerts)
    for problem in problems:
        say(problem)
    if problems:
        result["alert_problems"] = problems
    return code or (NOT_TOLD if problems else 0)


class _Terminated(KeyboardInterrupt):
    exit_code = 143


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C, so that a scheduler's stop ends the kernels and leaves nothing behind."""

    def stop(*_: object) -> None:
        raise _Terminated

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _is_report(arguments: list[str]) -> bool:
    words = [word for word in arguments if not word.startswith("-")]
    return words[:1] in (["report"], ["watch"]) and not {"-h", "--help"} & set(arguments)


if __name__ == "__main__":
    main()
