"""docs/benchmarks-tokenizers.md and its picture, from what tokenizing.py measures."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from cells import Cell, cell_table
from report import DOCS, machine, picture

TEXT = """
MB of text a second in one Python process, one thread, one call for each document: ours
`Tokenizer.encode` and `Tokenizer.decode`, of `tiktoken` `encode_ordinary` and `decode`, of
`tokenizers` `encode(..., add_special_tokens=False).ids` and `decode`. All have the same vocabulary,
take turns in every round, and gave the same ids and texts before they were timed. Medians of
rounds; in each round ours is opened anew, so that its word cache knows no word of the text.
Batches are the same documents in one call, over 2 threads: `encode_batch` and `decode_batch`, of
`tiktoken` `encode_ordinary_batch` and `decode_batch`, of `tokenizers` `encode_batch_fast` and
`decode_batch`.

Mixed text is the 5 MB on which `make parity` compares ids: half of it code and documentation of
Python's library, a quarter sentences in 50 scripts with emoji, signs and numbers, whose words are
random characters, and a quarter prose, in documents of 20,000 characters. Short documents are 200
characters from all over it. Llama-3 and WordPiece (of MiniLM, which makes letters small) have every
fifth document.
"""


def write(cells: Sequence[Cell], peers: str) -> None:
    """Write docs/benchmarks-tokenizers.md and .svg.

    Args:
        cells: Beside the peers.
        peers: Their names and versions.
    """
    rows = sorted(cells, key=lambda cell: cell.ratio)
    title = "How many times faster than each peer (same machine, same run; logarithmic)"
    (DOCS / "benchmarks-tokenizers.svg").write_text(picture(rows, title, left=400, least=0.5))
    page = [
        "# Benchmarks of tokenizers",
        "",
        f"Written by `make bench-tokenizers` on {date.today()}. Machine: {machine()}. "
        f"Peers: {peers}.",
        TEXT,
        "![Ratios](benchmarks-tokenizers.svg)",
        "",
        *cell_table(cells, "cacher", "peer"),
        "",
    ]
    (DOCS / "benchmarks-tokenizers.md").write_text("\n".join(page))
