"""Kill processes with -9 while they change states: nothing acknowledged is lost, nothing is torn.

    python -m tests.crash 1000      # last line: crashes 1000 acknowledged 48211 lost 0 torn 0

Odd rounds have one process that owns the folder, even ones two that share it.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from tqdm import tqdm

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


def main(count: int, seed: int = 0) -> int:
    """Run that many rounds on one folder; returns how many things were wrong."""
    rng = random.Random(seed)
    ledger = Ledger()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in tqdm(range(1, count + 1), unit="crash", disable=None):
            found = round_of(Path(folder), ledger, number, rng)
            wrong += found
            for line in found:
                print(line)
    torn = sum("torn" in line for line in wrong)
    print(
        f"crashes {count} acknowledged {ledger.acknowledged} lost {len(wrong) - torn} torn {torn}"
    )
    return len(wrong)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000) > 0)
