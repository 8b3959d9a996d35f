"""What a fork costs: time, bytes of C and of Python, KV bytes that 10,000 live forks hold."""

from __future__ import annotations

import statistics
import time
import tracemalloc

import cacher
from cacher import _core

FORKS = 10_000


def measure_forks(lengths: tuple[int, ...] = (16, 250, 1000)) -> list[dict[str, float]]:
    """Return figures for a state of each length (model: tales)."""
    model = cacher.load("tales")
    rows = []
    for length in lengths:
        state = model.state([5 + i % 1000 for i in range(length)])
        state.forward()
        before_kv, before_core = model.stats.kv_bytes, _core.live_bytes()
        tracemalloc.start()
        traced = tracemalloc.get_traced_memory()[0]
        forks = [state.fork() for _ in range(FORKS)]
        per_fork = (
            tracemalloc.get_traced_memory()[0] - traced + _core.live_bytes() - before_core
        ) / FORKS
        tracemalloc.stop()
        kv = model.stats.kv_bytes / before_kv
        del forks
        rows.append(
            {"length": length, "us": _fork_seconds(state) * 1e6, "bytes": per_fork, "kv_ratio": kv}
        )
    return rows


def _fork_seconds(state: cacher.State, reps: int = 7) -> float:
    """Median over rounds of the mean seconds of a fork that is kept alive."""
    rounds = []
    for _ in range(reps):
        started = time.perf_counter()
        forks = [state.fork() for _ in range(FORKS)]
        rounds.append((time.perf_counter() - started) / FORKS)
        del forks
    return statistics.median(rounds)
