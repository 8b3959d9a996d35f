"""What can happen to samples in Redis: the server dies, evicts, answers too late, is damaged."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import redis

from cacher.errors import StoreError
from cacher.pipelines import redis as module
from cacher.pipelines.redis import RedisCache
from cacher.pipelines.store import MAX_INDEX
from tests.stores.conftest import RedisServer


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client
        client.flushall()


def test_damage_is_left_out(redis_url: str, client: redis.Redis) -> None:
    cache = RedisCache(redis_url)
    cache.add([("a", 0, ["0", "1", "2"]), ("b", 0, ["b"])])
    name = "cacher:{samples}:list:a"
    record = client.hget(name, "1")
    client.hset(name, "1", record[:-1] + b"?")
    client.hset(name, "2", b"x")
    assert len(cache.check()) == 2
    assert cache.read([("a", 0, 9), ("b", 0, 1)]) == [{0: "0"}, {0: "b"}]
    assert cache.stats()["corrupt_records"] == 2
    assert (cache.check(), cache.count("a"), cache.stats()["samples"]) == ([], 1, 2)
    assert cache.add([("a", 0, ["1", "2", "3"])]) == [[1, 2, 3]]
    cache.close()


def test_a_value_of_a_later_version_is_an_error(redis_url: str, client: redis.Redis) -> None:
    cache = RedisCache(redis_url)
    client.hset("cacher:{samples}:list:a", "0", module._record(b"a", 7, b"text"))
    with pytest.raises(StoreError, match="sample 0 of 'a'"):
        cache.samples("a")
    cache.close()


def test_what_the_server_evicts_is_not_there(redis_url: str, client: redis.Redis) -> None:
    cache = RedisCache(redis_url)
    cache.extend("a", ["0", "1", "2"])
    client.delete("cacher:{samples}:list:a")
    assert cache.samples("a") == []
    assert list(cache) == []
    assert cache.add([("a", 1, ["again"]), ("a", 0, ["x", "y"])]) == [[1], [0, 2]]
    cache.close()


def test_caches_share_a_database(redis_url: str, client: redis.Redis) -> None:
    one, two = RedisCache(redis_url), RedisCache(redis_url, prefix="other")
    one.extend("a", ["one"])
    assert "a" not in two
    assert two.extend("a", ["two"]) == 0
    assert one.clear() == 1
    assert two.samples("a") == ["two"]
    assert client.keys("*:list:*") == [b"other:{samples}:list:a"]
    one.close()
    two.close()


def test_a_write_that_is_sent_again_is_not_done_twice(
    redis_url: str, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the client does when the connection broke before the answer came."""
    cache = RedisCache(redis_url)
    cache.extend("a", ["first"])
    monkeypatch.setattr(module, "unique", lambda: "token")
    for _ in range(2):
        assert cache.add([("a", 0, ["second", "third"]), ("b", 0, [])]) == [[1, 2], []]
    assert cache.samples("a") == ["first", "second", "third"]
    assert 0 < client.pttl("cacher:{samples}:done:token") <= 1000 * module.DONE_S
    cache.close()


def test_the_server_dies_and_comes_back(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        cache = RedisCache(redis_server.url)
    assert caplog.text == "", "every write is on disk"
    cache.extend("a", ["b"])
    redis_server.kill()
    with pytest.raises(StoreError, match="cannot be read"):
        cache.samples("a")
    with pytest.raises(StoreError, match="cannot be written"):
        cache.extend("a", ["c"])
    redis_server.start()
    assert cache.extend("a", ["d"]) == 1
    assert cache.samples("a") == ["b", "d"]
    cache.close()
    with pytest.raises(StoreError, match="cannot be opened"):
        RedisCache("redis://127.0.0.1:1/0")


def test_far_indices(redis_url: str, client: redis.Redis) -> None:
    cache = RedisCache(redis_url)
    far = MAX_INDEX - 3
    assert cache.add([("a", far, ["x"]), ("a", 0, ["y"])]) == [[far], [0]]
    assert cache.read([("a", 0, MAX_INDEX)]) == [{0: "y", far: "x"}]
    assert client.exists("cacher:{samples}:ends")
    cache.close()
