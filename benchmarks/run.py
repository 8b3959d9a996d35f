"""``make bench-peers``, speed beside other engines; ``make bench``, the whole page.

Writes docs/benchmarks.md with a picture, and the numbers behind it to docs/benchmarks.json.
``--parts`` measures only these and keeps the other numbers; the last line printed is
``worst ratio R (cell)``, the lowest of what was measured.  Ratios above 1 mean cacher is faster.
``--rounds`` sets how many a median is taken over.  ``--dry`` prints the page and writes nothing;
with ``--quick``, which measures a model, a thread and two rounds, it is only good for a look.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import models
import peers
import report
from forks import measure_forks
from startup import measure_startup
from tracing import measure_tracing

ROOT = Path(__file__).resolve().parent.parent


def measure_kernels(threads: list[int]) -> list[str]:
    """Run the C benchmark of matrix products against OpenBLAS; returns the lines it printed."""
    program = ROOT / "build/bench_kernels"
    env = os.environ | {"OPENBLAS_THREAD_TIMEOUT": "20"}  # idle threads sleep after 2^20 cycles
    runs = [[str(program), str(count), "best", "1", "128"] for count in threads]
    printed = [subprocess.check_output(run, env=env, text=True) for run in runs]
    return [line for text in printed for line in text.splitlines()]


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    measures: dict[str, Callable[[], dict]] = {
        "peers": lambda: peers.measure_peers(plan),
        "loads": lambda: peers.measure_loads(plan),
        "tracing": lambda: measure_tracing(plan.names, plan.threads, plan.rounds),
        "startup": lambda: measure_startup(models.folder(models.GPT2)),
        "forks": lambda: {"rows": measure_forks()},
        "kernels": lambda: {"lines": measure_kernels(plan.threads)},
    }
    parser.add_argument("--parts", nargs="+", choices=measures, default=list(measures))
    parser.add_argument("--formats", nargs="+", choices=peers.FORMATS, default=list(peers.FORMATS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="one model, one thread, two rounds")
    parser.add_argument("--dry", action="store_true", help="write nothing into docs/")
    options = parser.parse_args()
    threads = [1, min(2, os.cpu_count() or 1)]
    plan = peers.Plan(models.NAMES, threads, options.formats, options.rounds)
    if options.quick:
        plan = peers.Plan(models.NAMES[:1], threads[:1], options.formats, 2)
    if {"peers", "loads"} & {*options.parts}:
        peers.convert(plan.names)
    measured = report.read()
    for part in options.parts:
        measured[part] = {"measured": str(date.today()), **measures[part]()}
    if options.dry:
        print("\n".join(report.page(measured)))
    else:
        report.write(measured)
    if worst := min(report.ratios(measured, options.parts), default=None):
        print(f"worst ratio {worst[0]:.2f} ({worst[1]})")


if __name__ == "__main__":
    main()
