"""docs/benchmarks-semantic.md and its picture, from the numbers of semantic.py."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from report import DOCS, Figure, figure_table, machine, picture

NUMBERS = DOCS / "benchmarks-semantic.json"
HITS = """
A hit is a paraphrase whose vector is given, so that nothing but the cache is measured: 384 numbers,
entries around a thousand topics. redisvl searches a flat index in a Redis Stack 7.4 on a local
socket; GPTCache searches a flat faiss index and keeps texts in SQLite, its default, which notes
every use on disk; its report and its token counter are off. Ours asks its guard, too. With one
thread, a cache and its server share a core. Puts are in batches of 100: ours a transaction of
SQLite with `synchronous=FULL`, redisvl's a pipeline to a Redis that syncs always, GPTCache's a
transaction of SQLite, while its faiss index is not saved.
"""


@dataclass(frozen=True)
class Row:
    """One cell beside one peer: seconds of cacher and of the peer, and the bar for the ratio."""

    what: str
    threads: int
    ours: float
    peer: str
    theirs: float
    bar: float | None

    @property
    def ratio(self) -> float:
        return self.theirs / self.ours

    @property
    def cell(self) -> str:
        return f"{self.what}, {self.threads} thread{'s' * (self.threads > 1)}, {self.peer}"

    @property
    def verdict(self) -> str:
        return "" if self.bar is None else "ok" if self.ratio >= self.bar else "missed"


@dataclass(frozen=True)
class Share:
    """What was reached of a limit of the machine, probed in turns with it."""

    what: str
    threads: int
    share: float
    limit: str


@dataclass
class Part:
    """What a part of the benchmark measured."""

    rows: list[Row]
    figures: list[Figure] = field(default_factory=list)
    shares: list[Share] = field(default_factory=list)


def part(measured: dict) -> Part:
    """Return a part as it was written."""
    return Part(
        [Row(**row) for row in measured["rows"]],
        [Figure(**one) for one in measured["figures"]],
        [Share(**share) for share in measured["shares"]],
    )


def shown(seconds: float) -> str:
    """Return a time with its unit."""
    if seconds < 1e-3:
        return f"{1e6 * seconds:.1f} us"
    return f"{1e3 * seconds:.2f} ms"


def lines(found: Part) -> list[str]:
    """Return what a part measured, for a terminal."""
    printed = [
        f"{row.cell:58} {shown(row.ours):>10} {shown(row.theirs):>10}  ratio {row.ratio:6.2f}"
        + (f"  bar {row.bar:g} {row.verdict}" if row.bar else "")
        for row in found.rows
    ]
    printed += [
        f"{one.what}, {one.threads} thread{'s' * (one.threads > 1)}: {one.share:.0%} of {one.limit}"
        for one in found.shares
    ]
    return printed + figure_table(found.figures)[2:]


def _table(rows: list[Row]) -> list[str]:
    return [
        "| cell | threads | cacher | peer | | ratio | bar | |",
        "| --- | ---: | ---: | --- | ---: | ---: | ---: | --- |",
        *(
            f"| {row.what} | {row.threads} | {shown(row.ours)} | {row.peer} "
            f"| {shown(row.theirs)} | {row.ratio:.2f} | {row.bar or ''} | {row.verdict} |"
            for row in rows
        ),
    ]


def _shares(shares: list[Share]) -> list[str]:
    return [
        "| cell | threads | reached | of |",
        "| --- | ---: | ---: | --- |",
        *(f"| {s.what} | {s.threads} | {s.share:.0%} | {s.limit} |" for s in shares),
    ]


def read() -> dict:
    """Return the numbers of earlier runs: part -> what it measured, empty if there were none."""
    return json.loads(NUMBERS.read_text()) if NUMBERS.exists() else {}


def write(measured: dict) -> None:
    """Write docs/benchmarks-semantic.json, .md and .svg."""
    NUMBERS.write_text(json.dumps(measured, indent=1) + "\n")
    parts = [part(one) for one in measured.values()]
    rows = sorted((row for one in parts for row in one.rows), key=lambda row: row.ratio)
    title = "Speed as a multiple of the peer's (same machine, same run; logarithmic)"
    (DOCS / "benchmarks-semantic.svg").write_text(picture(rows, title, left=400, least=0.5))
    page = [
        "# Benchmarks of embeddings and the semantic cache",
        "",
        f"Written by `make bench-semantic`. Machine: {machine()}.",
        f"Measured on {', '.join(sorted({one['measured'] for one in measured.values()}))}.",
        "",
        "## Beside other programs",
        "",
        "Medians; all take turns within one run. Embedding is f32 with MiniLM, beside the fastest",
        "of sentence-transformers, ONNX Runtime and CTranslate2; the search is exact, beside",
        "faiss's IndexFlatIP. The worst ratio comes first.",
        HITS,
        "![Ratios](benchmarks-semantic.svg)",
        "",
        *_table(rows),
        "",
        "## Beside the machine's limits",
        "",
        "Embedding beside the arithmetic peak; what a scan of all codes for one query reads beside",
        "what reading memory gives. What fits into a cache can be read faster than that, and a",
        "search whose rows are mostly ruled out by their signs reads less.",
        "",
        *_shares([share for one in parts for share in one.shares]),
        "",
        "## By the clock",
        "",
        "The floor of HTTP is a bare FastAPI route behind the same uvicorn, in turns with ours.",
        "",
        *figure_table([one for each in parts for one in each.figures]),
        "",
    ]
    (DOCS / "benchmarks-semantic.md").write_text("\n".join(page))
