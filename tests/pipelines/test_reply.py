"""What `request` returns is a coroutine to all who want one, and a future to `asyncio.gather`."""

from __future__ import annotations

import asyncio
import gc
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from cacher.pipelines import AsyncBatcher, AsyncCacher, LocalAPI, OnlineAPI
from cacher.pipelines.reply import Ask, Reply
from cacher.typedefs import Response
from tests.pipelines.models import Answering, Grouped, Single, ask

FRONTS: dict[str, Callable[[], Any]] = {
    "batcher": lambda: AsyncBatcher(Single(), 4, timeout=0),
    "cacher": lambda: AsyncCacher(Single(), {}),
    "online": lambda: OnlineAPI(Single(), {}, 4, timeout=0),
    "local": lambda: LocalAPI(Grouped(), {}, 4, timeout=0),
}


@pytest.fixture(params=FRONTS)
def front(request: pytest.FixtureRequest) -> Any:
    return FRONTS[request.param]()


async def in_group(asked: Any) -> Any:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(asked)
    return task.result()


async def as_completed(asked: Any) -> Any:
    (first,) = asyncio.as_completed([asked])
    return await first


async def waited(asked: Any) -> Any:
    task = asyncio.ensure_future(asked)
    (done,), _ = await asyncio.wait([task])
    assert done is task
    return done.result()


async def gathered(asked: Any) -> Any:
    return (await asyncio.gather(asked))[0]


async def awaited(asked: Any) -> Any:
    return await asked


@pytest.mark.parametrize(
    "get",
    [
        awaited, gathered, in_group, as_completed, waited, asyncio.create_task, asyncio.shield,
        lambda asked: asyncio.wait_for(asked, 10),
        lambda asked: asyncio.wait_for(asyncio.create_task(asked), 10),
        lambda asked: awaited(asyncio.ensure_future(asked)),
    ],
)  # fmt: skip
def test_whatever_asyncio_offers_takes_it(front: Any, get: Callable[[Any], Any]) -> None:
    async def main() -> Any:
        asked = front.request(ask(n=2))
        assert asyncio.iscoroutine(asked)
        assert front.stats()["requests"] == 0  # nothing begins by itself
        return await get(asked)

    assert asyncio.run(main()).data == ["p 0", "p 1"]
    assert front.stats()["delivered"] == 2


def test_it_can_be_made_where_no_event_loop_runs(front: Any) -> None:
    assert asyncio.run(front.request(ask())).data == ["p 0"]


def test_gathering_makes_no_tasks() -> None:
    async def main() -> None:
        api = OnlineAPI(Single(), {}, 100, timeout=0)
        together = asyncio.gather(*[api.request(ask(id=str(i))) for i in range(50)])
        assert len(asyncio.all_tasks()) <= 2  # this one, and the batcher's
        assert len(await together) == 50

    asyncio.run(main())


def test_one_that_is_not_awaited_never_begins_and_says_so(front: Any) -> None:
    async def main() -> None:
        asked = front.request(ask())
        with pytest.warns(RuntimeWarning, match="was never awaited"):
            del asked
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            closed = front.request(ask())
            closed.close()
            closed.close()
            with pytest.raises(RuntimeError, match="cannot reuse"):
                await closed
            del closed
        task = asyncio.create_task(front.request(ask()))
        task.cancel()  # before its first step
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert front.stats()["requests"] == 0


def test_a_task_runs_it_once(front: Any) -> None:
    async def main() -> None:
        asked = front.request(ask())
        await asyncio.create_task(asked)
        for again in (lambda: asyncio.create_task(asked), lambda: awaited(asked)):
            with pytest.raises(RuntimeError, match="cannot reuse"):
                await again()
        assert front.stats()["requests"] == 1

    asyncio.run(main())


def test_a_future_gives_its_result_to_all_who_ask(front: Any) -> None:
    async def main() -> None:
        reply = asyncio.ensure_future(front.request(ask()))
        assert not asyncio.iscoroutine(reply)
        answers = await asyncio.gather(awaited(reply), awaited(reply), reply)
        assert [answer.data for answer in answers] == [["p 0"]] * 3
        assert (await reply).data == reply.result().data == ["p 0"]
        assert front.stats()["delivered"] == 1

    asyncio.run(main())


@pytest.mark.parametrize("how", [awaited, gathered, asyncio.create_task])
def test_a_caller_that_goes_leaves_its_samples_to_the_next(how: Callable[[Any], Any]) -> None:
    async def main() -> None:
        model = Single()
        model.gate = asyncio.Event()
        api = OnlineAPI(model, {}, 4, timeout=0)
        task = asyncio.ensure_future(how(api.request(ask())))
        await model.called.wait()
        task.cancel()
        model.gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        answer = await api.request(ask(id="2"))
        assert (answer.data, answer.cached) == (["p 0"], [True])
        assert api.stats()["cancelled"] == 1

    asyncio.run(main())


def test_a_caller_cancelled_between_the_answer_and_its_turn_uses_nothing_up() -> None:
    async def main() -> None:
        api = AsyncBatcher(AsyncCacher(model := Single(), {}), 1, timeout=0)
        reply: asyncio.Future[Response] | None = None

        async def caller() -> Response:
            nonlocal reply
            reply = asyncio.ensure_future(api.request(ask()))
            return await reply

        task = asyncio.create_task(caller())
        while reply is None or not reply.done():
            await asyncio.sleep(0)
            if reply is not None and reply.done():
                task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await api.request(ask(id="2"))).data == ["p 0"]
        assert model.samples == 1
        assert api.stats()["cancelled"] == 1

    asyncio.run(main())


def test_what_fails_is_raised_where_it_is_awaited(front: Any) -> None:
    async def main() -> None:
        wrong = front.request(ask(n="2"))
        with pytest.raises(TypeError, match="n of a request"):
            await wrong
        results = await asyncio.gather(front.request(ask(n=-1)), return_exceptions=True)
        assert "0 or more" in str(results[0])
        with pytest.raises(ValueError, match="no"):
            await front.request(ask("bad"))

    asyncio.run(main())


def test_one_whose_event_loop_was_closed_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", raised.append)
    model = Single()
    api = OnlineAPI(model, {}, 1, timeout=0)
    loop = asyncio.new_event_loop()
    tasks = [loop.create_task(get(api.request(ask()))) for get in (awaited, gathered)]
    model.gate = asyncio.Event()
    loop.run_until_complete(model.called.wait())
    loop.close()
    tasks.clear()
    gc.collect()
    model.gate = None
    assert asyncio.run(api.request(ask(id="2"))).data == ["p 0"]
    gc.collect()
    assert not raised
    assert (api.stats()["queued"], api.stats()["running"]) == (0, 0)


def test_a_future_raises_even_what_a_model_may_not() -> None:
    async def main() -> None:
        model = Answering(lambda requests: [StopIteration("enough") for _ in requests])
        with pytest.raises(RuntimeError, match="StopIteration"):
            await AsyncBatcher(model, 4, timeout=0).request(ask())

    asyncio.run(main())


def test_what_has_ended_leaves_nothing_to_the_garbage_collector(front: Any) -> None:
    async def main() -> None:
        for _ in range(2):
            gc.collect()
            gc.disable()
            try:
                await asyncio.gather(
                    *[front.request(ask(str(i % 3), id=str(i))) for i in range(20)]
                )
                await front.request(ask("alone", id="last"))
                gc.set_debug(gc.DEBUG_SAVEALL)
                gc.collect()
                left = {type(one) for one in gc.garbage if "cacher" in type(one).__module__}
            finally:
                gc.set_debug(0)
                gc.garbage.clear()
                gc.enable()
            assert not left

    asyncio.run(main())


def test_its_classes_say_what_it_is() -> None:
    async def main() -> None:
        asked = OnlineAPI(Single(), {}, 4, timeout=0).request(ask())
        assert type(asked) is Ask
        assert type(asyncio.ensure_future(asked)) is Reply
        assert type(asked) is Reply
        await asked

    asyncio.run(main())
