"""Stored logits in a state's document: arrays, little-endian, in base64, so that saving is cheap.

A state of 1,000 tokens has 40,000 of these numbers: as decimal digits they would take thirty times
as long as all the rest.
"""

from __future__ import annotations

import binascii
import sys
from array import array
from math import isfinite, nan
from typing import TYPE_CHECKING, Any

from cacher.errors import StateFileError
from cacher.typed import bounded, get

if TYPE_CHECKING:
    from cacher.state import State

CERTAIN = 1e-3  # a log-probability is at most 0, but for rounding
MISSING = -1  # the last id of a token whose logits are not stored


def scores_of(state: State) -> dict[str, object] | None:
    """Return what the state remembers of its evaluation; None is nothing.

    Whole vectors (``store_logits`` ``"full"``) are computed again, and with them all the rest.
    """
    length, k = len(state), state._store_top_k
    if not length or not k or state.config.store_logits == "full":
        return None
    scores, top_ids, top_logits = state._core.scores(0, length, k)
    logprobs, lse = memoryview(scores), memoryview(state._core.lse(0, length))
    if not any(x == x for x in lse) and not any(x == x for x in logprobs):  # NaN: never read
        return None
    if state.dropped_tokens:  # behind the first window, another one judges than the text so far
        limit = state.context_limit
        logprobs[limit:] = array("f", [nan] * (length - limit))
        lse[limit - 1 :] = array("d", [nan] * (length - limit + 1))
    return {
        "k": k,
        "logprobs": _packed("f", logprobs),
        "lse": _packed("d", lse),
        "top_ids": _packed("i", top_ids),
        "top_logits": _packed("f", top_logits),
    }


def restore_scores(state: State, stored: object) -> None:
    """Check every value, then hand them to the core.

    Raises:
        StateFileError: A value is not what it should be.
    """
    if stored is None:
        return
    if not isinstance(stored, dict):
        raise StateFileError("stored_logits must be an object or null")
    length, vocab = len(state), state.model.vocab_size
    k = bounded(stored, "k", 1, min(1000, vocab))
    logprobs = _unpacked("f", stored, "logprobs", length)
    if any(x > CERTAIN for x in logprobs):
        raise StateFileError("logprobs holds a probability above 1")
    logprobs = array("f", [x if isfinite(x) else nan for x in logprobs])
    lse = _unpacked("d", stored, "lse", length)
    top_ids = _unpacked("i", stored, "top_ids", length * k)
    if length and not MISSING <= min(top_ids) <= max(top_ids) < vocab:
        raise StateFileError(f"top_ids holds an id that is not below {vocab}")
    top_logits = _unpacked("f", stored, "top_logits", length * k)
    for position in range(length):
        row = slice(position * k, (position + 1) * k)
        if _is_known(position, top_ids[row], top_logits[row], lse[position]):
            continue
        top_ids[row] = array("i", [MISSING] * k)
        top_logits[row] = array("f", [0.0] * k)
    state._core.restore_scores(0, logprobs, k, top_ids, top_logits)
    state._core.restore_lse(0, lse)


def _is_known(position: int, ids: array[int], logits: array[float], total: float) -> bool:
    """Whether a row is complete; what is not can be computed again."""
    if ids[-1] == MISSING or not isfinite(total) or not isfinite(sum(logits)):
        return False
    if min(ids) == MISSING:
        raise StateFileError(f"top_ids[{position}] has a hole")
    if max(logits) - total > CERTAIN:
        raise StateFileError(f"top_logits[{position}] holds a probability above 1")
    return True


def _packed(kind: str, values: Any) -> str:
    plain = array(kind, memoryview(values).cast("B").tobytes())
    return binascii.b2a_base64(_little_endian(plain), newline=False).decode()


def _unpacked(kind: str, document: dict[str, Any], key: str, n: int) -> array[Any]:
    values = array(kind)
    try:
        data = binascii.a2b_base64(get(document, key, str), strict_mode=True)
    except ValueError as error:  # of characters that are not ASCII, too
        raise StateFileError(f"{key} is not base64: {error}") from None
    if len(data) != n * values.itemsize:
        raise StateFileError(f"{key} has {len(data)} bytes, allowed: {n * values.itemsize}")
    values.frombytes(data)
    return _little_endian(values)


def _little_endian(values: array[Any]) -> array[Any]:
    if sys.byteorder == "big":
        values.byteswap()
    return values
