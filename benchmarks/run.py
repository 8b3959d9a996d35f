"""``make bench``: every measured ratio, interleaved with its peer in one run.

Writes docs/benchmarks.md with a picture, and the numbers behind it to docs/benchmarks.json; the
last line printed is ``worst ratio R (cell)``.  Ratios above 1 mean cacher is faster.  ``--reps``
sets the repetitions a median is taken over; ``--parts`` measures only these parts again and keeps
the other numbers.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import models
import report
from forks import measure_forks
from processes import Process
from startup import measure_startup

ROOT = Path(__file__).resolve().parent.parent
CELLS = {
    "prefill 512": {"op": "prefill", "tokens": 512, "batch": 1},
    "decode B1": {"op": "decode", "tokens": 128, "batch": 1},
    "decode B8": {"op": "decode", "tokens": 128, "batch": 8},
    "decode B32": {"op": "decode", "tokens": 128, "batch": 32},
    "beam 4": {"op": "beam", "tokens": 64, "batch": 4},
}


class Engine(Process):
    """A benchmarks/worker.py process."""

    def __init__(self, kind: str, name: str, threads: int) -> None:
        worker = ROOT / "benchmarks/worker.py"
        arguments = (kind, models.folder(name), str(threads), str(models.VOCAB[name]))
        super().__init__(sys.executable, worker, *arguments)
        self.read()

    def seconds(self, cell: dict) -> float:
        return float(self.ask(json.dumps(cell)))


def measure_model(
    name: str, threads: int, reps: int, limits: Process
) -> tuple[list[report.Row], report.Shares]:
    """Measure all cells of one model, engines taking turns within each repetition."""
    engines = {kind: Engine(kind, name, threads) for kind in ("cacher", "torch")}
    seconds: dict[tuple[str, str], list[float]] = {}
    bandwidth, peak = [], []
    for rep in range(reps + 1):
        for label, cell in CELLS.items():
            for kind, engine in engines.items():
                took = engine.seconds(cell)
                if rep > 0:  # the first round warms up
                    seconds.setdefault((label, kind), []).append(took)
            if label in ("prefill 512", "decode B1"):
                gb_per_s, gflop_per_s = map(float, limits.ask(str(threads)).split())
                (peak if label == "prefill 512" else bandwidth).append(
                    gflop_per_s if label == "prefill 512" else gb_per_s
                )
        print(f"  {name}, {threads} threads: round {rep} of {reps}", file=sys.stderr, flush=True)
    for engine in engines.values():
        engine.close()
    median = {key: statistics.median(values) for key, values in seconds.items()}
    rows = []
    for label, cell in CELLS.items():
        produced = cell["tokens"] * (cell["batch"] if cell["op"] == "decode" else 1)
        ours, theirs = (produced / median[label, kind] for kind in ("cacher", "torch"))
        rows.append(report.Row(name, threads, label, ours, theirs))
    shares = report.Shares(
        name,
        threads,
        1e-9 * models.decode_bytes(name) * 128 / median["decode B1", "cacher"],
        statistics.median(bandwidth),
        1e-9 * models.prefill_flops(name, 512) / median["prefill 512", "cacher"],
        statistics.median(peak),
    )
    return rows, shares


def measure_kernels(threads: list[int]) -> list[str]:
    """Run the C benchmark of matrix products against OpenBLAS; returns the lines it printed."""
    program = ROOT / "build/bench_kernels"
    env = os.environ | {"OPENBLAS_THREAD_TIMEOUT": "20"}  # idle threads sleep after 2^20 cycles
    runs = [[str(program), str(count), "best", "1", "128"] for count in threads]
    printed = [subprocess.check_output(run, env=env, text=True) for run in runs]
    return [line for text in printed for line in text.splitlines()]


def measure_models(threads: list[int], reps: int) -> dict:
    """Measure every model, at each number of threads, against its peer and the machine's limits."""
    limits = Process(ROOT / "build/bench_limits")
    rows: list[report.Row] = []
    shares: list[report.Shares] = []
    for count in threads:
        for name in models.NAMES:
            found, share = measure_model(name, count, reps, limits)
            rows += found
            shares.append(share)
    limits.close()
    return {
        "reps": reps,
        "rows": [dataclasses.asdict(row) for row in rows],
        "shares": [dataclasses.asdict(share) for share in shares],
    }


def main() -> None:
    """Measure everything and write the report."""
    threads = [1, min(2, os.cpu_count() or 1)]
    measures: dict[str, Callable[[], dict]] = {
        "models": lambda: measure_models(threads, options.reps),
        "startup": lambda: measure_startup(models.folder(models.GPT2)),
        "forks": lambda: {"rows": measure_forks()},
        "kernels": lambda: {"lines": measure_kernels(threads)},
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--parts", nargs="+", choices=measures, default=list(measures))
    options = parser.parse_args()
    for name in models.NAMES:
        models.folder(name)
    measured = report.read()
    for part in options.parts:
        measured[part] = {"measured": str(date.today()), **measures[part]()}
    worst = report.write(measured)
    print(f"worst ratio {worst.ratio:.2f} ({worst.cell})")


if __name__ == "__main__":
    main()
