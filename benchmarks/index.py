"""The index beside faiss's IndexFlatIP, and beside the bandwidth of memory.

    python benchmarks/index.py [--rounds 30]

Exact top-1 of one query (and of a block of 64) over 1,000, 10,000 and 100,000 unit rows of 768
numbers, on 1 and 2 threads, in turns with faiss (``pip install faiss-cpu``; left out when it is not
there) on the same threads. Rows lie around 1,000 topics; half of the queries are a row and some
noise, as a paraphrase is, half are of a topic only. Before times are taken, all answers are
compared. The share is of the bandwidth that reading memory has in the same minute (bench_limits),
for the bytes a search must read: the codes, and two numbers of each row. The last line is the worst
ratio to faiss of one query over 10,000 or 100,000 rows.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import cacher

try:
    import faiss
except ImportError:
    faiss = None

ROOT = Path(__file__).resolve().parent.parent
DIMENSION, TOPICS, BLOCK = 768, 1000, 64
SIZES = (1_000, 10_000, 100_000)
SCANNED = 8  # bytes of a row besides its codes


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def drawn(n: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and queries."""
    rng = np.random.default_rng(seed)
    topics = unit(rng.standard_normal((TOPICS, DIMENSION)))
    noise = 0.6 / np.sqrt(DIMENSION)

    def around(centres: np.ndarray, scale: float) -> np.ndarray:
        return unit(centres + scale * noise * rng.standard_normal(centres.shape))

    rows = around(topics[rng.integers(TOPICS, size=n)], 1.0)
    known = around(rows[rng.integers(n, size=BLOCK // 2)], 0.5)
    fresh = around(topics[rng.integers(TOPICS, size=BLOCK // 2)], 1.0)
    return rows, np.concatenate([known, fresh])


def in_turns(runs: dict[str, Callable[[], object]], rounds: int, repeat: int) -> dict[str, float]:
    """Return the median seconds of each run; a sample is `repeat` runs, one after another."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            began = time.perf_counter()
            for _ in range(repeat):
                run()
            times[name].append((time.perf_counter() - began) / repeat)
    return {name: statistics.median(values) for name, values in times.items()}


class Limits:
    """What reading memory can reach now: a process that is asked between the cells."""

    def __init__(self) -> None:
        subprocess.run(["make", "-s", "build/bench_limits"], cwd=ROOT, check=True)
        self._process = subprocess.Popen(
            [ROOT / "build/bench_limits"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def bandwidth(self, threads: int) -> float:
        """Return bytes per second."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{threads}\n")
        self._process.stdin.flush()
        return 1e9 * float(self._process.stdout.readline().split()[0])


def check(index: cacher.Index, flat: object, queries: np.ndarray) -> None:
    """The same best row, or one that faiss's float32 cannot tell from it."""
    scores, keys = flat.search(queries, 1)  # type: ignore[attr-defined]
    found = index.search_all(queries)
    differ = found.keys[:, 0] != keys[:, 0]
    if np.abs(found.scores[:, 0] - scores[:, 0])[differ].max(initial=0) > 1e-6:
        sys.exit("the answers differ")


def cell(n: int, threads: int, block: bool, rounds: int, limits: Limits) -> float | None:
    """Print a line; returns the ratio to faiss."""
    rows, queries = drawn(n)
    index = cacher.Index(DIMENSION, threads=threads)
    index.add(rows)
    turn = iter(range(10**9))

    def one() -> np.ndarray:
        return queries[next(turn) % BLOCK]

    runs: dict[str, Callable[[], object]] = {
        "cacher": (lambda: index.search_all(queries)) if block else (lambda: index.search(one()))
    }
    if faiss is not None:
        faiss.omp_set_num_threads(threads)
        flat = faiss.IndexFlatIP(DIMENSION)
        flat.add(rows)
        check(index, flat, queries)
        runs["faiss"] = lambda: flat.search(queries if block else one()[None], 1)
    repeat = max(1, (1 if block else BLOCK) * 10_000 // n)
    before = limits.bandwidth(threads)
    seconds = in_turns(runs, rounds, repeat)
    bandwidth = max(before, limits.bandwidth(threads))
    ours = seconds["cacher"]
    share = n * (DIMENSION + SCANNED) / ours / bandwidth
    what = f"{'block of 64' if block else 'one query'}, {n:,} rows, {threads} thread(s)"
    line = f"{what:40} {1e6 * ours:10.1f} us"
    if not block:
        line += f"  {100 * share:5.0f}% of {1e-9 * bandwidth:.1f} GB/s"
    ratio = None
    if "faiss" in seconds:
        ratio = seconds["faiss"] / ours
        line += f"  faiss {1e6 * seconds['faiss']:10.1f} us  ratio {ratio:.2f}"
    print(line, flush=True)
    return ratio


def main() -> None:
    """Print all cells."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    limits = Limits()
    ratios = {}
    for threads in (1, 2):
        for n in SIZES:
            for block in (False, True):
                ratio = cell(n, threads, block, rounds, limits)
                if ratio is not None and not block and n > SIZES[0]:
                    ratios[f"{n:,} rows, {threads} thread(s)"] = ratio
    if ratios:
        worst = min(ratios, key=lambda name: ratios[name])
        print(f"worst ratio {ratios[worst]:.2f} ({worst})")


if __name__ == "__main__":
    main()
