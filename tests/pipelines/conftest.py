"""Real stores of samples: a folder, and a Redis server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cacher.pipelines.sqlite import Cache
from cacher.pipelines.store import SampleStore

OpenSamples = Callable[..., SampleStore]


@pytest.fixture(params=["sqlite"])
def open_samples(tmp_path: Path) -> Iterator[OpenSamples]:
    """Opens the same store, at first empty, any number of times, as several processes would."""
    opened: list[SampleStore] = []

    def open_one(**options: int) -> SampleStore:
        opened.append(Cache(tmp_path / "samples", **options))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def samples(open_samples: OpenSamples) -> SampleStore:
    return open_samples()
