"""Servers in processes of their own, and clients thin enough to measure them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORDS = ("fox", "hare", "wood", "king", "river", "child", "stone", "night", "bread", "lamp", "mill")
SERVE = [sys.executable, "-m", "cacher", "serve", "--port", "PORT", "--log-level", "warning"]
LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


def prompt(number: int) -> str:
    """Return a text that no other number has, of about 40 tokens."""
    words = [WORDS[(number * 7 + i * i) % len(WORDS)] for i in range(12)]
    return f"Once upon a time, {number}, there was a " + " and a ".join(words)


def free_port() -> int:
    """Return a port that nobody uses."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Server:
    """A process that listens at a port."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port

    def cpu_s(self) -> float:
        """Return the CPU time of its threads so far, to the nanosecond."""
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum(_cpu_s(task) for task in tasks)

    def loop_s(self) -> float:
        """Return the CPU time of its first thread, which runs the event loop."""
        return _cpu_s(Path(f"/proc/{self.process.pid}/task/{self.process.pid}"))


def _cpu_s(task: Path) -> float:
    return 1e-9 * int((task / "schedstat").read_text().split()[0])


@contextmanager
def running(name: str, command: list[str], env: dict[str, str]) -> Iterator[Server]:
    """A server that takes connections; PORT in its command or environment is one that is free."""
    port = free_port()
    log = tempfile.TemporaryFile()  # noqa: SIM115 - open while the server runs
    env = {name: value.replace("PORT", str(port)) for name, value in env.items()}
    process = subprocess.Popen(
        [part.replace("PORT", str(port)) for part in command],
        cwd=ROOT, env=os.environ | env, stdout=log, stderr=log, start_new_session=True,
    )  # fmt: skip
    try:
        for _ in range(30_000):
            if process.poll() is not None:
                log.seek(0)
                raise RuntimeError(f"{name} died: {log.read().decode()[-2000:]}")
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.001)
        yield Server(process, port)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


class Connection:
    """A connection that is kept, for one request after another."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        self._socket.close()

    def ask(self, method: str, path: str, body: object = None) -> tuple[float, bytes]:
        """Return the seconds until the answer was there, and its body.

        Raises:
            RuntimeError: The status is not 200.
        """
        request = _request(method, path, body)
        started = time.perf_counter()
        self._socket.sendall(request)
        answer, size = b"", 0
        while not size or len(answer) < size:
            part = self._socket.recv(1 << 20)
            if not part:
                raise RuntimeError(f"{method} {path}: the connection was closed")
            answer += part
            if not size and (end := answer.find(b"\r\n\r\n")) >= 0:
                length = LENGTH.search(answer, 0, end)
                size = end + 4 + int(length[1] if length else b"0")
        seconds = time.perf_counter() - started
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"{method} {path}: {answer.decode()[:500]}")
        return seconds, answer[end + 4 :]


async def stream(port: int, path: str, body: object) -> tuple[int, float]:
    """Ask for a stream on a connection of its own; return its events, and seconds to the first."""
    text, first = await stream_text(port, path, body)
    return text.count(b"data: {"), first


async def stream_text(port: int, path: str, body: object) -> tuple[bytes, float]:
    """Ask for a stream on a connection of its own; return its text, and seconds to an event."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    started = time.perf_counter()
    writer.write(_request("POST", path, body, "Accept: text/event-stream\r\nConnection: close\r\n"))
    text, first = bytearray(), 0.0
    while chunk := await reader.read(1 << 16):
        text += chunk
        if not first and b"data: {" in text:
            first = time.perf_counter() - started
    writer.close()
    return bytes(text), first


def _request(method: str, path: str, body: object, headers: str = "") -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    return (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    ).encode() + content
