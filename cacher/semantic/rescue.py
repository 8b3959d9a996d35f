"""Saving what is whole of a damaged database of entries.

A damaged database is refused as a whole: nobody knows what else is wrong.  What can still be read
of it goes into a file for `SemanticCache.load`; vectors that are lost are made anew from texts.
"""

from __future__ import annotations

import os
import sqlite3
from typing import Any, NamedTuple
from urllib.parse import quote

from cacher.errors import CacherError, StoreError
from cacher.semantic.persist import Line, write
from cacher.semantic.sqlite import APPLICATION, COLUMNS, checked
from cacher.semantic.store import Record
from cacher.stores.base import check_tenant


class Rescued(NamedTuple):
    """What a rescue did.

    Attributes:
        entries: Entries that were saved.
        without_vector: Those among them whose vector was damaged.
        damaged: Entries that could be read and were not whole; how many could not be read is not
            known.
    """

    entries: int
    without_vector: int
    damaged: int


def rescue(path: str | os.PathLike[str], target: str | os.PathLike[str]) -> Rescued:
    """Write the entries of a database that are whole to a file; the database is only read.

    Args:
        path: The database: of a store ``sqlite:<path>``.
        target: JSON lines, as of `SemanticCache.dump`.

    Raises:
        StoreError: The database cannot be read at all, or the file not be written.

    Example:
        >>> import os, tempfile
        >>> from cacher.semantic.rescue import rescue
        >>> from cacher.semantic.sqlite import SqliteEntryStore
        >>> folder = tempfile.mkdtemp()
        >>> SqliteEntryStore(os.path.join(folder, "entries.sqlite3")).close()
        >>> rescue(os.path.join(folder, "entries.sqlite3"), os.path.join(folder, "saved.jsonl"))
        Rescued(entries=0, without_vector=0, damaged=0)
    """
    name = os.path.abspath(os.fsdecode(path))
    try:
        db = sqlite3.connect(f"file:{quote(name)}?mode=ro", uri=True)
        db.text_factory = bytes  # damaged texts may be no UTF-8
        try:
            lines, damaged = _whole(db, name)
        finally:
            db.close()
    except sqlite3.Error as error:
        raise StoreError(f"{name!r} cannot be read at all: {error}") from error
    embedders = [line.record.entry.embedder for line in lines if line.record.vector]
    embedder = max(set(embedders), key=embedders.count, default="")
    vectors = [line.record.vector for line in lines if line.record.entry.embedder == embedder]
    dimension = max((len(vector) // 4 for vector in vectors), default=0)
    write(os.fsdecode(target), embedder, dimension, lines)
    lost = sum(not line.record.vector for line in lines)
    return Rescued(len(lines), lost, damaged)


def _whole(db: sqlite3.Connection, name: str) -> tuple[list[Line], int]:
    if db.execute("PRAGMA application_id").fetchone() != (APPLICATION,):
        raise StoreError(f"{name!r} is no database of a semantic cache")
    tenants = dict(_rows(db, "id, name", "tenants"))
    uses = _rows(db, "tenant, entry_id, hits", "uses", "tenant || entry_id")
    hits = {(tenant, entry_id): n for tenant, entry_id, n in uses if isinstance(n, int)}
    lines, damaged = [], 0
    for number, *row in sorted(_rows(db, f"tenant, {COLUMNS}", "entries"), key=_order):
        try:
            tenant = check_tenant(tenants[number].decode())
            texts = [value.decode() if i != 3 else value for i, value in enumerate(row[:6])]
            record, text_whole, vector_whole = checked((*texts, *row[6:]))
        except (CacherError, KeyError, AttributeError, TypeError, ValueError):
            damaged += 1
            continue
        if not text_whole:
            damaged += 1
            continue
        vector = record.vector if vector_whole else b""
        found = hits.get((number, row[0]), 0)
        lines.append(Line(tenant, Record(record.entry, vector), found))
    return lines, damaged


def _order(row: tuple[Any, ...]) -> float:
    """The entry's time, where it has one."""
    return row[4] if isinstance(row[4], float) else 0.0


def _rows(
    db: sqlite3.Connection, columns: str, table: str, key: str = "rowid"
) -> list[tuple[Any, ...]]:
    """Return the rows that can be read: from the first on, and from the last back to the damage."""
    found: dict[Any, tuple[Any, ...]] = {}
    for order in ("ASC", "DESC"):
        try:
            for at, *row in db.execute(f"SELECT {key}, {columns} FROM {table} ORDER BY 1 {order}"):
                found.setdefault(at, tuple(row))
            break
        except sqlite3.DatabaseError:
            continue
    return list(found.values())
