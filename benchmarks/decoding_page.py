"""docs/benchmarks-decoding.md and its numbers, from what decoding.py measures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date

from cells import Cell, cell_table
from report import DOCS, machine

NUMBERS = DOCS / "benchmarks-decoding.json"
TEXT = """
What guessing ahead (prompt lookup), beam search, several continuations and traces cost and bring:
decoding with each beside decoding without, with 2 threads, f32 unless it says otherwise. Both take
25 short turns, each with seeds of its own (7 or 8 longer ones for traces and for continuations one
by one); who begins changes; a ratio is the median of the turns' ratios, above 1 where "with" is
faster. What both make is compared bit by bit (a search makes something else).

- **Guessing**: prose is what the built-in model writes after beginnings of stories; random ids are
  continued by a GPT-2 of random weights. "Repeats" are texts that said the same several times.
  Each turn starts cold. Bar: 0.97, as guessing is on by default. `passes` and `computed` are
  forward passes and tokens that went through the model, with guesses over without: what noise
  cannot hide.
- **Beam width 8** beside sampling 8 continuations: a step may take 1.3 times as long (bar 0.77).
- **8 continuations** in one batch beside one after the other; **best of 8** beside all 8.
- **Traced**: attention rows of a middle layer, entropy and the likeliest tokens of each step beside
  plain decoding; bar 0.91, which is 10% more time (`benchmarks/tracing.py`).
"""


@dataclass(frozen=True)
class Turns(Cell):
    """A cell of many turns; its ratio is the median of theirs."""

    in_turns: float | None = None  # None: that of the two
    passes: float | None = None  # with over without; None: not counted
    computed: float | None = None  # tokens that went through the model, likewise

    @property
    def ratio(self) -> float:
        return super().ratio if self.in_turns is None else self.in_turns


def _counts(cells: Sequence[Turns]) -> list[str]:
    return [
        "| guessing | passes | computed | ratio |",
        "| --- | ---: | ---: | ---: |",
        *(
            f"| {cell.what} | {cell.passes:.3f} | {cell.computed:.3f} | {cell.ratio:.2f} |"
            for cell in cells
            if cell.passes is not None
        ),
    ]


def write(measured: Sequence[Turns]) -> None:
    """Write the page; cells that were not measured now stay as they are."""
    known = {}
    if NUMBERS.exists():
        known = {old["what"]: Turns(**old) for old in json.loads(NUMBERS.read_text())["cells"]}
    known |= {cell.what: cell for cell in measured}
    cells = list(known.values())
    NUMBERS.write_text(json.dumps({"cells": [asdict(cell) for cell in cells]}, indent=1) + "\n")
    page = [
        "# Benchmarks of decoding",
        "",
        f"Written by `make bench-decoding` on {date.today()}. Machine: {machine()}.",
        TEXT,
        *cell_table(cells, "with", "without"),
        "",
        *_counts(cells),
        "",
    ]
    (DOCS / "benchmarks-decoding.md").write_text("\n".join(page))
