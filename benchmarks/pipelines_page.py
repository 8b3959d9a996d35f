"""What pipelines.py measures, and docs/benchmarks-pipelines.md from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from report import DOCS, machine, picture

TEXT = """
Requests a second of one process, everything asked for at once; medians of rounds in which both take
turns. A request is a prompt in an `OnlineAPI`, an answer has 1 KB and is in SQLite when its request
returns, with `synchronous=NORMAL` on both sides: it outlives the process. The model answers at
once, but for the one that takes 5 ms for a batch, which is in a `LocalAPI` with a timeout of 0.1 s.
Of the duplicates each prompt is asked for ten times: by ten namespaces, which share one sample, or
by one, for which ten are bought. The worst ratio comes first.
"""


@dataclass(frozen=True)
class Cell:
    """Requests a second at a batch size: of ours, of the peer, and the bar for the ratio."""

    what: str
    batch: int
    ours: float
    theirs: float
    bar: float

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs

    @property
    def cell(self) -> str:
        return f"{self.what}, batch {self.batch}"

    @property
    def is_met(self) -> bool:
        return self.ratio >= self.bar

    @property
    def verdict(self) -> str:
        return "ok" if self.is_met else "missed"

    def __str__(self) -> str:
        rates = f"{self.ours:9,.0f} {self.theirs:9,.0f} a second"
        return f"{self.cell:52} {rates}  ratio {self.ratio:5.1f}  bar {self.bar:g} {self.verdict}"


@dataclass(frozen=True)
class Fact:
    """What has a bar of its own, a value that is not to be passed, or is shown without one."""

    what: str
    unit: str
    ours: float
    theirs: float | None = None
    bar: float | None = None
    is_least: bool = False  # the bar is the least value, not the most

    @property
    def cell(self) -> str:
        return self.what

    @property
    def is_met(self) -> bool:
        return self.bar is None or (
            self.ours >= self.bar if self.is_least else self.ours <= self.bar
        )

    @property
    def verdict(self) -> str:
        return "" if self.bar is None else "ok" if self.is_met else "missed"

    @property
    def limit(self) -> str:
        if self.bar is None:
            return ""
        return f"{'at least' if self.is_least else 'at most'} {self.bar:g} {self.unit}".strip()

    def shown(self, value: float | None) -> str:
        return "" if value is None else f"{value:.3f} {self.unit}".strip()

    def __str__(self) -> str:
        line = f"{self.what:52} {self.shown(self.ours):>12} {self.shown(self.theirs):>12}"
        return f"{line}  {self.limit} {self.verdict}".rstrip()


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
        "| cell | batch | cacher /s | cachesaver /s | ratio | bar | |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
        *(
            f"| {row.what} | {row.batch} | {row.ours:,.0f} | {row.theirs:,.0f} "
            f"| {row.ratio:.1f} | {row.bar:g} | {row.verdict} |"
            for row in rows
        ),
        "",
        "## What is no rate",
        "",
        "| what | cacher | cachesaver | bar | |",
        "| --- | ---: | ---: | --- | --- |",
        *(
            f"| {fact.what} | {fact.shown(fact.ours)} | {fact.shown(fact.theirs)} | {fact.limit} "
            f"| {fact.verdict} |"
            for fact in facts
        ),
        "",
    ]
    (DOCS / "benchmarks-pipelines.md").write_text("\n".join(page))
