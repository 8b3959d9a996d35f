"""Whole attention matrices as pictures for notebooks: a pixel for each weight.

A head is one PNG of palette numbers, written here: all entries of the palette have one colour, and
the square root of a weight is its opacity, so that small weights show on light and dark pages.
"""

from __future__ import annotations

import struct
import zlib
from base64 import b64encode
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from cacher.attention import PASS_ROWS, selection
from cacher.checks import MAX_INT64, integer
from cacher.display import CELL, LABEL, PICTURES, Picture
from cacher.looking import array

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cacher.inspection import Inspection

COLOUR = bytes((0x3D, 0x8B, 0xFD))
LEVELS = 256
ONE_SIDE = 640  # pixels of a single head, where its cells are not of the least size
EACH_SIDE = 200  # and of one of several


def full_attention_picture(
    state: Inspection,
    layer: int,
    head: int | None,
    position_range: Sequence[int] | None,
    max_tokens: int,
) -> Picture:
    """Return what `State.show_full_attention` documents."""
    layer = state._check_layer(layer)
    n_heads = state.model.info.n_heads
    heads = range(n_heads)
    if head is not None:
        head = state._check_head(head, n_heads)
        heads = range(head, head + 1)
    chosen = selection(state, position_range, integer("max_tokens", max_tokens, 1, MAX_INT64))
    levels = _levels(state, layer, head, chosen)
    if head is None:
        labels, side = {}, EACH_SIDE
    else:
        cell = max(1, min(CELL, ONE_SIDE // len(chosen)))
        labels, side = _labels(state, chosen, -(-CELL // cell)), cell * len(chosen)
    body = "".join(
        _svg(part, f"layer {layer}, head {number}", labels, side)
        for number, part in zip(heads, levels, strict=True)
    )
    of_heads = f"all {n_heads} heads" if head is None else f"head {head}"
    tokens = f"tokens {chosen.start} to {chosen.stop - 1}"
    return Picture(
        body,
        f"attention, layer {layer}, {of_heads}, {tokens}; row = attending token, "
        "column = attended token",
    )


def _levels(state: Inspection, layer: int, head: int | None, chosen: range) -> NDArray[np.uint8]:
    """Return square roots of weights as 8-bit numbers: [heads, tokens, tokens]."""
    import numpy as np

    core, one_head = state._seen(), -1 if head is None else head
    n_heads = state.model.info.n_heads if head is None else 1
    levels = np.zeros((n_heads, len(chosen), len(chosen)), np.uint8)
    for at in range(0, len(chosen), PASS_ROWS):
        n = min(PASS_ROWS, len(chosen) - at)
        rows = array(core.attention(layer, one_head, chosen.start + at, n))
        keys = rows[:, :, chosen.start : chosen.stop]
        levels[:, at : at + n, : keys.shape[2]] = np.rint(np.sqrt(keys) * (LEVELS - 1))
    return levels


def _labels(state: Inspection, chosen: range, step: int) -> dict[int, str]:
    """Return what stands beside every `step`-th row and column."""
    pieces = state._seen_pieces()[chosen.start : chosen.stop : step]
    shown = (piece.replace("\n", "\u21b5").translate(PICTURES)[:LABEL] for piece in pieces)
    return {step * i: label for i, label in enumerate(shown)}


def _svg(levels: NDArray[np.uint8], title: str, labels: dict[int, str], side: int) -> str:
    """Draw one head: the matrix, `side` pixels wide, in a frame, with labels by row."""
    margin = 8 + 7 * max(map(len, labels.values()), default=0)
    cell = side / len(levels)
    whole = margin + side + 4
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{whole}" viewBox="0 0 {whole} {whole}" '
        'style="max-width:100%" font-family="ui-monospace,monospace" font-size="10" '
        f'fill="currentColor" xml:space="preserve"><title>{escape(title)}</title>'
    ]
    for row, label in labels.items():
        at, text = margin + cell * (row + 0.5) + 4, escape(label)
        parts.append(f'<text x="{margin - 4}" y="{at:.1f}" text-anchor="end">{text}</text>')
        parts.append(
            f'<text transform="translate({at:.1f},{margin - 4}) rotate(-90)">{text}</text>'
        )
    place = f'x="{margin}" y="{margin}" width="{side}" height="{side}"'
    data = b64encode(_png(levels)).decode("ascii")
    parts.append(
        f'<image {place} preserveAspectRatio="none" style="image-rendering:pixelated" '
        f'href="data:image/png;base64,{data}"/><rect {place} fill="none" stroke="#8884"/></svg>'
    )
    return "".join(parts)


def _png(levels: NDArray[np.uint8]) -> bytes:
    """Return an image of palette numbers, [rows, columns]; source: W3C PNG, second edition."""
    rows, columns = levels.shape

    def chunk(name: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)

    lines = b"".join(b"\0" + line.tobytes() for line in levels)  # 0: a line that is not filtered
    return b"".join((
        b"\x89PNG\r\n\x1a\n",
        chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)),
        chunk(b"PLTE", COLOUR * LEVELS),
        chunk(b"tRNS", bytes(range(LEVELS))),
        chunk(b"IDAT", zlib.compress(lines, 9)),
        chunk(b"IEND", b""),
    ))  # fmt: skip
