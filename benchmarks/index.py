"""The index beside faiss's IndexFlatIP, and beside the bandwidth of memory.

    python benchmarks/index.py [--rounds 15]

Exact top-1 of one query (and of a block of 64) over 1,000, 10,000 and 100,000 unit rows of 768
numbers, on 1 and 2 threads, in turns with faiss (``pip install faiss-cpu``; left out when it is not
there) on the same threads. Rows lie around 1,000 topics; half of the queries are a row and some
noise, as a paraphrase is, half are of a topic only. Before times are taken, all answers are
compared. Behind every round memory is read as fast as it comes (bench_limits); the share is of
that bandwidth, for the bytes of a scan: the codes, and two numbers of each row. What fits into a
cache (10,000 rows here) can exceed it, and so does a search whose rows are mostly ruled out by
their signs, an eighth of the codes: such is one for what has a near row, as all of these have. The
last line is the worst ratio to faiss of one query over 10,000 or 100,000 rows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from processes import Process

import cacher

try:
    import faiss
except ImportError:
    faiss = None

ROOT = Path(__file__).resolve().parent.parent
DIMENSION, TOPICS, BLOCK = 768, 1000, 64
SIZES = (1_000, 10_000, 100_000)
READ = DIMENSION + 8  # bytes of a row that a scan reads: codes, weight and error
TURN = 1_000_000  # rows times queries of a turn, at least


@dataclass(frozen=True)
class Cell:
    """Medians over the rounds: seconds of a search, and bytes a second that memory gives."""

    rows: int
    queries: int
    threads: int
    ours: float
    theirs: float | None
    bandwidth: float

    @property
    def name(self) -> str:
        what = "one query" if self.queries == 1 else f"block of {self.queries}"
        return f"{what}, {self.rows:,} rows, {self.threads} thread{'s' * (self.threads > 1)}"

    @property
    def ratio(self) -> float | None:
        return self.theirs / self.ours if self.theirs else None

    @property
    def has_bar(self) -> bool:
        return self.queries == 1 and self.rows >= 10_000

    @property
    def share(self) -> float:
        """Of the bandwidth; means something for one query."""
        return self.rows * READ / self.ours / self.bandwidth

    def __str__(self) -> str:
        line = f"{self.name:40} {1e6 * self.ours:10.1f} us"
        if self.queries == 1:
            line += f"  {100 * self.share:5.0f}% of {1e-9 * self.bandwidth:.1f} GB/s"
        if self.theirs:
            line += f"  faiss {1e6 * self.theirs:10.1f} us  ratio {self.ratio:.2f}"
        return line


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


def check(index: cacher.Index, flat: object, queries: np.ndarray) -> None:
    """The same best row, or one that faiss's float32 cannot tell from it."""
    scores, keys = flat.search(queries, 1)  # type: ignore[attr-defined]
    found = index.search_all(queries)
    differ = found.keys[:, 0] != keys[:, 0]
    if np.abs(found.scores[:, 0] - scores[:, 0])[differ].max(initial=0) > 1e-6:
        sys.exit("the answers differ")


def measured(
    index: cacher.Index, flat: object, queries: np.ndarray, block: bool, threads: int, rounds: int,
    limits: Process,
) -> Cell:  # fmt: skip
    """Measure a cell: ours, faiss and memory take turns. A turn goes through all queries."""
    asked = [queries] if block else list(queries[:, None])
    runs: list[Callable[[np.ndarray], object]] = [
        index.search_all if block else lambda query: index.search(query[0])
    ]
    if flat is not None:
        runs.append(lambda query: flat.search(query, 1))  # type: ignore[attr-defined]
    repeat = max(1, TURN // (len(index) * BLOCK))
    times: list[list[float]] = [[] for _ in runs]
    memory = []
    for _ in range(rounds):
        for run, seconds in zip(runs, times, strict=True):
            began = time.perf_counter()
            for query in repeat * asked:
                run(query)
            seconds.append((time.perf_counter() - began) / (repeat * len(asked)))
        memory.append(1e9 * float(json.loads(limits.ask(str(threads)))["bandwidth"]))
    ours, *theirs = (statistics.median(seconds) for seconds in times)
    return Cell(
        len(index), BLOCK if block else 1, threads, ours, theirs[0] if theirs else None,
        statistics.median(memory),
    )  # fmt: skip


def measure(threads: tuple[int, ...] = (1, 2), rounds: int = 15) -> Iterator[Cell]:
    """Measure all cells, one after another."""
    subprocess.run(["make", "-s", "build/bench_limits"], cwd=ROOT, check=True, stdout=sys.stderr)
    with closing(Process(ROOT / "build/bench_limits")) as limits:
        for n_threads in threads:
            for n in SIZES:
                rows, queries = drawn(n)
                index, flat = cacher.Index(DIMENSION, threads=n_threads), None
                index.add(rows)
                if faiss is not None:
                    faiss.omp_set_num_threads(n_threads)
                    flat = faiss.IndexFlatIP(DIMENSION)
                    flat.add(rows)
                    check(index, flat, queries)
                for block in (False, True):
                    yield measured(index, flat, queries, block, n_threads, rounds, limits)


def main() -> None:
    """Print all cells."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    worst: Cell | None = None
    for cell in measure(rounds=parser.parse_args().rounds):
        print(cell, flush=True)
        if cell.ratio and cell.has_bar and (worst is None or cell.ratio < (worst.ratio or 0)):
            worst = cell
    if worst is not None:
        print(f"worst ratio {worst.ratio:.2f} ({worst.name})")


if __name__ == "__main__":
    main()
