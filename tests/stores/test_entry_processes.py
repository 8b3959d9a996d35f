"""Processes that share a store are killed as they write: nothing acknowledged is lost or torn."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time

import pytest

from cacher.semantic.store import EntryStore
from tests.stores.conftest import OpenEntries
from tests.stores.entry_worker import entry
from tests.stores.mirror import contents

N_WORKERS, N_KILLS, BOUND = 4, 12, 45


class Worker:
    """A process, and what it said."""

    def __init__(self, where: str, number: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.stores.entry_worker", where, str(number),
             str(number * 10**6), str(BOUND)],
            stdout=subprocess.PIPE,
        )  # fmt: skip
        self.lines: list[bytes] = []
        self.listener = threading.Thread(target=self.listen)
        self.listener.start()

    def listen(self) -> None:
        assert self.process.stdout is not None
        self.lines += self.process.stdout

    def kill(self) -> None:
        ended = self.process.poll()
        self.process.kill()
        self.process.wait()
        self.listener.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        assert ended is None, "it ended by itself"


class Books:
    """What the workers acknowledged, and the one write of each that was cut off."""

    def __init__(self) -> None:
        self.put, self.gone, self.n_done = set[str](), set[str](), 0
        self.open: list[tuple[set[str], set[str]]] = []

    def take(self, lines: list[bytes]) -> None:
        pending: tuple[set[str], set[str]] | None = None
        for line in lines:
            if not line.endswith(b"\n"):
                break  # cut off
            said = json.loads(line)
            if "will" in said:
                pending = set(said["will"]), set(said["gone"])
            else:
                self.n_done += 1
                self.put |= set(said["did"])
                self.gone |= set(said["gone"])
                pending = None
        if pending is not None:
            self.open.append(pending)

    def judge(self, store: EntryStore) -> list[str]:
        """Return what is wrong."""
        found = contents(store, "t")
        there = {each.entry.entry_id for each in found}
        wrong = [
            f"torn: {each.entry.entry_id}"
            for each in found
            if each != entry(int(each.entry.entry_id[2:], 16))
        ]
        left = list(self.open)
        while True:  # a write that was cut off, and done, shows in what is there or was removed
            done = [each for each in left if each[0] & (there | self.gone)]
            if not done:
                break
            for put, gone in done:
                left.remove((put, gone))
                self.put |= put
                self.gone |= gone
        wrong += [f"lost: {entry_id}" for entry_id in sorted(self.put - self.gone - there)]
        wrong += [f"back: {entry_id}" for entry_id in sorted(there & self.gone)]
        wrong += [f"strange: {entry_id}" for entry_id in sorted(there - self.put)]
        if len(found) > BOUND:
            wrong.append(f"{len(found)} entries")
        return wrong


def run(where: str, store: EntryStore, n_kills: int, seed: int) -> Books:
    rng, books, number = random.Random(seed), Books(), N_WORKERS
    workers = [Worker(where, i) for i in range(N_WORKERS)]
    try:
        for _ in range(n_kills):
            which = rng.randrange(N_WORKERS)
            while len(workers[which].lines) < 8:
                assert workers[which].process.poll() is None
                time.sleep(0.01)
            time.sleep(rng.random() ** 2 * 0.3)
            assert len(contents(store, "t")) <= BOUND
            workers[which].kill()
            books.take(workers[which].lines)
            number += 1
            workers[which] = Worker(where, number)
    finally:
        for worker in workers:
            worker.kill()
            books.take(worker.lines)
    return books


def test_nothing_acknowledged_is_lost(open_entries: OpenEntries, entries_at: str) -> None:
    store = open_entries()
    books = run(entries_at, store, N_KILLS, 1)
    assert books.judge(open_entries()) == []
    assert books.n_done > N_KILLS


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_in_many_crashes(
    open_entries: OpenEntries, entries_at: str
) -> None:
    store = open_entries()
    books = run(entries_at, store, 60, 2)
    assert books.judge(open_entries()) == []
