"""The checklist of the pipelines, lines 70 to 80: an error reaches only its own caller."""

from __future__ import annotations

import asyncio
from itertools import permutations
from typing import Any

import pytest

from cacher.errors import ModelContractError, ShortResponseError, StoreError, UncacheableRequest
from cacher.pipelines import AsyncBatcher, AsyncCacher, LocalAPI, OnlineAPI, OrderedLocalAPI
from cacher.typedefs import Batch, Request, Response
from tests.pipelines.models import Answering, Grouped, Single, ask, together


def shown(answers: list[Any]) -> list[Any]:
    return [a.data if isinstance(a, Response) else f"{type(a).__name__}: {a}" for a in answers]


@pytest.mark.parametrize("order", list(permutations(["a", "bad", "c"])))
def test_70_71_one_bad_prompt_among_three(order: tuple[str, ...]) -> None:
    async def main() -> None:
        model = Single()
        api = OnlineAPI(model, {}, 3)
        for round_, namespace in ((0, "x"), (1, "x"), (0, "y")):
            answers = await together(
                api, *(ask(prompt, id=prompt, ns=namespace) for prompt in order), errors=True
            )
            got = dict(zip(order, shown(answers), strict=True))
            assert got == {"a": [f"a {round_}"], "c": [f"c {round_}"], "bad": "ValueError: no"}
        assert sorted(model.prompts) == ["a", "a", "bad", "bad", "bad", "c", "c"]

    asyncio.run(main())


def test_72_who_waited_for_a_failing_call_buys() -> None:
    async def main() -> None:
        model = Single()
        model.gate = asyncio.Event()

        def once(_: Request) -> ValueError:
            model.raising = None
            return ValueError("no")

        model.raising = once
        cacher = AsyncCacher(model, {})
        first = asyncio.ensure_future(cacher.request(ask("bad", ns="a")))
        await model.called.wait()
        second = asyncio.ensure_future(cacher.request(ask("bad", ns="b")))
        await asyncio.sleep(0)
        model.gate.set()
        with pytest.raises(ValueError, match="no"):
            await first
        answer = await second
        assert (answer.data, answer.cached) == (["bad 0"], [False])

    asyncio.run(main())


@pytest.mark.parametrize("assembly", [OnlineAPI, LocalAPI])
def test_73_what_was_bought_before_the_failure_is_kept(assembly: Any) -> None:
    class Failing(Grouped):
        async def batch_request(self, batch: Any) -> list[Any]:
            if len(self.calls) == 1 and self.raising is not None:
                self.raising = None
                raise ValueError("second")
            return await super().batch_request(batch)

    async def main() -> None:
        model = Failing()
        options = {"isolate_failures": False} if assembly is LocalAPI else {}
        api = assembly(model, {}, 2, timeout=0, **options)
        with pytest.raises(ValueError, match="second"):
            await api.request(ask(n=4))
        answer = await api.request(ask(n=4))
        assert answer.data == ["p 0", "p 1", "p 2", "p 3"]
        assert answer.cached == [True, True, False, False]
        assert sum(model.counts) == 4

    asyncio.run(main())


@pytest.mark.parametrize("isolate", [True, False])
def test_74_a_group_that_fails_as_a_whole(isolate: bool) -> None:
    async def main() -> None:
        model = Grouped()
        batcher = AsyncBatcher(model, 3, isolate_failures=isolate)
        asked = [ask(prompt, id=prompt) for prompt in ("a", "bad", "c")]
        answers = await together(batcher, *asked, errors=True)
        if isolate:
            assert [type(answer) for answer in answers] == [Response, ValueError, Response]
            assert model.sizes == [3, 1, 1, 1]
        else:
            assert shown(answers) == ["ValueError: no"] * 3
            assert len({id(answer) for answer in answers}) == 3

    asyncio.run(main())


def test_75_too_few_answers_and_too_many(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        batcher = AsyncBatcher(Answering(lambda _: [Response(["x"])]), 2)
        answers = await together(batcher, ask(id="1"), ask(id="2"), errors=True)
        text = "ModelContractError: the model returned 1 answers for 2 requests"
        assert shown(answers) == [["x"], text]
        batcher = AsyncBatcher(Answering(lambda rs: [Response(["x"])] * (len(rs) + 1)), 2)
        assert shown(await together(batcher, ask(id="1"), ask(id="2"))) == [["x"], ["x"]]
        assert "3 answers for 2 requests" in caplog.text

    asyncio.run(main())


def test_76_an_exception_in_the_list_is_of_one_request() -> None:
    async def main() -> None:
        model = Answering(lambda _: [Response(["x"]), ValueError("x")])
        answers = await together(AsyncBatcher(model, 2), ask(id="1"), ask(id="2"), errors=True)
        assert shown(answers) == [["x"], "ValueError: x"]

    asyncio.run(main())


@pytest.mark.parametrize("assembly", ["batcher", "online", "local", "ordered"])
def test_77_a_model_may_raise_cancelled_error(assembly: str) -> None:
    async def main() -> None:
        model = Grouped()
        model.raising = lambda _: asyncio.CancelledError()
        api: Any = {
            "batcher": lambda: AsyncBatcher(model, 1),
            "online": lambda: OnlineAPI(model, {}, 1),
            "local": lambda: LocalAPI(model, {}, 1),
            "ordered": lambda: OrderedLocalAPI(model, {}, 1, 1),
        }[assembly]()
        with pytest.raises(asyncio.CancelledError):
            await api.request(ask("bad"))
        assert (await api.request(ask("good"))).data == ["good 0"]

    asyncio.run(main())


def test_78_what_is_no_answer() -> None:
    async def main() -> None:
        given: list[Any] = [["plain"], 7, Response("text"), Response([]), None, Response(("t",))]
        model = Answering(lambda _: given)
        asked = [ask(id=str(i)) for i in range(len(given))]
        answers = await together(AsyncBatcher(model, len(given)), *asked, errors=True)
        kinds = [list, ModelContractError, ModelContractError, ShortResponseError]
        assert [type(a) if isinstance(a, Exception) else list for a in answers] == [
            *kinds, ModelContractError, list
        ]  # fmt: skip
        assert str(answers[1]) == "the model returned int, allowed: Response of a list"
        assert answers[0].data == ["plain"]
        for odd in (7, None, Response(["x"])):
            batcher = AsyncBatcher(Answering(lambda _, odd=odd: odd), 1)
            with pytest.raises(ModelContractError, match="for a batch, allowed: a list"):
                await batcher.request(ask())

        class Plain:
            def request(self, _: Request) -> Response:
                return Response(["x"])

        with pytest.raises(ModelContractError, match="something to await"):
            await OnlineAPI(Plain(), {}, 1).request(ask())

    asyncio.run(main())


@pytest.mark.parametrize("assembly", [OnlineAPI, LocalAPI])
def test_79_an_exception_stays_what_it_is(assembly: Any) -> None:
    class RateLimitError(Exception):
        def __init__(self, status: int, *, body: str) -> None:
            super().__init__(f"status {status}")
            self.status, self.body = status, body

    async def main() -> None:
        model = Grouped()
        model.raising = lambda _: RateLimitError(429, body="later")
        api = assembly(model, {}, 2)
        asked = [ask("bad", id="1"), ask("bad", id="2")]
        for error in await together(api, *asked, errors=True):
            assert isinstance(error, RateLimitError)
            assert (error.status, error.body, str(error)) == (429, "later", "status 429")

    asyncio.run(main())


def test_callers_of_one_call_get_exceptions_of_their_own() -> None:
    async def main() -> None:
        api = OnlineAPI(Single(), {}, 2)
        one, two = await together(api, ask("bad", id="1"), ask("bad", id="2"), errors=True)
        assert one is not two
        assert two.__cause__ is one
        assert (str(one), str(two)) == ("no", "no")

    asyncio.run(main())


@pytest.mark.parametrize("assembly", ["batcher", "cacher", "online", "local", "ordered"])
def test_80_a_failing_member_of_a_batch(assembly: str) -> None:
    async def main() -> None:
        model = Grouped()
        api: Any = {
            "batcher": lambda: AsyncBatcher(model, 3, timeout=0),
            "cacher": lambda: AsyncCacher(model, {}),
            "online": lambda: OnlineAPI(model, {}, 3, timeout=0),
            "local": lambda: LocalAPI(model, {}, 3, timeout=0),
            "ordered": lambda: OrderedLocalAPI(model, {}, 3, 3, timeout=0),
        }[assembly]()
        wrong: Any = ask(id="4")
        object.__setattr__(wrong, "n", "1")
        batch = Batch([ask("b", id="1"), ask("bad", id="2"), ask("c", id="3")])
        with pytest.raises(ValueError, match="no"):
            await api.batch_request(batch)
        batch.requests.append(wrong)
        answers = await api.batch_request(batch, return_exceptions=True)
        assert [type(a) for a in answers] == [Response, ValueError, Response, TypeError]
        if assembly != "batcher":  # nothing counted as handed out
            assert shown(answers)[::2] == [["b 0"], ["c 0"]]
        with pytest.raises(TypeError, match="n of a request must be an integer"):
            await api.batch_request(batch)

    asyncio.run(main())


def test_a_request_without_a_key_fails_alone() -> None:
    async def main() -> None:
        for make in (lambda m: OnlineAPI(m, {}, 2), lambda m: LocalAPI(m, {}, 1)):
            odd = Request(kwargs={"callback": print}, n=1, request_id="1", namespace="a")
            answers = await together(make(Grouped()), odd, ask(id="2"), errors=True)
            assert isinstance(answers[0], UncacheableRequest)
            assert "kwargs['callback']" in str(answers[0])
            assert answers[1].data == ["p 0"]

    asyncio.run(main())


class Failing(dict[str, list[Any]]):
    """A cache that can be read, and not written."""

    def set(self, key: str, _: list[Any]) -> None:
        raise OSError(f"no space left for {key[:4]}")


def test_a_store_that_cannot_be_written(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        model = Single()
        api = OnlineAPI(model, Failing(), 8, timeout=0)
        assert (await api.request(ask(n=2))).data == ["p 0", "p 1"]
        assert (await api.request(ask(ns="b", n=2))).data == ["p 0", "p 1"]
        assert (await api.request(ask("q"))).data == ["q 0"]
        assert model.counts == [2, 1]
        assert api.stats()["store_errors"] == 2
        assert caplog.text.count("no space left") == 1
        strict = OnlineAPI(model, Failing(), 8, timeout=0, on_store_error="raise")
        for _ in range(2):
            with pytest.raises(StoreError, match="no space left"):
                await strict.request(ask())
        assert strict.cached_model.namespace2used_counts == {}

    asyncio.run(main())


def test_a_later_sample_moves_up_when_an_earlier_one_fails() -> None:
    class Second(Single):
        async def request(self, request: Request) -> Response:
            await self._called([request])
            if request.request_id == "1":
                raise ValueError("first")
            return self._draw(request)

    async def main() -> None:
        model = Second()
        model.gate = asyncio.Event()
        cacher = AsyncCacher(model, {})
        both = asyncio.ensure_future(
            together(cacher, ask(n=2, id="1"), ask(n=1, id="2"), errors=True)
        )
        while len(model.calls) < 2:
            await asyncio.sleep(0)
        model.gate.set()
        first, second = await both
        assert str(first) == "first"
        assert second.data == ["p 0"]
        assert (await cacher.request(ask(id="3"))).data == ["p 1"]
        assert (await cacher.request(ask(id="4", ns="b", n=2))).data == ["p 0", "p 1"]
        assert list(cacher.cache.values()) == [["p 0", "p 1"]]

    asyncio.run(main())


def test_the_end_of_a_program_releases_those_who_wait() -> None:
    model = Grouped()
    model.raising = lambda _: KeyboardInterrupt()
    api = LocalAPI(model, {}, 1)
    loop = asyncio.new_event_loop()
    tasks = [loop.create_task(api.request(ask(p, id=p))) for p in ("bad", "b", "c")]
    for _ in range(5):
        try:
            loop.run_until_complete(asyncio.wait(tasks))
            break
        except KeyboardInterrupt:
            pass
    assert [type(task.exception()).__name__ for task in tasks] == [
        "KeyboardInterrupt", "PipelineClosed", "PipelineClosed"
    ]  # fmt: skip
    loop.run_until_complete(api.cleanup())
    loop.close()
