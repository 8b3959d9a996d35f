"""A server of two processes behind one port."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx


class Workers:
    """A server of two processes; one of them can be put to sleep."""

    def __init__(self, folder: Path, *command: str, **settings: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        self.log = folder / "server.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *command, "--port", str(port), "--workers", "2"],
                env={**os.environ, "CACHER_OFFLINE": "True", **settings},
                stdout=log, stderr=log,
            )  # fmt: skip
        until = time.monotonic() + 60
        while self.log.read_text().count("Application startup complete") < 2:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.02)

    @property
    def pids(self) -> list[int]:
        """The workers: children that are not multiprocessing's own helper."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        names = {int(c): Path(f"/proc/{c}/cmdline").read_text() for c in children}
        return sorted(c for c, name in names.items() if "resource_tracker" not in name)

    @contextmanager
    def only(self, index: int) -> Iterator[None]:
        """While the block lasts, that worker alone is awake."""
        sleeper = self.pids[1 - index]
        os.kill(sleeper, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(sleeper, signal.SIGCONT)

    def ask(self, method: str, path: str, body: object = None) -> httpx.Response:
        """On a connection of its own: whoever is awake takes it."""
        return httpx.request(method, self.address + path, json=body, timeout=60)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)
