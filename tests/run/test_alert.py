"""Who is told of a failure or a rule: a command, a webhook, with one line of cause and links that lead somewhere."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from opslib.run import alert
from opslib.run.alert import Alert, Link, describe_error, find_section, send_alerts
from tests.run.test_report import run_cli
from tests.run.test_watch import ASKED, COMPLAINTS, LAST, write_company, write_investigation, write_told_watch

SECRET = "hush-hush"
HOSTILE = 'x"; touch pwned; $(touch pwned) `touch pwned`'


@pytest.fixture(autouse=True)
def fake_source() -> None:
    """Here the data are small but real, so nothing stands in for them."""


class Webhook(HTTPServer):
    """Keeps what it is sent, and answers as it is told."""

    status = 200
    messages: list[dict[str, Any]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/{SECRET}"


class Answer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server: Any = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server.messages.append(json.loads(body))
        self.send_response(server.status)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Tests need no log."""


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    server = Webhook(("127.0.0.1", 0), Answer)
    server.messages = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def keeper(tmp_path: Path) -> str:
    """A command that writes its last argument and its input into files."""
    path = tmp_path / "a folder" / "keep.py"
    path.parent.mkdir()
    path.write_text(
        "import pathlib, sys\nhere = pathlib.Path(__file__).parent\n"
        "(here / 'cause').write_text(sys.argv[-1])\n(here / 'message').write_text(sys.stdin.read())\n"
        "print('not for our stdout')\n"
    )
    return f'"{sys.executable}" "{path}" --room ops'


def test_a_command_gets_the_cause_and_the_message(keeper: str, tmp_path: Path) -> None:
    told = Alert("failed", HOSTILE, "Acme", "2026-06-30", [Link("Report", "file:///r/index.html")])
    assert send_alerts([told], {"OPSLIB_ALERT_COMMAND": keeper}) == []
    kept = tmp_path / "a folder"
    assert (kept / "cause").read_text() == HOSTILE
    message = json.loads((kept / "message").read_text())
    assert (message["cause"], message["as_of"], message["links"][0]["address"]) == (
        HOSTILE, "2026-06-30", "file:///r/index.html",
    )  # fmt: skip
    assert message["text"] == f"Acme 2026-06-30: {HOSTILE}\nReport: file:///r/index.html"
    assert not list(tmp_path.rglob("pwned"))


def test_nobody_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("something was run"))
    assert send_alerts([Alert("failed", "x")], {}) == []


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("/nowhere/at-all", "could not be run: No such file"),
        ("unfinished 'quote", "its quotes do not match"),
        (f"{sys.executable} -c 'raise SystemExit(7)'", "ended with exit code 7"),
        (f"{sys.executable} -c 'import time; time.sleep(30)'", "was stopped after 0.3 seconds"),
    ],
)
def test_a_command_that_fails(command: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alert, "COMMAND_SECONDS", 0.3 if "sleep" in command else 20)
    (problem,) = send_alerts([Alert("failed", "x")], {"OPSLIB_ALERT_COMMAND": command})
    assert words in problem


def test_a_webhook(webhook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"OPSLIB_ALERT_URL": webhook.url}
    assert send_alerts([Alert("rule fired", "1 rule fires: complaints")], environment) == []
    assert webhook.messages[0]["text"] == "1 rule fires: complaints"
    for status in (302, 500):
        webhook.status = status
        assert send_alerts([Alert("failed", "x")], environment) == [
            f"The alert could not be posted: the webhook answered {status}."
        ]
    # Sent nowhere else than to the address that was named.
    assert len(webhook.messages) == 3
    for url in (f"http://127.0.0.1:1/{SECRET}", f"file:///{SECRET}", f"http://[{SECRET}", f"http://x y/{SECRET}"):
        (problem,) = send_alerts([Alert("failed", "x")], {"OPSLIB_ALERT_URL": url})
        assert "could not be posted" in problem
        assert SECRET not in problem


def test_no_secret_and_nobody_of_the_data() -> None:
    text = "The data are unfit for a report:\n  - events.user_id: 2 of 9 rows are odd (x), for example u1, u2. Mend it."
    assert (
        describe_error(text, 2).cause
        == "The data are unfit for a report: events.user_id: 2 of 9 rows are odd (x). Mend it."
    )
    assert "pw" not in describe_error("No connection to postgres://me:pw@db/x.", 2).cause
    assert describe_error("KeyError: 'user 17'", 1).cause == "KeyError"
    assert len(describe_error("word " * 1000, 2).cause) == 400


def test_the_section_that_shows_a_rule(tmp_path: Path) -> None:
    page = tmp_path / "p.html"
    page.write_text(
        '<h2 id="Answer">A</h2>Complaints &amp; co.<h2 id="Rules-1">R</h2><table>complaints &amp; co</table>'
        '<h2 id="More">M</h2>complaints'
    )
    assert find_section(page, "complaints & co") == "Rules-1"
    assert find_section(page, "absent") == ""


def test_a_rule_that_fires_is_told_once(
    webhook: Webhook, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPSLIB_ALERT_URL", webhook.url)
    monkeypatch.setenv("OPSLIB_REPORT_URL", "https://reports.invalid/edge/")
    write_company(tmp_path, COMPLAINTS)
    write_told_watch(tmp_path / "nb", ASKED)
    write_investigation(tmp_path / "nb", "55_voice_and_crisis", "as_of")
    arguments = ["watch", "--notebooks", "nb", "--catch-up", "1"]
    code, out, err = run_cli(capsys, *arguments)
    assert code == 0
    (message,) = webhook.messages
    assert (message["status"], message["cause"], message["company"], message["as_of"]) == (
        "rule fired", "1 rule fires: complaints", "Edge", str(LAST),
    )  # fmt: skip
    place = f"https://reports.invalid/edge/watch/{LAST}/{Path(json.loads(out)['out']).name}"
    assert [link["address"] for link in message["links"]] == [f"{place}/50_daily_watch.html", f"{place}/index.html"]
    written = b"".join(p.read_bytes() for p in (tmp_path / "reports").rglob("*") if p.is_file())
    assert SECRET not in out + err + written.decode("utf-8", "replace")
    # Done already: somebody was told when it was made.
    assert run_cli(capsys, *arguments)[0] == 0
    assert len(webhook.messages) == 1


def test_failures_are_told_and_a_hook_that_fails_is_said(
    webhook: Webhook, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPSLIB_ALERT_URL", webhook.url)
    write_company(tmp_path, COMPLAINTS)
    write_told_watch(tmp_path / "nb", ASKED)
    write_investigation(tmp_path / "nb", "55_voice_and_crisis", "as_of", then="raise ValueError('user 17')")
    code, out, _ = run_cli(capsys, "watch", "--notebooks", "nb", "--out", "out")
    assert code == 1
    assert webhook.messages[0]["cause"] == (
        "55_voice_and_crisis did not finish: ValueError (code cell 3); 1 rule fires: complaints"
    )
    first = webhook.messages[0]["links"][0]["address"]
    assert first == f"{(tmp_path / 'out' / '55_voice_and_crisis.html').as_uri()}#failed"
    assert 'id="failed"' in (tmp_path / "out" / "55_voice_and_crisis.html").read_text("utf-8")
    # Refused before anything ran.
    assert run_cli(capsys, "watch", "--notebooks", "nb", "--as-of", "2031-01-01")[0] == 2
    assert webhook.messages[1]["status"] == "refused"
    assert "as_of 2031-01-01 lies outside the data" in webhook.messages[1]["cause"]
    # Nobody can be told: the report is there all the same, and the exit code of a good run says so.
    webhook.status = 503
    write_investigation(tmp_path / "nb", "55_voice_and_crisis", "as_of")
    code, out, err = run_cli(capsys, "watch", "--notebooks", "nb", "--out", "out")
    line = json.loads(out)
    assert (code, line["status"], line["exit_code"]) == (5, "alert not sent", 5)
    assert line["alert_problems"] == ["The alert could not be posted: the webhook answered 503."]
    assert line["alert_problems"][0] in err
    assert json.loads((tmp_path / "out" / "manifest.json").read_text("utf-8"))["exit_code"] == 0
    assert run_cli(capsys, "watch", "--notebooks", "nb", "--out", "out", "--exit-code")[0] == 3
