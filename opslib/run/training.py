"""`opslib training`: make a case, tell what was planted in one, and look at a team's progress."""

from __future__ import annotations

from pathlib import Path

import click

from opslib.errors import InputError
from opslib.language import LANGUAGES
from opslib.run.commands import say


@click.group()
def training() -> None:
    """Cases to solve, and what a team has learned. The lessons are in notebooks/training."""


@training.command()
@click.option("--seed", type=click.IntRange(0), required=True, help="another seed, another company; keep it secret")
@click.option(
    "--level", type=click.IntRange(1, 3), default=1, show_default=True, help="1 clear, 2 not alone, 3 small too"
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="folder for the case")
@click.option("--lang", type=click.Choice(LANGUAGES), default="en", show_default=True, help="language of the case")
@click.option("--force", is_flag=True, help="replace a case that is already there")
def new(seed: int, level: int, out: Path, lang: str, force: bool) -> None:
    """Make a fresh company with something planted in it, and a notebook that asks what it was."""
    from opslib.training.cases.folder import make_case

    say("Simulating a company ...")
    folder = make_case(seed, level, out, lang=lang, force=force)
    say(f"Case: {folder}. Open {folder / 'case.ipynb'} in JupyterLab. Its answers are sealed; the seed opens them.")


@training.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--seed", type=click.IntRange(0), required=True, help="the seed that the case was made with")
def reveal(folder: Path, seed: int) -> None:
    """Tell what was planted in the case in FOLDER."""
    from opslib.training.cases.case import CAUSE_TEXTS, read_case
    from opslib.training.cases.folder import CASE_FILE
    from opslib.training.cases.plan import plan_case
    from opslib.training.cases.sealed import make_salt

    case = read_case(folder / CASE_FILE)
    plan = plan_case(seed, case["level"])
    if make_salt(seed, case["level"]) != case["salt"]:
        raise InputError(f"{folder} was not made with the seed {seed}.")
    for story in [plan.story, *([plan.decoy] if plan.decoy else [])]:
        group = ", ".join(f"{column}:{value}" for column, value in story.group.items())
        click.echo(f"{CAUSE_TEXTS[story.cause]}: {group}, from {story.start}.")


@training.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="also write the table to this .csv")
@click.option("--force", is_flag=True, help="replace a file that is already there")
def report(folder: Path, out: Path | None, force: bool) -> None:
    """Show how far each learner is, from the training_progress.json files below FOLDER."""
    from opslib.training.team import read_team, summarise_team

    table = summarise_team(read_team(folder))
    click.echo(table.round(3).to_string(index=False, na_rep="-"))
    if out is not None:
        import ibis

        from opslib.run.export import export_table

        say(f"Table: {export_table(ibis.memtable(table), out, force=force).path}")
