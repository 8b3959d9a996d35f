"""Calls of a store: one after another, and all that waits for one goes together into the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any

MAX_ITEMS = 1024  # of a call: what waits behind it is not kept waiting for long

Results = list[Any] | Exception
Done = Callable[[Any, Results], object]
Lot = tuple[list[Any], Done, Any]


class Lane:
    """One kind of call, of an event loop: what is put in one turn of it goes in one call.

    Calls end in the order in which their items were put.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        call: Callable[[list[Any]], list[Any]],
        executor: Executor | None,
    ) -> None:
        """Make a lane.

        Args:
            loop: The event loop.
            call: Takes items and returns a result for each.
            executor: Where it runs; None: in the thread of the event loop.
        """
        self._loop = loop
        self._call = call
        self._executor = executor
        self._waiting: list[Lot] = []
        self._busy = False

    def put(self, items: list[Any], done: Done, whom: Any) -> None:
        """Let items go; `done(whom, results)` is called, or with what the call raised."""
        self._waiting.append((items, done, whom))
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._go)

    def _go(self) -> None:
        items: list[Any] = []
        n = 0
        for lot, _, _ in self._waiting:
            if n and len(items) + len(lot) > MAX_ITEMS:
                break
            items += lot
            n += 1
        lots, self._waiting = self._waiting[:n], self._waiting[n:]
        if self._executor is None:
            self._end(lots, self.run(items))
        else:
            self._executor.submit(self._in_thread, lots, items)

    def run(self, items: list[Any]) -> Results:
        """Call at once, in this thread; return what the call raised."""
        try:
            return self._call(items)
        except Exception as error:
            return error

    def _in_thread(self, lots: list[Lot], items: list[Any]) -> None:
        results = self.run(items)
        with suppress(RuntimeError):  # the event loop was closed: nobody waits
            self._loop.call_soon_threadsafe(self._end, lots, results)

    def _end(self, lots: list[Lot], results: Results) -> None:
        if self._waiting:
            self._loop.call_soon(self._go)
        else:
            self._busy = False
        start = 0
        for items, done, whom in lots:
            stop = start + len(items)
            try:
                done(whom, results if isinstance(results, Exception) else results[start:stop])
            except Exception as error:  # the others wait for theirs
                told = {"message": "a call of the store was not taken up", "exception": error}
                self._loop.call_exception_handler(told)
            start = stop
