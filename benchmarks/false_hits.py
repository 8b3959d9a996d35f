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

from cacher.semantic.bounds import upper_bound
from cacher.semantic.calibrate import similarities
from cacher.semantic.embedder import THRESHOLDS
from cacher.semantic.guard import guard
from cacher.semantic.pairs import read_pairs
from cacher.semantic.picture import HITS, WRONG, Curve, sweep

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
    thresholds = [i / 200 for i in range(100, 201)]

    def curve(name: str, colour: str, field: str, *, guarded: bool) -> Curve:
        points = [(t, getattr(count(labelled, t, guarded=guarded), field)) for t in thresholds]
        return Curve(f"{name}, {'guard' if guarded else 'no guard'}", colour, not guarded, points)

    title = (
        "Hits among pairs of one meaning, and wrong hits among all hits "
        f"({MODEL}, {len(labelled.same)} pairs)"
    )
    curves = [
        curve(name, colour, field, guarded=guarded)
        for name, colour, field in (("hits", HITS, "hit_rate"), ("wrong hits", WRONG, "wrong_rate"))
        for guarded in (False, True)
    ]
    return sweep(title, curves, THRESHOLDS[MODEL])


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
