"""Tokens: how the model judged each one, and what else it would have said there."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from math import exp, fsum
from typing import TYPE_CHECKING, Any, NamedTuple

from cacher.checks import MAX_INT64, integer
from cacher.errors import ParameterError
from cacher.types import TopToken, top_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from cacher.looking import Looking
    from cacher.tokenizer import Tokenizer

MAX_TOP = 100
MAX_NGRAMS = 50
BINS = 10
LARGEST_EXPONENT = 700.0  # a perplexity stays a finite number


class TopLogit(NamedTuple):
    """One of the largest logits of a prediction."""

    token: str
    token_id: int
    logit: float


@dataclass(frozen=True, slots=True)
class NGram:
    """Tokens that follow each other, and how often they do; texts are those of the first time."""

    tokens: list[str]
    text: str
    count: int


@dataclass(frozen=True, slots=True)
class HistogramBin:
    """How many tokens have a probability from `low` up to `high`."""

    low: float
    high: float
    count: int


class Correlation(NamedTuple):
    """Pearson correlations; None where one is not defined.

    Of each token's log-probability with the entropy it was predicted with, and with the
    log-probability of the token behind it.
    """

    logprob_entropy_pearson: float | None
    logprob_lag1: float | None


@dataclass(frozen=True, slots=True)
class AnalyzedToken:
    """One token of a state.

    Attributes:
        text: The text this token adds; empty while a character is unfinished.
        position: Its index in the state.
        logprob: Natural logarithm of its probability given the tokens before it (the first: given
            a lone BOS, or uniform without BOS).
        probability: That probability.
        token_id: Its id.
        rank: Its place in that distribution, 1 = most probable.
        entropy: Of that distribution, in nats.
        top_tokens: The likeliest tokens of that distribution, best first.
        top_logits: Of the prediction made after the token, as the state's ``store_logits`` says:
            the largest ones, best first; or float32 [vocab_size]; None where none are stored.
    """

    text: str
    position: int
    logprob: float
    probability: float
    token_id: int
    rank: int
    entropy: float
    top_tokens: list[TopToken] = field(default_factory=list, repr=False, compare=False)
    top_logits: list[TopLogit] | NDArray[np.float32] | None = field(
        default=None, repr=False, compare=False
    )


@dataclass(frozen=True, slots=True)
class TokenAnalysis:
    """What `State.analyze_tokens` found.

    Attributes:
        tokens: One entry per token.
        token_count: How many.
        total_logprob: The sum of their log-probabilities.
        perplexity: exp of minus the mean log-probability from the second token on, at most
            exp(700); None for fewer than two tokens.
        ngrams: The most frequent n-grams, at most 50; those that come first win ties.
        histogram: Ten equal bins of probability.
        correlation: Of log-probabilities.
    """

    tokens: list[AnalyzedToken]
    token_count: int
    total_logprob: float
    perplexity: float | None
    ngrams: list[NGram] | None = None
    histogram: list[HistogramBin] | None = None
    correlation: Correlation | None = None


def top_at(
    tokenizer: Tokenizer | None, ids: Sequence[int], logits: Sequence[float], lse: float
) -> list[TopToken]:
    """Return records for logits of a distribution, given log(sum(exp(all its logits)))."""
    return top_tokens(zip(ids, (logit - lse for logit in logits), strict=True), tokenizer)


def _top_logits(
    tokenizer: Tokenizer | None, ids: Sequence[int], logits: Sequence[float]
) -> list[TopLogit]:
    return [
        TopLogit(tokenizer._text_of(i) if tokenizer else "", i, logit)
        for i, logit in zip(ids, logits, strict=True)
    ]


def analyze(
    state: Looking,
    include_logits: bool,
    top: int,
    ngrams: int,
    histogram: bool,
    correlation: bool,
    max_stored_logits: int,
) -> TokenAnalysis:
    """Return what `State.analyze_tokens` documents."""
    state.model._require("analyze_tokens")
    top = min(integer("top", top, 0, MAX_TOP), state.model.vocab_size)
    ngrams = integer("ngrams", ngrams, 0, 5)
    if ngrams == 1:
        raise ParameterError("ngrams is 1, allowed: 0, which is off, and 2 to 5")
    most = integer("max_stored_logits", max_stored_logits, 0, MAX_INT64)
    tokens = _analyzed(state, top, most if include_logits else None)
    logprobs = [token.logprob for token in tokens]
    return TokenAnalysis(
        tokens,
        len(tokens),
        fsum(logprobs),
        perplexity(logprobs),
        _ngrams(tokens, ngrams) if ngrams else None,
        _histogram([token.probability for token in tokens]) if histogram else None,
        _correlation(logprobs, [token.entropy for token in tokens]) if correlation else None,
    )


def _analyzed(state: Looking, top: int, most: int | None) -> list[AnalyzedToken]:
    """Analyze all tokens; most: numbers of stored vectors, None for no logits at all."""
    ids = state._core.tokens().tolist()
    if not ids:
        return []
    stored = "none" if most is None else state.config.store_logits
    head = min(state.head_position, len(ids)) if stored != "none" else 0
    stored_k = state._store_top_k if stored == "top_k" else 0
    full = min(head, (most or 0) // state.model.vocab_size) if stored == "full" else 0
    n = max(len(ids), head + 1 if head else 0)  # the prediction after the last token, too
    logprob, entropy, rank, top_ids, top_logits, lse, logits = _predictions(
        state, n, max(top, stored_k), range(head - full + 1, head + 1)
    )
    tokenizer = state.model._tokenizer
    pieces = state._pieces()
    found = []
    for p, token_id in enumerate(ids):
        after: list[TopLogit] | NDArray[np.float32] | None = None
        if stored_k and p < head:
            after = _top_logits(tokenizer, top_ids[p + 1][:stored_k], top_logits[p + 1][:stored_k])
        elif head - full <= p < head:
            after = logits[p - (head - full)]
        best = top_at(tokenizer, top_ids[p][:top], top_logits[p][:top], lse[p])
        probability = exp(logprob[p])
        token = AnalyzedToken(
            pieces[p], p, logprob[p], probability, token_id, rank[p], entropy[p], best, after
        )
        found.append(token)
    return found


def _predictions(state: Looking, n: int, k: int, whole: range) -> list[Any]:
    """Return the core's analysis of positions 0 to n - 1, with logits of those in `whole`.

    As lists, but for the logits: float32 [len(whole), vocab_size].
    """
    import numpy as np

    cuts = sorted({0, whole.start, whole.stop, n}) if whole else [0, n]
    parts = [state._analyze(first, end - first, k, first in whole) for first, end in pairwise(cuts)]
    joined = [np.concatenate(same) for same in zip(*parts, strict=True)]
    return [*(numbers.tolist() for numbers in joined[:-1]), joined[-1]]


def perplexity(logprobs: Sequence[float]) -> float | None:
    """Return exp of minus the mean from the second on; None for fewer than two.

    Example:
        >>> from cacher.tokens import perplexity
        >>> perplexity([-9.0, 0.0, 0.0])
        1.0
    """
    if len(logprobs) < 2:
        return None
    return exp(min(-fsum(logprobs[1:]) / (len(logprobs) - 1), LARGEST_EXPONENT))


def _ngrams(tokens: list[AnalyzedToken], n: int) -> list[NGram]:
    import numpy as np

    if len(tokens) < n:
        return []
    ids = np.array([token.token_id for token in tokens])
    windows = np.lib.stride_tricks.sliding_window_view(ids, n)
    _, firsts, counts = np.unique(windows, axis=0, return_index=True, return_counts=True)
    found = []
    for i in np.lexsort((firsts, -counts))[:MAX_NGRAMS].tolist():
        texts = [token.text for token in tokens[int(firsts[i]) :][:n]]
        found.append(NGram(texts, "".join(texts), int(counts[i])))
    return found


def _histogram(probabilities: list[float]) -> list[HistogramBin]:
    import numpy as np

    edges = [i / BINS for i in range(BINS + 1)]
    counts, _ = np.histogram(np.clip(probabilities, 0.0, 1.0), edges)
    return [
        HistogramBin(low, high, count)
        for (low, high), count in zip(pairwise(edges), counts.tolist(), strict=True)
    ]


def _correlation(logprobs: list[float], entropies: list[float]) -> Correlation:
    return Correlation(_pearson(logprobs, entropies), _pearson(logprobs[:-1], logprobs[1:]))


def _pearson(a: list[float], b: list[float]) -> float | None:
    """Return the correlation; None for fewer than two pairs, or where one side is constant."""
    import numpy as np

    if len(a) < 2 or min(a) == max(a) or min(b) == max(b):
        return None
    x, y = np.array(a), np.array(b)
    x -= x.mean()
    y -= y.mean()
    x /= np.abs(x).max()  # squares of the largest log-probabilities stay in range, as do tiny ones
    y /= np.abs(y).max()
    return float(np.clip(x @ y / np.sqrt((x @ x) * (y @ y)), -1.0, 1.0))
