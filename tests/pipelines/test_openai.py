"""OpenAI's own client behind a cache, against a provider on a real socket."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion

from cacher.errors import MissingExtraError, PipelineClosed
from cacher.pipelines.openai import AsyncOpenAI, OpenAI, OpenAIModel
from cacher.typedefs import Metadata, Request
from tests.pipelines.loops import in_a_loop
from tests.pipelines.provider import Provider, serving

ASK: dict[str, Any] = {
    "model": "small",
    "messages": [{"role": "user", "content": "One colour, please."}],
}


@pytest.fixture
def provider() -> Iterator[Provider]:
    with serving() as provider:
        yield provider


def texts(reply: ChatCompletion) -> list[str | None]:
    return [choice.message.content for choice in reply.choices]


@in_a_loop
async def test_replies_are_the_sdk_s_own_and_replayed_equal(
    provider: Provider, tmp_path: Path
) -> None:
    async with AsyncOpenAI("draft-3", tmp_path, **provider.options) as client:
        reply, info = await client.chat.completions.create(**ASK, n=3, metadata=True)
    assert type(reply) is ChatCompletion
    assert texts(reply) == ["answer 0", "answer 1", "answer 2"]
    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    assert reply.choices[2].message.reasoning_content == "thought 2"  # type: ignore[attr-defined]
    assert (reply.id, reply.usage.prompt_tokens) == ("chatcmpl-0", 5)  # type: ignore[union-attr]
    assert info == Metadata(3, [False] * 3, [False, True, True])
    async with AsyncOpenAI("another", tmp_path, **provider.options) as client:
        again, info = await client.chat.completions.create(**ASK, n=3, metadata=True)
        assert client.stats()["model_calls"] == 0
    assert again == reply
    assert again.model_dump() == reply.model_dump()
    assert info == Metadata(3, [True] * 3, [False] * 3)
    assert provider.calls == [{**ASK, "n": 3}]
    assert provider.headers[0]["authorization"] == "Bearer k"


@in_a_loop
async def test_a_store_holds_plain_data(provider: Provider, tmp_path: Path) -> None:
    async with AsyncOpenAI(cachedir=tmp_path, **provider.options) as client:
        reply = await client.chat.completions.create(**ASK)
        (sample,) = client.cache.samples(
            Request((), ASK, n=1, request_id="1", namespace=None).hash()
        )
    assert sample == reply.to_dict()
    assert type(sample["choices"][0]["message"]) is dict


@in_a_loop
async def test_what_the_provider_refuses_is_the_caller_s(
    provider: Provider, tmp_path: Path
) -> None:
    async with AsyncOpenAI(cachedir=tmp_path, **provider.options) as client:
        forbidden, allowed = await asyncio.gather(
            client.chat.completions.create(**{**ASK, "model": "forbidden"}),
            client.chat.completions.create(**ASK),
            return_exceptions=True,
        )
        assert texts(allowed) == ["answer 0"]
        assert type(forbidden) is openai.PermissionDeniedError
        assert (forbidden.status_code, forbidden.code) == (403, "forbidden")
        assert forbidden.body == {
            "message": "not for you",
            "type": "permission",
            "code": "forbidden",
        }
        with pytest.raises(openai.PermissionDeniedError, match="not for you"):
            await client.chat.completions.create(**{**ASK, "model": "forbidden"})


@in_a_loop
async def test_a_prompt_is_turned_into_a_call(provider: Provider) -> None:
    model = OpenAIModel(**provider.options)
    request: Any = Request(prompt="Hi", n=2, request_id="1", namespace=None)
    request.__dict__.update(model="small", temperature=0.0)
    answer = await model.request(request)
    assert [texts(sample) for sample in answer.data] == [["answer 0"], ["answer 1"]]
    messages = [{"role": "user", "content": "Hi"}]
    assert provider.calls == [{"model": "small", "temperature": 0.0, "messages": messages, "n": 2}]
    await model.aclose()


def test_one_client_serves_one_loop_after_another(provider: Provider, tmp_path: Path) -> None:
    client = AsyncOpenAI(cachedir=tmp_path, **provider.options)

    async def ask() -> list[str | None]:
        return texts(await client.chat.completions.create(**ASK))

    assert [asyncio.run(ask()) for _ in range(3)] == [["answer 0"], ["answer 1"], ["answer 2"]]
    asyncio.run(client.close())


def test_117_the_sync_client_works_without_a_loop_in_one_and_from_two_threads(
    provider: Provider, tmp_path: Path
) -> None:
    with OpenAI(cachedir=tmp_path, **provider.options) as client:
        create = client.chat.completions.create
        assert texts(create(**ASK)) == ["answer 0"]

        async def inside() -> ChatCompletion:
            return create(**ASK)

        assert texts(asyncio.run(inside())) == ["answer 1"]
        with ThreadPoolExecutor(2) as pool:
            replies = pool.map(lambda _: create(**ASK), range(8))
            found = sorted(texts(reply)[0] or "" for reply in replies)
        assert found == [f"answer {number}" for number in range(2, 10)]
        assert client.stats()["delivered"] == 10
    with pytest.raises(PipelineClosed):
        create(**ASK)
    client.close()


def test_a_program_ends_without_closing(provider: Provider, tmp_path: Path) -> None:
    code = (
        "import sys, threading\n"
        "from cacher.pipelines.openai import OpenAI\n"
        "assert 'openai' not in sys.modules and threading.active_count() == 1\n"
        f"options = {dict(cachedir=str(tmp_path), **provider.options)!r}\n"
        "client = OpenAI(**options)\n"
        "assert threading.active_count() == 1\n"
        f"print(client.chat.completions.create(**{ASK!r}).choices[0].message.content)\n"
    )
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert (done.stdout, done.stderr, done.returncode) == ("answer 0\n", "", 0)


def test_a_missing_sdk_is_an_import_error_that_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    for client in (AsyncOpenAI, OpenAI):
        with pytest.raises(MissingExtraError, match=r"cacher\[openai\]") as raised:
            client(cachedir=tmp_path / "cache", api_key="k")
        assert isinstance(raised.value, ImportError)
    assert not (tmp_path / "cache").exists()
