"""Tell somebody that a run failed or that a rule fired: a command or a webhook, named in the environment.

The message holds one line of cause and links into the report. It never holds values that only the data know (which
might be users), and what calls it never learns more of the webhook's address than that it did not answer.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from opslib.language import join_clauses, say, speak

if TYPE_CHECKING:
    from opslib.run.report import Report

COMMAND, URL, BASE = "OPSLIB_ALERT_COMMAND", "OPSLIB_ALERT_URL", "OPSLIB_REPORT_URL"
WATCH = "50_daily_watch"
COMMAND_SECONDS = 60.0
URL_SECONDS = 10.0
MOST_CAUSE_LETTERS = 400
# Whose messages are ours and hold no values of the data; of other errors only the kind is told.
OWN_ERRORS = ("InputError:", "OpslibError:")


@dataclass(frozen=True)
class Link:
    """Where to read on: a page's title and its address."""

    title: str
    address: str


@dataclass(frozen=True)
class Alert:
    """What somebody is told of one run.

    Attributes:
        status: failed, refused or rule fired.
        cause: one line.
        company: whose data; empty when they could not be opened.
        as_of: the day of a dated run.
        links: into the report, the section that says more first.
        lang: in which language it is told; no part of the message.
    """

    status: str
    cause: str
    company: str = ""
    as_of: str = ""
    links: Sequence[Link] = ()
    lang: str = "en"

    def to_json(self) -> str:
        """The message. `text` is what chat programs show of a webhook's call."""
        head = " ".join(part for part in (self.company, self.as_of) if part)
        with speak(self.lang):
            text = say("{about}: {cause}", about=head, cause=self.cause) if head else self.cause
            lines = [say("{name}: {value}", name=link.title, value=link.address) for link in self.links]
        text = "\n".join([text, *lines])
        message = {name: value for name, value in asdict(self).items() if name != "lang"}
        return json.dumps({"text": text, **message}, ensure_ascii=False)


def describe_report(report: Report, *, root: Path | None = None) -> Alert | None:
    """Say what is to be told of a report, in its language; None where all is well.

    Args:
        report: what was made.
        root: the folder that `OPSLIB_REPORT_URL` shows; default the report's own.
    """
    with speak(report.lang):
        return _describe_report(report, root or report.out)


def _describe_report(report: Report, root: Path) -> Alert | None:
    failed = {name: cause for name, cause in report.causes.items() if cause}
    parts = [say("{notebook} did not finish: {cause}", notebook=n, cause=hide_values(c)) for n, c in failed.items()]
    links = [Link(name, locate(report.out / f"{name}.html", root, "failed")) for name in failed]
    if report.rules:
        rules = say(", ").join(report.rules)
        parts.append(say("{state}: {rules}", state=say_rules(len(report.rules)), rules=rules))
    if report.rules and not report.causes.get(WATCH, "absent"):
        page = report.out / f"{WATCH}.html"
        links.append(Link(WATCH, locate(page, root, find_section(page, report.rules[0]))))
    if not parts:
        return None
    links.append(Link(say("Report"), locate(report.index, root)))
    status = "failed" if failed else "rule fired"
    return Alert(status, shorten(join_clauses(parts)), report.company, report.as_of, links, report.lang)


def say_rules(count: int) -> str:
    """Say how many rules fire.

    >>> say_rules(1), say_rules(3)
    ('1 rule fires', '3 rules fire')
    """
    return say("{count} rule fires", count=count) if count == 1 else say("{count} rules fire", count=count)


def describe_error(message: str, exit_code: int) -> Alert:
    """Say what is to be told of a run that did not come about.

    >>> describe_error("The data are unfit:\\n  - users.id: 2 of 9 rows have no value, for example u17.", 2).cause
    'The data are unfit: users.id: 2 of 9 rows have no value.'
    """
    lines = [line.strip().removeprefix("- ") for line in message.splitlines() if line.strip()]
    first = " ".join(lines[:2]) if lines and lines[0].endswith(":") else (lines or [""])[0]
    return Alert("refused" if exit_code == 2 else "failed", shorten(hide_values(first, own=exit_code == 2)))


def hide_values(cause: str, *, own: bool = False) -> str:
    """Leave of an error what cannot be a value of the data: kind and place, or a message that is ours without examples.

    >>> hide_values("KeyError: 'user 17' (code cell 3)")
    'KeyError (code cell 3)'
    >>> hide_values("InputError: There is no funnel 'x'. (code cell 3)")
    "InputError: There is no funnel 'x'. (code cell 3)"
    """
    kind, separator, _ = cause.partition(":")
    if not own and separator and kind.isidentifier() and not cause.startswith(OWN_ERRORS):
        place = re.search(r" \(code cell \d+\)$", cause)
        return kind + (place[0] if place else "")
    # Addresses of databases hold passwords.
    cause = re.sub(r"://[^/\s@]+@", "://", cause)
    return re.sub(r", for example .*?(?=\.(?: |$)|$)", "", cause)


def shorten(text: str) -> str:
    """Put a text on one line of bounded length."""
    flat = " ".join(text.split())
    return flat if len(flat) <= MOST_CAUSE_LETTERS else f"{flat[: MOST_CAUSE_LETTERS - 1]}…"


def locate(page: Path, root: Path, anchor: str = "") -> str:
    """Give a page's address: below `OPSLIB_REPORT_URL` where that is set, else the file's."""
    base = os.environ.get(BASE, "").rstrip("/")
    address = f"{base}/{quote(page.relative_to(root).as_posix())}" if base else page.as_uri()
    return f"{address}#{quote(anchor)}" if anchor else address


def find_section(page: Path, words: str) -> str:
    """Find the section of a page that shows these words in a table, or else at all; empty where there is none."""
    import html

    pieces = re.split(r'<h2 id="([^"]*)"', page.read_text("utf-8"))[1:]
    sections = list(zip(pieces[::2], pieces[1::2], strict=True))
    wanted = html.escape(words).lower()
    holding = [(anchor, body) for anchor, body in sections if wanted in body.lower()]
    with_table = [anchor for anchor, body in holding if "<table" in body]
    return html.unescape((with_table or [anchor for anchor, _ in holding] or [""])[0])


def send_alerts(alerts: Sequence[Alert], environment: Mapping[str, str] | None = None) -> list[str]:
    """Call the hooks that the environment names, once for each alert.

    Returns:
        A sentence for each call that failed.
    """
    known: Mapping[str, Any] = os.environ if environment is None else environment
    problems = []
    for alert in alerts:
        for variable, send in ((COMMAND, run_command), (URL, post_message)):
            if known.get(variable) and (problem := send(known[variable], alert)):
                problems.append(problem)
    return problems


def run_command(command: str, alert: Alert) -> str:
    """Run a command without a shell: the cause is its last argument, the message its input.

    Returns:
        What went wrong; empty when nothing did.
    """
    try:
        words = shlex.split(command)
        # The URL of the webhook is nothing that another program needs to know.
        rest = {name: value for name, value in os.environ.items() if name != URL}
        ended = subprocess.run(
            [*words, alert.cause], input=alert.to_json().encode(), stdout=subprocess.DEVNULL,
            timeout=COMMAND_SECONDS, check=False, env=rest,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"The alert command was stopped after {COMMAND_SECONDS:g} seconds."
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "its quotes do not match"
        return f"The alert command could not be run: {reason}. Look at {COMMAND}."
    return f"The alert command ended with exit code {ended.returncode}." if ended.returncode else ""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """The message is for the address that was named, and for no other."""


def post_message(url: str, alert: Alert) -> str:
    """Post the message as JSON.

    Returns:
        What went wrong, without the address, which is a secret; empty when nothing did.
    """
    if not re.match(r"https?://", url):
        return f"The alert could not be posted: {URL} is no address that begins with https://."
    try:
        request = urllib.request.Request(
            url, alert.to_json().encode(), {"Content-Type": "application/json; charset=utf-8", "User-Agent": "opslib"}
        )
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=URL_SECONDS):
            return ""
    except urllib.error.HTTPError as error:
        return f"The alert could not be posted: the webhook answered {error.code}."
    except Exception as error:  # whatever it is, its text may hold the address
        reason = "no answer in time" if isinstance(getattr(error, "reason", error), TimeoutError) else "no connection"
        return f"The alert could not be posted: {reason}. Look at {URL}."
