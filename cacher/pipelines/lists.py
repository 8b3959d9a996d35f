"""What is done to a database of samples: finding, placing, removing, checking."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from zlib import crc32

from cacher.checks import integer
from cacher.errors import StoreError
from cacher.pipelines.opened import is_damage
from cacher.pipelines.rows import (
    ENTRIES,
    MASK,
    Identity,
    Name,
    ending,
    hash_of,
    identity,
    key_of,
    parts,
    reading,
    whole,
)
from cacher.pipelines.store import MAX_INDEX, ROW_BYTES
from cacher.pipelines.values import TEXT, decode, encode
from cacher.stores.database import DamagedError, Database


class Adding(NamedTuple):
    """Samples of a key that are to be stored."""

    identity: Identity
    hash: int
    start: int
    values: Sequence[tuple[int, bytes]]


def adding_of(key: str, start: int, samples: Sequence[object]) -> Adding:
    """Check and encode what is to be added."""
    known = identity(key)
    if type(start) is not int or not 0 <= start < MAX_INDEX - len(samples):
        start = integer("the index of a sample", start, 0, MAX_INDEX - len(samples))
    return Adding(known, known.hash, start, [encode(sample) for sample in samples])


def read_samples(
    db: Database,
    keys: Sequence[Identity],
    ranges: Sequence[tuple[int, int, int]],
    *,
    careful: bool,
) -> list[dict[int, object]]:
    """Return samples by index; damaged ones are an error, or passed over."""
    found: list[dict[int, object]] = [{} for _ in keys]
    for at, n, name, place, kind, total, value in _rows(db, ranges, careful=careful):
        at += n
        known, _, start = keys[at]
        try:
            if name == known and crc32(value, (start + 2 * place + kind) & MASK) == total:
                found[at][place] = str(value, "utf-8") if kind == TEXT else decode(kind, value)
                continue
        except TypeError:
            pass
        except ValueError as error:
            raise StoreError(f"sample {place} of {key_of(name)!r}: {error}") from None
        if not careful and not whole(name, place, kind, total, value):
            raise DamagedError(f"sample {place} of {key_of(known)!r} is not as it was stored")
    return found


def _rows(
    db: Database, ranges: Sequence[tuple[int, int, int]], *, careful: bool
) -> Iterator[tuple[int, int, Name, int, int, int, bytes]]:
    """Yield the rows in ranges, each after where its part begins and its number in the part."""
    divided = [(at, [one]) for at, one in enumerate(ranges)] if careful else list(parts(ranges))
    alone = len(divided) < 2 or careful
    with contextlib.nullcontext() if alone else db.snapshot():
        for at, part in divided:
            try:
                rows = db.all(reading(len(part)), [x for one in part for x in one])
            except sqlite3.DatabaseError as error:
                if not (careful and is_damage(error)):
                    raise
                continue
            for row in rows:
                yield (at, *row)


def places_of(db: Database, adding: Sequence[Adding]) -> tuple[list[list[int]], set[int]]:
    """Return the index of each sample, and the keys that have gaps now."""
    hashes = list({add.hash for add in adding})
    ends: dict[int, tuple[int, bool]] = {}
    for at, part in parts(hashes):
        for n, last, gaps in db.all(ending(len(part)), part):
            ends[hashes[at + n]] = (-1 if last is None else last, bool(gaps))
    stored = {hashed: last for hashed, (last, _) in ends.items()}
    placed: list[list[int]] = []
    new_gaps: set[int] = set()
    taken: dict[int, set[int]] = {}
    for add in adding:
        last, gaps = ends[add.hash]
        n, first = len(add.values), max(add.start, last + 1)
        if gaps and add.start <= last:
            if add.hash not in taken:
                rows = db.all(f"SELECT place FROM {ENTRIES} WHERE hash = ?", (add.hash,))
                taken[add.hash] = {place for (place,) in rows}
            where = _free(taken[add.hash], add.start, n)
        else:
            if add.start <= stored[add.hash]:
                _insist(db, add)
            where = list(range(first, first + n))
            if n and first > last + 1:
                new_gaps.add(add.hash)
                gaps = True
        if add.hash in taken:
            taken[add.hash].update(where)
        placed.append(where)
        ends[add.hash] = max(last, where[-1]) if where else last, gaps
    return placed, new_gaps


def _insist(db: Database, add: Adding) -> None:
    """A list without gaps has a sample where another one would begin."""
    there = db.one(
        f"SELECT 1 FROM {ENTRIES} AS entries JOIN samples ON samples.id = entries.id "
        "AND samples.place = entries.place WHERE hash = ? AND entries.place = ? AND key = ?",
        (add.hash, add.start, add.identity.name),
    )
    if there is None:
        raise DamagedError(
            f"sample {add.start} of {key_of(add.identity.name)!r} is not where it should be"
        )


def _free(taken: set[int], start: int, n: int) -> list[int]:
    """Return the n lowest places from start on that are not taken."""
    found: list[int] = []
    while len(found) < n:
        if start not in taken:
            found.append(start)
        start += 1
    return found


def totals_of(db: Database) -> tuple[int, int, int, int]:
    """Return the number of samples, what they take, the last row, and how many rows are recent."""
    found = db.one("SELECT samples, bytes, last, recent FROM totals")
    if found is None or not all(isinstance(value, int) for value in found):
        raise DamagedError("the totals are damaged")
    return found[0], found[1], found[2], found[3]


def rows_of(db: Database, name: Name) -> list[tuple[int, int]]:
    """Return the rows of a key and what each takes."""
    return [
        (row, size + ROW_BYTES)
        for row, size in db.all(
            f"SELECT samples.id, length(value) FROM {ENTRIES} AS entries "
            "JOIN samples ON samples.id = entries.id WHERE hash = ? AND key = ?",
            (hash_of(name), name),
        )
    ]


def remove_keys(db: Database, names: Sequence[Name]) -> tuple[int, int]:
    """Remove keys, leaving nothing of them on disk; return how many keys and samples there were."""
    n_keys = n_samples = size = 0
    db.one("PRAGMA secure_delete = ON")  # or they would be found where something else is damaged
    for name in names:
        rows = rows_of(db, name)
        if not rows:
            continue
        n_keys, n_samples = n_keys + 1, n_samples + len(rows)
        size += sum(taken for _, taken in rows)
        hashed = hash_of(name)
        db.run_all("DELETE FROM samples WHERE id = ?", [(row,) for row, _ in rows])
        for table in ("recent", "settled"):
            db.run_all(
                f"DELETE FROM {table} WHERE hash = ? AND id = ?", [(hashed, row) for row, _ in rows]
            )
        db.run("DELETE FROM gaps WHERE hash = ?", (hashed,))
        db.run("DELETE FROM uses WHERE hash = ?", (hashed,))
    db.one("PRAGMA secure_delete = OFF")
    db.run("UPDATE totals SET samples = samples - ?, bytes = bytes - ?", (n_samples, size))
    return n_keys, n_samples


def problems_of(db: Database) -> list[str]:
    """Return what is wrong with a database."""
    try:
        found = [str(row[0]) for row in db.all("PRAGMA integrity_check") if row != ("ok",)]
        rows = db.all("SELECT id, key, place, kind, checksum, value FROM samples")
        index = {row: (at, place) for at, place, row in db.all(f"SELECT * FROM {ENTRIES}")}
        found += [f"row {row[0]} is not as it was stored" for row in rows if not whole(*row[1:])]
        found += [
            f"row {row[0]} is not where the index says"
            for row in rows
            if whole(*row[1:]) and index.get(row[0]) != (hash_of(row[1]), row[2])
        ]
        found += [f"row {row} is gone" for row in sorted(index.keys() - {row[0] for row in rows})]
        if len(index) != len(set(index.values())):
            found.append("several rows are one sample")
        if (count := totals_of(db)[0]) != len(rows):
            found.append(f"there are {len(rows)} samples, and {count} were counted")
    except sqlite3.DatabaseError as error:
        found = [str(error)]
    return found
