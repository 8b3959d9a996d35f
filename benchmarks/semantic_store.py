"""What it costs to keep the entries of the semantic cache.

    python benchmarks/semantic_store.py [--folder DIR] [--rounds 10]

Puts in batches of 1,000 and one by one, each on disk when it returns: `SemanticCache.put_all` and
`put` with vectors of 768 numbers that the caller has (embedding is measured elsewhere) and answers
of 400 characters, into SQLite and into a Redis server that puts every write on disk (left out where
there is none). Beside them what the disk takes to put a block of 4 KiB on disk, in turns with them:
a single put waits for at least that. Then what a new mirror pays for an entry that it reads, and
any mirror to learn that nothing has changed. The last line is the worst rate of batches as a ratio
to the bar, 5,000 entries a second.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cacher import SemanticCache
from cacher.semantic.store import open_store

DIMENSION, BATCH, SINGLES, ANSWER, IDLE = 768, 1000, 100, "word " * 80, 1000
BAR = 5000.0  # entries a second, in batches


class Given:
    """The embedder of vectors that the caller has."""

    name, dimension = "given", DIMENSION

    def embed(self, texts: object) -> np.ndarray:
        raise RuntimeError(f"every put brings its vector, and {texts!r} is to be embedded")


@dataclass(frozen=True)
class Cell:
    """The median over the rounds: seconds of one operation."""

    store: str
    what: str
    seconds: float
    bar: float | None = None  # operations a second

    @property
    def name(self) -> str:
        return f"{self.what}, {self.store}"

    @property
    def ratio(self) -> float | None:
        return None if self.bar is None else 1 / (self.seconds * self.bar)

    def __str__(self) -> str:
        line = f"{self.name:44} {1e6 * self.seconds:10.1f} us  {1 / self.seconds:10.0f} a second"
        return line if self.ratio is None else f"{line}  {self.ratio:.1f} times the bar"


@contextmanager
def redis_server(folder: Path) -> Iterator[str | None]:
    """Run a server that puts every write on disk; None where there is none."""
    program = shutil.which("redis-server")
    if program is None:
        yield None
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "",
         "--appendonly", "yes", "--appendfsync", "always"],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(500):
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.01)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.kill()
        process.wait()


def timed(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def put_blocks(folder: Path) -> float:
    """Return the seconds that one block takes to be on disk."""
    times = []
    with open(folder / "blocks", "ab", buffering=0) as file:
        for _ in range(20):
            times.append(timed(lambda: (file.write(b"\1" * 4096), os.fdatasync(file.fileno()))))
    return statistics.median(times)


def measured(name: str, where: str, folder: Path, rounds: int) -> Iterator[Cell]:
    """Measure one store: batches, single puts and blocks of the disk take turns."""
    rng = np.random.default_rng(1)
    times: dict[str, list[float]] = {"batch": [], "single": [], "block": []}
    with SemanticCache(
        Given(), similarity_threshold=0.85, max_cache_size=10**6, store=where
    ) as cache:
        for round_ in range(rounds):
            rows = rng.standard_normal((BATCH + SINGLES, DIMENSION)).astype(np.float32)
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            texts = [
                f"question {i} of round {round_}, as long as most are" for i in range(len(rows))
            ]
            pairs = [(text, ANSWER) for text in texts]
            times["batch"].append(
                timed(lambda p=pairs, v=rows: cache.put_all(p[:BATCH], vectors=v[:BATCH])) / BATCH
            )
            times["block"].append(put_blocks(folder))
            for pair, row in zip(pairs[BATCH:], rows[BATCH:], strict=True):
                times["single"].append(timed(lambda p=pair, v=row: cache.put(*p, vector=v)))
    found = {what: statistics.median(seconds) for what, seconds in times.items()}
    yield Cell(name, "put, in batches of 1,000", found["batch"], BAR)
    yield Cell(name, "put, one by one", found["single"])
    yield Cell(name, "a block of 4 KiB on disk, beside", found["block"])
    store = open_store(where)
    assert store is not None
    whole = timed(lambda: store.changes("", 0))
    changes = store.changes("", 0)
    assert len(changes.put) == rounds * (BATCH + SINGLES)
    yield Cell(name, "entry read by a new mirror", whole / len(changes.put))
    idle = [timed(lambda: store.changes("", changes.revision)) for _ in range(IDLE)]
    yield Cell(name, "nothing has changed", statistics.median(idle))
    store.close()


def measure(folder: Path, rounds: int = 10) -> Iterator[Cell]:
    """Measure all cells, one after another."""
    with ExitStack() as stack:
        yield from measured("SQLite", f"sqlite:{folder / 'entries.sqlite3'}", folder, rounds)
        url = stack.enter_context(redis_server(folder))
        if url is not None:
            yield from measured("Redis", url, folder, rounds)


def main() -> None:
    """Print all cells."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", help="on the disk to measure; a temporary one otherwise")
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args()
    worst: Cell | None = None
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        for cell in measure(Path(folder), given.rounds):
            print(cell, flush=True)
            if cell.ratio is not None and (worst is None or cell.ratio < (worst.ratio or 0)):
                worst = cell
    if worst is not None:
        print(f"worst ratio {worst.ratio:.2f} ({worst.name})")


if __name__ == "__main__":
    main()
