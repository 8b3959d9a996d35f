"""What `make bench-peers` shows: the sections of docs/benchmarks.md about other engines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LABELS = ("prefill 512", "decode B1", "decode B8", "decode B32", "beam 4")
BARS = {
    "f32": dict(zip(LABELS, (1.25, 1.0, 2.0, 2.5, 2.0), strict=True)),
    "bf16": dict(zip(LABELS, (1.8, 1.1, 1.8, 2.0, 1.8), strict=True)),
    "int8": dict(zip(LABELS, (1.4, 1.1, 1.6, 1.6, 1.8), strict=True)),
}
READ_BAR, COMPUTE_BAR = 0.9, 0.8  # shares of the bandwidth and of the arithmetic peak
LOAD_BAR = 1.1  # times the best peer's
TRACE_BAR = 1.1  # times plain decoding


@dataclass(frozen=True)
class Row:
    """One cell: tokens a second of cacher and of each peer, by its name."""

    model: str
    threads: int
    format_: str
    label: str
    ours: float
    peers: dict[str, float]
    bar: float

    @property
    def best(self) -> str:
        return max(self.peers, key=lambda name: self.peers[name])

    @property
    def ratio(self) -> float:
        return self.ours / self.peers[self.best]

    @property
    def cell(self) -> str:
        plural = "s" * (self.threads > 1)
        return f"{self.format_}, {self.label}, {self.model}, {self.threads} thread{plural}"


@dataclass(frozen=True)
class Share:
    """What was reached of the limits: GB/s at decode B1, 1e9 operations a second at prefill 512."""

    model: str
    threads: int
    format_: str
    read: float
    bandwidth: float
    computed: float
    peaks: dict[str, float]  # by kind of instruction


@dataclass(frozen=True)
class Load:
    """Seconds until the first logits of a fresh process, and the bytes it came to use."""

    model: str
    format_: str
    engine: str
    seconds: float
    bytes: float


@dataclass(frozen=True)
class Trace:
    """Seconds a token of decoding with a trace over those of decoding without."""

    model: str
    threads: int
    ratio: float


def verdict(is_met: bool) -> str:
    return "ok" if is_met else "missed"


def sections(measured: dict) -> list[str]:
    """Return the sections about what was measured."""
    return [
        *_peers_section(measured.get("peers")),
        *_load_section(measured.get("loads")),
        *_trace_section(measured.get("tracing")),
    ]


def _peers_section(peers: dict | None) -> list[str]:
    if peers is None:
        return []
    rows = [Row(**row) for row in peers["rows"]]
    return [
        "## Beside other engines",
        "",
        f"Peers: {peers['versions']}; llama.cpp is",
        "built for this CPU. All have the same random weights, in the shapes of GPT-2 124M and",
        "SmolLM-135M. The f32 logits and greedy tokens of all are the same within rounding, which",
        "is checked first. No engine guesses ahead (cacher's prompt lookup is off) or finds a",
        "prompt again (cacher's have salts); all use memory for keys and values again (cacher's",
        "128 MiB). Each engine is a process, stopped while another one is measured; those of a",
        "format take turns.",
        f"Medians of {peers['rounds']} rounds. A ratio is cacher's tokens a second over those of",
        "the best peer that stores weights in as many bits; the worst comes first. Prompts of 8",
        "tokens before decoding are not timed, the one of the search is. llama.cpp has no beams of",
        "its own: the search measured is a loop over its batches whose copies share memory.",
        "torch decodes in a bare loop over the model and its cache, faster than its `generate`,",
        "which it searches with. CTranslate2 has no bf16 on this CPU.",
        "",
        "Lowest ratio of both models, with 1 and with 2 threads, and its bar:",
        "",
        *_summary(rows),
        "",
        "![Ratios](benchmarks.svg)",
        "",
        *_ratio_table(rows),
        "",
        "<details><summary>Tokens a second of every engine</summary>",
        "",
        *_engine_table(rows),
        "",
        "</details>",
        "",
        "## Against the machine's limits",
        "",
        "Bandwidth and arithmetic peak were probed right after the cell in every round. Weights",
        "are counted without the scales of int8. The peak is that of the fastest instructions for",
        "the format that the CPU has: vectors, or tiles (AMX).",
        "",
        *_share_table([Share(**share) for share in peers["shares"]]),
        "",
    ]


def _summary(rows: Sequence[Row]) -> list[str]:
    lines = [f"| | {' | '.join(LABELS)} |", f"| --- |{' ---: |' * len(LABELS)}"]
    for format_ in BARS:
        cells = []
        for label in LABELS:
            ratios = [row.ratio for row in rows if (row.format_, row.label) == (format_, label)]
            shown = f"{min(ratios):.2f}" if ratios else "not measured"
            cells.append(f"{shown} (bar {BARS[format_][label]:g})")
        lines.append(f"| {format_} | {' | '.join(cells)} |")
    return lines


def _ratio_table(rows: Sequence[Row]) -> list[str]:
    lines = [
        "| cell | cacher tok/s | best peer | tok/s | ratio | bar | |",
        "| --- | ---: | --- | ---: | ---: | ---: | --- |",
    ]
    return lines + [
        f"| {row.cell} | {row.ours:,.1f} | {row.best} | {row.peers[row.best]:,.1f} "
        f"| {row.ratio:.2f} | {row.bar:g} | {verdict(row.ratio >= row.bar)} |"
        for row in sorted(rows, key=lambda row: row.ratio)
    ]


def _engine_table(rows: Sequence[Row]) -> list[str]:
    lines = ["| cell | cacher | peers |", "| --- | ---: | --- |"]
    return lines + [
        f"| {row.cell} | {row.ours:,.1f} "
        f"| {', '.join(f'{name} {rate:,.1f}' for name, rate in row.peers.items())} |"
        for row in rows
    ]


def _share_table(shares: Sequence[Share]) -> list[str]:
    lines = [
        f"| model | threads | format | decode B1 reads | of | share (bar {READ_BAR:.0%}) "
        f"| prefill 512 computes | of | share (bar {COMPUTE_BAR:.0%}) |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for s in shares:
        kind, peak = max(s.peaks.items(), key=lambda item: item[1])
        lines.append(
            f"| {s.model} | {s.threads} | {s.format_} "
            f"| {s.read:.1f} GB/s | {s.bandwidth:.1f} | {s.read / s.bandwidth:.0%} "
            f"| {s.computed:.0f} GOP/s | {peak:.0f} ({kind}) | {s.computed / peak:.0%} |"
        )
    return lines


def _load_section(found: dict | None) -> list[str]:
    if found is None:
        return []
    loads = [Load(**load) for load in found["loads"]]
    lines = [
        "## Loading and memory",
        "",
        f"From a warm disk, {found['threads']} threads, each in a fresh process, medians of",
        f"{found['rounds']}: seconds until the logits of a first token are there (some engines map",
        "the file and read it only then), and the most memory in use at loading, reading 512",
        "tokens and decoding, without what the libraries take before. torch and cacher, unpacked,",
        "load the f32 file in every format; the other files are converted before (`cacher pack`).",
        f"Bar: {LOAD_BAR:g} times the best peer's.",
        "",
        "| model | format | | seconds | over the best peer's | MB | over the best peer's |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for load in loads:
        others = [
            other
            for other in loads
            if (other.model, other.format_) == (load.model, load.format_)
            and not other.engine.startswith("cacher")
        ]
        time = load.seconds / min(other.seconds for other in others)
        memory = load.bytes / min(other.bytes for other in others)
        lines.append(
            f"| {load.model} | {load.format_} | {load.engine} | {load.seconds:.2f} | {time:.2f} "
            f"| {load.bytes / 1e6:.0f} | {memory:.2f} |"
        )
    return [*lines, ""]


def _trace_section(found: dict | None) -> list[str]:
    if found is None:
        return []
    return [
        "## Looking inside while decoding",
        "",
        "Time of a token with its trace (attention of all heads of a layer, entropy, the 10",
        f"likeliest tokens) over that of one without, in turns behind {found['prompt']} tokens of",
        f"prompt; the tokens are the same. Bar: {TRACE_BAR:g}.",
        "",
        "| model | threads | ratio | |",
        "| --- | ---: | ---: | --- |",
        *(
            f"| {trace.model} | {trace.threads} | {trace.ratio:.3f} "
            f"| {verdict(trace.ratio <= TRACE_BAR)} |"
            for trace in (Trace(**trace) for trace in found["traces"])
        ),
        "",
    ]
