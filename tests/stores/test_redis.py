"""What Redis adds to a store's promises: a server that dies, is full, or is not as durable."""

from __future__ import annotations

import subprocess
import sys

import pytest
import redis

from cacher import StoreError
from cacher.stores.base import Key
from cacher.stores.redis import RedisStore
from tests.stores.conftest import RedisServer
from tests.stores.test_stores import A, document, put, summary


def test_what_was_acknowledged_outlives_the_server(redis_server: RedisServer) -> None:
    store = RedisStore(redis_server.url)
    versions = {f"s{i}": put(store, Key("t", f"s{i}")) for i in range(50)}
    versions["s0"] = store.save(Key("t", "s0"), document(9), summary("s0"), versions["s0"])
    store.delete(Key("t", "s1"))
    redis_server.kill()
    for call in (
        lambda: store.load(A), lambda: store.version(A), lambda: put(store, A),
        lambda: store.delete(A), lambda: store.newest("t", 9, 0), lambda: store.family("t"),
        lambda: store.stats(), lambda: store.clean_up(1, 1), lambda: store.acquire(A, 1),
        lambda: store.touch(A),
    ):  # fmt: skip
        with pytest.raises(StoreError, match="states in Redis cannot be"):
            call()
    redis_server.start()
    del versions["s1"]
    assert store.newest("t", 100, 0)[1] == 49
    assert {name: store.version(Key("t", name)) for name in versions} == versions
    stored = store.load(Key("t", "s0"))
    assert stored is not None
    assert stored.data == document(9)
    store.close()


def test_a_full_server_is_reported_and_changes_nothing(redis_server: RedisServer) -> None:
    store = RedisStore(redis_server.url)
    version = put(store, A)
    with redis.Redis.from_url(redis_server.url) as client:
        client.config_set("maxmemory", "1")
        for _ in range(3):
            with pytest.raises(StoreError, match="maxmemory"):
                store.save(A, document(1), summary(), version)
            with pytest.raises(StoreError, match="maxmemory"):
                put(store, Key("", "b"))
        client.config_set("maxmemory", "0")
    stored = store.load(A)
    assert stored == (document(0), version)
    assert store.newest("", 9, 0)[1] == 1
    store.close()


def test_a_server_that_may_forget_is_named(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    RedisStore(redis_server.url).close()
    assert "does not put every write on disk" not in caplog.text
    with redis.Redis.from_url(redis_server.url) as client:
        client.config_set("appendfsync", "everysec")
    RedisStore(redis_server.url).close()
    assert "appendfsync everysec" in caplog.text


def test_services_share_a_database_under_prefixes(redis_url: str) -> None:
    one, two = (RedisStore(redis_url, prefix=prefix) for prefix in ("one", "two"))
    put(one, A)
    assert two.load(A) is None
    assert two.newest("", 9, 0) == ([], 0)
    assert one.delete(A)
    one.close()
    two.close()


def test_a_missing_client_is_one_sentence() -> None:
    code = """
import sys
sys.modules["redis"] = None
import cacher
from cacher.stores import open_store
try:
    open_store("redis://localhost", "")
except cacher.MissingExtraError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "states in Redis need its client: pip install 'cacher[redis]'\n"
