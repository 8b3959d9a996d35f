"""Encoders: the vector of a text, for finding texts of like meaning.

An encoder (`ModelInfo.model_type` is ``"encoder"``) reads a text in both directions and makes one
vector of what it finds, by the mean of all tokens or by one token's, as the model's files say.  The
cosine of two texts is the product of their vectors, which have the length 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from cacher.checks import MAX_INT32, integer
from cacher.errors import ContextOverflowError, EmptyStateError
from cacher.progress import MANY_TEXTS, Progress, reading

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cacher.model import Model, Text


class Encoding:
    """The embedding part of `cacher.Model`."""

    def embed(
        self,
        texts: Iterable[Text],
        *,
        batch_size: int = 32,
        progress: Progress = None,
    ) -> NDArray[np.float32]:
        """Return the vectors of texts: float32 [texts, hidden_size], each of length 1.

        A vector depends on its text alone: its bits are the same in every batch.

        Args:
            texts: Texts, which are cut where the model reads no further; or token ids, special
                ones included, which are taken as they are.
            batch_size: Texts taken in hand at a time, 1 or more.  Never changes a result.
            progress: None: a bar for more than 500 texts in a terminal or notebook; True or False:
                always or never; or a function called with (texts embedded, texts in all), which
                ends the call by what it raises.

        Raises:
            WrongModelTypeError: The model is no encoder.
            ContextOverflowError: More token ids than the model reads.
            EmptyStateError: A text without any token.
            TokenIdError: An id is outside the vocabulary.
            EncodingError: A text holds half of a surrogate pair.

        Example:
            >>> import cacher
            >>> kitten, cat, tax = cacher.load("minilm").embed(
            ...     ["A kitten naps.", "The cat is asleep.", "Taxes rise."]
            ... )
            >>> bool(kitten @ cat > 0.6 > kitten @ tax)
            True
        """
        import numpy as np

        model = cast("Model", self)
        model._require("embed", "encoder")
        batch_size = integer("batch_size", batch_size, 1, MAX_INT32)
        if isinstance(texts, str) or not isinstance(texts, Iterable):
            raise TypeError(f"texts must be several texts, got {type(texts).__name__}")
        several = list(texts)
        vectors = np.empty((len(several), model.info.hidden_size), np.float32)
        with reading(progress, len(several), "text", MANY_TEXTS) as callback:
            for first in range(0, len(several), batch_size):
                taken = several[first : first + batch_size]
                batch = [_ids(model, text, i) for i, text in enumerate(taken, first)]
                ids = [token_id for text in batch for token_id in text]
                found = model._core.embed(ids, [len(text) for text in batch])
                vectors[first : first + len(batch)] = np.asarray(found)
                if callback is not None:
                    callback(first + len(batch), len(several))
        return vectors

    def embed_tokens(self, text: Text) -> NDArray[np.float32]:
        """Return the vectors of a text's tokens: float32 [tokens, hidden_size].

        They are the hidden states behind the last layer, before `embed` makes one vector of them.

        Args:
            text: As one of `embed`'s, from which the errors come, too.

        Example:
            >>> import cacher
            >>> cacher.load("minilm").embed_tokens("A cat").shape
            (4, 384)
        """
        import numpy as np

        model = cast("Model", self)
        model._require("embed_tokens", "encoder")
        return np.asarray(model._core.embed_tokens(_ids(model, text)))


def _ids(model: Model, text: Text, index: int = 0) -> list[int]:
    """The ids of a text that is cut, or the ids that are given."""
    if isinstance(text, str):
        ids = model.tokenizer._core.encode_cut(text, model.n_ctx).tolist()
    elif isinstance(text, Iterable) and not isinstance(text, (bytes, bytearray)):
        ids = list(text)
    else:
        raise TypeError(f"text {index} must be a string or token ids, got {type(text).__name__}")
    if not ids:
        raise EmptyStateError(f"text {index} holds no tokens: it has no vector")
    if len(ids) > model.n_ctx:
        raise ContextOverflowError(
            f"text {index} has {len(ids)} tokens, the model reads at most {model.n_ctx}"
        )
    return ids
