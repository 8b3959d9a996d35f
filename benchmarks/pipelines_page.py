"""What pipelines.py measures, and docs/benchmarks-pipelines.md from it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from cells import Cell, cell_table
from facts import Fact, fact_table
from report import DOCS, machine, picture

TEXT = """
Requests a second of one process, everything asked for at once; medians of rounds in which both take
turns. A request is a prompt in an `OnlineAPI`, an answer has 1 KB and is in SQLite when its request
returns, with `synchronous=NORMAL` on both sides: it outlives the process. The model answers at
once, but for the one that takes 5 ms for a batch, which is in a `LocalAPI` with a timeout of 0.1 s.
Of the duplicates each prompt is asked for ten times: by ten namespaces, which share one sample, or
by one, for which ten are bought. The worst ratio comes first.
"""


def write(cells: Sequence[Cell], facts: Sequence[Fact], peer: str) -> None:
    """Write docs/benchmarks-pipelines.md and .svg."""
    rows = sorted(cells, key=lambda cell: cell.ratio)
    title = f"Requests a second as a multiple of {peer} (same machine, same run; logarithmic)"
    (DOCS / "benchmarks-pipelines.svg").write_text(picture(rows, title, left=400, least=0.5))
    page = [
        "# Benchmarks of request pipelines",
        "",
        f"Written by `make bench-pipelines` on {date.today()}. Machine: {machine()}. Peer: {peer}.",
        TEXT,
        "![Ratios](benchmarks-pipelines.svg)",
        "",
        *cell_table(cells, "cacher", "cachesaver"),
        "",
        "## What is no rate",
        "",
        *fact_table(facts, "cachesaver"),
        "",
    ]
    (DOCS / "benchmarks-pipelines.md").write_text("\n".join(page))
