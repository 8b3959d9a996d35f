"""The checklist of the pipelines, lines 57 to 69: order, and the assemblies."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cacher.pipelines import (
    AsyncCacher,
    AsyncDeduplicator,
    Cache,
    LocalAPI,
    OnlineAPI,
    OrderedLocalAPI,
    RequestReorderer,
)
from cacher.typedefs import Batch, Request, Response
from tests.pipelines.models import Answering, Grouped, Single, ask, together


def reordered(*ids: Any) -> tuple[list[Any], list[Any]]:
    """The ids that a model gets, and those that the answers are for."""
    passed: list[Any] = []

    def answer(requests: list[Request]) -> list[Response]:
        passed.extend(request.request_id for request in requests)
        return [Response([request.request_id]) for request in requests]

    stage = RequestReorderer(Answering(answer))
    answers = asyncio.run(stage.batch_request(Batch([ask(id=name) for name in ids])))
    return passed, [answer.data[0] for answer in answers]


@pytest.mark.parametrize(
    ("ids", "sorted_ids"),
    [
        (["2", "1", "3"], ["1", "2", "3"]),
        (["req2", "req10"], ["req10", "req2"]),
        (["q_10", "q_9", "q_2", "q"], ["q", "q_2", "q_9", "q_10"]),
        (["b_1", "a_b", "_7", "a_02", "a_1"], ["_7", "a_1", "a_02", "a_b", "b_1"]),
        ([10, 9, 2], [10, 2, 9]),
        (["x_" + "9" * 5000, "x_1"], ["x_1", "x_" + "9" * 5000]),
        (["x_²", "x_1"], ["x_1", "x_²"]),
    ],
)
def test_57_58_59_61_the_order_of_ids(ids: list[Any], sorted_ids: list[Any]) -> None:
    assert reordered(*ids) == (sorted_ids, ids)


def test_60_equal_ids_are_served_as_they_came() -> None:
    async def main() -> None:
        api = OnlineAPI(Single(), {}, 8, timeout=0)
        answers = await together(api, ask(n=2, id="x"), ask(n=2, id="x"))
        # Pieces of the same number stand side by side, the one that came first before the other.
        assert [answer.data for answer in answers] == [["p 0", "p 2"], ["p 1", "p 3"]]

    asyncio.run(main())


def test_63_the_order_of_arrival_does_not_matter(tmp_path: Path) -> None:
    asked = [ask(p, n, f"{p}{n}", ns) for p in "pqr" for n in (1, 2, 12) for ns in ("a", "b")]

    async def run(folder: Path, requests: list[Request]) -> dict[tuple[str, str | None], list[str]]:
        async with OnlineAPI(Single(), Cache(folder), 200, timeout=0) as api:
            answers = await together(api, *requests)
        named = zip(requests, answers, strict=True)
        return {(request.request_id, request.namespace): answer.data for request, answer in named}

    asyncio.run(run(tmp_path / "store", asked[:7]))
    seen = []
    for i in range(5):
        shutil.copytree(tmp_path / "store", tmp_path / str(i))
        seen.append(asyncio.run(run(tmp_path / str(i), random.Random(i).sample(asked, len(asked)))))
    assert seen == [seen[0]] * 5


def test_64_cached_prompts_take_no_place_in_a_group() -> None:
    async def main() -> None:
        model = Grouped()
        api = LocalAPI(model, {}, 2, timeout=5)
        await together(api, ask("old", ns="a"), ask("other", ns="a"))
        answers = await together(api, ask("old", ns="b"), ask("new"), ask("newer"))
        assert model.sizes == [2, 2]
        assert model.prompts[2:] == ["new", "newer"]
        assert answers[0].cached == [True]

    asyncio.run(main())


def test_65_equal_prompts_wait_for_one_group() -> None:
    async def main() -> None:
        model = Grouped()
        api = LocalAPI(model, {}, 4, timeout=600)
        answers = await together(api, *(ask(id=str(i)) for i in range(4)))
        assert model.sizes == [4]
        assert [answer.data for answer in answers] == [[f"p {i}"] for i in range(4)]

    asyncio.run(main())


def test_66_the_order_of_ids_before_a_local_model() -> None:
    async def main() -> None:
        model = Grouped()
        api = OrderedLocalAPI(model, {}, collection_batch_size=4, hardware_batch_size=2)
        answers = await together(api, *(ask(id=name) for name in "4231"))
        assert model.sizes == [2, 2]
        assert [answer.data for answer in answers] == [["p 3"], ["p 1"], ["p 2"], ["p 0"]]
        assert api.stats()["batches"] == 2

    asyncio.run(main())


def test_67_a_model_of_groups_answers_single_requests() -> None:
    async def main() -> None:
        for make in (lambda m: OnlineAPI(m, {}, 8, timeout=0), lambda m: AsyncCacher(m, {})):
            assert (await make(Grouped()).request(ask(n=2))).data == ["p 0", "p 1"]

    asyncio.run(main())


def test_68_what_cannot_be_asked_or_cannot_remember() -> None:
    makers: list[Callable[[Any, Any], Any]] = [
        AsyncCacher,
        lambda model, cache: OnlineAPI(model, cache, 8),
        lambda model, cache: LocalAPI(model, cache, 8),
        lambda model, cache: OrderedLocalAPI(model, cache, 8, 8),
    ]
    for make in makers:
        with pytest.raises(TypeError, match="object has neither"):
            make(object(), {})
        with pytest.raises(TypeError, match="the cache is None"):
            make(Grouped(), None)


def test_69_all_assemblies_give_a_sequential_caller_the_same() -> None:
    async def run(api: Any) -> list[list[str]]:
        asked = [ask(p, n, f"{i}", ns) for i, (p, n, ns) in enumerate(
            [("p", 2, "a"), ("p", 1, "b"), ("q", 3, "a"), ("p", 5, "a"), ("p", 3, "b")]
        )]  # fmt: skip
        return [(await api.request(request)).data for request in asked]

    given = [
        asyncio.run(run(make(Grouped(), {})))
        for make in (
            lambda m, c: OnlineAPI(m, c, 4, timeout=0),
            lambda m, c: LocalAPI(m, c, 4, timeout=0),
            lambda m, c: OrderedLocalAPI(m, c, 4, 2, timeout=0),
        )
    ]
    assert given[0] == given[1] == given[2]


def test_an_early_scripts_timeout_stands_in_the_place_of_the_hash() -> None:
    api = OnlineAPI(Single(), {}, 8, 0.25)  # type: ignore[arg-type]
    assert api.batcher.timeout == 0.25
    assert LocalAPI(Single(), {}, 8, None).batcher.timeout is None  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, -1])
def test_sizes_are_at_least_one(size: int) -> None:
    for make in (
        lambda: OnlineAPI(Single(), {}, size),
        lambda: LocalAPI(Single(), {}, size),
        lambda: OrderedLocalAPI(Single(), {}, size, 1),
        lambda: OrderedLocalAPI(Single(), {}, 1, size),
    ):
        with pytest.raises(ValueError, match="batch_size is"):
            make()


def test_a_deduplicator_before_a_users_model() -> None:
    def answer(requests: list[Request]) -> list[Any]:
        return [Response([f"{r.prompt} {i}" for i in range(r.n + 1)]) for r in requests]

    model = Answering(answer)
    stage = AsyncDeduplicator(model)
    asked = [ask(id="1"), ask("q", id="2"), ask(id="3", n=2), ask(id="4", ns="b"), ask(n=0)]
    answers = asyncio.run(stage.batch_request(Batch(asked)))
    assert [answer.data for answer in answers] == [["p 0"], ["q 0"], ["p 1", "p 2"], ["p 0"], []]
    assert answers[2].duplicated == [True, True]
    assert stage.stats()["surplus"] == 3
