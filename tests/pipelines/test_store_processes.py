"""Processes that share a store of samples, and are killed as they write."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterable

import pytest

from tests.pipelines.conftest import OpenSamples
from tests.pipelines.sample_worker import SHARED

N_WORKERS = 4


def start(where: str, name: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.pipelines.sample_worker", where, name, str(count)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_94_four_processes_add_to_one_key(open_samples: OpenSamples, samples_at: str) -> None:
    count = 100 if samples_at.startswith("redis:") else 500
    workers = [start(samples_at, str(n), count) for n in range(N_WORKERS)]
    said = [worker.communicate()[0].splitlines() for worker in workers]
    store = open_samples()
    found = store.samples(SHARED)
    order = [sample[:2] for sample in found]  # type: ignore[index]
    assert len(found) == N_WORKERS * count
    assert sorted(order) == [[str(n), i] for n in range(N_WORKERS) for i in range(count)]
    for lines in said:
        *told, seen = map(json.loads, lines)
        assert all(order[place] == [name, i] for name, i, place in told)
        assert seen == order[: len(seen)], "all of them see the same order"
    assert store.check() == []
    for n in range(N_WORKERS):
        assert [i for _, i, _ in store.samples(f"{n} alone")] == list(range(count))  # type: ignore[misc]


def crash(open_samples: OpenSamples, where: str, rounds: Iterable[int], seed: int) -> int:
    """Kill processes; returns how many samples had been acknowledged."""
    rng, told = random.Random(seed), {}
    for number in rounds:
        workers = [start(where, f"{number} {n}", 10**6) for n in range(2)]
        for worker in workers:
            assert worker.stdout is not None
            told[worker.stdout.readline()] = None
        time.sleep(rng.random() ** 2 * 0.3)
        for worker in workers:
            worker.kill()
            rest = worker.communicate()[0]
            told |= dict.fromkeys(line for line in rest.splitlines(True) if line.endswith("\n"))
        before = time.monotonic()
        store = open_samples()
        store.add([("another", 0, [number])])
        assert time.monotonic() - before < 5, "the dead block nobody"
        found = store.read([(SHARED, 0, 10**9)])[0]
        for line in told:
            name, n, place = json.loads(line)
            assert found[place] == [name, n, "x" * (n * 37 % 3000)]
        assert sorted(found) == list(range(len(found)))
        store.close()
    assert open_samples().check() == []
    return len(told)


def test_91_97_what_was_acknowledged_outlasts_a_kill(
    open_samples: OpenSamples, samples_at: str
) -> None:
    assert crash(open_samples, samples_at, range(2), 1) > 2


@pytest.mark.slow
def test_91_97_what_was_acknowledged_outlasts_many_kills(
    open_samples: OpenSamples, samples_at: str
) -> None:
    assert crash(open_samples, samples_at, range(50), 2) > 50
