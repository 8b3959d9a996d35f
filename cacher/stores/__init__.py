"""Where states are kept: files with an index beside them, or Redis.  See `cacher.stores.base`."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from cacher.checks import shown, string
from cacher.errors import ParameterError

if TYPE_CHECKING:
    from cacher.stores.base import StateStore


_PASSWORD = re.compile(r"(?<=//)[^/]*@")


def without_password(where: str) -> str:
    """Return the address of a store as it may be shown.

    Example:
        >>> from cacher.stores import without_password
        >>> without_password("redis://ann:secret@localhost:6379/0")
        'redis://***@localhost:6379/0'
    """
    return _PASSWORD.sub("***@", where)


def open_store(where: str, folder: str | os.PathLike[str]) -> StateStore:
    """Open the store of states that a setting names.

    Args:
        where: ``"files"``; or the address of a Redis server: ``redis://``, ``rediss://``,
            ``unix://``.
        folder: Of the files.

    Raises:
        ParameterError: It names none.
        MissingExtraError: The client of Redis is not installed.
        StoreError: It cannot be opened.

    Example:
        >>> import tempfile
        >>> from cacher.stores import open_store
        >>> open_store("files", tempfile.mkdtemp()).stats().total_files
        0
    """
    if string("the store of states", where) == "files":
        from cacher.stores.files import FileStore

        return FileStore(folder)
    if where.startswith(("redis://", "rediss://", "unix://")):
        from cacher.stores.redis import RedisStore

        return RedisStore(where)
    raise ParameterError(
        f"the store of states is {shown(where)}, allowed: files, or the address of a Redis server"
    )
