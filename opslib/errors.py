"""The errors that opslib raises for a person to read.

Each message is one sentence or two that say what is wrong, where (file, table, column, parameter), and what to do.
The command line prints the message alone; a notebook shows it without a traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class OpslibError(Exception):
    """Something went wrong that is worth a sentence. `exit_code` is what the command line ends with."""

    exit_code = 1

    def _render_traceback_(self) -> list[str]:
        # IPython calls this by name: a user's mistake is shown as its sentence, without our stack.
        return [f"{type(self).__name__}: {self}"]


class InputError(OpslibError):
    """The data, the playbook or a parameter is wrong: nothing was run and nothing written."""

    exit_code = 2


class BusyError(OpslibError):
    """Another command is writing in the same place; nothing was run and nothing written."""

    exit_code = 4


class EngineError(OpslibError):
    """The database failed in the middle of a run: it went away, or refused a query."""


class EngineLostError(EngineError):
    """The database went away in the middle of a run: whatever is asked next would fail too."""


class EngineUnreachableError(InputError):
    """The database cannot be reached or read when it is opened: nothing answers, or it lets nobody in."""


def suggest_name(name: str, known: Iterable[str]) -> str:
    """Give ` Did you mean 'x'?` for the nearest of the known names, or nothing when none is near.

    >>> suggest_name("timezon", ["timezone", "currency"])
    " Did you mean 'timezone'?"
    >>> suggest_name("zzz", ["timezone"])
    ''
    """
    near = find_near(name, known)
    return f" Did you mean '{near}'?" if near else ""


def find_near(name: str, known: Iterable[str]) -> str:
    """Find the nearest of the known names, or nothing when none is near.

    >>> find_near("timezon", ["timezone", "currency"])
    'timezone'
    """
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)), "")
