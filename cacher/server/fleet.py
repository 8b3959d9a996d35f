"""What the workers of one server count, added up: whichever is asked speaks for all.

Each worker writes its counters to a file of a folder that they share, a second apart, and the one
that is asked adds those of the others to its own.  What a worker counted stays when it dies; what
it had (requests running, pages) does not.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

PUBLISH_S = 1.0
CREATED = "_created"  # moments, which have no sum

Family = list[Any]  # name, documentation, type, and samples: name, labels, value


class Fleet(Collector):
    """The counters of all workers.

    Args:
        own: What this worker counts.
        folder: Where the workers tell each other.
        same: Gauges of what they share: the largest is shown, not the sum.
    """

    def __init__(self, own: Collector, folder: str, same: frozenset[str] = frozenset()) -> None:
        self._own = own
        self._same = same
        self._folder = Path(folder)
        self._file = self._folder / f"{os.getpid()}.json"

    async def publish(self) -> None:
        """Tell the others, again and again until cancelled."""
        while True:
            await asyncio.to_thread(self.tell)
            await asyncio.sleep(PUBLISH_S)

    def tell(self) -> None:
        """Write what this worker counts where the others read it."""
        written = self._file.with_suffix(".new")
        written.write_bytes(orjson.dumps(_families(self._own)))
        written.replace(self._file)

    def collect(self) -> Iterator[Metric]:
        """Yield the sums."""
        yield from _summed([_families(self._own), *self._others()], self._same)

    def _others(self) -> Iterator[list[Family]]:
        for file in sorted(self._folder.glob("*.json")):
            if file != self._file:
                families: list[Family] = orjson.loads(file.read_bytes())
                alive = _is_alive(int(file.stem))
                yield [family for family in families if alive or family[2] != "gauge"]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _families(own: Collector) -> list[Family]:
    return [
        [
            family.name, family.documentation, family.type,
            [[s.name, s.labels, s.value] for s in family.samples if not s.name.endswith(CREATED)],
        ]
        for family in own.collect()
    ]  # fmt: skip


def _summed(workers: Iterable[list[Family]], same: frozenset[str]) -> Iterator[Metric]:
    metrics: dict[str, tuple[str, str]] = {}
    sums: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for families in workers:
        for name, documentation, kind, samples in families:
            metrics[name] = documentation, kind
            known = sums.setdefault(name, {})
            for sample, labels, value in samples:
                key = sample, tuple(labels.items())
                before = known.get(key, 0.0)
                known[key] = max(before, value) if name in same else before + value
    for name, (documentation, kind) in metrics.items():
        metric = Metric(name, documentation, kind)
        for (sample, labels), value in sums[name].items():
            metric.add_sample(sample, dict(labels), value)
        yield metric
