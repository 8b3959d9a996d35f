"""docs/benchmarks.md and its picture, from measured numbers."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


@dataclass(frozen=True)
class Row:
    """One cell: tokens per second of cacher and of transformers with torch."""

    model: str
    threads: int
    label: str
    ours: float
    theirs: float

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs

    @property
    def cell(self) -> str:
        return f"{self.model}, {self.label}, {self.threads} thread{'s' * (self.threads > 1)}"


@dataclass(frozen=True)
class Shares:
    """What was reached of the machine's limits: GB/s at decode B1, GFLOP/s at prefill 512."""

    model: str
    threads: int
    read: float
    bandwidth: float
    multiplied: float
    peak: float


@dataclass(frozen=True)
class Report:
    """Everything that goes into docs/benchmarks.md."""

    rows: list[Row]
    shares: list[Shares]
    startup: dict[str, float]
    states: list[str]
    kernels: str
    reps: int


def _machine() -> str:
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


def _versions() -> str:
    names = ("torch", "transformers", "numpy")
    return ", ".join(f"{name} {version(name)}" for name in names)


def _table(rows: list[Row]) -> list[str]:
    lines = [
        "| model | threads | cell | cacher tok/s | transformers tok/s | ratio |",
        "| --- | ---: | --- | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {row.model} | {row.threads} | {row.label} "
        f"| {row.ours:,.1f} | {row.theirs:,.1f} | {row.ratio:.2f} |"
        for row in sorted(rows, key=lambda row: row.ratio)
    ]
    return lines


def picture(rows: list[Row]) -> str:
    """Return an SVG of the ratios: one bar per cell, a line at 1."""
    bar, gap, left, width = 16, 6, 300, 860
    top = max(row.ratio for row in rows) * 1.08
    scale = (width - left - 60) / top
    height = 50 + len(rows) * (bar + gap) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        '<text x="12" y="24" font-size="15" font-weight="bold">Speed as a multiple of '
        "transformers with torch"
        " (f32, same machine, same run)</text>",
    ]
    for i, row in enumerate(rows):
        y = 44 + i * (bar + gap)
        colour = "#4f8a5b" if row.ratio >= 1 else "#b5533c"
        parts += [
            f'<text x="{left - 8}" y="{y + 12}" text-anchor="end">{row.cell}</text>',
            f'<rect x="{left}" y="{y}" width="{row.ratio * scale:.1f}" height="{bar}" '
            f'fill="{colour}"/>',
            f'<text x="{left + row.ratio * scale + 6:.1f}" y="{y + 12}">{row.ratio:.2f}</text>',
        ]
    x = left + scale
    parts.append(
        f'<line x1="{x:.1f}" y1="38" x2="{x:.1f}" y2="{height - 20}" '
        'stroke="#222" stroke-dasharray="4 3"/>'
    )
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _share_table(shares: list[Shares]) -> list[str]:
    lines = [
        "| model | threads | decode B1 reads | of | share | prefill 512 computes | of | share |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {s.model} | {s.threads} "
        f"| {s.read:.1f} GB/s | {s.bandwidth:.1f} | {s.read / s.bandwidth:.0%} "
        f"| {s.multiplied:.0f} GFLOP/s | {s.peak:.0f} | {s.multiplied / s.peak:.0%} |"
        for s in shares
    ]
    return lines


def write(report: Report) -> None:
    """Write docs/benchmarks.md and docs/benchmarks.svg."""
    (DOCS / "benchmarks.svg").write_text(picture(report.rows))
    startup = report.startup
    lines = [
        "# Benchmarks",
        "",
        f"Written by `make bench` on {date.today()}. Machine: {_machine()}. {_versions()}.",
        "Random-initialised models of real shapes, f32; the peer runs in its fastest way (a bare",
        "loop over its cache, logits of the last token only). Engines take turns within one run;",
        f"medians of {report.reps}. The worst ratio comes first.",
        "",
        "![Ratios](benchmarks.svg)",
        "",
        *_table(report.rows),
        "",
        "## Against the machine's limits",
        "",
        "Bandwidth and arithmetic peak were probed right after the cell in every round.",
        "",
        *_share_table(report.shares),
        "",
        "## Start-up and memory",
        "",
        "| what | measured | bar |",
        "| --- | ---: | ---: |",
        f"| `import cacher` | {1e3 * startup['import_s']:.0f} ms | 150 ms |",
        f"| loading GPT-2 124M, warm disk, packing included | {startup['load_s']:.2f} s | 0.5 s |",
        f"| peak memory over weights plus the KV used | {startup['peak_ratio']:.2f} | 1.10 |",
        "",
        "## Forks",
        "",
        *report.states,
        "",
        "## Matrix products against the distribution's OpenBLAS",
        "",
        "```",
        report.kernels.strip(),
        "```",
        "",
    ]
    (DOCS / "benchmarks.md").write_text("\n".join(lines))
