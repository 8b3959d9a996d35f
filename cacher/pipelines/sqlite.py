"""Samples in an SQLite database, for one or several processes of one machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Iterator, Sequence
from typing import Any
from zlib import crc32

from cacher.checks import boolean, choice, integer, number
from cacher.errors import StoreError
from cacher.pipelines.files import Files
from cacher.pipelines.lists import (
    Adding,
    adding_of,
    places_of,
    problems_of,
    read_samples,
    remove_keys,
    rows_of,
    totals_of,
)
from cacher.pipelines.rows import (
    COLUMNS,
    ENTRIES,
    MASK,
    identity,
    inserting,
    key_of,
    name_of,
    noting,
    parts,
)
from cacher.pipelines.store import (
    MAX_INDEX,
    ROW_BYTES,
    Add,
    Listed,
    SampleStore,
    Want,
    check_key,
    check_limit,
)
from cacher.stores.database import Database
from cacher.stores.ranges import LIMIT, Ranges

MERGE = 1000  # rows in `recent` before they are moved
FOR_EVER_S = 1e6  # as long as SQLite can wait
NOTED = 10_000  # uses that are noted in memory before they are written
MAKING = "making"  # the name of the file of `Ranges`
VICTIMS = 64  # keys looked up at once to be evicted


class Cache(SampleStore):
    """Samples in a folder; `cacher.pipelines.store` says what that promises.

    Example:
        >>> from cacher.pipelines import Cache
        >>> with Cache() as cache:
        ...     cache.extend("river", ["Rhine", "Danube"])
        ...     cache.extend("river", ["Elbe"])
        ...     cache["river"]
        0
        2
        ['Rhine', 'Danube', 'Elbe']
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        timeout: float = 60,
        *,
        sync: str = "normal",
        readonly: bool = False,
        max_bytes: int | None = None,
    ) -> None:
        """Open a folder, making it where it is missing.

        Args:
            directory: The folder; None: one for the time being, removed by `close`.
            timeout: Seconds to wait for other processes that write; negative: for ever.
            sync: ``"normal"``: what was added outlasts a process that is killed; ``"full"``: and a
                power failure.
            readonly: Write nothing; a folder that is not there is an empty store.
            max_bytes: What samples may take, about; beyond it the least recently used keys are
                removed.

        Raises:
            ParameterError: An argument is outside its range.
            StoreError: It cannot be opened, or was made by a later version.
        """
        patience = number("timeout", timeout, -FOR_EVER_S, FOR_EVER_S)
        durable = choice("sync", sync, "normal", "full") == "full"
        self._max_bytes = check_limit(max_bytes)
        self.reads_quickly = max_bytes is None  # else it may have to write down what was used
        self._temporary = directory is None
        name = tempfile.mkdtemp(prefix="cacher-") if directory is None else os.fsdecode(directory)
        self.directory = os.path.abspath(name)
        if self._temporary:
            weakref.finalize(self, shutil.rmtree, self.directory, ignore_errors=True)
        self._files = Files(
            self.directory, FOR_EVER_S if patience < 0 else patience, durable=durable,
            readonly=boolean("readonly", readonly),
        )  # fmt: skip
        self._uses: dict[int, float] = {}
        self._uses_known = False
        self._files.read(lambda _db, _careful: None, None)
        self._making = Ranges(os.path.join(self.directory, MAKING))

    def close(self) -> None:
        """Close the files; the next call opens them again."""
        if self._uses:
            with contextlib.suppress(StoreError):
                self._files.write(self._note_uses)
        self._files.close()
        self._making.close()
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    @contextlib.contextmanager
    def transact(self) -> Iterator[None]:
        """Hold the store: what this thread does in the body is there as a whole or not at all."""
        with self._files.transaction():
            yield

    # ---- samples

    def read(self, wants: Sequence[Want]) -> list[dict[int, object]]:
        """Return samples by index; see `SampleStore.read`."""
        keys = [identity(want[0]) for want in wants]
        if self._max_bytes is not None:
            self._use([key.hash for key in keys])
        ranges = [
            (key.hash, low if low > 0 else 0, high if high < MAX_INDEX else MAX_INDEX)
            for key, (_, low, high) in zip(keys, wants, strict=True)
        ]
        return self._files.read(
            lambda db, careful: read_samples(db, keys, ranges, careful=careful),
            [{} for _ in wants],
        )

    def add(self, adds: Sequence[Add]) -> list[list[int]]:
        """Store samples in one transaction; see `SampleStore.add`."""
        adding = [adding_of(key, start, samples) for key, start, samples in adds]
        places = self._files.write(lambda db: self._add(db, adding))
        with contextlib.suppress(OSError):
            self._making.mark()
        return places

    def take(self, want: Want) -> bool:
        """Whether no other process of this machine has samples made; see `SampleStore.take`."""
        try:
            return self._making.take(*_range(want))
        except OSError:  # nothing can be locked
            return True

    def leave(self, want: Want) -> None:
        """Let others take samples."""
        self._making.leave(*_range(want))

    def mark(self) -> bytes:
        """Return what is another after samples were added."""
        try:
            return self._making.marked()
        except OSError:
            return b""

    def replace(self, key: str, samples: Sequence[object]) -> int:
        """Let these be the samples of a key; return how many there were."""
        adding = adding_of(key, 0, samples)

        def change(db: Database) -> int:
            n = remove_keys(db, [adding.identity.name])[1]
            self._add(db, [adding])
            return n

        return self._files.write(change)

    def remove(self, keys: Sequence[str]) -> int:
        """Remove all samples of keys; return how many of the keys there were."""
        names = [name_of(check_key(key)) for key in dict.fromkeys(keys)]
        return self._files.write(lambda db: remove_keys(db, names))[0]

    def count(self, key: str) -> int:
        """Return how many samples a key has."""
        name = name_of(check_key(key))
        return self._files.read(lambda db, _: len(rows_of(db, name)), 0)

    # ---- size

    def prune(self, max_bytes: int) -> list[str]:
        """Remove the least recently used keys until the rest takes no more; return them."""
        limit = integer("max_bytes", max_bytes, 0, MAX_INDEX)

        def change(db: Database) -> list[str]:
            self._note_uses(db)
            self._uses_known = False
            return self._evict(db, limit, time.time() + 1)

        return self._files.write(change)

    def _add(self, db: Database, adding: Sequence[Adding]) -> list[list[int]]:
        places, gaps = places_of(db, adding)
        samples, size, last, recent = totals_of(db)
        now = time.time()
        rows: list[object] = []
        entries: list[tuple[int, int, int]] = []
        for add, where in zip(adding, places, strict=True):
            name, _, start = add.identity
            for (kind, value), place in zip(add.values, where, strict=True):
                last += 1
                total = crc32(value, (start + 2 * place + kind) & MASK)
                rows += (last, name, place, kind, total, now, value)
                entries.append((add.hash, place, last))
                size += len(value) + ROW_BYTES
        for at, part in parts(entries):
            db.run(inserting("samples", COLUMNS, len(part)),
                   rows[COLUMNS * at : COLUMNS * (at + len(part))])  # fmt: skip
            db.run(inserting("recent", 3, len(part)), [x for entry in part for x in entry])
        if gaps:
            db.run_all("INSERT OR IGNORE INTO gaps VALUES (?)", [(each,) for each in gaps])
        recent += len(entries)
        if recent > MERGE:
            db.run("INSERT INTO settled SELECT * FROM recent")
            db.run("DELETE FROM recent")
            recent = 0
        db.run("UPDATE totals SET samples = ?, bytes = ?, last = ?, recent = ?",
               (samples + len(entries), size, last, recent))  # fmt: skip
        if self._max_bytes is not None:
            self._uses.update(dict.fromkeys((add.hash for add in adding), now))
            if size > self._max_bytes or len(self._uses) > NOTED:
                self._note_uses(db)
            self._evict(db, self._max_bytes, now)
        return places

    def _evict(self, db: Database, limit: int, before: float) -> list[str]:
        """Remove keys whose last use was before, until the rest takes no more than the limit."""
        evicted: list[str] = []
        while (size := totals_of(db)[1]) > limit:
            self._know_uses(db)
            victims = db.all(
                "SELECT hash FROM uses WHERE used < ? ORDER BY used LIMIT ?", (before, VICTIMS)
            )
            if not victims:
                break
            for (hashed,) in victims:
                if size <= limit:
                    break
                found = db.all(
                    f"SELECT key, sum(length(value) + {ROW_BYTES}) FROM {ENTRIES} AS entries "
                    "JOIN samples ON samples.id = entries.id WHERE hash = ? GROUP BY key",
                    (hashed,),
                )
                remove_keys(db, [name for name, _ in found])
                db.run("DELETE FROM uses WHERE hash = ?", (hashed,))
                evicted += (key_of(name) for name, _ in found)
                size -= sum(taken for _, taken in found)
        return evicted

    def _use(self, hashes: Sequence[int]) -> None:
        """Note uses in memory, or where these are too many, in the database."""
        self._uses.update(dict.fromkeys(hashes, time.time()))
        if len(self._uses) > NOTED:
            with contextlib.suppress(StoreError):
                self._files.write(self._note_uses)

    def _note_uses(self, db: Database) -> None:
        """Write the uses that are known in memory alone."""
        uses, self._uses = self._uses, {}
        for _, part in parts(list(uses.items())):
            db.run(noting(len(part)), [x for use in part for x in use])

    def _know_uses(self, db: Database) -> None:
        """A key that was added by somebody who had no limit was used when it was added."""
        if not self._uses_known:
            db.run(
                f"INSERT INTO uses SELECT hash, max(added) FROM {ENTRIES} AS entries "
                "JOIN samples ON samples.id = entries.id "
                "WHERE hash NOT IN (SELECT hash FROM uses) GROUP BY hash"
            )
            self._uses_known = True

    # ---- the whole store

    def listed(self) -> Iterator[Listed]:
        """Yield all keys, the least recently used first."""
        nothing: list[tuple[Any, ...]] = []
        rows = self._files.read(
            lambda db, _: db.all(
                f"SELECT key, count(*), sum(length(value) + {ROW_BYTES}), "
                "max(max(added), coalesce(max(used), 0)) AS last "
                f"FROM {ENTRIES} AS entries JOIN samples ON samples.id = entries.id "
                "LEFT JOIN uses ON uses.hash = entries.hash GROUP BY key ORDER BY last, key"
            ),
            nothing,
        )
        return (Listed(key_of(name), *others) for name, *others in rows)

    def stats(self) -> dict[str, int]:
        """Return counts; ``file_bytes`` is what lies on disk; see `SampleStore.stats`."""
        nothing: tuple[tuple[int], tuple[int, ...] | None] = (0,), None
        (keys,), found = self._files.read(
            lambda db, _: (
                db.one("SELECT count(*) FROM (SELECT hash FROM recent UNION "
                       "SELECT hash FROM settled)") or (0,),
                db.one("SELECT samples, bytes, recovered, corrupt FROM totals"),
            ),
            nothing,
        )  # fmt: skip
        samples, size, recovered, corrupt = found or (0, 0, 0, 0)
        return {
            "keys": keys,
            "samples": samples,
            "bytes": size,
            "file_bytes": self._files.size(),
            "recovered_bytes": recovered,
            "corrupt_records": corrupt,
        }

    def check(self) -> list[str]:
        """Return what is wrong, one line each, and change nothing; it reads everything."""
        return self._files.read(_checked, [])

    def compact(self) -> None:
        """Give back the space of what was removed and replaced; mend what `check` finds."""
        self._files.compact(problems_of)


def _range(want: Want) -> tuple[int, int, int]:
    key, start, stop = want
    return identity(key).hash % LIMIT, start, stop


def _checked(db: Database, _careful: bool) -> list[str]:
    with db.snapshot():
        return problems_of(db)
