"""How often the semantic cache hits, and how often it is wrong, over thresholds, guard on and off.

    python benchmarks/false_hits.py

Embeds the labelled pairs of benchmarks/semantic_pairs.csv with MiniLM and counts, for each half of
them. The guard was made with the half "dev" in sight; what it does on "test" is what it does on
pairs that nobody looked at. Writes the tables between the two marks of docs/semantic-cache.md,
and docs/false-hits.svg. The last line is the share of wrong hits at the default, over all pairs.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cacher.semantic.calibrate import read_pairs, similarities, upper_bound
from cacher.semantic.embedder import THRESHOLDS
from cacher.semantic.guard import guard

ROOT = Path(__file__).resolve().parent.parent
PAIRS = ROOT / "benchmarks/semantic_pairs.csv"
PAGE = ROOT / "docs/semantic-cache.md"
PICTURE = ROOT / "docs/false-hits.svg"
MARKS = "<!-- written by make false-hits -->", "<!-- end -->"
MODEL = "minilm"
SHOWN = (0.60, 0.65, 0.70, 0.75, 0.80, 0.85, 0.90)


@dataclass(frozen=True)
class Labelled:
    """The pairs, as columns."""

    scores: np.ndarray
    same: np.ndarray
    refused: np.ndarray
    kind: np.ndarray
    half: np.ndarray

    def part(self, half: str) -> Labelled:
        chosen = self.half == half
        return Labelled(*(column[chosen] for column in vars(self).values()))


@dataclass(frozen=True)
class Count:
    """What happens at a threshold."""

    same: int
    hits: int
    wrong: int

    @property
    def hit_rate(self) -> float:
        return (self.hits - self.wrong) / self.same

    @property
    def wrong_rate(self) -> float:
        return self.wrong / self.hits if self.hits else 0.0


def measured() -> Labelled:
    pairs = read_pairs(PAIRS)
    with PAIRS.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return Labelled(
        similarities(pairs, embedder=MODEL),
        np.array([pair.same for pair in pairs]),
        np.array([guard(pair.query, pair.other) is not None for pair in pairs]),
        np.array([row["kind"] for row in rows]),
        np.array([row["half"] for row in rows]),
    )


def count(labelled: Labelled, threshold: float, *, guarded: bool) -> Count:
    hit = labelled.scores >= threshold
    if guarded:
        hit = hit & ~labelled.refused
    return Count(int(labelled.same.sum()), int(hit.sum()), int((hit & ~labelled.same).sum()))


def sweep_table(labelled: Labelled) -> list[str]:
    lines = [
        "| threshold | hits, no guard | wrong | hits, guard | wrong "
        "| dev: hits | wrong | test: hits | wrong |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for threshold in SHOWN:
        counts = [
            count(labelled, threshold, guarded=False),
            count(labelled, threshold, guarded=True),
            *(count(labelled.part(half), threshold, guarded=True) for half in ("dev", "test")),
        ]
        cells = " | ".join(f"{c.hit_rate:.1%} | {c.wrong_rate:.2%}" for c in counts)
        lines.append(f"| {threshold:.2f} | {cells} |")
    return lines


def kind_table(labelled: Labelled, threshold: float) -> list[str]:
    lines = ["| kind | pairs | hits, no guard | hits, guard |", "| --- | ---: | ---: | ---: |"]
    for kind in dict.fromkeys(labelled.kind):
        of_kind = labelled.kind == kind
        hit = of_kind & (labelled.scores >= threshold)
        lines.append(
            f"| {kind} | {of_kind.sum()} | {hit.sum()} | {(hit & ~labelled.refused).sum()} |"
        )
    return lines


def section(labelled: Labelled) -> str:
    threshold = THRESHOLDS[MODEL]
    lines = [
        f"{len(labelled.same)} pairs, {labelled.same.sum()} of one meaning. Hits are a share of "
        "those, wrong hits a share of all hits;",
        'with the guard but for the columns "no guard".',
        "",
        *sweep_table(labelled),
        "",
        f"At the default, {threshold:.2f} with the guard:",
        "",
    ]
    for name, part in (("all pairs", labelled), ('"test" alone', labelled.part("test"))):
        found = count(part, threshold, guarded=True)
        bound = upper_bound(found.wrong, found.hits, 0.95)
        lines.append(
            f"* {name}: {found.wrong} of {found.hits} hits are wrong; that allows up to "
            f"{bound:.1%}, at a confidence of 95%."
        )
    lines += [
        "",
        f"What hits at {threshold:.2f}, by kind; below the first row every hit is wrong:",
        "",
        *kind_table(labelled, threshold),
    ]
    return "\n".join(lines)


def picture(labelled: Labelled) -> str:
    """Return an SVG: hit rate and share of wrong hits over thresholds, guard on and off."""
    left, top, width, height, low = 64, 48, 620, 300, 0.5
    right, bottom = left + width, top + height
    thresholds = np.linspace(low, 1, 101)
    lines = (
        ("hits, no guard", False, "hit_rate", "#4f8a5b", "5 4"),
        ("hits, guard", True, "hit_rate", "#4f8a5b", ""),
        ("wrong hits, no guard", False, "wrong_rate", "#b5533c", "5 4"),
        ("wrong hits, guard", True, "wrong_rate", "#b5533c", ""),
    )

    def x(threshold: float) -> float:
        return left + width * (threshold - low) / (1 - low)

    def y(share: float) -> float:
        return top + height * (1 - share)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {right + 190} '
        f'{bottom + 52}" font-family="Helvetica, Arial, sans-serif" font-size="12">',
        f'<rect width="{right + 190}" height="{bottom + 52}" fill="#fff"/>',
        '<text x="12" y="24" font-size="15" font-weight="bold">Hits among pairs of one meaning, '
        f"and wrong hits among all hits ({MODEL}, {len(labelled.same)} pairs)</text>",
    ]
    for share in (0, 0.25, 0.5, 0.75, 1):
        parts += [
            f'<line x1="{left}" y1="{y(share):.1f}" x2="{right}" y2="{y(share):.1f}" '
            'stroke="#ddd"/>',
            f'<text x="{left - 8}" y="{y(share) + 4:.1f}" text-anchor="end">{share:.0%}</text>',
        ]
    for tick in (0.5, 0.6, 0.7, 0.8, 0.9, 1):
        parts.append(
            f'<text x="{x(tick):.1f}" y="{bottom + 18}" text-anchor="middle">{tick:.1f}</text>'
        )
    default = THRESHOLDS[MODEL]
    parts += [
        f'<text x="{left + width / 2}" y="{bottom + 40}" text-anchor="middle">threshold</text>',
        f'<line x1="{x(default):.1f}" y1="{top}" x2="{x(default):.1f}" y2="{bottom}" '
        'stroke="#222" stroke-dasharray="2 3"/>',
    ]
    for i, (name, guarded, field, colour, dashes) in enumerate(lines):
        points = " ".join(
            f"{x(t):.1f},{y(getattr(count(labelled, t, guarded=guarded), field)):.1f}"
            for t in thresholds
        )
        style = f'fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"'
        key = top + 20 + 22 * i
        parts += [
            f'<polyline points="{points}" {style}/>',
            f'<line x1="{right + 16}" y1="{key}" x2="{right + 44}" y2="{key}" {style}/>',
            f'<text x="{right + 52}" y="{key + 4}">{name}</text>',
        ]
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def main() -> None:
    """Measure, and write the page's part and the picture."""
    labelled = measured()
    text = section(labelled)
    print(text)
    page = PAGE.read_text()
    before, begin, rest = page.partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    PAGE.write_text(f"{before}{begin}\n{text}\n\n{end}{after}")
    PICTURE.write_text(picture(labelled))
    default = count(labelled, THRESHOLDS[MODEL], guarded=True)
    print(f"\nwrong hits at the default setting: {default.wrong_rate:.2%} of {default.hits}")


if __name__ == "__main__":
    main()
