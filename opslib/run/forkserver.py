"""A process that has imported everything already, and turns copies of itself into kernels.

Starting a kernel and importing pandas, altair and ibis costs two CPU-seconds a notebook; here it is paid
once, while the report checks the data. Copying a process is safe only while it has a single thread, so this
one sees to it that it has no more (and reports when it cannot, and then ordinary kernels are started):
DuckDB, whose import starts a thread, is left to the kernels.

Run as a program (`python -m opslib.run.forkserver`) it reads one JSON request a line from stdin. When stdin
ends, because the report is done or was killed, it ends all its kernels and itself.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

# What would start threads on import: linear algebra and Arrow's allocator.
SINGLE_THREADED = {"OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
LIBRARIES = (
    "ipykernel.kernelapp", "ipykernel.ipkernel", "pandas", "ibis", "altair", "opslib.parameters",
    "great_tables", "pyarrow.dataset",
)  # fmt: skip
LAYERS = ("data", "measure", "explain", "decide", "present")
LEFT_OUT = {"widgets", "sample_company", "guess"}
START_SECONDS = 60.0


class ForkServer:
    """Our end of the process; start it early, ask for kernels later.

    >>> server = ForkServer.start()
    >>> if server is not None:
    ...     server.close()
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._lock = threading.Lock()
        self._works = True
        self._asked = False

    @classmethod
    def start(cls) -> ForkServer | None:
        """Start importing in a process of its own; None where this cannot work, or `OPSLIB_FORK=0` forbids it."""
        if sys.platform != "linux" or os.environ.get("OPSLIB_FORK") == "0":
            return None
        try:
            os.close(os.pidfd_open(os.getpid()))
            process = subprocess.Popen(
                [sys.executable, "-m", "opslib.run.forkserver"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                env={**os.environ, **SINGLE_THREADED}, start_new_session=True,
            )  # fmt: skip
        except OSError:
            return None
        return cls(process)

    def fork(self, arguments: list[str], cwd: str, env: dict[str, str]) -> ForkedKernel | None:
        """Make a kernel; None when the server cannot, and an ordinary kernel has to do."""
        with self._lock:
            if not self._works:
                return None
            self._asked = True
            try:
                request = json.dumps({"arguments": arguments, "cwd": cwd, "env": env})
                assert self._process.stdin is not None
                self._process.stdin.write(request.encode() + b"\n")
                self._process.stdin.flush()
                return ForkedKernel(int(self._read(START_SECONDS)["pid"]))
            except (OSError, ValueError, KeyError, TypeError):
                self._works = False
                return None

    def close(self) -> None:
        """End the server and all its kernels."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        # One that was not asked for a kernel has none to end, and may be deep in its imports.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2.0 if self._asked else 0)
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def _read(self, seconds: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], seconds)[0]:
            raise OSError("the fork server does not answer")
        return json.loads(self._process.stdout.readline())


@contextlib.contextmanager
def open_fork_server() -> Iterator[ForkServer | None]:
    """Start a fork server where that works, and close it at the end."""
    server = ForkServer.start()
    try:
        yield server
    finally:
        if server is not None:
            server.close()


class ForkedKernel:
    """A kernel that is our grandchild, with as much of `subprocess.Popen` as jupyter_client uses."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int) -> None:
        self.pid = pid
        # A handle, not the number: the number may come to mean another process.
        self._handle = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """Tell whether it ended; how is not known to a grandparent."""
        return 1 if select.select([self._handle], [], [], 0)[0] else None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end."""
        if not select.select([self._handle], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("kernel", timeout or 0)
        return 1

    def send_signal(self, number: int) -> None:
        """Send a signal, to this process and no other."""
        signal.pidfd_send_signal(self._handle, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def __del__(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            os.close(self._handle)


def main() -> None:
    """Import and serve until stdin ends."""
    _leave_out_working_folder()
    # Nothing that an import prints may mix with the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    kernels: list[int] = []
    imports = list_imports()
    while True:
        # A request does not wait for the rest of the imports: the kernel makes those that it needs by itself.
        if not imports or select.select([0], [], [], 0)[0]:
            line = _read_line()
            if not line:
                break
            _serve(json.loads(line), answers, kernels)
        if imports:
            with contextlib.suppress(Exception):
                importlib.import_module(imports.pop(0))
    for kernel in kernels:
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(kernel, signal.SIGKILL)


def list_imports() -> list[str]:
    """Name what notebooks use, except what starts threads, in the order in which kernels need it."""
    import opslib

    names = list(LIBRARIES)
    for layer in LAYERS:
        folder = str(Path(opslib.__file__).parent / layer)
        names += [f"opslib.{layer}.{m.name}" for m in pkgutil.iter_modules([folder]) if m.name not in LEFT_OUT]
    return names


def _serve(request: dict[str, Any], answers: TextIO, kernels: list[int]) -> None:
    pid = None
    if _count_threads() == 1:
        # What exists now is not looked at by the copy's garbage collection, and so its memory stays shared.
        gc.freeze()
        pid = os.fork()
        if pid == 0:
            answers.close()
            _become_kernel(request)
        with contextlib.suppress(OSError):
            kernels.append(os.pidfd_open(pid))
    answers.write(json.dumps({"pid": pid}) + "\n")
    answers.flush()


def _read_line() -> bytes:
    # Byte by byte: a buffer could swallow the next request, which `select` then would not see.
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            return b""
        line += byte
    return bytes(line)


def _become_kernel(request: dict[str, Any]) -> None:
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        os.environ.clear()
        os.environ.update(request["env"])
        os.chdir(request["cwd"])
        sys.argv = ["ipykernel_launcher", *request["arguments"]]
        from ipykernel.kernelapp import IPKernelApp

        # With its parent's id the kernel notices that the server was killed, and ends.
        IPKernelApp.launch_instance(argv=request["arguments"], parent_handle=os.getppid())
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    finally:
        # Not sys.exit: the server's own clean-up is not the kernel's.
        _run_exit_handlers()
        os._exit(code)


def _run_exit_handlers() -> None:
    import atexit

    with contextlib.suppress(Exception):
        atexit._run_exitfuncs()


def _leave_out_working_folder() -> None:
    # As ipykernel's launcher does: a file named like a library must not stand in for it.
    if sys.path and Path(sys.path[0] or ".").resolve() == Path.cwd():
        del sys.path[0]


def _count_threads() -> int:
    return sum(1 for _ in Path("/proc/self/task").iterdir())


if __name__ == "__main__":
    main()
