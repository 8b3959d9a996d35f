"""What the looking halves of a state share: its parts, ranges of positions, texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cacher import _core
from cacher.checks import integer
from cacher.errors import EmptyStateError, HeadOutOfRangeError, LayerOutOfRangeError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cacher.model import Model
    from cacher.params import StateConfig


def array(source: _core.Array) -> NDArray[Any]:
    """Return the core's numbers as a NumPy array, without a copy."""
    import numpy as np

    return np.asarray(source)


class Looking:
    """The ground that looking stands on."""

    __slots__ = ()

    if TYPE_CHECKING:
        _core: _core.State

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
        def _logprobs(self, first: int, n: int) -> NDArray[np.float32]: ...
        def kv(  # noqa: D102
            self, layer: int, *, first: int = 0, n: int | None = None
        ) -> tuple[NDArray[np.float32], NDArray[np.float32]]: ...
        def hidden(  # noqa: D102
            self, layer: int | None = None, *, first: int = 0, n: int | None = None
        ) -> NDArray[np.float32]: ...
        def __len__(self) -> int: ...

    def _range(self, first: int, n: int | None) -> tuple[int, int]:
        length = len(self)
        first = integer("first", first, 0, length)
        return first, length - first if n is None else integer("n", n, 0, length - first)

    def _filled_range(self, first: int, n: int | None) -> tuple[int, int]:
        self._filled()
        return self._range(first, n)

    def _filled(self) -> int:
        """Return the number of tokens: at least one."""
        length = len(self)
        if not length:
            raise EmptyStateError("the state holds no tokens to look at")
        return length

    def _check_layer(self, layer: object, low: int = 0, behind: int = 0) -> int:
        """Return a layer's index; `behind`: how many indices follow that of the last layer."""
        last = self.model.info.n_layers - 1 + behind
        return integer("layer", layer, low, last, error=LayerOutOfRangeError)

    def _check_head(self, head: object, n_heads: int) -> int:
        return integer("head", head, 0, n_heads - 1, error=HeadOutOfRangeError)

    def _pieces(self) -> list[str]:
        """Return the text that each token adds; empty texts for a model without a tokenizer."""
        ids = self._core.tokens().tolist()
        tokenizer = self.model._tokenizer
        return tokenizer.pieces(ids) if tokenizer else [""] * len(ids)
