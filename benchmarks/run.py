"""``make bench``: every measured ratio, interleaved with its peer in one run.

Writes docs/benchmarks.md with a picture; the last line printed is ``worst ratio R (cell)``.
Ratios above 1 mean cacher is faster.  ``--reps`` sets the repetitions a median is taken over.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import models
import report
from startup import measure_startup

ROOT = Path(__file__).resolve().parent.parent
CELLS = {
    "prefill 512": {"op": "prefill", "tokens": 512, "batch": 1},
    "decode B1": {"op": "decode", "tokens": 128, "batch": 1},
    "decode B8": {"op": "decode", "tokens": 128, "batch": 8},
    "decode B32": {"op": "decode", "tokens": 128, "batch": 32},
    "beam 4": {"op": "beam", "tokens": 64, "batch": 4},
}
SETTLE_S = 0.1  # lets the other engine's spinning threads go to sleep


class Worker:
    """A benchmarks/worker.py process."""

    def __init__(self, kind: str, name: str, threads: int) -> None:
        command = [sys.executable, str(ROOT / "benchmarks/worker.py"), kind]
        command += [str(models.folder(name)), str(threads), str(models.VOCAB[name])]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self._answer()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a worker died: {self.process.args}")
        return line.strip()

    def run(self, cell: dict) -> float:
        """Seconds the cell took."""
        time.sleep(SETTLE_S)
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(cell) + "\n")
        return float(self._answer())

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def measure_model(name: str, threads: int, reps: int) -> list[report.Row]:
    """Measure all cells of one model, engines taking turns within each repetition."""
    engines = {kind: Worker(kind, name, threads) for kind in ("cacher", "torch")}
    seconds: dict[tuple[str, str], list[float]] = {}
    for rep in range(reps + 1):
        for label, cell in CELLS.items():
            for kind, engine in engines.items():
                took = engine.run(cell)
                if rep > 0:  # the first round warms up
                    seconds.setdefault((label, kind), []).append(took)
        print(f"  {name}, {threads} threads: round {rep} of {reps}", file=sys.stderr, flush=True)
    for engine in engines.values():
        engine.close()
    rows = []
    for label, cell in CELLS.items():
        produced = cell["tokens"] * (cell["batch"] if cell["op"] == "decode" else 1)
        ours, theirs = (
            statistics.median(seconds[label, kind]) for kind in ("cacher", "torch")
        )
        rows.append(report.Row(name, threads, label, produced / ours, produced / theirs))
    return rows


def measure_kernels() -> str:
    """Run the C benchmark of kernels, bandwidth and peak; its output is a Markdown section."""
    command = [str(ROOT / "build/bench_kernels")]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main() -> None:
    """Measure everything and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, min(2, os.cpu_count() or 1)])
    options = parser.parse_args()
    for name in models.NAMES:
        models.folder(name)
    rows = [
        row
        for threads in options.threads
        for name in models.NAMES
        for row in measure_model(name, threads, options.reps)
    ]
    startup = measure_startup(models.folder(models.GPT2))
    kernels = measure_kernels()
    limits = {key: float(value) for key, value in re.findall(r"^limit (\S+) ([\d.]+)$", kernels, re.M)}
    report.write(rows, startup, kernels, limits, options.reps)
    worst = min(rows, key=lambda row: row.ratio)
    print(f"worst ratio {worst.ratio:.2f} ({worst.cell})")


if __name__ == "__main__":
    main()
