"""Token info: what a forward pass or a generation tells about chosen tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import exp
from typing import TYPE_CHECKING, Literal

from cacher.checks import MAX_INT64, choice, integer
from cacher.errors import ResponseTooLargeError
from cacher.looking import array
from cacher.tokens import MAX_TOP, top_at
from cacher.types import TopToken

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cacher.looking import Looking

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


def check_logits(n: int, vocab_size: int, most: int) -> None:
    """Refuse the logits of so many tokens.

    Raises:
        ResponseTooLargeError: They are more than `most` numbers.
    """
    if n * vocab_size > most:
        raise ResponseTooLargeError(
            f"the logits of {n} tokens are {n * vocab_size} numbers, allowed: {most}"
        )


def infos(
    state: Looking,
    first: int,
    n: int | None,
    distribution: Distribution,
    logits: bool,
    top_logprobs: int,
    entropy: bool,
    max_logits: int,
) -> list[TokenInfo]:
    """Return what `State.token_info` documents."""
    state.model._require("token_info")
    choice("distribution", distribution, "next_token", "this_token")
    k = min(integer("top_logprobs", top_logprobs, 0, MAX_TOP), state.model.vocab_size)
    most = integer("max_logits", max_logits, 0, MAX_INT64)
    first, n = state._range(first, n)
    if logits:
        check_logits(n, state.model.vocab_size, most)
    shift = 1 if distribution == "next_token" else 0
    tops = None
    if k and not logits and not entropy:
        tops = _stored_tops(state, first + shift - 1, n, k)
    entropies = vectors = None
    if logits or entropy or (k and tops is None):
        judged = state._analyze(first, n + shift, k, logits)
        logprobs = judged[0][:n]
        entropies = judged[1][shift:].tolist() if entropy else None
        tops = (judged[3][shift:], judged[4][shift:], judged[5][shift:]) if k else None
        vectors = judged[6][shift:] if logits else None
    else:
        logprobs = state._logprobs(first, n)
    shown = None if tops is None else _shown(state, tops)
    ids = state._core.tokens(first, n).tolist()
    pieces = state._pieces()[first : first + n]
    found = []
    for i, logprob in enumerate(logprobs.tolist()):
        info = TokenInfo(
            pieces[i], ids[i], first + i, exp(logprob), logprob, distribution,
            None if entropies is None else entropies[i],
            None if shown is None else shown[i],
            None if vectors is None else vectors[i],
        )  # fmt: skip
        found.append(info)
    return found


def _stored_tops(state: Looking, first: int, n: int, k: int) -> Tops | None:
    """Return what is stored of the predictions after tokens from `first` on, if all of it."""
    import numpy as np

    if first < 0 or state.dropped_tokens:
        return None
    ids, logits = map(array, state._core.scores(first, n, k)[1:])
    lse = array(state._core.lse(first, n))
    known = not np.isnan(lse).any() and bool((ids >= 0).all())
    return (ids, logits, lse) if known else None


def _shown(state: Looking, tops: Tops) -> list[list[TopToken]]:
    rows = zip(*(part.tolist() for part in tops), strict=True)
    return [top_at(state.model._tokenizer, ids, logits, lse) for ids, logits, lse in rows]
