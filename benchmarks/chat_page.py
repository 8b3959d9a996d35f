"""What chat.py measures, and docs/benchmarks-chat.md from it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from cells import Cell, cell_table
from facts import Fact, fact_table
from report import DOCS, machine, picture

TEXT = """
Both serve the same checkpoint on all cores: generation 2 with 21.5 million weights (T 512, C 384,
L 8, H 6, d_ff 1152, V 16000), random but the same, and the same SentencePiece file. The peer is the
documented service in torch behind FastAPI and uvicorn: each step is a plain pass over the window.
Streams have the documented defaults, temperature 0.9 and top-k 50, and the trace of one layer.
Servers take turns, each prompt is new, medians of rounds. The first event is timed from the
request on, tokens a second over the whole request. The next message of a chat comes with the whole
conversation, as clients send it: a prompt of 240, whose first event is not timed, an answer of 20
words and 20 words more. Before anything is timed, both must give the same greedy tokens and the
same first row of attention.

What gains least: the first event of a new prompt, where both have the same matrices to multiply and
ours leaves out little but the logits of all positions but the last; and what goes on past the
window, where each step reads the whole window anew on both sides, as documented.
"""


def write(cells: Sequence[Cell], beside: Cell, facts: Sequence[Fact], peer: str) -> None:
    """Write docs/benchmarks-chat.md and .svg.

    Args:
        cells: Beside the peer.
        beside: Of many streams beside one, both ours.
        facts: What else was measured.
        peer: The peer's name and version.
    """
    rows = sorted(cells, key=lambda cell: cell.ratio)
    title = f"How many times faster than the documented service in {peer} (same machine, same run)"
    (DOCS / "benchmarks-chat.svg").write_text(picture(rows, title, left=360))
    page = [
        "# Benchmarks of the chat service",
        "",
        f"Written by `make bench-chat` on {date.today()}. Machine: {machine()}. Peer: {peer}.",
        TEXT,
        "![Ratios](benchmarks-chat.svg)",
        "",
        *cell_table(cells, "cacher", "peer"),
        "",
        "## Many streams",
        "",
        *cell_table([beside], "16 streams", "1 stream"),
        "",
        "## What is no ratio",
        "",
        *fact_table(facts, "peer"),
        "",
    ]
    (DOCS / "benchmarks-chat.md").write_text("\n".join(page))
