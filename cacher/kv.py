"""Keys and values: the entries themselves, and their inspection layer by layer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from cacher.checks import MAX_INT64, choice, inclusive, integer, string
from cacher.errors import LayerOutOfRangeError, ResponseTooLargeError, TokenIndexOutOfRangeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from cacher.looking import Looking

CacheFormat = Literal["object", "list"]
PARTS = ("k", "v")
KEY_NAMES = {
    **dict.fromkeys(("k", "key", "keys"), ("k",)),
    **dict.fromkeys(("v", "value", "values"), ("v",)),
    **dict.fromkeys(("all", "kv"), PARTS),
}


class KVStats(NamedTuple):
    """Of all selected numbers of a layer's keys or values."""

    mean: float
    std: float
    min: float
    max: float
    norm: float


@dataclass(frozen=True, slots=True)
class CacheLayer:
    """A layer's keys and values.

    Attributes:
        layer: Its index.
        shape: (heads, positions, width of a head) of the selection.
        keys: None when only values were asked for.
        values: None when only keys were asked for.
    """

    layer: int
    shape: tuple[int, int, int]
    keys: KVStats | None
    values: KVStats | None


@dataclass(frozen=True, slots=True, eq=False)
class CacheData:
    """Keys and values, summed up for each layer.

    Attributes:
        key_name: ``"all"``, ``"k"``, ``"v"``, or the name that is not known.
        layers: Names of the layers.
        keys: float64 [layers, heads * width]: the mean over positions of each layer's vectors, the
            heads side by side; no rows when only values were asked for.
        values: Likewise.
        layer_data: Statistics of each layer.
    """

    key_name: str
    layers: list[str]
    keys: NDArray[np.float64] = field(repr=False)
    values: NDArray[np.float64] = field(repr=False)
    layer_data: list[CacheLayer]


@dataclass(frozen=True, slots=True, eq=False)
class CacheInspection:
    """What `State.inspect_cache` found.

    Attributes:
        key_name: As asked for, as are `layer`, `layer_range`, `head` and `format`.
        layer: See above.
        layer_range: See above.
        head: See above.
        format: See above.
        layers_returned: The layers that are there.
        matched: Whether `key_name` is known; else there is no data.
        available_keys: The parts there are.
        positions: Tokens selected.
        memory_bytes: Bytes the selected entries take in memory.
        axes: Of the list form: ``"key"``, ``"layer"``, ``"head"``, ``"position"``, ``"dim"``
            without those that one value was asked of; None for the object form.
        shape: Sizes of these axes; None for the object form.
        cache_data: The object form, or float32 numbers of that shape.
    """

    key_name: str | None
    layer: int | None
    layer_range: tuple[int, int] | None
    head: int | None
    format: CacheFormat
    layers_returned: list[int]
    matched: bool
    available_keys: tuple[str, ...]
    positions: int
    memory_bytes: int
    axes: tuple[str, ...] | None
    shape: tuple[int, ...] | None
    cache_data: CacheData | NDArray[np.float32] = field(repr=False)


def inspect(
    state: Looking,
    key_name: str | None,
    layer_range: Sequence[int] | None,
    layer: int | None,
    head: int | None,
    position_range: Sequence[int] | None,
    format: CacheFormat,  # noqa: A002 - the name it has everywhere
    max_values: int,
) -> CacheInspection:
    """Return what `State.inspect_cache` documents."""
    state.model._require("inspect_cache")
    info = state.model.info
    choice("format", format, "object", "list")
    names = PARTS if key_name is None else KEY_NAMES.get(string("key_name", key_name), ())
    layers = _layers(state, layer, layer_range)
    n_heads = info.n_kv_heads
    number_bytes = 2 if info.kv_dtype == "bf16" else 4
    heads = range(n_heads)
    if head is not None:
        head = state._check_head(head, n_heads)
        heads = range(head, head + 1)
    length = state._filled()
    chosen = range(length)
    if position_range is not None:
        chosen = inclusive(
            "position_range", position_range, length, error=TokenIndexOutOfRangeError
        )
    picked = _Picked(state, names, layers if names else range(0), heads, chosen)
    picked.check(format, integer("max_values", max_values, 1, MAX_INT64))
    data: CacheData | NDArray[np.float32]
    axes = shape = None
    if format == "object":
        name = key_name if key_name is not None and not names else "all"
        data = picked.summary(names[0] if len(names) == 1 else name)
    else:
        dropped = {"key": len(names) == 1, "layer": layer is not None, "head": head is not None}
        data, axes = picked.numbers({axis for axis, single in dropped.items() if single})
        shape = data.shape
    return CacheInspection(
        key_name, layer, None if layer_range is None else (layer_range[0], layer_range[1]),
        head, format, list(picked.layers), bool(names), PARTS, len(chosen),
        picked.n_numbers * number_bytes, axes, shape, data,
    )  # fmt: skip


def _layers(state: Looking, layer: int | None, layer_range: Sequence[int] | None) -> range:
    n_layers = state.model.info.n_layers
    layers = range(n_layers)
    if layer_range is not None:
        layers = inclusive("layer_range", layer_range, n_layers, error=LayerOutOfRangeError)
    if layer is None:
        return layers
    layer = state._check_layer(layer)
    if layer not in layers:
        raise LayerOutOfRangeError(
            f"layer is {layer}, allowed by layer_range: {layers[0]} to {layers[-1]}"
        )
    return range(layer, layer + 1)


class _Picked:
    """The selected part of a state's keys and values, read one layer at a time."""

    def __init__(
        self, state: Looking, names: tuple[str, ...], layers: range, heads: range, chosen: range
    ) -> None:
        self._state, self._names, self._heads, self._chosen = state, names, heads, chosen
        self._width = state.model.info.head_dim
        self.layers = layers

    @property
    def n_numbers(self) -> int:
        """How many numbers the selection holds."""
        vectors = len(self._names) * len(self.layers) * len(self._heads) * len(self._chosen)
        return vectors * self._width

    def check(self, form: str, max_values: int) -> None:
        """Refuse what is too large, before anything is computed."""
        values = self.n_numbers
        if form == "object":
            per_layer = len(self._heads) * self._width + len(KVStats._fields)
            values = len(self._names) * len(self.layers) * per_layer
        if values > max_values:
            raise ResponseTooLargeError(
                f"the selection holds {values} numbers, allowed: {max_values}; select fewer with "
                "layer, head or position_range"
            )

    def _read(self, layer: int) -> list[NDArray[np.float32]]:
        """Return the selected parts of a layer, each [heads, positions, width]."""
        both = self._state.kv(layer, first=self._chosen.start, n=len(self._chosen))
        parts = dict(zip(PARTS, both, strict=True))
        return [parts[name][self._heads.start : self._heads.stop] for name in self._names]

    def summary(self, key_name: str) -> CacheData:
        """Return the object form."""
        import numpy as np

        means: dict[str, list[NDArray[np.float64]]] = {name: [] for name in PARTS}
        layer_data = []
        shape = (len(self._heads), len(self._chosen), self._width)
        for layer in self.layers:
            stats = {}
            for name, part in zip(self._names, self._read(layer), strict=True):
                wide = part.astype(np.float64)
                means[name].append(wide.mean(axis=1).ravel())
                stats[name] = KVStats(
                    float(wide.mean()), float(wide.std()), float(wide.min()), float(wide.max()),
                    float(np.sqrt(np.square(wide).sum())),
                )  # fmt: skip
            layer_data.append(CacheLayer(layer, shape, stats.get("k"), stats.get("v")))
        width = shape[0] * shape[2]
        keys, values = (np.array(means[name]).reshape(-1, width) for name in PARTS)
        return CacheData(
            key_name, [f"Layer {layer}" for layer in self.layers], keys, values, layer_data
        )

    def numbers(self, dropped: set[str]) -> tuple[NDArray[np.float32], tuple[str, ...]]:
        """Return the list form without the dropped axes, and the names of those that stay."""
        import numpy as np

        if not self._names:
            return np.empty(0, np.float32), ("key",)
        sizes = {
            "key": len(self._names), "layer": len(self.layers), "head": len(self._heads),
            "position": len(self._chosen), "dim": self._width,
        }  # fmt: skip
        every = np.empty(tuple(sizes.values()), np.float32)
        for i, layer in enumerate(self.layers):
            for j, part in enumerate(self._read(layer)):
                every[j, i] = part
        axes = tuple(axis for axis in sizes if axis not in dropped)
        return cast("NDArray[np.float32]", every.reshape([sizes[axis] for axis in axes])), axes
