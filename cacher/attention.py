"""Attention: the weights as generation saw them, their means, and how focused each head is.

Means over layers and heads are taken in float64 while one pass of the model goes through its
layers: one layer's weights are held at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cacher import _core
from cacher.checks import MAX_INT64, inclusive, integer, number
from cacher.errors import ResponseTooLargeError, TokenIndexOutOfRangeError
from cacher.looking import array

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from cacher.looking import Looking

PASS_ROWS = 64  # others get a turn at the model between two passes
BLOCK_VALUES = 2_000_000  # weights of a layer held at once, where rows can be taken in pieces


@dataclass(frozen=True, slots=True, eq=False)
class AttentionPattern:
    """Attention of one layer or head, or the mean over them.

    Attributes:
        layer: None for the mean over all layers.
        head: None for the mean over all heads.
        pattern: float64 [tokens, tokens]: row = attending token, column = attended token.
    """

    layer: int | None
    head: int | None
    pattern: NDArray[np.float64] = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class AttentionAnalysis:
    """Attention among the tokens of a selection.

    Attributes:
        layer: As asked for; None is the mean over all layers.
        head: As asked for; None is the mean over all heads.
        first: Index of the first selected token among those the model sees.
        tokens: The text each selected token adds.
        attention_pattern: float64 [tokens, tokens]: row = attending token, column = attended token.
        attention_patterns: The same again, or what ``per_layer`` and ``per_head`` asked for.
        threshold: As asked for.
        max_attention: Largest of the permitted entries (on and below the diagonal; all of an
            encoder's), before the threshold.
        min_attention: Smallest of them.
        n_layers: Of the model.
        n_heads: Of the model.
        normalized: Whether rows were divided by their sums.
        renormalized: Whether they were again, after the threshold.
    """

    layer: int | None
    head: int | None
    first: int
    tokens: list[str]
    attention_pattern: NDArray[np.float64] = field(repr=False)
    attention_patterns: list[AttentionPattern] = field(repr=False)
    threshold: float
    max_attention: float
    min_attention: float
    n_layers: int
    n_heads: int
    normalized: bool
    renormalized: bool


@dataclass(frozen=True, slots=True)
class HeadImportance:
    """How focused a head is.

    Attributes:
        layer: Its layer.
        head: Its index.
        importance: 1 - the mean over rows i >= 1 of (row entropy / ln(i + 1)), from 0 (spread
            evenly, or a state of one token) to 1 (each token attends to a single one).  Of an
            encoder, over all rows of (row entropy / ln(tokens)), rows divided by their sums.
        mean_entropy: The mean over the same rows of the row entropy, in nats.
    """

    layer: int
    head: int
    importance: float
    mean_entropy: float


def analyze(
    state: Looking,
    layer: int | None,
    head: int | None,
    threshold: float,
    normalize: bool,
    renormalize: bool,
    position_range: Sequence[int] | None,
    per_layer: bool,
    per_head: bool,
    max_tokens: int,
    max_heads: int,
    max_values: int,
) -> AttentionAnalysis:
    """Return what `State.analyze_attention` documents."""
    info = state.model.info
    layer = None if layer is None else state._check_layer(layer)
    head = None if head is None else state._check_head(head, info.n_heads)
    threshold = number("threshold", threshold, 0.0, 1.0)
    max_heads = integer("max_heads", max_heads, 1, MAX_INT64)
    chosen = selection(state, position_range, integer("max_tokens", max_tokens, 1, MAX_INT64))
    layers = range(info.n_layers) if layer is None else range(layer, layer + 1)
    n_layers = len(layers) if per_layer and layer is None else 1
    n_heads = min(info.n_heads, max_heads) if per_head and head is None else 1
    values = n_layers * n_heads * len(chosen) ** 2
    if values > integer("max_values", max_values, 1, MAX_INT64):
        raise ResponseTooLargeError(
            f"{n_layers * n_heads} patterns of {len(chosen)} x {len(chosen)} tokens are "
            f"{values} numbers, allowed: {max_values}; select fewer with position_range"
        )
    sums = _Sums(len(layers), n_layers, n_heads, chosen)
    _visit(state, layer, head, chosen, sums.add)

    def finished(part: NDArray[np.float64]) -> NDArray[np.float64]:
        return _cut(_divided(part) if normalize else part, threshold, renormalize)

    mean = sums.mean
    permitted = (_divided(mean) if normalize else mean)[_permitted(state, len(chosen))]
    shown = finished(mean)
    listed = [[shown]]
    if n_layers * n_heads > 1:
        listed = [[finished(part) for part in parts] for parts in sums.parts]
    patterns = [
        AttentionPattern(
            i if per_layer and layer is None else layer,
            j if per_head and head is None else head,
            pattern,
        )
        for i, of_layer in enumerate(listed)
        for j, pattern in enumerate(of_layer)
    ]
    tokens = state._seen_pieces()[chosen.start : chosen.stop]
    return AttentionAnalysis(
        layer, head, chosen.start, tokens, shown, patterns,
        threshold, float(permitted.max()), float(permitted.min()), info.n_layers, info.n_heads,
        bool(normalize), bool(renormalize),
    )  # fmt: skip


def importances(state: Looking, layer: int | None) -> list[HeadImportance]:
    """Return what `State.head_importance` documents."""
    import numpy as np

    length = state._filled()
    layer = None if layer is None else state._check_layer(layer)
    info = state.model.info
    relative = np.zeros((info.n_layers, info.n_heads))
    absolute = np.zeros_like(relative)
    both_ways = _both_ways(state)
    seen = np.full(length, length) if both_ways else np.arange(length) + 1  # by each token

    def add(at_layer: int, at: int, weights: NDArray[np.float32]) -> None:
        keys = seen[at : at + weights.shape[1]]
        rows = weights[:, keys > 1, : keys.max()]  # what follows is zero
        entropy = _entropy(_divided(rows) if both_ways else rows)
        absolute[at_layer] += entropy.sum(axis=1)
        relative[at_layer] += (entropy / np.log(keys[keys > 1])).sum(axis=1)

    rows = max(1, min(PASS_ROWS, BLOCK_VALUES // (info.n_heads * length)))
    _visit(state, layer, None, range(length), add, rows)
    n = max(1, int((seen > 1).sum()))
    importance = np.clip(1.0 - relative / n, 0.0, 1.0) if length > 1 else relative
    absolute /= n
    return [
        HeadImportance(i, j, float(importance[i, j]), float(absolute[i, j]))
        for i in (range(info.n_layers) if layer is None else (layer,))
        for j in range(info.n_heads)
    ]


def selection(state: Looking, position_range: Sequence[int] | None, max_tokens: int) -> range:
    """Return the positions, among the tokens the model sees, that `position_range` selects.

    Raises:
        EmptyStateError: The state holds no tokens.
        TokenIndexOutOfRangeError: The selection begins behind the last token.
        ResponseTooLargeError: Over `max_tokens`.
    """
    length = state._filled()
    chosen = range(length)
    if position_range is not None:
        chosen = inclusive(
            "position_range", position_range, length, error=TokenIndexOutOfRangeError
        )
    if len(chosen) > max_tokens:
        raise ResponseTooLargeError(
            f"{len(chosen)} tokens are selected, allowed: {max_tokens}; select fewer with "
            "position_range"
        )
    return chosen


def _visit(
    state: Looking,
    layer: int | None,
    head: int | None,
    chosen: range,
    add: Callable[[int, int, NDArray[np.float32]], None],
    rows: int = PASS_ROWS,
) -> None:
    """Call add(layer, row, weights [heads, rows, keys]); at most `rows` at once."""
    one_head = -1 if head is None else head

    def visit(at_layer: int, at: int, weights: _core.Array) -> None:
        add(at_layer, at, array(weights))

    core = state._seen()
    if layer is None:
        core.attention_layers(visit, one_head, chosen.start, len(chosen), rows)
        return
    for at in range(0, len(chosen), rows):
        n = min(rows, len(chosen) - at)
        visit(layer, at, core.attention(layer, one_head, chosen.start + at, n))


class _Sums:
    """Weights among chosen tokens, added up layer by layer."""

    def __init__(self, of_layers: int, n_layers: int, n_heads: int, chosen: range) -> None:
        import numpy as np

        self._chosen, self._of_layers = chosen, of_layers
        n = len(chosen)
        self._all = np.zeros((n, n))
        # With one layer and one head the mean is all there is to show.
        self.parts = np.zeros((n_layers, n_heads, n, n) if n_layers * n_heads > 1 else (0, 0, n, n))

    def add(self, layer: int, at: int, weights: NDArray[np.float32]) -> None:
        """Take the rows of one layer: [heads, rows, keys], from row `at` of those chosen."""
        keys = weights[:, :, self._chosen.start : self._chosen.stop]
        rows, width = slice(at, at + weights.shape[1]), slice(keys.shape[2])
        mean = keys.mean(axis=0, dtype=float)
        self._all[rows, width] += mean
        n_layers, n_heads = self.parts.shape[:2]
        if not n_layers:
            return
        own = keys[:n_heads] if n_heads > 1 else mean
        if n_layers > 1:
            self.parts[layer, :, rows, width] += own
        else:
            self.parts[0, :, rows, width] += own / self._of_layers

    @property
    def mean(self) -> NDArray[np.float64]:
        """The mean over layers and heads."""
        return self._all / self._of_layers


def _both_ways(state: Looking) -> bool:
    """Whether a token attends to those behind it, too; what it gives the template is not shown."""
    return state.model.model_type == "encoder"


def _permitted(state: Looking, n: int) -> NDArray[np.bool_]:
    import numpy as np

    return np.ones((n, n), dtype=bool) if _both_ways(state) else np.tri(n, dtype=bool)


def _divided(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return rows divided by their sums; rows of zeros stay."""
    sums = rows.sum(axis=-1, keepdims=True, dtype=float)
    sums[sums == 0.0] = 1.0
    divided: NDArray[np.float64] = rows / sums
    return divided


def _cut(rows: NDArray[np.float64], threshold: float, renormalize: bool) -> NDArray[np.float64]:
    import numpy as np

    kept = np.where(rows > threshold, rows, 0.0)
    return _divided(kept) if renormalize else kept


def _entropy(weights: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the entropy of each row [..., keys], in nats."""
    import numpy as np

    wide = weights.astype(np.float64)
    logs = np.log(wide, out=np.zeros_like(wide), where=wide > 0.0)
    logs *= wide
    return -np.asarray(logs.sum(axis=-1))
