"""Vectors: embeddings of tokens and of whole states."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from cacher.checks import choice, integer
from cacher.errors import ParameterError, TokenIndexOutOfRangeError
from cacher.looking import array

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cacher.looking import Looking

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


def embed(
    state: Looking, token_index: int | None, kind: EmbeddingKind, layer: int | None
) -> Embedding:
    """Return what `State.embedding` documents."""
    choice("kind", kind, "hidden", "input")
    if kind == "input" and layer is not None:
        raise ParameterError(f'layer is {layer}, allowed with kind "input": None')
    length = state._filled()
    at = None
    if token_index is not None:
        low, high = -length, length - 1
        token_index = integer(
            "token_index", token_index, low, high, error=TokenIndexOutOfRangeError
        )
        at = token_index % length
    vector = _input(state, at) if kind == "input" else _hidden(state, layer, at)
    token = None if at is None else state._seen_pieces()[at]
    return Embedding(token_index, token, kind, layer, vector)


def _hidden(state: Looking, layer: int | None, at: int | None) -> NDArray[np.float32]:
    import numpy as np

    if at is not None:
        return state.hidden(layer, first=at, n=1).reshape(-1)
    mean: NDArray[np.float64] = state.hidden(layer).mean(axis=0, dtype=np.float64)
    return mean.astype(np.float32)


def _input(state: Looking, at: int | None) -> NDArray[np.float32]:
    import numpy as np

    ids = array(state._seen().tokens())
    if at is not None:
        return state.model.embedding_input(int(ids[at]))
    different, counts = np.unique(ids, return_counts=True)
    rows = np.stack([state.model.embedding_input(i) for i in different.tolist()])
    mean: NDArray[np.float64] = counts @ rows.astype(np.float64) / counts.sum()
    return mean.astype(np.float32)
