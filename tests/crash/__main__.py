"""Kill with -9 whoever changes states: nothing acknowledged is lost, nothing is torn.

    python -m tests.crash store 1000      processes that use a store
    python -m tests.crash server 1000     the HTTP server, under load

The last line is ``crashes 1000 acknowledged 48211 lost 0 torn 0``.
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

from tqdm import tqdm

from tests.crash import processes, server
from tests.crash.ledger import Ledger

KINDS = {
    "store": (processes.round_of, processes.look),
    "server": (server.round_of, server.last_look),
}


def main(kind: str, count: int, seed: int = 0) -> int:
    """Run that many rounds on one folder; returns how many things were wrong."""
    rng = random.Random(seed)
    ledger = Ledger()
    wrong: list[str] = []
    round_of, look = KINDS[kind]
    with tempfile.TemporaryDirectory() as folder:
        for number in tqdm(range(1, count + 1), unit="crash", disable=None):
            wrong += round_of(Path(folder), ledger, number, rng)
        wrong += look(Path(folder), ledger)
    print(*wrong, sep="\n", end="\n" * bool(wrong))
    torn = sum("torn" in line for line in wrong)
    print(
        f"crashes {count} acknowledged {ledger.acknowledged} lost {len(wrong) - torn} torn {torn}"
    )
    return len(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])) > 0)
