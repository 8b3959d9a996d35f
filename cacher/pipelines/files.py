"""The files of a `Cache`: one database in a folder, opened when it is needed.

The database is ``samples-<n>.sqlite3`` with the highest number.  Where it is damaged, what is whole
of it is written into the next one; whoever has the old one open finds that out before its next call
reads or writes.  Nothing is open across ``fork()``: SQLite's locks belong to a process.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import TypeVar

from cacher.errors import StoreError
from cacher.pipelines.opened import Opened, is_damage, look, path_of
from cacher.pipelines.salvage import LOG, rebuild
from cacher.statefile import reason, sync
from cacher.stores.database import Database

NAME = re.compile(r"samples-([1-9][0-9]{0,8})\.sqlite3")
TRIES = 4

log = logging.getLogger(__name__)
T = TypeVar("T")


class Files:
    """A folder with a database, shared by threads."""

    def __init__(self, folder: str, timeout_s: float, *, durable: bool, readonly: bool) -> None:
        self.folder = folder
        self._timeout_s, self._durable, self._readonly = timeout_s, durable, readonly
        self._gate = threading.Condition(threading.RLock())
        self._opened: Opened | None = None
        self._old: list[Opened] = []
        self._users = 0
        self._holder: tuple[int, Database] | None = None  # a thread inside transaction()
        self._lost_by_fork = False
        _ALL.add(self)

    # ---- calls

    def read(self, body: Callable[[Database, bool], T], nothing: T) -> T:
        """Call a function that reads; `nothing` is the answer where there is no database.

        Its second argument is true where damage cannot be mended: it passes over it.
        """
        with self._trouble("read"):
            held = self._held()
            if held is not None:
                return body(held, True)
            for last in (False, True):
                with self._using() as opened:
                    if opened.reader is None:
                        return nothing
                    try:
                        return body(opened.reader, last or opened.writer is None)
                    except sqlite3.DatabaseError as error:
                        if last or not is_damage(error):
                            raise
                try:
                    self._repair(opened)
                except (OSError, sqlite3.Error) as error:
                    log.error(
                        "the cache %s is damaged and cannot be mended: %s", self.folder, error
                    )
        raise AssertionError("the last look returns or raises")

    def write(self, body: Callable[[Database], T]) -> T:
        """Call a function in a transaction; what it did is there when this returns."""
        held = self._held()
        if held is not None:
            with self._trouble("written"):
                return body(held)
        with self._trouble("written"):
            for last in (False, True):
                opened = None
                try:
                    with contextlib.ExitStack() as stack:
                        opened, db = self._begin(stack)
                        return body(db)
                except sqlite3.DatabaseError as error:
                    if last or opened is None or not is_damage(error):
                        raise
                self._repair(opened)
        raise AssertionError("the last try returns or raises")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Hold the database: this thread's calls are one transaction."""
        if self._held() is not None:
            yield
            return
        with contextlib.ExitStack() as stack:
            self._holder = threading.get_ident(), self._begin(stack)[1]
            try:
                yield
            finally:
                self._holder = None

    def _held(self) -> Database | None:
        holder = self._holder
        return holder[1] if holder is not None and holder[0] == threading.get_ident() else None

    def _begin(self, stack: contextlib.ExitStack) -> tuple[Opened, Database]:
        """Begin a transaction on the current database; the stack ends it."""
        with self._trouble("written"):
            for _ in range(TRIES):
                opened = stack.enter_context(self._using())
                if opened.writer is None:
                    raise StoreError(
                        f"the cache {self.folder!r} cannot be written: it is only read"
                    )
                try:
                    stack.enter_context(opened.writer.transaction(durable=self._durable))
                    if opened.is_current():
                        return opened, opened.writer
                    stack.close()
                except sqlite3.DatabaseError as error:
                    stack.close()
                    if not is_damage(error):
                        raise
                    self._repair(opened)
        raise StoreError(f"the cache {self.folder!r} is replaced faster than it can be written")

    def close(self) -> None:
        """Close what is open once nobody uses it."""
        if self._held() is not None:
            raise StoreError(f"the cache {self.folder!r} cannot be closed inside its transact()")
        with self._gate:
            while self._users:
                self._gate.wait()
            self._drop()

    # ---- opening

    @contextlib.contextmanager
    def _using(self) -> Iterator[Opened]:
        """Give the current database; it stays open meanwhile."""
        with self._gate:
            if self._lost_by_fork:
                raise StoreError(f"the cache {self.folder!r} was forked inside its transact()")
            if self._opened is None or not self._opened.is_current():
                self._drop()
                self._opened = self._open()
            opened = self._opened
            self._users += 1
        try:
            yield opened
        finally:
            with self._gate:
                self._users -= 1
                if not self._users:
                    while self._old:
                        self._old.pop().close()
                    self._gate.notify_all()

    def _drop(self) -> None:
        """Close what is open, now or when its last user has gone."""
        opened, self._opened = self._opened, None
        if opened is not None and self._users:
            self._old.append(opened)
        elif opened is not None:
            opened.close()

    def _open(self) -> Opened:
        if not self._readonly:
            os.makedirs(self.folder, 0o700, exist_ok=True)
        for _ in range(TRIES):
            opened = Opened(self.folder, _latest(self.folder))
            with contextlib.ExitStack() as undo:
                undo.callback(opened.close)
                if self._readonly or not os.access(self.folder, os.W_OK):
                    opened.open_for_reading()
                    undo.pop_all()
                    return opened
                recovered, lost = 0, False
                try:
                    opened.open(self._timeout_s)
                    recovered, lost = look(opened)
                except sqlite3.DatabaseError as error:
                    if not is_damage(error):
                        raise
                    lost = True
                if not lost:
                    undo.pop_all()
                    return opened
                self._replace(opened, recovered)
        raise StoreError(f"the cache {self.folder!r} is damaged again and again")

    # ---- repair

    def _repair(self, opened: Opened) -> None:
        """Let the next call find a database that is whole."""
        with self._gate:
            if opened.writer is not None and opened.is_current():
                self._replace(opened, 0)

    def _replace(self, opened: Opened, recovered: int) -> None:
        with contextlib.ExitStack() as held:
            if opened.writer is not None:
                with contextlib.suppress(sqlite3.DatabaseError):
                    held.enter_context(opened.writer.transaction())
            if os.path.exists(opened.following):
                return  # another process was quicker
            temporary = os.path.join(self.folder, f".cacher-{os.urandom(8).hex()}.tmp")
            try:
                n = rebuild(opened.path, temporary, recovered)
                sync(temporary)
                os.chmod(temporary, 0o600)
                with contextlib.suppress(FileExistsError):
                    os.link(temporary, opened.following)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary)
            sync(self.folder)
        log.warning(
            "the cache %s was damaged: its %d samples that are whole are in %s now; the other file "
            "is left as it is until compact()", opened.path, n, os.path.basename(opened.following),
        )  # fmt: skip

    def size(self) -> int:
        """Return how many bytes the database and its log take on disk."""
        path, size = path_of(self.folder, _latest(self.folder)), 0
        for name in (path, path + LOG):
            with contextlib.suppress(FileNotFoundError):
                size += os.stat(name).st_size
        return size

    def compact(self, check: Callable[[Database], list[str]]) -> None:
        """Rewrite the database, mended where it is damaged, and remove those that it replaced."""
        if self.write(check):  # it is the current one, and can be written
            with self._using() as opened:
                pass
            self._repair(opened)
        with self._trouble("compacted"), self._using() as opened:
            if opened.writer is not None:
                opened.writer.one("VACUUM")
                opened.writer.one("PRAGMA wal_checkpoint(TRUNCATE)")
            self._remove_old()

    def _remove_old(self) -> None:
        latest = _latest(self.folder)
        for number, name in _numbers(self.folder):
            if number < latest:
                for path in (name, name + LOG, name + "-shm", name + "-turn"):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(os.path.join(self.folder, path))

    @contextlib.contextmanager
    def _trouble(self, verb: str) -> Iterator[None]:
        """Turn what the system says into a StoreError."""
        try:
            yield
        except StoreError:
            raise
        except (OSError, sqlite3.Error) as error:
            raise StoreError(
                f"the cache {self.folder!r} cannot be {verb}: {reason(error)}"
            ) from error

    # ---- fork

    def before_fork(self) -> None:
        """Close what is open; nobody opens it until `after_fork`."""
        self._gate.acquire()
        if self._held() is None:
            while self._users:
                self._gate.wait()
            self._drop()

    def after_fork(self, *, child: bool) -> None:
        """Let it be opened again, by each process for itself."""
        if child and self._opened is not None:
            _LOST.append(self._opened)  # closing it would disturb the parent
            self._lost_by_fork, self._holder = True, None
        gate = self._gate
        if child:
            self._gate = threading.Condition(threading.RLock())
        gate.release()


_ALL: weakref.WeakSet[Files] = weakref.WeakSet()
_FORKING: list[Files] = []
_LOST: list[Opened] = []


def _before_fork() -> None:
    for files in list(_ALL):
        files.before_fork()
        _FORKING.append(files)


def _after_fork(*, child: bool) -> None:
    while _FORKING:
        _FORKING.pop().after_fork(child=child)


os.register_at_fork(
    before=_before_fork,
    after_in_parent=lambda: _after_fork(child=False),
    after_in_child=lambda: _after_fork(child=True),
)


def _numbers(folder: str) -> list[tuple[int, str]]:
    """Return the databases of a folder."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return [(int(found[1]), name) for name in names if (found := NAME.fullmatch(name))]


def _latest(folder: str) -> int:
    return max((number for number, _ in _numbers(folder)), default=1)
