"""What a store of the semantic cache promises: entries that outlast a process, or are shared.

Each process holds a tenant's entries in memory, a mirror, and brings it up to date from the store's
log of changes.  Size, eviction and age are the mirror's policy; a store keeps and logs, and knows
no model.  All calls block, may come from any thread, and raise `StoreError` when the store cannot
be read or written.  The promises, each a test that runs against every store:

1. What `write` returned from is on disk, as far as the store's own durability goes.  A write is
   there as a whole or not at all, for every reader and after every crash.  One that failed is not
   there; it may be where the connection broke before the server's answer came, or where the disk
   failed at the very end and the process died before its next write.
2. Nobody writes between the changes that `decide` is given last and the write it decides: a bound
   that every writer keeps is kept by all together.
3. A tenant has one entry of a text.  A put removes the entry of the same text, or the same id.
4. A mirror that applies all `Changes` it is given, in order, equals the store as of the revision of
   the last one.  A store that was emptied or made anew meanwhile is noticed.
5. Texts, times and vectors come back with the bits they were given.
6. A claim has one holder until it is released or runs out, and only its holder releases it.  It
   spares work; nothing else relies on it.
7. Tenants never meet, whatever their names.
8. A damaged or foreign store is refused by name, and no damaged entry is given out.
9. Every call ends in bounded time, whoever died while holding what.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from cacher.checks import shown, string
from cacher.errors import ParameterError
from cacher.semantic.entry import Entry

LOG = 10_000  # revisions that the log of removals reaches back
MAX_BATCH = 100_000  # puts of one write


class Record(NamedTuple):
    """An entry and its vector, little-endian f32."""

    entry: Entry
    vector: bytes


class Changes(NamedTuple):
    """What happened in a tenant; a mirror applies `removed` before `put`.

    Attributes:
        revision: The mirror has this one afterwards.
        whole: `put` is all there is, and the mirror starts anew: its first read, or the log no
            longer reaches back to its revision.
        put: The new entries, oldest first.
        removed: Ids of entries; the mirror may never have heard of them.
        used: Id -> seconds since 1970 of the last use, of live entries whose use was noted.
    """

    revision: int
    whole: bool
    put: Sequence[Record]
    removed: Sequence[str]
    used: Mapping[str, float]


class Write(NamedTuple):
    """What is to be stored and what removed; an id that is not there is passed over."""

    put: Sequence[Record] = ()
    remove: Sequence[str] = ()


Decide = Callable[[Changes], Write]


class EntryStore(ABC):
    """A store; see the module for its promises."""

    @abstractmethod
    def changes(self, tenant: str, after: int) -> Changes:
        """Return what happened after a revision; cheap when nothing did.

        Args:
            tenant: Any name; "" is none.
            after: The revision of the mirror; 0: everything.
        """

    @abstractmethod
    def write(self, tenant: str, decide: Decide, after: int) -> Changes:
        """Decide on a write while nobody else writes, and store it.

        Args:
            tenant: Any name; "" is none.
            decide: Brings the mirror up to date and returns what to do.  Where another process was
                quicker it is called once more, with what changed after its last call; it must not
                call the store.  What it raises ends the write and is passed on.
            after: The revision of the mirror.

        Returns:
            The changes of the write itself, for the mirror to apply: it followed the last ones that
            `decide` was given.

        Raises:
            ParameterError: More than 100,000 puts, or a text that is not valid Unicode.
            StoreError: It could not be stored; see promise 1.
        """

    @abstractmethod
    def tenants(self) -> list[str]:
        """Return the names of those who have entries, in no order."""

    @abstractmethod
    def use(self, tenant: str, used: Mapping[str, tuple[int, float]]) -> None:
        """Note uses of entries: id -> number of hits, and seconds since 1970 of the last one.

        What is no longer there is passed over, and a crash may lose the last of it.
        """

    @abstractmethod
    def hits(self, tenant: str) -> dict[str, int]:
        """Return the hits of the entries that have any, by id."""

    @abstractmethod
    def claim(self, tenant: str, query: str, seconds: float) -> str | None:
        """Return the token of a claim to answer a text, or None while another has it.

        Args:
            tenant: Any name; "" is none.
            query: The exact text.
            seconds: After so long the claim runs out, should its holder have died.
        """

    @abstractmethod
    def release(self, tenant: str, query: str, token: str) -> None:
        """Give a claim back; no error when it had run out."""

    @abstractmethod
    def close(self) -> None:
        """Close what is open; the store is not used again."""


def open_store(where: str) -> EntryStore | None:
    """Open the store of entries that a setting names.

    Args:
        where: ``"memory"``; ``"sqlite:<path>"``; or the address of a Redis server: ``redis://``,
            ``rediss://``, ``unix://``.

    Returns:
        The store; None for memory, which needs none.

    Raises:
        ParameterError: It names none.
        MissingExtraError: The client of Redis is not installed.
        StoreError: It cannot be opened.

    Example:
        >>> import os, tempfile
        >>> from cacher.semantic.store import open_store
        >>> store = open_store("sqlite:" + os.path.join(tempfile.mkdtemp(), "entries.sqlite3"))
        >>> store.changes("", after=0).put
        []
        >>> store.close()
    """
    if string("the store of entries", where) == "memory":
        return None
    kind, _, path = where.partition(":")
    if kind == "sqlite" and path and "\0" not in path:
        from cacher.semantic.sqlite import SqliteEntryStore

        return SqliteEntryStore(path)
    if where.startswith(("redis://", "rediss://", "unix://")):
        from cacher.semantic.redis import RedisEntryStore

        return RedisEntryStore(where)
    raise ParameterError(
        f"the store of entries is {shown(where)}, allowed: memory, sqlite:<path>, or the address "
        "of a Redis server"
    )


# ---- what the stores share


def reaches(after: int, born: int, revision: int) -> bool:
    """Whether the log tells everything between a mirror's revision and the store's."""
    return max(born, revision - LOG) <= after <= revision


def text_key(query: str) -> bytes:
    """Return what stands for a text where 32,768 characters would be too long.

    Raises:
        ParameterError: The text is not valid Unicode.
    """
    return hashlib.blake2b(utf8(query), digest_size=16).digest()


def utf8(text: str) -> bytes:
    """Return the bytes of a text.

    Raises:
        ParameterError: The text is not valid Unicode.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ParameterError(f"text {shown(text)} is not valid Unicode: {error.reason}") from None


def puts_of(write: Write) -> list[Record]:
    """Return a write's puts in order, of those of one text, or one id, the last.

    Raises:
        ParameterError: They are too many.
    """
    if len(write.put) > MAX_BATCH:
        raise ParameterError(f"a write has {len(write.put)} puts, allowed: {MAX_BATCH}")
    texts, ids, last = set[str](), set[str](), list[Record]()
    for record in reversed(write.put):
        entry = record.entry
        if entry.query not in texts and entry.entry_id not in ids:
            last.append(record)
            texts.add(entry.query)
            ids.add(entry.entry_id)
    return last[::-1]
