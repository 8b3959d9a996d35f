"""Entries in Redis: for processes on several machines.

``cacher:semantic`` is the set of tenants.  Keys of a tenant, under a prefix (``cacher``), ``T`` its
quoted name; the braces keep them on one node of a cluster::

    cacher:{semantic:T}:head      hash    born, revision
    cacher:{semantic:T}:rows      zset    row by its revision, the row being that number
    cacher:{semantic:T}:entries   hash    row -> entry (JSON)
    cacher:{semantic:T}:vectors   hash    row -> vector
    cacher:{semantic:T}:ids       hash    entry id -> row and key of its text
    cacher:{semantic:T}:texts     hash    key of a text -> entry id
    cacher:{semantic:T}:removed   zset    entry id by the revision it was removed at
    cacher:{semantic:T}:used      zset    entry id by the time of its last use
    cacher:{semantic:T}:touched   zset    entry id by the revision of its last use
    cacher:{semantic:T}:hits      hash    entry id -> number of hits
    cacher:{semantic:T}:writer    string  token of a writer that lost too often, expires by itself
    cacher:{semantic:T}:claim:X   string  token of the claim of a text, expires by itself

A write is one script, which Redis runs alone, and which does nothing unless the revision is the one
the writer decided on.  A row never changes, so that rows can be read in pages: one that is missing
was removed later, which the log tells.  How durable a write is when it returns is the server's
configuration: ``appendonly yes`` and ``appendfsync always`` keep the promise of SQLite, and a
``maxmemory-policy`` other than ``noeviction`` may take away a part of a tenant.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from urllib.parse import quote

from cacher.errors import StoreError
from cacher.semantic.entry import Entry
from cacher.semantic.store import (
    LOG,
    Changes,
    Decide,
    EntryStore,
    Record,
    Write,
    puts_of,
    reaches,
    text_key,
    utf8,
)
from cacher.stores.base import unique
from cacher.stores.redis_server import RELEASE, RedisServer, milliseconds

# What happened after ARGV[1], ARGV[2] being how far the log reaches back.  The first two answers
# are the tenant's first and latest revision.
CHANGES = """
local head = redis.call('HMGET', KEYS[1], 'born', 'revision')
local born, revision = tonumber(head[1] or 0), tonumber(head[2] or 0)
local after, since = tonumber(ARGV[1]), '(' .. ARGV[1]
if after ~= 0 and after == revision then return {head[1], head[2], {}, {}, {}, {}} end
if after < born or after < revision - tonumber(ARGV[2]) or after > revision then since = '-inf' end
local touched, used = redis.call('ZRANGEBYSCORE', KEYS[4], since, '+inf'), {}
for i, id in ipairs(touched) do used[i] = redis.call('ZSCORE', KEYS[5], id) end
return {
    head[1] or '0', head[2] or '0', redis.call('ZRANGEBYSCORE', KEYS[2], since, '+inf'),
    redis.call('ZRANGEBYSCORE', KEYS[3], since, '+inf'), touched, used
}
"""
# ARGV: the revision decided on, the new one, the first for a tenant without any, the writer's
# token, the oldest revision of the log, the ids to remove (JSON), then for each put: row, entry id,
# key of the text, entry, vector.
WRITE = """
local writer = redis.call('GET', KEYS[11])
if writer and writer ~= ARGV[4] then return 'busy' end
if (redis.call('HGET', KEYS[1], 'revision') or '0') ~= ARGV[1] then return 'changed' end
local revision, removed = ARGV[2], {}
local function remove(id)
    local found = redis.call('HGET', KEYS[6], id)
    if not found then return end
    local row, text = string.match(found, '(%d+) (%x+)')
    redis.call('ZREM', KEYS[2], row)
    redis.call('HDEL', KEYS[6], id)
    redis.call('HDEL', KEYS[7], row)
    redis.call('HDEL', KEYS[8], row)
    redis.call('HDEL', KEYS[9], text)
    redis.call('HDEL', KEYS[10], id)
    redis.call('ZREM', KEYS[4], id)
    redis.call('ZREM', KEYS[5], id)
    redis.call('ZADD', KEYS[3], revision, id)
    removed[#removed + 1] = id
end
if #ARGV > 6 then redis.call('HSET', KEYS[1], 'revision', revision) end  -- refused when full
for _, id in ipairs(cjson.decode(ARGV[6])) do remove(id) end
for i = 7, #ARGV, 5 do
    local row, id, text = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    local same = redis.call('HGET', KEYS[9], text)
    if same then remove(same) end
    remove(id)
    redis.call('ZADD', KEYS[2], row, row)
    redis.call('HSET', KEYS[6], id, row .. ' ' .. text)
    redis.call('HSET', KEYS[7], row, ARGV[i + 3])
    redis.call('HSET', KEYS[8], row, ARGV[i + 4])
    redis.call('HSET', KEYS[9], text, id)
end
if ARGV[1] == '0' then redis.call('HSET', KEYS[1], 'born', ARGV[3]) end
redis.call('HSET', KEYS[1], 'revision', revision)
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', ARGV[5])
return removed
"""
# ARGV: for each use: entry id, hits, time.
USE = """
if redis.call('EXISTS', KEYS[1]) == 0 then return end
redis.call('HINCRBY', KEYS[1], 'revision', 1)
local revision = redis.call('HGET', KEYS[1], 'revision')
for i = 1, #ARGV, 3 do
    local id = ARGV[i]
    if redis.call('HEXISTS', KEYS[6], id) == 1 then
        redis.call('HINCRBY', KEYS[10], id, ARGV[i + 1])
        redis.call('ZADD', KEYS[5], 'GT', ARGV[i + 2], id)
        redis.call('ZADD', KEYS[4], revision, id)
    end
end
"""
PARTS = (
    "head", "rows", "removed", "touched", "used", "ids", "entries", "vectors", "texts", "hits",
    "writer",
)  # fmt: skip

TYPES = {
    field.name: float if field.name == "timestamp" else str for field in fields(Entry)
}  # of an entry's JSON
PAGE = 500  # rows asked for at once
PATIENCE_S = 10.0  # of a write while others write
TRIES = 3  # lost to quicker writers before the others are told to wait
WRITER_S = 5.0  # that they wait at most


class RedisEntryStore(EntryStore):
    """Entries in Redis; `cacher.semantic.store` says what that promises."""

    def __init__(self, url: str, *, prefix: str = "cacher") -> None:
        """Connect to a server.

        Args:
            url: ``redis://host:port/database``, or ``rediss://``, ``unix://``.
            prefix: Begins every key: several services can share a database.

        Raises:
            MissingExtraError: The client is not installed.
            StoreError: The server cannot be reached.
        """
        self._prefix = prefix
        self._tenants = f"{prefix}:semantic"
        server = RedisServer(url, "remembered answers")
        self._redis, self._trouble = server.client, server.trouble
        self._find_changes = self._redis.register_script(CHANGES)
        self._write = self._redis.register_script(WRITE)
        self._use = self._redis.register_script(USE)
        self._release = self._redis.register_script(RELEASE)

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    # ---- entries

    def changes(self, tenant: str, after: int) -> Changes:
        """Return what happened after a revision; cheap when nothing did."""
        keys = self._keys(tenant)
        with self._trouble("read"):
            return self._changes(keys, after)

    def write(self, tenant: str, decide: Decide, after: int) -> Changes:
        """Decide on a write while nobody else writes, and store it."""
        keys, token = self._keys(tenant), unique()
        until, tries = time.monotonic() + PATIENCE_S, 0
        with contextlib.ExitStack() as held:
            while time.monotonic() < until:
                with self._trouble("read"):
                    changes = self._changes(keys, after)
                after = changes.revision
                write = decide(changes)
                puts = puts_of(write)
                if not (puts or write.remove):
                    return Changes(after, False, [], [], {})
                arguments, revision = self._arguments(write, puts, after, token)
                with self._trouble("written"):
                    if not after:  # known before it has entries, whenever this process dies
                        self._redis.sadd(self._tenants, utf8(tenant))
                    outcome = self._write(keys=keys, args=arguments)
                if isinstance(outcome, list):
                    return Changes(revision, False, puts, [i.decode() for i in outcome], {})
                tries += 1
                if outcome == b"busy":
                    time.sleep(0.002 * min(tries, 10))
                elif tries >= TRIES:
                    held.enter_context(self._alone(keys[-1], token))
        raise StoreError("the remembered answers in Redis change faster than one is added")

    @contextlib.contextmanager
    def _alone(self, key: str, token: str) -> Iterator[None]:
        """Let other writers wait."""
        with self._trouble("written"):
            self._redis.set(key, token, nx=True, px=milliseconds(WRITER_S))
        yield
        with self._trouble("written"):
            self._release(keys=[key], args=[token])

    def _arguments(
        self, write: Write, puts: Sequence[Record], after: int, token: str
    ) -> tuple[list[object], int]:
        """Return what the script of a write is told, and the revision that it makes."""
        born = time.time_ns() // 1000
        before = after or born
        revision = before + max(1, len(puts))
        arguments: list[object] = [
            after, revision, born, token, revision - LOG, json.dumps(list(write.remove)),
        ]  # fmt: skip
        for row, record in enumerate(puts, before + 1):
            entry, key = record.entry, text_key(record.entry.query).hex()
            plain = {**asdict(entry), "timestamp": float(entry.timestamp)}
            data = json.dumps(plain, ensure_ascii=False)
            arguments += (row, entry.entry_id, key, utf8(data), record.vector)
        return arguments, revision

    def _changes(self, keys: list[str], after: int) -> Changes:
        """Gather changes until none of their rows was removed while they were read."""
        whole, first = False, True
        puts: dict[str, Record] = {}
        removed: dict[str, None] = {}
        used: dict[str, float] = {}
        while True:
            born, revision, rows, gone, touched, times = self._find_changes(
                keys=keys, args=[after, LOG]
            )
            if not reaches(after, int(born), int(revision)) or (first and not after):
                whole = True
                for found in (puts, removed, used):
                    found.clear()
                gone = []
            for entry_id in map(bytes.decode, gone):
                puts.pop(entry_id, None)
                used.pop(entry_id, None)
                removed[entry_id] = None
            records = self._records(keys, rows)
            puts |= {record.entry.entry_id: record for record in records}
            used |= {i.decode(): float(t) for i, t in zip(touched, times, strict=True)}
            after, first = int(revision), False
            if len(records) == len(rows):
                gone_ids = [] if whole else list(removed)
                return Changes(after, whole, list(puts.values()), gone_ids, used)

    def _records(self, keys: list[str], rows: Sequence[bytes]) -> list[Record]:
        """Return the rows that are still there."""
        found = []
        for start in range(0, len(rows), PAGE):
            page = rows[start : start + PAGE]
            with self._redis.pipeline(transaction=False) as pipe:
                pipe.hmget(keys[6], page)
                pipe.hmget(keys[7], page)
                for row, data, vector in zip(page, *pipe.execute(), strict=True):
                    if data is not None and vector is not None:
                        found.append(_record(row, data, vector))
        return found

    def tenants(self) -> list[str]:
        """Return the names of those who have entries, in no order."""
        with self._trouble("read"):
            names = [name.decode() for name in self._redis.smembers(self._tenants)]
            with self._redis.pipeline(transaction=False) as pipe:
                for name in names:
                    pipe.exists(self._key(name, "rows"))
                return [name for name, there in zip(names, pipe.execute(), strict=True) if there]

    # ---- uses and claims

    def use(self, tenant: str, used: Mapping[str, tuple[int, float]]) -> None:
        """Note uses of entries: id -> number of hits, and the time of the last one."""
        arguments = [x for i, (hits, last) in used.items() for x in (i, hits, repr(last))]
        keys = self._keys(tenant)
        with self._trouble("used"):
            self._use(keys=keys, args=arguments)

    def hits(self, tenant: str) -> dict[str, int]:
        """Return the hits of the entries that have any, by id."""
        key = self._key(tenant, "hits")
        with self._trouble("read"):
            return {i.decode(): int(n) for i, n in self._redis.hgetall(key).items() if int(n)}

    def claim(self, tenant: str, query: str, seconds: float) -> str | None:
        """Return the token of a claim to answer a text, or None while another has it."""
        key, token = self._claim(tenant, query), unique()
        with self._trouble("claimed"):
            taken = self._redis.set(key, token, nx=True, px=milliseconds(seconds))
        return token if taken else None

    def release(self, tenant: str, query: str, token: str) -> None:
        """Give a claim back; no error when it had run out."""
        key = self._claim(tenant, query)
        with self._trouble("claimed"):
            self._release(keys=[key], args=[token])

    # ---- names

    def _key(self, tenant: str, *parts: str) -> str:
        name = quote(utf8(tenant), safe="")
        return ":".join((self._prefix, f"{{semantic:{name}}}", *parts))

    def _keys(self, tenant: str) -> list[str]:
        return [self._key(tenant, part) for part in PARTS]

    def _claim(self, tenant: str, query: str) -> str:
        return self._key(tenant, "claim", text_key(query).hex())


def _record(row: bytes, data: bytes, vector: bytes) -> Record:
    """Return what a row holds.

    Raises:
        ValueError: Nothing that a store wrote.
    """
    values = json.loads(data)
    if not isinstance(values, dict) or {k: type(v) for k, v in values.items()} != TYPES:
        raise ValueError(f"row {row.decode()} is damaged")
    return Record(Entry(**values), vector)
