"""Changes the entries of a store until it is killed, and says before and after what it does.

python -m tests.stores.entry_worker WHERE SEED FIRST BOUND

Lines of JSON: {"will": [ids put], "gone": [ids removed]} for every decision, {"did": the same}.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence

from cacher.semantic.entry import Entry
from cacher.semantic.store import Changes, Record, Write, open_store
from tests.stores.mirror import Mirror


def entry(n: int) -> Record:
    """The n-th of all entries: every bit follows from the number."""
    rng = random.Random(n)
    text = f"text {rng.randrange(60)}"
    response = f"{n} " + "word " * rng.randrange(300)
    return Record(
        Entry(f"e-{n:016x}", text, response, n / 8, "worker", "minilm"), rng.randbytes(4 * 96)
    )


def say(verb: str, put: Sequence[Record], gone: Sequence[str]) -> None:
    line = {verb: [each.entry.entry_id for each in put], "gone": list(gone)}
    print(json.dumps(line), flush=True)


def work(where: str, seed: int, first: int, bound: int) -> None:
    store, rng = open_store(where), random.Random(seed)
    assert store is not None
    mirror = Mirror(store, bound=bound)
    while True:
        n = rng.choice([1, 1, 2, 10, 40])
        fresh = {each.entry.query: each for each in map(entry, range(first, first + n))}
        first += n

        def decide(changes: Changes, put: dict[str, Record] = fresh) -> Write:
            mirror.apply(changes)
            same = [i for i, each in mirror.records.items() if each.entry.query in put]
            others = [i for i in mirror.records if i not in set(same)]
            surplus = max(0, len(others) + len(put) - bound)
            say("will", list(put.values()), same + others[:surplus])
            return Write(list(put.values()), others[:surplus])

        changes = store.write("t", decide, mirror.revision)
        say("did", changes.put, changes.removed)
        mirror.apply(changes)
        assert len(mirror.records) <= bound


if __name__ == "__main__":
    work(sys.argv[1], *map(int, sys.argv[2:]))
