"""Nobody waits for ever: whatever a function or an embedder raises reaches those who wait."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cacher import SemanticCache

Make = Callable[..., SemanticCache]
FOX = "What is a fox?"


class Panic(BaseException):
    """As extensions in Rust raise it."""


def exhausted(_query: str) -> str:
    return next(iter(()))


def test_a_function_that_raises_stop_iteration_keeps_nobody_waiting(cache: SemanticCache) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="exhausted raised StopIteration"):
            await cache.aquery(FOX, exhausted)
        with pytest.raises(RuntimeError, match="exhausted raised StopIteration"):
            await cache.aquery(FOX, exhausted, use_cache=False)

    asyncio.run(asyncio.wait_for(main(), 20))
    with pytest.raises(RuntimeError, match="exhausted raised StopIteration"):
        cache.query(FOX, exhausted)
    with pytest.raises(RuntimeError, match="exhausted raised StopIteration"):
        cache.warmup([FOX], exhausted)


def test_a_task_that_waits_for_a_thread_is_told_of_stop_iteration(cache: SemanticCache) -> None:
    begun, go = threading.Event(), threading.Event()

    def slow(query: str) -> str:
        begun.set()
        go.wait(10)
        return exhausted(query)

    async def main() -> None:
        leader = asyncio.create_task(asyncio.to_thread(cache.query, FOX, slow))
        await asyncio.to_thread(begun.wait, 10)
        waiting = asyncio.create_task(cache.aquery(FOX, slow))
        while not cache._shelf("")._flights[FOX]._done_callbacks:  # type: ignore[attr-defined]
            await asyncio.sleep(0.001)
        go.set()
        for one in (leader, waiting):
            with pytest.raises(RuntimeError, match="StopIteration"):
                await one

    asyncio.run(asyncio.wait_for(main(), 20))


@pytest.mark.parametrize("error", [Panic, StopIteration, ValueError])
def test_an_embedder_that_raises_anything_serves_the_next_query(
    error: type[BaseException],
) -> None:
    class Moody:
        name = "moody"
        dimension = 2

        def embed(self, texts: list[str]) -> np.ndarray:
            if "bad" in texts:
                raise error("no vector today")
            return np.ones((len(texts), 2), np.float32)

    async def main() -> None:
        expected = RuntimeError if error is StopIteration else error
        with SemanticCache(Moody()) as cache:
            with pytest.raises(expected):
                await cache.aquery("bad", str.upper)
            tasks = [asyncio.create_task(cache.aquery(text, str.upper)) for text in ("bad", "good")]
            done = await asyncio.gather(*tasks, return_exceptions=True)
            assert isinstance(done[0], expected)
            assert not isinstance(done[1], BaseException)

    asyncio.run(asyncio.wait_for(main(), 20))


def test_a_function_that_asks_for_its_own_answer_is_refused(cache: SemanticCache) -> None:
    def again(query: str) -> str:
        return cache.query(query, again).response

    def through_another(_query: str) -> str:
        return cache.query("What is a bear?", again_fox).response

    def again_fox(_query: str) -> str:
        return cache.query(FOX, through_another).response

    async def again_async(query: str) -> str:
        return (await cache.aquery(query, again_async)).response

    async def in_a_thread(query: str) -> str:
        return await asyncio.to_thread(again, query)

    message = "what generates the answer to 'What is a fox\\?' asks for it"
    for function in (again, through_another):
        with pytest.raises(RuntimeError, match=message):
            cache.query(FOX, function)
    for function in (again_async, in_a_thread):
        with pytest.raises(RuntimeError, match=message):
            asyncio.run(asyncio.wait_for(cache.aquery(FOX, function), 20))
    assert cache.stats().cache_size == 0
    assert cache._shelf("")._flights == {}


def test_a_function_may_ask_for_other_answers(cache: SemanticCache) -> None:
    def outer(query: str) -> str:
        return cache.query("What is a bear?", str.upper).response + query

    assert cache.query(FOX, outer).response == f"WHAT IS A BEAR?{FOX}"
    assert cache.stats().cache_size == 2


def test_one_that_is_called_off_as_it_claims_a_text_leaves_no_claim(
    make: Make, tmp_path: Path
) -> None:
    path = tmp_path / "entries.sqlite3"
    cache = make(store=f"sqlite:{path}")
    assert cache.get(FOX) is None

    async def main() -> None:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")  # the claim waits for it
        task = asyncio.create_task(cache.aquery(FOX, str.upper))
        while not cache._shelf("")._flights:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.sleep(0)
        other.execute("ROLLBACK")
        other.close()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(asyncio.wait_for(main(), 20))
    assert cache._store is not None
    assert cache._store.claim("", FOX, 1.0) is not None
    assert cache._shelf("")._flights == {}


def test_nobody_waits_while_vectors_of_another_embedder_are_made_anew(
    make: Make, tmp_path: Path
) -> None:
    begun, go = threading.Event(), threading.Event()

    class Slow:
        name = "slow"
        dimension = 2

        def embed(self, texts: list[str]) -> np.ndarray:
            begun.set()
            assert go.wait(20)
            return np.ones((len(texts), 2), np.float32)

    store = f"sqlite:{tmp_path / 'entries.sqlite3'}"
    cache = make(store=store)
    cache.put(FOX, "An animal.")
    with SemanticCache(Slow(), store=store) as other:
        putting = threading.Thread(target=other.put, args=("New?", "x"), kwargs={"vector": [1, 0]})
        putting.start()
        assert begun.wait(20)
        cache.put("What is a bear?", "Another animal.")
        go.set()
        putting.join()
        assert cache._store is not None
        assert len(cache._store.changes("", 0).put) == other.stats().cache_size == 3
