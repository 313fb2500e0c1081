"""JupyterLab in a real browser: a server of its own, a notebook's page, its cells and its kernel."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TOKEN = "of-the-tests"
WIDE = {"width": 1280, "height": 900}
LONG_MS = 180_000
OFFLINE = ["--LabApp.news_url=", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
# JupyterLab's own, of things that were never asked for.
NOT_OURS = ("favicon", "ERR_INTERNET_DISCONNECTED", "was preloaded using link preload", "Connection lost, reconnecting")

IDLE = "() => window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
DONE = """() => {
  const panel = window.jupyterapp.shell.currentWidget;
  const cells = panel.content.widgets.filter(c => c.model.type === 'code' && c.model.sharedModel.getSource().trim());
  return panel.sessionContext.session.kernel.status === 'idle'
    && cells.every(c => c.model.executionCount !== null && c.model.executionState !== 'running');
}"""
FORGET = """() => {
  const panel = window.jupyterapp.shell.currentWidget;
  panel.content.widgets.forEach(c => { if (c.model.type === 'code') c.model.executionCount = null; });
}"""
ASK_KERNEL = """async (code) => {
  const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
  const future = kernel.requestExecute({code, store_history: false});
  let text = '';
  future.onIOPub = m => { if (m.header.msg_type === 'stream' || m.header.msg_type === 'error')
    text += m.content.text ?? m.content.traceback.join('\\n'); };
  await future.done;
  return text;
}"""
OUTPUTS = """() => window.jupyterapp.shell.currentWidget.content.widgets.filter(c => c.model.type === 'code').map(c => {
  const outputs = c.model.outputs.toJSON();
  return {id: c.model.id, outputs};
})"""


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab.

    Attributes:
        url: its address.
        folder: what it serves: `notebooks/`, `playbook.toml`, `data/`.
    """

    url: str
    folder: Path


@contextlib.contextmanager
def start_lab(root: Path, folder: Path) -> Iterator[Lab]:
    """Serve a copy of the notebooks, so that nothing that somebody does in them reaches the repository."""
    shutil.copytree(root / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    shutil.copy(root / "playbook.toml", folder)
    (folder / "data").symlink_to(root / "data")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # As `make lab` does: nobody is asked about news.
    settings = folder / "config" / "labconfig" / "page_config.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}))
    # Each page begins with the notebook as it is committed, not as an earlier page left it.
    saving = folder / "settings" / "@jupyterlab" / "docmanager-extension" / "plugin.jupyterlab-settings"
    saving.parent.mkdir(parents=True)
    saving.write_text(json.dumps({"autosave": False}))
    log = (folder / "server.log").open("w")
    home = {
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
    }
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", "--allow-root", "--no-browser", f"--port={port}", "--port-retries=0",
         f"--IdentityProvider.token={TOKEN}", "--expose-app-in-browser", *OFFLINE],
        cwd=folder, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **home},
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{url}/api?token={TOKEN}", timeout=2).close()
                break
            assert server.poll() is None, (folder / "server.log").read_text()
            assert time.monotonic() < deadline, "JupyterLab does not answer"
            time.sleep(0.2)
        yield Lab(url, folder)
    finally:
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(20)
        server.kill()
        log.close()


@dataclass
class NotebookPage:
    """A notebook in JupyterLab, and what its page complained of."""

    page: Any
    name: str
    complaints: list[str] = field(default_factory=list)

    @classmethod
    def open(cls, browser: Any, lab: Lab, name: str, *, viewport: dict[str, int] = WIDE) -> NotebookPage:
        """Open a notebook in a page of its own."""
        context = browser.new_context(viewport=viewport)
        context.grant_permissions(["clipboard-read", "clipboard-write"], origin=lab.url)
        page = context.new_page()
        opened = cls(page, name)
        page.on("console", opened._note)
        page.on("pageerror", lambda error: opened.complaints.append(f"error: {error}"))
        page.goto(f"{lab.url}/lab/tree/notebooks/{name}.ipynb?token={TOKEN}&reset")
        page.wait_for_function(IDLE, timeout=LONG_MS)
        page.wait_for_function("() => window.jupyterapp.shell.currentWidget?.context?.isReady", timeout=LONG_MS)
        return opened

    def _note(self, message: Any) -> None:
        if message.type in ("error", "warning") and not any(word in message.text for word in NOT_OURS):
            self.complaints.append(f"{message.type}: {message.text[:300]}")

    def run_all(self) -> None:
        """Run all cells and wait for the last."""
        self.page.evaluate(FORGET)
        # Not awaited: the promise may wait for a dialog.
        self.page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
        self.page.wait_for_function(DONE, timeout=LONG_MS)
        self.page.wait_for_timeout(500)

    def restart(self) -> None:
        """Restart the kernel, with nobody asked."""
        self.page.evaluate(
            "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart().then(() => null)"
        )
        self.page.wait_for_function(IDLE, timeout=LONG_MS)

    def close(self) -> None:
        """Close the page and end its kernel."""
        with contextlib.suppress(Exception):
            self.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        self.page.context.close()

    def ask(self, code: str) -> Any:
        """Run code that prints JSON in the notebook's kernel."""
        text = self.page.evaluate(ASK_KERNEL, code)
        try:
            return json.loads(text)
        except ValueError:
            raise AssertionError(text) from None

    def read_outputs(self) -> dict[str, list[dict[str, Any]]]:
        """Cell id -> its outputs, as they would be saved now."""
        return {cell["id"]: cell["outputs"] for cell in self.page.evaluate(OUTPUTS)}

    def read_texts(self) -> dict[str, str]:
        """Cell id -> what its output says in plain text; controls left aside."""
        said = {}
        for cell, outputs in self.read_outputs().items():
            texts = ["".join(o["data"].get("text/plain", "")) for o in outputs if "data" in o]
            said[cell] = "\n".join(t for t in texts if not t.startswith("VBox("))
        return said

    def find_problems(self) -> list[str]:
        """Errors among the outputs, and what was printed where errors go."""
        found = []
        for cell, outputs in self.read_outputs().items():
            found += [f"{cell}: {o.get('ename')}: {o.get('evalue')}" for o in outputs if o["output_type"] == "error"]
            found += [f"{cell}: {o.get('text')}" for o in outputs if o.get("name") == "stderr"]
        return found

    def show(self, cell: str) -> None:
        """Scroll a cell into view."""
        self.page.evaluate(
            """async (id) => {
              const notebook = window.jupyterapp.shell.currentWidget.content;
              const index = notebook.widgets.findIndex(c => c.model.id === id);
              await notebook.scrollToItem(index, 'start', 0);
            }""",
            cell,
        )
        self.page.wait_for_timeout(700)

    @property
    def command(self) -> str:
        """The `opslib report` line of what is on screen."""
        return str(self.page.locator(".opslib-commands code").first.text_content())

    def wait_for_command(self, *words: str, ms: int = LONG_MS) -> None:
        """Wait until what is on screen is what a line with these words makes."""
        self.page.wait_for_function(
            "words => { const c = document.querySelector('.opslib-commands code')?.textContent ?? '';"
            " return words.every(w => c.includes(w)); }",
            arg=list(words),
            timeout=ms,
        )
        self.page.wait_for_timeout(300)

    @property
    def status(self) -> str:
        """What the controls say of themselves."""
        return str(self.page.locator(".opslib-status").first.inner_text())

    def control(self, label: str) -> Any:
        """A control by its label."""
        return self.page.locator(".opslib-controls").get_by_label(label, exact=True).first

    def click_mark(self, drill: str) -> dict[str, Any]:
        """Click the mark of a chart whose `drill` holds a text; give what it sets."""
        found = self.page.wait_for_function(
            """drill => {
              const marks = [...document.querySelectorAll('.vega-embed svg path')];
              const mark = marks.find(e => (e.__data__?.datum?.drill ?? '').includes(drill));
              if (!mark) return null;
              mark.scrollIntoView({block: 'center'});
              const box = mark.getBoundingClientRect();
              return {drill: mark.__data__.datum.drill, x: box.x + box.width / 2, y: box.y + box.height / 2};
            }""",
            arg=drill,
            timeout=20_000,
        ).json_value()
        self.page.mouse.click(found["x"], found["y"])
        return dict(json.loads(found["drill"]))

    def choose(self, label: str, text: str) -> None:
        """Choose the first option of a list that begins with a text, once it is offered."""
        box = self.control(label)
        # ipywidgets writes spaces that do not break.
        find = "(e, t) => [...e.options].find(o => o.text.replaceAll('\\u00a0', ' ').startsWith(t))?.index ?? -1"
        for _ in range(100):
            if (index := box.evaluate(find, text)) >= 0:
                box.select_option(index=index)
                return
            self.page.wait_for_timeout(100)
        raise AssertionError(f"{label} offers no {text}")
