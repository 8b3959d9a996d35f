"""The engine: whoever leaves, in whatever moment, leaves nothing behind and harms nobody."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest

import cacher
from cacher import Engine, EngineClosedError, QueueFullError, StateBusyError

T = TypeVar("T")
LONG = [300 + i % 700 for i in range(900)]


def run(main: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(main, 60))


def with_engine(model: cacher.Model, use: Callable[[Engine], Awaitable[T]], **limits: int) -> T:
    async def main() -> T:
        async with Engine(model, **limits) as engine:
            return await use(engine)

    return run(main())


async def blocker(engine: Engine) -> cacher.engine.EngineStream:
    """Occupy an engine of one row."""
    stream = engine.stream(engine.model.state("The wood"), 100, temperature=0)
    await anext(stream)
    return stream


def untouched(state: cacher.State, n_tokens: int) -> bool:
    return (len(state), state.head_position, state.revision) == (n_tokens, 0, 1)


def test_a_tenant_whose_only_request_left_stops_no_other(model: cacher.Model) -> None:
    async def use(engine: Engine) -> None:
        busy = await blocker(engine)
        await engine.stream(model.state("The fox", cache_salt="a"), 5).aclose()
        other = asyncio.create_task(engine.generate(model.state("x", cache_salt="b"), 5, seed=1))
        await asyncio.sleep(0)
        await busy.aclose()
        assert len(await other) == 5

    with_engine(model, use, max_running=1)


def test_a_callback_that_raises_ends_its_own_request_alone(model: cacher.Model) -> None:
    model.drop_cached()

    def refuse(_read: int, _total: int) -> None:
        raise LookupError("not today")

    async def use(engine: Engine) -> None:
        states = [model.state([300 + i, *LONG]) for i in range(4)]
        tasks = [
            asyncio.create_task(engine.forward(state, [7], progress=None if i else refuse))
            for i, state in enumerate(states)
        ]
        others = [asyncio.create_task(engine.generate(model.state(f"{i}"), 3)) for i in range(4)]
        with pytest.raises(LookupError, match="not today"):
            await tasks[0]
        assert untouched(states[0], 901)
        await asyncio.gather(*tasks[1:], *others)
        assert [state.head_position for state in states[1:]] == [902] * 3
        assert engine.stats.cancelled == 1
        assert engine.stats.finished == 7

    with_engine(model, use)


def test_a_forward_that_is_cancelled_twice_gives_its_state_back(model: cacher.Model) -> None:
    model.drop_cached()
    state = model.state(LONG)

    async def use(engine: Engine) -> None:
        task = asyncio.create_task(engine.forward(state, [7, 8]))
        while not engine.stats.passes:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert untouched(state, 900)

    with_engine(model, use)


def test_a_forward_that_is_cancelled_as_it_ends_is_no_event(model: cacher.Model) -> None:
    async def use(engine: Engine) -> None:
        for i in range(40):
            state = model.state([300 + i])
            task = asyncio.create_task(engine.forward(state, [7]))
            await asyncio.sleep(0)
            while engine.stats.finished + engine.stats.cancelled == i:
                pass  # the thread is done with it, and this loop does not know yet
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert untouched(state, 1)

    with_engine(model, use)


def test_a_text_that_is_encoded_in_vain_is_not_added(
    model: cacher.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cacher.engine.LONG_TEXT", 10)
    state = model.state("Once")

    async def use(engine: Engine) -> None:
        task = asyncio.create_task(engine.forward(state, "Once upon a time. " * 100))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with_engine(model, use)  # which waits for the thread that encodes
    assert untouched(state, 1)


def test_a_multi_that_is_refused_leaves_nothing_running(model: cacher.Model) -> None:
    async def use(engine: Engine) -> None:
        busy = await blocker(engine)
        with pytest.raises(QueueFullError):
            await engine.multi(model.state("The fox"), 5, 300)
        assert (engine.stats.waiting, engine.stats.cancelled) == (0, 2)
        await busy.aclose()

    with_engine(model, use, max_running=1, max_waiting=2)


def test_a_request_that_leaves_the_queue_is_no_event_of_its_state(model: cacher.Model) -> None:
    async def use(engine: Engine) -> None:
        busy = await blocker(engine)
        state = model.state("The fox")
        stream = engine.stream(state, 5)
        await stream.aclose()
        assert stream.result.finish_reason == "cancelled"
        assert untouched(state, 2)
        await busy.aclose()

    with_engine(model, use, max_running=1)


def test_a_closed_engine_has_not_read_what_it_was_to_read(model: cacher.Model) -> None:
    async def main() -> None:
        engine = Engine(model, max_running=1)
        await blocker(engine)
        state = model.state("The fox")
        task = asyncio.create_task(engine.forward(state, [7]))
        await asyncio.sleep(0)
        await engine.aclose()
        with pytest.raises(EngineClosedError):
            await task
        assert untouched(state, 2)

    run(main())


def test_a_coroutine_that_is_thrown_away_ends_its_run(model: cacher.Model) -> None:
    async def use(engine: Engine) -> None:
        thrown = engine.generate(model.state("The fox"), 1000, temperature=0)
        thrown.send(None)
        thrown.close()
        while engine.stats.running or engine.stats.waiting:
            await asyncio.sleep(0.001)
        assert engine.stats.cancelled == 1

    with_engine(model, use)


@pytest.fixture
def restless() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("restless")
def test_a_result_is_whole_while_it_grows(model: cacher.Model) -> None:
    async def drain(stream: cacher.engine.EngineStream) -> None:
        async for _token in stream:
            pass

    async def use(engine: Engine) -> None:
        for seed in range(4):
            stream = engine.stream(model.state("The fox"), 60, seed=seed, temperature=1.0)
            reader = asyncio.create_task(drain(stream))
            while not reader.done():
                seen = stream.result
                assert len(seen.tokens) == len(seen.token_ids) == len(seen.logprobs)
                assert len(seen.tokens) == len(seen.probabilities)
                assert seen.text == "".join(seen.tokens)
                await asyncio.sleep(0)
            await reader

    with_engine(model, use)


def test_a_state_that_is_changed_while_its_request_waits_is_refused(model: cacher.Model) -> None:
    async def use(engine: Engine) -> None:
        busy = await blocker(engine)
        states = [model.state("The fox"), model.state("The hare"), model.state("The owl")]
        waiting = [
            asyncio.create_task(engine.generate(states[0], 5)),
            asyncio.create_task(engine.forward(states[1])),
            asyncio.create_task(engine.generate(states[2], 5)),
        ]
        await asyncio.sleep(0)
        for state in states[:2]:
            state.append(" said")
        await busy.aclose()
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(one) for one in found] == [StateBusyError, StateBusyError, cacher.Generation]
        assert [state.text for state in states[:2]] == ["The fox said", "The hare said"]

    with_engine(model, use, max_running=1)


def test_a_call_that_raises_what_no_coroutine_can_pass_on_does_not_hang(
    model: cacher.Model,
) -> None:
    async def use(engine: Engine) -> None:
        with pytest.raises(RuntimeError, match="raised StopIteration"):
            await engine.run(next, iter(()))

    with_engine(model, use)
