"""The distribution a token is drawn from, for any logits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Unpack

from cacher import _core
from cacher.params import SamplingOptions, StateConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

NEUTRAL = StateConfig(temperature=1.0, top_p=1.0)


def sampling_distribution(
    logits: ArrayLike, history: Iterable[int] = (), **sampling: Unpack[SamplingOptions]
) -> NDArray[np.float64]:
    """Return what `State.generate` would draw from: float64 [vocab], zero where cut off, sum 1.

    Args:
        logits: Real numbers [vocab]; computed with as float32.
        history: The token ids before, for ``repetition_penalty`` and ``no_repeat_ngram_size``.
        **sampling: As of `State.generate`; what is left out is off (temperature 1, top_p 1).

    Raises:
        TypeError: The logits are no vector of numbers.
        ParameterError: An option is outside its range, or the logits are all -inf or hold NaN.

    Example:
        >>> import cacher
        >>> cacher.sampling_distribution([2.0, 1.0, 0.0], top_k=1).tolist()
        [1.0, 0.0, 0.0]
    """
    import numpy as np

    try:
        numbers = np.asarray(logits)
    except ValueError as error:  # rows of different lengths
        raise TypeError(f"logits must be a vector of numbers: {error}") from None
    if numbers.ndim != 1 or numbers.dtype.kind not in "fiu":
        raise TypeError(
            f"logits must be a vector of numbers, got {numbers.ndim} dimensions of {numbers.dtype}"
        )
    with np.errstate(over="ignore"):  # infinity is refused below, with its position
        plain = np.ascontiguousarray(numbers, dtype=np.float32)
    return np.asarray(_core.distribution(plain, history, NEUTRAL.sampling(sampling).core()))
