"""The entries of one tenant, in memory.

Policy is here alone: which entry is too old, and which makes place for another.  Where entries are
kept in a store, a partition is this process's mirror of it.  Nothing here waits, and nothing takes
a lock: `SemanticCache` holds one for each partition; `nearest` alone may run beside the rest.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, takewhile
from math import inf
from typing import TYPE_CHECKING, Literal

import numpy as np

from cacher.index import Index, Match
from cacher.semantic.entry import Counts, Entry, Listed
from cacher.semantic.store import Changes, Record, Write

if TYPE_CHECKING:
    from numpy.typing import NDArray

Eviction = Literal["fifo", "lru"]


class Partition:
    """Entries in the order in which they were stored; one of a text.

    Args:
        dimension: Numbers of a vector.
        max_size: Most entries.
        eviction: Which one makes place: the one stored first, or the one not used for longest.
        ttl_s: Seconds after which an entry counts as absent; 0: never.
    """

    def __init__(self, dimension: int, *, max_size: int, eviction: Eviction, ttl_s: float) -> None:
        self.counts = Counts()
        self.revision = 0  # of the store, up to which this mirror is up to date
        self._max_size = max_size
        self._lru = eviction == "lru"
        self._ttl_s = ttl_s
        self.index = Index(dimension)
        self._entries: dict[str, Entry] = {}  # by query, in the order of storing
        self._ids: dict[str, str] = {}  # entry id -> query
        self._at: dict[int, Entry] = {}  # key of the index -> entry
        self._keys: dict[str, int] = {}  # entry id -> key of the index
        self._hits: dict[str, int] = {}
        self._used: dict[str, float] = {}  # entry id -> last use; the order of use
        self._text_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def memory_bytes(self) -> int:
        """Bytes of vectors and texts."""
        return self.index.memory_bytes + self._text_bytes

    # ---- looking

    def find(self, query: str) -> Entry | None:
        """Return the entry of exactly this text."""
        entry = self._entries.get(query)
        return None if entry is None or self._is_old(entry) else entry

    def nearest(self, vector: NDArray[np.float32], k: int, threshold: float) -> list[Match]:
        """Return keys of the most similar entries, best first; takes no lock."""
        return self.index.search(vector, k, threshold=threshold)

    def at(self, key: int) -> Entry | None:
        """Return the entry that `nearest` found; None when it is gone, or too old."""
        entry = self._at.get(key)
        return None if entry is None or self._is_old(entry) else entry

    def use(self, entry: Entry, when: float) -> None:
        """Count a hit, the latest of all."""
        if self._used.pop(entry.entry_id, None) is not None:
            self._used[entry.entry_id] = when
            self._hits[entry.entry_id] += 1

    def _touch(self, used: Mapping[str, float]) -> None:
        """Note hits elsewhere, which may lie before some that are known."""
        first = min(used.values(), default=inf)
        moved = [(entry_id, when) for entry_id, when in used.items()
                 if self._used.pop(entry_id, None) is not None]  # fmt: skip
        while self._used and next(reversed(self._used.values())) > first:
            moved.append(self._used.popitem())
        self._used.update(sorted(moved, key=lambda one: one[1]))

    def _is_old(self, entry: Entry) -> bool:
        return self._ttl_s > 0 and entry.timestamp + self._ttl_s <= time.time()

    def newest(self, limit: int, offset: int) -> Iterator[Listed]:
        """Yield entries and their hits, newest first."""
        for entry in islice(reversed(self._entries.values()), offset, offset + limit):
            yield Listed(entry, self._hits[entry.entry_id])

    def known(self, entry_ids: Iterable[str] | None) -> list[str]:
        """Return those ids that there are; None: all."""
        return list(self._ids) if entry_ids is None else [i for i in entry_ids if i in self._ids]

    def listed(self) -> Iterator[tuple[Entry, int, int]]:
        """Yield entries, the keys of their vectors, and their hits, oldest first."""
        for entry_id, query in self._ids.items():
            yield self._entries[query], self._keys[entry_id], self._hits[entry_id]

    # ---- changing

    def old(self) -> list[str]:
        """Return the ids of entries that are too old: the first stored are the oldest."""
        if not self._ttl_s:
            return []
        return [entry.entry_id for entry in takewhile(self._is_old, self._entries.values())]

    def plan(self, records: Sequence[Record]) -> tuple[Write, int]:
        """Return what storing these takes, and how many of the ids that go make place.

        The last one of a text wins; entries of the same texts go, and the old ones, and then as
        many as the size demands.  Where there is no place at all, nothing changes: what others keep
        in a store is theirs.
        """
        if not self._max_size:
            return Write(), 0
        last = {record.entry.query: record for record in records}
        put = list(last.values())[max(0, len(last) - self._max_size) :]
        gone = dict.fromkeys(
            self._entries[query].entry_id for query in last if query in self._entries
        )
        gone |= dict.fromkeys(self.old())
        excess = len(self) - len(gone) + len(put) - self._max_size
        order: Iterable[str] = self._used if self._lru else self._ids
        victims = list(islice((one for one in order if one not in gone), max(0, excess)))
        return Write(put, [*gone, *victims]), len(victims) + len(last) - len(put)

    def plan_merge(self, records: Sequence[Record]) -> Write:
        """Return what becoming the newest of what is here and of these takes."""
        newest = {query: entry.timestamp for query, entry in self._entries.items()}
        chosen: dict[str, Record] = {}
        ids = set(self._ids)  # one of a text that nobody has here may be another's
        for record in records:
            entry = record.entry
            newer = entry.timestamp > newest.get(entry.query, -inf)
            if newer and entry.entry_id not in ids and not self._is_old(entry):
                chosen[entry.query] = record
                ids.add(entry.entry_id)
                newest[entry.query] = entry.timestamp
        order = sorted(newest, key=lambda query: newest[query])
        kept = set(order[max(0, len(order) - self._max_size) :])
        put = sorted(
            (record for query, record in chosen.items() if query in kept),
            key=lambda record: record.entry.timestamp,
        )
        gone = [e.entry_id for q, e in self._entries.items() if q in chosen or q not in kept]
        return Write(put, gone)

    def sort(self) -> None:
        """Take the order of the entries' times for that of their storing."""
        self._entries = dict(sorted(self._entries.items(), key=lambda item: item[1].timestamp))
        self._ids = {entry.entry_id: query for query, entry in self._entries.items()}
        self._used = dict(sorted(self._used.items(), key=lambda item: item[1]))

    def apply(self, changes: Changes) -> None:
        """Become what the changes say; what is known already changes nothing."""
        try:
            self._apply(changes)
        except BaseException:  # a signal, or no memory
            self._mend()
            raise

    def _apply(self, changes: Changes) -> None:
        if changes.whole:
            self.revision = 0
            hits = {r.entry.entry_id: self._hits.get(r.entry.entry_id, 0) for r in changes.put}
            self._remove(list(self._ids))  # their keys never come again: a search may be under way
            self._put(changes.put)
            self._hits = hits
        else:
            self._remove(changes.removed)
            self._put([r for r in changes.put if r.entry.entry_id not in self._keys])
        uses = changes.used.items()
        self._touch({i: when for i, when in uses if when > self._used.get(i, when)})
        self.revision = max(self.revision, changes.revision)

    def _mend(self) -> None:
        """Leave out what came or went by half; a store tells the rest once more."""
        self.revision = 0
        whole = self._hits.keys() & self._used.keys() & self._keys.keys()
        kept = [
            entry for query, entry in self._entries.items()
            if entry.entry_id in whole and self._ids.get(entry.entry_id) == query
            and self._at.get(self._keys[entry.entry_id]) is entry
        ]  # fmt: skip
        keys = {entry.entry_id: self._keys[entry.entry_id] for entry in kept}
        self._entries = {entry.query: entry for entry in kept}
        self._ids = {entry.entry_id: entry.query for entry in kept}
        self._at = {keys[entry.entry_id]: entry for entry in kept}
        self._hits = {i: n for i, n in self._hits.items() if i in keys}
        self._used = {i: when for i, when in self._used.items() if i in keys}
        self._keys = keys
        self._text_bytes = sum(map(_size, kept))
        self.index.remove(key for key in self.index.keys().tolist() if key not in self._at)

    def count(self, hits: Mapping[str, int]) -> None:
        """Add hits that were counted elsewhere."""
        for entry_id, n in hits.items():
            if entry_id in self._hits:
                self._hits[entry_id] += n

    def _put(self, records: Sequence[Record]) -> None:
        if not records:
            return
        replaced = [self._entries[r.entry.query] for r in records if r.entry.query in self._entries]
        self._remove([entry.entry_id for entry in replaced])
        rows = np.frombuffer(b"".join(r.vector for r in records), "<f4").reshape(len(records), -1)
        for record, key in zip(records, self.index.add(rows).tolist(), strict=True):
            entry = record.entry
            self._entries[entry.query] = self._at[key] = entry
            self._ids[entry.entry_id] = entry.query
            self._keys[entry.entry_id] = key
            self._hits.setdefault(entry.entry_id, 0)
            self._used[entry.entry_id] = entry.timestamp
            self._text_bytes += _size(entry)

    def _remove(self, entry_ids: Iterable[str]) -> None:
        keys = []
        for entry_id in entry_ids:
            query = self._ids.pop(entry_id, None)
            if query is not None:
                keys.append(self._keys.pop(entry_id))
                self._text_bytes -= _size(self._entries.pop(query))
                del self._at[keys[-1]], self._hits[entry_id], self._used[entry_id]
        if keys:
            self.index.remove(keys)


def _size(entry: Entry) -> int:
    """The bytes of an entry's texts, as UTF-8."""
    return len(entry.query.encode()) + len(entry.response.encode())
