"""What `cacher.States` keeps: states in memory while they are used, in a store always.

1. A state in memory is the one in the store: memory is only changed after a save, and what is left
   of a failed one is read from the store again.
2. Changes of one state come one after another, in the order they were asked for (`Turns`).  Where
   several processes share a store, they also hold the state's lease, and what is in memory is
   compared with the store's version before it is used.
3. The store's calls block and run in threads of their own; the event loop never waits for a disk.
4. Nobody computes on the states in memory: what is done with one is done with a copy of it, so
   that no reader finds a state in use.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from cacher.checks import shown
from cacher.document import encode, from_document
from cacher.errors import (
    CacherError,
    ModelError,
    ModelMismatchError,
    StateBusyError,
    StateNotFoundError,
    StoreError,
)
from cacher.identity import STATE_ID
from cacher.stores.base import Key, Lease, StateStore, StoreStats, Summary
from cacher.turns import Turns
from cacher.typed import get, parse

if TYPE_CHECKING:
    from cacher.model import Model
    from cacher.state import State

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 8
WATCH_PAUSE_S = 0.1  # between two looks whether a run is called off
LEASE_PAUSE_S = 0.01  # between two looks at a lease that another process holds
TOUCH_S = 60.0  # a use is noted in the store that often at most

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Entry:
    """A state in memory, exactly as the store's version has it."""

    state: State
    version: str
    touched: float


@dataclass(frozen=True, slots=True)
class StatesStats:
    """Counters.

    Attributes:
        states_in_memory: States kept in memory.
        hits: Changes that found key/value entries for all that had been read before.
        misses: Changes that did not.
        evictions: States that left memory for others.
        store: What is stored.
    """

    states_in_memory: int
    hits: int
    misses: int
    evictions: int
    store: StoreStats


class Keeper:
    """Keeps states; all methods belong to one event loop."""

    def __init__(
        self,
        models: Callable[[str], Model],
        store: StateStore,
        *,
        max_in_memory: int,
        lock_timeout_s: float,
        shared: bool,
        max_age_s: float | None,
        max_stored: int | None,
        lease_s: float,
    ) -> None:
        """Keep states in a store; see `States` for the arguments."""
        self.models = models
        self.store = store
        self._max_in_memory = max_in_memory
        self._shared = shared
        self._max_age_s = max_age_s
        self._max_stored = max_stored
        self._lease_s = lease_s
        self._touch_s = TOUCH_S if max_age_s is None else min(TOUCH_S, max_age_s / 10)
        self._entries: OrderedDict[Key, Entry] = OrderedDict()
        self._reading: dict[Key, asyncio.Task[Entry]] = {}
        self._turns = Turns(lock_timeout_s)
        self._threads = ThreadPoolExecutor(THREADS, "cacher-store")
        self._closed = False
        self._removals = 0
        self._hits = self._misses = self._evictions = 0

    async def aclose(self) -> None:
        """Let what runs end, then close the store; there is nothing left to save."""
        self._closed = True
        self._entries.clear()
        await asyncio.to_thread(self._threads.shutdown)
        await asyncio.to_thread(self.store.close)

    # ---- using a state

    @asynccontextmanager
    async def turn(self, key: Key) -> AsyncIterator[None]:
        """Have a state, or the place of one, alone.

        Raises:
            StateBusyError: It was not free in time.
        """
        async with self._turns.take(key, key.state_id) as seconds_left:
            if not self._shared:
                yield
                return
            lease = await self._leased(key, seconds_left)
            renewing = asyncio.create_task(self._renew(lease))
            try:
                yield
            finally:
                renewing.cancel()
                with suppress(StoreError):  # it runs out by itself
                    await self.whole(self.store.release, lease)

    async def _leased(self, key: Key, seconds: float) -> Lease:
        deadline = monotonic() + seconds
        while (lease := await self.off(self.store.acquire, key, self._lease_s)) is None:
            if monotonic() >= deadline:
                raise StateBusyError(f"state {key.state_id} is in use by another process")
            await asyncio.sleep(LEASE_PAUSE_S)
        return lease

    async def _renew(self, lease: Lease) -> None:
        while True:
            await asyncio.sleep(self._lease_s / 3)
            with suppress(CacherError):  # the save will tell whether it was lost
                await self.off(self.store.renew, lease, self._lease_s)

    async def current(self, key: Key) -> Entry:
        """Return the entry of a state, read from the store where memory has none or an old one."""
        self._check_open()
        entry = self._entries.get(key)
        if entry is not None and self._shared:
            version = await self.off(self.store.version, key)
            entry = entry if version == entry.version else None
        if entry is None:
            entry = await self._read(key)
        elif key in self._entries:
            self._entries.move_to_end(key)
        if monotonic() - entry.touched > self._touch_s:
            entry.touched = monotonic()
            await self.off(self.store.touch, key)
        return entry

    async def _read(self, key: Key) -> Entry:
        """Read a state once, however many ask for it."""
        task = self._reading.get(key)
        if task is None:
            task = asyncio.create_task(self._read_now(key))
            self._reading[key] = task
            task.add_done_callback(lambda _task: self._reading.pop(key, None))
        return await asyncio.shield(task)

    async def _read_now(self, key: Key) -> Entry:
        removals, before = self._removals, self._entries.get(key)
        entry = await self.off(self._load, key)
        if self._removals == removals and self._entries.get(key) is before:
            self._keep(key, entry)
        return entry

    def _load(self, key: Key) -> Entry:
        try:
            stored = self.store.load(key)
            if stored is None:
                raise not_found(key.state_id)
            document = {**parse(stored.data), "state_id": key.state_id}
            model = self.models(get(document, "model_id", str))
            state = from_document(model, document, cache_salt=key.tenant or None)
            self.store.touch(key)  # in the same thread: another call would cost more
        except (StateNotFoundError, ModelError, ModelMismatchError, OSError):
            raise
        except (CacherError, TypeError) as error:
            log.error("state %s is damaged and left alone: %s", "/".join(key), error)
            raise not_found(key.state_id) from error
        return Entry(state, stored.version, monotonic())

    # ---- runs, which processes that share a store can end for each other

    async def watch(self, key: Key, stop: Callable[[], Awaitable[None]]) -> None:
        """Call `stop` when another process calls the run off; ends when it is cancelled."""
        lease = await self.off(self.store.acquire, key, self._lease_s) if self._shared else None
        if lease is None:
            return
        renewing = asyncio.create_task(self._renew(lease))
        try:
            while not await self.off(self.store.is_called_off, lease):
                await asyncio.sleep(WATCH_PAUSE_S)
            await stop()
        finally:
            renewing.cancel()
            with suppress(StoreError):
                await self.whole(self.store.release, lease)

    # ---- changing a state

    async def create(self, key: Key, make: Callable[[], State]) -> State:
        """Call `make` in a thread, store what it gives under a new key; returns what is kept."""
        return await self._commit(key, make, None)

    async def commit(self, key: Key, state: State, expected: str | None) -> None:
        """Store a state, then have it in memory."""
        await self._commit(key, lambda: state, expected)

    async def _commit(self, key: Key, make: Callable[[], State], expected: str | None) -> State:
        """Where it fails or is cancelled, memory has none: the store tells what came of it."""

        def save() -> Entry:
            state = make()
            version = self.store.save(key, encode(state), Summary.of(state), expected)
            return Entry(state, version, monotonic())

        try:
            entry = await self.whole(save)
        except BaseException:
            if expected is not None:
                self._forget([key])
            raise
        self._keep(key, entry)
        return entry.state

    def _keep(self, key: Key, entry: Entry) -> None:
        self._entries[key] = entry
        self._entries.move_to_end(key)
        while len(self._entries) > self._max_in_memory:
            self._entries.popitem(last=False)
            self._evictions += 1

    def _forget(self, keys: Iterable[Key]) -> None:
        self._removals += 1
        for key in keys:
            self._entries.pop(key, None)

    def count(self, state: State) -> None:
        """Note whether what was read before is still computed; the last token drawn never is."""
        if state._head > 0:
            if state._seen().ready() >= state._head - state.dropped_tokens - 1:
                self._hits += 1
            else:
                self._misses += 1

    async def remove(self, key: Key) -> None:
        """Remove a state from memory and store.

        Raises:
            StateNotFoundError: There is none.
        """
        self._forget([key])
        if not await self.whole(self.store.delete, key):
            raise not_found(key.state_id)

    async def clean_up(self) -> int:
        """Remove what was not used for long or is too much; returns how many states."""
        gone = await self.off(self.store.clean_up, self._max_age_s, self._max_stored)
        self._forget(gone)
        return len(gone)

    async def keep_clean(self, interval_s: float) -> None:
        """Clean up now and then, until it is cancelled."""
        while True:
            try:
                if removed := await self.clean_up():
                    log.info("%d unused states removed", removed)
            except CacherError as error:
                log.error("the clean-up of states failed: %s", error)
            await asyncio.sleep(interval_s)

    async def stats(self) -> StatesStats:
        """Return counters."""
        return StatesStats(
            len(self._entries), self._hits, self._misses, self._evictions,
            await self.off(self.store.stats),
        )  # fmt: skip

    # ---- threads

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the store of states is closed")

    def off(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Call what blocks in a thread."""
        self._check_open()
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._threads, partial(function, *args, **kwargs))

    async def whole(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call what blocks in a thread, to its end also when cancelled; then be cancelled."""
        work = self.off(function, *args, **kwargs)
        cancelled: asyncio.CancelledError | None = None
        while not work.done():
            try:
                await asyncio.shield(work)
            except asyncio.CancelledError as error:
                if work.cancelled():
                    raise
                cancelled = error
            except Exception:  # of the work: raised below
                break
        if cancelled is not None:
            if work.exception() is not None:
                log.error("what a cancelled request changed was not stored: %s", work.exception())
            raise cancelled
        return work.result()


def not_found(state_id: object) -> StateNotFoundError:
    """Return the error for an id that no state has."""
    known = isinstance(state_id, str) and STATE_ID.fullmatch(state_id)
    return StateNotFoundError(f"State not found: {state_id if known else shown(state_id)}")
