"""The server keeps to its OpenAPI document, whatever it is sent."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cacher.config import Settings
from tests.server.conftest import Api, over_socket

ROOT = Path(__file__).parents[2]
#: Second spellings; and the chat API, which takes types loosely.
NOT_ASKED = "^/v1|^/analyze|^/chat|^/inspect"
KEYS = Settings.from_env({"CACHER_API_KEYS": "secret"}).API_KEYS


@pytest.fixture(scope="module")
def document(address: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{address}/openapi.json").json()
    return found


def test_every_spelling_is_documented(document: dict[str, Any]) -> None:
    paths = document["paths"]
    for path in ("/states", "/states/{state_id}/top_tokens", "/generate/token", "/tokenize"):
        assert path in paths
        assert f"/v1{path}" in paths
    for root in ("/analysis", "/analyze", "/v1/analysis", "/v1/analyze"):
        assert f"{root}/cache/inspect" in paths
    ids = [one["operationId"] for methods in paths.values() for one in methods.values()]
    assert len(ids) == len(set(ids))
    assert {"State Management", "Generation", "Analysis"} <= {
        tag for methods in paths.values() for one in methods.values() for tag in one["tags"]
    }


def test_everything_is_described(document: dict[str, Any]) -> None:
    for name, schema in document["components"]["schemas"].items():
        for field, described in schema.get("properties", {}).items():
            reference = described.get("$ref", described)
            assert "description" in described or "$ref" in str(reference), f"{name}.{field}"
    for path, methods in document["paths"].items():
        for method, one in methods.items():
            assert one["summary"], f"{method} {path}"
            for parameter in one.get("parameters", ()):
                assert parameter.get("description"), f"{method} {path} {parameter['name']}"


def test_bounds_are_exact(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    seed = schemas["GenerateToken"]["properties"]["seed"]["anyOf"][0]
    assert seed["maximum"] == 2**63 - 1
    assert isinstance(seed["maximum"], int)


STATE = (
    "state_id model_id model_type text head_position token_count config created_at modified_at "
    "revision forked_from merged_from metadata"
)
TOKENS = (
    "text new_tokens token_ids probabilities logprobs finished finish_reason stop_sequence "
    "state_id full_text seed head_position"
)
BEAM = "text full_text score logprob new_tokens token_ids finished finish_reason group"
INFO = "token token_id position probability logprob distribution"
INFOS = f"{INFO} entropy top_logprobs"
RECORD = (
    "request_id state_id step token token_id position probability logprob entropy top_tokens text "
    "token_info progress seed finished finish_reason"
)
FIELDS: list[tuple[str, str, dict[str, Any], dict[str, str]]] = [
    ("GET", "/states/{id}", {}, {
        "": STATE, "config": "temperature top_p seed context_size store_logits top_k_logits",
        "metadata": "state_id model_id text config created_at last_modified forked_from tags",
    }),
    ("POST", "/states/{id}/fork", {"n": 2}, {"": "states", "states.0": STATE}),
    ("POST", "/states/merge", {"state_ids": ["{id}", "{other}"]}, {"": f"{STATE} conflicts"}),
    ("POST", "/states/diff", {"state_ids": ["{id}", "{other}"]}, {
        "": "state_ids same_model identical common_prefix_tokens common_prefix_text only_in "
        "config_changes",
    }),
    ("POST", "/states/config", {"state_id": "{id}", "config": {}}, {"": "state_id config"}),
    ("GET", "/states", {}, {
        "": "states total limit offset",
        "states.0": "state_id model_id model_type token_count head_position created_at "
        "modified_at forked_from",
    }),
    ("GET", "/states/{id}/top_tokens", {}, {
        "": "state_id tokens", "tokens.0": "token token_id probability logprob",
    }),
    ("GET", "/states/{id}/history", {}, {
        "": "state_id events", "events.0": "revision op at token_count head_position detail",
    }),
    ("GET", "/states/{id}/tree", {}, {"": "state_id token_count current deleted children"}),
    ("POST", "/states/{id}/checkpoints", {"name": "a"}, {
        "": "state_id name revision token_count created_at",
    }),
    ("GET", "/states/{id}/export", {}, {
        "": "format version fingerprint state token_ids history checkpoints", "state": STATE,
    }),
    ("POST", "/states/export", {"state_ids": ["{id}"]}, {"": "format version states"}),
    ("POST", "/generate/token", {"state_id": "{id}"}, {"": f"{TOKENS} tokens request_id"}),
    ("POST", "/generate/multi", {"state_id": "{id}", "stream": True}, {
        "": "state_id continuations seed",
        "continuations.0": "text new_tokens token_ids probabilities logprobs finished "
        "finish_reason stop_sequence stream_index",
    }),
    ("POST", "/generate/beam", {"state_id": "{id}", "max_length": 2, "stream": True}, {
        "": "state_id beams texts beam_details", "beams.0": BEAM, "beam_details.0": BEAM,
    }),
    ("POST", "/generate", {
        "text_input": "Hello", "max_new_tokens": 2, "return_top_logprobs": 1,
        "return_entropy": True, "return_all_tokens_info": True,
    }, {
        "": f"{TOKENS} generated_text generated_token_info generated_tokens_info",
        "generated_token_info": INFOS, "generated_tokens_info.0": INFOS,
        "generated_token_info.top_logprobs.0": "token token_id logprob",
    }),
    ("POST", "/forward", {"text_input": "Hello", "return_all_tokens_info": True}, {
        "": "state_id head_position token_count tokens_info", "tokens_info.0": INFO,
    }),
    ("POST", "/forward", {"text_input": "Hello", "return_logits": True}, {
        "token_info": f"{INFO} logits",
    }),
    ("POST", "/generate/cancel", {"request_id": "x"}, {"": "request_id cancelled"}),
    ("POST", "/tokenize", {"text": "x"}, {"": "tokens token_strings count model_id"}),
    ("POST", "/detokenize", {"tokens": [5]}, {"": "text count model_id"}),
    ("GET", "/models", {}, {"0": "model_id description model_type default"}),
    ("GET", "/models/tales", {}, {
        "": "model_id description model_type loaded dtype kv_dtype config",
    }),
    ("GET", "/health", {}, {"": "status timestamp ok model_ready"}),
    ("POST", "/query", {"query": "What is rain?"}, {
        "": "query response cache_hit cached_data embedding_dimension processing_time entry_id",
    }),
    ("POST", "/query", {"query": "What is rain?"}, {
        "cached_data": "cached_response similarity_score cached_query cache_timestamp entry_id "
        "source embedder",
    }),
    ("GET", "/cache/stats", {}, {
        "": "cache_size max_cache_size current_threshold hits misses bypasses guarded hit_rate "
        "evictions errors error_rate alert memory_bytes embedder embedding_dimension uptime",
    }),
    ("GET", "/cache/entries", {}, {
        "": "entries total",
        "entries.0": "entry_id query response timestamp hits source embedder",
    }),
    ("POST", "/cache/warmup", {"queries": ["What is snow?"]}, {"": "added skipped cache_size"}),
    ("DELETE", "/cache", {}, {"": "cleared"}),
    ("POST", "/generate/token", {"state_id": "{id}", "stream": True}, {
        "": RECORD, "token_info": INFO, "progress": "generated max_tokens",
    }),
    ("POST", "/forward", {"text_input": "x", "stream_tokens_info": True}, {
        "": "state_id step token token_id position token_info head_position finished",
    }),
    ("POST", "/generate/token", {"state_id": "nobody"}, {"": "detail code"}),
    ("POST", "/tokenize", {}, {"": "detail code", "detail.0": "type loc msg"}),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body", "fields"), FIELDS)
def test_answers_hold_these_fields_and_no_others(
    http: httpx.Client, method: str, path: str, body: dict[str, Any], fields: dict[str, str]
) -> None:
    api = Api(http, "", "")
    ids = {"{id}": api.new(), "{other}": api.new()}
    text = json.dumps([path, body])
    for name, state_id in ids.items():
        text = text.replace(name, state_id)
    path, body = json.loads(text)
    answer = http.request(method, path, json=body if method == "POST" else None).json()
    for where, wanted in fields.items():
        found = answer
        for step in where.split(".") if where else ():
            found = found[int(step) if step.isdecimal() else step]
        assert found.keys() == set(wanted.split()), where


NEEDED: dict[str, dict[str, Any]] = {
    "/states": {"model_id": "tales"},
    "/states/config": {"state_id": "{id}", "config": {}},
    "/states/merge": {"state_ids": ["{id}", "{other}"]},
    "/states/diff": {"state_ids": ["{id}", "{other}"]},
    "/states/export": {"state_ids": ["{id}"]},
    "/states/{state_id}/fork": {},
    "/states/{state_id}/checkpoints": {"name": "a"},
    "/states/{state_id}/rollback": {"revision": 1},
    "/generate": {"text_input": "Hello"},
    "/generate/cancel": {"request_id": "x"},
    "/forward": {"text_input": "Hello"},
    "/query": {"query": "x"},
    "/cache/warmup": {"queries": ["x"]},
    "/tokenize": {"text": "x"},
    "/detokenize": {"tokens": [5]},
    "/analysis/classify": {"state_id": "{id}", "labels": ["good", "bad"]},
}


def test_48_52_null_is_the_default_and_unknown_fields_are_ignored(
    api: Api, document: dict[str, Any]
) -> None:
    for path, methods in document["paths"].items():
        if re.search(NOT_ASKED, path) or path == "/states/import":
            continue
        for method in methods.keys() & {"post", "patch"}:
            if "requestBody" not in methods[method]:
                continue
            content = methods[method]["requestBody"]["content"]["application/json"]
            (name,) = re.findall(r"#/components/schemas/(\w+)", str(content["schema"]))
            fields = document["components"]["schemas"][name]["properties"]
            needed = NEEDED.get(path, {"state_id": "{id}"} if "state_id" in fields else {})
            state_id = api.new()
            text = json.dumps({**dict.fromkeys(fields), **needed, "unknown": [1]})
            text = text.replace("{id}", state_id).replace("{other}", api.new())
            answer = api.call(
                method.upper(), path.replace("{state_id}", state_id), json=json.loads(text)
            )
            assert answer.status_code == 200, f"{path}: {answer.text}"


def check(address: str, *arguments: str) -> None:
    """Run schemathesis; all its checks must hold."""
    command = shutil.which("st", path=str(Path(sys.executable).parent))
    assert command is not None
    done = subprocess.run(
        [command, "run", f"{address}/openapi.json", "--seed", "1", "--no-color", *arguments],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]


def test_schemathesis_a_little(address: str) -> None:
    check(address, "--phases", "examples", "--exclude-path-regex", NOT_ASKED)


@pytest.fixture(scope="module")
def locked() -> Iterator[str]:
    with over_socket(API_KEY_REQUIRED=True, API_KEYS=KEYS) as address:
        yield address


@pytest.mark.slow
def test_schemathesis_all_phases(address: str) -> None:
    check(address, "--exclude-path-regex", NOT_ASKED, "--max-time", "120")


@pytest.mark.slow
def test_schemathesis_the_other_dialect(address: str) -> None:
    check(address, "--include-path-regex", "^/v1/(?!analysis|chat|inspect)", "--max-time", "40")


@pytest.mark.slow
def test_schemathesis_with_a_key(locked: str) -> None:
    key = ("-H", "X-API-Key: secret")
    check(locked, *key, "--exclude-path-regex", NOT_ASKED, "--max-time", "40")
