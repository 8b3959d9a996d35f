"""How samples lie in an SQLite database: tables, statements for many rows, checksums.

``samples`` grows at its end, whatever the keys are.  An index over keys that are random numbers
has a page to change for every row; so the newest rows are indexed in ``recent``, which has few
pages, and are moved to ``settled`` by the thousand, in order.  An entry is a number made of the
key, the index of the sample, and its row, which holds the whole key.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple, TypeVar
from zlib import crc32

from cacher.pipelines.store import check_key

T = TypeVar("T")

APPLICATION = 0x63_73_61_6D  # PRAGMA application_id: "csam"
LAYOUT = 1  # PRAGMA user_version
PAGE_BYTES = 8192
TABLES = f"""
PRAGMA application_id = {APPLICATION};
CREATE TABLE samples (
    id INTEGER PRIMARY KEY, key NOT NULL, place INTEGER NOT NULL, kind INTEGER NOT NULL,
    checksum INTEGER NOT NULL, added REAL NOT NULL, value BLOB NOT NULL
);
CREATE TABLE recent (
    hash INTEGER, place INTEGER, id INTEGER, PRIMARY KEY (hash, place, id)
) WITHOUT ROWID;
CREATE TABLE settled (
    hash INTEGER, place INTEGER, id INTEGER, PRIMARY KEY (hash, place, id)
) WITHOUT ROWID;
CREATE TABLE gaps (hash INTEGER PRIMARY KEY);
CREATE TABLE uses (hash INTEGER PRIMARY KEY, used REAL NOT NULL);
CREATE INDEX uses_by_time ON uses (used);
CREATE TABLE totals (
    samples INTEGER NOT NULL, bytes INTEGER NOT NULL, last INTEGER NOT NULL,
    recent INTEGER NOT NULL, recovered INTEGER NOT NULL, corrupt INTEGER NOT NULL
);
INSERT INTO totals VALUES (0, 0, 0, 0, 0, 0);
"""
PRIME = 2**63 - 25  # patterns in keys that somebody made up leave none in the remainder
MASK = 0xFFFFFFFF
LONGEST = 128  # rows of one statement

Name = bytes | str
Row = tuple[int, Name, int, int, int, float, bytes]
COLUMNS = 7


def name_of(key: str) -> Name:
    """Return a key as it is stored: 64 hexadecimal digits as bytes, all other texts as they are."""
    if len(key) == 64:
        try:
            name = bytes.fromhex(key)
            if name.hex() == key:
                return name
        except ValueError:
            pass
    try:
        key.encode()
    except UnicodeEncodeError:  # half a character; longer than any other name that is bytes
        return bytes(33) + key.encode("utf-8", "surrogatepass")
    return key


def key_of(name: Name) -> str:
    """Return the key of a name."""
    if isinstance(name, str):
        return name
    return name.hex() if len(name) == 32 else name[33:].decode("utf-8", "surrogatepass")


def hash_of(name: Name) -> int:
    """Return the number under which a key is found."""
    if isinstance(name, str) or len(name) != 32:
        data = name.encode() if isinstance(name, str) else name
        name = blake2b(data, digest_size=32).digest()
    return int.from_bytes(name, "little") % PRIME


def checksum(name: Name, place: int, kind: int, value: bytes) -> int:
    """Return the sum that tells a row from every other and from what damage makes of it."""
    start = crc32(name if isinstance(name, bytes) else name.encode())
    return crc32(value, (start + 2 * place + kind) & MASK)


class Identity(NamedTuple):
    """A key as it is stored, the number under which it is found, and where its checksums begin."""

    name: Name
    hash: int
    start: int


def identity(key: str) -> Identity:
    """Return what is computed of a key.

    Raises:
        TypeError: It is no string.
    """
    return _identity(key) if type(key) is str else _identity(check_key(key))


@lru_cache(2048)  # a key is read, and written soon after, as others of its group are
def _identity(key: str) -> Identity:
    name = name_of(key)
    return Identity(name, hash_of(name), checksum(name, 0, 0, b""))


def whole(name: object, place: object, kind: object, total: object, value: object) -> bool:
    """Whether a row is as it was written."""
    return (
        isinstance(name, (bytes, str)) and isinstance(place, int) and isinstance(kind, int)
        and isinstance(value, bytes) and checksum(name, place, kind, value) == total
    )  # fmt: skip


def parts(items: Sequence[T]) -> Iterator[tuple[int, Sequence[T]]]:
    """Divide into parts of 1, 2, 4 to `LONGEST`, so that few statements serve all numbers."""
    start = 0
    while start < len(items):
        left = len(items) - start
        size = min(LONGEST, 1 << (left.bit_length() - 1))
        yield start, items[start : start + size]
        start += size


def _wants(n: int, columns: str, marks: str) -> str:
    rows = ", ".join(f"({i}, {marks})" for i in range(n))
    return f"WITH wants (n, {columns}) AS (VALUES {rows}) "


@lru_cache(16)
def reading(n: int) -> str:
    """The rows of n pairs of a hash and a range of places; other keys' rows of that hash, too."""
    return _wants(n, "want, low, high", "?, ?, ?") + " UNION ALL ".join(
        "SELECT n, key, samples.place, kind, checksum, value "
        f"FROM wants CROSS JOIN {entries} ON hash = want AND {entries}.place >= low "
        f"AND {entries}.place < high CROSS JOIN samples ON samples.id = {entries}.id"
        for entries in ("recent", "settled")
    )


@lru_cache(16)
def ending(n: int) -> str:
    """The last place of n hashes, and whether there are gaps before."""
    lasts = " UNION ALL ".join(
        f"SELECT max(place) AS last FROM {entries} WHERE hash = want"
        for entries in ("recent", "settled")
    )
    return (
        _wants(n, "want", "?") + f"SELECT n, (SELECT max(last) FROM ({lasts})), "
        "EXISTS (SELECT 1 FROM gaps WHERE hash = want) FROM wants"
    )


@lru_cache(64)
def inserting(table: str, columns: int, n: int) -> str:
    """Statement that adds n rows."""
    row = f"({', '.join('?' * columns)})"
    return f"INSERT INTO {table} VALUES {', '.join([row] * n)}"


@lru_cache(16)
def noting(n: int) -> str:
    """Statement that notes n uses."""
    return (
        f"INSERT INTO uses VALUES {', '.join(['(?, ?)'] * n)} "
        "ON CONFLICT DO UPDATE SET used = max(used, excluded.used)"
    )


ENTRIES = "(SELECT * FROM recent UNION ALL SELECT * FROM settled)"
