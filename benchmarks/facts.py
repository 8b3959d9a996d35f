"""What has a bar of its own, beside the ratios of a benchmark's page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


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


def fact_table(facts: Sequence[Fact], peer: str) -> list[str]:
    """Return the lines of a table."""
    return [
        f"| what | cacher | {peer} | bar | |",
        "| --- | ---: | ---: | --- | --- |",
        *(
            f"| {fact.what} | {fact.shown(fact.ours)} | {fact.shown(fact.theirs)} | {fact.limit} "
            f"| {fact.verdict} |"
            for fact in facts
        ),
    ]
