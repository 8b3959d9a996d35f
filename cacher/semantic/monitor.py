"""How the requests to a semantic cache end."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass

WATCHED = 100  # requests
FEWEST = 10  # of them, before there is an alert

log = logging.getLogger(__name__)


class Monitor:
    """Counts failures, and says when there are many.

    Args:
        alert_rate: Share of failures among the last 100 requests above which there is an alert.

    Example:
        >>> from cacher.semantic.monitor import Monitor
        >>> monitor = Monitor(0.1)
        >>> for status in (200, 500) * 5:
        ...     monitor.note(status)
        >>> (monitor.errors, monitor.error_rate, monitor.alert)
        (5, 0.5, True)
    """

    def __init__(self, alert_rate: float) -> None:
        self.errors = 0
        self.alert = False
        self._alert_rate = alert_rate
        self._failed: deque[bool] = deque(maxlen=WATCHED)

    @property
    def error_rate(self) -> float:
        """Share of failures among the last 100 requests."""
        return sum(self._failed) / len(self._failed) if self._failed else 0.0

    def note(self, status: int) -> None:
        """Take the status of a request that has ended."""
        self.errors += status >= 500
        self._failed.append(status >= 500)
        alert = len(self._failed) >= FEWEST and self.error_rate > self._alert_rate
        if alert != self.alert:
            self.alert = alert
            log.warning(
                "%s: %.0f%% of the last %d requests failed",
                "alert" if alert else "the alert is over", 100 * self.error_rate, len(self._failed),
            )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Totals:
    """The counters of all tenants together."""

    hits: int = 0
    misses: int = 0
    bypasses: int = 0
    guarded: int = 0
    evictions: int = 0
    errors: int = 0
    cache_size: int = 0
    memory_bytes: int = 0
