"""Samples in Redis: for processes on several machines.

Keys of the database, under a prefix (``cacher``); the braces keep them on one node of a cluster::

    cacher:{samples}:list:K    hash    index -> kind, checksum and value of a sample of key K
    cacher:{samples}:ends      hash    K -> the index after its last
    cacher:{samples}:bytes     hash    K -> what it takes
    cacher:{samples}:used      zset    K by the time of its last use
    cacher:{samples}:totals    hash    samples, bytes, corrupt
    cacher:{samples}:done:T    string  what the write of token T was told, expires by itself

A write is one script, which Redis runs alone; one that is sent again, since the connection broke
before the answer came, is not done twice.  How durable a write is when it returns is the server's
configuration: ``appendonly yes`` and ``appendfsync always`` keep it on disk.  What the server's
``maxmemory-policy`` takes away is not there, and is bought again.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterable, Iterator, Sequence

from cacher.checks import integer
from cacher.errors import StoreError
from cacher.pipelines.rows import checksum
from cacher.pipelines.store import (
    MAX_INDEX,
    ROW_BYTES,
    Add,
    Listed,
    SampleStore,
    Want,
    check_key,
    check_limit,
)
from cacher.pipelines.values import decode, encode
from cacher.stores.base import unique
from cacher.stores.redis_server import RedisServer, milliseconds

HEAD = struct.Struct(">BI")  # kind and checksum, before the value
DONE_S = 60.0  # how long a write is known that may be sent again
FEW = 64  # indices that are asked for one by one
PAGE = 500  # keys looked at or removed at once

# KEYS: ends, bytes, used, totals.  What a key takes is counted without the heads of its samples.
COMMON = f"""
local function drop(key, list)
    local n = redis.call('HLEN', list)
    if n == 0 and not redis.call('ZSCORE', KEYS[3], key) then return 0 end
    redis.call('HINCRBY', KEYS[4], 'bytes', -tonumber(redis.call('HGET', KEYS[2], key) or 0))
    redis.call('HINCRBY', KEYS[4], 'samples', -n)
    redis.call('DEL', list)
    redis.call('HDEL', KEYS[1], key)
    redis.call('HDEL', KEYS[2], key)
    redis.call('ZREM', KEYS[3], key)
    return n
end
local function evict(prefix, limit, before, most)
    local gone = {{}}
    while #gone < most and tonumber(redis.call('HGET', KEYS[4], 'bytes') or 0) > limit do
        local key = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', before, 'LIMIT', 0, 1)[1]
        if not key then break end
        drop(key, prefix .. key)
        gone[#gone + 1] = key
    end
    return gone
end
local function taken(record) return #record + {ROW_BYTES - HEAD.size} end
"""
# KEYS, besides: done, then the lists.  ARGV: the prefix of lists, the time, the limit or -1,
# whether to replace, how long it is known; for each list its key, where to start, how many, the
# samples.
ADD = (
    COMMON
    + """
local told = redis.call('GET', KEYS[5])
if told then return told end
local at, placed = 6, {}
for i = 6, #KEYS do
    local list, key, start, n = KEYS[i], ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
    local before = 0
    if ARGV[4] == '1' then before = drop(key, list) end
    local last, size = tonumber(redis.call('HGET', KEYS[1], key) or 0), 0
    local gaps = redis.call('HLEN', list) ~= last
    if not gaps and last > start then start = last end
    local places = {}
    for j = at + 3, at + 2 + n do
        local place = string.format('%.0f', start)
        while gaps and redis.call('HEXISTS', list, place) == 1 do
            start = start + 1
            place = string.format('%.0f', start)
        end
        redis.call('HSET', list, place, ARGV[j])
        places[#places + 1] = place
        size = size + taken(ARGV[j])
        start = start + 1
    end
    if n > 0 then
        if start > last then redis.call('HSET', KEYS[1], key, string.format('%.0f', start)) end
        redis.call('HINCRBY', KEYS[2], key, size)
        redis.call('ZADD', KEYS[3], ARGV[2], key)
        redis.call('HINCRBY', KEYS[4], 'samples', n)
        redis.call('HINCRBY', KEYS[4], 'bytes', size)
    end
    placed[#placed + 1] = {before, places}
    at = at + 3 + n
end
if tonumber(ARGV[3]) >= 0 then evict(ARGV[1], tonumber(ARGV[3]), '(' .. ARGV[2], 1000000) end
local answer = cjson.encode(placed)
redis.call('SET', KEYS[5], answer, 'PX', ARGV[5])
return answer
"""
)
# ARGV: the keys; KEYS, besides: their lists.
REMOVE = (
    COMMON
    + """
local n = 0
for i, key in ipairs(ARGV) do if drop(key, KEYS[4 + i]) > 0 then n = n + 1 end end
return n
"""
)
# ARGV: the prefix of lists, the limit, how many keys at most.
PRUNE = COMMON + "return evict(ARGV[1], tonumber(ARGV[2]), '+inf', tonumber(ARGV[3]))"
# KEYS, besides: a list.  ARGV: its key, an index, the sample that is damaged.
DISCARD = (
    COMMON
    + """
if redis.call('HGET', KEYS[5], ARGV[2]) ~= ARGV[3] then return end
redis.call('HDEL', KEYS[5], ARGV[2])
redis.call('HINCRBY', KEYS[2], ARGV[1], -taken(ARGV[3]))
redis.call('HINCRBY', KEYS[4], 'bytes', -taken(ARGV[3]))
redis.call('HINCRBY', KEYS[4], 'samples', -1)
redis.call('HINCRBY', KEYS[4], 'corrupt', 1)
"""
)


class RedisCache(SampleStore):
    """Samples in Redis; `cacher.pipelines.store` says what that promises."""

    def __init__(self, url: str, *, prefix: str = "cacher", max_bytes: int | None = None) -> None:
        """Connect to a server.

        Args:
            url: ``redis://host:port/database``, or ``rediss://``, ``unix://``.
            prefix: Begins every key: several caches can share a database.
            max_bytes: What samples may take, about; beyond it the least recently used keys are
                removed.

        Raises:
            MissingExtraError: The client is not installed.
            StoreError: The server cannot be reached.
        """
        self._max_bytes = check_limit(max_bytes)
        self._prefix = f"{prefix}:{{samples}}:"
        self._keys = [self._prefix + part for part in ("ends", "bytes", "used", "totals")]
        server = RedisServer(url, "samples")
        self._redis, self._trouble = server.client, server.trouble
        self._add = self._redis.register_script(ADD)
        self._remove = self._redis.register_script(REMOVE)
        self._prune = self._redis.register_script(PRUNE)
        self._discard = self._redis.register_script(DISCARD)

    def close(self) -> None:
        """Close the connections; the next call opens them again."""
        with self._trouble("closed"):  # those in use are other threads'
            self._redis.connection_pool.disconnect(inuse_connections=False)

    # ---- samples

    def read(self, wants: Sequence[Want]) -> list[dict[int, object]]:
        """Return samples by index; see `SampleStore.read`."""
        names = [_bytes(check_key(want[0])) for want in wants]
        if not wants:
            return []
        ranges = [(max(0, low), min(high, MAX_INDEX)) for _, low, high in wants]
        now = time.time()
        with self._trouble("read"), self._redis.pipeline(transaction=True) as pipe:
            for name, (low, high) in zip(names, ranges, strict=True):
                if 0 < high - low <= FEW:
                    pipe.hmget(self._list(name), list(range(low, high)))
                else:
                    pipe.hgetall(self._list(name))
            if self._max_bytes is not None:
                pipe.zadd(self._keys[2], dict.fromkeys(names, now), xx=True, gt=True)
            told = pipe.execute()
        found: list[dict[int, object]] = []
        for name, (low, high), records in zip(names, ranges, told, strict=False):
            pairs: Iterable[tuple[int, bytes | None]]
            if isinstance(records, dict):
                pairs = ((int(place), record) for place, record in records.items())
            else:
                pairs = enumerate(records, low)
            found.append(
                dict(
                    self._sample(name, place, record)
                    for place, record in pairs
                    if record is not None
                    and low <= place < high
                    and self._whole(name, place, record)
                )
            )
        return found

    def _whole(self, name: bytes, place: int, record: bytes) -> bool:
        """Whether a sample is as it was stored; the place of one that is not is free again."""
        if _is_whole(name, record):
            return True
        with self._trouble("written"):
            self._discard(keys=[*self._keys, self._list(name)], args=[name, place, record])
        return False

    def _sample(self, name: bytes, place: int, record: bytes) -> tuple[int, object]:
        try:
            return place, decode(record[0], record[HEAD.size :])
        except ValueError as error:
            raise StoreError(f"sample {place} of {_text(name)!r}: {error}") from None

    def add(self, adds: Sequence[Add]) -> list[list[int]]:
        """Store samples by one script; see `SampleStore.add`."""
        if not adds:
            return []
        return [places for _, places in self._write(adds, replace=False)]

    def replace(self, key: str, samples: Sequence[object]) -> int:
        """Let these be the samples of a key; return how many there were."""
        return self._write([(key, 0, samples)], replace=True)[0][0]

    def _write(self, adds: Sequence[Add], *, replace: bool) -> list[tuple[int, list[int]]]:
        """Return for each how many samples there were, if they were replaced, and the indices."""
        limit = -1 if self._max_bytes is None else self._max_bytes
        keys, lists = [*self._keys, f"{self._prefix}done:{unique()}"], list[bytes]()
        told = [
            self._prefix + "list:",
            repr(time.time()),
            limit,
            int(replace),
            milliseconds(DONE_S),
        ]
        for key, start, samples in adds:
            name = _bytes(check_key(key))
            integer("the index of a sample", start, 0, MAX_INDEX - len(samples))
            lists.append(self._list(name))
            told += (name, start, len(samples), *(_record(name, *encode(each)) for each in samples))
        with self._trouble("written"):
            answer = json.loads(self._add(keys=[*keys, *lists], args=told))
        return [(int(before), [int(place) for place in places]) for before, places in answer]

    def remove(self, keys: Sequence[str]) -> int:
        """Remove all samples of keys; return how many of the keys there were."""
        names = [_bytes(check_key(key)) for key in dict.fromkeys(keys)]
        n = 0
        for start in range(0, len(names), PAGE):
            page = names[start : start + PAGE]
            with self._trouble("written"):
                lists = [self._list(name) for name in page]
                n += int(self._remove(keys=[*self._keys, *lists], args=page))
        return n

    def count(self, key: str) -> int:
        """Return how many samples a key has."""
        name = _bytes(check_key(key))
        with self._trouble("read"):
            return int(self._redis.hlen(self._list(name)))

    # ---- the whole store

    def prune(self, max_bytes: int) -> list[str]:
        """Remove the least recently used keys until the rest takes no more; return them."""
        limit = integer("max_bytes", max_bytes, 0, MAX_INDEX)
        gone: list[str] = []
        while True:
            with self._trouble("written"):
                page = self._prune(keys=self._keys, args=[self._prefix + "list:", limit, PAGE])
            gone += map(_text, page)
            if len(page) < PAGE:
                return gone

    def listed(self) -> Iterator[Listed]:
        """Yield all keys, the least recently used first."""
        with self._trouble("read"):
            used = self._redis.zrange(self._keys[2], 0, -1, withscores=True)
        for start in range(0, len(used), PAGE):
            page = used[start : start + PAGE]
            with self._trouble("read"), self._redis.pipeline(transaction=False) as pipe:
                for name, _ in page:
                    pipe.hlen(self._list(name))
                pipe.hmget(self._keys[1], [name for name, _ in page])
                *counts, sizes = pipe.execute()
            for (name, last), n, size in zip(page, counts, sizes, strict=True):
                if n:
                    yield Listed(_text(name), n, int(size or 0), float(last))

    def stats(self) -> dict[str, int]:
        """Return counts; see `SampleStore.stats`."""
        with self._trouble("read"), self._redis.pipeline(transaction=True) as pipe:
            pipe.zcard(self._keys[2])
            pipe.hmget(self._keys[3], ["samples", "bytes", "corrupt"])
            keys, totals = pipe.execute()
        samples, size, corrupt = (int(number or 0) for number in totals)
        return {
            "keys": int(keys), "samples": samples, "bytes": size, "recovered_bytes": 0,
            "corrupt_records": corrupt,
        }  # fmt: skip

    def check(self) -> list[str]:
        """Return the samples that are not as they were stored; it reads everything."""
        found = []
        for listed in self.listed():
            name = _bytes(listed.key)
            with self._trouble("read"):
                records = self._redis.hgetall(self._list(name))
            found += [
                f"sample {int(place)} of {listed.key!r} is not as it was stored"
                for place, record in records.items()
                if not _is_whole(name, record)
            ]
        return found

    def compact(self) -> None:
        """Nothing is done: Redis gives back by itself what was removed."""

    def _list(self, name: bytes) -> bytes:
        return f"{self._prefix}list:".encode() + name


def _record(name: bytes, kind: int, value: bytes) -> bytes:
    """Return a sample as it is stored; its index is not known yet."""
    return HEAD.pack(kind, checksum(name, 0, kind, value)) + value


def _is_whole(name: bytes, record: bytes) -> bool:
    if len(record) < HEAD.size:
        return False
    kind, total = HEAD.unpack_from(record)
    return bool(checksum(name, 0, kind, record[HEAD.size :]) == total)


def _bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogatepass")
