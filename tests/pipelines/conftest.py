"""Real stores of samples: a folder, a Redis server, and a dict."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from cacher.pipelines.redis import RedisCache
from cacher.pipelines.sqlite import Cache
from cacher.pipelines.store import SampleStore
from tests.stores.conftest import redis_server, redis_url

__all__ = ["redis_server", "redis_url"]

OpenSamples = Callable[..., SampleStore]


@pytest.fixture(params=["sqlite", "redis"])
def samples_at(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where there is a store, at first an empty one."""
    if request.param == "sqlite":
        folder = tmp_path / "samples"
        folder.mkdir()
        yield str(folder)
        return
    url = request.getfixturevalue("redis_url")
    yield url
    with redis.Redis.from_url(url) as client:
        client.flushall()


@pytest.fixture
def open_samples(samples_at: str) -> Iterator[OpenSamples]:
    """Opens the same store any number of times, as several processes would."""
    opened: list[SampleStore] = []

    def open_one(max_bytes: int | None = None) -> SampleStore:
        kind = RedisCache if samples_at.startswith("redis:") else Cache
        opened.append(kind(samples_at, max_bytes=max_bytes))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def samples(open_samples: OpenSamples) -> SampleStore:
    return open_samples()
