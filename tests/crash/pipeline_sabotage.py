"""Runs the requests with a cache that breaks a promise, to see that the crash test notices.

python -m tests.crash.pipeline_sabotage WAY FOLDER
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Sequence

from cacher.pipelines import Cache
from cacher.pipelines.store import Add
from tests.crash.pipeline_worker import run

LATE_S = 0.05


def store_later() -> None:
    """Samples are said to be stored a moment before they are."""
    honest = Cache.add

    def add(self: Cache, adds: Sequence[Add]) -> list[list[int]]:
        threading.Timer(LATE_S, honest, (self, adds)).start()
        return [list(range(start, start + len(samples))) for _, start, samples in adds]

    Cache.add = add  # type: ignore[method-assign]


def swap_places() -> None:
    """Two samples that are stored together have each other's index."""
    honest = Cache.add

    def add(self: Cache, adds: Sequence[Add]) -> list[list[int]]:
        return honest(self, [(key, start, samples[::-1]) for key, start, samples in adds])

    Cache.add = add  # type: ignore[method-assign]


WAYS: dict[str, Callable[[], None]] = {way.__name__: way for way in (store_later, swap_places)}


if __name__ == "__main__":
    WAYS[sys.argv[1]]()
    asyncio.run(run(Cache(sys.argv[2])))
