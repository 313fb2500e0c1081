"""The archive of dated runs: where each lies, which are done, the list of them, and one command at a time.

    reports/<company>-archive/
      index.html                      all runs, newest first
      <selection>/<date>/<hash>/      one run; the hash is of its parameters, so the same command has the same each day
      <selection>/latest              leads to the newest of them, where the file system has symbolic links

It lies beside `reports/<company>`, not in it: that folder is replaced whole by each report.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opslib.data.lock import lock_folder
from opslib.errors import InputError
from opslib.language import get_language, say
from opslib.run.folder import REPORT_KIND, is_report, remove_leftovers

if TYPE_CHECKING:
    from opslib.data.source import Data
    from opslib.parameters import NotebookParameters

MANIFEST = "manifest.json"
LATEST = "latest"
SHORT = 8


@dataclass(frozen=True)
class StoredRun:
    """A run that lies in an archive.

    Attributes:
        out: its folder.
        selection: what was run: all, watch, a notebook's name, or several notebooks' numbers.
        day: of which day it tells.
        manifest: how it came about.
    """

    out: Path
    selection: str
    day: dt.date
    manifest: Mapping[str, Any]

    @property
    def ok(self) -> bool:
        """Whether every notebook of it finished."""
        return self.manifest.get("exit_code") == 0


def name_selection(slugs: Sequence[str], *, named: bool) -> str:
    """Name what a command runs.

    >>> name_selection(["10_growth_model", "30_churn_investigation"], named=True)
    '10-30'
    >>> name_selection(["10_growth_model"], named=True), name_selection(["10_growth_model"], named=False)
    ('10_growth_model', 'all')
    """
    if not named:
        return "all"
    return slugs[0] if len(slugs) == 1 else "-".join(slug.split("_", 1)[0] for slug in slugs)


def hash_parameters(selection: str, parameters: Mapping[str, NotebookParameters]) -> str:
    """Hash what is run with which parameters, but for the day: the same command gives the same every day."""
    values = {
        # The playbook's language is no parameter: it is in the hash of the inputs.
        slug: {k: v for k, v in m.to_literals().items() if k != "as_of" and (k, v) != ("lang", "")}
        for slug, m in parameters.items()
    }
    return hashlib.sha256(json.dumps([selection, values], sort_keys=True).encode()).hexdigest()


def hash_inputs(data: Data, notebooks: Path, slugs: Sequence[str]) -> str:
    """Hash what a run's result depends on besides parameters: playbook and data, the notebooks, our version."""
    from opslib import __version__

    digest = hashlib.sha256(f"{__version__} {data.fingerprint}".encode())
    for slug in slugs:
        path = notebooks / f"{slug}.ipynb"
        if path.is_file():
            digest.update(slug.encode() + path.read_bytes())
    return digest.hexdigest()


def check_archive(root: Path) -> Path:
    """Refuse a folder that cannot hold an archive, before anything runs.

    Raises:
        InputError: it is a file, holds a report of its own, or is not writable.
    """
    root = root.expanduser().resolve()
    if root.exists() and not root.is_dir():
        raise InputError(f"Dated reports cannot be written to {root}: that is a file, not a folder.")
    if is_report(root):
        raise InputError(
            f"Dated reports cannot be written to {root}: that folder is a report, which the next one would replace "
            "whole. Name another one with --archive."
        )
    there = next(p for p in (root, *root.parents) if p.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"Dated reports cannot be written to {root}: {there} is not a writable folder.")
    return root


@contextlib.contextmanager
def lock_archive(root: Path, *, wait_seconds: float = 0) -> Iterator[None]:
    """Keep other commands out of an archive. The lock dies with the process, however that ends.

    Raises:
        BusyError: another command has it, and kept it as long as we were to wait.
    """
    busy = (
        f"Another opslib command is writing to {root}. Nothing was done; run this one again later, or let it wait with "
        "--wait SECONDS."
    )
    with lock_folder(root, busy=busy, wait_seconds=wait_seconds):
        for left in root.glob("*/*/.*.partial"):
            remove_leftovers(left.parent / left.name[1:].rsplit(".", 2)[0])
        yield


def list_runs(root: Path) -> list[StoredRun]:
    """List an archive's runs, newest day first, then by selection and folder."""
    runs = []
    for path in root.glob(f"*/*/*/{MANIFEST}"):
        out = path.parent
        if any(part.startswith(".") or part == LATEST for part in out.relative_to(root).parts):
            continue
        with contextlib.suppress(OSError, ValueError):
            manifest = json.loads(path.read_text("utf-8"))
            if manifest.get("kind") == REPORT_KIND:
                runs.append(StoredRun(out, out.parts[-3], dt.date.fromisoformat(out.parts[-2]), manifest))
    runs.sort(key=lambda run: (run.selection, run.out.name))
    return sorted(runs, key=lambda run: run.day, reverse=True)


def remove_old_runs(root: Path, selection: str, *, keep_days: int) -> list[Path]:
    """Remove the runs of a selection that are more than so many days older than its newest.

    Returns:
        The folders that are gone. What is no report of ours stays.
    """
    runs = [run for run in list_runs(root) if run.selection == selection]
    if not runs:
        return []
    oldest = runs[0].day - dt.timedelta(keep_days)
    old = [run.out for run in runs if run.day < oldest]
    for out in old:
        # Under another name first: whoever is killed in the middle leaves no half of a report to be read.
        gone = out.with_name(f".{out.name}.{os.getpid()}.partial")
        out.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
        remove_empty(out.parent)
    return old


def remove_empty(folder: Path) -> None:
    """Remove a folder if nothing is in it."""
    with contextlib.suppress(OSError):
        folder.rmdir()


def write_overview(root: Path, company: str) -> None:
    """Write the archive's first page, and make `latest` of each selection lead to its newest run."""
    from opslib.run.template import render_template

    runs = list_runs(root)
    newest: dict[str, StoredRun] = {}
    for run in runs:
        best = newest.get(run.selection)
        if best is None or (run.day, _made_at(run)) > (best.day, _made_at(best)):
            newest[run.selection] = run
    for selection, run in newest.items():
        _point_latest(root / selection / LATEST, run.out)
    rows = [
        {
            "day": run.day.isoformat(),
            "selection": run.selection.replace("_", " "),
            "href": f"{run.out.relative_to(root).as_posix()}/index.html",
            "mail": f"{run.out.relative_to(root).as_posix()}/mail.html",
            "given": describe_parameters(run.manifest),
            "failed": [n for n, about in run.manifest.get("notebooks", {}).items() if about.get("status") != "ok"],
            "rules": run.manifest.get("rules_fired", 0),
            "newest": newest[run.selection] is run,
        }
        for run in runs
    ]
    partial = root / f".index.{os.getpid()}.partial"
    page = render_template("archive.html.j2", {"company": company, "lang": get_language(), "rows": rows})
    partial.write_text(page, "utf-8")
    partial.replace(root / "index.html")


def describe_parameters(manifest: Mapping[str, Any]) -> str:
    """Say with which parameters a run was made, those left aside that have their usual value or are the day."""
    from opslib.parameters import NOTEBOOKS

    given: dict[str, str] = {}
    for name, about in manifest.get("notebooks", {}).items():
        # Pages that a rule opened have parameters of their own.
        if name not in NOTEBOOKS or name not in manifest.get("dated", {}).get("notebooks", []):
            continue
        fields = NOTEBOOKS[name].model_fields
        for key, value in about.get("parameters", {}).items():
            if key not in ("playbook", "as_of") and key in fields and value != fields[key].default:
                given[key.replace("_", " ")] = str(value)
    return say(", ").join(f"{key} {value}" for key, value in given.items())


def _made_at(run: StoredRun) -> float:
    return (run.out / MANIFEST).stat().st_mtime


def _point_latest(link: Path, out: Path) -> None:
    if link.exists() and not link.is_symlink():
        return
    beside = link.with_name(f".{LATEST}.{os.getpid()}")
    with contextlib.suppress(OSError):
        beside.unlink(missing_ok=True)
        beside.symlink_to(out.relative_to(link.parent), target_is_directory=True)
        beside.replace(link)
