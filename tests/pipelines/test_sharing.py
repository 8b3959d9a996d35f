"""Several pipelines on one folder, as in several processes: what one is buying, others wait for."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cacher.pipelines import Cache, LocalAPI, OnlineAPI
from tests.pipelines.models import Grouped, Single, ask, together

PROGRAM = """
import asyncio, sys
from cacher.pipelines import Cache, OnlineAPI
from cacher.typedefs import Request, Response

class Model:
    async def request(self, request):
        print("asked", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        return Response([sys.argv[2]])

async def main():
    async with OnlineAPI(Model(), Cache(sys.argv[1]), batch_size=1, timeout=0) as api:
        asked = Request(prompt="p", n=1, request_id="1", namespace="a")
        answer = await api.request(asked)
        print(*answer.data, *answer.cached, flush=True)

asyncio.run(main())
"""


@pytest.fixture
def caches(tmp_path: Path) -> Iterator[list[Cache]]:
    """The same folder, opened twice."""
    with ExitStack() as stack:
        yield [stack.enter_context(Cache(tmp_path / "shared")) for _ in range(2)]


def online(model: Any, cache: Cache) -> OnlineAPI:
    return OnlineAPI(model, cache, 8, timeout=0)


def start(folder: Path, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder), name],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_two_processes_that_miss_a_key_at_once_pay_once(tmp_path: Path) -> None:
    first = start(tmp_path, "first")
    assert first.stdout is not None
    assert first.stdout.readline() == "asked\n"
    second = start(tmp_path, "second")
    assert first.communicate("\n")[0] == "first False\n"
    assert second.communicate()[0] == "first True\n"
    with Cache(tmp_path) as cache:
        assert [cache.count(key) for key in cache] == [1]


def test_a_process_that_is_killed_while_it_buys_keeps_nobody_waiting(tmp_path: Path) -> None:
    first = start(tmp_path, "first")
    assert first.stdout is not None
    assert first.stdout.readline() == "asked\n"
    second = start(tmp_path, "second")
    first.kill()
    first.communicate()
    assert second.communicate("\n")[0] == "asked\nsecond False\n"


@pytest.mark.parametrize("kind", ["online", "local"])
def test_a_prompt_is_paid_once_whoever_asks(caches: list[Cache], kind: str) -> None:
    async def main() -> None:
        models = [Single(), Single()] if kind == "online" else [Grouped(), Grouped()]
        gate = models[0].gate = models[1].gate = asyncio.Event()
        apis = [
            online(model, cache) if kind == "online" else LocalAPI(model, cache, 8, timeout=0)
            for model, cache in zip(models, caches, strict=True)
        ]
        asked = [ask(f"p{i}", id=str(i)) for i in range(20)]
        both = [asyncio.create_task(together(api, *asked)) for api in apis]
        await asyncio.sleep(0.05)
        gate.set()
        first, second = await asyncio.gather(*both)
        assert [answer.data for answer in first] == [answer.data for answer in second]
        assert models[0].samples + models[1].samples == 20
        for one, other in zip(first, second, strict=True):
            assert sorted(one.cached + other.cached) == [False, True]
        for api in apis:
            await api.cleanup()

    asyncio.run(main())


def test_only_what_the_other_does_not_buy_is_bought(caches: list[Cache]) -> None:
    async def main() -> None:
        models = [Single(), Single()]
        gate = models[0].gate = asyncio.Event()
        apis = [online(model, cache) for model, cache in zip(models, caches, strict=True)]
        first = asyncio.create_task(apis[0].request(ask(n=2)))
        await models[0].called.wait()
        second = asyncio.create_task(apis[1].request(ask(n=3)))
        await asyncio.sleep(0.05)
        assert models[1].calls == []
        gate.set()
        assert (await first).data == ["p 0", "p 1"]
        answer = await second
        assert answer.data == ["p 0", "p 1", "p 0"]  # each model counts for itself
        assert answer.cached == [True, True, False]
        assert models[1].counts == [1]

    asyncio.run(main())


def test_what_another_fails_to_buy_is_bought(caches: list[Cache]) -> None:
    async def main() -> None:
        models = [Single(), Single()]
        models[1].raising = None
        gate = models[0].gate = asyncio.Event()
        apis = [online(model, cache) for model, cache in zip(models, caches, strict=True)]
        first = asyncio.create_task(apis[0].request(ask("bad")))
        await models[0].called.wait()
        second = asyncio.create_task(apis[1].request(ask("bad")))
        await asyncio.sleep(0.05)
        gate.set()
        with pytest.raises(ValueError, match="no"):
            await first
        assert (await second).cached == [False]

    asyncio.run(main())


def test_who_is_cancelled_while_another_buys_buys_nothing(caches: list[Cache]) -> None:
    async def main() -> None:
        models = [Single(), Single()]
        gate = models[0].gate = asyncio.Event()
        apis = [online(model, cache) for model, cache in zip(models, caches, strict=True)]
        first = asyncio.create_task(apis[0].request(ask()))
        await models[0].called.wait()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(apis[1].request(ask()), 0.05)
        await apis[1].cleanup()
        assert models[1].calls == []
        gate.set()
        assert (await first).data == ["p 0"]

    asyncio.run(main())


def test_who_waits_too_long_for_another_buys(
    caches: list[Cache], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cacher.pipelines.purchasing.PAUSES", 2)

    async def main() -> None:
        models = [Single(), Single()]
        gate = models[0].gate = asyncio.Event()
        apis = [online(model, cache) for model, cache in zip(models, caches, strict=True)]
        first = asyncio.create_task(apis[0].request(ask()))
        await models[0].called.wait()
        assert (await apis[1].request(ask())).cached == [False]
        gate.set()
        answer = await first
        assert (answer.data, answer.cached) == (["p 0"], [True])

    asyncio.run(main())
