"""``make bench-pipelines``: request pipelines beside cachesaver, after which they are modelled.

Each is a process of sample_caches.py, and in every round they take turns at each cell.  The ratio
is our median of requests a second over theirs.  Beside it: how full batches are under backlog, what
a pipeline adds to a request when it is idle, that a cached answer waits for no batch, memory over
a million cached requests, and two processes on one cache.  Writes docs/benchmarks-pipelines.md with
a picture.  Names each bar that is missed; the last line is ``worst ratio R (cell)``.  ``--dry``
writes nothing, ``--scale 10`` asks for a tenth, which is only good for a look.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pipelines_page
from cells import Cell
from facts import Fact
from processes import Process

ROOT = Path(__file__).resolve().parent.parent
PEER = ROOT / "build" / "peer-pipelines" / "bin" / "python"
PYTHONS = {"cacher": sys.executable, "cachesaver": str(PEER)}
BATCHES = (32, 100)
RATES: tuple[dict[str, Any], ...] = (  # what is asked for, and how many requests
    {"op": "unique", "count": 10_000},
    {"op": "duplicates", "count": 10_000, "share": 10, "namespaces": 10},
    {"op": "duplicates", "count": 10_000, "share": 10, "namespaces": 1},
    {"op": "several", "count": 2_000, "n": 5},
    {"op": "slow", "count": 3_000},
)
BARS = {
    "new prompts": 5.0,
    "cached prompts": 10.0,
    "90% duplicates, 10 namespaces": 10.0,
    "90% duplicates, 1 namespace": 10.0,
    "5 samples of new prompts": 6.0,
    "a model of 5 ms a batch": 20.0,
}
OPEN_S = 1.0  # processes that begin together have opened their cache by then


class Driver(Process):
    """A process of sample_caches.py."""

    def __init__(self, package: str, folder: Path) -> None:
        script = ROOT / "benchmarks" / "sample_caches.py"
        super().__init__(PYTHONS[package], script, package, folder)
        self.read()
        self.package = package

    def run(self, op: str, **cell: Any) -> Any:
        return json.loads(self.ask(json.dumps({"op": op, **cell})))


@contextmanager
def drivers(*packages: str) -> Iterator[tuple[list[Driver], Path]]:
    """Give processes, and the folder on the disk that theirs are in."""
    (ROOT / "build" / "bench").mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=ROOT / "build" / "bench", prefix="pipelines-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        made = []
        for number, package in enumerate(packages):
            made.append(Driver(package, folder / str(number)))
            stack.callback(made[-1].close)
        yield made, folder


def measure_rates(rounds: int, scale: int) -> Iterator[Cell]:
    """Measure requests a second of both."""
    with drivers(*PYTHONS) as (both, _):
        for batch in BATCHES:
            for cell in RATES:
                cell = {**cell, "batch": batch, "count": cell["count"] // scale}
                found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
                for turn in range(rounds):
                    for driver in both if turn % 2 else reversed(both):
                        for what, rate in driver.run(**cell).items():
                            found[what][driver.package].append(rate)
                for what, rates in found.items():
                    ours, theirs = (statistics.median(rates[package]) for package in PYTHONS)
                    yield Cell(f"{what}, batch {batch}", "/s", ours, theirs, BARS[what])


def measure_waits(scale: int) -> Iterator[Fact]:
    """Measure how full batches are, and how long single requests take, beside the peer's."""
    with drivers(*PYTHONS) as (both, _):
        for batch in BATCHES:
            each = max(2, 20 // scale)
            full = [driver.run("fullness", batch=batch, each=each) for driver in both]
            yield Fact(f"fullness of batches of {batch} under backlog", "", *full, 0.95, True)
        ours, theirs = (driver.run("idle", count=1000 // scale, batch=32) for driver in both)
        for what in ours:
            for name, of, bar in (("median", 0.5, 1.0), ("99 %", 0.99, None)):
                times = (1e3 * quantile(found[what], of) for found in (ours, theirs))
                yield Fact(f"a {what} request in an idle pipeline, {name}", "ms", *times, bar)
        beside = [max(driver.run("beside", count=200, batch=32)) for driver in both]
        slowest = (1e3 * seconds for seconds in beside)
        yield Fact("a cached answer while a batch waits 2 s, slowest", "ms", *slowest, 100.0)


def quantile(seconds: list[float], of: float) -> float:
    return sorted(seconds)[min(len(seconds) - 1, int(of * len(seconds)))]


def measure_memory(scale: int) -> Iterator[Fact]:
    """Measure what a process keeps in memory over a million cached requests."""
    with drivers("cacher") as ((ours,), _):
        found = ours.run("memory", count=1_000_000 // scale, prompts=1000, batch=100)
    early, late = (1e-6 * size for size in found)
    yield Fact("memory after 10% of 1,000,000 cached requests", "MB", early)
    yield Fact("memory after all of them", "MB", late, None, 1.02 * early)


def measure_shared(scale: int) -> Iterator[Fact]:
    """Measure what two processes pay for the same prompts at the same time."""
    calls, differ = [], []
    for package in PYTHONS:
        with drivers(package, package) as (two, folder):
            at = time.time() + OPEN_S
            for driver in two:
                cell = {"place": str(folder / "shared"), "count": 1000 // scale, "batch": 32}
                driver.send(json.dumps({"op": "shared", **cell, "at": at}))
            first, second = (json.loads(driver.read()) for driver in two)
        texts = list(zip(first["texts"], second["texts"], strict=True))
        calls.append((first["calls"] + second["calls"]) / len(texts))
        differ.append(sum(one != other for one, other in texts))
    yield Fact("model calls for a prompt of two processes", "", *calls, 1.01)
    yield Fact("answers in which the two differ", "", *differ, 0.0)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=int, default=1, help="ask for this part of all")
    parser.add_argument("--dry", action="store_true", help="write nothing into docs/")
    options = parser.parse_args()
    cells: list[Cell] = []
    facts: list[Fact] = []
    for cell in measure_rates(options.rounds, options.scale):
        print(cell, flush=True)
        cells.append(cell)
    for measure in (measure_waits, measure_memory, measure_shared):
        for fact in measure(options.scale):
            print(fact, flush=True)
            facts.append(fact)
    if not options.dry:
        version = "import importlib.metadata as m; print('cachesaver', m.version('cachesaver'))"
        peer = subprocess.check_output([PEER, "-c", version], text=True).strip()
        pipelines_page.write(cells, facts, peer)
    for missed in [one for one in (*cells, *facts) if not one.is_met]:
        print(f"missed: {missed}")
    worst = min(cells, key=lambda cell: cell.ratio)
    print(f"worst ratio {worst.ratio:.2f} ({worst.cell})")


if __name__ == "__main__":
    main()
