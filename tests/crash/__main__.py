"""Kill with -9 whoever changes states: nothing acknowledged is lost, nothing is torn.

    python -m tests.crash store 1000      processes that use a store
    python -m tests.crash server 1000     the HTTP server, under load
    python -m tests.crash pipelines 500   runs of 2,000 requests through a pipeline over a cache

The last line is ``crashes 1000 acknowledged 48211 lost 0 torn 0``.  The line before says how many
changes the kills left without an answer, and how many of these had been done.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from tests.crash import pipelines, processes, server

Trial = processes.Trial | server.Trial | pipelines.Trial
KINDS: dict[str, Callable[[Path, random.Random], Trial]] = {
    "store": processes.Trial,
    "server": server.Trial,
    "pipelines": pipelines.Trial,
}


def main(make: Callable[[Path, random.Random], Trial], count: int, seed: int | None = None) -> int:
    """Run that many rounds on one folder; returns how many things were wrong."""
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        trial = make(Path(folder), random.Random(seed))
        for number in tqdm(range(1, count + 1), unit="crash", disable=None):
            wrong += [f"round {number}: {found}" for found in trial.round(number)]
        wrong += trial.look()
    print(*wrong, sep="\n", end="\n" * bool(wrong))
    torn = sum("torn" in line for line in wrong)
    books = trial.ledger
    print(f"unanswered {books.unanswered}, of which done {books.done}")
    print(f"crashes {count} acknowledged {books.acknowledged} lost {len(wrong) - torn} torn {torn}")
    return len(wrong)


if __name__ == "__main__":
    sys.exit(main(KINDS[sys.argv[1]], int(sys.argv[2])) > 0)
