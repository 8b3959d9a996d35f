"""What a pipeline counts, and whom it tells of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from cacher.progress import watched

Progress = Callable[[dict[str, Any]], object]

log = logging.getLogger(__name__)

_SUMS = (
    "requests", "samples", "delivered", "cached", "fresh", "duplicated", "model_calls",
    "model_samples", "batches", "batch_items", "failed", "cancelled", "surplus", "store_errors",
)  # fmt: skip
_NOW = ("queued", "running")


class Counters:
    """The numbers of one pipeline, shared by its stages."""

    __slots__ = (*_SUMS, *_NOW, "watcher")

    def __init__(self, progress: Progress | bool | None = None) -> None:
        self.requests = self.samples = self.delivered = 0
        self.cached = self.fresh = self.duplicated = 0
        self.model_calls = self.model_samples = self.batches = self.batch_items = 0
        self.failed = self.cancelled = self.surplus = self.store_errors = 0
        self.queued = self.running = 0
        self.watcher = _watcher(progress)

    def stats(self) -> dict[str, int]:
        """Return all numbers, as they are now."""
        return {name: getattr(self, name) for name in (*_SUMS, *_NOW)}

    def reset(self) -> None:
        """Set to zero what is a sum, and leave what says how much there is now."""
        for name in _SUMS:
            setattr(self, name, 0)

    def tell(self, event: str, **about: object) -> None:
        """Tell whoever watches; what they raise is their own affair."""
        if self.watcher is None:
            return
        try:
            self.watcher({"event": event, **about, "stats": self.stats()})
        except Exception:
            log.exception("the progress callback raised")

    def close(self) -> None:
        """Take the bar away."""
        if isinstance(self.watcher, Bar):
            self.watcher.close()


class Bar:
    """A bar for who sits before a terminal or a notebook: samples delivered of those asked for.

    Attributes:
        delay_s: How long a pipeline is at work before there is one.
    """

    delay_s = 1.0

    def __init__(self) -> None:
        self._bar: Any = None

    def __call__(self, event: dict[str, Any]) -> None:
        """Draw what was reached."""
        if event["event"] not in ("done", "failed"):
            return
        if self._bar is None:
            from tqdm.auto import tqdm

            self._bar = tqdm(unit="sample", desc="requests", leave=False, delay=self.delay_s)
        stats = event["stats"]
        self._bar.total = stats["samples"]
        self._bar.set_postfix(cached=stats["cached"], failed=stats["failed"], refresh=False)
        self._bar.update(stats["delivered"] - self._bar.n)

    def close(self) -> None:
        """Take it away; what is drawn later is a new one."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _watcher(progress: Progress | bool | None) -> Progress | None:
    if callable(progress):
        return progress
    if progress is not None and not isinstance(progress, bool):
        raise TypeError(f"progress must be None, a bool or callable, got {type(progress).__name__}")
    return Bar() if progress or (progress is None and watched()) else None
