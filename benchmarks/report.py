"""docs/benchmarks.md and its picture, from the measured numbers in docs/benchmarks.json."""

from __future__ import annotations

import json
import math
import platform
import re
import statistics
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from peers_page import Row, sections

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
NUMBERS = DOCS / "benchmarks.json"
TITLE = "Speed as a multiple of the fastest engine with as many bits (ticks: what is wanted)"
SERVING = "## States and streams over HTTP"  # the last section: `make bench-api` writes it


@dataclass(frozen=True)
class Figure:
    """What was measured many times: median, 99th percentile, and the bar for one of the two."""

    what: str
    unit: str
    median: float
    high: float | None
    bar: float | None
    of: str = "median"

    @property
    def verdict(self) -> str:
        if self.bar is None:
            return "floor"
        measured = self.high if self.of == "high" and self.high is not None else self.median
        return "ok" if measured <= self.bar else "missed"


def machine() -> str:
    """Return what it is measured on."""
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    cores = subprocess.run(["nproc"], capture_output=True, text=True, check=True).stdout.strip()
    return f"{cpu}, {cores} cores"


class Ratio(Protocol):
    """A cell, and how many times faster ours is."""

    @property
    def ratio(self) -> float: ...

    @property
    def cell(self) -> str: ...


def picture(
    rows: Sequence[Ratio],
    title: str,
    left: int = 300,
    least: float = 0.0,
    wanted: Sequence[float] = (),
) -> str:
    """Return an SVG of the ratios: one bar per cell, a line at 1, a tick at the ratio wanted.

    Bars begin at 0; or at `least`, and are logarithmic.
    """
    bar, gap, width = 16, 6, left + 560
    top = max(*(row.ratio for row in rows), *wanted) * 1.08

    def long(ratio: float) -> float:
        part = math.log(max(ratio / least, 1), top / least) if least else ratio / top
        return (width - left - 60) * part

    height = 50 + len(rows) * (bar + gap) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="12" y="24" font-size="15" font-weight="bold">{title}</text>',
    ]
    for i, row in enumerate(rows):
        y = 44 + i * (bar + gap)
        is_enough = row.ratio >= (wanted[i] if wanted else 1)
        colour = "#4f8a5b" if is_enough else "#b5533c"
        parts += [
            f'<text x="{left - 8}" y="{y + 12}" text-anchor="end">{row.cell}</text>',
            f'<rect x="{left}" y="{y}" width="{long(row.ratio):.1f}" height="{bar}" '
            f'fill="{colour}"/>',
            f'<text x="{left + long(row.ratio) + 6:.1f}" y="{y + 12}">{row.ratio:.2f}</text>',
        ]
        if wanted:
            x = left + long(wanted[i])
            parts.append(f'<path d="M{x:.1f} {y - 2}v{bar + 4}" stroke="#222" stroke-width="2"/>')
    x = left + long(1)
    parts.append(
        f'<line x1="{x:.1f}" y1="38" x2="{x:.1f}" y2="{height - 20}" '
        'stroke="#222" stroke-dasharray="4 3"/>'
    )
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _startup_table(startup: dict) -> list[str]:
    return [
        "| what | measured | bar |",
        "| --- | ---: | ---: |",
        f"| `import cacher` | {1e3 * startup['import_s']:.0f} ms | 150 ms |",
        f"| loading GPT-2 124M, warm disk, packing included | {startup['load_s']:.2f} s | 0.5 s |",
        f"| peak memory over weights plus the KV used | {startup['peak_ratio']:.2f} | 1.10 |",
    ]


def _fork_table(rows: list[dict]) -> list[str]:
    return [
        "| length of the state | a fork takes | bytes per fork | KV bytes with 10,000 forks |",
        "| ---: | ---: | ---: | ---: |",
        *(
            f"| {row['length']} | {row['us']:.2f} us | {row['bytes']:.0f} "
            f"| {row['kv_ratio']:.3f} x one |"
            for row in rows
        ),
    ]


def _kernel_ratios(lines: list[str]) -> Iterator[tuple[int, int, float, str]]:
    """Yield threads, rows, ratio and shape of each line."""
    threads = 0
    for line in lines:
        if found := re.search(r", (\d+) threads;", line):
            threads = int(found[1])
        elif found := re.search(r"^(.*?) +\d+ x .*rows +(\d+) .* ratio +([\d.]+)", line):
            yield threads, int(found[2]), float(found[3]), found[1]


def _kernel_table(lines: list[str]) -> list[str]:
    """Return the spread of the ratios over the shapes, for each number of threads and rows."""
    ratios: dict[tuple[int, int], list[float]] = {}
    for threads, rows, ratio, _shape in _kernel_ratios(lines):
        ratios.setdefault((threads, rows), []).append(ratio)
    return [
        "| threads | rows | slowest shape | median shape | fastest shape |",
        "| ---: | ---: | ---: | ---: | ---: |",
        *(
            f"| {count} | {rows} | {min(found):.2f} | {statistics.median(found):.2f} "
            f"| {max(found):.2f} |"
            for (count, rows), found in ratios.items()
        ),
    ]


def figure_table(figures: list[Figure]) -> list[str]:
    """Return what was measured, a row for each figure."""
    lines = ["| what | median | 99 % | bar | |", "| --- | ---: | ---: | ---: | --- |"]
    for f in figures:
        digits = 1 if f.unit == "us" else 2
        bar = "" if f.bar is None else f"{f.bar:g} {f.unit}{' at 99 %' * (f.of == 'high')}"
        lines.append(
            f"| {f.what} | {f.median:.{digits}f} {f.unit} "
            f"| {'' if f.high is None else f'{f.high:.{digits}f} {f.unit}'} | {bar} | {f.verdict} |"
        )
    return lines


def _serving_section(measured: dict) -> list[str]:
    if "serving" not in measured:
        return []
    serving = measured["serving"]
    figures = [Figure(**figure) for part in serving["figures"].values() for figure in part]
    return [
        SERVING,
        "",
        f"Written by `make bench-api`, measured on {serving['measured']}. One server process, one",
        "request after another on a kept connection, 10,000 states on disk; a state is on disk,",
        "file and folder, before its request is answered. Floors were measured in turns with it: a",
        "bare FastAPI route and a bare event behind the same uvicorn, a file and its folder put on",
        "disk. The CPU of a token is that of the event loop's thread, which does all that HTTP",
        "needs, less that of a loop that takes the same generations from an engine of its own.",
        "",
        *figure_table(figures),
        "",
    ]


def write_serving(measured: dict) -> None:
    """Write docs/benchmarks.json and that section of docs/benchmarks.md."""
    NUMBERS.write_text(json.dumps(measured, indent=1) + "\n")
    page = DOCS / "benchmarks.md"
    before, _, _ = page.read_text().partition(SERVING)
    page.write_text(before + "\n".join(_serving_section(measured)))


def read() -> dict:
    """Return the numbers of earlier runs: part -> figures, empty if there were none."""
    return json.loads(NUMBERS.read_text()) if NUMBERS.exists() else {}


def _own_sections(measured: dict) -> list[str]:
    """Return what `make bench` measured."""
    if "kernels" not in measured:
        return []
    kernels = measured["kernels"]["lines"]
    return [
        "## Start-up and memory",
        "",
        *_startup_table(measured["startup"]),
        "",
        "## Forks",
        "",
        *_fork_table(measured["forks"]["rows"]),
        "",
        "## Matrix products against the distribution's OpenBLAS",
        "",
        "Time of OpenBLAS over ours, at the ten shapes of both models, in turns; below 1 OpenBLAS",
        "is faster. Weights come from memory, not from a cache, as in a forward pass.",
        "",
        *_kernel_table(kernels),
        "",
        "<details><summary>Every shape</summary>",
        "",
        "```",
        *kernels,
        "```",
        "",
        "</details>",
        "",
    ]


def ratios(measured: dict, parts: Sequence[str]) -> Iterator[tuple[float, str]]:
    """Yield each ratio of these parts, and its cell."""
    if "peers" in parts:
        for row in measured["peers"]["rows"]:
            yield Row(**row).ratio, Row(**row).cell
    if "kernels" in parts:
        for threads, rows, ratio, shape in _kernel_ratios(measured["kernels"]["lines"]):
            yield ratio, f"{shape}, {rows} rows, {threads} threads"


def page(measured: dict) -> list[str]:
    """Return the lines of docs/benchmarks.md."""
    dates = sorted({found["measured"] for found in measured.values()})
    return [
        "# Benchmarks",
        "",
        f"Written by `make bench-peers` and `make bench`. Machine: {machine()}.",
        f"Measured on {', '.join(dates)}.",
        "",
        *sections(measured),
        *_own_sections(measured),
        *_serving_section(measured),
    ]


def write(measured: dict) -> None:
    """Write docs/benchmarks.json, .md and .svg."""
    NUMBERS.write_text(json.dumps(measured, indent=1) + "\n")
    (DOCS / "benchmarks.md").write_text("\n".join(page(measured)))
    if "peers" in measured:
        rows = sorted((Row(**row) for row in measured["peers"]["rows"]), key=lambda row: row.ratio)
        wanted = [row.bar for row in rows]
        (DOCS / "benchmarks.svg").write_text(picture(rows, TITLE, left=330, wanted=wanted))
