"""What holds of every program: replay, coupling, prefix, independence of n; nothing twice or lost.

Programs are made by hypothesis: groups of requests that arrive in any order, with prompts at which
the model fails at first, and with callers that leave at any moment.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cacher.pipelines import Cache, LocalAPI, OnlineAPI, OrderedLocalAPI
from cacher.typedefs import Request, Response
from tests.pipelines.models import Counting, Grouped, Single, ask, together

PROMPTS = st.sampled_from("pqr")
ONE = st.tuples(PROMPTS, st.integers(0, 5), st.sampled_from(["a", "b", None]))
GROUPS = st.lists(st.lists(ONE, min_size=1, max_size=6), min_size=1, max_size=4)
ORDERED = st.sampled_from(["online", "ordered"])
SEEDS = st.integers(0, 2**32)

# Read and written in the event loop's thread; read there; all in others.
STORES: list[Callable[[], Any]] = [dict, Cache, partial(Cache, max_bytes=2**40)]

Program = list[list[tuple[str, int, str | None]]]


def assembled(kind: str, model: Any, cache: Any, **options: Any) -> Any:
    return {
        "online": lambda: OnlineAPI(model, cache, 1000, timeout=0, **options),
        "local": lambda: LocalAPI(model, cache, 3, timeout=0, **options),
        "ordered": lambda: OrderedLocalAPI(model, cache, 1000, 2, timeout=0, **options),
    }[kind]()


class Tardy(Counting):
    """Answers in an order of its own, and fails as often as it likes to."""

    def __init__(self, seed: int, failing: float = 0) -> None:
        super().__init__()
        self.random = random.Random(seed)
        self.failing = failing

    async def _some_time(self) -> None:
        for _ in range(self.random.randrange(4)):
            await asyncio.sleep(0)

    async def request(self, request: Request) -> Response:
        await self._some_time()
        if self.random.random() < self.failing:
            raise ValueError("fails")
        return self._draw(request)


class TardyGroups(Tardy):
    request = None  # type: ignore[assignment]

    async def batch_request(self, batch: Any) -> list[Any]:
        await self._some_time()
        return [
            ValueError("fails") if self.random.random() < self.failing else self._draw(request)
            for request in batch.requests
        ]


async def run(api: Any, program: Program, seed: int = 0) -> dict[tuple[int, int], Response]:
    """Send each group when the one before is answered, its members in an order of the seed."""
    answers = {}
    for number, group in enumerate(program):
        members = list(enumerate(group))
        random.Random(seed + number).shuffle(members)
        asked = [ask(p, n, f"{number}.{at}", ns) for at, (p, n, ns) in members]
        for (at, _), answer in zip(members, await together(api, *asked), strict=True):
            answers[number, at] = answer
    return answers


@given(ORDERED, GROUPS, SEEDS, SEEDS)
@settings(max_examples=50)
def test_a_replay_gives_the_same_and_buys_nothing(
    kind: str, program: Program, seed: int, other: int
) -> None:
    async def main() -> None:
        cache: dict[str, Any] = {}
        tardy = Tardy if kind == "online" else TardyGroups
        first = await run(assembled(kind, tardy(seed), cache), program, seed)
        model = Single()
        second = await run(assembled(kind, model, cache), program, other)
        assert model.calls == []
        assert {at: answer.data for at, answer in first.items()} == {
            at: answer.data for at, answer in second.items()
        }
        assert all(all(answer.cached) for answer in second.values())

    asyncio.run(main())


@given(st.sampled_from(["online", "local", "ordered"]), st.lists(st.integers(0, 5), max_size=5))
def test_coupling_prefix_and_independence_of_n(kind: str, counts: list[int]) -> None:
    async def main() -> None:
        cache: dict[str, Any] = {}
        api = assembled(kind, Grouped(), cache)
        for namespace in ("a", "b"):
            drawn: list[Any] = []
            for at, n in enumerate(counts):
                drawn += (await api.request(ask(n=n, id=str(at), ns=namespace))).data
            assert drawn == [f"p {i}" for i in range(sum(counts))]
        whole = (await api.request(ask(n=sum(counts), ns="c"))).data
        assert whole == drawn
        for k in range(sum(counts) + 1):
            assert (await api.request(ask(n=k, ns=f"k{k}"))).data == whole[:k]

    asyncio.run(main())


@given(
    st.sampled_from(["online", "local", "ordered"]),
    GROUPS,
    SEEDS,
    st.sampled_from([0, 0.3, 0.7]),
    st.sampled_from([0, 0.3]),
    st.booleans(),
    st.sampled_from(STORES),
)
@settings(max_examples=200)
def test_nothing_is_handed_out_twice_or_lost(
    kind: str,
    program: Program,
    seed: int,
    failing: float,
    leaving: float,
    merged: bool,
    store: Callable[[], Any],
) -> None:
    """Whatever fails and whoever leaves: no sample twice in a namespace, all of them in order."""

    async def main() -> None:
        cache = store()
        model = (Tardy if kind == "online" else TardyGroups)(seed, failing)
        options = {"max_concurrent_batches": 3} if kind != "ordered" else {}
        if kind == "online" and not merged:
            options["correctness"] = True
        api = assembled(kind, model, cache, **options)
        chance = random.Random(seed)
        tasks: dict[asyncio.Task[Response], Request] = {}
        for number, group in enumerate(program):
            for at, (prompt, n, namespace) in enumerate(group):
                request = ask(prompt, n, f"{number}.{at}", namespace)
                tasks[asyncio.ensure_future(api.request(request))] = request
            for _ in range(chance.randrange(12)):
                await asyncio.sleep(0)
                if chance.random() < leaving:
                    chance.choice(list(tasks)).cancel()
        if tasks:
            _, waiting = await asyncio.wait(tasks, timeout=20)
            assert not waiting
        handed_out = defaultdict[tuple[str, str | None], list[str]](list)
        for task, request in tasks.items():
            if not task.cancelled() and task.exception() is None:
                handed_out[request.prompt, request.namespace] += task.result().data
        await asyncio.wait_for(drained(api), 30)

        # What the model gave is in the cache, all of it once, and what was handed out is from it.
        lists = [cache[key] for key in cache]
        stored = {samples[0].split()[0]: samples for samples in lists if samples}
        for prompt, given_ in model.given.items():
            assert sorted(stored[prompt]) == sorted(f"{prompt} {i}" for i in range(given_))
        for (prompt, _), samples in handed_out.items():
            assert len(set(samples)) == len(samples)
            assert set(samples) <= set(stored.get(prompt, []))

        # The rest of a namespace's list is what it was not handed out yet, in the list's order.
        model.failing = 0
        for (prompt, namespace), samples in handed_out.items():
            rest = [sample for sample in stored.get(prompt, []) if sample not in samples]
            answer = await api.request(ask(prompt, len(rest), "last", namespace))
            assert answer.data == rest
            assert all(answer.cached)
        stats = api.stats()
        assert stats["queued"] == stats["running"] == 0
        await api.cleanup()

    asyncio.run(main())


async def drained(api: Any) -> None:
    """Wait until what was bought for those who left is stored, too."""
    cacher = api.cached_model if isinstance(api, OnlineAPI) else api.cacher
    while cacher._series:
        await asyncio.sleep(0)
