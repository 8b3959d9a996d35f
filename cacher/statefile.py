"""Files that hold a state's document: written whole or not at all, read with suspicion."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from cacher.document import MAX_BYTES, encode, from_document
from cacher.errors import CacherError, FileError, ModelMismatchError, StateFileError
from cacher.typed import parse

if TYPE_CHECKING:
    from cacher.model import Model
    from cacher.state import State


# ---- writing


def save(state: State, path: str | os.PathLike[str]) -> None:
    """Write a state; see `State.save`."""
    name = os.fsdecode(path)
    data = encode(state)
    try:
        if os.path.exists(name) and not os.path.isfile(name):
            raise OSError(errno.EINVAL, "it is there and not a regular file")
        folder = os.path.dirname(name) or "."
        with new_file(folder, [data]) as temporary:
            os.replace(temporary, name)
        sync(folder)
    except (OSError, ValueError) as error:  # a path with a NUL or half a character is a ValueError
        raise FileError(f"state file {name!r} cannot be written: {reason(error)}") from error


@contextlib.contextmanager
def new_file(folder: str, parts: Iterable[bytes]) -> Iterator[str]:
    """Write a file of a temporary name, on disk when the body begins; the body renames it.

    Its owner alone may read it.  Whatever fails, nothing is left of it.
    """
    temporary = os.path.join(folder, f".cacher-{os.urandom(8).hex()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            for part in parts:
                rest = memoryview(part)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        yield temporary
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def sync(path: str | os.PathLike[str]) -> None:
    """Put on disk what a file holds, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def reason(error: Exception) -> str:
    """Return what the system says, without the path it repeats."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


# ---- reading


def restore(model: Model, path: str | os.PathLike[str], *, allow_mismatch: bool = False) -> State:
    """Read a state; see `Model.restore`."""
    name = os.fsdecode(path)
    data = read(name)
    try:
        return from_document(model, parse(data), allow_mismatch=allow_mismatch)
    except ModelMismatchError:
        raise
    except (CacherError, TypeError) as error:
        raise StateFileError(f"state file {name!r}: {error}") from error


def open_at_once(name: str, flags: int) -> int:
    """Open without waiting: for a pipe, a writer might never come."""
    return os.open(name, flags | os.O_NONBLOCK)


def read(name: str) -> bytes:
    """Return what a state's file holds.

    Raises:
        FileError: It cannot be read.
        StateFileError: It is no regular file, or larger than 64 MiB.
    """
    try:
        with open(name, "rb", opener=open_at_once) as file:
            regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            data = file.read(MAX_BYTES + 1) if regular else b""
    except (OSError, ValueError) as error:
        raise FileError(f"state file {name!r} cannot be read: {reason(error)}") from error
    if not regular:
        raise StateFileError(f"state file {name!r} is not a regular file")
    if len(data) > MAX_BYTES:
        raise StateFileError(f"state file {name!r} is larger than the {MAX_BYTES} bytes allowed")
    return data
