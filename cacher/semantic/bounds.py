"""What counts say about a share: the exact binomial bound of Clopper and Pearson."""

from __future__ import annotations

import math


def upper_bound(wrong: int, hits: int, confidence: float) -> float:
    """Return the greatest share that allows so few wrong ones: Clopper and Pearson's upper bound.

    That is the share p for which at most `wrong` of `hits` come up with the probability
    1 - confidence.

    >>> round(upper_bound(0, 299, 0.95), 5), round(upper_bound(2, 100, 0.95), 4)
    (0.00997, 0.0616)
    """
    if wrong >= hits:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _beta(wrong + 1, hits - wrong, middle) < confidence:
            low = middle
        else:
            high = middle
    return high


def hits_needed(max_wrong: float, confidence: float) -> int:
    """Return how many hits without a wrong one show that at most `max_wrong` of them are wrong.

    >>> hits_needed(0.01, 0.95)
    299
    """
    return math.ceil(math.log1p(-confidence) / math.log1p(-max_wrong))


def _beta(a: float, b: float, x: float) -> float:
    """Return the regularized incomplete beta function, by its continued fraction.

    It is the probability of at least a successes in a + b - 1 trials of probability x.
    """
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta(b, a, 1 - x)
    if x <= 0:
        return 0.0
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    tiny = 1e-300
    c, d = 1.0, 1 / max(1 - (a + b) * x / (a + 1), tiny)
    value = d
    for m in range(1, 1000):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / (1 + term * d or tiny)
            c = 1 + term / c or tiny
            value *= c * d
        if abs(c * d - 1) < 1e-14:
            break
    return front * value / a
