"""The client where the other side is no server, dies or stands still; and its own end."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from cacher import CacherAPIError, CacherClient, ParameterError
from cacher.client import UNSET
from cacher.schemas import analysis, bookkeeping, classification, generation, service, states
from tests.server.conftest import over_socket
from tests.server.test_process import process

JSON = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{}"
CHUNKS = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with over_socket() as found:
        yield found


@asynccontextmanager
async def answering(
    answer: str, *, then_wait: bool = False
) -> AsyncIterator[tuple[str, list[str]]]:
    """A server that gives every request the same bytes: its address, and the requests."""
    heads: list[str] = []
    waiting = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(answer.encode())
        await writer.drain()
        if then_wait:
            await waiting.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}", heads
    finally:
        waiting.set()
        server.close()


async def read(client: CacherClient, *, stream: bool) -> Any:
    if stream:
        return [record async for record in client.stream_tokens("x")]
    return await client.get_state("x")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ("", None),
        ("SSH-2.0-nothing\r\n\r\n", None),
        (JSON.format(99, "{}"), None),
        (f'{CHUNKS}8\r\n{{"a": ', None),
        (JSON.format(5, "<html"), 200),
        (JSON.format(2, "[]"), 200),
        (JSON.format(1, "5"), 200),
        ("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 6\r\n\r\n<html>", 502),
        ("HTTP/1.1 307 Again\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", None),
    ],
)
def test_what_is_no_answer_is_one_kind_of_error(
    stream: bool, answer: str, status: int | None
) -> None:
    async def main() -> None:
        async with answering(answer) as (url, _), CacherClient(url) as client:
            with pytest.raises(CacherAPIError) as caught:
                await read(client, stream=stream)
            assert caught.value.status_code == status
            assert (caught.value.details == "No response") == (status is None)

    asyncio.run(main())


@pytest.mark.parametrize("stream", [False, True])
def test_a_server_that_stands_still(stream: bool) -> None:
    async def main() -> None:
        begun = f'{CHUNKS}8\r\n{{"a": 1}}\r\n'
        async with (
            answering(begun, then_wait=True) as (url, _),
            CacherClient(url, timeout=0.1) as client,
        ):
            with pytest.raises(CacherAPIError, match="no response: not in time") as caught:
                await read(client, stream=stream)
            assert caught.value.status_code is None

    asyncio.run(main())


def test_nothing_is_sent_twice() -> None:
    async def main() -> None:
        async with answering("") as (url, heads), CacherClient(url) as client:
            with pytest.raises(CacherAPIError):
                await client.generate_tokens("x", 5)
            assert len(heads) == 1

    asyncio.run(main())


def test_an_error_in_a_stream_is_raised() -> None:
    async def main() -> None:
        line = '{"error": {"detail": "it broke", "code": "internal_error"}}\n'
        head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n"
        async with answering(head + line) as (url, _), CacherClient(url) as client:
            with pytest.raises(CacherAPIError, match="it broke") as caught:
                await read(client, stream=True)
            assert caught.value.details["code"] == "internal_error"

    asyncio.run(main())


def test_a_server_that_dies_in_a_stream(tmp_path: Path, dead_port: int) -> None:
    async def main() -> None:
        tokens = []

        async def listen() -> None:
            async for record in client.stream_tokens(state.id, 5000, min_tokens=5000):
                tokens.append(record["token"])
                child.kill()

        async with CacherClient(f"http://127.0.0.1:{dead_port}") as client:
            state = await client.create_state("tales", "Once upon a time")
            with pytest.raises(CacherAPIError, match="no response") as caught:
                await listen()
        assert tokens
        assert (caught.value.status_code, caught.value.details) == (None, "No response")

    settings = {"CACHER_MAX_TOKENS_PER_REQUEST": "5000", "CACHER_OFFLINE": "1"}
    with process(tmp_path, dead_port, "-m", "cacher", "serve", **settings) as (child, _http):
        asyncio.run(main())


def test_redirects_are_followed(address: str) -> None:
    async def main() -> None:
        moved = f"HTTP/1.1 307 There\r\nLocation: {address}/tokenize\r\nContent-Length: 0\r\n\r\n"
        async with answering(moved) as (url, _), CacherClient(url) as client:
            assert (await client.tokenize("Hello world"))["count"] == 2

    asyncio.run(main())


def test_proxies_of_the_environment_are_used(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with answering(JSON.format(2, "{}")) as (proxy, heads):
            monkeypatch.setenv("http_proxy", proxy)
            monkeypatch.setenv("no_proxy", "127.0.0.1")
            async with CacherClient("http://far.example") as client:
                await client.get_state("x")
            assert heads[0].startswith("GET http://far.example/states/x HTTP/1.1")
            async with CacherClient(address) as client:
                assert await client.list_models()
            assert len(heads) == 1

    asyncio.run(main())


@pytest.mark.parametrize("state_id", [".", "..", "a/b", "a?b", "a#b", "%2e%2e", "\u00fc \n"])
def test_no_id_leads_to_another_route(address: str, state_id: str) -> None:
    async def main() -> None:
        async with CacherClient(address) as client:
            for call in (client.get_state, client.delete_state, client.analyze_tokens):
                with pytest.raises(CacherAPIError) as caught:
                    await call(state_id)
                assert caught.value.status_code == 404
            with pytest.raises(CacherAPIError) as caught:
                await client.get_model(state_id)
            assert caught.value.status_code in (404, 422)
            for empty in (client.get_state, client.get_model):
                with pytest.raises(ParameterError, match="is empty"):
                    await empty("")

    asyncio.run(main())


def test_a_client_ends_once_and_stays_in_its_event_loop(address: str) -> None:
    client = CacherClient(address)

    async def use() -> None:
        assert await client.list_models()

    asyncio.run(use())
    for call in (client.list_models, client.close, client.stream_tokens("x").__anext__):
        with pytest.raises(RuntimeError, match="belongs to another event loop"):
            asyncio.run(call())  # type: ignore[arg-type]

    async def main() -> None:
        async with CacherClient(address) as client:
            await client.close()
            await client.close()
            for call in (client.list_models, client.stream_tokens("x").__anext__):
                with pytest.raises(RuntimeError, match="the client is closed"):
                    await call()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"base_url": "localhost:8000"}, "base_url is 'localhost:8000', allowed: http://HOST:PORT"),
        ({"base_url": "http://localhost:65536"}, "base_url is"),
        ({"base_url": ""}, "base_url is ''"),
        ({"timeout": 0}, "timeout is 0, allowed: above 0"),
        ({"timeout": float("nan")}, "timeout is nan"),
        ({"api_key": "secret\n"}, "api_key is not allowed: 1 to 512 visible ASCII"),
    ],
)
def test_arguments_that_are_none(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ParameterError, match=words) as caught:
        CacherClient(**arguments)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        (
            "create_state",
            "model_id, text=None, config=None, *, model_type, state_id, metadata, token_analysis",
        ),
        ("get_state", "state_id"),
        ("delete_state", "state_id"),
        ("list_states", "limit=100, offset=0"),
        ("update_config", "state_id, config"),
        (
            "generate_tokens",
            "state_id, max_tokens=1, temperature, top_p, stop_sequences=None, stream=False, seed",
        ),
        (
            "generate_beam",
            "state_id, num_beams=5, max_length=50, diversity_penalty=None, early_stopping=True, *, "
            "diverse_groups, length_penalty, no_repeat_ngram_size, include_trace=False",
        ),
        ("generate_multi", "state_id, n=3, max_tokens=1"),
        ("generate", "text_input=None, *, state_id=None, max_new_tokens=50"),
        ("forward", "text_input, *, state_id=None"),
        ("tokenize", "text, model_id=None"),
        ("detokenize", "tokens, model_id=None"),
        ("get_top_n_tokens", "state_id, n=5"),
        ("analyze_tokens", "state_id"),
        ("analyze_attention", "state_id, layer=None, threshold, head=None"),
        ("inspect_cache", "state_id, key_name=None, layer_range=None, *, layer"),
        ("classify", "state_id, text=None, *, labels=None, multi_label=False"),
        ("get_embedding", "state_id, token_index=None"),
        ("list_models", ""),
        ("get_model", "model_id"),
        ("fork_state", "state_id"),
        ("merge_states", "state_ids"),
        ("diff_states", "a, b"),
        ("get_history", "state_id"),
        ("create_checkpoint", "state_id, name"),
        ("rollback", "state_id, *, checkpoint=None, revision=None"),
        ("export_state", "state_id"),
        ("import_state", "data"),
    ],
)
def test_methods_have_the_documented_arguments(method: str, parameters: str) -> None:
    """One without a default in the table above that may be left out is UNSET: it is not sent."""
    found: list[str] = []
    for parameter in list(inspect.signature(getattr(CacherClient, method)).parameters.values())[1:]:
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in found:
            found.append("*")
        plain = parameter.default in (parameter.empty, UNSET)
        found.append(parameter.name if plain else f"{parameter.name}={parameter.default!r}")
    assert ", ".join(found) == parameters


@pytest.mark.parametrize(
    ("method", "schema"),
    [
        ("create_state", states.CreateState),
        ("update_config", states.UpdateConfig),
        ("edit_state", states.Edit),
        ("fork_state", states.Fork),
        ("merge_states", states.Merge),
        ("rollback", bookkeeping.Rollback),
        ("stream_tokens", generation.GenerateToken),
        ("generate_multi", generation.GenerateMulti),
        ("generate_beam", generation.GenerateBeam),
        ("generate", generation.Generate),
        ("forward", generation.Forward),
        ("tokenize", service.Tokenize),
        ("detokenize", service.Detokenize),
        ("analyze_tokens", analysis.TokensQuery),
        ("analyze_attention", analysis.AttentionOptions),
        ("inspect_cache", analysis.CacheOptions),
        ("get_embedding", analysis.Embed),
        ("classify", classification.Classify),
    ],
)
def test_every_field_can_be_sent(method: str, schema: type[BaseModel]) -> None:
    parameters = inspect.signature(getattr(CacherClient, method)).parameters
    if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters.values()):
        assert schema.model_fields.keys() <= parameters.keys()
