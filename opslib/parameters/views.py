"""Views: what is on screen under a name, and the commands that show it again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from opslib.data.playbook import load_playbook
from opslib.data.views import write_view
from opslib.errors import InputError, suggest_name
from opslib.parameters.base import NotebookParameters, Value
from opslib.parameters.check import check_parameters, find_notebook


@dataclass(frozen=True)
class View:
    """A notebook with those of its parameters that differ from their defaults.

    Attributes:
        notebook: its name, such as `20_funnel_diagnosis`.
        parameters: parameter -> value; never the playbook.
    """

    notebook: str
    parameters: Mapping[str, Value] = field(default_factory=dict)


def list_changes(parameters: NotebookParameters) -> dict[str, Value]:
    """Those parameters that differ from their defaults, the playbook left aside.

    >>> list_changes(check_parameters("40_quarterly_review", {"quarter": "2026Q2", "segment": ""}))
    {'quarter': '2026Q2'}
    """
    fields = type(parameters).model_fields
    values = parameters.to_literals()
    return {name: v for name, v in values.items() if name != "playbook" and v != fields[name].default}


def read_view(playbook: str, name: str) -> View:
    """Read a named view of a playbook, checked.

    Args:
        playbook: the playbook's file.
        name: the view's name, as in `[views.NAME]`.

    Raises:
        InputError: the playbook has no such view, or the view names a notebook or a parameter that there is not.
    """
    views = load_playbook(playbook).views
    if name not in views:
        known = f"There are: {', '.join(views)}." if views else "It has none; JupyterLab's Save view writes one."
        raise InputError(f"The playbook has no view '{name}'.{suggest_name(name, views)} {known}")
    try:
        notebook = find_notebook(views[name].notebook).notebook
        parameters = check_parameters(notebook, views[name].parameters)
    except InputError as error:
        raise InputError(f"View {name}: {error}") from None
    return View(notebook, list_changes(parameters))


def save_view(parameters: NotebookParameters, name: str) -> bool:
    """Save parameters as a named view in their own playbook.

    Args:
        parameters: a notebook's, checked.
        name: letters, digits, - and _.

    Returns:
        Whether a view of that name was replaced.

    Raises:
        InputError: a name that cannot be, or a playbook that cannot be written.
    """
    path = load_playbook(parameters.playbook).path
    return write_view(path, name, parameters.notebook, list_changes(parameters))


def write_report_command(parameters: NotebookParameters) -> str:
    """Write the `opslib report` line that makes the same result, ready for a shell.

    >>> parameters = check_parameters("40_quarterly_review", {"segment": "channel:paid search"})
    >>> write_report_command(parameters)
    "opslib report 40_quarterly_review --segment 'channel:paid search'"
    """
    words = ["opslib", "report", parameters.notebook]
    for name, value in _list_named(parameters).items():
        flag = f"--{name.replace('_', '-')}"
        # A value that begins with a dash would be read as a flag of its own.
        words += [f"{flag}={value}"] if str(value).startswith("-") else [flag, _write_value(value)]
    return shlex.join(words)


def write_papermill_command(parameters: NotebookParameters) -> str:
    """Write the `papermill` line that makes the same result, to be run in the folder above the notebooks.

    Texts go by `-r`, which takes them as they are; `-p` would make a number of a text that looks like one.

    >>> parameters = check_parameters("20_funnel_diagnosis", {"step": 3, "segment": "channel:search"})
    >>> write_papermill_command(parameters)
    'papermill notebooks/20_funnel_diagnosis.ipynb out.ipynb -p step 3 -r segment channel:search'
    """
    words = ["papermill", f"notebooks/{parameters.notebook}.ipynb", "out.ipynb"]
    for name, value in _list_named(parameters).items():
        words += ["-r" if isinstance(value, str) else "-p", name, _write_value(value)]
    return shlex.join(words)


def _list_named(parameters: NotebookParameters) -> dict[str, Value]:
    default = NotebookParameters.model_fields["playbook"].default
    playbook = {} if parameters.playbook == default else {"playbook": parameters.playbook}
    return {**playbook, **list_changes(parameters)}


def _write_value(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
