"""Checking parameters: known names, right types, possible values, nothing secret."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from opslib.data.playbook import load_playbook
from opslib.errors import InputError, suggest_name
from opslib.language import set_language
from opslib.parameters.base import NotebookParameters, Value
from opslib.parameters.notebooks import NOTEBOOKS

if TYPE_CHECKING:
    from opslib.data.playbook import Playbook

# Stands for the day of an alarm that has not come yet.
A_DAY = dt.date(2000, 1, 1)
SECRET_NAME = re.compile(r"pass(word|wd)?|secret|token|api_?key|credential", re.IGNORECASE)


def check_parameters(notebook: str, values: Mapping[str, Any]) -> NotebookParameters:
    """Check the parameters of one notebook, as typed literals.

    Args:
        notebook: the notebook's name, for example `40_quarterly_review`.
        values: parameter name to value; what is missing takes its default.

    Returns:
        The notebook's own subclass of `NotebookParameters`, frozen.

    Raises:
        InputError: an unknown notebook or name, a wrong type or an impossible value; the message names them all.

    >>> check_parameters("40_quarterly_review", {"quarter": "2026Q2"}).quarter
    '2026Q2'
    """
    model = find_notebook(notebook)
    for name in values:
        if SECRET_NAME.search(name):
            raise InputError(
                f"Parameter '{name}' looks like a secret, and parameters are written into reports. "
                "Put it in an environment variable instead."
            )
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        lines = [_explain(model, e) for e in error.errors()]
        raise InputError("; ".join(lines)) from None


def load_parameters(notebook: str, values: Mapping[str, Any]) -> NotebookParameters:
    """Check the parameters of the notebook that runs, and speak its language from now on.

    Raises:
        InputError: what `check_parameters` refuses, or a playbook that cannot be read.
    """
    parameters = check_parameters(notebook, values)
    set_language(parameters.lang or load_playbook(parameters.playbook).company.lang)
    return parameters


def parse_parameters(notebook: str, texts: Mapping[str, str]) -> NotebookParameters:
    """Check parameters given as text (command line), reading each text as its parameter's type."""
    fields = find_notebook(notebook).model_fields
    values: dict[str, Any] = {}
    for name, text in texts.items():
        kind = fields[name].annotation if name in fields else str
        values[name] = _read_text(notebook, name, text, kind)
    return check_parameters(notebook, values)


def find_notebook(notebook: str) -> type[NotebookParameters]:
    """Find a notebook's parameters by its name; a path or a leading number alone will do too (`40`)."""
    name = Path(notebook).name.removesuffix(".ipynb")
    matches = [slug for slug in NOTEBOOKS if name in (slug, slug.split("_", 1)[0], slug.split("_", 1)[1])]
    if not matches:
        raise InputError(
            f"There is no notebook '{notebook}'.{suggest_name(name, NOTEBOOKS)} "
            f"The notebooks are: {', '.join(NOTEBOOKS)}."
        )
    return NOTEBOOKS[matches[0]]


def check_rules(playbook: Playbook) -> None:
    """Check that every rule opens a notebook there is, with parameters that it has.

    Raises:
        InputError: naming the rule, and what there is.
    """
    # Loads what evaluates rules, which help texts need not wait for.
    from opslib.decide.watch.investigations import fill_parameters

    for rule in playbook.rules:
        if not rule.notebook:
            continue
        try:
            model = find_notebook(rule.notebook)
        except InputError as error:
            raise InputError(f"Rule {rule.name}: {error}") from None
        values = fill_parameters(rule, "value" if rule.by else "", as_of=A_DAY, first_day=A_DAY)
        try:
            check_parameters(model.notebook, values)
        except InputError as error:
            raise InputError(f"Rule {rule.name}: {error}") from None


def _read_text(notebook: str, name: str, text: str, kind: Any) -> Value:
    if kind is bool:
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise InputError(f"Parameter '{name}' of {notebook} takes true or false, not '{text}'.")
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            noun = "a whole number" if kind is int else "a number"
            raise InputError(f"Parameter '{name}' of {notebook} takes {noun}, not '{text}'.") from None
    return text


def _explain(model: type[NotebookParameters], error: Mapping[str, Any]) -> str:
    name = str(error["loc"][0]) if error["loc"] else ""
    fields = model.model_fields
    if error["type"] == "extra_forbidden":
        return f"{model.notebook} has no parameter '{name}'.{suggest_name(name, fields)} It takes: {', '.join(fields)}."
    reason = error["msg"].removeprefix("Value error, ")
    return (
        f"Parameter '{name}' of {model.notebook} cannot be {error['input']!r}: {reason} ({fields[name].description})."
    )
