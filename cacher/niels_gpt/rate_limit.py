"""Token buckets: how many requests an address may make, and how soon the next."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from cacher.niels_gpt.config import RATE_LIMIT_BURST, RATE_LIMIT_PER_MIN

SWEPT = 1024  # buckets, at which those that are full again are dropped


class TokenBucket:
    """A bucket that fills with time; a new one is full.

    Args:
        capacity: Most tokens it holds.
        refill_rate: Tokens a second.
        now: The time, in seconds of a monotonic clock.

    Example:
        >>> from cacher.niels_gpt.rate_limit import TokenBucket
        >>> bucket = TokenBucket(1, 0.5, 0.0)
        >>> [bucket.take(now) for now in (0.0, 1.9, 2.1)]
        [True, False, True]
    """

    __slots__ = ("_capacity", "_refill_rate", "_since", "_tokens")

    def __init__(self, capacity: float, refill_rate: float, now: float) -> None:
        self._capacity = capacity
        self._refill_rate = refill_rate
        self._tokens = float(capacity)
        self._since = now

    def _fill(self, now: float) -> None:
        gained = max(0.0, now - self._since) * self._refill_rate
        self._tokens = min(self._capacity, self._tokens + gained)
        self._since = now

    def take(self, now: float) -> bool:
        """Take a token; False, and nothing is taken, when there is no whole one."""
        self._fill(now)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def full(self, now: float) -> bool:
        """Whether it holds what a new one would."""
        self._fill(now)
        return self._tokens >= self._capacity


class RateLimiter:
    """A bucket for each key.  Safe to share between threads.

    Args:
        capacity: Requests at once.
        refill_rate: Requests a second, from then on.
        clock: The time in seconds, never backwards.

    Example:
        >>> from cacher.niels_gpt.rate_limit import RateLimiter
        >>> limiter = RateLimiter(1, 0)
        >>> limiter.allow("a"), limiter.allow("a"), limiter.allow("b")
        (True, False, True)
    """

    def __init__(
        self, capacity: float, refill_rate: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._capacity = capacity
        self._refill_rate = refill_rate
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[str, TokenBucket] = {}
        self._sweep_at = SWEPT

    def allow(self, key: str) -> bool:
        """Count a request; False when it is one too many."""
        with self._lock:
            now = self._clock()
            bucket = self._buckets.get(key)
            if bucket is None:
                if len(self._buckets) >= self._sweep_at:
                    self._sweep(now)
                bucket = self._buckets[key] = TokenBucket(self._capacity, self._refill_rate, now)
            return bucket.take(now)

    def _sweep(self, now: float) -> None:
        """Drop what says no more than a new bucket would; memory is bounded by what is in use."""
        self._buckets = {k: bucket for k, bucket in self._buckets.items() if not bucket.full(now)}
        self._sweep_at = max(SWEPT, 2 * len(self._buckets))

    def reset(self) -> None:
        """Make every bucket full."""
        with self._lock:
            self._buckets.clear()

    def __len__(self) -> int:
        """How many buckets are kept."""
        return len(self._buckets)


#: Of all applications of the process.
rate_limiter = RateLimiter(RATE_LIMIT_BURST, RATE_LIMIT_PER_MIN / 60)
