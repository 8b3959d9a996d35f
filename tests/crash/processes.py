"""Processes that change states through a store: odd rounds have one that owns the folder, even ones
two that share it.
"""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import cacher
from cacher.document import from_document
from cacher.stores.base import Key
from cacher.stores.files import FileStore
from cacher.typed import parse
from tests.crash.ledger import Ledger, digest

LONGEST_S = 1.2  # from the first report to the kill


def round_of(folder: Path, ledger: Ledger, number: int, rng: random.Random) -> list[str]:
    """Start, kill, and look: returns what is wrong."""
    n_workers = 2 - number % 2
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.crash.worker", str(folder), str(rng.randrange(2**30)),
             f"r{number}w{i}", str(n_workers)],
            stdout=subprocess.PIPE,
        )
        for i in range(n_workers)
    ]  # fmt: skip
    reports: list[list[bytes]] = [[] for _ in workers]
    begun = threading.Event()

    def listen(worker: subprocess.Popen[bytes], heard: list[bytes]) -> None:
        assert worker.stdout is not None
        for line in worker.stdout:
            heard.append(line)
            begun.set()

    listeners = [
        threading.Thread(target=listen, args=pair) for pair in zip(workers, reports, strict=True)
    ]
    for listener in listeners:
        listener.start()
    begun.wait(60)
    time.sleep(rng.random() ** 2 * LONGEST_S)
    wrong = []
    for worker, listener in zip(workers, listeners, strict=True):
        if worker.poll() is not None:
            wrong.append(f"round {number}: a worker ended by itself with {worker.returncode}")
        worker.kill()
        worker.wait()
        listener.join()
        assert worker.stdout is not None
        worker.stdout.close()
    for heard in reports:
        for line in heard:
            ledger.take(line)
    return wrong + [f"round {number}: {found}" for found in look(folder, ledger)]


def look(folder: Path, ledger: Ledger) -> list[str]:
    """Open what the killed left behind and compare it with the books."""
    model = cacher.load("tales", threads=1)
    store = FileStore(folder)
    wrong = []
    there = 0
    for name in ledger.live():
        stored = store.load(Key("", name))
        found = None
        if stored is not None:
            there += 1
            try:
                state = from_document(model, parse(stored.data))
                found = (state.revision, digest(state))
            except cacher.CacherError as error:
                wrong.append(f"{name} torn: {error}")
                continue
        judged = ledger.settle(name, found)
        if judged is not None:
            wrong.append(f"{name} {judged}")
    if store.newest("", 1, 0)[1] != there:
        wrong.append(f"the list has {store.newest('', 1, 0)[1]} states, there are {there}")
    store.close()
    return wrong
