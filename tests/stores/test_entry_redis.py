"""What Redis adds to the promises: a server that dies, sleeps, is full, or is not ours."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
import redis

from cacher import StoreError
from cacher.semantic.redis import RedisEntryStore
from cacher.semantic.store import EntryStore
from cacher.stores import redis_server as server_module
from tests.stores.conftest import RedisServer
from tests.stores.mirror import Mirror, contents, record


def calls(mirror: Mirror) -> list[Callable[[], object]]:
    store: EntryStore = mirror.store
    return [
        lambda: mirror.put(record(99)), lambda: store.changes("", 0), mirror.sync,
        lambda: store.use("", {"e-1": (1, 1.0)}), lambda: store.hits(""),
        lambda: store.claim("", "a", 1), lambda: store.release("", "a", "token"),
    ]  # fmt: skip


def test_what_was_acknowledged_outlives_the_server(redis_server: RedisServer) -> None:
    store = RedisEntryStore(redis_server.url)
    mirror = Mirror(store, bound=30)
    for n in range(0, 50, 5):
        mirror.put(*[record(i) for i in range(n, n + 5)])
    store.use("", {record(40).entry.entry_id: (3, 5.0)})
    redis_server.kill()
    for call in calls(mirror):
        with pytest.raises(StoreError, match="remembered answers in Redis cannot be"):
            call()
    redis_server.start()
    assert contents(store) == [record(n) for n in range(20, 50)]
    assert store.hits("") == {record(40).entry.entry_id: 3}
    assert not mirror.sync().whole
    mirror.put(record(50))
    assert contents(store) == [record(n) for n in range(21, 51)]
    store.close()


def test_a_server_asleep_is_not_waited_for(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "TIMEOUT_S", 0.2)
    store = RedisEntryStore(redis_server.url)
    mirror = Mirror(store)
    mirror.put(record(1))
    os.kill(redis_server.process.pid, signal.SIGSTOP)
    for call in calls(mirror):
        with pytest.raises(StoreError, match="cannot be"):
            call()
    os.kill(redis_server.process.pid, signal.SIGCONT)
    mirror.put(record(2))
    found = [each.entry.query for each in contents(store)]
    assert found in (["query 1", "query 2"], ["query 1", "query 99", "query 2"])  # see promise 1
    store.close()


def test_a_full_server_is_reported_and_changes_nothing(redis_server: RedisServer) -> None:
    store = RedisEntryStore(redis_server.url)
    mirror = Mirror(store)
    mirror.put(record(1), record(2))
    with redis.Redis.from_url(redis_server.url) as client:
        client.config_set("maxmemory", "1")
        for _ in range(3):
            with pytest.raises(StoreError, match="maxmemory"):
                mirror.put(record(1, "query 2"), *[record(n) for n in range(3, 100)])
        assert contents(store) == [record(1), record(2)]
        mirror.remove(record(1).entry.entry_id)
        client.config_set("maxmemory", "0")
    assert contents(store) == [record(2)]
    mirror.put(record(3))
    assert contents(store) == list(mirror.records.values())
    store.close()


def test_a_writer_that_dies_while_others_wait_is_forgotten(redis_server: RedisServer) -> None:
    store = RedisEntryStore(redis_server.url)
    mirror = Mirror(store)
    mirror.put(record(1))
    with redis.Redis.from_url(redis_server.url) as client:
        client.set("cacher:{semantic:}:writer", "another's", px=200)
        mirror.put(record(2))
        assert not client.exists("cacher:{semantic:}:writer")
    assert contents(store) == [record(1), record(2)]
    store.close()


def test_what_is_not_ours_is_refused(redis_server: RedisServer) -> None:
    store = RedisEntryStore(redis_server.url)
    mirror = Mirror(store)
    mirror.put(record(1))
    name = "cacher:{semantic:}:"
    with redis.Redis.from_url(redis_server.url) as client:
        (row,) = client.hkeys(name + "entries")
        true = client.hget(name + "entries", row)
        for wrong in (
            b"",
            b"[]",
            b"null",
            b"{}",
            b"\xff",
            true[:-1],
            true.replace(b"1001.0", b'"1"'),
        ):
            client.hset(name + "entries", row, wrong)
            with pytest.raises(StoreError, match="remembered answers in Redis cannot be read"):
                store.changes("", 0)
        client.hset(name + "entries", row, true)
        assert contents(store) == [record(1)]
        client.hset(name + "head", "revision", "many")
        for call in (lambda: store.changes("", 0), lambda: mirror.put(record(2))):
            with pytest.raises(StoreError):
                call()
        client.delete(name + "head")
        client.set(name + "head", "text")
        with pytest.raises(StoreError, match="WRONGTYPE"):
            store.changes("", 0)
    store.close()


def test_services_share_a_database_under_prefixes(redis_url: str) -> None:
    one, two = (RedisEntryStore(redis_url, prefix=prefix) for prefix in ("one", "two"))
    Mirror(one).put(record(1))
    assert one.claim("", "a", 60)
    assert contents(two) == []
    assert two.claim("", "a", 60)
    with redis.Redis.from_url(redis_url) as client:
        assert {key.partition(b":")[0] for key in client.scan_iter()} == {b"one", b"two"}
        client.flushall()
    one.close()
    two.close()
