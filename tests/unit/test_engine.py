"""The engine: company, chunks, cancelling and slow readers change no token and leave no page."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

import cacher
from cacher import Engine, EngineClosedError, QueueFullError, StateBusyError

T = TypeVar("T")
LONG = [300 + i % 700 for i in range(900)]


def run(main: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(main, 120))


def with_engine(model: cacher.Model, use: Callable[[Engine], Awaitable[T]], **limits: int) -> T:
    async def main() -> T:
        async with Engine(model, **limits) as engine:
            return await use(engine)

    return run(main())


def options(i: int) -> dict[str, Any]:
    return {
        "temperature": (0.0, 0.8, 1.2)[i % 3], "seed": i, "repetition_penalty": (1.0, 1.3)[i % 2],
        "top_k": (0, 20)[i // 2 % 2], "min_tokens": i % 5,
    }  # fmt: skip


def prompt(i: int) -> str:
    return "Once upon a time there was a fox who lived in the wood." * (i % 3) + " Then" * (i % 5)


def test_many_requests_get_what_each_gets_alone(model: cacher.Model) -> None:
    n = 24
    alone = [model.state(prompt(i)).generate(3 + i, **options(i)) for i in range(n)]
    model.drop_cached()

    async def use(engine: Engine) -> list[cacher.Generation]:
        async def one(i: int) -> cacher.Generation:
            state = model.state(prompt(i))
            if i % 4 == 0:
                await asyncio.sleep(0.001 * i)
            if i % 2:
                return await engine.generate(state, 3 + i, **options(i))
            stream = engine.stream(state, 3 + i, **options(i))
            tokens = [token async for token in stream]
            assert "".join(token.text for token in tokens) == stream.result.text
            assert state.text == prompt(i) + stream.result.text
            assert state.head_position == len(state)
            return stream.result

        return await asyncio.gather(*(one(i) for i in range(n)))

    assert with_engine(model, use, max_running=7) == alone


def test_streamed_tokens_are_those_of_the_notebook(model: cacher.Model) -> None:
    text = "Once upon a time 🦊"
    plain = list(model.state(text).stream(30, seed=3, temperature=1.3))

    async def use(engine: Engine) -> list[cacher.Token]:
        stream = engine.stream(model.state(text), 30, seed=3, temperature=1.3)
        return [token async for token in stream]

    streamed = with_engine(model, use)
    assert streamed == plain
    assert [t.top_tokens for t in streamed] == [t.top_tokens for t in plain]


def test_multi_and_forward_and_run(model: cacher.Model) -> None:
    state, twin = model.state("The hare said"), model.state("The hare said")
    wanted = twin.multi(5, 6, seed=2, temperature=1.0)
    seen: list[tuple[int, int]] = []

    async def use(engine: Engine) -> None:
        assert await engine.multi(state, 5, 6, seed=2, temperature=1.0) == wanted
        assert state.revision == 1
        assert state.text == twin.text
        long = model.state(LONG)
        assert await engine.forward(long, progress=lambda *n: seen.append(n)) is long
        assert long.head_position == len(LONG)
        assert await engine.run(state.top_tokens, 3) == twin.top_tokens(3)
        best = await engine.run(state.beam, 3, 4)
        assert best.beams[0].text == twin.beam(3, 4).beams[0].text

    with_engine(model, use)
    reads = [n for n, _total in seen]
    assert reads == sorted(reads)
    assert reads[-1] == len(LONG)
    assert len(reads) > 2
    assert {total for _n, total in seen} == {len(LONG)}


def test_a_prompt_that_comes_again_runs_no_forward_pass(model: cacher.Model) -> None:
    model.drop_cached()

    async def use(engine: Engine) -> None:
        first = await engine.generate(model.state(LONG), 1, seed=1)
        before = model.stats
        again = await engine.generate(model.state(LONG), 1, seed=1)
        other = await engine.generate(model.state(LONG), 1, seed=9)
        assert again == first
        assert other.seed == 9
        assert model.stats.forwards == before.forwards
        assert model.stats.tokens_computed == before.tokens_computed
        hidden = await engine.generate(model.state(LONG, cache_salt="somebody else"), 1, seed=1)
        assert hidden == first
        assert model.stats.tokens_computed == before.tokens_computed + len(LONG)
        stats = engine.stats
        assert (stats.prefix_lookups, stats.prefix_hits, stats.finished) == (4, 2, 4)
        assert stats.prefix_tokens == 2 * (len(LONG) // 16 * 16)

    with_engine(model, use)


def test_a_known_prediction_goes_on_as_a_fresh_one(model: cacher.Model) -> None:
    wanted = model.state(LONG).generate(9, seed=4, temperature=1.0)

    async def use(engine: Engine) -> None:
        for _ in range(3):
            state = model.state(LONG)
            assert await engine.generate(state, 9, seed=4, temperature=1.0) == wanted
            assert state.logprobs().tolist() == twin.logprobs().tolist()

    twin = model.state(LONG)
    twin.generate(9, seed=4, temperature=1.0)
    with_engine(model, use)


def test_predictions_are_bounded(model: cacher.Model) -> None:
    size = 4 * model.vocab_size

    async def use(engine: Engine) -> None:
        for i in range(8):
            await engine.generate(model.state([300 + i]), 1)
        kept = engine._scheduler._predictions
        assert 0 < kept._bytes <= 3 * size
        assert len(kept._logits) == 2

    with_engine(model, use, prediction_bytes=3 * size)


def test_cancelling_keeps_what_was_generated_and_frees_the_state(model: cacher.Model) -> None:
    state = model.state("Once upon a time")
    wanted = state.fork().generate(500, seed=1, temperature=1.0).text

    async def use(engine: Engine) -> None:
        stream = engine.stream(state, 500, seed=1, temperature=1.0)
        seen = [await anext(stream) for _ in range(5)]
        with pytest.raises(StateBusyError):
            await engine.generate(state, 1)
        await stream.aclose()
        await stream.aclose()
        assert stream.result.finish_reason == "cancelled"
        assert stream.result.finished
        got = state.text.removeprefix("Once upon a time")
        assert wanted.startswith(got)
        assert got.startswith("".join(t.text for t in seen))
        assert state.generate(1, temperature=0).token_ids  # it is free

        task = asyncio.create_task(engine.generate(model.state("The fox"), 1000, temperature=0))
        while engine.stats.tokens < 40:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert engine.stats.running == 0
        assert engine.stats.cancelled == 2

    with_engine(model, use)


def test_a_slow_reader_is_not_computed_for_too_far_ahead(model: cacher.Model) -> None:
    state = model.state("Once upon a time")
    wanted = state.fork().generate(60, seed=1, temperature=1.0)

    async def use(engine: Engine) -> None:
        stream = engine.stream(state, 60, seed=1, temperature=1.0)
        other = await engine.generate(model.state("The hare"), 60, temperature=0)
        assert len(other) == 60
        assert len(stream.result) == 16
        assert engine.stats.running == 1
        await anext(stream)
        await engine.generate(model.state("The fox"), 30, temperature=0)
        assert len(stream.result) == 17
        assert "".join([t.text async for t in stream]) == wanted.text[len(wanted.tokens[0]) :]
        assert stream.result == wanted

    with_engine(model, use)


def test_the_queue_is_bounded_and_tenants_take_turns(model: cacher.Model) -> None:
    order: list[str] = []

    async def use(engine: Engine) -> None:
        async def one(name: str) -> None:
            await engine.generate(model.state("The fox", cache_salt=name[0]), 8, temperature=0)
            order.append(name)

        blocker = engine.stream(model.state("The wood"), 100, temperature=0)
        await anext(blocker)
        names = ["a1", "a2", "a3", "a4", "b1", "b2"]
        tasks = [asyncio.create_task(one(name)) for name in names]
        await asyncio.sleep(0)
        assert engine.stats.waiting == 6
        with pytest.raises(QueueFullError, match="6 requests are waiting, allowed: 6"):
            await engine.generate(model.state("no"), 1)
        assert engine.stats.rejected == 1
        await blocker.aclose()
        await asyncio.gather(*tasks)

    with_engine(model, use, max_running=1, max_waiting=6)
    assert order == ["a1", "b1", "a2", "b2", "a3", "a4"]


def test_a_failing_row_harms_no_other(model: cacher.Model) -> None:
    small = cacher.load("tales", threads=1, kv_budget=20 * model.info.page_bytes)

    async def use(engine: Engine) -> None:
        fine = asyncio.create_task(engine.generate(small.state("The fox"), 40, seed=3))
        with pytest.raises(cacher.BudgetError, match="budget"):
            await engine.generate(small.state(LONG), 1)
        assert await fine == model.state("The fox").generate(40, seed=3)
        assert engine.stats.failed == 1

    with_engine(small, use)
    gc.collect()  # of the exception's frames
    assert small.stats.pages_live == 0


def test_closing_ends_everybody_with_what_they_have(model: cacher.Model) -> None:
    async def main() -> None:
        engine = Engine(model, max_running=2)
        streams = [engine.stream(model.state(f"Fox {i}"), 900, temperature=0) for i in range(4)]
        await anext(streams[0])
        await engine.aclose()
        for stream in streams:
            async for _token in stream:
                pass
            assert stream.result.finish_reason == "cancelled"
        assert len(streams[0].result)
        assert not len(streams[3].result)
        with pytest.raises(EngineClosedError):
            engine.stream(model.state("x"), 1)
        with pytest.raises(EngineClosedError):
            await engine.run(len, "x")

    before = set(threading.enumerate())  # other tests may have left some
    run(main())
    assert set(threading.enumerate()) <= before


def test_an_engine_that_is_forgotten_ends_its_thread(model: cacher.Model) -> None:
    async def main() -> threading.Thread:
        engine = Engine(model)
        await engine.generate(model.state("The fox"), 2)
        assert engine._scheduler._thread is not None
        return engine._scheduler._thread

    run(main()).join(30)


def test_abandoned_streams_leave_no_live_page(model: cacher.Model) -> None:
    async def use(engine: Engine) -> None:
        gc.collect()  # of what other tests have left
        live = model.stats.pages_live
        for i in range(100):
            stream = engine.stream(model.state(f"Once upon a time {i}"), 500, temperature=0)
            await anext(stream)
            del stream
        async with asyncio.timeout(60):
            while engine.stats.running or model.stats.pages_live != live:
                await asyncio.sleep(0.001)  # the last state goes when its end was heard of

    with_engine(model, use, max_running=16)
    model.check()


def test_states_that_store_more_may_join_a_running_batch(model: cacher.Model) -> None:
    async def use(engine: Engine) -> None:
        none = model.state("The fox", config={"store_logits": "none"})
        many = model.state("The hare", config={"top_k_logits": 50})
        first = engine.stream(none, 40, seed=1)
        await anext(first)
        assert len(await engine.generate(many, 10, seed=1)) == 10
        _logprobs, ids, _logits = many._core.scores(5, 1, 50)
        assert min(ids.tolist()[0]) >= 0
        async for _token in first:
            pass
        assert first.result == model.state("The fox").generate(40, seed=1)

    with_engine(model, use)


def test_a_stop_a_full_context_and_an_empty_state(model: cacher.Model, tiny_folder: Path) -> None:
    async def use(engine: Engine) -> None:
        stopped = await engine.generate(model.state("Once upon a"), 50, temperature=0, stop=" time")
        assert stopped.finish_reason == "stop_sequence"
        full = model.state("Once upon", config={"context_size": 2})
        assert (await engine.generate(full, 3)).finish_reason == "context_length"
        assert [t async for t in engine.stream(full, 3)] == []
        empty = await engine.generate(model.state(), 4, seed=3)
        assert empty == model.state().generate(4, seed=3)
        assert (await engine.forward(model.state())).head_position == 0
        other = cacher.load(tiny_folder)
        with pytest.raises(cacher.ModelMismatchError):
            await engine.generate(other.state([1, 2]), 1)

    with_engine(model, use)
