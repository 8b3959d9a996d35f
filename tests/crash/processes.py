"""Processes that change states through a store: odd rounds have one that owns the folder, even ones
two that share it.
"""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import cacher
from cacher.document import encode, from_document
from cacher.stores.base import Key
from cacher.stores.files import FileStore
from cacher.typed import parse
from tests.crash.ledger import Ledger, digest

LONGEST_S = 1.2  # from the first report to the kill
PROGRAM = ("-m", "tests.crash.worker")


class Trial:
    """One folder that processes change until they are killed, again and again."""

    def __init__(self, folder: Path, rng: random.Random, program: Sequence[str] = PROGRAM) -> None:
        self.folder, self.rng, self.program = folder, rng, program
        self.ledger = Ledger()

    def round(self, number: int) -> list[str]:
        """Start, kill, and look: returns what is wrong."""
        n_workers = 2 - number % 2
        workers = [
            subprocess.Popen(
                [sys.executable, *self.program, str(self.folder),
                 str(self.rng.randrange(2**30)), f"r{number}w{i}", str(n_workers)],
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
            threading.Thread(target=listen, args=pair)
            for pair in zip(workers, reports, strict=True)
        ]
        for listener in listeners:
            listener.start()
        begun.wait(60)
        time.sleep(self.rng.random() ** 2 * LONGEST_S)
        wrong = []
        for worker, listener in zip(workers, listeners, strict=True):
            if worker.poll() is not None:
                wrong.append(f"a worker ended by itself with {worker.returncode}")
            worker.kill()
            worker.wait()
            listener.join()
            assert worker.stdout is not None
            worker.stdout.close()
        for heard in reports:
            for line in heard:
                self.ledger.take(line)
        return wrong + self.look()

    def look(self) -> list[str]:
        """Open what the killed left behind and compare it with the books."""
        model = cacher.load("tales", threads=1)
        store = FileStore(self.folder)
        wrong = []
        for name in self.ledger.live():
            stored = store.load(Key("", name))
            seen = None if stored is None else digest(stored.data)
            judged = self.ledger.settle(name, seen)
            if judged is not None:
                wrong.append(f"{name} {judged}")
            if stored is None:
                continue
            try:
                whole = encode(from_document(model, parse(stored.data))) == stored.data
            except cacher.CacherError as error:
                wrong.append(f"{name} torn: {error}")
                continue
            if not whole:
                wrong.append(f"{name} torn: read and written once more, it is another")
        found, total = store.newest("", 1000, 0)
        if total != len(found):
            wrong.append(f"the list has {len(found)} states and counts {total}")
        wrong += self.ledger.strangers(summary.state_id for summary in found)
        wrong += self.ledger.strangers(path.stem for path in self.folder.glob("*.json"))
        store.close()
        return wrong
