"""The HTTP server under load: clients that change states of their own, until it is killed."""

from __future__ import annotations

import http.client
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests.crash.client import Client, Mirror, digest_of
from tests.crash.ledger import Ledger

CLIENTS = 6
LONGEST_S = 0.8  # from the first request to the kill
PROGRAM = ("-m", "cacher")
NO_CHANGES: Mapping[str, str] = MappingProxyType({})


class Server:
    """A server process over a folder of states."""

    def __init__(
        self, folder: Path, program: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = folder / "server.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *program, "serve", "--port", str(self.port)],
                env={
                    **os.environ, "CACHER_CACHE_DIR": str(folder / "states"),
                    "CACHER_OFFLINE": "True", "CACHER_MODEL_NAME": "tales", **environment,
                },
                stdout=log, stderr=log,
            )  # fmt: skip
        for _ in range(3000):
            try:
                if self.ask("GET", "/health")[0] == 200:
                    return
            except OSError:
                assert self.process.poll() is None, self.log.read_text()
                time.sleep(0.02)
        raise TimeoutError("the server does not answer")

    def ask(
        self, method: str, path: str, body: object = None, read: Callable[[bytes], Any] = json.loads
    ) -> tuple[int, Any]:
        """Send a request and return status and answer; OSError where the server went away."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
        try:
            data = body if body is None or isinstance(body, bytes) else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": kind})
            response = connection.getresponse()
            answer = response.read()
            return response.status, (read if response.status == 200 else json.loads)(answer)
        except http.client.HTTPException as error:  # cut off in the middle
            raise ConnectionError(str(error)) from None
        finally:
            connection.close()

    def kill(self) -> None:
        """End it as the kernel does that runs out of memory."""
        self.process.kill()
        self.process.wait()


@contextmanager
def serving(
    folder: Path, program: Sequence[str] = PROGRAM, environment: Mapping[str, str] = NO_CHANGES
) -> Iterator[Server]:
    """A server that is killed in the end, whatever happens."""
    server = Server(folder, program, environment)
    try:
        yield server
    finally:
        server.kill()


class Trial:
    """One folder that is served, loaded and killed, again and again."""

    def __init__(self, folder: Path, rng: random.Random, program: Sequence[str] = PROGRAM) -> None:
        self.folder, self.rng, self.program = folder, rng, program
        self.ledger = Ledger()
        self.mirrors: dict[str, Mirror] = {}

    def round(self, number: int) -> list[str]:
        """Start the server, compare what it has with the books, load it, kill it."""
        with serving(self.folder, self.program) as server:
            wrong = self.compare(server)
            names = list(self.mirrors)
            self.rng.shuffle(names)
            clients = [
                Client(
                    server, f"r{number}c{i}",
                    {name: self.mirrors[name] for name in names[i::CLIENTS]},
                    self.rng.randrange(2**30),
                )
                for i in range(CLIENTS)
            ]  # fmt: skip
            for client in clients:
                client.start()
            time.sleep(0.05 + self.rng.random() ** 2 * LONGEST_S)
            if server.process.poll() is not None:
                wrong.append(f"the server ended by itself with {server.process.returncode}")
        self.mirrors = {}
        for client in clients:
            client.join()
            wrong += client.wrong
            self.mirrors |= client.mirrors
            for line in client.lines:
                self.ledger.take(line)
        log = server.log.read_text()
        return wrong + [
            line for line in log.splitlines() if "Traceback" in line or "damaged" in line
        ]

    def compare(self, server: Server) -> list[str]:
        """Compare every state with the books; go on with what is there."""
        wrong = []
        for name in self.ledger.live():
            status, answer = server.ask("GET", f"/states/{name}/export")
            seen = digest_of(answer) if status == 200 else None
            judged = self.ledger.settle(name, seen)
            if judged is not None:
                wrong.append(f"{name} {judged}")
            if seen is None:
                del self.mirrors[name]
            else:
                self.mirrors[name].settle(seen)
        listed = server.ask("GET", "/states?limit=1000")[1]["states"]
        return wrong + self.ledger.strangers(state["state_id"] for state in listed)

    def look(self) -> list[str]:
        """Start the server once more and compare."""
        with serving(self.folder, self.program) as server:
            return self.compare(server)
