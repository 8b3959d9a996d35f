"""Requests that came to the sample cache together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from cacher.pipelines.portion import Answer, Done, Portion, failed

if TYPE_CHECKING:
    from cacher.pipelines.series import Claim

_UNANSWERED = failed(asyncio.CancelledError())
Entering = tuple[Portion, Done, Any]  # a request, and who is given its answer


class Visit:
    """Requests that came together: the answers, and how many are missing."""

    __slots__ = ("_takers", "answers", "claims", "ended", "mark", "missing")

    def __init__(self, n: int) -> None:
        self.answers = [_UNANSWERED] * n
        self.claims: list[Claim] = []
        self.missing = n
        self.mark = b""  # of the store before it was read
        self.ended: asyncio.Future[None] | None = None  # of who waits for all
        self._takers: list[Entering | None] = []  # else, who waits for each

    def give_to(self, takers: list[Entering]) -> None:
        """Give each its answer, now or as soon as it is there."""
        self._takers[:] = takers
        for place, answer in enumerate(self.answers):
            if answer is not _UNANSWERED:
                self._give(place, answer)

    def _give(self, place: int, answer: Answer) -> None:
        taker, self._takers[place] = self._takers[place], None  # it is kept no longer than needed
        if taker is not None:
            _, done, whom = taker
            done(whom, answer)

    def answer(self, place: int, answer: Answer) -> None:
        """Note an answer."""
        self.answers[place] = answer
        self.missing -= 1
        if self._takers:
            self._give(place, answer)
        elif not self.missing and self.ended is not None and not self.ended.done():
            self.ended.set_result(None)

    def left_by(self, claim: Claim) -> None:
        """Let a claim go that nobody waits for."""
        claim.visit = None
        self.answer(claim.place, failed(asyncio.CancelledError()))
