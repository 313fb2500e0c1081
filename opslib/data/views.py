"""Named views in a playbook: a notebook with its parameters, saved under a name."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, model_validator

from opslib.data.settings import Settings
from opslib.errors import InputError

NAME = re.compile(r"[\w-]{1,60}")


class ViewSettings(Settings):
    """A saved view: which notebook, and those of its parameters that differ from their defaults.

    The parameters stand beside `notebook`; they are checked when the view is opened.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    notebook: str = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _write_days_as_text(cls, values: Any) -> Any:
        # TOML has days of its own; parameters are ISO text.
        if not isinstance(values, Mapping):
            return values
        return {name: v.isoformat() if isinstance(v, dt.date) else v for name, v in values.items()}

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameter -> value."""
        return dict(self.model_extra or {})


def check_view_name(name: str) -> str:
    """Give a view's name back.

    Raises:
        InputError: it is empty, too long, or holds more than letters, digits, - and _.
    """
    if not NAME.fullmatch(name):
        raise InputError(
            f"A view cannot be named '{name}': use letters, digits, - and _, at most 60, such as android-checkout."
        )
    return name


def write_view(playbook: Path, name: str, notebook: str, parameters: Mapping[str, Any]) -> bool:
    """Write a view into a playbook, and touch nothing else in the file.

    Args:
        playbook: the file.
        name: the view's name; one of the same name is replaced.
        notebook: the notebook's name.
        parameters: those that differ from their defaults.

    Returns:
        Whether it replaced a view of that name.

    Raises:
        InputError: a name that cannot be, or a file that cannot be read or written.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    check_view_name(name)
    try:
        # As bytes, so that the ends of lines stay as they are.
        document = tomlkit.parse(playbook.read_bytes().decode("utf-8-sig"))
        views = document.setdefault("views", tomlkit.table(is_super_table=True))
        replaced = name in views
        view = tomlkit.table()
        view.update({"notebook": notebook, **parameters})
        views[name] = view
        _replace_file(playbook, tomlkit.dumps(document).encode())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"View {name} cannot be saved in {playbook.name}: {error}.") from None
    except (TOMLKitError, TypeError) as error:
        raise InputError(f"View {name} cannot be saved: {playbook.name} is not valid TOML: {error}.") from None
    return replaced


def _replace_file(file: Path, content: bytes) -> None:
    """Put new content in a file's place at once: a death in between leaves the old file."""
    target = file.resolve()
    handle, aside = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        Path(aside).chmod(target.stat().st_mode & 0o777)
        Path(aside).replace(target)
    except OSError:
        with contextlib.suppress(OSError):
            Path(aside).unlink()
        raise
