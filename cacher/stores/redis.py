"""States in Redis: for processes on several machines.

Keys, under a prefix (``cacher``), ``T`` a tenant and ``I`` a state's id; neither holds a colon::

    cacher:state:T:I   hash   data, version, summary (JSON)
    cacher:newest:T    zset   ids by the time they were created
    cacher:used        zset   "T:I" by the time of their last use
    cacher:gone:T      hash   id -> summary of a deleted state
    cacher:lease:T:I   string token of the holder, expires by itself
    cacher:off:T:I     string token of a holder that is to stop, expires by itself

Every change is one script, which Redis runs alone: the version is compared and the document
replaced in one step.  How durable a state is when `RedisStore.save` returns is the server's
configuration: ``appendonly yes`` and ``appendfsync always`` keep the promise of the files.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from typing import Any

from cacher.errors import StateExistsError
from cacher.stores.base import (
    MAX_TOMBSTONES,
    ChangedMeanwhileError,
    Key,
    Lease,
    StateStore,
    Stored,
    StoredFile,
    StoreStats,
    Summary,
    unique,
)
from cacher.stores.redis_server import RELEASE, RedisServer, milliseconds

SAVE = """
local there = redis.call('HGET', KEYS[1], 'version')
if ARGV[1] == '' then
    if there then return 'exists' end
elseif there ~= ARGV[1] then
    return 'changed'
end
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'data', ARGV[3], 'summary', ARGV[4])
redis.call('ZADD', KEYS[2], ARGV[5], ARGV[6])
redis.call('ZADD', KEYS[3], ARGV[7], ARGV[8])
redis.call('HDEL', KEYS[4], ARGV[6])
return 'saved'
"""
# Removes a state that was last used before ARGV[3] and that nobody holds a lease of.
REMOVE = """
local used = redis.call('ZSCORE', KEYS[3], ARGV[2])
if ARGV[3] ~= '' then
    if not used or tonumber(used) > tonumber(ARGV[3]) then return 0 end
    if redis.call('EXISTS', KEYS[5]) == 1 then return 0 end
end
local summary = redis.call('HGET', KEYS[1], 'summary')
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[2])
if not summary then return 0 end
redis.call('DEL', KEYS[1])
if redis.call('HLEN', KEYS[4]) >= tonumber(ARGV[4]) then
    redis.call('HDEL', KEYS[4], redis.call('HRANDFIELD', KEYS[4]))
end
redis.call('HSET', KEYS[4], ARGV[1], summary)
return 1
"""
RENEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""
CALL_OFF = """
local token = redis.call('GET', KEYS[1])
if not token then return 0 end
redis.call('SET', KEYS[2], token, 'EX', 60)
return 1
"""

PAGE = 500  # summaries asked for at once


class RedisStore(StateStore):
    """States in Redis; `cacher.stores.base` says what that promises."""

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
        server = RedisServer(url, "states")
        self._redis, self._trouble = server.client, server.trouble
        self._save = self._redis.register_script(SAVE)
        self._remove = self._redis.register_script(REMOVE)
        self._renew = self._redis.register_script(RENEW)
        self._release = self._redis.register_script(RELEASE)
        self._call_off = self._redis.register_script(CALL_OFF)

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    # ---- documents

    def load(self, key: Key) -> Stored | None:
        """Return the document and its version; None when there is none."""
        with self._trouble("read"):
            data, version = self._redis.hmget(self._state(key), ["data", "version"])
        return None if data is None or version is None else Stored(data, version.decode())

    def version(self, key: Key) -> str | None:
        """Return the version of the document, without reading it."""
        with self._trouble("read"):
            version: bytes | None = self._redis.hget(self._state(key), "version")
        return None if version is None else version.decode()

    def save(self, key: Key, data: bytes, summary: Summary, expected: str | None) -> str:
        """Write a document and return its version; see `StateStore.save`."""
        version = unique()
        with self._trouble("written"):
            outcome = self._save(
                keys=self._keys(key)[:4],
                args=[
                    expected or "", version, data, json.dumps(asdict(summary)),
                    repr(summary.created_at), key.state_id, repr(time.time()), _member(key),
                ],
            )  # fmt: skip
        if outcome == b"exists":
            raise StateExistsError(f"there is a state {key.state_id} already")
        if outcome == b"changed":
            raise ChangedMeanwhileError(key)
        return version

    def delete(self, key: Key) -> bool:
        """Remove a document; false when there was none."""
        with self._trouble("removed"):
            return self._removed(key, None)

    def touch(self, key: Key) -> None:
        """Note that the state is used: its age begins anew."""
        with self._trouble("touched"):
            self._redis.zadd(self._name("used"), {_member(key): time.time()}, xx=True)

    # ---- lists

    def newest(self, tenant: str, limit: int, offset: int) -> tuple[list[Summary], int]:
        """Return summaries of a tenant's states, newest first, and how many states there are."""
        with self._trouble("listed"):
            name = self._name("newest", tenant)
            ids = self._redis.zrevrange(name, offset, offset + limit - 1) if limit else []
            return self._summaries(tenant, ids), self._redis.zcard(name)

    def family(self, tenant: str) -> list[Summary]:
        """Return summaries of a tenant's states and of deleted ones, oldest first."""
        with self._trouble("listed"):
            ids = self._redis.zrange(self._name("newest", tenant), 0, -1)
            live = self._summaries(tenant, ids)
            gone = self._redis.hvals(self._name("gone", tenant))
        dead = [replace(_summary(text), deleted=True) for text in gone]
        return sorted(live + dead, key=lambda summary: (summary.created_at, summary.state_id))

    def _summaries(self, tenant: str, ids: list[bytes]) -> list[Summary]:
        found: list[Summary] = []
        for start in range(0, len(ids), PAGE):
            with self._redis.pipeline(transaction=False) as pipe:
                for state_id in ids[start : start + PAGE]:
                    pipe.hget(self._state(Key(tenant, state_id.decode())), "summary")
                found += [_summary(text) for text in pipe.execute() if text is not None]
        return found

    def stats(self) -> StoreStats:
        """Return how much is stored."""
        used = self._name("used")
        with self._trouble("listed"):
            members = self._redis.zrange(used, 0, -1, withscores=True)
            size = 0
            for start in range(0, len(members), PAGE):
                with self._redis.pipeline(transaction=False) as pipe:
                    for member, _score in members[start : start + PAGE]:
                        pipe.hstrlen(self._state(_key(member)), "data")
                    size += sum(pipe.execute())
        if not members:
            return StoreStats(0, 0, None, None)
        now = time.time()
        ends = [
            StoredFile(f"{_key(member).state_id}.json", max(0.0, now - score))
            for member, score in (members[0], members[-1])
        ]
        return StoreStats(len(members), size, *ends)

    def clean_up(self, max_age_s: float | None, max_states: int | None) -> list[Key]:
        """Remove states that were not used for long, and the oldest beyond a number."""
        used = self._name("used")
        now = time.time()
        with self._trouble("cleaned up"):
            members: list[bytes] = []
            if max_age_s is not None:
                members += self._redis.zrangebyscore(used, "-inf", now - max_age_s)
            if max_states is not None:
                surplus = self._redis.zcard(used) - max_states
                members += self._redis.zrange(used, 0, surplus - 1) if surplus > 0 else []
            keys = [_key(member) for member in dict.fromkeys(members)]
            return [key for key in keys if self._removed(key, now)]

    def _removed(self, key: Key, unused_since: float | None) -> bool:
        since = "" if unused_since is None else repr(unused_since)
        args = [key.state_id, _member(key), since, MAX_TOMBSTONES]
        return bool(self._remove(keys=self._keys(key), args=args))

    # ---- leases

    def acquire(self, key: Key, seconds: float) -> Lease | None:
        """Return a lease for that long, or None while another holds one."""
        lease = Lease(key, unique())
        with self._trouble("leased"):
            name, px = self._name("lease", *key), milliseconds(seconds)
            return lease if self._redis.set(name, lease.token, nx=True, px=px) else None

    def renew(self, lease: Lease, seconds: float) -> bool:
        """Let a lease run for that long from now; false when it had run out and was lost."""
        with self._trouble("leased"):
            name = self._name("lease", *lease.key)
            return bool(self._renew(keys=[name], args=[lease.token, milliseconds(seconds)]))

    def release(self, lease: Lease) -> None:
        """Give a lease back; no error when it had run out."""
        with self._trouble("leased"):
            self._release(keys=[self._name("lease", *lease.key)], args=[lease.token])

    def call_off(self, key: Key) -> bool:
        """Ask the holder of a lease to stop what it does; false when nobody holds one."""
        with self._trouble("leased"):
            return bool(self._call_off(keys=[self._name("lease", *key), self._name("off", *key)]))

    def is_called_off(self, lease: Lease) -> bool:
        """Whether somebody asked the holder of this lease to stop."""
        with self._trouble("leased"):
            named: bytes | None = self._redis.get(self._name("off", *lease.key))
        return named is not None and named.decode() == lease.token

    # ---- names

    def _name(self, *parts: str) -> str:
        return ":".join((self._prefix, *parts))

    def _state(self, key: Key) -> str:
        return self._name("state", *key)

    def _keys(self, key: Key) -> list[str]:
        return [
            self._state(key), self._name("newest", key.tenant), self._name("used"),
            self._name("gone", key.tenant), self._name("lease", *key),
        ]  # fmt: skip


def _member(key: Key) -> str:
    return ":".join(key)


def _key(member: bytes) -> Key:
    tenant, _, state_id = member.decode().partition(":")
    return Key(tenant, state_id)


def _summary(text: bytes) -> Summary:
    values: dict[str, Any] = json.loads(text)
    parents = values["merged_from"]
    return Summary(**{**values, "merged_from": None if parents is None else tuple(parents)})
