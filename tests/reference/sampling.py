"""Sampling written for clarity: float64, a full sort.  Shares no code with cacher."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MASK = 0xFFFFFFFF


def philox4x32(counter: list[int], key: list[int]) -> list[int]:
    """Return ten rounds of Philox4x32 (Salmon et al., SC 2011) of four words under a key of two."""
    c, k = list(counter), list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & _MASK, (a >> 32) ^ c[3] ^ k[1], a & _MASK]
        k = [(k[0] + 0x9E3779B9) & _MASK, (k[1] + 0xBB67AE85) & _MASK]
    return c


def uniform(seed: int, stream: int, position: int) -> float:
    """Return the number in [0, 1) that decides about a position: 53 bits, words 0 and 1."""
    words = philox4x32([position & _MASK, position >> 32, stream, 0], [seed & _MASK, seed >> 32])
    return ((words[0] << 32 | words[1]) >> 11) * 2.0**-53


def penalized(
    logits: NDArray[np.float32],
    history: list[int],
    repetition_penalty: float = 1.0,
    no_repeat_ngram_size: int = 0,
) -> NDArray[np.float32]:
    """Return the logits after repetition penalty (once per distinct token) and n-gram blocking."""
    out = np.array(logits, dtype=np.float32)
    for token in set(history):
        penalty = np.float32(repetition_penalty)
        out[token] = out[token] / penalty if out[token] > 0 else out[token] * penalty
    n = no_repeat_ngram_size
    if n > 0:
        for end in range(n, len(history) + 1):
            ngram = history[end - n : end]
            if ngram[:-1] == history[len(history) - n + 1 :]:
                out[ngram[-1]] = -np.inf
    return out


def temperature_at(start: float, end: float, step: int, steps: int) -> float:
    """Return the temperature of a step of a linear schedule."""
    return start if steps == 1 else start + (end - start) * step / (steps - 1)


def evenness(logits: NDArray[np.float32]) -> float:
    """Return the entropy of softmax(logits) over that of a uniform distribution."""
    x = logits[np.isfinite(logits)].astype(np.float64)
    p = np.exp(x - x.max())
    p /= p.sum()
    return float(-(p[p > 0] * np.log(p[p > 0])).sum() / np.log(len(logits)))


def distribution(
    logits: NDArray[np.float32],
    history: list[int] | None = None,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    no_repeat_ngram_size: int = 0,
    adaptive_top_p: bool = False,
    adaptive_top_k: bool = False,
) -> tuple[NDArray[np.float64], NDArray[np.int64], float]:
    """Return what is drawn from, the kept ids in sorted order, and how much a cut hangs on."""
    part = 0.5 + 0.5 * evenness(logits)
    if adaptive_top_p:
        top_p *= part
    if adaptive_top_k:
        top_k = max(1, round(top_k * part))
    steered = penalized(logits, history or [], repetition_penalty, no_repeat_ngram_size)
    x = steered.astype(np.float64)
    result = np.zeros(len(x))
    if temperature < 1e-5:
        result[np.argmax(x)] = 1.0
        return result, np.array([np.argmax(x)]), 1.0
    weights = np.exp((x - x.max()) / float(np.float32(temperature)))
    order = np.lexsort((np.arange(len(x)), -weights))
    closest = 1.0
    if 0 < top_k < len(x):
        order = order[:top_k]
    if top_p < 1.0:
        shares = np.cumsum(weights[order]) / weights[order].sum()
        kept = max(1, int(np.searchsorted(shares, top_p)) + 1)
        closest = min(closest, float(np.abs(shares - top_p).min()))
        order = order[:kept]
    if min_p > 0.0:
        ratios = weights[order] / weights[order[0]]
        closest = min(closest, float(np.abs(ratios / min_p - 1.0)[1:].min(initial=1.0)))
        order = order[ratios >= min_p]
    result[order] = weights[order] / weights[order].sum()
    return result, order, closest


def draw(probabilities: NDArray[np.float64], order: NDArray[np.int64], u: float) -> int:
    """Return the token that the inverse of the cumulative sum over `order` gives for u."""
    at = int(np.searchsorted(np.cumsum(probabilities[order]), u, side="right"))
    return int(order[min(at, len(order) - 1)])
