"""The checklist of the pipelines, lines 44 to 56: groups, and when they are sent."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cacher.pipelines import AsyncBatcher
from cacher.typedefs import Request, Response
from tests.pipelines.models import Answering, Grouped, Single, ask, together


def several(n: int, prompt: str = "p") -> list[Request]:
    return [ask(prompt, id=str(i)) for i in range(n)]


def test_44_four_requests_are_two_groups_of_two() -> None:
    async def main() -> None:
        model = Grouped()
        await together(AsyncBatcher(model, 2), *several(4))
        assert model.sizes == [2, 2]

    asyncio.run(main())


def test_45_a_group_that_does_not_fill_waits_until_its_deadline() -> None:
    async def main() -> None:
        model = Grouped()
        loop = asyncio.get_running_loop()
        started = loop.time()
        await together(AsyncBatcher(model, 3, timeout=0.3), *several(2))
        assert model.sizes == [2]
        assert loop.time() - started >= 0.3

    asyncio.run(main())


def test_46_a_request_is_as_many_pieces_as_samples() -> None:
    async def main() -> None:
        model = Grouped()
        answer = await AsyncBatcher(model, 2).request(ask(n=4, id="x"))
        assert model.sizes == [2, 2]
        assert [r.request_id for call in model.calls for r in call] == ["x_0", "x_1", "x_2", "x_3"]
        assert model.counts == [1] * 4
        assert answer.data == ["p 0", "p 1", "p 2", "p 3"]

    asyncio.run(main())


def test_47_what_waits_may_join_a_full_group() -> None:
    async def main() -> None:
        for requests, sizes in (([ask(n=7)], [7]), ([*several(3), ask(n=7, id="x")], [10])):
            model = Grouped()
            await together(AsyncBatcher(model, 5, allow_batch_overflow=True), *requests)
            assert model.sizes == sizes

    asyncio.run(main())


def test_48_a_busy_model_gets_full_groups() -> None:
    class Slow(Grouped):
        async def batch_request(self, batch: Any) -> list[Any]:
            await asyncio.sleep(0.06)  # longer than a group waits
            return await super().batch_request(batch)

    async def main() -> None:
        model = Slow()
        await together(AsyncBatcher(model, 4, timeout=0.02), *several(12))
        assert model.sizes == [4, 4, 4]

    asyncio.run(main())


@pytest.mark.parametrize("timeout", [0, -1])
def test_49_without_waiting_a_group_is_what_is_there(timeout: float) -> None:
    async def main() -> None:
        model = Grouped()
        await together(AsyncBatcher(model, 8, timeout), *several(5))
        assert model.sizes == [5]

    asyncio.run(main())


def test_50_without_a_deadline_only_a_full_group_is_sent() -> None:
    async def main() -> None:
        model = Grouped()
        batcher = AsyncBatcher(model, 3, timeout=None)
        first = asyncio.ensure_future(together(batcher, *several(2)))
        await asyncio.sleep(0.2)
        assert (model.sizes, batcher.queue.qsize()) == ([], 2)
        await batcher.request(ask(id="3"))
        assert (model.sizes, batcher.queue.empty()) == ([3], True)
        await first

    asyncio.run(main())


def test_51_the_worker_lives_from_the_first_request_to_the_end() -> None:
    async def main() -> None:
        async with AsyncBatcher(Grouped(), 1) as batcher:
            assert batcher.worker_task is None
            await batcher.request(ask())
            assert batcher.worker_task is not None
            assert not batcher.worker_task.done()
        assert batcher.worker_task.done()

    asyncio.run(main())


def test_52_flags_that_a_model_does_not_give_are_false() -> None:
    async def main() -> None:
        assert await AsyncBatcher(Grouped(), 2).request(ask(n=2)) == Response(
            ["p 0", "p 1"], [False, False], [False, False]
        )
        model = Answering(lambda rs: [Response(["x", "y"], [True, False]) for _ in rs])
        batcher = AsyncBatcher(model, 2)
        assert await batcher.request(ask(n=2)) == Response(["x", "x"], [True] * 2, [False] * 2)
        assert batcher.stats()["surplus"] == 2

    asyncio.run(main())


def test_53_batchers_inside_each_other() -> None:
    async def main() -> None:
        model = Grouped()
        batcher = AsyncBatcher(AsyncBatcher(AsyncBatcher(model, 2, 0.01), 4, 0.01), 3, 0.01)
        answers = await together(batcher, *several(7))
        assert len({answer.data[0] for answer in answers}) == 7
        assert max(model.sizes) == 2
        assert {r.request_id for call in model.calls for r in call} == {
            f"{i}_0_0_0" for i in range(7)
        }

    asyncio.run(main())


@pytest.mark.parametrize("most", [1, 3])
def test_54_as_many_groups_at_a_time_as_allowed(most: int) -> None:
    class Slow(Grouped):
        async def batch_request(self, batch: Any) -> list[Any]:
            self.gate = asyncio.Event()
            asyncio.get_running_loop().call_later(0.02, self.gate.set)
            return await super().batch_request(batch)

    async def main() -> None:
        model = Slow()
        await together(AsyncBatcher(model, 2, max_concurrent_batches=most), *several(6))
        assert (model.sizes, model.most_running) == ([2, 2, 2], most)

    asyncio.run(main())


def test_55_one_event_loop_after_the_other() -> None:
    batcher = AsyncBatcher(Grouped(), 2, timeout=0.01)
    for i in range(2):
        assert asyncio.run(batcher.request(ask(n=3))).data == [f"p {3 * i + j}" for j in range(3)]


def test_56_a_group_has_at_least_one_piece() -> None:
    with pytest.raises(ValueError, match="batch_size is 0, allowed: 1 to"):
        AsyncBatcher(Grouped(), 0)


def test_a_model_with_single_requests_gets_those_of_a_group_at_once() -> None:
    async def main() -> None:
        model = Single()
        model.gate = asyncio.Event()
        asyncio.get_running_loop().call_later(0.01, model.gate.set)
        answers = await together(AsyncBatcher(model, 3), *several(3))
        assert (model.most_running, len(answers)) == (3, 3)

    asyncio.run(main())


def test_the_rest_of_a_request_does_not_wait_for_a_second_deadline() -> None:
    async def main() -> None:
        model = Grouped()
        loop = asyncio.get_running_loop()
        sent: list[float] = []

        class Noting(Grouped):
            async def batch_request(self, batch: Any) -> list[Any]:
                sent.append(loop.time())
                await asyncio.sleep(0.1)
                return await model.batch_request(batch)

        await AsyncBatcher(Noting(), 2, timeout=0.1).request(ask(n=3))
        assert model.sizes == [2, 1]
        assert sent[1] - sent[0] < 0.2

    asyncio.run(main())
