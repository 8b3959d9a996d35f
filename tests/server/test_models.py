"""Models and tokens: checklist 82, 83, 106, 124."""

from __future__ import annotations

import asyncio

import httpx
import pytest

import cacher
from tests.server.conftest import in_memory

PREFIXES = pytest.mark.parametrize("prefix", ["", "/v1"])


@PREFIXES
def test_106_models(http: httpx.Client, prefix: str) -> None:
    models = http.get(f"{prefix}/models").json()
    assert [m["model_id"] for m in models if m["default"]] == ["tales"]
    assert all(m["description"] for m in models)
    details = http.get(f"{prefix}/models/tales/").json()
    config = details["config"]
    assert {"n_layer", "n_head", "n_embd", "vocab_size", "n_ctx", "bos_token_id"} <= config.keys()
    assert (config["n_layer"], config["n_embd"], config["n_ctx"]) == (6, 256, 1024)
    answer = http.get(f"{prefix}/models/no/such")
    assert (answer.status_code, answer.json()["code"]) == (404, "model_not_found")


def test_a_loaded_model_tells_its_formats() -> None:
    async def run() -> None:
        async with in_memory(DTYPE="int8", KV_DTYPE="bf16") as http:
            await http.post("/tokenize", json={"text": "Hello"})
            found = (await http.get("/models/tales")).json()
            assert (found["loaded"], found["dtype"], found["kv_dtype"]) == (True, "int8", "bf16")

    asyncio.run(run())


@pytest.mark.parametrize("model_id", ["-x", "a/%2e%2e/b", "%2e%2e/tales", "a b", "x" * 201])
def test_ids_that_are_none_are_refused(http: httpx.Client, model_id: str) -> None:
    answer = http.get(f"/models/{model_id}")
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["path", "model_id"]


@PREFIXES
def test_82_tokenize_and_back(http: httpx.Client, prefix: str) -> None:
    for text in ("Hello world", "", "naïve 🦊\u0000\n", "日本語 " * 3000):
        tokens = http.post(f"{prefix}/tokenize", json={"text": text}).json()
        assert tokens["model_id"] == "tales"
        assert "".join(tokens["token_strings"]) == text
        assert tokens["count"] == len(tokens["tokens"]) == len(tokens["token_strings"])
        back = http.post(f"{prefix}/detokenize/", json={"tokens": tokens["tokens"]}).json()
        assert back == {"text": text, "count": tokens["count"], "model_id": "tales"}
    assert http.post("/tokenize", json={"text": "Hello world"}).json()["count"] == 2


def test_83_ids_outside_the_vocabulary(http: httpx.Client, model: cacher.Model) -> None:
    answer = http.post("/detokenize", json={"tokens": [model.vocab_size]})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_token_id")
    assert str(model.vocab_size) in answer.json()["detail"]


@pytest.mark.parametrize(
    "tokens", [[True], ["1"], [1.5], [-1], [2**63], None, "1", [[1]], [0] * 100_001, [None]]
)
def test_what_are_no_tokens(http: httpx.Client, tokens: object) -> None:
    answer = http.post("/detokenize", json={"tokens": tokens})
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")
    assert len(answer.content) < 1000


def test_124_an_unknown_model_says_what_was_tried() -> None:
    async def run() -> None:
        async with in_memory(OFFLINE=True, MODEL_NAME="tales") as http:
            answer = await http.post("/tokenize", json={"text": "x", "model_id": "gpt2"})
            assert (answer.status_code, answer.json()["code"]) == (400, "model_not_found")
            for words in ("'gpt2'", "tales", "models folder", "cache", "offline"):
                assert words in answer.json()["detail"]
        async with in_memory(OFFLINE=True, MODEL_ALIASES={"gpt2": "tales"}) as http:
            answer = await http.post("/tokenize", json={"text": "x", "model_id": "gpt2"})
            assert (answer.status_code, answer.json()["model_id"]) == (200, "tales")

    asyncio.run(run())
