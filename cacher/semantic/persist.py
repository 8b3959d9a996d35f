"""A cache in a file: JSON lines, the first of which says what the others are.

``{"format": "cacher-semantic", "version": 1, "embedder": "minilm", "dimension": 384}``, then one
object for each entry, oldest first: ``entry_id``, ``query``, ``response``, ``timestamp``, ``hits``,
``source``, ``tenant`` where it has one, and ``embedding``: base64 of little-endian float32.  A
damaged line costs its own entry, no more; vectors of another embedder are made anew.
"""

from __future__ import annotations

import base64
import errno
import json
import logging
import os
import re
import stat
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from cacher.checks import shown
from cacher.errors import CacherError, StateFileError, StoreError
from cacher.semantic.entry import Entry, check_query, check_text
from cacher.semantic.store import MAX_BATCH, Record
from cacher.statefile import new_file, open_at_once, reason, sync
from cacher.stores.base import check_tenant
from cacher.typed import get, parse

if TYPE_CHECKING:
    from cacher.semantic.cache import SemanticCache

FORMAT = "cacher-semantic"
VERSION = 1
MAX_LINE = 64 * 2**20  # bytes
MAX_PART = 256 * 2**20  # bytes of texts and vectors in memory at a time, and a line more
MAX_HITS = 2**53
ENTRY_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

log = logging.getLogger(__name__)


class Line(NamedTuple):
    """An entry as a file holds it."""

    tenant: str
    record: Record
    hits: int


class Persisting:
    """The part of `cacher.SemanticCache` that writes and reads files."""

    def dump(self, path: str | os.PathLike[str]) -> int:
        """Write the entries to a file; it is on disk, under its name, when this returns.

        Written are those of all tenants.

        Args:
            path: The file; what is there stays until the new one is whole.

        Returns:
            The number of entries.

        Raises:
            StoreError: It cannot be written.
        """
        cache = cast("SemanticCache", self)
        name = os.fsdecode(path)
        embedder = cache.embedder
        shelves = {tenant: cache._fresh(tenant) for tenant in cache.tenants()}
        lines = [
            Line(tenant, record, hits)
            for tenant, shelf in shelves.items()
            for record, hits in shelf.records()
        ]
        lines.sort(key=lambda line: line.record.entry.timestamp)
        write(name, embedder.name, embedder.dimension, lines)
        return len(lines)

    def load(self, path: str | os.PathLike[str]) -> int:
        """Add the entries of a file; of one text the newer stays, and of all the newest.

        They are read and stored 100,000 at a time.

        Args:
            path: What `dump` wrote.

        Returns:
            The number of entries that came into the cache.

        Raises:
            StoreError: It cannot be read, or is no such file.
        """
        cache = cast("SemanticCache", self)
        name = os.fsdecode(path)
        came: dict[str, list[str]] = {}
        for lines in _parts(_read(name)):
            tenants: dict[str, list[tuple[Record, int]]] = {}
            for line in lines:
                tenants.setdefault(line.tenant, []).append((line.record, line.hits))
            for tenant, records in tenants.items():
                shelf = cache._fresh(tenant)
                came[tenant] = shelf.known(came.get(tenant, []) + shelf.merge(records))
        return sum(map(len, came.values()))


def _parts(lines: Iterable[Line]) -> Iterator[list[Line]]:
    """Divide what a file holds into parts that fit into memory, and into one write of a store."""
    part: list[Line] = []
    size = 0
    for line in lines:
        entry, vector = line.record
        size += len(vector) + len(entry.query) + len(entry.response)
        part.append(line)
        if len(part) == MAX_BATCH or size > MAX_PART:
            yield part
            part, size = [], 0
    if part:
        yield part


def write(name: str, embedder: str, dimension: int, lines: Iterable[Line]) -> None:
    """Write a file; it is on disk, under its name, when this returns.

    Raises:
        StoreError: It cannot be written.
    """
    folder = os.path.dirname(name) or "."
    try:
        if os.path.exists(name) and not os.path.isfile(name):
            raise OSError(errno.EINVAL, "it is there and not a regular file")
        with new_file(folder, _written(embedder, dimension, lines)) as temporary:
            os.replace(temporary, name)
        sync(folder)
    except (OSError, ValueError) as error:
        raise StoreError(f"{name!r} cannot be written: {reason(error)}") from error


def _written(embedder: str, dimension: int, lines: Iterable[Line]) -> Iterator[bytes]:
    header = {"format": FORMAT, "version": VERSION, "embedder": embedder, "dimension": dimension}
    yield json.dumps(header).encode() + b"\n"
    for tenant, (entry, vector), hits in lines:
        item: dict[str, Any] = {
            "entry_id": entry.entry_id,
            "query": entry.query,
            "response": entry.response,
            "timestamp": entry.timestamp,
            "hits": hits,
            "source": entry.source,
        }
        if entry.embedder == embedder:
            item["embedding"] = base64.b64encode(vector).decode()
        if tenant:
            item["tenant"] = tenant
        yield json.dumps(item).encode() + b"\n"


def _read(name: str) -> Iterator[Line]:
    try:
        with open(name, "rb", opener=open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise StoreError(f"{name!r} is not a regular file")
            try:
                header = parse(file.readline(MAX_LINE))
                if get(header, "format", str) != FORMAT or get(header, "version", int) != VERSION:
                    raise StateFileError(
                        f"its first line says {shown(header)}, allowed: format {FORMAT!r}, "
                        f"version {VERSION}"
                    )
                embedder = get(header, "embedder", str)
            except StateFileError as error:
                raise StoreError(f"{name!r} holds no semantic cache: {error}") from None
            number = 1
            while data := file.readline(MAX_LINE):
                number += 1
                try:
                    yield _line(parse(data), embedder)
                except (CacherError, TypeError, ValueError, OverflowError) as error:
                    log.warning("%r, line %d is damaged and left out: %s", name, number, error)
    except StoreError:
        raise
    except (OSError, ValueError) as error:
        raise StoreError(f"{name!r} cannot be read: {reason(error)}") from error


def _line(item: dict[str, Any], embedder: str) -> Line:
    timestamp = item.get("timestamp")
    if isinstance(timestamp, bool) or not isinstance(timestamp, (int, float)):
        raise TypeError("timestamp must be a number")
    entry_id = get(item, "entry_id", str)
    if not ENTRY_ID.fullmatch(entry_id):
        raise StateFileError(f"entry_id is {shown(entry_id)}, allowed: letters, digits, - and _")
    entry = Entry(
        entry_id,
        check_query(get(item, "query", str)),
        check_text("response", get(item, "response", str)),
        float(timestamp),
        check_text("source", get(item, "source", str, "")),
        embedder,
    )
    vector = base64.b64decode(get(item, "embedding", str, ""), validate=True)
    hits = min(max(0, get(item, "hits", int, 0)), MAX_HITS)
    return Line(check_tenant(get(item, "tenant", str, "")), Record(entry, vector), hits)
