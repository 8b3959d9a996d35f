"""Token info: what a forward pass or a generation tells about chosen tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import exp
from typing import TYPE_CHECKING, Literal

from cacher.checks import MAX_INT64, choice, integer
from cacher.errors import ResponseTooLargeError
from cacher.looking import Looking, array
from cacher.tokens import MAX_STORED_LOGITS, MAX_TOP, TokenTexts
from cacher.types import TopToken

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Tops = tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float64]]

Distribution = Literal["next_token", "this_token"]


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """One token of a state, and a distribution beside it.

    Attributes:
        token: The text this token adds; empty while a character is unfinished.
        token_id: Its id.
        position: Its index in the state.
        probability: Of the token itself, given what precedes it.
        logprob: Natural logarithm of it.
        distribution: What the rest describes: ``"next_token"``: the prediction made after the
            token; ``"this_token"``: the one it was chosen from.
        entropy: Of that distribution, in nats; None unless asked for.
        top_logprobs: Its likeliest tokens, best first; None unless asked for.
        logits: float32 [vocab_size]; None unless asked for.
    """

    token: str
    token_id: int
    position: int
    probability: float
    logprob: float
    distribution: Distribution
    entropy: float | None = None
    top_logprobs: list[TopToken] | None = None
    logits: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)


class TokenInfoLooks(Looking):
    """What `cacher.State` tells of chosen tokens."""

    __slots__ = ()

    def token_info(
        self,
        first: int = 0,
        n: int | None = None,
        *,
        distribution: Distribution = "next_token",
        logits: bool = False,
        top_logprobs: int = 0,
        entropy: bool = False,
        max_logits: int = MAX_STORED_LOGITS,
    ) -> list[TokenInfo]:
        """Return what is known of tokens; what is stored is read, the rest takes one pass.

        Args:
            first: First token.
            n: Tokens; None is all from `first`.
            distribution: Which one `logits`, `top_logprobs` and `entropy` describe:
                ``"next_token"``: the prediction after each token, as after a forward pass;
                ``"this_token"``: the one each token was chosen from, as after a generation.
            logits: Give the whole vector of it.
            top_logprobs: Give its likeliest tokens, 0 to 100; capped at the vocabulary size.
            entropy: Give its entropy.
            max_logits: Numbers that `logits` may give at most.

        Raises:
            ParameterError: A value is out of range.
            ResponseTooLargeError: Over `max_logits`.

        Example:
            >>> import cacher
            >>> state = cacher.load("tales").state("Once upon a").forward()
            >>> [info] = state.token_info(2, top_logprobs=1)
            >>> info.token, info.top_logprobs[0].token
            (' a', ' time')
        """
        self.model._require("token_info")
        choice("distribution", distribution, "next_token", "this_token")
        k = min(integer("top_logprobs", top_logprobs, 0, MAX_TOP), self.model.vocab_size)
        most = integer("max_logits", max_logits, 0, MAX_INT64)
        first, n = self._range(first, n)
        if logits and n * self.model.vocab_size > most:
            raise ResponseTooLargeError(
                f"the logits of {n} tokens are {n * self.model.vocab_size} numbers, allowed: {most}"
            )
        shift = 1 if distribution == "next_token" else 0
        tops = None
        if k and not logits and not entropy:
            tops = self._stored_tops(first + shift - 1, n, k)
        entropies = vectors = None
        if logits or entropy or (k and tops is None):
            judged = [array(part) for part in self._core.analyze(first, n + shift, k, logits)]
            logprobs = judged[0][:n]
            entropies = judged[1][shift:].tolist() if entropy else None
            tops = (judged[3][shift:], judged[4][shift:], judged[5][shift:]) if k else None
            vectors = judged[6][shift:] if logits else None
        else:
            logprobs = self._logprobs(first, n)
        shown = None if tops is None else self._shown(tops)
        ids = self._core.tokens(first, n).tolist()
        pieces = self._pieces()[first : first + n]
        infos = []
        for i, logprob in enumerate(logprobs.tolist()):
            info = TokenInfo(
                pieces[i], ids[i], first + i, exp(logprob), logprob, distribution,
                None if entropies is None else entropies[i],
                None if shown is None else shown[i],
                None if vectors is None else vectors[i],
            )  # fmt: skip
            infos.append(info)
        return infos

    def _stored_tops(self, first: int, n: int, k: int) -> Tops | None:
        """Return what is stored of the predictions after tokens from `first` on, if all of it."""
        import numpy as np

        if first < 0:
            return None
        ids, logits = map(array, self._core.scores(first, n, k)[1:])
        lse = array(self._core.lse(first, n))
        known = not np.isnan(lse).any() and bool((ids >= 0).all())
        return (ids, logits, lse) if known else None

    def _shown(self, tops: Tops) -> list[list[TopToken]]:
        texts = TokenTexts(self.model._tokenizer)
        rows = zip(*(part.tolist() for part in tops), strict=True)
        return [texts.top_tokens(ids, logits, lse) for ids, logits, lse in rows]
