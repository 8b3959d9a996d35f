"""One database of samples that is open, and what its files tell about it."""

from __future__ import annotations

import os
import sqlite3
import time
from functools import cache

from cacher.pipelines.rows import APPLICATION, LAYOUT, PAGE_BYTES, TABLES
from cacher.pipelines.salvage import FRAME_HEADER, LOG, read_log, salt_of
from cacher.stores.database import DamagedError, Database

DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
LOG_PAGES = 2000  # of the log that are written before they are moved into the database
SCHEMA = "SELECT CAST(sql AS BLOB) FROM sqlite_master ORDER BY name"
MEMORY_KIB = 16_000  # of pages, for each connection


class Opened:
    """A database that is open.

    Attributes:
        number: In its name.
        path: The file.
        writer: A connection, or None where nothing can be written.
        reader: Another, so that readers wait for no disk; None where there is no database.
    """

    def __init__(self, folder: str, number: int) -> None:
        self.number, self.folder = number, folder
        self.path, self.following = path_of(folder, number), path_of(folder, number + 1)
        self.writer: Database | None = None
        self.reader: Database | None = None
        self._version: tuple[int, ...] | None = None
        self._immutable = False

    def open(self, timeout_s: float) -> None:
        """Open the connections, making the database where it is missing."""
        self.writer = writer = Database(self.path, timeout_s=timeout_s)
        writer.refuse_strangers(APPLICATION, LAYOUT)
        writer.one(f"PRAGMA page_size = {PAGE_BYTES}")
        writer.begin(TABLES, LAYOUT, precious=True, check=False)
        if writer.all(SCHEMA) != _expected_schema():
            raise DamagedError("the tables are not as they were made")
        self.reader = Database(self.path, timeout_s=timeout_s)
        for db in (writer, self.reader):
            db.one(f"PRAGMA cache_size = -{MEMORY_KIB}")
        writer.one(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
        self._version = self._found()

    def open_for_reading(self) -> None:
        """Open one connection that changes nothing, where there is a database."""
        if not os.path.exists(self.path):
            self._version = self._found()
            return
        try:
            self.reader = Database(self.path, reading="mode=ro")
            self.reader.refuse_strangers(APPLICATION, LAYOUT)
        except sqlite3.OperationalError:  # no log can be made
            if self.reader is not None:
                self.reader.close()
            if os.path.exists(self.path + LOG):
                raise
            self._immutable = True
            self.reader = Database(self.path, reading="mode=ro&immutable=1")
            self.reader.refuse_strangers(APPLICATION, LAYOUT)
        self._version = self._found()

    def _found(self) -> tuple[int, ...] | None:
        """Return which file lies there; where it is read without locks, in which state."""
        try:
            there = os.stat(self.path)
        except FileNotFoundError:
            return None
        if self._immutable:
            logged = os.path.exists(self.path + LOG)
            return there.st_dev, there.st_ino, there.st_size, there.st_mtime_ns, logged
        return there.st_dev, there.st_ino

    def is_current(self) -> bool:
        """Whether this is still the database of its folder."""
        return self._found() == self._version and not os.path.exists(self.following)

    def close(self) -> None:
        """Close the connections."""
        for db in (self.reader, self.writer):
            if db is not None:
                db.close()


def is_damage(error: sqlite3.Error) -> bool:
    """Whether an error says that the database is damaged."""
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in DAMAGE:
        return True
    return str(error).startswith("Could not decode to UTF-8")  # a text that is none


def path_of(folder: str, number: int) -> str:
    """Return the name of a database."""
    return os.path.join(folder, f"samples-{number}.sqlite3")


@cache
def _expected_schema() -> list[tuple[bytes]]:
    db = sqlite3.connect(":memory:")
    try:
        db.executescript(TABLES)
        return db.execute(SCHEMA).fetchall()
    finally:
        db.close()


def look(opened: Opened) -> tuple[int, bool]:
    """Return how many bytes of writes were cut off, and whether what was stored is lost.

    SQLite leaves out of its log what follows a damage, without a word.
    """
    missing = _missing(opened.path)
    if missing:
        return missing, True
    writer = opened.writer
    if writer is None or not os.path.getsize(opened.path + LOG):
        return 0, False
    with writer.transaction():  # nobody is writing
        found = read_log(opened.path)
    told = writer.one("PRAGMA wal_checkpoint(PASSIVE)")
    known = told[1] if told else -1
    if known < 0 or salt_of(opened.path) != found.salt:  # others write
        return 0, False
    recovered = max(0, found.frames - known) * (FRAME_HEADER + PAGE_BYTES) + found.tail
    lost = found.committed > known
    if recovered and not lost:
        writer.run("UPDATE totals SET recovered = recovered + ?", (recovered,))
    return recovered, lost


def _missing(path: str) -> int:
    """Return how many bytes the last page lacks."""
    for wait in (0.0, 0.02, 0.1):  # another process may be writing it
        time.sleep(wait)
        missing = -os.stat(path).st_size % PAGE_BYTES
        if not missing:
            return 0
    return missing
