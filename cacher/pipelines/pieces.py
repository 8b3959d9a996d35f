"""The pieces that wait for a group."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from cacher.pipelines.portion import Answer, Done, Portion, failed

if TYPE_CHECKING:
    from cacher.pipelines.batcher import AsyncBatcher


class Entry:
    """A request in the queue, or with pieces under way.

    Attributes:
        portion: The request, as it came.
        n: How many pieces it has; fewer than it had when the rest was withdrawn.
        sent: How many of them left the queue.
        left: How many are without an answer.
        since: When it entered the queue, in the time of the event loop.
        done: Called with `whom` and the answer to all pieces, once it is there.
        whom: Who waits for it.
        batcher: Whose queue it is.
    """

    __slots__ = ("batcher", "done", "left", "n", "portion", "sent", "since", "whom")

    def __init__(
        self,
        portion: Portion,
        since: float,
        done: Done,
        whom: Any,
        batcher: AsyncBatcher,
    ) -> None:
        self.portion = portion
        self.batcher = batcher
        self.n = self.left = portion.n
        self.sent = 0
        self.since = since
        self.done = done
        self.whom = whom
        portion.entry = self

    def next_pieces(self, n: int) -> Portion:
        """Return the next pieces, which leave the queue; all of them are the portion itself."""
        portion = self.portion
        if n == portion.n:
            portion.first = 0
        else:
            if portion.parts is None:
                portion.parts = []
            portion.parts.append(Portion(portion.request, n, self.sent))
            portion = portion.parts[-1]
        self.sent += n
        return portion

    def finish(self) -> None:
        """Join the answers of the pieces, in their order."""
        answer, parts = self.portion.answer, self.portion.parts
        if answer is None and parts:
            answer = parts[0].answer
            for part in parts[1:]:
                if answer is not None and part.answer is not None:
                    answer.extend(part.answer)
        if answer is None:  # withdrawn as a whole
            answer = failed(asyncio.CancelledError())
        whom, self.whom, self.portion.entry = self.whom, None, None  # no cycles are left
        self.done(whom, answer)


def ignore(_: object, __: Answer) -> None:
    """Take an answer that nobody waits for."""


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
