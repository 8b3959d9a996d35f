"""Taking turns: one user of a thing at a time, in the order they came, none waiting for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

from cacher.errors import StateBusyError


class Turns:
    """A fair lock for every key that somebody uses or waits for."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._queues: dict[Hashable, tuple[asyncio.Lock, set[object]]] = {}

    @asynccontextmanager
    async def take(self, key: Hashable, name: str) -> AsyncIterator[float]:
        """Hold the key alone; the body gets the seconds that are left of the time-out.

        Raises:
            StateBusyError: It was not free in time.
        """
        lock, users = self._queues.setdefault(key, (asyncio.Lock(), set()))
        me = object()
        users.add(me)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_s
        try:
            if len(users) == 1:  # nobody to wait for
                await lock.acquire()
            else:
                await self._wait(lock, deadline, name)
            try:
                yield max(0.0, deadline - loop.time())
            finally:
                lock.release()
        finally:
            users.discard(me)
            if not users:
                self._queues.pop(key, None)

    async def _wait(self, lock: asyncio.Lock, deadline: float, name: str) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                await lock.acquire()
        except TimeoutError:
            raise StateBusyError(
                f"state {name} is in use by another request since {self._timeout_s:g} s"
            ) from None

    def __contains__(self, key: Hashable) -> bool:
        return key in self._queues
