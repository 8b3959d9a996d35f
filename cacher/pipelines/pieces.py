"""The pieces that wait for a group."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from cacher.pipelines.portion import Answer, Portion, failed


class Entry:
    """A request in the queue, or with pieces under way.

    Attributes:
        portion: The request, as it came.
        n: How many pieces it has; fewer than it had when the rest was withdrawn.
        sent: How many of them left the queue.
        left: How many are without an answer.
        since: When it entered the queue, in the time of the event loop.
        done: Called with the answer to all pieces, once it is there.
    """

    __slots__ = ("done", "left", "n", "portion", "sent", "since")

    def __init__(self, portion: Portion, since: float, done: Callable[[Answer], object]) -> None:
        self.portion = portion
        self.n = self.left = portion.n
        self.sent = 0
        self.since = since
        self.done = done
        portion.parts = []

    def next_pieces(self, n: int) -> Portion:
        """Return the next pieces, which leave the queue."""
        portion = Portion(self.portion.request, n, self.sent)
        assert self.portion.parts is not None
        self.portion.parts.append(portion)
        self.sent += n
        return portion

    def finish(self) -> None:
        """Join the answers of the pieces, in their order."""
        parts = self.portion.parts or []
        answer = parts[0].answer if parts else None
        if answer is None:  # withdrawn as a whole
            answer = failed(asyncio.CancelledError())
        for part in parts[1:]:
            if part.answer is not None:
                answer.extend(part.answer)
        self.done(answer)


class PieceQueue:
    """The pieces that wait, request by request."""

    def __init__(self) -> None:
        self.entries: OrderedDict[Entry, None] = OrderedDict()
        self.size = 0

    def qsize(self) -> int:
        """Return how many pieces wait."""
        return self.size

    def empty(self) -> bool:
        """Return whether none does."""
        return self.size == 0
