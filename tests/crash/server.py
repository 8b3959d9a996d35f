"""The HTTP server under load: clients that change states of their own, until it is killed."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.crash.ledger import UNKNOWN, Ledger

CLIENTS = 6
LONGEST_S = 1.5  # from the first request to the kill
WORDS = (" the fox", " and then", ".", " a king", " was", " no")


class Server:
    """A server process over a folder of states."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = folder / "server.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cacher", "serve", "--port", str(self.port)],
                env={
                    **os.environ, "CACHER_CACHE_DIR": str(folder / "states"),
                    "CACHER_OFFLINE": "True", "CACHER_MODEL_NAME": "tales",
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

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Send a request and return status and JSON; OSError where the server went away."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        except (http.client.HTTPException, ValueError) as error:  # cut off in the middle
            raise ConnectionError(str(error)) from None
        finally:
            connection.close()

    def kill(self) -> None:
        """End it as a power failure would."""
        self.process.kill()
        self.process.wait()


class Client(threading.Thread):
    """Changes states of its own, one request after another, and keeps the books."""

    def __init__(
        self, server: Server, ledger: Ledger, name: str, known: list[str], seed: int
    ) -> None:
        super().__init__()
        self.server, self.ledger, self.me, self.known = server, ledger, name, known
        self.rng = random.Random(seed)
        self.lines: list[bytes] = []
        self.wrong: list[str] = []
        self.made = 0

    def run(self) -> None:
        try:
            while True:
                self.step()
        except OSError:
            return  # the server was killed

    def step(self) -> None:
        """Make, change or delete a state."""
        rng = self.rng
        if len(self.known) < 2 or (rng.random() < 0.15 and len(self.known) < 5):
            self.made += 1
            name = f"{self.me}-{self.made}"
            body = {"model_id": "tales", "text": "Once upon a time", "state_id": name}
            if self.tell(name, 1, "POST", "/states", body) is not None:
                self.known.append(name)
            return
        name = rng.choice(self.known)
        if rng.random() < 0.08:
            self.remove(name)
            return
        status, state = self.server.ask("GET", f"/states/{name}")
        if status != 200:
            self.wrong.append(f"{name} lost: {status} {state}")
            self.known.remove(name)
            return
        revision, path = state["revision"], f"/states/{name}"
        kind = rng.randrange(5)
        if kind == 0 and state["token_count"] < 300:
            self.tell(name, revision + 1, "PATCH", path, {"append_text": rng.choice(WORDS)})
        elif kind == 1:
            at = rng.randrange(1, revision + 1)
            self.tell(name, revision + 1, "POST", f"{path}/rollback", {"revision": at})
        elif kind == 2:
            config = {"state_id": name, "config": {"temperature": rng.random()}}
            self.tell(name, revision + 1, "POST", "/states/config", config)
        elif state["token_count"] < 300:
            body = {"state_id": name, "max_tokens": rng.randrange(1, 6)}
            self.tell(name, revision + 1, "POST", "/generate/token", body)

    def tell(self, name: str, revision: int, method: str, path: str, body: object) -> object:
        """Ask for a change; returns the answer where it was made."""
        self.note("will", name, revision=revision, digest=UNKNOWN)
        status, answer = self.server.ask(method, path, body)
        if status == 200:
            whole = "revision" in answer
            seen = digest_of(answer) if whole else UNKNOWN
            self.note("did", name, revision=revision, digest=seen)
            return answer
        if status != 400 or answer["code"] != "revision_not_available":
            self.wrong.append(f"{method} {path}: {status} {answer}")
        return None

    def remove(self, name: str) -> None:
        self.known.remove(name)
        self.note("will", name, gone=True)
        status, answer = self.server.ask("DELETE", f"/states/{name}")
        if status == 200:
            self.note("did", name, gone=True)
        else:
            self.wrong.append(f"DELETE {name}: {status} {answer}")

    def note(self, verb: str, name: str, **what: object) -> None:
        self.lines.append(json.dumps({verb: name, **what}).encode() + b"\n")


def digest_of(answer: dict[str, Any]) -> str:
    """Return a hash of a state as a client sees it."""
    return hashlib.sha256(json.dumps(answer, sort_keys=True).encode()).hexdigest()


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A server that is killed in the end, whatever happens."""
    server = Server(folder)
    try:
        yield server
    finally:
        server.kill()


def round_of(folder: Path, ledger: Ledger, number: int, rng: random.Random) -> list[str]:
    """Start the server, compare what it has with the books, load it, kill it."""
    with serving(folder) as server:
        wrong = look(server, ledger)
        names = ledger.live()
        rng.shuffle(names)
        clients = [
            Client(server, ledger, f"r{number}c{i}", names[i::CLIENTS][:4], rng.randrange(2**30))
            for i in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        time.sleep(0.05 + rng.random() ** 2 * LONGEST_S)
        if server.process.poll() is not None:
            wrong.append(f"the server ended by itself with {server.process.returncode}")
    for client in clients:
        client.join()
        wrong += client.wrong
        for line in client.lines:
            ledger.take(line)
    log = server.log.read_text()
    wrong += [line for line in log.splitlines() if "Traceback" in line or "damaged" in line]
    return [f"round {number}: {line}" for line in wrong]


def look(server: Server, ledger: Ledger) -> list[str]:
    """Compare every state with the books."""
    wrong = []
    for name in ledger.live():
        status, answer = server.ask("GET", f"/states/{name}")
        found = (answer["revision"], digest_of(answer)) if status == 200 else None
        judged = ledger.settle(name, found)
        if judged is not None:
            wrong.append(f"{name} {judged}")
    return wrong


def last_look(folder: Path, ledger: Ledger) -> list[str]:
    """Start the server once more and compare."""
    with serving(folder) as server:
        return look(server, ledger)
