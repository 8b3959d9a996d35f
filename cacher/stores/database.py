"""A connection to an SQLite database, shared by the threads of a process.

Several processes of one machine share the file (write-ahead log): readers wait for nobody, writers
for each other, at most `BUSY_TIMEOUT_S`.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

BUSY_TIMEOUT_S = 10.0


class Database:
    """One connection; its calls take turns."""

    def __init__(self, path: str) -> None:
        """Open a file, making an empty one where it is missing, and change nothing in it."""
        # Its owner's alone.  It must not be opened here: closing it would release the locks that
        # SQLite holds on it for all connections of this process.
        with contextlib.suppress(FileExistsError):
            os.mknod(path, 0o600)
        self._lock = threading.RLock()
        self._db = sqlite3.connect(
            path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        self._durable = True  # SQLite's own default

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._db.close()

    def begin(self, tables: str, layout: int, *, precious: bool) -> None:
        """Check the file, and make its tables where it has none of that layout.

        Args:
            tables: Statements that make them.
            layout: ``PRAGMA user_version``.
            precious: Check the indexes, too, and drop nothing that another layout left.

        Raises:
            sqlite3.DatabaseError: It is damaged.
        """
        self.run("PRAGMA journal_mode = WAL")
        found = self.one(f"PRAGMA {'integrity_check' if precious else 'quick_check'}(1)")
        if found != ("ok",):
            raise sqlite3.DatabaseError(str(found and found[0]))
        with self.transaction():
            if self.one("PRAGMA user_version") == (layout,):
                return
            if not precious:
                for (name,) in self.all("SELECT name FROM sqlite_master WHERE type = 'table'"):
                    self.run(f'DROP TABLE "{name}"')
            for statement in filter(str.strip, tables.split(";")):
                self.run(statement)
            self.run(f"PRAGMA user_version = {layout}")

    @contextlib.contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[None]:
        """Hold the database: no other process changes it until the body ends.

        Args:
            durable: The end waits for the disk.
        """
        with self._lock:
            if durable != self._durable:
                self._db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                self._durable = durable
            with self._between("BEGIN IMMEDIATE"):
                yield

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read one state of the database, whatever others change meanwhile."""
        with self._lock, self._between("BEGIN DEFERRED"):
            yield

    @contextlib.contextmanager
    def _between(self, begin: str) -> Iterator[None]:
        self._db.execute(begin)
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise

    def one(self, query: str, values: Sequence[object] = ()) -> tuple[Any, ...] | None:
        """Return the first row."""
        with self._lock:
            row: tuple[Any, ...] | None = self._db.execute(query, values).fetchone()
        return row

    def all(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return all rows."""
        with self._lock:
            return self._db.execute(query, values).fetchall()

    def run(self, query: str, values: Sequence[object] = ()) -> int:
        """Run a statement and return how many rows it changed."""
        with self._lock:
            return self._db.execute(query, values).rowcount

    def run_all(self, query: str, values: Iterable[Sequence[object]]) -> None:
        """Run a statement for each row of values."""
        with self._lock:
            self._db.executemany(query, values)
