"""One tenant's part of a cache: its entries, what is being generated for it, and its store."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from cacher.checks import shown
from cacher.errors import StoreError
from cacher.semantic.embedder import Embedder, embedded, unread
from cacher.semantic.entry import Entry, Hit, Listed
from cacher.semantic.guard import guard
from cacher.semantic.partition import Partition
from cacher.semantic.store import Changes, EntryStore, Record, Write

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

SYNC_S = 0.2  # a mirror that was up to date so long ago is good enough
CLAIM_S = 30.0  # how long other processes leave a text to the one that generates for it
CANDIDATES = 8  # similar entries that the guard is asked about
ALIKE = 1 - 1e-6  # a cosine that may be 1 but for rounding

Flight = Future[Entry | None]

#: What this call generates for, and the calls that it is a part of.
within: ContextVar[tuple[Flight, ...]] = ContextVar("within", default=())


class Shelf:
    """Entries behind two locks: one for the memory, held for microseconds, one for the store.

    Args:
        tenant: Whose entries.
        partition: The entries, or the mirror of those in the store.
        embedder: What vectors come from; those of another are made anew from their texts.
        store: Where entries are kept and shared; None: in memory only.
    """

    def __init__(
        self, tenant: str, partition: Partition, embedder: Embedder, store: EntryStore | None
    ) -> None:
        self.partition = partition
        self._tenant = tenant
        self._embedder = embedder
        self._store = store
        self._lock = threading.Lock()
        self._io = threading.Lock()
        self._synced = float("-inf")
        self._flights: dict[str, Flight] = {}
        self._uses: dict[str, tuple[int, float]] = {}  # that the store does not know of

    # ---- the store

    @property
    def stale(self) -> bool:
        """Whether others may have changed what is here; then `sync` reads what they did."""
        return self._store is not None and time.monotonic() - self._synced > SYNC_S

    def sync(self, *, now: bool = False) -> None:
        """Bring the mirror up to date where it is stale, or `now`.

        Raises:
            StoreError: The store cannot be read.
        """
        if self._store is None:
            return
        with self._io:
            if not (now or self.stale):  # another thread has just done it
                return
            self._tell_uses()
            self._apply(self._store.changes(self._tenant, self.partition.revision))
            self._synced = time.monotonic()

    def _tell_uses(self) -> None:
        if self._store is not None and self._uses:
            with self._lock:
                uses, self._uses = self._uses, {}
            try:
                self._store.use(self._tenant, uses)
            except BaseException:
                with self._lock:
                    for entry_id, (n, last) in uses.items():
                        since, latest = self._uses.get(entry_id, (0, last))
                        self._uses[entry_id] = (n + since, latest)
                raise

    def _apply(self, changes: Changes) -> None:
        own = changes._replace(put=self._own(changes.put))
        with self._lock:
            self.partition.apply(own)

    def _own(self, records: Sequence[Record]) -> Sequence[Record]:
        """Make vectors that are another embedder's, or damaged, anew from their texts."""
        name, dimension = self._embedder.name, self._embedder.dimension
        foreign = [
            i
            for i, record in enumerate(records)
            if record.entry.embedder != name or not _is_vector(record.vector, dimension)
        ]
        if not foreign:
            return records
        made = list(records)
        vectors = embedded(self._embedder, [made[i].entry.query for i in foreign])
        for i, vector in zip(foreign, vectors, strict=True):
            made[i] = Record(replace(made[i].entry, embedder=name), vector.tobytes())
        return made

    def write(self, plan: Callable[[], Write]) -> None:
        """Carry out what `plan` says of the entries as they are then; it may be asked again.

        Raises:
            StoreError: The store cannot be written; nothing has changed.
        """

        def decide(changes: Changes) -> Write:
            self._apply(changes)
            with self._lock:
                return plan()

        if self._store is None:
            with self._lock:
                write = plan()
                self.partition.apply(Changes(0, False, write.put, write.remove, {}))
        else:
            with self._io:
                self._tell_uses()
                if self.stale:  # vectors are made anew before others must wait for this write
                    self._apply(self._store.changes(self._tenant, self.partition.revision))
                done = self._store.write(self._tenant, decide, self.partition.revision)
                self._apply(done)
                self._synced = time.monotonic()

    def put(self, records: Sequence[Record]) -> None:
        """Store entries; those of the same texts, the old, and what is too many go."""
        evicted = 0

        def plan() -> Write:
            nonlocal evicted
            write, evicted = self.partition.plan(records)
            return write

        self.write(plan)
        with self._lock:
            self.partition.counts.evictions += evicted

    def merge(self, records: Sequence[tuple[Record, int]]) -> list[str]:
        """Store entries of another time, with their hits; returns the ids that have come.

        Of one text the newer stays, and of all the newest, in the order of their times.
        """
        own = self._own([record for record, _ in records])
        came: list[Record] = []

        def plan() -> Write:
            nonlocal came
            write = self.partition.plan_merge(own)
            came = list(write.put)
            return write

        self.write(plan)
        hits = {record.entry.entry_id: n for record, n in records}
        with self._lock:
            self.partition.sort()
            self.partition.count({r.entry.entry_id: hits[r.entry.entry_id] for r in came})
            if self._store is not None:
                told = {e.entry_id: (n, e.timestamp) for e, _ in came if (n := hits[e.entry_id])}
                self._uses = told | self._uses
        return [record.entry.entry_id for record in came]

    def known(self, entry_ids: Sequence[str]) -> list[str]:
        """Return those ids that there are."""
        with self._lock:
            return self.partition.known(entry_ids)

    def remove(self, entry_ids: Sequence[str] | None) -> int:
        """Remove entries, or all; returns how many there were."""
        gone: list[str] = []

        def plan() -> Write:
            nonlocal gone
            gone = self.partition.known(entry_ids)
            return Write(remove=gone)

        self.write(plan)
        return len(gone)

    def drop_old(self) -> None:
        """Remove what is too old."""
        with self._lock:
            old = self.partition.old()
        if old:
            self.write(lambda: Write(remove=self.partition.old()))

    def close(self) -> None:
        """Tell the store what it does not know yet; where that fails, it never will."""
        try:
            with self._io:
                self._tell_uses()
        except StoreError as error:
            log.warning("the last uses of entries are not noted: %s", error)

    # ---- looking

    def listed(self, limit: int, offset: int) -> tuple[list[Listed], int]:
        """Return entries, newest first, and how many there are; hits of all processes."""
        with self._lock:
            found, total = list(self.partition.newest(limit, offset)), len(self.partition)
        hits = self._hits()
        if hits is not None:
            found = [Listed(entry, hits.get(entry.entry_id, 0)) for entry, _ in found]
        return found, total

    def _hits(self) -> dict[str, int] | None:
        """The hits of all processes, where they share a store."""
        if self._store is None:
            return None
        with self._io:
            self._tell_uses()
            return self._store.hits(self._tenant)

    def count(self, *, hits: int = 0, misses: int = 0, bypasses: int = 0, guarded: int = 0) -> None:
        """Add to the tenant's counters."""
        counts = self.partition.counts
        with self._lock:
            counts.hits += hits
            counts.misses += misses
            counts.bypasses += bypasses
            counts.guarded += guarded

    def records(self) -> list[tuple[Record, int]]:
        """Return everything that is needed to store the entries, and their hits, oldest first."""
        with self._lock:  # which vectors need not wait for, and nobody for them
            listed = list(self.partition.listed())
        hits, found = self._hits(), []
        for entry, key, own in listed:
            with suppress(KeyError):  # another thread may remove it just now
                vector = self.partition.index.vector(key).astype("<f4").tobytes()
                n = own if hits is None else hits.get(entry.entry_id, 0)
                found.append((Record(entry, vector), n))
        return found

    def find(self, query: str) -> Hit | None:
        """Return the entry of exactly this text."""
        with self._lock:
            entry = self.partition.find(query)
            if entry is not None:
                self._use(entry)
        return None if entry is None else Hit(entry, 1.0)

    def nearest(
        self, query: str, vector: NDArray[np.float32], threshold: float, *, guarded: bool
    ) -> tuple[Hit | None, str | None]:
        """Return the most similar entry that may be used, or why the most similar one may not."""
        self.drop_old()
        refused: str | None = None
        for k in (1, CANDIDATES):  # mostly the first will do, and is found sooner alone
            found = self.partition.nearest(vector, k, min(threshold, ALIKE))
            for key, score in found:
                with self._lock:
                    entry = self.partition.at(key)
                if entry is None:
                    continue
                similarity = self._similarity(query, vector, entry, key, score)
                if similarity < threshold:
                    continue
                reason = self._reason(query, entry.query) if guarded else None
                if reason is None:
                    with self._lock:
                        self._use(entry)
                    return Hit(entry, similarity), None
                refused = refused or reason
            if len(found) < k:
                break
        return None, refused

    def _reason(self, query: str, other: str) -> str | None:
        """Why two texts must not share an answer, for what they say or for what was not read."""
        return guard(query, other) or unread(self._embedder, query, other)

    def _similarity(
        self, query: str, vector: NDArray[np.float32], entry: Entry, key: int, score: float
    ) -> float:
        """The cosine, without what rounding makes of 1."""
        if entry.query == query:
            return 1.0
        if score >= ALIKE:
            with suppress(KeyError):  # another thread may remove it just now
                if np.array_equal(self.partition.index.vector(key), vector):
                    return 1.0
        return min(score, 1.0)

    def _use(self, entry: Entry) -> None:
        now = time.time()
        self.partition.use(entry, now)
        if self._store is not None:
            n, _ = self._uses.get(entry.entry_id, (0, 0.0))
            self._uses[entry.entry_id] = (n + 1, now)

    # ---- generating once

    def landed(self, entry: Entry | None) -> Hit | None:
        """Return what came of a flight to one that waited for it."""
        if entry is None:
            return None
        with self._lock:
            self._use(entry)
        return Hit(entry, 1.0)

    def begin(self, query: str) -> Flight | Hit | None:
        """Return an entry that has come meanwhile, or who generates for this text: None is you.

        Whoever is told None enters `flying` at once.

        Raises:
            RuntimeError: Whoever generates would wait for itself.
        """
        with self._lock:
            flight = self._flights.get(query)
            if flight is not None:
                if flight in within.get():
                    raise RuntimeError(f"what generates the answer to {shown(query)} asks for it")
                return flight
            entry = self.partition.find(query)
            if entry is not None:
                self._use(entry)
                return Hit(entry, 1.0)
            self._flights[query] = Future()
            return None

    @contextmanager
    def flying(self, query: str) -> Iterator[list[Entry]]:
        """Generate for a text after `begin`; the entry is put into the list that this gives.

        Those who wait get the entry, or the error, which is theirs too.  Where whoever generated
        was called off, they get neither, and may try.
        """
        landed: list[Entry] = []
        failed: Exception | None = None
        outer = within.set((*within.get(), self._flights[query]))
        try:
            yield landed
        except Exception as error:
            failed = error
            raise
        finally:
            within.reset(outer)
            with self._lock:
                flight = self._flights.pop(query)
            if failed is not None:
                flight.set_exception(failed)
            else:
                flight.set_result(landed[0] if landed else None)

    def claim(self, query: str) -> str | Hit | None:
        """Keep other processes from generating for this text.

        Returns:
            What `release` takes; or the entry, where one has come; or None, while another process
            generates.
        """
        if self._store is None:
            return ""
        token = self._store.claim(self._tenant, query, CLAIM_S)
        if token is None:
            self.sync(now=True)
            return self.find(query)
        try:
            self.sync(now=True)
            found = self.find(query)
        except BaseException:
            self.release(query, token)
            raise
        if found is None:
            return token
        self.release(query, token)
        return found

    def release(self, query: str, token: str) -> None:
        """Let other processes generate for this text; where that fails, they may in a while."""
        if self._store is not None:
            try:
                self._store.release(self._tenant, query, token)
            except StoreError as error:
                log.warning("a claim on a text runs out, since it cannot be released: %s", error)


def _is_vector(data: bytes, dimension: int) -> bool:
    return len(data) == 4 * dimension and bool(np.isfinite(np.frombuffer(data, "<f4")).all())
