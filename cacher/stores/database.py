"""A connection to an SQLite database, shared by the threads of a process.

Several processes of one machine share the file (write-ahead log): readers wait for nobody, writers
for each other, at most `BUSY_TIMEOUT_S`.

SQLite's own way of waiting is to ask again after ever longer pauses: a connection that writes
without a pause keeps all others out for seconds.  Here only one waits for SQLite at a time, the one
that has the turn; it keeps the turn until it writes, and who has just written asks for it like all
others.  The turn is a lock on a file beside the database; without it nothing but fairness is lost.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import quote

from cacher.errors import StoreError

BUSY_TIMEOUT_S = 10.0
TURN = "-turn"  # the name of the file beside the database ends so
PAUSE_S = 0.004  # at most this long between two looks whether the turn is free


class DamagedError(sqlite3.DatabaseError):
    """What is in a database is not as it was written."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


class _Readable:
    """Around statements: SQLite may quote what is damaged, and no text any more."""

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is UnicodeDecodeError:
            raise DamagedError(f"the database is damaged: {error}") from None


_READABLE = _Readable()


class Database:
    """One connection; its calls take turns."""

    def __init__(self, path: str, *, timeout_s: float | None = None, reading: str = "") -> None:
        """Open a file, making an empty one where it is missing, and change nothing in it.

        Args:
            path: The file.
            timeout_s: How long writers wait for each other; None: `BUSY_TIMEOUT_S`.
            reading: Only read, and make nothing: the options of SQLite's address of the file.
        """
        self._path = path
        self._timeout_s = BUSY_TIMEOUT_S if timeout_s is None else timeout_s
        self._lock = threading.RLock()
        self._turn = -1
        if reading:
            self._db = self._connect(f"file:{quote(path)}?{reading}", uri=True)
            return
        # Its owner's alone.  It must not be opened here: closing it would release the locks that
        # SQLite holds on it for all connections of this process.
        with contextlib.suppress(FileExistsError):
            os.mknod(path, 0o600)
        self._db = self._connect(path)
        self._durable = True  # SQLite's own default
        try:
            self._turn = os.open(path + TURN, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except BaseException:
            self._db.close()
            raise

    def _connect(self, name: str, *, uri: bool = False) -> sqlite3.Connection:
        return sqlite3.connect(
            name, timeout=self._timeout_s, isolation_level=None, check_same_thread=False, uri=uri
        )

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._db.close()
            if self._turn >= 0:
                os.close(self._turn)
                self._turn = -1

    def refuse_strangers(self, application: int, layout: int) -> None:
        """Raise unless the database is empty, or is one of this application and layout.

        Raises:
            StoreError: It is of something else, or of a later version.
        """
        with self.snapshot():  # another process may be making the tables
            tables = self.one("SELECT count(*) FROM sqlite_master")
            found = self.one("PRAGMA application_id"), self.one("PRAGMA user_version")
        if tables == (0,) and found == ((0,), (0,)):
            return
        if found[0] != (application,):
            raise StoreError(f"{self._path!r} is a database of something else")
        if found[1] != (layout,):
            other = found[1] and found[1][0]
            raise StoreError(f"{self._path!r} has layout {other}, this version reads {layout}")

    def begin(self, tables: str, layout: int, *, precious: bool, check: bool = True) -> None:
        """Check the file, and make its tables where it has none of that layout.

        Args:
            tables: Statements that make them.
            layout: ``PRAGMA user_version``.
            precious: Check the indexes, too, and drop nothing that another layout left.
            check: Read the whole file for that; otherwise nothing is checked.

        Raises:
            sqlite3.DatabaseError: It is damaged.
        """
        self.one("PRAGMA journal_mode = WAL")
        if check:
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
                with _READABLE:
                    self._db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                self._durable = durable
            self._take_turn()
            try:
                self._execute("BEGIN IMMEDIATE")
            finally:
                fcntl.flock(self._turn, fcntl.LOCK_UN)
            with self._to_the_end():
                yield

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read one state of the database, whatever others change meanwhile."""
        with self._lock:
            self._execute("BEGIN DEFERRED")
            with self._to_the_end():
                yield

    def _take_turn(self) -> None:
        if self._turn < 0:
            raise sqlite3.ProgrammingError("Cannot operate on a closed database.")
        until = time.monotonic() + self._timeout_s
        while True:
            try:
                return fcntl.flock(self._turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    raise sqlite3.OperationalError("others write all the time") from None
            time.sleep(random.uniform(0, PAUSE_S))

    @contextlib.contextmanager
    def _to_the_end(self) -> Iterator[None]:
        try:
            yield
            with _READABLE:
                self._db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error), _READABLE:
                self._db.execute("ROLLBACK")
            raise

    def _execute(self, query: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        """Run a statement, again where SQLite says without waiting that the database is locked.

        It does while another connection mends the log after a crash, or is the last to close.
        """
        until = time.monotonic() + self._timeout_s
        while True:
            try:
                with _READABLE:
                    return self._db.execute(query, values)
            except sqlite3.OperationalError as error:
                code = getattr(error, "sqlite_errorcode", 0) & 0xFF
                if code != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
            time.sleep(random.uniform(0, PAUSE_S))

    def one(self, query: str, values: Sequence[object] = ()) -> tuple[Any, ...] | None:
        """Return the first row."""
        with self._lock, _READABLE:
            row: tuple[Any, ...] | None = self._execute(query, values).fetchone()
        return row

    def all(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return all rows."""
        with self._lock, _READABLE:
            return self._execute(query, values).fetchall()

    def run(self, query: str, values: Sequence[object] = ()) -> int:
        """Run a statement, by itself or in a transaction; return how many rows it changed."""
        with self._lock, self._change(), _READABLE:
            return self._db.execute(query, values).rowcount

    def run_all(self, query: str, values: Iterable[Sequence[object]]) -> None:
        """Run a statement for each row of values, likewise."""
        with self._lock, self._change(), _READABLE:
            self._db.executemany(query, values)

    def _change(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self._db.in_transaction else self.transaction()
