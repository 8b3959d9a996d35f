"""The checklist of the pipelines, lines 62, 107 to 113, 116 and 118: with stand-ins for the SDK."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import cacher.pipelines.openai as module
from cacher.errors import PipelineClosed
from cacher.pipelines.background import BackgroundLoop
from cacher.pipelines.openai import AsyncOpenAI
from cacher.pipelines.wrapper import (
    APIProxy,
    AsyncWrapper,
    SyncWrapper,
    Wrapper,
    default_adapter,
    gemini_chat_adapter,
    openai_chat_adapter,
)
from cacher.typedefs import Batch, Metadata, Request, Response
from tests.pipelines.loops import in_a_loop


class StandIn:
    """In the place of the SDK's class: one object, made and called as that is."""

    def __init__(self) -> None:
        self.made: list[dict[str, Any]] = []
        self.calls: list[dict[str, Any]] = []
        self.count = 0
        self.chat = SimpleNamespace(completions=self)

    def __call__(self, **options: Any) -> StandIn:
        self.made.append(options)
        return self

    async def create(self, **kwargs: Any) -> SimpleNamespace:
        self.calls.append(kwargs)
        first, self.count = self.count, self.count + kwargs["n"]
        choices = [
            SimpleNamespace(index=i, message=SimpleNamespace(content=f"answer {first + i}"))
            for i in range(kwargs["n"])
        ]
        return SimpleNamespace(id=f"id-{first}", choices=choices)


@pytest.fixture
def sdk(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setattr(module, "AsyncClient", stand_in)
    return stand_in


def texts(reply: Any) -> list[str]:
    return [choice.message.content for choice in reply.choices]


class Counting:
    """Both protocols; samples are numbered as they are made."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.count = 0

    async def request(self, request: Request) -> Response:
        self.requests.append(request)
        first, self.count = self.count, self.count + request.n
        return Response(list(range(first, self.count)))

    async def batch_request(self, batch: Batch) -> list[Response]:
        return [await self.request(request) for request in batch.requests]


@pytest.mark.parametrize("pipeline", ["online", "ordered"])
@in_a_loop
async def test_62_call_number_i_gets_sample_number_i(pipeline: str) -> None:
    async with AsyncWrapper(Counting(), pipeline=pipeline, cache={}) as client:
        create = client.chat.completions.create
        calls = [create(prompt="p") for _ in range(12)]
        assert await asyncio.gather(*reversed(calls)) == list(reversed(range(12)))


@in_a_loop
async def test_107_the_sdk_s_client_is_made_once(sdk: StandIn, tmp_path: Path) -> None:
    async with AsyncOpenAI(namespace="t", cachedir=tmp_path, api_key="k", base_url="u") as client:
        await client.chat.completions.create(model="m", messages=[])
    assert sdk.made == [{"api_key": "k", "base_url": "u"}]
    assert (client.namespace, client.cachedir, client.batch_size) == ("t", tmp_path, 1)


@in_a_loop
async def test_108_109_110_one_call_one_object_and_its_metadata(
    sdk: StandIn, tmp_path: Path
) -> None:
    ask: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "q"}]}
    async with AsyncOpenAI(cachedir=tmp_path, api_key="k") as client:
        reply, info = await client.chat.completions.create(
            **ask, n=2, namespace="a", request_id="1", metadata=True
        )
        assert sdk.calls == [{**ask, "n": 2}]
        assert texts(reply) == ["answer 0", "answer 1"]
        assert [choice.index for choice in reply.choices] == [0, 1]
        assert reply.id == "id-0"
        assert info == Metadata(2, [False, False], [False, True])
    async with AsyncOpenAI(cachedir=tmp_path, api_key="k") as client:  # what was stored is enough
        again = await client.chat.completions.create(**ask, n=3, namespace="b")
        assert texts(again) == ["answer 0", "answer 1", "answer 2"]
    assert [call["n"] for call in sdk.calls] == [2, 1]


@in_a_loop
async def test_108_the_number_of_samples_is_found_and_taken_out() -> None:
    model = Counting()
    config = SimpleNamespace(candidate_count=3, temperature=1.0)
    async with AsyncWrapper(model, cache={}) as client:
        for kwargs, n in (
            ({"n": 2}, 2),
            ({"n": None, "num_return_sequences": 5}, 1),
            ({"config": config}, 3),
            ({"num_return_sequences": 4}, 4),
            ({}, 1),
        ):
            _, info = await client.generate(**kwargs, seed=n, metadata=True)
            assert (info.n, model.requests[-1].n) == (n, n)
            assert "n" not in model.requests[-1].kwargs
    assert [sorted(request.kwargs) for request in model.requests] == [
        ["seed"], ["num_return_sequences", "seed"], ["config", "seed"], ["seed"], ["seed"],
    ]  # fmt: skip
    assert config.candidate_count == 3
    assert model.requests[2].kwargs["config"].candidate_count is None


@in_a_loop
async def test_111_what_does_not_change_an_answer_shares_it(sdk: StandIn, tmp_path: Path) -> None:
    async with AsyncOpenAI(cachedir=tmp_path, api_key="k") as client:
        create = client.chat.completions.create
        one = await create(model="m", messages=[], store=True, temperature=0.5, namespace="a")
        two = await create(model="m", messages=[], store=False, temperature=0.5, namespace="b")
        other = await create(model="m", messages=[], temperature=1.0, namespace="c")
    assert one == two
    assert texts(other) == ["answer 1"]
    assert [call.get("store") for call in sdk.calls] == [True, None]


@in_a_loop
async def test_112_every_chain_leads_to_the_call(sdk: StandIn, tmp_path: Path) -> None:
    async with AsyncOpenAI(cachedir=tmp_path, api_key="k") as client:
        for number, create in enumerate(
            (
                client.foo.bar.baz,
                client.chat.completions.create,
                client.messages.create,
                client.chat,
            )
        ):
            assert texts(await create(model="m", messages=[])) == [f"answer {number}"]
        assert len(sdk.calls) == 4
        for owner in (client, client.chat, client.chat.completions):
            with pytest.raises(AttributeError, match="_x"):
                _ = owner._x
        with pytest.raises(NotImplementedError, match=r"embeddings\.create"):
            await client.embeddings.create(input="x")


@in_a_loop
async def test_113_streams_are_not_for_a_cache(sdk: StandIn, tmp_path: Path) -> None:
    async with AsyncOpenAI(cachedir=tmp_path, api_key="k") as client:
        with pytest.raises(NotImplementedError, match="stream=True"):
            await client.chat.completions.create(model="m", messages=[], stream=True)
        await client.chat.completions.create(model="m", messages=[], stream=False)
    assert sdk.calls == [{"model": "m", "messages": [], "n": 1}]


def test_116_an_unknown_pipeline_is_refused() -> None:
    with pytest.raises(ValueError, match="'other'"):
        Wrapper(pipeline="other")
    with pytest.raises(ValueError, match="'other'"):
        AsyncWrapper(Counting(), pipeline="other", cache={})


@pytest.mark.parametrize("pipeline", ["online", "local", "ordered"])
def test_117_a_sync_client_of_any_model(pipeline: str) -> None:
    with SyncWrapper(Counting(), cache={}, pipeline=pipeline, batch_size=2) as client:
        assert client.complete(prompt="p", n=3) == [0, 1, 2]
        assert client.complete(prompt="p") == 3
        assert client.complete(prompt="p", n=2, namespace="other") == [0, 1]
        assert client.stats()["fresh"] == 4


def test_118_the_default_adapter() -> None:
    sample = object()
    assert default_adapter(Response([sample])) is sample
    assert default_adapter(Response([sample, 1])) == [sample, 1]
    assert default_adapter(Response([])) == []


def test_adapters_leave_samples_alone_and_take_none() -> None:
    samples = [SimpleNamespace(id=i, choices=[{"index": 0, "text": [i]}]) for i in range(2)]
    joined = openai_chat_adapter(Response(samples))
    assert joined.choices == [{"index": 0, "text": [0]}, {"index": 1, "text": [1]}]
    joined.choices[0]["text"].append("changed")
    assert [sample.choices for sample in samples] == [
        [{"index": 0, "text": [0]}], [{"index": 0, "text": [1]}],
    ]  # fmt: skip
    assert openai_chat_adapter(Response([])).choices == []
    assert gemini_chat_adapter(Response([])).candidates == []
    both = gemini_chat_adapter(Response([SimpleNamespace(candidates=[i]) for i in "ab"]))
    assert both.candidates == ["a", "b"]


def test_a_proxy_hands_its_arguments_on() -> None:
    proxy = APIProxy(lambda *args, **named: (args, named))
    assert proxy("a", b=1) == proxy.x.y.z("a", b=1) == (("a",), {"b": 1})
    with pytest.raises(AttributeError):
        _ = proxy.x._y


@in_a_loop
async def test_a_model_may_make_its_own_keys() -> None:
    class Coarse(Counting):
        def hash(self, request: Request) -> str:
            return str(request.kwargs["topic"])

    async with AsyncWrapper(Coarse(), cache={}) as client:
        assert await client.ask(topic="a", wording=1) == 0
        assert await client.ask(topic="a", wording=2, namespace="other") == 0
        assert await client.ask(topic="b", wording=1) == 1


class TestBackgroundLoop:
    def test_what_is_raised_is_the_caller_s(self) -> None:
        async def fail() -> None:
            raise LookupError("here")

        loop = BackgroundLoop()
        with pytest.raises(LookupError, match="here"):
            loop.run(fail)
        loop.close(lambda: asyncio.sleep(0))

    def test_it_refuses_to_wait_for_itself(self) -> None:
        loop = BackgroundLoop()

        async def call_again() -> None:
            loop.run(lambda: asyncio.sleep(0))

        with pytest.raises(RuntimeError, match="its own event loop"):
            loop.run(call_again)
        loop.close(lambda: asyncio.sleep(0))

    def test_it_ends_with_the_object(self) -> None:
        loop = BackgroundLoop()
        thread = loop.run(self.thread)
        assert thread.is_alive()
        del loop
        thread.join(10)
        assert not thread.is_alive()

    def test_closing_twice_and_never_begun(self) -> None:
        loop = BackgroundLoop()
        for _ in range(2):
            loop.close(lambda: asyncio.sleep(0))
        with pytest.raises(PipelineClosed):
            loop.run(self.thread)

    @staticmethod
    async def thread() -> threading.Thread:
        return threading.current_thread()
