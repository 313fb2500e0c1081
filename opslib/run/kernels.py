"""Kernels for headless runs: this very Python, sockets in a short private folder, nothing left behind.

Why not the stock manager: the kernel named `python3` on a machine may belong to another environment; TCP
ports race when several kernels start at once, and ipykernel 7 warns about them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner
from jupyter_core.utils import run_sync

from opslib.run.folder import is_alive
from opslib.run.forkserver import ForkServer

# A Unix socket's path must fit 104 bytes on macOS, 108 on Linux; the kernel adds a few characters of its own.
LONGEST_SOCKET_FOLDER = 80

PROVISIONER = "opslib-fork"
KERNEL_COMMAND = ("-m", "ipykernel_launcher", "-f", "{connection_file}")


# Known by name as if it were installed: a kernel spec can only name its provisioner.
KernelProvisionerFactory.provisioners[PROVISIONER] = EntryPoint(
    PROVISIONER, "opslib.run.kernels:ForkProvisioner", KernelProvisionerFactory.GROUP_NAME
)


class ForkProvisioner(LocalProvisioner):
    """Takes a kernel from the manager's fork server, or starts an ordinary one where there is none."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        """Launch the kernel; the rest (signals, waiting, clean-up) is the stock provisioner's."""
        manager: Any = self.parent
        server: ForkServer | None = manager.fork_server
        cwd = str(kwargs.get("cwd") or Path.cwd())
        arguments = cmd[cmd.index("ipykernel_launcher") + 1 :]
        forked = server.fork(arguments, cwd, dict(kwargs.get("env") or os.environ)) if server else None
        if forked is None:
            return await super().launch_kernel(cmd, **kwargs)
        self.process: Any = forked
        # Its own session is its group too, but only once the copy has got that far: so no group here.
        self.pid, self.pgid, self.cwd = forked.pid, None, Path(cwd)
        return self.connection_info


class OwnKernelManager(AsyncKernelManager):
    """Starts a kernel with this process's Python and remembers its client, so that we can close both."""

    last_client: Any = None
    fork_server: ForkServer | None = None
    extra_env: Mapping[str, str] = MappingProxyType({})

    @property
    def kernel_spec(self) -> KernelSpec:
        """A kernel spec made here, so that no kernel spec installed elsewhere can stand in."""
        return KernelSpec(
            argv=[sys.executable, *KERNEL_COMMAND],
            display_name="Python 3 (ipykernel)",
            language="python",
            env=dict(self.extra_env),
            metadata={"kernel_provisioner": {"provisioner_name": PROVISIONER}},
        )

    async def _async_interrupt_kernel(self) -> None:
        # Shutting down begins with an interrupt, which an idle kernel reports as an error on the terminal.
        return

    def client(self, **kwargs: Any) -> Any:
        """Make the client as usual and keep hold of it."""
        self.last_client = super().client(**kwargs)
        return self.last_client


class KernelPool:
    """The kernels of one run: makes their managers, can kill them all at once, removes their socket folder.

    >>> with open_kernel_pool() as pool:
    ...     manager = pool.make_manager()
    ...     pool.stop(manager)
    """

    def __init__(self, folder: Path, server: ForkServer | None = None, env: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self._env = dict(env or {})
        self._server = server
        self._count = 0
        self._managers: list[OwnKernelManager] = []
        self._closed = False
        self._lock = threading.Lock()

    def make_manager(self) -> OwnKernelManager:
        """Make the manager of one kernel that is not started yet.

        Raises:
            RuntimeError: the pool was killed meanwhile.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("the run was stopped")
            self._count += 1
            number = self._count
        settings: dict[str, Any] = {"connection_file": str(self.folder / f"{number}.json")}
        if sys.platform != "win32" and len(os.fsencode(self.folder)) <= LONGEST_SOCKET_FOLDER:
            settings |= {"transport": "ipc", "ip": str(self.folder / f"{number}")}
        manager = OwnKernelManager(**settings)
        manager.fork_server = self._server
        manager.extra_env = self._env
        with self._lock:
            self._managers.append(manager)
        return manager

    def stop(self, manager: OwnKernelManager) -> None:
        """Ask the kernel to leave, wait, and close our side; called from the thread that used the kernel."""
        try:
            # A kernel that is asked (not killed) lets DuckDB remove what it spilled to disk.
            run_sync(manager.shutdown_kernel)(now=False)
        except Exception:
            # It died on its own or was killed from `kill_all`: nothing to ask any more.
            self._kill(manager)
        finally:
            if manager.last_client is not None:
                manager.last_client.stop_channels()
            with self._lock:
                if manager in self._managers:
                    self._managers.remove(manager)

    def kill_all(self) -> None:
        """End every kernel at once, from any thread; the threads that wait for them come back then."""
        with self._lock:
            self._closed = True
            managers = list(self._managers)
        for manager in managers:
            self._kill(manager)

    def _kill(self, manager: OwnKernelManager) -> None:
        pid = getattr(manager.provisioner, "pid", None)
        if pid:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL if sys.platform != "win32" else signal.SIGTERM)


@contextlib.contextmanager
def open_kernel_pool(server: ForkServer | None = None, env: Mapping[str, str] | None = None) -> Iterator[KernelPool]:
    """Open a pool in a fresh private folder; on leaving, living kernels are killed and the folder removed."""
    remove_dead_folders()
    folder = Path(tempfile.mkdtemp(prefix=f"opslib-{os.getpid()}-"))
    pool = KernelPool(folder, server, env)
    try:
        yield pool
    finally:
        pool.kill_all()
        shutil.rmtree(folder, ignore_errors=True)


def remove_dead_folders() -> None:
    """Remove the socket folders of runs that were killed before they could tidy up."""
    for folder in Path(tempfile.gettempdir()).glob("opslib-*-*"):
        owner = folder.name.split("-")[1]
        if owner.isdigit() and not is_alive(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)
