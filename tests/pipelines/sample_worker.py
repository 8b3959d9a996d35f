"""Adds samples to a store and prints what it was told, until it is done or killed.

python -m tests.pipelines.sample_worker WHERE NAME COUNT
"""

from __future__ import annotations

import json
import sys

from cacher.pipelines.store import open_store

SHARED = "shared"


def work(where: str, name: str, count: int) -> None:
    store = open_store(where)
    for n in range(count):
        sample = [name, n, "x" * (n * 37 % 3000)]
        places = store.add([(SHARED, 0, [sample]), (f"{name} alone", n, [sample])])
        print(json.dumps([name, n, places[0][0]]), flush=True)
    print(json.dumps([sample[:2] for sample in store.samples(SHARED)]), flush=True)  # type: ignore[index]


if __name__ == "__main__":
    work(sys.argv[1], sys.argv[2], int(sys.argv[3]))
