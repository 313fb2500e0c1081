"""A process that compiles and draws charts: vl-convert holds Python's lock while it works.

Drawing in a thread of the report would stop the conversation with every kernel for as long. Run as a program
(`python -m opslib.run.drawer`) it answers one JSON request a line, in order, and ends when stdin ends, because
the report is done or was killed.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any


class Drawer:
    """Our end of the process.

    >>> drawer = Drawer()
    >>> spec = {"$schema": "https://vega.github.io/schema/vega/v6.json", "width": 9, "height": 9}
    >>> drawer.submit({"vega": spec}).result()["svg"][:4]
    '<svg'
    >>> drawer.close()
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "opslib.run.drawer"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            start_new_session=True, text=True, encoding="utf-8",
        )  # fmt: skip
        self._waiting: deque[Future[dict[str, Any]]] = deque()
        self._lock = threading.Lock()
        self._reader = threading.Thread(target=self._read, name="drawer", daemon=True)
        self._reader.start()

    def submit(self, request: Mapping[str, Any]) -> Future[dict[str, Any]]:
        """Ask for a chart.

        Args:
            request: `{"vegalite": specification}` or `{"vega": compiled specification}`.

        Returns:
            A future of `vega`, `svg` and `png` (base64); its exception is a ValueError when the chart does not draw.
        """
        future: Future[dict[str, Any]] = Future()
        with self._lock:
            self._waiting.append(future)
            try:
                assert self._process.stdin is not None
                self._process.stdin.write(json.dumps(request) + "\n")
                self._process.stdin.flush()
            except (OSError, ValueError):  # a broken pipe, or one that we closed
                self._waiting.pop()
                future.set_exception(ValueError("the drawing process ended"))
        return future

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._reader.join(2.0)
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            for line in self._process.stdout:
                answer = json.loads(line)
                future = self._waiting.popleft()
                if "error" in answer:
                    future.set_exception(ValueError(answer["error"]))
                else:
                    future.set_result(answer)
        # It was closed or died: nobody may wait for ever.
        while self._waiting:
            self._waiting.popleft().set_exception(ValueError("the drawing process ended"))


def main() -> None:
    """Draw until stdin ends."""
    from opslib.run.charts import draw_chart, warm_up

    warm_up()
    for line in sys.stdin:
        try:
            answer = draw_chart(json.loads(line))
        except ValueError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
