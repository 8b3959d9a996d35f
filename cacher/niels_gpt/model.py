"""The model of a checkpoint by the names of the niels-gpt library: plain passes, and a KV cache.

Everything here is one state of `cacher.Model` underneath, so a plain pass, a prefill and decoding
step by step give the same bits.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cacher.checks import integer, shown
from cacher.errors import ParameterError
from cacher.model import Model

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cacher.state import State

    Floats = NDArray[np.float32]

NOTHING_KEPT = {"store_logits": "none"}


class GPT:
    """A model that is called with the ids of a window, as the niels-gpt library's is.

    Args:
        model: A causal model, such as ``cacher.load("best.pt")`` returns.

    Attributes:
        model: The same.
        V: Tokens it knows.
        T: Longest window.
        C: Width.
        L: Blocks.
        H: Heads.

    Raises:
        WrongModelTypeError: It is no causal model.

    Example:
        >>> import cacher
        >>> from cacher.niels_gpt.model import GPT
        >>> gpt = GPT(cacher.load("tales"))
        >>> gpt([[5, 6, 7]]).shape
        (1, 3, 4096)
    """

    def __init__(self, model: Model) -> None:
        model._require("GPT")
        info = model.info
        self.model = model
        self.V, self.T, self.C = info.vocab_size, model.n_ctx, info.hidden_size
        self.L, self.H = info.n_layers, info.n_heads

    def __call__(self, x: Any) -> Floats:
        """Return the logits of a plain pass.

        Args:
            x: Ids, shape (1, t) with t from 1 to T: an array, or lists.

        Returns:
            float32 (1, t, V).

        Raises:
            ContextOverflowError: More than T ids.
            ParameterError, TokenIdError, TypeError: They are no such ids.
        """
        return self._read(x).logits(0)[None]

    def forward_with_attn_trace(
        self, x: Any, trace_layer: int, return_full_attn: bool = False
    ) -> tuple[Floats, dict[str, Floats]]:
        """Return logits, and what a layer attended to.

        Args:
            x: As in a plain pass.
            trace_layer: 0 to L - 1.
            return_full_attn: Of all positions, not only the last.

        Returns:
            Logits float32 (1, t, V) and ``{"attn_row": (1, H, t)}``, or
            ``{"attn_full": (1, H, t, t)}``.

        Example:
            >>> import cacher
            >>> from cacher.niels_gpt.model import GPT
            >>> _, trace = GPT(cacher.load("tales")).forward_with_attn_trace([[5, 6, 7]], 0)
            >>> trace["attn_row"].shape
            (1, 8, 3)
        """
        state = self._read(x)
        if return_full_attn:
            return state.logits(0)[None], {"attn_full": state.attention(trace_layer)[None]}
        row = state.attention(trace_layer, first=len(state) - 1)
        return state.logits(0)[None], {"attn_row": row[:, 0][None]}

    def _read(self, x: Any) -> State:
        return self.model.state(_one_row(x), config=NOTHING_KEPT)


def _one_row(x: Any) -> list[int]:
    """Return the ids of an array or of lists of shape (1, t)."""
    rows = x.tolist() if hasattr(x, "tolist") else x
    if not isinstance(rows, (list, tuple)) or len(rows) != 1 or not isinstance(rows[0], Iterable):
        raise ParameterError(f"x is {shown(rows)}, allowed: ids of shape (1, t)")
    ids = list(rows[0])
    if not ids:
        raise ParameterError("x holds no ids, allowed: 1 or more")
    return ids


def _model_of(model: GPT | Model) -> Model:
    return model.model if isinstance(model, GPT) else model


class KVCache:
    """Keys and values of one sequence, made by `allocate_kv_cache`.

    Attributes:
        t: Positions that are filled.
        T: Positions that there are.

    Example:
        >>> import cacher
        >>> from cacher.niels_gpt.model import allocate_kv_cache
        >>> cache = allocate_kv_cache(cacher.load("tales"))
        >>> cache.t, cache.k[:, :, :, :5].any()
        (0, np.False_)
    """

    def __init__(self, model: Model) -> None:
        self._state = model.state(config=NOTHING_KEPT)
        self.T = model.n_ctx

    @property
    def t(self) -> int:
        """Positions that are filled."""
        return len(self._state)

    @property
    def k(self) -> Floats:
        """Rotated keys: float32 (L, 1, H, T, D), a copy, zero behind position t."""
        return self._entries(0)

    @property
    def v(self) -> Floats:
        """Values: float32 (L, 1, H, T, D), a copy, zero behind position t."""
        return self._entries(1)

    def _entries(self, part: int) -> Floats:
        import numpy as np

        info = self._state.model.info
        shape = (info.n_layers, 1, info.n_kv_heads, self.T, info.head_dim)
        entries = np.zeros(shape, np.float32)
        for layer in range(info.n_layers if self.t else 0):
            entries[layer, 0, :, : self.t] = self._state.kv(layer)[part]
        return entries


def allocate_kv_cache(model: GPT | Model, batch_size: int = 1) -> KVCache:
    """Return an empty cache; its memory is taken while it is filled.

    Args:
        model: The model that fills it.
        batch_size: 1: other sequences have caches of their own.

    Raises:
        ParameterError: Another batch size.
        WrongModelTypeError: The model is no causal model.
    """
    integer("batch_size", batch_size, 1, 1)
    model = _model_of(model)
    model._require("a KV cache")
    return KVCache(model)


def prefill(
    model: GPT | Model, prompt: Any, cache: KVCache, *, trace_layer: int | None = None
) -> Any:
    """Read a prompt into an empty cache.

    Args:
        model: The model that the cache was made for.
        prompt: Its ids, 1 to T: an array or a list, of shape (P,) or (1, P).
        cache: Filled up to position P.
        trace_layer: Return also what the last position attends to in this layer.

    Returns:
        Logits of all positions, float32 (1, P, V); with `trace_layer` a pair of them and weights,
        float32 (1, H, P).  The next token is drawn from the last row of the logits.

    Raises:
        ParameterError: The cache is not empty, or the prompt is; it has more than T ids.
        TokenIdError: An id is outside the vocabulary.

    Example:
        >>> import cacher
        >>> from cacher.niels_gpt.model import allocate_kv_cache, decode_step, prefill
        >>> model = cacher.load("tales")
        >>> cache = allocate_kv_cache(model)
        >>> logits = prefill(model, [5, 6, 7], cache)
        >>> decode_step(model, int(logits[0, -1].argmax()), cache).shape, cache.t
        ((1, 4096), 4)
    """
    _check_owner(model, cache)
    if cache.t:
        raise ParameterError(f"the cache holds {cache.t} positions, allowed: an empty one")
    ids = prompt.tolist() if hasattr(prompt, "tolist") else prompt
    if not ids or isinstance(ids[0], int):
        ids = [ids]
    ids = _one_row(ids)
    if len(ids) > cache.T:
        raise ParameterError(f"the prompt has {len(ids)} tokens, allowed: 1 to {cache.T}")
    cache._state.append(ids)
    return _with_trace(cache, cache._state.logits(0)[None], trace_layer)


def decode_step(
    model: GPT | Model, token: int, cache: KVCache, *, trace_layer: int | None = None
) -> Any:
    """Read one more token.

    Args:
        model: The model that the cache was made for.
        token: Its id, written at position t.
        cache: One position longer afterwards.
        trace_layer: As in `prefill`.

    Returns:
        Logits of the new position, float32 (1, V); with `trace_layer` a pair of them and weights,
        float32 (1, H, t + 1).

    Raises:
        ParameterError: The cache is full.  A longer text is read anew, from the last T of its
            tokens on: no entry of the cache is of use for it.
    """
    _check_owner(model, cache)
    if cache.t == cache.T:
        raise ParameterError(f"the cache is full: it holds all of its {cache.T} positions")
    cache._state.append([token])
    return _with_trace(cache, cache._state.logits()[None], trace_layer)


def _check_owner(model: GPT | Model, cache: KVCache) -> None:
    if cache._state.model is not _model_of(model):
        raise ParameterError("the cache was made for another model")


def _with_trace(cache: KVCache, logits: Floats, layer: int | None) -> Any:
    if layer is None:
        return logits
    row = cache._state.attention(layer, first=cache.t - 1)
    return logits, row[:, 0][None]
