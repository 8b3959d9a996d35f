"""The index beside the files of a store: versions, summaries and leases, in SQLite.

The files are the truth; the index is what lets several processes agree on them and lets lists and
trees be shown without opening files.  A row says which file (inode and size) its version belongs
to: a file that is another one gets a new version when it is met.  The index can be deleted: it is
made again.  Its own durability does not matter, and its transactions do not wait for the disk.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from dataclasses import replace
from typing import Any, NamedTuple

from cacher.stores.base import MAX_TOMBSTONES, Key, Lease, Summary, unique
from cacher.stores.database import Database

log = logging.getLogger(__name__)

LAYOUT = 2  # PRAGMA user_version: an index of another layout is made anew
KNOWN, STRANGE, DAMAGED = 0, 1, 2  # a summary is there; not read yet; cannot be read

TABLES = """
CREATE TABLE states (
    tenant TEXT NOT NULL, id TEXT NOT NULL, version TEXT NOT NULL, inode INTEGER NOT NULL,
    size INTEGER NOT NULL, condition INTEGER NOT NULL, deleted INTEGER NOT NULL DEFAULT 0,
    model_id TEXT NOT NULL DEFAULT '', model_type TEXT NOT NULL DEFAULT '',
    token_count INTEGER NOT NULL DEFAULT 0, head_position INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL, modified REAL NOT NULL, forked_from TEXT, merged_from TEXT,
    PRIMARY KEY (tenant, id)
) WITHOUT ROWID;
CREATE INDEX newest ON states (tenant, deleted, condition, created DESC, id DESC);
CREATE TABLE leases (
    tenant TEXT NOT NULL, id TEXT NOT NULL, token TEXT NOT NULL, until REAL NOT NULL,
    called_off INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (tenant, id)
) WITHOUT ROWID;
"""
SUMMARY = (
    "id, model_id, model_type, token_count, head_position, created, modified, forked_from, "
    "merged_from, deleted"
)


class File(NamedTuple):
    """Which file a version belongs to."""

    inode: int
    size: int


class Row(NamedTuple):
    """What the index says of a live state."""

    version: str
    file: File
    condition: int


class Index:
    """The index of a folder, shared by the threads of a process."""

    def __init__(self, path: str) -> None:
        """Open or make the index; a damaged one is replaced."""
        try:
            self._db = _open(path)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            log.warning("the index %s is damaged and is made anew: %s", path, error)
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path + suffix)
            self._db = _open(path)

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        """Hold the index alone: no other process changes it until the body ends."""
        return self._db.transaction()

    # ---- states

    def get(self, key: Key) -> Row | None:
        """Return what is known of a live state."""
        found = self._db.one(
            "SELECT version, inode, size, condition FROM states "
            "WHERE tenant = ? AND id = ? AND NOT deleted",
            key,
        )
        return None if found is None else Row(found[0], File(found[1], found[2]), found[3])

    def all(self) -> dict[Key, Row]:
        """Return all live states."""
        rows = self._db.all(
            "SELECT tenant, id, version, inode, size, condition FROM states WHERE NOT deleted"
        )
        return {Key(r[0], r[1]): Row(r[2], File(r[3], r[4]), r[5]) for r in rows}

    def put(self, key: Key, version: str, file: File, summary: Summary) -> None:
        """Note a version and what it holds."""
        parents = summary.merged_from
        self._db.run(
            "INSERT OR REPLACE INTO states (tenant, id, version, inode, size, condition, model_id, "
            "model_type, token_count, head_position, created, modified, forked_from, merged_from) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *key, version, *file, KNOWN, summary.model_id, summary.model_type,
                summary.token_count, summary.head_position, summary.created_at,
                summary.modified_at, summary.forked_from,
                None if parents is None else " ".join(parents),
            ),
        )  # fmt: skip

    def put_strange(self, key: Key, file: File, written: float) -> str:
        """Note a file of which nothing else is known yet; returns its version."""
        version = unique()
        self._db.run(
            "INSERT OR REPLACE INTO states (tenant, id, version, inode, size, condition, created, "
            "modified) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*key, version, *file, STRANGE, written, written),
        )
        return version

    def describe(self, read: list[tuple[Key, str, Summary | None]]) -> None:
        """Note what strange files hold, None for damaged ones, while they are those versions."""
        with self.transaction():
            for key, version, summary in read:
                row = self.get(key)
                if row is None or row.version != version:
                    continue
                if summary is not None:
                    self.put(key, version, row.file, summary)
                else:
                    self._db.run(
                        "UPDATE states SET condition = ? WHERE tenant = ? AND id = ?",
                        (DAMAGED, *key),
                    )

    def strange(self, tenant: str) -> list[tuple[Key, str]]:
        """Return the live states whose files were not read yet, with their versions."""
        rows = self._db.all(
            "SELECT id, version FROM states WHERE tenant = ? AND NOT deleted AND condition = ?",
            (tenant, STRANGE),
        )
        return [(Key(tenant, state_id), version) for state_id, version in rows]

    def bury(self, key: Key) -> None:
        """Note that a state is deleted."""
        self._db.run("UPDATE states SET deleted = 1, version = '' WHERE tenant = ? AND id = ?", key)

    def forget(self) -> None:
        """Forget the oldest deleted states beyond what a tenant's tree shows."""
        for (tenant,) in self._db.all("SELECT DISTINCT tenant FROM states WHERE deleted"):
            self._db.run(
                "DELETE FROM states WHERE tenant = ? AND deleted AND id IN (SELECT id FROM states "
                "WHERE tenant = ? AND deleted ORDER BY modified DESC LIMIT -1 OFFSET ?)",
                (tenant, tenant, MAX_TOMBSTONES),
            )

    def newest(self, tenant: str, limit: int, offset: int) -> tuple[list[Summary], int]:
        """Return summaries, newest first, and how many there are."""
        where = "FROM states WHERE tenant = ? AND deleted = 0 AND condition = 0"
        rows = self._db.all(
            f"SELECT {SUMMARY} {where} ORDER BY created DESC, id DESC LIMIT ? OFFSET ?",
            (tenant, limit, offset),
        )
        total = self._db.one(f"SELECT count(*) {where}", (tenant,))
        return [_summary(row) for row in rows], total[0] if total else 0

    def family(self, tenant: str) -> list[Summary]:
        """Return summaries of live and deleted states, oldest first."""
        rows = self._db.all(
            f"SELECT {SUMMARY} FROM states WHERE tenant = ? AND (deleted OR condition = 0) "
            "ORDER BY created, id",
            (tenant,),
        )
        return [_summary(row) for row in rows]

    # ---- leases

    def acquire(self, key: Key, seconds: float) -> Lease | None:
        """Take a lease that nobody holds."""
        with self.transaction():
            if self.is_leased(key):
                return None
            lease = Lease(key, unique())
            self._db.run(
                "INSERT OR REPLACE INTO leases (tenant, id, token, until) VALUES (?, ?, ?, ?)",
                (*key, lease.token, time.time() + seconds),
            )
            return lease

    def is_leased(self, key: Key) -> bool:
        """Whether somebody holds a lease."""
        held = self._db.one("SELECT until FROM leases WHERE tenant = ? AND id = ?", key)
        return held is not None and held[0] > time.time()

    def renew(self, lease: Lease, seconds: float) -> bool:
        """Prolong a lease that is still the holder's."""
        changed = self._db.run(
            "UPDATE leases SET until = ? WHERE tenant = ? AND id = ? AND token = ?",
            (time.time() + seconds, *lease.key, lease.token),
        )
        return changed > 0

    def release(self, lease: Lease) -> None:
        """Remove a lease."""
        self._db.run(
            "DELETE FROM leases WHERE tenant = ? AND id = ? AND token = ?",
            (*lease.key, lease.token),
        )

    def call_off(self, key: Key) -> bool:
        """Note that the holder of a lease is to stop."""
        changed = self._db.run(
            "UPDATE leases SET called_off = 1 WHERE tenant = ? AND id = ? AND until > ?",
            (*key, time.time()),
        )
        return changed > 0

    def is_called_off(self, lease: Lease) -> bool:
        """Whether that was noted."""
        found = self._db.one(
            "SELECT called_off FROM leases WHERE tenant = ? AND id = ? AND token = ?",
            (*lease.key, lease.token),
        )
        return found is not None and bool(found[0])


def _open(path: str) -> Database:
    db = Database(path)
    try:
        db.begin(TABLES, LAYOUT, precious=False)
    except BaseException:
        db.close()
        raise
    return db


def _summary(row: tuple[Any, ...]) -> Summary:
    *plain, parents, deleted = row
    summary = Summary(*plain)
    merged_from = None if parents is None else tuple(parents.split())
    return replace(summary, merged_from=merged_from, deleted=bool(deleted))
