"""Looking inside a state: probabilities, attention, keys and values, embeddings.

All read-only: no field of the state changes, though the model may have to run.  Arrays are computed
into memory that NumPy shows without another copy; they are the caller's to change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import exp
from typing import TYPE_CHECKING

from cacher import _core
from cacher.analysis import MAX_ATTENTION_TOKENS, Analysis
from cacher.checks import integer
from cacher.errors import ParameterError
from cacher.looking import array
from cacher.types import Token, TopToken, top_tokens

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cacher._core import State as CoreState
    from cacher.display import Picture


class Inspection(Analysis):
    """The looking half of `cacher.State`."""

    __slots__ = ()

    # ---- probabilities

    def logits(self, first: int | None = None, n: int | None = None) -> NDArray[np.float32]:
        """Return raw predictions.

        Args:
            first: None: the prediction after the last token; else the first position wanted.
            n: Positions wanted; None is all from `first`.

        Returns:
            float32 [vocab_size], or with `first` float32 [n, vocab_size]: row i is the prediction
            made after token first + i.  A state without tokens predicts after a lone BOS.

        Example:
            >>> import cacher
            >>> state = cacher.load("tales").state("Hello world")
            >>> state.logits().shape, state.logits(0).shape
            ((4096,), (2, 4096))
        """
        self.model._require("logits")
        if first is None:
            if n is not None:
                raise ParameterError(f"n is {n} without first: say where the positions begin")
            return array(self._seen().next_logits(self._store_top_k))
        import numpy as np

        first, n = self._range(first, n)
        parts = [
            array(core.logits(at - 1, count)) for core, at, count in self._judges(first + 1, n)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def top_tokens(self, n: int = 5) -> list[TopToken]:
        """Return the likeliest next tokens (temperature 1, nothing cut off), most probable first.

        Args:
            n: How many, 1 to 1000; capped at the vocabulary size.

        Example:
            >>> import cacher
            >>> cacher.load("tales").state("Once upon a").top_tokens(1)[0].token
            ' time'
        """
        self.model._require("top_tokens")
        n = min(integer("n", n, 1, 1000), self.model.vocab_size)
        pairs = self._stored_top(len(self) - 1, n) if len(self) else ()
        if len(pairs) < n:
            ids, logits, lse = _core.top_logits(self._seen().next_logits(self._store_top_k), n)
            values = zip(ids.tolist(), logits.tolist(), strict=True)
            pairs = tuple((i, value - lse) for i, value in values)
        return top_tokens(pairs, self.model._tokenizer)

    def logprobs(self) -> NDArray[np.float32]:
        """Return the log-probability of each token given those before it: float32 [tokens].

        What the state has stored is read without running the model.  The first token is predicted
        after a lone BOS.

        Example:
            >>> import cacher
            >>> cacher.load("tales").state("Hello world").logprobs().shape
            (2,)
        """
        self.model._require("logprobs")
        return self._logprobs(0, len(self))

    def _logprobs(self, first: int, n: int) -> NDArray[np.float32]:
        import numpy as np

        parts = []
        for core, at, count in self._judges(first, n):
            whole = len(core) <= self.model.n_ctx  # else its last token is behind what it can read
            parts.append(_known_logprobs(core, at, count, self._store_top_k if whole else 0))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def entropy(self) -> NDArray[np.float32]:
        """Return the entropy each token was predicted with, in nats: float32 [tokens].

        Runs the model.

        Example:
            >>> import cacher
            >>> bool((cacher.load("tales").state("Hello world").entropy() >= 0).all())
            True
        """
        self.model._require("entropy")
        return self._analyze(0, len(self))[1]

    def ranks(self) -> NDArray[np.int32]:
        """Return each token's place among the predictions, 1 = most probable: int32 [tokens].

        Runs the model.

        Example:
            >>> import cacher
            >>> bool((cacher.load("tales").state("Hello world").ranks() >= 1).all())
            True
        """
        self.model._require("ranks")
        return self._analyze(0, len(self))[2]

    def __iter__(self) -> Iterator[Token]:
        """Give the state's tokens with their probabilities."""
        ids = self._core.tokens().tolist()
        tokenizer = self.model._tokenizer
        pieces = self._pieces()
        logprobs = self.logprobs().tolist()
        for position, token_id in enumerate(ids):
            logprob = logprobs[position]
            top = self._stored_top(position - 1, 5) if position else ()
            yield Token(
                pieces[position], token_id, position, exp(logprob), logprob, None,
                top_tokens(top, tokenizer),
            )  # fmt: skip

    def _stored_top(self, position: int, n: int) -> tuple[tuple[int, float], ...]:
        """Return up to n (id, log-probability) pairs stored for the prediction after a token."""
        if position >= len(self):
            return ()
        if self._window_start(position + 1) not in (0, self.dropped_tokens):
            return ()
        core, at, _ = next(self._judges(position + 1, 1))
        lse = core.lse(at - 1, 1).tolist()[0]
        if lse != lse:
            return ()
        _logprob, ids, logits = core.scores(at - 1, 1, n)
        pairs = zip(ids.tolist()[0], logits.tolist()[0], strict=True)
        return tuple((i, value - lse) for i, value in pairs if i >= 0)

    # ---- the model's insides

    def attention(
        self, layer: int, head: int | None = None, *, first: int = 0, n: int | None = None
    ) -> NDArray[np.float32]:
        """Return softmax attention, recomputed: exactly what generation saw.

        Args:
            layer: 0 to n_layers - 1.
            head: 0 to n_heads - 1; None is all heads.
            first: First attending token.
            n: Attending tokens; None is all from `first`.

        Returns:
            float32 [n_heads, n, first + n], or with `head` [n, first + n]: row = attending token,
            column = attended token, zero above the diagonal, each row summing to 1.  An encoder's
            tokens attend to all of them, [n_heads, n, tokens], and to the special tokens that it
            reads around them: what a row lacks to 1.

        Raises:
            EmptyStateError: The state holds no tokens.
            ParameterError: A layer, head or position is out of range.

        Example:
            >>> import cacher
            >>> cacher.load("tales").state("Hello world").attention(0).shape
            (8, 2, 2)
        """
        layer = self._check_layer(layer)
        chosen = -1 if head is None else self._check_head(head, self.model.info.n_heads)
        weights = array(self._seen().attention(layer, chosen, *self._filled_range(first, n)))
        return weights if head is None else weights.reshape(weights.shape[1:])

    def kv(
        self, layer: int, *, first: int = 0, n: int | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the keys (after rotation) and values of a layer.

        Args:
            layer: 0 to n_layers - 1.
            first: First token.
            n: Tokens; None is all from `first`.

        Returns:
            Two arrays, float32 [n_kv_heads, n, head_dim].

        Raises:
            EmptyStateError: The state holds no tokens.
            ParameterError: A layer or position is out of range.

        Example:
            >>> import cacher
            >>> keys, values = cacher.load("tales").state("Hello world").kv(0)
            >>> keys.shape
            (4, 2, 32)
        """
        self.model._require("kv")
        layer = self._check_layer(layer)
        keys, values = self._seen().kv(layer, *self._filled_range(first, n))
        return array(keys), array(values)

    @property
    def cached_tokens(self) -> int:
        """How many leading tokens have their KV entries in memory; the rest would be computed."""
        return self._seen().ready()

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
        return array(self._seen().hidden(at, *self._filled_range(first, n)))

    # ---- pictures

    def show_attention(self, layer: int, head: int = 0) -> Picture:
        """Return a picture of a head's attention for a notebook, no network needed.

        Args:
            layer: 0 to n_layers - 1.
            head: 0 to n_heads - 1.

        Example:
            >>> import cacher
            >>> picture = cacher.load("tales").state("Hello world").show_attention(0, 0)
            >>> "<svg" in picture.html
            True
        """
        from cacher.display import attention_picture

        return attention_picture(self, layer, head)

    def show_full_attention(
        self,
        layer: int,
        head: int | None = None,
        *,
        position_range: Sequence[int] | None = None,
        max_tokens: int = MAX_ATTENTION_TOKENS,
    ) -> Picture:
        """Return a picture of all attention weights of a layer, each a pixel, for a notebook.

        Args:
            layer: 0 to n_layers - 1.
            head: 0 to n_heads - 1, with labels; None is all heads, one beside the other.
            position_range: First and last selected token, both included; None is all.
            max_tokens: Selected tokens at most.

        Raises:
            As `analyze_attention`.

        Example:
            >>> import cacher
            >>> picture = cacher.load("tales").state("Hello world").show_full_attention(0)
            >>> picture.html.count("<svg")
            8
        """
        from cacher.matrix import full_attention_picture

        return full_attention_picture(self, layer, head, position_range, max_tokens)

    def ansi(self) -> str:
        """Return the text for a terminal, each token coloured by its probability.

        Example:
            >>> import cacher
            >>> print(cacher.load("tales").state("Hello world").ansi())  # doctest: +SKIP
        """
        from cacher.display import ansi

        return ansi(self)

    def _repr_html_(self) -> str:
        from cacher.display import state_html

        return state_html(self)


def _known_logprobs(core: CoreState, first: int, n: int, store: int) -> NDArray[np.float32]:
    """Return log-probabilities from what is stored; the model runs for those that are not."""
    import numpy as np

    stored = array(core.scores(first, n, 0)[0])
    if np.isnan(stored).any() and store:
        core.eval(store)
        stored = array(core.scores(first, n, 0)[0])
    missing = np.flatnonzero(np.isnan(stored))
    if missing.size:
        known = int(missing[0])
        stored[known:] = array(core.analyze(first + known, n - known)[0])
    return stored
