"""The page of `State.attention_heatmap`: one HTML file that holds all it needs.

``pages/heatmap.html`` is the page without its data.  The weights travel as 16-bit numbers, the
tokens as JSON in which no character can end the element they stand in.
"""

from __future__ import annotations

import re
from base64 import b64encode
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING

from cacher.display import PICTURES

if TYPE_CHECKING:
    from cacher.attention import AttentionAnalysis

MARK = re.compile(r"\{\{(\w+)\}\}")
STEPS = 65535  # of a weight


def page(found: AttentionAnalysis, model: str, threshold: float, both_ways: bool) -> str:
    """Return the page.

    Args:
        found: What it shows: weights before a threshold.
        model: Name of the model.
        threshold: Where the slider begins.
        both_ways: Whether tokens attend to those behind them, too.
    """
    import json  # not needed to import the package

    import numpy as np

    steps = np.rint(found.attention_pattern * STEPS).astype("<u2")
    data = {
        "tokens": [token.replace("\n", "\u21b5").translate(PICTURES) for token in found.tokens],
        "first": found.first,
        "both_ways": both_ways,
        "threshold": threshold,
        "weights": b64encode(steps.tobytes()).decode("ascii"),
    }
    layer = "mean of all layers" if found.layer is None else f"layer {found.layer}"
    head = "mean of all heads" if found.head is None else f"head {found.head}"
    parts = {
        "title": escape(f"Attention of {model}: {layer}, {head}"),
        "data": json.dumps(data).replace("<", "\\u003c"),
    }
    template = (files("cacher") / "pages" / "heatmap.html").read_text("utf-8")
    return MARK.sub(lambda mark: parts[mark[1]], template)
