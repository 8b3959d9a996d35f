"""States over HTTP: checklist 8 to 31 and 108 to 115."""

from __future__ import annotations

import gzip
import json
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.models.make_tiny import make_tiny, write_tokenizer
from tests.server.conftest import Api, over_socket

CONFIG = {
    "temperature": 0.7, "top_p": 0.9, "seed": 42, "context_size": 2048, "store_logits": "top_k",
    "top_k_logits": 20,
}  # fmt: skip
TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$")


@contextmanager
def server_of(folder: Path, **settings: Any) -> Iterator[Api]:
    with (
        over_socket(CACHE_DIR=str(folder), **settings) as address,
        httpx.Client(base_url=address, timeout=60) as http,
    ):
        yield Api(http, "", "")


@pytest.mark.parametrize("path", ["/states", "/states/", "/v1/states", "/v1/states/"])
def test_8_all_spellings_create(http: httpx.Client, path: str) -> None:
    answer = http.post(path, json={"model_id": "tales", "text": "Hello world"})
    assert (answer.status_code, answer.history) == (200, [])


def test_9_to_12_a_new_state(api: Api) -> None:
    state = api.post("/states", model_id="tales", text="Hello world")
    assert state["text"] == "Hello world"
    assert (state["model_id"], state["model_type"]) == ("tales", "causal_lm")
    assert (state["head_position"], state["token_count"], state["revision"]) == (0, 2, 1)
    assert state["config"] == CONFIG
    assert str(uuid.UUID(state["state_id"], version=4)) == state["state_id"]
    assert api.new() != state["state_id"]
    assert state["metadata"]["text"] == "Hello world"
    assert state["metadata"]["tags"] == state["metadata"]["config"] == {}
    assert state["forked_from"] is state["merged_from"] is None


def test_12_defaults_come_from_the_settings(tmp_path: Path) -> None:
    settings = {
        "DEFAULT_TEMPERATURE": 0.3, "DEFAULT_TOP_P": 0.5, "DEFAULT_SEED": None,
        "DEFAULT_CONTEXT_SIZE": 77, "LOGITS_STORAGE": "none", "TOP_K_LOGITS": 7,
        "MODEL_CONFIG": {"tales": {"temperature": 0.25, "max_length": 50}},
    }  # fmt: skip
    config = {"temperature": 0.25, "top_p": 0.5, "seed": None, "context_size": 77,
              "store_logits": "none", "top_k_logits": 7}  # fmt: skip
    with server_of(tmp_path, **settings) as api:
        state_id = api.new("Hello")
        assert api.get(f"/states/{state_id}")["config"] == config
        api.post("/states/config", state_id=state_id, config={"temperature": 0.9, "seed": 1})
        found = api.post("/states/config", state_id=state_id, config={"temperature": None})
        assert found["config"] == {**config, "seed": 1}
        run = api.post("/generate/token", state_id=state_id, max_tokens=100, seed=None)
        assert (len(run["token_ids"]), run["finish_reason"]) == (49, "context_length")


def test_13_config_over_the_defaults(api: Api) -> None:
    state = api.post(
        "/states", model_id="tales", config={"temperature": 0.1, "top_k": 5, "mine": [1]}
    )
    assert state["config"] == {**CONFIG, "temperature": 0.1, "top_k": 5, "mine": [1]}
    assert state["metadata"]["config"] == {"temperature": 0.1, "top_k": 5, "mine": [1]}
    state = api.post("/states", model_id="tales", config={"temperature": None, "seed": None})
    assert state["config"] == {**CONFIG, "seed": None}


def test_14_model_types(api: Api) -> None:
    for given in ({}, {"model_type": None}, {"model_type": "auto"}, {"model_type": "causal_lm"}):
        assert api.post("/states", model_id="tales", **given)["model_type"] == "causal_lm"
    for other in ("sequence_classification", "encoder"):
        api.refused(400, "wrong_model_type", "/states", model_id="tales", model_type=other)
    api.refused(422, "validation_error", "/states", model_id="tales", model_type="other")


def test_15_models_that_are_none(api: Api) -> None:
    api.refused(422, "validation_error", "/states", text="x")
    api.refused(422, "validation_error", "/states", model_id="../tales")
    refusal = api.refused(400, "model_not_found", "/states", model_id="nobody/has-this")
    assert "'nobody/has-this'" in refusal["detail"]


def test_16_an_empty_state(api: Api) -> None:
    for given in ({}, {"text": None}, {"text": ""}):
        state = api.post("/states", model_id="tales", **given)
        assert (state["text"], state["token_count"]) == ("", 0)
        assert state["metadata"]["text"] == given.get("text")


def test_17_times(api: Api) -> None:
    state = api.post("/states", model_id="tales")
    assert TIME.match(state["created_at"])
    assert state["created_at"] == state["modified_at"] == state["metadata"]["last_modified"]


def test_18_ids_of_ones_own(api: Api) -> None:
    mine = f"mine-{uuid.uuid4().hex}"
    assert api.new(state_id=mine) == mine
    assert (
        mine
        in api.refused(400, "state_exists", "/states", model_id="tales", state_id=mine)["detail"]
    )
    for bad in ("../x", "a/b", "config", "", ".x", "x" * 129, "ä", 5):
        api.refused(422, "validation_error", "/states", model_id="tales", state_id=bad)


def test_19_20_get(api: Api) -> None:
    made = api.post("/states", model_id="tales", text="Hello world")
    assert api.get(f"/states/{made['state_id']}") == made
    for unknown in ("nonexistent-id", "%2e%2e", "a b", "x" * 200, "%00", "config"):
        api.refused(404, "state_not_found", f"/states/{unknown}", "GET")


def test_21_delete(api: Api) -> None:
    state_id = api.new()
    fork = api.post(f"/states/{state_id}/fork")["state_id"]
    answer = api.call("DELETE", f"/states/{state_id}")
    assert answer.json() == {
        "state_id": state_id, "message": "State deleted successfully", "status": "deleted",
        "metadata": {"message": f"State with ID: {state_id} deleted"},
    }  # fmt: skip
    api.refused(404, "state_not_found", f"/states/{state_id}", "GET")
    api.refused(404, "state_not_found", f"/states/{state_id}", "DELETE")
    assert api.get(f"/states/{fork}")["text"] == "Hello world"


def test_22_update_config(api: Api) -> None:
    state_id = api.new()
    found = api.post("/states/config", state_id=state_id, config={"temperature": 0.2})
    assert found == {"state_id": state_id, "config": {**CONFIG, "temperature": 0.2}}
    found = api.post("/states/config", state_id=state_id, config={"seed": None})
    assert found["config"] == {**CONFIG, "temperature": 0.2, "seed": None}
    state = api.get(f"/states/{state_id}")
    assert (state["config"], state["revision"]) == (found["config"], 3)
    assert state["modified_at"] > state["created_at"]


@pytest.mark.parametrize(
    "config",
    [
        {"temperature": 11}, {"temperature": -0.1}, {"temperature": "hot"}, {"temperature": True},
        {"top_p": 1.5}, {"store_logits": "some"}, {"seed": "x"}, {"seed": True}, {"seed": -1},
        {"seed": 2**63}, {"seed": 1.5}, {"context_size": 0}, {"top_k_logits": 1001},
        {"stop_sequences": [""]}, {"stop_sequences": ["x"] * 17}, {"mine": "x" * 17_000}, [], 5,
    ],
)  # fmt: skip
def test_23_configs_that_are_refused(api: Api, config: Any) -> None:
    api.refused(422, "validation_error", "/states", model_id="tales", config=config)
    api.refused(422, "validation_error", "/states/config", state_id="x", config=config)


def test_24_list(api: Api) -> None:
    ids = [api.new() for _ in range(3)]
    found = api.get("/states", limit=3)
    assert [state["state_id"] for state in found["states"]] == ids[::-1]
    assert (found["limit"], found["offset"]) == (3, 0)
    assert found["total"] >= 3
    assert api.get("/states", limit=1, offset=1)["states"] == found["states"][1:2]
    api.call("DELETE", f"/states/{ids[0]}")
    assert ids[0] not in [state["state_id"] for state in api.get("/states", limit=1000)["states"]]
    for query in ({"limit": 0}, {"limit": 1001}, {"offset": -1}, {"limit": "x"}):
        assert api.call("GET", "/states", params=query).status_code == 422


def test_25_to_28_states_outlive_the_server(tmp_path: Path) -> None:
    old = {"model_id": "tales", "text": "Once upon a time", "config": {"temperature": 0.1},
           "metadata": {"created_at": "2025-03-04 09:15:27.123456",
                        "last_modified": "2025-03-04 09:15:28.000000"}}  # fmt: skip
    (tmp_path / "old-one.json").write_text(json.dumps(old))
    with server_of(tmp_path, MAX_CACHE_SIZE=2) as api:
        ids = [api.new(f"State {i}", config={"seed": i}) for i in range(5)]
        for i, state_id in enumerate(ids):
            assert api.get(f"/states/{state_id}")["text"] == f"State {i}"
        document = json.loads((tmp_path / f"{ids[0]}.json").read_text())
        assert {"model_id", "text", "config", "metadata"} <= document.keys()
        state = api.get("/states/old-one")
        assert (state["text"], state["token_count"]) == ("Once upon a time", 4)
        assert state["created_at"] == "2025-03-04T09:15:27.123456Z"
        api.call("DELETE", f"/states/{ids[0]}")
        assert not (tmp_path / f"{ids[0]}.json").exists()
        before = api.get(f"/states/{ids[1]}")
    with server_of(tmp_path) as api:
        assert api.get(f"/states/{ids[1]}") == before
        api.refused(404, "state_not_found", f"/states/{ids[0]}", "GET")


def test_29_to_31_top_tokens(api: Api) -> None:
    state_id = api.new()
    before = api.get(f"/states/{state_id}")
    tokens = api.get(f"/states/{state_id}/top_tokens")["tokens"]
    assert len(tokens) == 5
    probabilities = [token["probability"] for token in tokens]
    assert probabilities == sorted(probabilities, reverse=True)
    assert api.get(f"/states/{state_id}/top_tokens", n=1)["tokens"] == tokens[:1]
    many = api.get(f"/states/{state_id}/top_tokens", n=1000)["tokens"]
    assert all(0 < token["probability"] <= 1 for token in many)
    assert sum(token["probability"] for token in many) <= 1.0001
    for n in (0, 1001, "x"):
        answer = api.call("GET", f"/states/{state_id}/top_tokens", params={"n": n})
        assert answer.status_code == 422
    assert api.get(f"/states/{state_id}") == before
    drawn = api.post("/generate/token", state_id=state_id, temperature=0)
    assert drawn["token_ids"] == [tokens[0]["token_id"]]
    assert drawn["probabilities"][0] == pytest.approx(tokens[0]["probability"], abs=1e-6)
    assert tokens[0]["token"] == drawn["text"]


def test_29_no_more_tokens_than_the_vocabulary_has(tmp_path: Path) -> None:
    write_tokenizer(make_tiny("gpt2", tmp_path / "models"))
    with server_of(tmp_path / "states", MODELS_DIR=str(tmp_path / "models")) as api:
        body = {"model_id": "gpt2", "text": "ab", "config": {"top_k_logits": 1000}}
        state = api.post("/states", **body)
        assert state["config"]["top_k_logits"] == 1000
        path = f"/states/{state['state_id']}/top_tokens"
        tokens = api.get(path, n=1000)["tokens"]
        assert sorted(token["token_id"] for token in tokens) == list(range(97))
        assert sum(token["probability"] for token in tokens) == pytest.approx(1)
        found = api.post(
            "/forward", state_id=state["state_id"], text_input="c", return_top_logprobs=100
        )
        assert len(found["token_info"]["top_logprobs"]) == 97


def test_29_an_empty_state_has_top_tokens(api: Api) -> None:
    state_id = api.new(None)
    (first,) = api.get(f"/states/{state_id}/top_tokens", n=1)["tokens"]
    drawn = api.post("/generate/token", state_id=state_id, temperature=0)
    assert drawn["token_ids"] == [first["token_id"]]
    assert (drawn["full_text"], drawn["head_position"]) == (first["token"], 1)


def test_108_109_forks(api: Api) -> None:
    parent = api.new()
    api.post("/generate/token", state_id=parent, max_tokens=3)
    before = api.get(f"/states/{parent}")
    fork = api.post(f"/states/{parent}/fork", metadata={"why": "test"})
    assert (fork["text"], fork["forked_from"]) == (before["text"], parent)
    assert (fork["revision"], fork["metadata"]["tags"]) == (1, {"why": "test"})
    assert fork["metadata"]["forked_from"] == parent
    ours = api.post("/generate/token", state_id=fork["state_id"], max_tokens=4, seed=5)
    assert api.get(f"/states/{parent}") == before
    theirs = api.post("/generate/token", state_id=parent, max_tokens=4, seed=5)
    assert ours["token_ids"] == theirs["token_ids"]
    several = api.post(f"/states/{parent}/fork", n=3, at=1, config={"seed": 1})["states"]
    assert [state["text"] for state in several] == ["Hello"] * 3
    assert {state["config"]["seed"] for state in several} == {1}
    assert len({state["state_id"] for state in several}) == 3
    for bad in ({"n": 0}, {"n": 33}, {"at": -1}, {"at": 99}, {"n": 2, "state_id": "x"}):
        api.refused(422, "validation_error", f"/states/{parent}/fork", **bad)


def test_110_111_merge_and_diff(api: Api) -> None:
    parent = api.new("Hello")
    a, b = (api.post(f"/states/{parent}/fork")["state_id"] for _ in range(2))
    api.post("/forward", state_id=a, text_input=" world")
    api.post("/forward", state_id=b, text_input=" there")
    api.post("/states/config", state_id=b, config={"temperature": 0.2})
    merged = api.post("/states/merge", state_ids=[a, b], separator=",")
    assert merged["text"] == "Hello world, there"
    assert (merged["merged_from"], merged["head_position"]) == ([a, b], 0)
    assert merged["conflicts"] == [{"key": "temperature", "values": [0.7, 0.2], "chosen": 0.7}]
    assert api.get(f"/states/{merged['state_id']}")["merged_from"] == [a, b]
    refusal = api.refused(
        400, "merge_conflict", "/states/merge", state_ids=[a, b], on_conflict="error"
    )
    assert refusal["context"] == {"keys": ["temperature"]}
    found = api.post("/states/diff", state_ids=[a, b])
    assert (found["common_prefix_tokens"], found["common_prefix_text"]) == (1, "Hello")
    assert found["only_in"] == {a: " world", b: " there"}
    assert found["config_changes"] == {"temperature": [0.7, 0.2]}
    assert (found["same_model"], found["identical"]) == (True, False)
    for ids in ([a], [a, a], ["x"] * 17):
        api.refused(422, "validation_error", "/states/merge", state_ids=ids)
    api.refused(404, "state_not_found", "/states/merge", state_ids=[a, "unknown"])
    api.refused(422, "validation_error", "/states/diff", state_ids=[a, b, a])


def test_112_checkpoints_and_rollback(api: Api) -> None:
    state_id = api.new()
    api.post("/generate/token", state_id=state_id, max_tokens=2)
    made = api.post(f"/states/{state_id}/checkpoints", name="before-answer")
    assert (made["name"], made["token_count"]) == ("before-answer", 4)
    first = api.post("/generate/token", state_id=state_id, max_tokens=5)["text"]
    api.post(f"/states/{state_id}/rollback", checkpoint="before-answer")
    assert api.post("/generate/token", state_id=state_id, max_tokens=5)["text"] == first
    state = api.post(f"/states/{state_id}/rollback", revision=1)
    assert (state["text"], state["head_position"]) == ("Hello world", 0)
    (listed,) = api.get(f"/states/{state_id}/checkpoints")["checkpoints"]
    assert {**listed, "state_id": state_id} == made
    path = f"/states/{state_id}/rollback"
    api.refused(400, "checkpoint_not_found", path, checkpoint="other")
    api.refused(400, "revision_not_available", path, revision=1000)
    for bad in ({}, {"checkpoint": "a", "revision": 1}, {"revision": 0}):
        api.refused(422, "validation_error", path, **bad)
    for name in ("", "../x", "x" * 129, None):
        api.refused(422, "validation_error", f"/states/{state_id}/checkpoints", name=name)


@pytest.mark.parametrize("form", ["json", "binary"])
@pytest.mark.parametrize("compress", ["none", "gzip"])
def test_113_export_and_import(api: Api, form: str, compress: str) -> None:
    state_id = api.new(config={"seed": 7})
    api.post("/generate/token", state_id=state_id, max_tokens=3)
    query = {"format": form, "compress": compress}
    exported = api.call("GET", f"/states/{state_id}/export", params=query)
    plain = gzip.decompress(exported.content) if compress == "gzip" else exported.content
    kinds = {"json": "application/json", "binary": "application/octet-stream"}
    kind = "application/gzip" if compress == "gzip" else kinds[form]
    assert exported.headers["content-type"] == kind
    if form == "binary":
        assert plain.startswith(b"CACHERST")
    else:
        assert json.loads(plain)["format"] == "cacher-state"
    made = api.call("POST", "/states/import", content=exported.content).json()
    assert made["state_id"] != state_id
    ours, theirs = (
        api.post("/generate/token", state_id=i, max_tokens=5) for i in (made["state_id"], state_id)
    )
    assert ours["full_text"] == theirs["full_text"]


def test_113_batches_and_taken_ids(api: Api) -> None:
    ids = [api.new(f"Text {i}") for i in range(2)]
    batch = api.call("POST", "/states/export", json={"state_ids": ids}).content
    assert json.loads(batch)["format"] == "cacher-batch"
    made = api.call("POST", "/states/import", content=batch).json()["states"]
    assert [state["text"] for state in made] == ["Text 0", "Text 1"]
    answer = api.call("POST", "/states/import", content=batch, params={"on_conflict": "error"})
    assert (answer.status_code, answer.json()["code"]) == (400, "state_exists")
    answer = api.call("POST", "/states/import", content=batch, params={"on_conflict": "replace"})
    assert [state["state_id"] for state in answer.json()["states"]] == ids


def test_114_imports_that_are_refused(api: Api) -> None:
    for garbage in (b"garbage", b"{}", b"CACHERST\xff", b"[]", gzip.compress(b"x")):
        answer = api.call("POST", "/states/import", content=garbage)
        assert (answer.status_code, answer.json()["code"]) == (400, "import_invalid"), garbage
    bomb = gzip.compress(b" " * (65 * 2**20), 9)
    started = time.monotonic()
    answer = api.call("POST", "/states/import", content=bomb)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert time.monotonic() - started < 10


def test_115_history_and_tree(api: Api) -> None:
    state_id = api.new()
    api.post("/forward", state_id=state_id, text_input=" and")
    api.post("/generate/token", state_id=state_id, max_tokens=2)
    api.post("/states/config", state_id=state_id, config={"seed": 1})
    api.call("PATCH", f"/states/{state_id}", json={"append_text": "!"})
    api.post(f"/states/{state_id}/rollback", revision=2)
    events = api.get(f"/states/{state_id}/history")["events"]
    ops = ["create", "forward", "generate", "config", "edit", "rollback"]
    assert [event["op"] for event in events] == ops
    assert [event["revision"] for event in events] == list(range(1, 7))
    assert [event["token_count"] for event in events] == [2, 3, 5, 5, 6, 3]
    assert all(TIME.match(event["at"]) for event in events)
    fork = api.post(f"/states/{state_id}/fork")["state_id"]
    tree = api.get(f"/states/{fork}/tree")
    assert (tree["state_id"], tree["current"], tree["deleted"]) == (state_id, False, False)
    assert [child["state_id"] for child in tree["children"] if child["current"]] == [fork]
    exported = api.get(f"/states/{fork}/export")
    exported["state"]["forked_from"] = "gone"
    orphan = api.post("/states/import", **exported)["state_id"]
    tree = api.get(f"/states/{orphan}/tree")
    assert (tree["state_id"], tree["token_count"], tree["deleted"]) == ("gone", None, True)
    for form in ("mermaid", "text"):
        answer = api.call("GET", f"/states/{fork}/tree", params={"format": form})
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert state_id in answer.text


def test_edit(api: Api) -> None:
    state_id = api.new(metadata={"a": 1})
    edit = {"truncate_to": 1, "append_text": " there", "metadata": {"b": 2}, "config": {"seed": 9}}
    state = api.call("PATCH", f"/states/{state_id}", json=edit).json()
    assert state["text"] == "Hello there"
    assert state["metadata"]["tags"] == {"a": 1, "b": 2}
    assert (state["config"]["seed"], state["revision"]) == (9, 2)
    assert api.get(f"/states/{state_id}") == state
    state = api.call("PATCH", f"/states/{state_id}", json={"text": "Once"}).json()
    assert (state["text"], state["head_position"]) == ("Once", 0)
    answer = api.call("PATCH", f"/states/{state_id}", json={"truncate_to": 99})
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")


def test_a_text_over_the_context(api: Api) -> None:
    long = "word " * 1100
    api.refused(400, "context_overflow", "/states", model_id="tales", text=long)
    config = {"context_size": 1}
    api.refused(400, "context_overflow", "/states", model_id="tales", text="a b c", config=config)
    api.refused(422, "validation_error", "/states", model_id="tales", text="x" * 1_000_001)


def test_token_analysis_on_creation(api: Api) -> None:
    state = api.post("/states", model_id="tales", text="Hello world", token_analysis=True)
    assert [token["token"] for token in state["token_analysis"]] == ["Hello", " world"]
    assert all(0 < token["probability"] < 1 for token in state["token_analysis"])
    assert api.get(f"/states/{state['state_id']}")["revision"] == 1
