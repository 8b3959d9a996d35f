"""Models that only embed, over HTTP: section 2.5."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

import cacher
from tests.server.conftest import Api, over_socket

TEXT = "The cat sleeps on the mat."


@pytest.fixture(scope="module")
def _served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    states: Path = tmp_path_factory.mktemp("states")
    with over_socket(OFFLINE=True, CACHE_DIR=str(states)) as address:
        yield address


@pytest.fixture(params=[("", ""), ("/v1", "/")], ids=["U", "V"])
def reader(_served: str, request: pytest.FixtureRequest) -> Iterator[Api]:
    with httpx.Client(base_url=_served, timeout=60) as http:
        yield Api(http, *request.param)


@pytest.fixture(scope="module")
def here() -> cacher.State:
    return cacher.load("minilm").state(TEXT)


def test_an_encoder_is_listed_with_its_type(reader: Api) -> None:
    (listed,) = [m for m in reader.get("/models") if m["model_id"] == "minilm"]
    assert listed["model_type"] == "encoder"
    config = reader.get("/models/minilm")["config"]
    assert (config["n_embd"], config["n_layer"], config["bos_token_id"]) == (384, 6, None)


def test_attention_and_embedding_are_those_in_process(reader: Api, here: cacher.State) -> None:
    made = reader.post("/states", model_id="minilm", text=TEXT, model_type="encoder")
    assert (made["model_type"], made["token_count"]) == ("encoder", len(here))
    state_id = made["state_id"]
    found = reader.post(f"/analysis/attention/{state_id}", layer=2, head=1, threshold=0)
    want = here.analyze_attention(2, 1)
    assert found["tokens"] == want.tokens
    assert np.array_equal(found["attention_pattern"], want.attention_pattern)
    assert np.triu(want.attention_pattern, 1).any(), "it reads both ways"
    for index in (None, 0, -1):
        vector = reader.post("/analyze/embedding", state_id=state_id, token_index=index)
        assert np.array_equal(np.float32(vector["embedding"]), here.embedding(index).embedding)
        assert vector["dimension"] == 384
    layer = reader.post("/analyze/embedding", state_id=state_id, layer=3)
    assert np.array_equal(np.float32(layer["embedding"]), here.embedding(layer=3).embedding)
    assert len(reader.get(f"/analysis/attention/{state_id}/heads")["heads"]) == 6 * 12


def test_what_does_not_fit_an_encoder(reader: Api) -> None:
    state_id = reader.post("/states", model_id="minilm", text=TEXT)["state_id"]
    wrong = (400, "wrong_model_type")
    for path in ("/generate/token", "/generate/multi", "/generate/beam", "/generate", "/forward"):
        reader.refused(*wrong, path, state_id=state_id, text_input=" indeed")
    reader.refused(*wrong, f"/states/{state_id}/top_tokens", "GET")
    reader.refused(*wrong, f"/analysis/tokens/{state_id}", "GET")
    reader.refused(*wrong, f"/analysis/cache/{state_id}")
    reader.refused(*wrong, "/analyze/classify", state_id=state_id)
    reader.refused(*wrong, "/analyze/classify", state_id=state_id, labels=["a", "b"])
    reader.refused(*wrong, "/states", model_id="tales", model_type="encoder")
    reader.refused(*wrong, "/states", model_id="minilm", model_type="causal_lm")
    assert reader.get(f"/states/{state_id}")["revision"] == 1
