"""States in a folder: one JSON file each, for one or several processes of one machine.

``<state_id>.json`` is a state without a tenant, ``tenants/<tenant>/<state_id>.json`` one of a
tenant.  A file is written under a temporary name, put on disk, renamed while the index is
held, and the folder is put on disk before `FileStore.save` returns.  A process that dies anywhere
in between leaves the old file or the new one, and perhaps a temporary one that the clean-up takes.
Opening reads names and the index, no file.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from typing import NamedTuple

from cacher.errors import CacherError, FileError, StateExistsError, StateFileError, StoreError
from cacher.identity import STATE_ID
from cacher.statefile import new_file, read, reason, sync
from cacher.stores.base import (
    TENANT,
    ChangedMeanwhileError,
    Key,
    Lease,
    StateStore,
    Stored,
    StoredFile,
    StoreStats,
    Summary,
    unique,
)
from cacher.stores.index import File, Index
from cacher.typed import parse

log = logging.getLogger(__name__)

SUFFIX = ".json"
INDEX_NAME = ".cacher-index.sqlite3"
TENANTS = "tenants"
TEMPORARY_AGE_S = 60.0  # no save takes that long: what is older was left by a process that died
TRIES = 5
BATCH = 500  # files that are read between two transactions


class Found(NamedTuple):
    """A state's file as it lies there."""

    key: Key
    path: str
    file: File
    used: float


class FileStore(StateStore):
    """States in a folder; `cacher.stores.base` says what that promises.

    Example:
        >>> import cacher, tempfile
        >>> from cacher.document import encode
        >>> from cacher.stores.base import Key, Summary
        >>> from cacher.stores.files import FileStore
        >>> state = cacher.load("tales").state("Hello", state_id="a")
        >>> store = FileStore(tempfile.mkdtemp())
        >>> version = store.save(Key("", "a"), encode(state), Summary.of(state), expected=None)
        >>> store.load(Key("", "a")).version == version
        True
        >>> store.close()
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Open a folder, making it where it is missing.

        Raises:
            StoreError: It cannot be made, read or written.
        """
        self._folder = os.path.abspath(os.fsdecode(folder))
        with self._trouble("opened", self._folder):
            self._make_folder(self._folder)
            self._index = Index(os.path.join(self._folder, INDEX_NAME))
            self._reconcile()

    def close(self) -> None:
        """Close the index."""
        self._index.close()

    # ---- documents

    def load(self, key: Key) -> Stored | None:
        """Return the document and its version; None when there is none."""
        path = self._path(key)
        with self._trouble("read", path):
            for _ in range(TRIES):
                found = _stat(path)
                if found is None:
                    self._lost(key)
                    return None
                version = self._version(key, found)
                data = read(path)
                after = _stat(path)
                if after is not None and after[0] == found[0]:  # not replaced meanwhile
                    return Stored(data, version)
        raise StoreError(f"state file {path!r} is replaced faster than it can be read")

    def version(self, key: Key) -> str | None:
        """Return the version of the document, without reading it."""
        path = self._path(key)
        with self._trouble("read", path):
            found = _stat(path)
            return None if found is None else self._version(key, found)

    def save(self, key: Key, data: bytes, summary: Summary, expected: str | None) -> str:
        """Write a document and return its version; see `StateStore.save`."""
        path = self._path(key)
        folder = os.path.dirname(path)
        version = unique()
        with self._trouble("written", path):
            if key.tenant:
                self._make_folder(folder)
            with new_file(folder, [data]) as temporary:
                file = _file(os.stat(temporary))
                with self._index.transaction():
                    self._check(key, path, expected)
                    os.replace(temporary, path)
                    self._index.put(key, version, file, summary)
            try:
                sync(folder)
            except OSError:
                if expected is None:
                    self._unmake(key, version, path)
                raise
        return version

    def _unmake(self, key: Key, version: str, path: str) -> None:
        """Take back a state whose maker is told that it could not be stored."""
        with self._index.transaction():
            row = self._index.get(key)
            if row is not None and row.version == version:
                os.unlink(path)
                self._index.bury(key)

    def _check(self, key: Key, path: str, expected: str | None) -> None:
        there = _stat(path)
        if expected is None:
            if there is not None:
                raise StateExistsError(f"there is a state {key.state_id} already")
            return
        row = self._index.get(key)
        if there is None or row is None or row.version != expected or row.file != there[0]:
            raise ChangedMeanwhileError(key)

    def delete(self, key: Key) -> bool:
        """Remove a document; false when there was none."""
        path = self._path(key)
        with self._trouble("removed", path):
            with self._index.transaction():  # a full disk refuses this while the file is there
                self._index.bury(key)
            try:
                with self._index.transaction():
                    there = _stat(path) is not None
                    if there:
                        os.unlink(path)
                    if self._index.get(key) is not None:  # somebody met the file in between
                        self._index.bury(key)
            except OSError:
                self.version(key)  # the index knows the file again
                raise
            if there:
                sync(os.path.dirname(path))
        return there

    def touch(self, key: Key) -> None:
        """Note that the state is used: its age begins anew."""
        path = self._path(key)
        with self._trouble("touched", path), contextlib.suppress(FileNotFoundError):
            os.utime(path)

    # ---- lists

    def newest(self, tenant: str, limit: int, offset: int) -> tuple[list[Summary], int]:
        """Return summaries of a tenant's states, newest first, and how many states there are."""
        with self._trouble("listed", self._folder):
            self._read_strange(tenant)
            return self._index.newest(tenant, limit, offset)

    def family(self, tenant: str) -> list[Summary]:
        """Return summaries of a tenant's states and of deleted ones, oldest first."""
        with self._trouble("listed", self._folder):
            self._read_strange(tenant)
            return self._index.family(tenant)

    def stats(self) -> StoreStats:
        """Return how much is stored."""
        with self._trouble("listed", self._folder):
            files = sorted(self._scan(), key=lambda found: found.used)
        if not files:
            return StoreStats(0, 0, None, None)
        now = time.time()
        ends = [
            StoredFile(os.path.basename(found.path), max(0.0, now - found.used))
            for found in (files[0], files[-1])
        ]
        return StoreStats(len(files), sum(found.file.size for found in files), *ends)

    def clean_up(self, max_age_s: float | None, max_states: int | None) -> list[Key]:
        """Remove states that were not used for long, and the oldest beyond a number."""
        with self._trouble("cleaned up", self._folder):
            self._remove_temporary_files()
            files = sorted(self._scan(), key=lambda found: found.used)
            oldest = -1.0 if max_age_s is None else time.time() - max_age_s
            surplus = 0 if max_states is None else max(0, len(files) - max_states)
            gone = [
                found
                for i, found in enumerate(files)
                if (i < surplus or found.used < oldest) and self._remove_unused(found)
            ]
            for folder in {os.path.dirname(found.path) for found in gone}:
                sync(folder)
            self._index.forget()
        return [found.key for found in gone]

    def _remove_unused(self, found: Found) -> bool:
        """Remove a file unless it is in use or was used after it was found."""
        with self._index.transaction():
            there = _stat(found.path)
            if there != (found.file, found.used) or self._index.is_leased(found.key):
                return False
            os.unlink(found.path)
            self._index.bury(found.key)
        return True

    def _remove_temporary_files(self) -> None:
        for folder in self._folders().values():
            with os.scandir(folder) as entries:
                for entry in entries:
                    if not (entry.name.startswith(".cacher-") and entry.name.endswith(".tmp")):
                        continue
                    with contextlib.suppress(FileNotFoundError):
                        if entry.stat().st_mtime < time.time() - TEMPORARY_AGE_S:
                            os.unlink(entry.path)

    # ---- leases

    def acquire(self, key: Key, seconds: float) -> Lease | None:
        """Return a lease for that long, or None while another holds one."""
        with self._trouble("leased", self._path(key)):
            return self._index.acquire(key, seconds)

    def renew(self, lease: Lease, seconds: float) -> bool:
        """Let a lease run for that long from now; false when it had run out and was lost."""
        with self._trouble("leased", self._path(lease.key)):
            return self._index.renew(lease, seconds)

    def release(self, lease: Lease) -> None:
        """Give a lease back; no error when it had run out."""
        with self._trouble("leased", self._path(lease.key)):
            self._index.release(lease)

    def call_off(self, key: Key) -> bool:
        """Ask the holder of a lease to stop what it does; false when nobody holds one."""
        with self._trouble("leased", self._path(key)):
            return self._index.call_off(key)

    def is_called_off(self, lease: Lease) -> bool:
        """Whether somebody asked the holder of this lease to stop."""
        with self._trouble("leased", self._path(lease.key)):
            return self._index.is_called_off(lease)

    # ---- files and index

    def _path(self, key: Key) -> str:
        folder = os.path.join(self._folder, TENANTS, key.tenant) if key.tenant else self._folder
        return os.path.join(folder, key.state_id + SUFFIX)

    def _make_folder(self, folder: str) -> None:
        missing = []
        while not os.path.isdir(folder):
            missing.append(folder)
            folder = os.path.dirname(folder)
        for each in reversed(missing):
            with contextlib.suppress(FileExistsError):
                os.mkdir(each, 0o700)
            try:
                sync(os.path.dirname(each))
            except OSError:
                os.rmdir(each)  # or the next save would take it for one that is on disk
                raise

    def _folders(self) -> dict[str, str]:
        """Return the folder of every tenant."""
        folders = {"": self._folder}
        tenants = os.path.join(self._folder, TENANTS)
        if os.path.isdir(tenants):
            with os.scandir(tenants) as entries:
                folders |= {e.name: e.path for e in entries if TENANT.fullmatch(e.name)}
        return folders

    def _scan(self) -> Iterator[Found]:
        """Yield every state's file."""
        for tenant, folder in self._folders().items():
            with os.scandir(folder) as entries:
                for entry in entries:
                    state_id = entry.name.removesuffix(SUFFIX)
                    if state_id == entry.name or not STATE_ID.fullmatch(state_id):
                        continue
                    with contextlib.suppress(FileNotFoundError):
                        if entry.is_file():
                            there = entry.stat()
                            key = Key(tenant, state_id)
                            yield Found(key, entry.path, _file(there), there.st_mtime)

    def _reconcile(self) -> None:
        """Let the index know what lies in the folder."""
        known = self._index.all()
        with self._index.transaction():
            for found in self._scan():
                row = known.pop(found.key, None)
                if row is None or row.file != found.file:
                    self._index.put_strange(found.key, found.file, found.used)
            for key in known:
                if _stat(self._path(key)) is None:
                    self._index.bury(key)

    def _version(self, key: Key, found: tuple[File, float]) -> str:
        """Return the version of a file; one the index does not know gets a version."""
        row = self._index.get(key)
        if row is not None and row.file == found[0]:
            return row.version
        with self._index.transaction():
            row = self._index.get(key)
            there = _stat(self._path(key))
            if row is not None and there is not None and row.file == there[0]:
                return row.version
            file, used = there or found
            return self._index.put_strange(key, file, used)

    def _lost(self, key: Key) -> None:
        """Somebody removed the file by hand."""
        if self._index.get(key) is not None:
            with self._index.transaction():
                if _stat(self._path(key)) is None:
                    self._index.bury(key)

    def _read_strange(self, tenant: str) -> None:
        """Read the files of a tenant that were put there by somebody else."""
        strange = self._index.strange(tenant)
        for start in range(0, len(strange), BATCH):
            read = [(*each, self._read_summary(each[0])) for each in strange[start : start + BATCH]]
            self._index.describe(read)

    def _read_summary(self, key: Key) -> Summary | None:
        path = self._path(key)
        try:
            there = _stat(path)
            if there is None:
                self._lost(key)
                return None
            return Summary.of_document(key.state_id, parse(read(path)), there[1])
        except (StateFileError, FileError) as error:
            log.error("state file %s is damaged and left alone: %s", path, error)
            return None

    @contextlib.contextmanager
    def _trouble(self, verb: str, path: str) -> Iterator[None]:
        """Turn what the system says into a StoreError."""
        try:
            yield
        except CacherError as error:
            if isinstance(error, OSError):  # a FileError of the state's file
                raise StoreError(str(error)) from error
            raise
        except (OSError, ValueError, sqlite3.Error) as error:
            raise StoreError(f"{path!r} cannot be {verb}: {reason(error)}") from error


def _file(there: os.stat_result) -> File:
    return File(there.st_ino, there.st_size)


def _stat(path: str) -> tuple[File, float] | None:
    """Return which file lies there, and when it was last used."""
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return None
    return _file(there), there.st_mtime
