"""A view saved in a playbook is a notebook with its parameters, and the file around it stays as it was."""

from __future__ import annotations

import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from opslib.data.views import write_view
from opslib.errors import InputError
from opslib.parameters import (
    NOTEBOOKS,
    check_parameters,
    parse_parameters,
    read_view,
    save_view,
    write_papermill_command,
    write_report_command,
)

PLAYBOOK = """\
# Ours. Keep this comment.
[company]
name = "Café 北京"   # and this one

[tables.events]
source = "events.csv"
"""
FUNNEL = "20_funnel_diagnosis"


@pytest.fixture
def playbook(tmp_path: Path) -> Path:
    path = tmp_path / "playbook.toml"
    path.write_text(PLAYBOOK, "utf-8")
    return path


def check(playbook: Path, **values: Any) -> Any:
    return check_parameters(FUNNEL, {"playbook": str(playbook), **values})


def test_view_is_appended_and_nothing_else_changes(playbook: Path) -> None:
    assert save_view(check(playbook, step=4, segment="channel:paid search"), "checkout") is False
    text = playbook.read_text("utf-8")
    assert text.startswith(PLAYBOOK)
    assert tomllib.loads(text)["views"] == {
        "checkout": {"notebook": FUNNEL, "step": 4, "segment": "channel:paid search"}
    }
    view = read_view(str(playbook), "checkout")
    assert (view.notebook, view.parameters) == (FUNNEL, {"step": 4, "segment": "channel:paid search"})


def test_view_of_the_same_name_is_replaced_and_others_stay(playbook: Path) -> None:
    save_view(check(playbook, step=4), "one")
    save_view(check(playbook, days=28), "two")
    assert save_view(check(playbook, step=3), "one") is True
    assert read_view(str(playbook), "one").parameters == {"step": 3}
    assert read_view(str(playbook), "two").parameters == {"days": 28}
    assert playbook.read_text("utf-8").startswith(PLAYBOOK)


def test_line_ends_and_mode_of_the_file_stay(playbook: Path) -> None:
    playbook.write_bytes(PLAYBOOK.replace("\n", "\r\n").encode())
    playbook.chmod(0o640)
    save_view(check(playbook, days=28), "one")
    assert playbook.read_bytes().startswith(PLAYBOOK.replace("\n", "\r\n").encode())
    assert playbook.stat().st_mode & 0o777 == 0o640
    assert [p.name for p in playbook.parent.iterdir()] == ["playbook.toml"]


@pytest.mark.parametrize("name", ["", "two words", "a.b", "x" * 61, "[views]", "a\nb", '"'])
def test_names_that_cannot_be_are_refused(playbook: Path, name: str) -> None:
    with pytest.raises(InputError, match="cannot be named"):
        save_view(check(playbook, days=28), name)
    assert playbook.read_text("utf-8") == PLAYBOOK


def test_name_may_be_of_any_script(playbook: Path) -> None:
    save_view(check(playbook, days=28), "结账_android")
    assert read_view(str(playbook), "结账_android").parameters == {"days": 28}


def test_unknown_view_names_those_there_are(playbook: Path) -> None:
    with pytest.raises(InputError, match="It has none"):
        read_view(str(playbook), "checkout")
    save_view(check(playbook, days=28), "checkout")
    with pytest.raises(InputError, match="Did you mean 'checkout'"):
        read_view(str(playbook), "chekout")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('notebook = "99_nothing"', "View bad: There is no notebook"),
        ('notebook = "20"\nstepp = 3', "View bad: 20_funnel_diagnosis has no parameter 'stepp'"),
        ('notebook = "20"\nstep = "3"', "View bad: Parameter 'step'"),
    ],
)
def test_view_written_by_hand_is_checked(playbook: Path, line: str, said: str) -> None:
    playbook.write_text(f"{PLAYBOOK}\n[views.bad]\n{line}\n", "utf-8")
    with pytest.raises(InputError, match=said):
        read_view(str(playbook), "bad")


def test_view_written_by_hand_may_use_days_of_toml(playbook: Path) -> None:
    playbook.write_text(f'{PLAYBOOK}\n[views.june]\nnotebook = "20"\nas_of = 2026-06-30\n', "utf-8")
    assert read_view(str(playbook), "june").parameters == {"as_of": "2026-06-30"}


def test_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be saved in"):
        write_view(tmp_path / "nowhere" / "playbook.toml", "one", FUNNEL, {})
    broken = tmp_path / "broken.toml"
    broken.write_text("[", "utf-8")
    with pytest.raises(InputError, match="not valid TOML"):
        write_view(broken, "one", FUNNEL, {})
    assert broken.read_text("utf-8") == "["


segments = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=20).map("channel:{}".format)
options = st.fixed_dictionaries(
    {},
    optional={
        "segment": segments,
        "step": st.integers(0, 9),
        "window_days": st.floats(0, 400, allow_subnormal=False),
        "breakdown": st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=20),
        "as_of": st.dates().map(str),
    },
)


@given(options)
def test_report_command_means_the_parameters_whatever_they_hold(values: dict[str, Any]) -> None:
    from opslib.run.cli import cli

    parameters = check_parameters(FUNNEL, values)
    words = shlex.split(write_report_command(parameters))
    assert words[:3] == ["opslib", "report", FUNNEL]
    # As click reads them, without running anything.
    command = cli.commands["report"]
    context = command.make_context("report", words[2:], resilient_parsing=False)
    texts = {k.removeprefix("parameter_"): v for k, v in context.params.items() if k.startswith("parameter_") and v}
    assert parse_parameters(FUNNEL, texts) == parameters


@given(options)
def test_papermill_command_means_the_parameters_whatever_they_hold(values: dict[str, Any]) -> None:
    import papermill.cli

    parameters = check_parameters(FUNNEL, values)
    words = shlex.split(write_papermill_command(parameters))
    seen: dict[str, Any] = {}

    def record(*args: Any, **kwargs: Any) -> None:
        seen.update(kwargs["parameters"])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(papermill.cli, "execute_notebook", record)
        result = CliRunner().invoke(papermill.cli.papermill, words[1:])
    assert result.exit_code == 0, result.output
    assert check_parameters(FUNNEL, seen) == parameters


def test_commands_of_every_notebook_at_its_defaults_name_the_notebook_alone() -> None:
    for slug in NOTEBOOKS:
        parameters = check_parameters(slug, {})
        assert write_report_command(parameters) == f"opslib report {slug}"
        assert write_papermill_command(parameters) == f"papermill notebooks/{slug}.ipynb out.ipynb"
