"""Chats of models of the package: through their engine, alone and within the whole server."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cacher
from cacher import _core
from cacher.chat.formats import format_of
from cacher.config import Settings
from cacher.niels_gpt.chat_format import format_chat
from cacher.niels_gpt.config import ChatSettings
from cacher.niels_gpt.generation import generate_full_attn, stream_chat_events
from cacher.niels_gpt.main import create_app
from cacher.niels_gpt.rate_limit import RateLimiter
from cacher.niels_gpt.speaker import Wanted
from cacher.params import SamplingParams
from cacher.server.app import create_app as create_whole
from cacher.server.routes import chat
from tests.niels_gpt.chat import (
    Chat,
    events,
    reply,
    request,
    served,
    together,
    tokens,
    traces,
    until,
)

SAID: Any = [
    {"role": "system", "content": "Tell a story."},
    {"role": "user", "content": "Who lives in the wood?"},
]
WARM = {"temperature": 0.9, "top_k": 50, "trace_layer": 3}


@pytest.fixture(scope="module")
def model() -> cacher.Model:
    return cacher.load("tales")


@pytest.fixture(scope="module")
def tales(model: cacher.Model) -> Iterator[Chat]:
    """A service of the built-in model."""
    with served(create_app(model=model)) as found:
        yield found


def test_a_stream_is_what_the_state_would_say(tales: Chat, model: cacher.Model) -> None:
    found = tales.stream(SAID, **WARM, max_new_tokens=12)
    ids = format_of(model).prompt(SAID)
    sampling = Wanted(temperature=0.9, top_k=50).sampling()
    for n, (token_id, data) in enumerate(zip(tokens(found), traces(found), strict=True)):
        state = model.state(ids)
        assert np.array_equal(
            np.float32(data["attn"]), state.attention(3, first=len(ids) - 1)[:, 0]
        )
        params = SamplingParams(**sampling).core(done=n)
        want = _core.sample_traced(state.logits(), (), params)
        assert (token_id, data["entropy"]) == want[:2]
        assert [(item["token_id"], item["prob"]) for item in data["topk"]] == list(want[2])
        ids.append(token_id)
    assert reply(found) == model.tokenizer.decode(tokens(found)).strip()


def test_behind_a_full_window_the_last_tokens_are_read_anew(
    tales: Chat, model: cacher.Model
) -> None:
    said: Any = [{"role": "user", "content": "once upon a time " * 253}]
    ids = format_of(model).prompt(said)
    assert 1024 - 4 <= len(ids) < 1024
    found = tales.stream(said, **WARM, seed=3, max_new_tokens=8)
    sampling = Wanted(temperature=0.9, top_k=50, seed=3).sampling()
    for n, (token_id, data) in enumerate(zip(tokens(found), traces(found), strict=True)):
        assert len(data["attn"][0]) == min(len(ids), 1024)
        if n in (0, 7):
            state = model.state(ids[-1024:])
            params = SamplingParams(**sampling).core(done=n)
            assert token_id == _core.sample_traced(state.logits(), (), params)[0]
            row = state.attention(3, first=len(state) - 1)[:, 0]
            assert np.array_equal(np.float32(data["attn"]), row)
        ids.append(token_id)


def test_streams_together_are_those_alone(tales: Chat) -> None:
    bodies = [
        request(SAID, **{**WARM, "trace_layer": i % 3}, seed=i // 2, max_new_tokens=12)
        for i in range(8)
    ]
    alone = [tales.post("/chat/stream", body).content for body in bodies]
    assert together(tales, bodies) == alone
    assert tokens(events(alone[0])) == tokens(events(alone[1]))  # of another layer


async def leave(address: str, body: dict[str, Any], n_traces: int) -> None:
    """Send a request, leave when so many traces have come."""
    host, port = address.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    data = json.dumps(body).encode()
    head = f"POST /chat/stream HTTP/1.1\r\nHost: test\r\nContent-Length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data)
    await writer.drain()
    heard = b""
    while heard.count(b"event: trace") < n_traces and b"event: done" not in heard:
        heard += await reader.read(65_536)
    writer.close()


def test_100_clients_that_leave_leave_no_live_pages(tales: Chat, model: cacher.Model) -> None:
    body = {**request(SAID, **WARM), "max_new_tokens": 900}

    async def crowd() -> None:
        address = str(tales.http.base_url)
        bodies = ({**body, "seed": i, "trace_layer": i % 6} for i in range(100))
        await asyncio.gather(*(leave(address, one, i % 5) for i, one in enumerate(bodies)))

    computed = model.stats.tokens_computed
    asyncio.run(crowd())
    until(lambda: model.stats.pages_live == 0)
    model.check()
    assert model.stats.tokens_computed - computed < 100 * 200  # of 100 * 900 that were asked for


def test_a_matrix_of_a_model(tales: Chat, model: cacher.Model) -> None:
    found = tales.look(SAID, trace_layer=2, head=5)
    state = model.state(found["token_ids"])
    assert np.array_equal(np.float32(found["attn"]), state.attention(2, 5))
    assert "".join(found["tokens"]) == format_chat(SAID).rstrip()
    assert "\\x0a" in found["tokens_display"]
    drawn = tales.stream(SAID, temperature=0.9, top_k=50, seed=9, max_new_tokens=5)
    looked = tales.look(SAID, max_new_tokens=5, seed=9)
    assert looked["token_ids"] == found["token_ids"] + tokens(drawn)


def test_a_notebook_gets_what_the_server_sends(tales: Chat, model: cacher.Model) -> None:
    async def main() -> list[Any]:
        stream = stream_chat_events(model, messages=SAID, max_new_tokens=3, seed=5, trace_layer=1)
        return [event async for event in stream]

    got = asyncio.run(main())
    want = tales.stream(SAID, temperature=0.9, top_k=50, max_new_tokens=3, seed=5, trace_layer=1)
    assert [name for name, _ in got] == [name for name, _ in want]
    for (name, mine), (_, sent) in zip(got, want, strict=True):
        if name == "trace":
            assert np.array_equal(mine.pop("attn"), np.float32(sent.pop("attn")))
        assert mine == sent
    look = asyncio.run(generate_full_attn(model, messages=SAID, trace_layer=1, head=2))
    sent = tales.look(SAID, trace_layer=1, head=2)
    assert np.array_equal(look.pop("attn"), np.float32(sent.pop("attn")))
    assert look == sent


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chat]:
    """The server that serves everything, with keys."""
    keys = Settings.from_env({"CACHER_API_KEYS": "ann:a, bob:b"}).API_KEYS
    settings = Settings(
        CACHE_DIR=str(tmp_path_factory.mktemp("states")), MODEL_NAME="tales",
        API_KEYS=keys, API_KEY_REQUIRED=True,
    )  # fmt: skip
    with served(create_whole(settings, chat=ChatSettings(CKPT_REPO_ID=""))) as found:
        until(lambda: found.http.get("/health").json()["model_ready"])
        yield found


KEY = {"X-API-Key": "a"}


def test_the_whole_server_chats_with_its_default_model(whole: Chat, tales: Chat) -> None:
    health = whole.http.get("/health").json()
    assert (health["status"], health["ok"], health["model_ready"]) == ("healthy", True, True)
    body = request(SAID, **WARM, max_new_tokens=5)
    for path in ("/chat/stream", "/v1/chat/stream", "/chat/stream/"):
        answer = whole.post(path, body, headers=KEY)
        assert answer.content == tales.post("/chat/stream", body).content
    metrics = whole.http.get("/metrics", headers=KEY).text
    assert 'route="/chat/stream",status="200"' in metrics
    assert "cacher_first_token_seconds_count 3.0" in metrics


def test_errors_keep_the_shape_of_their_route(whole: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    body = request(SAID)
    assert set(whole.refused(401, body)) == {"error", "code"}
    assert set(whole.refused(422, {}, headers=KEY)) == {"detail"}
    for path in ("/nope", "/chat"):
        assert set(whole.http.get(path, headers=KEY).json()) == {"detail", "code"}
    answer = whole.http.get("/chat/stream", headers=KEY)
    assert (answer.status_code, answer.json()) == (405, {"detail": "Method Not Allowed"})
    assert set(whole.post("/states", {"model_id": 3}, headers=KEY).json()) == {"detail", "code"}
    monkeypatch.setattr(chat, "rate_limiter", RateLimiter(0, 0))
    assert whole.refused(429, body, headers=KEY)["error"] == "Rate limit exceeded"


def test_what_a_tenant_has_read_is_hidden_from_another(whole: Chat) -> None:
    said = [{"role": "user", "content": "A text that nobody else has " * 20}]

    def reused() -> float:
        text = whole.http.get("/metrics", headers=KEY).text
        (line,) = (one for one in text.splitlines() if 'tokens_total{how="reused"' in one)
        return float(line.rsplit(" ", 1)[1])

    for key, again in (("a", False), ("b", False), ("a", True)):
        before = reused()
        whole.post("/chat/stream", request(said, max_new_tokens=1), headers={"X-API-Key": key})
        assert (reused() > before) == again


def test_a_model_of_another_name(tmp_path: Path) -> None:
    chat = ChatSettings.from_env({"CHAT_MODEL_ID": "nobody/has-this", "CKPT_DIR": str(tmp_path)})
    settings = Settings(CACHE_DIR=str(tmp_path / "states"), MODEL_NAME="tales")
    with served(create_whole(settings, chat=chat)) as found:
        until(lambda: found.refused(503, request())["code"] == "model_failed")
        assert found.post("/states", {"model_id": "tales"}).status_code == 200
        assert found.http.get("/health").json()["model_ready"] is False


def test_an_encoder_does_not_chat() -> None:
    with pytest.raises(cacher.WrongModelTypeError, match="a chat needs a causal_lm model"):
        create_app(model=cacher.load("minilm"))
    with pytest.raises(cacher.ParameterError, match="has no sizes of its own"):
        create_app(model=object())


TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}"
    "{{ raise_exception('no system messages') }}{% endif %}{% if m.content == 'bomb' %}"
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}{% endif %}"
    "<{{ m.role }}>{{ m.content }}"
    "{% endfor %}{% if add_generation_prompt %}<answer>{% endif %}"
)


def test_a_chat_template_of_the_models_own(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(cacher.hub.find("tales"), folder)
    options = {"chat_template": TEMPLATE, "bos_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(options))
    model = cacher.load(folder)
    with served(create_app(model=model)) as chat:
        found = chat.look([{"role": "user", "content": "hi"}])
        assert "".join(found["tokens"]) == "<|endoftext|><user>hi<answer>"
        assert found["token_ids"] == model.tokenizer.encode("<|endoftext|><user>hi<answer>")
        for path, body in (
            ("/chat/stream", request(SAID)),
            ("/inspect/full_attn", {"messages": SAID, "trace_layer": 0, "head": 0}),
        ):
            assert "no system messages" in chat.refused(422, body, path)["detail"]
        with ThreadPoolExecutor() as pool:
            bomb = request([{"role": "user", "content": "bomb"}])
            refused, answered = pool.submit(chat.refused, 422, bomb), 0
            while not refused.done():  # meanwhile the server goes on
                answered += chat.http.get("/health").json()["ok"]
        assert refused.result()["detail"] == "the chat template computes for over 1 s"
        assert answered > 20
        assert len(tokens(chat.stream([{"role": "user", "content": "hi"}]))) <= 8
