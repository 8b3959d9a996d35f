"""What the looking halves of a state share: its parts, ranges of positions, texts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cacher import _core
from cacher.checks import integer
from cacher.errors import EmptyStateError, HeadOutOfRangeError, LayerOutOfRangeError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cacher._core import State as CoreState
    from cacher.model import Model
    from cacher.params import StateConfig


def array(source: _core.Array) -> NDArray[Any]:
    """Return the core's numbers as a NumPy array, without a copy."""
    import numpy as np

    return np.asarray(source)


def _within(length: int, first: object, n: object) -> tuple[int, int]:
    first = integer("first", first, 0, length)
    return first, length - first if n is None else integer("n", n, 0, length - first)


class Looking:
    """The ground that looking stands on.

    Tokens, their probabilities and predictions are asked for by their position in the state.
    Attention, keys and values and hidden states are of what the model sees: with
    ``context_strategy`` "slide", index 0 is the first token of the window.
    """

    __slots__ = ()

    if TYPE_CHECKING:
        _core: CoreState

        @property
        def model(self) -> Model: ...  # noqa: D102
        @property
        def text(self) -> str: ...  # noqa: D102
        @property
        def config(self) -> StateConfig: ...  # noqa: D102
        @property
        def head_position(self) -> int: ...  # noqa: D102
        @property
        def _store_top_k(self) -> int: ...
        @property
        def dropped_tokens(self) -> int: ...  # noqa: D102
        def _seen(self) -> CoreState: ...
        def _window_start(self, n_tokens: int) -> int: ...
        def _judges(self, first: int, n: int) -> Iterator[tuple[CoreState, int, int]]: ...
        def _logprobs(self, first: int, n: int) -> NDArray[np.float32]: ...
        def kv(  # noqa: D102
            self, layer: int, *, first: int = 0, n: int | None = None
        ) -> tuple[NDArray[np.float32], NDArray[np.float32]]: ...
        def hidden(  # noqa: D102
            self, layer: int | None = None, *, first: int = 0, n: int | None = None
        ) -> NDArray[np.float32]: ...
        def __len__(self) -> int: ...

    def _range(self, first: int, n: int | None) -> tuple[int, int]:
        return _within(len(self), first, n)

    def _filled_range(self, first: int, n: int | None) -> tuple[int, int]:
        """Return a range of the tokens that the model sees."""
        return _within(self._filled(), first, n)

    def _filled(self) -> int:
        """Return the number of tokens that the model sees: at least one."""
        length = len(self) - self.dropped_tokens
        if not length:
            raise EmptyStateError("the state holds no tokens to look at")
        return length

    def _analyze(self, first: int, n: int, k: int = 0, logits: bool = False) -> list[NDArray[Any]]:
        """Return the core's analysis of positions [first, first + n), each by what predicted it."""
        import numpy as np

        parts = [
            [array(part) for part in core.analyze(at, count, k, logits)]
            for core, at, count in self._judges(first, n)
        ]
        if len(parts) == 1:
            return parts[0]
        return [np.concatenate(same) for same in zip(*parts, strict=True)]

    def _check_layer(self, layer: object, low: int = 0, behind: int = 0) -> int:
        """Return a layer's index; `behind`: how many indices follow that of the last layer."""
        last = self.model.info.n_layers - 1 + behind
        return integer("layer", layer, low, last, error=LayerOutOfRangeError)

    def _check_head(self, head: object, n_heads: int) -> int:
        return integer("head", head, 0, n_heads - 1, error=HeadOutOfRangeError)

    def _seen_pieces(self) -> list[str]:
        """Return the text that each token adds which the model sees."""
        return self._pieces()[self.dropped_tokens :]

    def _pieces(self) -> list[str]:
        """Return the text that each token adds; empty texts for a model without a tokenizer."""
        ids = self._core.tokens().tolist()
        tokenizer = self.model._tokenizer
        return tokenizer.pieces(ids) if tokenizer else [""] * len(ids)
