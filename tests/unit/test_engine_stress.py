"""The engine in a crowd: loops, threads and notebooks at once, and each state as if it were alone.

Users on several event loops and a notebook share one model with few pages.  Each notes what it did
to its states and what came of it; afterwards the notes are played on states that are alone.
"""

from __future__ import annotations

import asyncio
import gc
import random
import threading
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

import pytest

import cacher
from cacher import Engine, Generation, QueueFullError

CONFIGS: tuple[dict[str, Any], ...] = (
    {}, {"store_logits": "none"}, {"top_k_logits": 50}, {"context_size": 24},
    {"context_size": 17, "context_strategy": "slide"},
)  # fmt: skip


def options(rng: random.Random) -> dict[str, Any]:
    found: dict[str, Any] = {
        "seed": rng.randrange(6), "temperature": rng.choice((0.0, 0.8, 1.5)),
        "repetition_penalty": rng.choice((1.0, 1.3)), "min_tokens": rng.choice((0, 1)),
        "temperature_schedule": rng.choice((None, None, {"start": 2.0, "end": 0.0})),
    }  # fmt: skip
    if rng.random() < 0.2:
        found["stop"] = rng.choice((" the", ["zzz", "."]))
    return found


@dataclass
class Noted:
    """A state, what it was made of, and what was done to it."""

    state: cacher.State
    tokens: list[int]
    config: dict[str, Any]
    notes: list[tuple[Any, ...]] = field(default_factory=list)

    def note(self, op: str, got: object, *how: Any) -> None:
        state = self.state
        self.notes.append((op, got, how, state.token_ids, state.head_position, state.revision))

    def check(self, alone: cacher.Model) -> None:
        state = alone.state(self.tokens, config=self.config)
        for op, got, how, tokens, head, revision in self.notes:
            new = len(tokens) - len(state)
            if op == "multi":
                n, sampling = how
                assert state.multi(3, n, **sampling) == got
            elif op == "forward":
                state.forward(*how)
            elif isinstance(got, Generation) and got.finish_reason != "cancelled":
                n, sampling = how
                assert state.generate(n, **sampling) == got
            elif not new and revision > state.revision:  # full: it ended as it was called off
                n, sampling = how
                assert not state.generate(n, **sampling).token_ids
            elif new:  # it left early
                n, sampling = how
                stream = state.stream(n, **sampling)
                drawn = [next(stream) for _ in range(new)]
                stream.close()
                if isinstance(got, Generation):
                    assert got.token_ids == [token.token_id for token in drawn]
                    assert got.logprobs == [token.logprob for token in drawn]
            assert (state.token_ids, state.head_position, state.revision) == (
                tokens, head, revision,
            )  # fmt: skip
        assert self.state.logprobs().tolist() == state.logprobs().tolist()
        assert self.state.logits().tobytes() == state.logits().tobytes()


class Crowd:
    """Some users of some engines on one model."""

    def __init__(self, seed: int, model: cacher.Model) -> None:
        self.rng = random.Random(seed)
        self.model = model
        self.noted: list[Noted] = []
        self.failures: list[BaseException] = []

    def newcomer(self, rng: random.Random) -> Noted:
        tokens = [rng.randrange(300, 306) for _ in range(rng.choice((0, 1, 3, 40)))]
        config = rng.choice(CONFIGS)
        tokens = tokens[: config.get("context_size", 99) - 1]
        salt = rng.choice(("", "a", "b"))
        self.noted.append(
            Noted(self.model.state(tokens, config=config, cache_salt=salt), tokens, config)
        )
        return self.noted[-1]

    async def act(self, rng: random.Random, engine: Engine, noted: Noted) -> None:
        """Do one thing; in a third of the cases change one's mind."""
        state, n, sampling = noted.state, rng.choice((1, 3, 20)), options(rng)
        op = rng.choice(("generate", "generate", "stream", "stream", "multi", "forward", "run"))
        if op == "stream":
            with_stream = engine.stream(state, n, **sampling)
            await self.read(rng, with_stream)
            noted.note(op, with_stream.result, n, sampling)
            return
        more = [rng.randrange(300, 306) for _ in range(rng.choice((0, 1, 5)))]
        task = asyncio.ensure_future(
            engine.generate(state, n, **sampling) if op == "generate"
            else engine.multi(state, 3, n, **sampling) if op == "multi"
            else engine.forward(state, more) if op == "forward"
            else engine.run(state.generate, n, **sampling)
        )  # fmt: skip
        if op != "run" and rng.random() < 0.3:
            await asyncio.sleep(rng.choice((0, 0.001, 0.004)))
            for _ in range(rng.choice((1, 2))):
                task.cancel()
                await asyncio.sleep(0)
        got = (await asyncio.gather(task, return_exceptions=True))[0]
        if isinstance(got, Exception) and not isinstance(got, cacher.CacherError):
            raise got
        left = isinstance(got, BaseException)
        if op in ("generate", "run") or not left:  # an exception would keep the engine alive
            noted.note(op, None if left else got, *((more,) if op == "forward" else (n, sampling)))

    async def read(self, rng: random.Random, stream: cacher.engine.EngineStream) -> None:
        until, slow = rng.choice((0, 2, 99)), rng.random() < 0.3
        closer = asyncio.create_task(asyncio.sleep(rng.choice((0, 0.002, 0.01))))
        if rng.random() < 0.2:  # another task closes it while this one reads
            closer.add_done_callback(lambda _: asyncio.ensure_future(stream.aclose()))
        for _ in range(until):
            if await anext(stream, None) is None:
                break
            if slow:
                await asyncio.sleep(0.0005)
        await closer
        await stream.aclose()

    async def users(self, rng: random.Random, engines: list[Engine]) -> None:
        async def user(rng: random.Random) -> None:
            noted = self.newcomer(rng)
            for _ in range(4):
                with suppress(QueueFullError, cacher.ContextOverflowError):  # nothing has happened
                    await self.act(rng, rng.choice(engines), noted)

        seeds = [rng.random() for _ in range(3)]
        await asyncio.wait_for(asyncio.gather(*(user(random.Random(s)) for s in seeds)), 60)

    def notebook(self, rng: random.Random, _engines: list[Engine]) -> None:
        noted = self.newcomer(rng)
        for _ in range(3):
            n, sampling = rng.choice((1, 5, 20)), options(rng)
            noted.note("generate", noted.state.generate(n, **sampling), n, sampling)

    def loop(self, rng: random.Random, engines: list[Engine]) -> None:
        asyncio.run(self.users(rng, engines))

    def run(self) -> None:
        rng = self.rng
        engines = [
            Engine(self.model, max_running=rng.choice((1, 2, 64)), max_waiting=rng.choice((3, 99)))
            for _ in range(rng.choice((1, 2)))
        ]

        def guarded(use: Any, rng: random.Random) -> None:
            try:
                use(rng, engines)
            except BaseException as failure:
                self.failures.append(failure)

        uses = [self.loop, self.loop, self.notebook][rng.randrange(2) :]
        threads = [
            threading.Thread(target=guarded, args=(use, random.Random(rng.random())))
            for use in uses
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(90)
        assert not any(thread.is_alive() for thread in threads)
        assert self.failures == []
        workers = [e._scheduler._thread for e in engines if e._scheduler._thread is not None]
        for engine in engines:
            assert (engine.stats.running, engine.stats.waiting) == (0, 0)
        del engine
        engines.clear()  # they end without being closed
        gc.collect()
        for worker in workers:
            worker.join(30)
            assert not worker.is_alive()


def run_crowds(seeds: range) -> None:
    alone = cacher.load("tales", threads=1)
    page = alone.info.page_bytes
    models = [cacher.load("tales", threads=n, kv_budget=60 * page) for n in (1, 2)]
    for seed in seeds:
        model = models[seed % 2]
        crowd = Crowd(seed, model)
        crowd.run()
        for noted in crowd.noted:
            noted.check(alone)
        crowd.noted.clear()
        del noted
        gc.collect()
        assert model.stats.pages_live == 0
        model.check()


def test_in_a_crowd_each_state_is_as_if_it_were_alone() -> None:
    run_crowds(range(8))


@pytest.mark.slow
def test_in_many_crowds_each_state_is_as_if_it_were_alone() -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes:
        list(processes.map(run_crowds, [range(8, 154), range(154, 300)]))
