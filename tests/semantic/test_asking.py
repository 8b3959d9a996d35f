"""Asking a cache: generated once, whoever asks; errors and cancellation; decorator; warm-up."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from cacher import ParameterError, SemanticCache

FOX = "What is a fox?"
Make = Callable[..., SemanticCache]


def test_an_answer_is_generated_once_and_found_again(cache: SemanticCache) -> None:
    first = cache.query(FOX, str.upper)
    assert (first.cache_hit, first.hit, first.response) == (False, None, FOX.upper())
    assert first.embedding_dimension == 384
    again = cache.query(FOX, str.lower)
    assert (again.cache_hit, again.response, again.entry_id) == (
        True, first.response, first.entry_id,
    )  # fmt: skip
    assert again.hit is not None
    assert again.hit.similarity == 1.0
    assert again.hit.entry.source == "str.upper"
    alike = cache.query("What's a fox?", str.lower)
    assert alike.cache_hit
    assert alike.processing_time >= 0


def test_without_the_cache_nothing_is_read_or_written(cache: SemanticCache) -> None:
    cache.put(FOX, "stored")
    passed = cache.query(FOX, str.upper, use_cache=False)
    assert (passed.cache_hit, passed.response, passed.entry_id) == (False, FOX.upper(), None)
    cache.query("Something new", str.upper, use_cache=False)
    assert cache.stats().cache_size == 1
    assert cache.stats().bypasses == 2


def test_a_guarded_miss_says_so(cache: SemanticCache) -> None:
    cache.put("How do I turn on dark mode?", "on")
    answer = cache.query("How do I turn off dark mode?", str.upper)
    assert not answer.cache_hit
    assert answer.guarded


def test_an_error_reaches_all_that_wait_and_stores_nothing(cache: SemanticCache) -> None:
    begun, go = threading.Event(), threading.Event()
    calls = []

    def fails(query: str) -> str:
        calls.append(query)
        begun.set()
        go.wait(10)
        raise OSError("no model today")

    with ThreadPoolExecutor(5) as pool:
        leader = pool.submit(cache.query, FOX, fails)
        begun.wait(10)
        others = [pool.submit(cache.query, FOX, fails) for _ in range(4)]
        flight = cache._shelf("")._flights[FOX]
        while len(flight._condition._waiters) < 4:  # type: ignore[attr-defined]
            time.sleep(0.001)
        go.set()
        for one in (leader, *others):
            with pytest.raises(OSError, match="no model today"):
                one.result(10)
    assert calls == [FOX]
    assert cache.stats().cache_size == 0
    assert cache.query(FOX, str.upper).response == FOX.upper()


def test_what_is_no_text_is_refused(cache: SemanticCache) -> None:
    with pytest.raises(TypeError, match=r"<lambda> returned int"):
        cache.query(FOX, lambda _query: 5)  # type: ignore[arg-type,return-value]
    with pytest.raises(TypeError, match="callable"):
        cache.query(FOX, "text")  # type: ignore[arg-type]
    assert cache.stats().cache_size == 0


def test_threads_that_miss_with_one_text_generate_once(cache: SemanticCache) -> None:
    calls = []
    together = threading.Barrier(8)

    def ask(_i: int) -> bool:
        together.wait()
        return cache.query(FOX, lambda query: calls.append(query) or "answer").cache_hit

    with ThreadPoolExecutor(8) as pool:
        hits = list(pool.map(ask, range(8)))
    assert sorted(hits) == [False] + [True] * 7
    assert len(calls) == 1
    assert (cache.stats().hits, cache.stats().misses) == (7, 1)
    assert [hits for _, hits in cache.entries()[0]] == [7]


def test_tasks_that_miss_with_one_text_generate_once(cache: SemanticCache) -> None:
    calls = []

    async def generate(query: str) -> str:
        calls.append(query)
        await asyncio.sleep(0.05)
        return "answer"

    async def main() -> None:
        answers = await asyncio.gather(*(cache.aquery(FOX, generate) for _ in range(50)))
        assert sum(not answer.cache_hit for answer in answers) == 1
        assert {answer.response for answer in answers} == {"answer"}
        again = await cache.aquery("What's a fox?", generate)
        assert again.cache_hit

    asyncio.run(main())
    assert len(calls) == 1


def test_one_that_is_called_off_leaves_the_text_to_the_next(cache: SemanticCache) -> None:
    async def main() -> None:
        begun = asyncio.Event()

        async def never(_query: str) -> str:
            begun.set()
            await asyncio.sleep(3600)
            return "never"

        async def works(query: str) -> str:
            return query.upper()

        first = asyncio.create_task(cache.aquery(FOX, never))
        await begun.wait()
        second = asyncio.create_task(cache.aquery(FOX, works))
        third = asyncio.create_task(cache.aquery(FOX, works))
        await asyncio.sleep(0.05)
        third.cancel()
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).response == FOX.upper()
        assert not second.result().cache_hit
        for one in (first, third):
            with pytest.raises(asyncio.CancelledError):
                await one

    asyncio.run(asyncio.wait_for(main(), 20))
    assert cache._shelf("")._flights == {}


def test_what_the_loop_does_goes_on_while_a_function_blocks(cache: SemanticCache) -> None:
    async def main() -> None:
        asked, go = threading.Event(), threading.Event()

        def blocks(query: str) -> str:
            asked.set()
            go.wait(10)
            return query.upper()

        task = asyncio.create_task(cache.aquery(FOX, blocks))
        while not asked.is_set():
            await asyncio.sleep(0.001)
        go.set()
        assert (await task).response == FOX.upper()

    asyncio.run(asyncio.wait_for(main(), 20))


def test_concurrent_queries_have_the_bits_of_lonely_ones(make: Make) -> None:
    alone, together = make(), make()
    texts = [f"{i} little foxes ran {'far ' * (i % 13)}away" for i in range(40)]
    expected = [alone.look(text, similarity_threshold=1.0).vector for text in texts]

    async def main() -> list[object]:
        looks = (together.alook(text, similarity_threshold=1.0) for text in texts)
        return [look.vector for look in await asyncio.gather(*looks)]

    for one, other in zip(expected, asyncio.run(main()), strict=True):
        assert one is not None
        assert one.tobytes() == other.tobytes()  # type: ignore[attr-defined]


def test_the_decorator(cache: SemanticCache) -> None:
    calls = []

    @cache.cached
    def shout(text: str) -> str:
        """Shout."""
        calls.append(text)
        return text.upper()

    @cache.cached(similarity_threshold=1.0)
    async def whisper(text: str) -> str:
        calls.append(text)
        return text.lower()

    assert (shout(FOX), shout("What's a fox?"), shout.__doc__) == (
        FOX.upper(),
        FOX.upper(),
        "Shout.",
    )
    assert asyncio.run(whisper(FOX)) == FOX.lower()
    assert asyncio.run(whisper("What's a fox?")) == "what's a fox?"
    assert asyncio.run(whisper(FOX)) == FOX.lower()
    assert calls == [FOX, FOX, "What's a fox?"]
    assert cache.stats().cache_size == 0  # functions have entries of their own
    assert len(cache.tenants()) == 3


def test_warm_up(cache: SemanticCache) -> None:
    cache.put("one", "old")
    items = ["one", ("two", "2"), "three", ("two", "zwei")]
    assert cache.warmup(items, str.upper) == (2, 2, 3)
    assert [e.response for e, _ in cache.entries()[0]] == ["THREE", "2", "old"]
    assert asyncio.run(cache.awarmup(items, str.upper, overwrite=True)) == (3, 0, 3)
    assert {e.query: (e.response, e.source) for e, _ in cache.entries()[0]} == {
        "one": ("ONE", "str.upper"), "two": ("zwei", "warmup"), "three": ("THREE", "str.upper"),
    }  # fmt: skip
    with pytest.raises(ParameterError, match="1 texts have no answer"):
        cache.warmup(["four"])
    with pytest.raises(ParameterError, match="query"):
        cache.warmup([("five", "5"), ""])
    assert cache.stats().cache_size == 3


def test_a_warm_up_that_fails_stores_nothing(cache: SemanticCache) -> None:
    def fails(query: str) -> str:
        if query == "two":
            raise ValueError("two")
        return query

    with pytest.raises(ValueError, match="two"):
        cache.warmup(["one", "two"], fails)
    with pytest.raises(ExceptionGroup):
        asyncio.run(cache.awarmup(["one", "two"], fails))
    assert cache.stats().cache_size == 0
