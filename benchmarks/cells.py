"""A measurement of both, ours and a peer's: what benchmarks print, and lines of their pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """A measurement of both, and the bar for how many times better ours is."""

    what: str
    unit: str
    ours: float
    theirs: float
    bar: float
    is_rate: bool = True  # more is better

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs if self.is_rate else self.theirs / self.ours

    @property
    def cell(self) -> str:
        return self.what

    @property
    def is_met(self) -> bool:
        return self.ratio >= self.bar

    @property
    def verdict(self) -> str:
        return "ok" if self.is_met else "missed"

    def __str__(self) -> str:
        numbers = f"{self.ours:8,.1f} {self.theirs:8,.1f} {self.unit:5}"
        return f"{self.what:52} {numbers}  ratio {self.ratio:5.2f}  bar {self.bar:g} {self.verdict}"


def cell_table(cells: Sequence[Cell], ours: str, theirs: str) -> list[str]:
    """Return the lines of a table, the worst ratio first."""
    return [
        f"| cell | | {ours} | {theirs} | ratio | bar | |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- |",
        *(
            f"| {row.what} | {row.unit} | {row.ours:,.1f} | {row.theirs:,.1f} "
            f"| {row.ratio:.2f} | {row.bar:g} | {row.verdict} |"
            for row in sorted(cells, key=lambda row: row.ratio)
        ),
    ]
