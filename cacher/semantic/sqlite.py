"""Entries in an SQLite database: durable, for one or several processes of one machine.

Every change of a tenant raises its revision; an entry's row has the one it came with, so that the
rows are the log of what was put.  What was removed is a table that reaches `LOG` revisions back.
A new tenant's first revision is the clock's microseconds: a mirror of an earlier file cannot take
it for its own.  A transaction that puts or removes waits for the disk; notes of uses and claims
do not: they may be lost with the machine.

Two connections: one that writes, and one for readers, who then wait for no disk.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import struct
import time
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from cacher.errors import StoreError
from cacher.semantic.entry import Entry
from cacher.semantic.store import (
    LOG,
    Changes,
    Decide,
    EntryStore,
    Record,
    puts_of,
    reaches,
    text_key,
    utf8,
)
from cacher.statefile import reason
from cacher.stores.base import unique
from cacher.stores.database import Database

APPLICATION = 0x63_73_65_6D  # PRAGMA application_id: "csem"
LAYOUT = 1  # PRAGMA user_version
TABLES = f"""
PRAGMA application_id = {APPLICATION};
CREATE TABLE tenants (
    id INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE, born INTEGER NOT NULL,
    revision INTEGER NOT NULL
);
CREATE TABLE entries (
    tenant INTEGER NOT NULL, revision INTEGER NOT NULL, text_key BLOB NOT NULL,
    entry_id TEXT NOT NULL, query TEXT NOT NULL, response TEXT NOT NULL, timestamp REAL NOT NULL,
    source TEXT NOT NULL, embedder TEXT NOT NULL, vector BLOB NOT NULL,
    text_checksum INTEGER NOT NULL, vector_checksum INTEGER NOT NULL
);
CREATE UNIQUE INDEX entries_by_revision ON entries (tenant, revision);
CREATE UNIQUE INDEX entries_by_text ON entries (tenant, text_key);
CREATE UNIQUE INDEX entries_by_id ON entries (tenant, entry_id);
CREATE TABLE removed (
    tenant INTEGER NOT NULL, entry_id TEXT NOT NULL, revision INTEGER NOT NULL,
    PRIMARY KEY (tenant, entry_id)
) WITHOUT ROWID;
CREATE INDEX removed_by_revision ON removed (tenant, revision);
CREATE TABLE uses (
    tenant INTEGER NOT NULL, entry_id TEXT NOT NULL, hits INTEGER NOT NULL, used REAL NOT NULL,
    revision INTEGER NOT NULL, PRIMARY KEY (tenant, entry_id)
) WITHOUT ROWID;
CREATE INDEX uses_by_revision ON uses (tenant, revision);
CREATE TABLE claims (
    tenant INTEGER NOT NULL, text_key BLOB NOT NULL, token TEXT NOT NULL, until REAL NOT NULL,
    PRIMARY KEY (tenant, text_key)
) WITHOUT ROWID;
CREATE INDEX claims_by_end ON claims (until);
"""
COLUMNS = (
    "entry_id, query, response, timestamp, source, embedder, vector, text_checksum, vector_checksum"
)


class SqliteEntryStore(EntryStore):
    r"""Entries in an SQLite database; `cacher.semantic.store` says what that promises.

    Example:
        >>> import os, tempfile
        >>> from cacher.semantic.entry import Entry
        >>> from cacher.semantic.sqlite import SqliteEntryStore
        >>> from cacher.semantic.store import Record, Write
        >>> store = SqliteEntryStore(os.path.join(tempfile.mkdtemp(), "entries.sqlite3"))
        >>> entry = Entry("e-0123456789abcdef", "Why?", "Because.", 1.5, "", "minilm")
        >>> done = store.write("", lambda changes: Write([Record(entry, b"\0" * 1536)]), after=0)
        >>> store.changes("", after=0).put[0].entry == entry
        True
        >>> store.close()
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open a file, making it where it is missing; its folder must be there.

        Raises:
            StoreError: It cannot be read or written, is damaged, or is none of ours.
        """
        self._path = os.path.abspath(os.fsdecode(path))
        try:
            self._writer = Database(self._path)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{self._path!r} cannot be opened: {reason(error)}") from error
        with contextlib.ExitStack() as undo, self._trouble("opened"):
            undo.callback(self._writer.close)
            self._writer.refuse_strangers(APPLICATION, LAYOUT)
            self._writer.begin(TABLES, LAYOUT, precious=True)
            self._reader = Database(self._path)
            self._file, self._process = self._which(), os.getpid()
            undo.pop_all()

    def close(self) -> None:
        """Close the file."""
        self._reader.close()
        self._writer.close()

    # ---- entries

    def changes(self, tenant: str, after: int) -> Changes:
        """Return what happened after a revision; cheap when nothing did."""
        name = utf8(tenant)
        with self._trouble("read"):
            self._stay()
            if after and self._tenant(self._reader, name)[2] == after:
                return Changes(after, False, [], [], {})
            with self._reader.snapshot():
                return self._changes(self._reader, name, after)

    def write(self, tenant: str, decide: Decide, after: int) -> Changes:
        """Decide on a write while nobody else writes, and store it."""
        name, db = utf8(tenant), self._writer
        with self._transaction("written", durable=True):
            write = decide(self._changes(db, name, after))
            puts = puts_of(write)
            number, _, before = self._tenant(db, name)
            if not (puts or write.remove):
                return Changes(before, False, [], [], {})
            if not number:
                number, before = self._born(name)
            removed = [
                row[0]
                for entry_id in dict.fromkeys(write.remove)
                for row in db.all(
                    "DELETE FROM entries WHERE tenant = ? AND entry_id = ? RETURNING entry_id",
                    (number, entry_id),
                )
            ]
            rows = [_row(number, before + i, record) for i, record in enumerate(puts, 1)]
            for row in rows:
                for (entry_id,) in db.all(
                    "DELETE FROM entries WHERE tenant = ? AND (text_key = ? OR entry_id = ?) "
                    "RETURNING entry_id",
                    (number, row[2], row[3]),
                ):
                    removed.append(entry_id)
            db.run_all(f"INSERT INTO entries VALUES ({', '.join('?' * 12)})", rows)
            revision = before + max(1, len(rows))
            self._note_removed(number, removed, revision)
            db.run("UPDATE tenants SET revision = ? WHERE id = ?", (revision, number))
            return Changes(revision, False, puts, removed, {})

    def _note_removed(self, number: int, removed: list[str], revision: int) -> None:
        db = self._writer
        gone = [(number, entry_id) for entry_id in removed]
        db.run_all("DELETE FROM uses WHERE tenant = ? AND entry_id = ?", gone)
        db.run_all(
            "INSERT OR REPLACE INTO removed VALUES (?, ?, ?)", [(*key, revision) for key in gone]
        )
        oldest = revision - LOG
        db.run("DELETE FROM removed WHERE tenant = ? AND revision <= ?", (number, oldest))

    def _changes(self, db: Database, name: bytes, after: int) -> Changes:
        number, born, revision = self._tenant(db, name)
        whole = not after or not reaches(after, born, revision)
        since = (number, 0 if whole else after)
        rows = db.all(
            f"SELECT {COLUMNS} FROM entries WHERE tenant = ? AND revision > ? ORDER BY revision",
            since,
        )
        removed = db.all("SELECT entry_id FROM removed WHERE tenant = ? AND revision > ?", since)
        used = db.all(
            "SELECT entry_id, used FROM uses WHERE tenant = ? AND revision > ? "
            "AND typeof(used) = 'real'",
            since,
        )
        records = [self._record(row) for row in rows]
        return Changes(revision, whole, records, [] if whole else [r[0] for r in removed],
                       dict(used))  # fmt: skip

    def _record(self, row: tuple[Any, ...]) -> Record:
        record, text_whole, vector_whole = checked(row)
        if not (text_whole and vector_whole):
            raise StoreError(
                f"{self._path!r} is damaged: entry {record.entry.entry_id} is not as it was "
                "stored; `cacher semantic rescue` saves what is whole"
            )
        return record

    def tenants(self) -> list[str]:
        """Return the names of those who have entries, in no order."""
        with self._trouble("read"):
            self._stay()
            rows = self._reader.all(
                "SELECT name FROM tenants WHERE EXISTS (SELECT 1 FROM entries WHERE tenant = id)"
            )
        return [row[0].decode() for row in rows]

    # ---- uses and claims

    def use(self, tenant: str, used: Mapping[str, tuple[int, float]]) -> None:
        """Note uses of entries: id -> number of hits, and the time of the last one."""
        name, db = utf8(tenant), self._writer
        with self._transaction("used"):
            number, _, revision = self._tenant(db, name)
            db.run_all(
                "INSERT INTO uses SELECT tenant, entry_id, ?, ?, ? FROM entries "
                "WHERE tenant = ? AND entry_id = ? ON CONFLICT DO UPDATE SET "
                "hits = hits + excluded.hits, used = max(used, excluded.used), "
                "revision = excluded.revision",
                [(hits, last, revision + 1, number, entry_id)
                 for entry_id, (hits, last) in used.items()],
            )  # fmt: skip
            db.run("UPDATE tenants SET revision = revision + 1 WHERE id = ?", (number,))

    def hits(self, tenant: str) -> dict[str, int]:
        """Return the hits of the entries that have any, by id."""
        name = utf8(tenant)
        with self._trouble("read"):
            self._stay()
            number = self._tenant(self._reader, name)[0]
            found = self._reader.all(
                "SELECT entry_id, hits FROM uses WHERE tenant = ? AND hits > 0 "
                "AND typeof(hits) = 'integer'",
                (number,),
            )
        return dict(found)

    def claim(self, tenant: str, query: str, seconds: float) -> str | None:
        """Return the token of a claim to answer a text, or None while another has it."""
        name, key, db = utf8(tenant), text_key(query), self._writer
        token, now = unique(), time.time()
        with self._trouble("claimed"):
            self._stay()
            held = self._reader.one(
                "SELECT 1 FROM claims JOIN tenants ON tenants.id = tenant "
                "WHERE name = ? AND text_key = ? AND until > ?",
                (name, key, now),
            )
        if held:  # who asks again and again does not keep writers waiting
            return None
        with self._transaction("claimed"):
            number = self._tenant(db, name)[0] or self._born(name)[0]
            db.run("DELETE FROM claims WHERE until <= ?", (now,))
            taken = db.run(
                "INSERT OR IGNORE INTO claims VALUES (?, ?, ?, ?)",
                (number, key, token, now + seconds),
            )
        return token if taken else None

    def release(self, tenant: str, query: str, token: str) -> None:
        """Give a claim back; no error when it had run out."""
        name, key, db = utf8(tenant), text_key(query), self._writer
        with self._transaction("claimed"):
            number = self._tenant(db, name)[0]
            db.run(
                "DELETE FROM claims WHERE tenant = ? AND text_key = ? AND token = ?",
                (number, key, token),
            )

    # ---- the database

    def _tenant(self, db: Database, name: bytes) -> tuple[int, int, int]:
        """Return a tenant's number, first and latest revision; zeros where it is unknown."""
        row = db.one("SELECT id, born, revision FROM tenants WHERE name = ?", (name,))
        if row is None:
            return 0, 0, 0
        if not all(isinstance(value, int) for value in row):
            raise sqlite3.DatabaseError("the revision of a tenant is damaged")
        return row[0], row[1], row[2]

    def _born(self, name: bytes) -> tuple[int, int]:
        """Make a tenant and return its number and first revision."""
        born = time.time_ns() // 1000
        self._writer.run(
            "INSERT INTO tenants (name, born, revision) VALUES (?, ?, ?)", (name, born, born)
        )
        return self._tenant(self._writer, name)[0], born

    @contextlib.contextmanager
    def _transaction(self, verb: str, *, durable: bool = False) -> Iterator[None]:
        """Hold the database; what is durable is on disk when this ends."""
        with self._trouble(verb):
            self._stay()
            with self._writer.transaction(durable=durable):
                yield

    def _which(self) -> tuple[int, int]:
        there = os.stat(self._path)
        return there.st_dev, there.st_ino

    def _stay(self) -> None:
        """Refuse what would be lost, or would damage the file."""
        if os.getpid() != self._process:
            raise StoreError(f"{self._path!r} was opened before fork(): open it after it")
        with contextlib.suppress(OSError):
            if self._which() == self._file:
                return
        raise StoreError(f"{self._path!r} was removed or replaced while it was in use")

    @contextlib.contextmanager
    def _trouble(self, verb: str) -> Iterator[None]:
        """Turn what the database says into a StoreError."""
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(f"{self._path!r} cannot be {verb}: {error}") from error


def _row(number: int, revision: int, record: Record) -> tuple[object, ...]:
    entry = record.entry
    return (
        number, revision, text_key(entry.query), entry.entry_id, entry.query, entry.response,
        entry.timestamp, entry.source, entry.embedder, record.vector,
        _checksum(entry), zlib.crc32(record.vector),
    )  # fmt: skip


def checked(row: tuple[Any, ...]) -> tuple[Record, bool, bool]:
    """Return the entry of a row of `COLUMNS`, and whether its texts and its vector are whole."""
    *plain, vector, text_checksum, vector_checksum = row
    entry = Entry(*plain)
    typed = [type(value) for value in plain] == [str, str, str, float, str, str]
    return (
        Record(entry, vector), typed and _checksum(entry) == text_checksum,
        isinstance(vector, bytes) and zlib.crc32(vector) == vector_checksum,
    )  # fmt: skip


def _checksum(entry: Entry) -> int:
    value = zlib.crc32(struct.pack("<d", entry.timestamp))
    for text in (entry.entry_id, entry.query, entry.response, entry.source, entry.embedder):
        value = zlib.crc32(utf8(text), value)
    return value
