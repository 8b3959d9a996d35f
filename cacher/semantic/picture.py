"""A picture of hits and wrong hits over thresholds: plain SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

LEFT, TOP, WIDTH, HEIGHT, KEYS = 64, 48, 620, 300, 190
LOW = 0.5  # thresholds from here to 1
RIGHT, BOTTOM = LEFT + WIDTH, TOP + HEIGHT
HITS, WRONG = "#4f8a5b", "#b5533c"


class Curve(NamedTuple):
    """A line of the picture.

    Attributes:
        name: What it shows.
        colour: Its colour.
        dashed: Whether it is.
        points: Thresholds and shares, both from 0 to 1.
    """

    name: str
    colour: str
    dashed: bool
    points: Sequence[tuple[float, float]]


def sweep(title: str, curves: Sequence[Curve], marked: float | None) -> str:
    """Return an SVG of shares over thresholds.

    Args:
        title: Its heading.
        curves: The lines.
        marked: A threshold to mark, or None.

    Example:
        >>> from cacher.semantic.picture import HITS, Curve, sweep
        >>> sweep("Hits", [Curve("hits", HITS, False, [(0.5, 1.0), (1.0, 0.2)])], 0.8)[:4]
        '<svg'
    """
    width, height = RIGHT + KEYS, BOTTOM + 52
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'style="max-width:{width}px" font-family="Helvetica, Arial, sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="12" y="24" font-size="15" font-weight="bold">{escape(title)}</text>',
        f'<text x="{LEFT + WIDTH / 2}" y="{BOTTOM + 40}" text-anchor="middle">threshold</text>',
    ]
    for share in (0, 0.25, 0.5, 0.75, 1):
        parts += [
            f'<line x1="{LEFT}" y1="{_y(share)}" x2="{RIGHT}" y2="{_y(share)}" stroke="#ddd"/>',
            f'<text x="{LEFT - 8}" y="{_y(share, 4)}" text-anchor="end">{share:.0%}</text>',
        ]
    parts += [
        f'<text x="{_x(tick)}" y="{BOTTOM + 18}" text-anchor="middle">{tick:.1f}</text>'
        for tick in (0.5, 0.6, 0.7, 0.8, 0.9, 1)
    ]
    if marked is not None:
        parts.append(
            f'<line x1="{_x(marked)}" y1="{TOP}" x2="{_x(marked)}" y2="{BOTTOM}" '
            'stroke="#222" stroke-dasharray="2 3"/>'
        )
    for i, curve in enumerate(curves):
        points = " ".join(f"{_x(at)},{_y(share)}" for at, share in curve.points if at >= LOW)
        dashes = ' stroke-dasharray="5 4"' if curve.dashed else ""
        style = f'fill="none" stroke="{curve.colour}" stroke-width="2"{dashes}'
        y = TOP + 20 + 22 * i
        parts += [
            f'<polyline points="{points}" {style}/>',
            f'<line x1="{RIGHT + 16}" y1="{y}" x2="{RIGHT + 44}" y2="{y}" {style}/>',
            f'<text x="{RIGHT + 52}" y="{y + 4}">{escape(curve.name)}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])


def _x(threshold: float) -> str:
    return f"{LEFT + WIDTH * (threshold - LOW) / (1 - LOW):.1f}"


def _y(share: float, down: float = 0) -> str:
    return f"{BOTTOM - HEIGHT * share + down:.1f}"
