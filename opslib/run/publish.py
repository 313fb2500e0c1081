"""Write a report's folder: first page, one page a notebook, the executed notebooks, findings and manifest."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opslib import __version__
from opslib.language import say
from opslib.parameters import NOTEBOOKS
from opslib.run.folder import REPORT_KIND
from opslib.run.pictures import shrink_picture

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from opslib.run.execute import Outcome
    from opslib.run.render import Page

PACKAGES = (
    "altair",
    "duckdb",
    "ibis-framework",
    "numpy",
    "pandas",
    "papermill",
    "pyarrow",
    "scipy",
    "vl-convert-python",
)

# Sums of floats depend, in their last digits, on how threads shared the rows; ten digits do not.
FLOAT_DIGITS = 10


@dataclass(frozen=True)
class Chapter:
    """One notebook of a report, finished: how it ran, what it found, its page, why another one asked for it.

    `problems` are sentences about notebooks that it asked for and that could not be run.
    """

    outcome: Outcome
    page: Page
    parameters: Mapping[str, Any]
    findings: Sequence[Any]
    sentences: Sequence[str]
    page_seconds: float = 0.0
    notebook: str = ""
    reason: str = ""
    problems: Sequence[str] = ()

    @property
    def name(self) -> str:
        """The notebook's name, which is also its files' name."""
        return self.outcome.name


@dataclass(frozen=True)
class Facts:
    """What is known about a report besides its chapters.

    Attributes:
        company, period, verdict, problems, fingerprint, as_of, lang: whose data, of when, and how good they are.
        seconds: what took how long.
        day: the day that a dated run tells of; empty for one that is not dated.
        place: where it lies below the archive's folder, ending in a slash.
        dated: what tells a later command that this run is done.
    """

    company: str
    period: str
    verdict: str
    problems: Sequence[str]
    fingerprint: str
    as_of: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    lang: str = "en"
    day: str = ""
    place: str = ""
    dated: Mapping[str, Any] = field(default_factory=dict)


def write_page(folder: Path, outcome: Outcome, page: Page) -> None:
    """Write one notebook's page and the notebook itself; called as soon as the notebook is done."""
    import nbformat

    (folder / "notebooks").mkdir(exist_ok=True)
    for cell in outcome.notebook.cells:
        for output in cell.get("outputs", []):
            if isinstance(picture := output.get("data", {}).get("image/png"), str):
                output["data"]["image/png"] = shrink_picture(picture)
    remove_times(outcome.notebook)
    nbformat.write(outcome.notebook, folder / "notebooks" / f"{outcome.name}.ipynb")
    (folder / f"{outcome.name}.html").write_text(page.html, "utf-8")


def remove_times(notebook: NotebookNode) -> None:
    """Take out of an executed notebook what differs between two runs on the same input; the manifest has the times."""
    run = notebook.metadata.get("papermill", {})
    for name in ("start_time", "end_time", "duration"):
        run.pop(name, None)
    for number, cell in enumerate(notebook.cells):
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.id = f"injected-{number}"


def write_document(folder: Path, chapter: Chapter) -> None:
    """Write one notebook as Markdown, and what it found as JSON."""
    from opslib.run.document import render_markdown

    outcome = chapter.outcome
    text = render_markdown(outcome.notebook, parameters=chapter.parameters, status=outcome.cause)
    (folder / f"{chapter.name}.md").write_text(text, "utf-8")
    found = {"notebook": chapter.name, **_describe_findings(chapter)}
    (folder / f"{chapter.name}.json").write_text(dump_json(found), "utf-8")


def write_report(folder: Path, facts: Facts, chapters: Sequence[Chapter], exit_code: int) -> None:
    """Write what needs all chapters: the first page, the mail, `findings.json` and `manifest.json`.

    Args:
        folder: where the pages already are.
        facts: the company, its data and the timings so far.
        chapters: in the order in which they are to be read.
        exit_code: what the command will end with.
    """
    from opslib.run.mail import write_mail

    rules = list_fired([finding for chapter in chapters for finding in chapter.findings])
    (folder / "index.html").write_text(render_index(facts, chapters), "utf-8")
    write_mail(folder, facts, chapters, rules)
    (folder / "findings.json").write_text(dump_json(collect_findings(facts, chapters)), "utf-8")
    # Last: a folder with a manifest is a whole report.
    (folder / "manifest.json").write_text(dump_json(describe_run(facts, chapters, exit_code, len(rules))), "utf-8")


def render_index(facts: Facts, chapters: Sequence[Chapter]) -> str:
    """Make the first page: who, when, how good the data are, and each notebook's answer."""
    from opslib.run.template import render_template

    defaults = {
        chapter.name: {n: field.default for n, field in NOTEBOOKS[chapter.notebook].model_fields.items()}
        if chapter.notebook in NOTEBOOKS
        else {}
        for chapter in chapters
    }
    cards = [
        {
            "title": chapter.page.title,
            "href": f"{chapter.name}.html",
            "notebook": f"{chapter.name}.ipynb",
            "markdown": f"{chapter.name}.md",
            "json": f"{chapter.name}.json",
            "cause": chapter.outcome.cause,
            "reason": chapter.reason,
            "lead": "" if chapter.sentences else chapter.page.lead,
            "sentences": chapter.sentences,
            "problems": chapter.problems,
            "given": say(", ").join(
                f"{name.replace('_', ' ')} {value}"
                for name, value in chapter.parameters.items()
                if name not in ("playbook", "lang") and value != defaults[chapter.name].get(name, "")
            ),
        }
        for chapter in chapters
    ]
    return render_template(
        "index.html.j2",
        {
            "lang": facts.lang,
            "company": facts.company,
            "period": ", ".join(part for part in (facts.period, facts.day) if part),
            "verdict": say(facts.verdict),
            "is_fit": facts.verdict == "fit",
            "problems": facts.problems,
            "cards": cards,
            "failed": sum(not chapter.outcome.ok for chapter in chapters),
        },
    )


def collect_findings(facts: Facts, chapters: Sequence[Chapter]) -> dict[str, Any]:
    """Gather all findings, with nothing in them that differs between two runs on the same input.

    So no times, no versions, and not the playbook's path among the parameters.
    """
    notebooks = {chapter.name: _describe_findings(chapter) for chapter in chapters}
    return {"company": facts.company, "period": facts.period, "data": facts.verdict, "notebooks": notebooks}


def _describe_findings(chapter: Chapter) -> dict[str, Any]:
    from opslib.run.document import describe_findings

    status = "ok" if chapter.outcome.ok else "failed"
    return describe_findings(
        chapter.page.title, status, chapter.parameters, chapter.findings, chapter.sentences, chapter.problems
    )


def list_fired(findings: Sequence[Any]) -> list[str]:
    """Name the rules that fire, by what a watch found; one that fires for several groups is named once."""
    fired = [f["rule"] for f in findings if f.get("name") == "rule" and f.get("state") == "firing"]
    if not fired:
        return []
    from opslib.present.rules import name_rule

    return [name_rule(rule) for rule in dict.fromkeys(fired)]


def describe_run(facts: Facts, chapters: Sequence[Chapter], exit_code: int, rules_fired: int = 0) -> dict[str, Any]:
    """Say how a report came about: data, versions, parameters, timings."""
    return {
        "kind": REPORT_KIND,
        "exit_code": exit_code,
        "company": facts.company,
        **({"lang": facts.lang} if facts.lang != "en" else {}),
        "data_fingerprint": facts.fingerprint,
        "versions": {"opslib": __version__, "python": platform.python_version(), **find_versions()},
        "seconds": dict(facts.seconds),
        **({"dated": {**facts.dated, "day": facts.day}} if facts.day else {}),
        **({"rules_fired": rules_fired} if rules_fired else {}),
        "notebooks": {
            chapter.name: {
                "status": "ok" if chapter.outcome.ok else "failed",
                "cause": chapter.outcome.cause,
                "parameters": dict(chapter.parameters),
                "seconds": chapter.outcome.seconds,
                "kernel_seconds": chapter.outcome.kernel_seconds,
                "cell_seconds": list(chapter.outcome.cell_seconds),
                "page_seconds": chapter.page_seconds,
                "chart_count": chapter.page.chart_count,
            }
            for chapter in chapters
        },
    }


def find_versions() -> dict[str, str]:
    """Look up the installed versions of what decides the numbers and the pages."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "absent"
    return found


def dump_json(value: Any) -> str:
    """Write JSON whose bytes depend on the values alone: sorted keys, floats to ten digits, NaN as null.

    >>> dump_json({"b": 0.1 + 0.2, "a": [float("nan"), 1.0]})
    '{\\n  "a": [\\n    null,\\n    1.0\\n  ],\\n  "b": 0.3\\n}\\n'
    """
    return json.dumps(_settle(value), sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n"


def _settle(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{FLOAT_DIGITS}g}") + 0.0 if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _settle(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_settle(v) for v in value]
    return value
