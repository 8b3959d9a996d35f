"""The checklist of the pipelines, lines 81 to 90: cancelling, closing, event loops, threads."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from cacher.errors import PipelineClosed
from cacher.pipelines import AsyncBatcher, AsyncCacher, Cache, LocalAPI, OnlineAPI, OrderedLocalAPI
from cacher.typedefs import Batch
from tests.pipelines.models import Counting, Grouped, Single, ask, together

Task = asyncio.Task[Any]


def assembled(name: str, model: Any, size: int = 4, timeout: float | None = 0) -> Any:
    return {
        "batcher": lambda: AsyncBatcher(model, size, timeout),
        "online": lambda: OnlineAPI(model, {}, size, timeout=timeout),
        "local": lambda: LocalAPI(model, {}, size, timeout=timeout),
        "ordered": lambda: OrderedLocalAPI(model, {}, size, size, timeout=timeout),
    }[name]()


every_kind = pytest.mark.parametrize("kind", ["batcher", "online", "local", "ordered"])
cached_kind = pytest.mark.parametrize("kind", ["online", "local", "ordered"])


def started(pipeline: Any, *requests: Any) -> list[Task]:
    return [asyncio.ensure_future(pipeline.request(request)) for request in requests]


async def cancelled(*tasks: Task) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)


async def a_while() -> None:
    """Let everything happen that does not wait for anything."""
    for _ in range(20):
        await asyncio.sleep(0)


@every_kind
def test_81_what_is_cancelled_in_the_queue_reaches_no_model(kind: str) -> None:
    async def main() -> None:
        model = Grouped()
        api = assembled(kind, model, 4, timeout=None)
        gone, one, two = started(api, ask("gone", id="0"), ask("one"), ask("two", id="2"))
        await a_while()
        assert api.stats()["queued"] == 3
        await cancelled(gone)
        assert api.stats()["queued"] == 2
        three, four = await together(api, ask("three", id="3"), ask("four", id="4"))
        assert [(await task).data for task in (one, two)] == [["one 0"], ["two 0"]]
        assert three.data + four.data == ["three 0", "four 0"]
        assert sorted(model.prompts) == ["four", "one", "three", "two"]

    asyncio.run(main())


@cached_kind
def test_82_what_is_cancelled_at_the_model_goes_to_the_next(kind: str) -> None:
    async def main() -> None:
        model = Grouped()
        model.gate = asyncio.Event()
        api = assembled(kind, model)
        (gone,) = started(api, ask(n=2))
        await model.called.wait()
        await cancelled(gone)
        (after,) = started(api, ask(n=1, id="2"))
        await a_while()
        model.gate.set()
        answer = await after
        assert (answer.data, answer.cached) == (["p 0"], [True])
        assert sum(model.counts) == 2
        assert (await api.request(ask(id="3"))).data == ["p 1"]

    asyncio.run(main())


@cached_kind
@pytest.mark.parametrize("at_the_model", [False, True])
def test_83_the_others_of_a_merged_group_do_not_notice(kind: str, at_the_model: bool) -> None:
    async def main() -> None:
        model = Grouped()
        model.gate = asyncio.Event()
        api = assembled(kind, model, 6)
        tasks = started(api, *(ask(id=name, n=2) for name in "abc"))
        if at_the_model:
            await model.called.wait()
        else:
            await a_while()
        await cancelled(tasks[1])
        model.gate.set()
        assert [(await task).data for task in tasks[::2]] == [["p 0", "p 1"], ["p 4", "p 5"]]
        assert (await api.request(ask(id="d", n=3))).data == ["p 2", "p 3", "p 6"]

    asyncio.run(main())


@every_kind
def test_84_a_limit_around_a_request(kind: str) -> None:
    async def main() -> None:
        model = Single()
        model.gate = asyncio.Event()
        api = assembled(kind, model)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(api.request(ask("slow")), 0.01)
        model.gate.set()
        assert (await api.request(ask("quick"))).data == ["quick 0"]

    asyncio.run(main())


@every_kind
def test_85_88_closing_sends_what_waits(kind: str) -> None:
    async def main() -> None:
        api = assembled(kind, Grouped(), 4, timeout=600)
        tasks = started(api, ask(id="1"), ask("q", id="2"))
        await asyncio.sleep(0)
        await asyncio.wait_for(asyncio.gather(api.cleanup(), api.cleanup()), 10)
        await asyncio.wait_for(api.cleanup(), 10)
        assert [(await task).data for task in tasks] == [["p 0"], ["q 0"]]

    asyncio.run(main())


@every_kind
def test_86_closing_may_cancel_what_waits(kind: str) -> None:
    async def main() -> None:
        model = Grouped()
        api = assembled(kind, model, 4, timeout=600)
        tasks = started(api, ask(id="1"), ask("q", id="2"))
        await a_while()
        await asyncio.wait_for(api.cleanup(cancel=True), 10)
        await asyncio.wait(tasks)
        assert all(task.cancelled() for task in tasks)
        assert model.calls == []
        assert api.stats()["cancelled"] == 2

    asyncio.run(main())


@every_kind
def test_87_a_closed_pipeline_takes_no_request(kind: str) -> None:
    async def main() -> None:
        async with assembled(kind, Grouped()) as api:
            pass
        with pytest.raises(PipelineClosed, match="was closed and takes no requests"):
            await api.request(ask())
        with pytest.raises(RuntimeError):
            await api.batch_request(Batch([ask()]))

    asyncio.run(main())


def test_89_the_worker_may_be_cancelled() -> None:
    async def main() -> None:
        model = Grouped()
        model.gate = asyncio.Event()
        api = OnlineAPI(model, {}, 1)
        tasks = started(api, ask("one", id="1"), ask("two", id="2"))
        await model.called.wait()
        assert api.batcher.worker_task is not None
        api.batcher.worker_task.cancel()
        await asyncio.wait(tasks)
        assert all(task.cancelled() for task in tasks)
        model.gate.set()
        assert (await api.request(ask("three", id="3"))).data == ["three 0"]
        assert api.stats()["running"] == api.stats()["queued"] == 0

    asyncio.run(main())


class Minimal:
    """The least that is a cache."""

    def __init__(self) -> None:
        self.lists: dict[str, list[Any]] = {}
        self.closed = 0

    def get(self, key: str, default: Any = None) -> Any:
        return self.lists.get(key, default)

    def set(self, key: str, value: list[Any]) -> None:
        self.lists[key] = value

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("cache", ["minimal", "folder", "diskcache"])
def test_90_what_can_be_the_cache(cache: str, tmp_path: Path) -> None:
    def opened() -> Any:
        if cache == "folder":
            return Cache(tmp_path)
        if cache == "diskcache":
            return pytest.importorskip("diskcache").Cache(tmp_path)
        return minimal

    async def run(model: Counting) -> list[str]:
        async with OnlineAPI(model, opened(), 4, timeout=0) as api:
            await api.request(ask(n=2))
            answer = await api.request(ask("p", n=2, ns="b"))
            assert answer.cached == [True, True]
            return list(answer.data)

    minimal = Minimal()
    assert asyncio.run(run(Single())) == asyncio.run(run(Single())) == ["p 0", "p 1"]
    if cache == "minimal":
        assert minimal.closed == 2


# ---- beyond the lines


def test_the_queued_rest_of_a_cancelled_request_is_not_bought() -> None:
    async def main() -> None:
        model = Grouped()
        model.gate = asyncio.Event()
        api = LocalAPI(model, {}, 2, timeout=600)
        (gone,) = started(api, ask(n=6))
        await model.called.wait()
        (other,) = started(api, ask(ns="b", n=3))  # waits for the first three of the six
        await a_while()
        await cancelled(gone)
        assert api.stats()["queued"] == 1
        model.gate.set()
        api.batcher.hurry()
        assert (await other).data == ["p 0", "p 1", "p 2"]
        assert sum(model.counts) == 3
        assert (await api.request(ask(id="2", n=4))).cached == [True, True, True, False]

    asyncio.run(main())


def test_a_model_that_hangs_holds_up_only_those_who_wait_for_it() -> None:
    class Hanging(Single):
        async def request(self, request: Any) -> Any:
            if request.prompt == "hang":
                await asyncio.Event().wait()
            return await super().request(request)

    async def main() -> None:
        api = OnlineAPI(Hanging(), {}, 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(api.request(ask("hang")), 0.01)
        assert (await api.request(ask("good"))).data == ["good 0"]

    asyncio.run(main())


@every_kind
def test_55_89_a_second_event_loop(kind: str) -> None:
    model = Single()
    api = assembled(kind, model)
    for i in range(2):
        assert asyncio.run(api.request(ask(id=str(i)))).data == [f"p {i}"]

    async def left_behind() -> None:
        model.gate = asyncio.Event()
        model.called.clear()
        started(api, ask(id="left", n=2))
        await model.called.wait()  # and the event loop ends while the model works

    asyncio.run(left_behind())
    model.gate = None
    answer = asyncio.run(api.request(ask(id="last")))
    assert answer.data == ["p 2"]
    assert api.stats()["queued"] == api.stats()["running"] == 0


def test_an_event_loop_that_was_stopped_is_left() -> None:
    model = Single()
    api = OnlineAPI(model, {}, 4, timeout=0)
    loop = asyncio.new_event_loop()
    task = loop.create_task(api.request(ask()))
    model.gate = asyncio.Event()
    loop.run_until_complete(model.called.wait())
    gate, model.gate = model.gate, None
    assert asyncio.run(api.request(ask(id="2"))).data == ["p 0"]
    gate.set()
    task.cancel()
    loop.run_until_complete(asyncio.wait([task]))
    assert asyncio.run(api.request(ask(id="3"))).data == ["p 2"]  # p 1 had nobody to go to
    loop.close()


def test_another_thread_is_told_to_use_a_pipeline_of_its_own() -> None:
    async def main() -> None:
        api = LocalAPI(Single(), {}, 1)
        await api.request(ask())
        errors: list[BaseException] = []

        def elsewhere() -> None:
            try:
                asyncio.run(api.request(ask()))
            except RuntimeError as error:
                errors.append(error)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        await asyncio.to_thread(thread.join)
        assert "in use by the event loop of another thread" in str(errors[0])
        assert (await api.request(ask())).data == ["p 1"]

    asyncio.run(main())


def test_pipelines_of_several_threads_share_a_cache(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    seen: list[list[Any]] = []

    async def run() -> list[Any]:
        async with OnlineAPI(Single(), cache, 8, timeout=0) as api:
            answers = await together(api, *(ask(f"p{i}", id=str(i)) for i in range(50)))
            return [answer.data for answer in answers]

    threads = [threading.Thread(target=lambda: seen.append(asyncio.run(run()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [[[f"p{i} 0"] for i in range(50)]] * 4


def test_nothing_is_left_of_what_is_done() -> None:
    async def main() -> None:
        cacher = AsyncCacher(Single(), {})
        api = OnlineAPI(Single(), {}, 64, timeout=0)
        local = LocalAPI(Grouped(), {}, 64, timeout=0)
        for pipeline in (cacher, api, local):
            await together(pipeline, *(ask(f"p{i % 90}", id=str(i)) for i in range(300)))
            await together(pipeline, *(ask(f"bad{i}", id=str(i)) for i in range(9)), errors=True)
        for stage in (cacher, api.cached_model, local.cacher):
            assert stage._series == {}
            assert not stage._purchasing._tasks
            assert stage._ledger._free == {}
        for batcher in (api.batcher, local.batcher):
            assert not batcher.queue.entries
            assert not batcher._tasks

    asyncio.run(main())
