"""A request in an engine: what an event loop and the scheduler's thread tell each other of it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cacher.predictions import Key
from cacher.types import Generation

if TYPE_CHECKING:
    from cacher.row import Row, Shown
    from cacher.state import State

AHEAD = 16  # tokens computed before a slow reader has taken them


class Request:
    """One state in the engine: to be continued (`row`) or only to be read.

    Made and read in an event loop; `number` and what follows belong to the scheduler.
    """

    def __init__(
        self,
        state: State,
        row: Row | None,
        *,
        streams: bool = False,
        progress: Callable[[int, int], object] | None = None,
    ) -> None:
        self.state = state
        self.row = row
        self.streams = streams
        self.progress = progress
        self.length = len(state._seen())
        self.start = len(state)
        self.loop = asyncio.get_running_loop()
        self.outcome: asyncio.Future[Any] = self.loop.create_future()  # a Generation, or None
        self.shown: deque[Shown] = deque()
        self.news = asyncio.Event()
        self.n_taken = 0
        self.leaving = False
        self.refused: BaseException | None = None  # by its progress callback
        self.joined = False
        self.ended = False
        self.number: int | None = None
        self.n_shown = 0
        self.key: Key | None = None  # where its first prediction is to be kept

    # ---- in the event loop

    def hear(self, shown: list[Shown], outcome: Generation | BaseException | None) -> None:
        """Take what a stream is to show, and with nothing to show the outcome."""
        if shown:
            self.shown += shown
        elif not self.outcome.done():
            if isinstance(outcome, BaseException):
                self.outcome.set_exception(outcome)
                self.outcome.exception()  # a stream that nobody reads on is not worth a warning
            else:
                self.outcome.set_result(outcome)
        self.news.set()

    # ---- in the scheduler

    @property
    def cancelled(self) -> bool:
        """Whether it ended because it was to leave, not by itself in that moment."""
        return self.leaving and (self.row is None or self.row.finish_reason == "cancelled")

    def touches(self, n_tokens: int) -> bool:
        """Whether its run is an event of its state, which has `n_tokens` now."""
        row = self.row
        if row is None:
            return False
        return (self.joined and n_tokens > row.start) or (row.finished and not self.cancelled)

    @property
    def overtaken(self) -> bool:
        """Whether somebody else has changed the state's length while it was not in the batch."""
        drawn = len(self.row.token_ids) if self.row else 0
        return len(self.state) != self.start + drawn

    @property
    def generates(self) -> bool:
        """Whether it needs one token in each pass, and nothing is left to be read."""
        return self.row is not None and bool(self.row.token_ids)

    @property
    def room(self) -> int:
        """Tokens that may be computed before its stream's reader has taken one."""
        return AHEAD - (self.n_shown - self.n_taken)

    @property
    def stride(self) -> int:
        """Tokens that may be drawn before somebody must look at them."""
        if self.row is None:
            return 1
        return min(self.row.stride, self.room) if self.streams else self.row.stride

    @property
    def too_far_ahead(self) -> bool:
        """Whether a stream's reader has more tokens to take than may be computed ahead."""
        return self.streams and self.room <= 0
