"""What a fork costs: time, bytes of C and of Python, KV bytes that 10,000 live forks hold."""

from __future__ import annotations

import statistics
import time
import tracemalloc

import cacher
from cacher import _core

FORKS = 10_000


def measure_states(lengths: tuple[int, ...] = (16, 250, 1000)) -> list[str]:
    """Return Markdown table rows, one per length of the state that is forked (model: tales)."""
    model = cacher.load("tales")
    lines = [
        "| length of the state | a fork takes | bytes per fork | KV bytes with 10,000 forks |",
        "| ---: | ---: | ---: | ---: |",
    ]
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
        lines.append(
            f"| {length} | {_fork_seconds(state) * 1e6:.2f} us | {per_fork:.0f} | {kv:.3f} x one |"
        )
    return lines


def _fork_seconds(state: cacher.State, reps: int = 7) -> float:
    """Median over rounds of the mean seconds of a fork that is kept alive."""
    rounds = []
    for _ in range(reps):
        started = time.perf_counter()
        forks = [state.fork() for _ in range(FORKS)]
        rounds.append((time.perf_counter() - started) / FORKS)
        del forks
    return statistics.median(rounds)


if __name__ == "__main__":
    print("\n".join(measure_states()))
