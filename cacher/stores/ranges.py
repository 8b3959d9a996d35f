"""Ranges of places of which one process holds some, and no other process meanwhile.

What is held is locked in a file, a byte for each place.  Such a lock belongs to the
description of the open file, so that two objects of one process exclude each other like two
processes; the system lets go of it when the process ends, however it ends.  Nobody waits here: a
range is had or it is not.  The file itself holds a mark, another one after each `mark`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import threading

LIMIT = 2**61  # row and place are below
MARK_BYTES = 8

_FLOCK = struct.Struct("hhqqi0q")
_process = os.getpid()


def _forked() -> None:
    global _process
    _process = os.getpid()


os.register_at_fork(after_in_child=_forked)


class Ranges:
    """What is held by means of a file; threads may share one.

    A row is a number, of whatever the places belong to.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/held"
        >>> one, other = Ranges(path), Ranges(path)
        >>> one.take(7, 10, 15), other.take(7, 14, 20), other.take(7, 15, 20)
        (True, False, True)
        >>> one.leave(7, 10, 15)
        >>> other.take(7, 14, 15)
        True
        >>> one.close(), other.close()
        (None, None)
    """

    def __init__(self, path: str) -> None:
        """Remember where the file is: it is opened, or made, when it is needed."""
        self._path = path
        self._file = -1
        self._process = _process
        self._held: dict[int, list[tuple[int, int]]] = {}
        self._lock = threading.Lock()

    def take(self, row: int, start: int, stop: int) -> bool:
        """Whether nobody holds any of these places; they are held then, until `leave`.

        Raises:
            OSError: The file cannot be opened or locked.
        """
        with self._lock:
            self._open()
            held = self._held.get(row)
            if held is not None and any(low < stop and start < high for low, high in held):
                return False  # the system would let the same file have it again
            try:
                self._set(fcntl.F_WRLCK, row + start, stop - start)
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.EACCES):
                    return False
                raise
            if held is None:
                self._held[row] = [(start, stop)]
            else:
                held.append((start, stop))
            return True

    def leave(self, row: int, start: int, stop: int) -> None:
        """Let go of what `take` gave; nothing happens where that was before a fork or a `close`."""
        with self._lock:
            held = self._held.get(row)
            if held is None or (start, stop) not in held or self._process != _process:
                return
            if len(held) == 1:
                del self._held[row]
            else:
                held.remove((start, stop))
            self._set(fcntl.F_UNLCK, row + start, stop - start)

    def mark(self) -> None:
        """Leave another mark.

        Raises:
            OSError: The file cannot be opened or written.
        """
        with self._lock:
            self._open()
            os.pwrite(self._file, os.urandom(MARK_BYTES), 0)

    def marked(self) -> bytes:
        """Return the last mark; nothing where there is none yet.

        Raises:
            OSError: The file cannot be opened.
        """
        with self._lock:
            self._open()
            return os.pread(self._file, MARK_BYTES, 0)

    def close(self) -> None:
        """Let go of everything; the next call opens the file again."""
        with self._lock:
            self._close()

    def _open(self) -> None:
        if self._process != _process:  # the parent goes on holding what it has
            self._close()
        if self._file < 0:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._process = _process

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1
        self._held.clear()

    def _set(self, kind: int, start: int, length: int) -> None:
        """Ask the system: its struct flock, whose last field must be 0 for such locks."""
        fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, start, length, 0))
