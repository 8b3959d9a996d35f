"""Pipelines over every kind of store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cacher.errors import StoreError
from cacher.pipelines import Cache, OnlineAPI
from cacher.typedefs import Request, Response
from tests.pipelines.conftest import OpenSamples


class Model:
    """Numbers its samples; with a gate it waits before it answers."""

    def __init__(self, name: str, gate: Callable[[], Any] | None = None) -> None:
        self.name, self.gate, self.made = name, gate, 0

    async def request(self, request: Request) -> Response:
        first, self.made = self.made, self.made + request.n
        if self.gate is not None:
            await self.gate()
        return Response([f"{self.name} {i}" for i in range(first, self.made)])


def api(model: Model, cache: Any, **options: Any) -> OnlineAPI:
    return OnlineAPI(model, cache, batch_size=4, timeout=0.01, **options)


def ask(prompt: str, n: int = 1, namespace: str = "a") -> Request:
    return Request(prompt=prompt, n=n, request_id="1", namespace=namespace)


def test_95_two_who_miss_one_key_agree(
    open_samples: OpenSamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each asks its model before the other has stored anything: none waits for the other."""
    monkeypatch.setattr("cacher.pipelines.purchasing.PAUSES", 0)

    async def main() -> None:
        waiting, both = 0, asyncio.Event()

        async def gate() -> None:
            nonlocal waiting
            waiting += 1
            if waiting == 2:
                both.set()
            await both.wait()

        caches = open_samples(), open_samples()
        one, two = (api(Model(name, gate), cache) for name, cache in zip("xy", caches, strict=True))
        answers = await asyncio.gather(one.request(ask("p")), two.request(ask("p")))
        assert answers[0].data == answers[1].data
        assert sorted(str(flag) for answer in answers for flag in answer.cached) == [
            "False",
            "True",
        ]
        (key,) = caches[0]
        assert sorted(caches[0].samples(key)) == ["x 0", "y 0"]  # type: ignore[type-var]
        third = await one.request(ask("p"))
        assert third.data == [caches[1].samples(key)[1]]
        await asyncio.gather(one.cleanup(), two.cleanup())

    asyncio.run(main())


def test_96_what_another_added_is_used(open_samples: OpenSamples) -> None:
    async def main() -> None:
        model = Model("x")
        async with api(model, open_samples()) as running, api(Model("y"), open_samples()) as other:
            assert (await running.request(ask("p"))).data == ["x 0"]
            assert (await other.request(ask("p", 3))).data == ["x 0", "y 0", "y 1"]
            assert (await running.request(ask("p", 2))).data == ["y 0", "y 1"]
            assert model.made == 1

    asyncio.run(main())


def test_100_a_store_that_cannot_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with api(Model("x"), Cache(tmp_path)) as first:
            await first.request(ask("old"))
        model, cache = Model("y"), Cache(tmp_path, readonly=True)
        async with api(model, cache) as reading:
            assert (await reading.request(ask("old"))).data == ["x 0"]
            for namespace in "ab":
                assert (await reading.request(ask("new", namespace=namespace))).data == ["y 0"]
            assert (model.made, reading.stats()["store_errors"]) == (1, 1)
        async with api(model, cache, on_store_error="raise") as strict:
            assert (await strict.request(ask("old"))).data == ["x 0"]
            for _ in range(2):
                with pytest.raises(StoreError, match="only read"):
                    await strict.request(ask("new"))

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert "only read" in caplog.text


def test_98_a_sample_that_cannot_be_stored_is_delivered(tmp_path: Path) -> None:
    class Strange(Model):
        async def request(self, request: Request) -> Response:
            return Response([object()] * request.n)

    async def main() -> None:
        async with api(Strange(""), Cache(tmp_path)) as pipeline:
            data = (await pipeline.request(ask("p"))).data
            assert type(data[0]) is object
            assert pipeline.stats()["store_errors"] == 1
            assert (await pipeline.request(ask("p", namespace="b"))).cached == [True]

    asyncio.run(main())
