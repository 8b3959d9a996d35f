"""Vectors: hidden states of all layers, and embeddings of tokens and of whole states."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from cacher.checks import choice, integer
from cacher.errors import ParameterError, TokenIndexOutOfRangeError
from cacher.looking import Looking, array

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EmbeddingKind = Literal["hidden", "input"]


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """A vector for a token, or for all of them.

    Attributes:
        token_index: As asked for; None is the mean over all tokens.
        token: The text the token adds; None for the mean.
        kind: ``"hidden"``: in its context; ``"input"``: its row of the embedding table.
        layer: As asked for; None is after the final layer and norm.
        embedding: float32 [hidden_size].
    """

    token_index: int | None
    token: str | None
    kind: EmbeddingKind
    layer: int | None
    embedding: NDArray[np.float32] = field(repr=False)

    @property
    def dimension(self) -> int:
        """The length of the vector: the model's hidden_size."""
        return len(self.embedding)


class VectorLooks(Looking):
    """What `cacher.State` shows of its vectors."""

    __slots__ = ()

    def hidden(
        self, layer: int | None = None, *, first: int = 0, n: int | None = None
    ) -> NDArray[np.float32]:
        """Return hidden states.

        Args:
            layer: 0 (input of the first layer) to n_layers (output of the last); None: after the
                final norm.
            first: First token.
            n: Tokens; None is all from `first`.

        Returns:
            float32 [n, hidden_size].

        Raises:
            EmptyStateError: The state holds no tokens.
            ParameterError: A layer or position is out of range.

        Example:
            >>> import cacher
            >>> cacher.load("tales").state("Hello world").hidden(3).shape
            (2, 256)
        """
        at = -1 if layer is None else self._check_layer(layer, behind=1)
        return array(self._core.hidden(at, *self._filled_range(first, n)))

    def embedding(
        self,
        token_index: int | None = None,
        *,
        kind: EmbeddingKind = "hidden",
        layer: int | None = None,
    ) -> Embedding:
        """Return a vector for one token, or the mean over all.

        Args:
            token_index: One token, negative from the end; None is the mean over all tokens.
            kind: ``"hidden"``: hidden states; ``"input"``: rows of the embedding table.
            layer: For hidden states: 0 (input of the first layer) to n_layers (output of the
                last); None: after the final norm.

        Raises:
            EmptyStateError: The state holds no tokens.
            TokenIndexOutOfRangeError: There is no such token.
            LayerOutOfRangeError: There is no such layer.
            ParameterError: Another kind, or a layer of ``"input"``.

        Example:
            >>> import cacher
            >>> found = cacher.load("tales").state("Hello world").embedding(-1)
            >>> found.token, found.dimension
            (' world', 256)
        """
        choice("kind", kind, "hidden", "input")
        if kind == "input" and layer is not None:
            raise ParameterError(f'layer is {layer}, allowed with kind "input": None')
        length = self._filled()
        at = None
        if token_index is not None:
            low, high = -length, length - 1
            token_index = integer(
                "token_index", token_index, low, high, error=TokenIndexOutOfRangeError
            )
            at = token_index % length
        vector = self._input(at) if kind == "input" else self._hidden(layer, at)
        token = None if at is None else self._pieces()[at]
        return Embedding(token_index, token, kind, layer, vector)

    def _hidden(self, layer: int | None, at: int | None) -> NDArray[np.float32]:
        import numpy as np

        if at is not None:
            return self.hidden(layer, first=at, n=1).reshape(-1)
        mean: NDArray[np.float64] = self.hidden(layer).mean(axis=0, dtype=np.float64)
        return mean.astype(np.float32)

    def _input(self, at: int | None) -> NDArray[np.float32]:
        import numpy as np

        ids = array(self._core.tokens())
        if at is not None:
            return self.model.embedding_input(int(ids[at]))
        different, counts = np.unique(ids, return_counts=True)
        rows = np.stack([self.model.embedding_input(i) for i in different.tolist()])
        mean: NDArray[np.float64] = counts @ rows.astype(np.float64) / counts.sum()
        return mean.astype(np.float32)
