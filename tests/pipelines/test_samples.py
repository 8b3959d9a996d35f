"""The checklist of the pipelines, lines 26 to 43: samples, namespaces and flags."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cacher.errors import ShortResponseError
from cacher.pipelines import AsyncCacher, Cache, LocalAPI, OnlineAPI, OrderedLocalAPI
from cacher.typedefs import Batch, Request, Response
from tests.pipelines.models import Answering, Grouped, Single, ask, together


def online(model: Any, cache: Any, size: int = 8, **options: Any) -> OnlineAPI:
    return OnlineAPI(model, cache, size, timeout=0, **options)


ASSEMBLIES = {
    "online": online,
    "local": lambda model, cache: LocalAPI(model, cache, 8, timeout=0),
    "ordered": lambda model, cache: OrderedLocalAPI(model, cache, 8, 8, timeout=0),
}


def test_26_a_pipelines_hash_says_what_is_the_same_key() -> None:
    async def main() -> None:
        model = Single()
        api = online(model, {}, hash=lambda request: str(request.prompt))
        for seed, namespace in ((1, "a"), (2, "b")):
            request = Request(
                prompt="p", kwargs={"seed": seed}, n=1, request_id="1", namespace=namespace
            )
            assert (await api.request(request)).data == ["p 0"]
        assert model.counts == [1]

    asyncio.run(main())


def test_27_namespaces_share_what_was_bought() -> None:
    async def main() -> None:
        model = Single()
        api = online(model, {})
        first = await api.request(ask(n=2, ns="a"))
        second = await api.request(ask(n=2, ns="b"))
        assert first.data == second.data == ["p 0", "p 1"]
        assert model.counts == [2]

    asyncio.run(main())


def test_28_a_namespace_gets_no_sample_twice() -> None:
    async def main() -> None:
        api = online(Single(), {})
        assert [(await api.request(ask())).data for _ in range(2)] == [["p 0"], ["p 1"]]

    asyncio.run(main())


def test_29_only_what_is_missing_is_bought() -> None:
    async def main() -> None:
        model = Single()
        api = online(model, {})
        first = await api.request(ask(n=2, ns="a"))
        second = await api.request(ask(n=5, ns="b"))
        assert second.data[:2] == first.data
        assert model.counts == [2, 3]
        assert second.cached == [True, True, False, False, False]
        assert second.duplicated == [False, False, False, True, True]

    asyncio.run(main())


def test_30_two_and_three_are_five() -> None:
    async def main() -> None:
        api = online(Single(), {})
        parts = [await api.request(ask(n=n, ns="a")) for n in (2, 3)]
        whole = await api.request(ask(n=5, ns="b"))
        assert parts[0].data + parts[1].data == whole.data

    asyncio.run(main())


def test_31_three_are_the_first_of_twelve() -> None:
    async def main() -> None:
        api = online(Single(), {})
        twelve = await api.request(ask(n=12, ns="a"))
        three = await api.request(ask(n=3, ns="b"))
        assert three.data == twelve.data[:3] == ["p 0", "p 1", "p 2"]

    asyncio.run(main())


def test_32_a_new_pipeline_on_the_store_repeats(tmp_path: Path) -> None:
    async def run(model: Single) -> list[list[str]]:
        async with online(model, Cache(tmp_path)) as api:
            answers = await together(api, ask(n=2, id="1"), ask(n=1, id="2"), ask("q", id="3"))
            return [answer.data for answer in answers]

    again = Single()
    assert asyncio.run(run(Single())) == asyncio.run(run(again))
    assert again.calls == []


def test_33_no_namespace_is_one_of_its_own() -> None:
    async def main() -> None:
        api = online(Single(), {})
        for namespace in ("a", None, "None", ""):
            assert (await api.request(ask(ns=namespace))).data == ["p 0"]

    asyncio.run(main())


def test_34_the_first_fresh_sample_is_the_original() -> None:
    async def main() -> None:
        model = Single()
        answer = await online(model, {}).request(ask(n=5))
        assert answer.cached == [False] * 5
        assert answer.duplicated == [False, True, True, True, True]
        assert model.counts == [5]

    asyncio.run(main())


@pytest.mark.parametrize("correctness", [False, True])
def test_35_36_the_lower_id_is_served_first(correctness: bool) -> None:
    async def main() -> None:
        model = Single()
        api = online(model, {}, correctness=correctness)
        b, a = await together(api, ask(n=2, id="b"), ask(n=2, id="a"))
        assert (a.data, b.data) == (["p 0", "p 1"], ["p 2", "p 3"])
        assert model.counts == ([2, 2] if correctness else [4])
        assert a.duplicated == [False, True]
        assert b.duplicated == ([False, True] if correctness else [True, True])

    asyncio.run(main())


def test_37_who_waits_for_anothers_sample_did_not_buy_it() -> None:
    async def main() -> None:
        model = Single()
        answers = await together(online(model, {}), ask(id="1", ns="a"), ask(id="2", ns="b"))
        assert [answer.data for answer in answers] == [["p 0"], ["p 0"]]
        assert sorted(answer.cached for answer in answers) == [[False], [True]]
        assert model.counts == [1]

    asyncio.run(main())


@pytest.mark.parametrize("assembly", ASSEMBLIES)
def test_38_no_samples_are_no_call(assembly: str) -> None:
    async def main() -> None:
        model = Single()
        api = ASSEMBLIES[assembly](model, {})
        assert await api.request(ask(n=0)) == Response([], [], [])
        assert model.calls == []

    asyncio.run(main())


@pytest.mark.parametrize("assembly", ASSEMBLIES)
def test_39_n_is_an_integer_that_is_not_negative(assembly: str) -> None:
    async def main() -> None:
        api = ASSEMBLIES[assembly](Single(), {})
        with pytest.raises(ValueError, match="n of a request is -1, allowed: 0 or more"):
            await api.request(ask(n=-1))
        wrong: Any
        for wrong in (1.5, "1", True):
            with pytest.raises(TypeError, match="must be an integer"):
                await api.request(ask(n=wrong))
        assert (await api.request(ask())).data == ["p 0"]
        assert api.stats()["requests"] == 1

    asyncio.run(main())


def test_40_what_is_given_beyond_is_kept() -> None:
    class Generous(Single):
        async def request(self, request: Request) -> Response:
            await self._called([request])
            return Response([f"s{i}" for i in range(5)])

    async def main() -> None:
        model = Generous()
        api = online(model, {})
        assert (await api.request(ask(n=2))).data == ["s0", "s1"]
        assert (await api.request(ask(n=3))).data == ["s2", "s3", "s4"]
        assert model.counts == [2]

    asyncio.run(main())


def test_41_what_is_given_short_is_kept() -> None:
    class Stingy(Single):
        async def request(self, request: Request) -> Response:
            await self._called([request])
            return Response(["only"])

    async def main() -> None:
        model = Stingy()
        api = online(model, {})
        with pytest.raises(ShortResponseError, match="1 of 3"):
            await api.request(ask(n=3))
        answer = await api.request(ask(n=1))
        assert (answer.data, answer.cached) == (["only"], [True])
        assert model.counts == [3]

    asyncio.run(main())


@pytest.mark.parametrize("assembly", ASSEMBLIES)
def test_42_a_flag_for_each_sample(assembly: str) -> None:
    async def main() -> None:
        api = ASSEMBLIES[assembly](Single(), {})
        asked = [ask(p, n, f"{p}{n}", ns) for p in "pq" for n in range(4) for ns in "ab"]
        for request, answer in zip(asked, await together(api, *asked), strict=True):
            assert [len(part) for part in answer] == [request.n] * 3

    asyncio.run(main())


@pytest.mark.parametrize("assembly", ASSEMBLIES)
def test_43_the_model_is_told_the_index_of_its_first_sample(assembly: str) -> None:
    async def main() -> None:
        model = Answering(lambda requests: [Response([r.sample_index]) for r in requests])
        if assembly == "online":
            model = Single()
            model._draw = lambda r: Response([r.sample_index + i for i in range(r.n)])  # type: ignore
        api = ASSEMBLIES[assembly](model, {})
        assert (await api.request(ask(n=3, ns="a"))).data == [0, 1, 2]
        assert (await api.request(ask(n=5, ns="b"))).data == [0, 1, 2, 3, 4]

    asyncio.run(main())


def test_what_was_handed_out_is_counted_by_namespace() -> None:
    async def main() -> None:
        cacher = AsyncCacher(Single(), {}, hash=lambda request: str(request.prompt))
        await cacher.request(ask(n=2, ns=None))
        await cacher.request(ask(n=1, ns="a"))
        assert cacher.namespace2used_counts == {None: {"p": 2}, "a": {"p": 1}}
        assert cacher.used_counts == {"p": 2}

    asyncio.run(main())


def test_callers_share_no_object() -> None:
    async def main() -> None:
        model = Single()
        model._draw = lambda _: Response([["mutable"]])  # type: ignore[method-assign]
        api = online(model, {})
        answers = await together(api, *(ask(id=ns, ns=ns) for ns in "abc"))
        answers[0].data[0].append("changed")
        again = await api.request(ask(ns="d"))
        assert [a.data for a in (*answers[1:], again)] == [[["mutable"]]] * 3
        assert len(model.calls) == 1

    asyncio.run(main())


def test_requests_of_one_turn_are_read_together(tmp_path: Path) -> None:
    class Counting(Cache):
        reads = 0

        def read(self, wants: Any) -> Any:
            self.reads += 1
            return super().read(wants)

    async def main() -> None:
        cache = Counting(tmp_path)
        async with LocalAPI(Grouped(), cache, 50, timeout=0) as api:
            for round_ in "ab":
                before = cache.reads
                asked = [ask(f"p{i}", id=str(i), ns=round_) for i in range(50)]
                answers = await together(api, *asked)
                assert [answer.data for answer in answers] == [[f"p{i} 0"] for i in range(50)]
                assert cache.reads == before + 1

    asyncio.run(main())


def test_a_request_stands_before_a_group_that_is_asked_after_it() -> None:
    async def main() -> None:
        cacher = AsyncCacher(Single(), {})
        single = asyncio.ensure_future(cacher.request(ask(id="1")))
        group = await cacher.batch_request(Batch([ask(id="2"), ask(id="3")]))
        assert [(await single).data, *(answer.data for answer in group)] == [
            ["p 0"],
            ["p 1"],
            ["p 2"],
        ]

    asyncio.run(main())


@pytest.mark.parametrize("cancel", [False, True])
def test_closing_answers_what_was_asked_in_the_same_turn(cancel: bool) -> None:
    async def main() -> None:
        api = LocalAPI(Grouped(), {}, 4, timeout=None)
        single = asyncio.ensure_future(api.request(ask()))
        await api.cleanup(cancel)
        (answer,) = await asyncio.gather(single, return_exceptions=True)
        assert isinstance(answer, asyncio.CancelledError) if cancel else answer.data == ["p 0"]

    asyncio.run(main())
