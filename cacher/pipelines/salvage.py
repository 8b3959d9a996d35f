"""What is whole of a damaged database of samples, read page by page.

A damaged page may be one that leads to all others.  So this follows none: every page that looks
like one of the table's is read, and every row that its own checksum confirms is whole.  Of a page
that also lies in the log, the newest version counts that is as SQLite wrote it, of a transaction
that was finished.  What is newer counts, too, but by itself it is not enough: where a process was
killed as it wrote, it may be another page, or lack rows that were to go to the next one.  Removed
rows are not found: they are overwritten when they are removed.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cacher.pipelines.rows import (
    COLUMNS,
    ENTRIES,
    LAYOUT,
    PAGE_BYTES,
    TABLES,
    Row,
    hash_of,
    inserting,
    parts,
    whole,
)
from cacher.pipelines.store import ROW_BYTES

LEAF = 0x0D  # first byte of a page with rows
LOG = "-wal"  # the name of the log beside the database ends so
LOG_HEADER, FRAME_HEADER = 32, 24
SIZES = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)  # bytes of a value of serial type 0 to 9


class Log(NamedTuple):
    """The log beside a database.

    Attributes:
        data: The file.
        pages: Number of a page -> where its versions are in the log, oldest first.
        frames: Frames that belong to it.
        ends: Of them, up to each that ends a transaction.
        tail: Bytes behind the frames that are no whole one.
    """

    data: bytes
    pages: dict[int, list[int]]
    frames: int
    ends: list[int]
    tail: int

    @property
    def salt(self) -> bytes:
        """Another one whenever the log begins anew."""
        return self.data[16:24]

    @property
    def committed(self) -> int:
        """Frames up to the last that ends a transaction."""
        return self.ends[-1] if self.ends else 0

    def sure(self) -> set[int]:
        """Return where the pages are that SQLite wrote so, in transactions that were finished."""
        size = FRAME_HEADER + PAGE_BYTES
        places = [LOG_HEADER + size * (end - 1) for end in reversed(self.ends)]
        last = next((at for at in places if _is_whole(self.data, at)), 0)
        frames = range(LOG_HEADER, last + 1, size)
        return {at + FRAME_HEADER for at in frames if _is_whole(self.data, at)}


def read_log(path: str) -> Log:
    """Return the log of a database as it lies there; an empty one where there is none."""
    try:
        with open(path + LOG, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        data = b""
    pages: dict[int, list[int]] = {}
    ends: list[int] = []
    frames = 0
    at, size = LOG_HEADER, FRAME_HEADER + PAGE_BYTES
    salt = data[16:24] if _is_header(data) else data[at + 8 : at + 16]
    while at + size <= len(data) and salt in (  # one of them may be the damage
        data[at + 8 : at + 16], data[at + size + 8 : at + size + 16],
    ):  # fmt: skip
        number, length = struct.unpack_from(">II", data, at)
        frames += 1
        pages.setdefault(number, []).append(at + FRAME_HEADER)
        if length:
            ends.append(frames)
        at += size
    rest = data[at:]
    cut = len(rest) < size and rest[8:16] == salt[: max(0, len(rest) - 8)]
    return Log(data, pages, frames, ends, len(rest) if cut else 0)


def salt_of(path: str) -> bytes:
    """Return the salt of a log, nothing where there is none."""
    with contextlib.suppress(FileNotFoundError), open(path + LOG, "rb") as file:
        return file.read(24)[16:]
    return b""


def _is_header(data: bytes) -> bool:
    """Whether the first bytes of a log are as SQLite wrote them."""
    return len(data) >= LOG_HEADER and _sums(data, data[:24], (0, 0)) == _pair(data, 24)


def _is_whole(data: bytes, at: int) -> bool:
    """Whether a frame of a log is as SQLite wrote it; its sums go on from those before it."""
    before = _pair(data, 24 if at == LOG_HEADER else at - PAGE_BYTES - 8)
    page = at + FRAME_HEADER
    summed = data[at : at + 8] + data[page : page + PAGE_BYTES]
    return _sums(data, summed, before) == _pair(data, at + 16)


def _sums(data: bytes, summed: bytes, before: tuple[int, int]) -> tuple[int, int]:
    """Return the sums that the log's format has for bytes, in the order that its header says."""
    one, two = before
    words = struct.unpack((">" if data[3] & 1 else "<") + f"{len(summed) // 4}I", summed)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        one = (one + even + two) & 0xFFFFFFFF
        two = (two + odd + one) & 0xFFFFFFFF
    return one, two


def _pair(data: bytes, at: int) -> tuple[int, int]:
    one, two = struct.unpack_from(">II", data, at)
    return one, two


def rows(path: str) -> Iterator[Row]:
    """Yield the rows of a damaged database that are whole, in no order; a row may come twice."""
    # Never closed: that would release the locks that SQLite holds on it for this process.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    data = b"".join(iter(lambda: os.read(descriptor, 2**24), b""))
    log = read_log(path)
    sure = log.sure()
    numbers = {
        *range(1, -(-len(data) // PAGE_BYTES) + 1),
        *log.pages,
    }  # of which some may be damage
    for number in sorted(numbers - {1}):  # which has the schema
        start = (number - 1) * PAGE_BYTES
        for at in reversed(log.pages.get(number, ())):
            found, clean = _leaf(log.data[at : at + PAGE_BYTES], data, log, sure)
            yield from found
            if clean and at in sure:
                break
        else:
            page = data[start : start + PAGE_BYTES].ljust(PAGE_BYTES, b"\0")
            yield from _leaf(page, data, log, sure)[0]


def _leaf(page: bytes, data: bytes, log: Log, sure: set[int]) -> tuple[list[Row], bool]:
    """Return the rows of a page, and whether nothing in it is damaged."""
    found: list[Row] = []
    if page[0] != LEAF:
        return found, any(page)
    clean = True
    for i in range(min(struct.unpack_from(">H", page, 3)[0], PAGE_BYTES // 4)):
        row = None
        with contextlib.suppress(ValueError, IndexError, struct.error):
            row = _cell(page, struct.unpack_from(">H", page, 8 + 2 * i)[0], data, log, sure)
        if row is not None:
            found.append(row)
        else:
            clean = False
    return found, clean


def _cell(page: bytes, at: int, data: bytes, log: Log, sure: set[int]) -> Row | None:
    length, at = _number(page, at)
    row_id, at = _number(page, at)
    if length > len(data) + len(log.data):
        return None
    most, least = PAGE_BYTES - 35, (PAGE_BYTES - 12) * 32 // 255 - 23
    here = length
    if length > most:
        here = least + (length - least) % (PAGE_BYTES - 4)
        here = here if here <= most else least
    payload = page[at : at + here]
    if here == length:
        return _record(row_id, payload) if len(payload) == length else None
    following = struct.unpack_from(">I", page, at + here)[0]
    for trusted in (None, sure):  # the newest of its other pages may be what was never finished
        with contextlib.suppress(ValueError, IndexError, struct.error):
            rest = _overflow(following, length - here, data, log, trusted)
            row = _record(row_id, payload + rest) if len(rest) == length - here else None
            if row is not None:
                return row
    return None


def _overflow(number: int, length: int, data: bytes, log: Log, trusted: set[int] | None) -> bytes:
    """Return what of a long row lies on other pages: of each the newest version, or trusted one."""
    found: list[bytes] = []
    room = PAGE_BYTES - 4
    while number and length > 0:
        versions = [at for at in log.pages.get(number, ()) if trusted is None or at in trusted]
        source, at = (log.data, versions[-1]) if versions else (data, (number - 1) * PAGE_BYTES)
        found.append(source[at + 4 : at + 4 + min(room, length)])
        number = struct.unpack_from(">I", source, at)[0]
        length -= room
    return b"".join(found)


def _record(row_id: int, payload: bytes) -> Row | None:
    """Return the values of a row."""
    end, at = _number(payload, 0)
    codes = []
    while at < end:
        code, at = _number(payload, at)
        codes.append(code)
    if len(codes) != COLUMNS or at != end:
        return None
    values: list[object] = []
    for code in codes:
        size = SIZES[code] if code < len(SIZES) else (code - 12) // 2
        values.append(_value(code, payload[at : at + size]))
        at += size
    _, name, place, kind, total, added, value = values
    if not (isinstance(added, (int, float)) and whole(name, place, kind, total, value)):
        return None
    return row_id, name, place, kind, total, float(added), value  # type: ignore[return-value]


def _value(code: int, data: bytes) -> object:
    if code == 7:
        return struct.unpack(">d", data)[0]
    if 0 < code < 7:
        return int.from_bytes(data, "big", signed=True)
    if code < 12:
        return {8: 0, 9: 1}.get(code)
    return data if code % 2 == 0 else data.decode()


def _number(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of SQLite's notation and where it ends."""
    value = 0
    for i in range(8):
        byte = data[at + i]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + i + 1
    return value << 8 | data[at + 8], at + 9


def rebuild(path: str, target: str, recovered: int) -> int:
    """Write what is whole of a database into a new one; the caller holds the old one.

    Args:
        path: The damaged one; it is only read.
        target: A file that is not there.
        recovered: Bytes that were cut off.

    Returns:
        How many rows are whole.
    """
    found: dict[tuple[object, int], Row] = {}
    for row in rows(path):
        key = (row[1], row[2])
        if key not in found or found[key][0] < row[0]:
            found[key] = row
    kept = _numbered(sorted(found.values(), key=lambda row: row[0]))
    samples, recovered_before, corrupt_before = _counted(path)
    db = sqlite3.connect(target, isolation_level=None)
    try:
        for statement in (f"PRAGMA page_size = {PAGE_BYTES}", "PRAGMA journal_mode = OFF"):
            db.execute(statement)
        db.execute("BEGIN")
        for statement in filter(str.strip, TABLES.split(";")):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {LAYOUT}")
        _fill(db, kept)
        db.execute(
            "UPDATE totals SET samples = ?, bytes = ?, last = ?, recovered = ?, corrupt = ?",
            (len(kept), sum(len(row[-1]) + ROW_BYTES for row in kept),
             max((row[0] for row in kept), default=0), recovered_before + recovered,
             corrupt_before + max(1, samples - len(kept))),
        )  # fmt: skip
        db.execute("COMMIT")
    finally:
        db.close()
    return len(kept)


def _numbered(kept: list[Row]) -> list[Row]:
    """Give a number of its own to each row: one of a write that SQLite left out had another's."""
    used: set[int] = set()
    free = max((row[0] for row in kept), default=0) + 1
    for at, row in enumerate(kept):
        if row[0] in used:
            kept[at] = (free, *row[1:])
            free += 1
        used.add(kept[at][0])
    return kept


def _fill(db: sqlite3.Connection, kept: Sequence[Row]) -> None:
    for _, part in parts(kept):
        db.execute(inserting("samples", COLUMNS, len(part)), [v for row in part for v in row])
    entries = sorted((hash_of(row[1]), row[2], row[0]) for row in kept)
    for _, some in parts(entries):
        db.execute(inserting("settled", 3, len(some)), [v for entry in some for v in entry])
    db.execute(
        f"INSERT INTO gaps SELECT hash FROM {ENTRIES} GROUP BY hash "
        "HAVING count(DISTINCT place) <= max(place)"
    )


def _counted(path: str) -> tuple[int, int, int]:
    """Return how many samples, recovered bytes and corrupt records there were, where it tells."""
    with contextlib.suppress(sqlite3.Error, UnicodeDecodeError):
        db = sqlite3.connect(path, isolation_level=None)
        try:
            found = db.execute("SELECT samples, recovered, corrupt FROM totals").fetchone()
        finally:
            db.close()
        if found and all(isinstance(number, int) for number in found):
            return found[0], found[1], found[2]
    return 0, 0, 0
