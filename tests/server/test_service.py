"""Liveness, documentation, all spellings, unknown paths: checklist 1 to 5, 7, 125."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator

import httpx
import pytest

from tests.server.conftest import Api

PREFIXES = pytest.mark.parametrize("prefix", ["", "/v1"])
SLASHES = pytest.mark.parametrize("slash", ["", "/"])


@PREFIXES
@SLASHES
def test_1_test_answers_exactly(http: httpx.Client, prefix: str, slash: str) -> None:
    answer = http.get(f"{prefix}/test{slash}")
    assert (answer.status_code, answer.json()) == (200, {"message": "Test endpoint works!"})


@PREFIXES
@SLASHES
def test_2_health_has_the_time(http: httpx.Client, prefix: str, slash: str) -> None:
    answer = http.get(f"{prefix}/health{slash}").json()
    assert answer.keys() == {"status", "timestamp", "ok", "model_ready"}
    assert (answer["status"], answer["ok"]) == ("healthy", True)
    assert abs(answer["timestamp"] - time.time()) < 60


def test_3_openapi_and_docs(http: httpx.Client) -> None:
    document = http.get("/openapi.json").json()
    assert document["openapi"].startswith("3.")
    assert (document["info"]["title"], document["info"]["version"]) == ("Cacher API v3", "1.0.0")
    answer = http.get("/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


GRID = """
POST GET          /states
GET DELETE PATCH  /states/{id}
POST              /states/config
GET               /states/{id}/top_tokens
POST              /states/{id}/fork
POST              /states/merge
POST              /states/diff
GET               /states/{id}/history
GET               /states/{id}/tree
GET POST          /states/{id}/checkpoints
POST              /states/{id}/rollback
GET               /states/{id}/export
POST              /states/export
POST              /states/import
POST              /generate/token
POST              /generate/multi
POST              /generate/beam
POST              /generate
POST              /generate/cancel
POST              /forward
POST              /tokenize
POST              /detokenize
GET               /analysis/tokens/{id}
POST              /analysis/attention/{id}
POST              /analysis/attention
GET               /analysis/attention/{id}/heatmap
GET               /analysis/attention/{id}/heads
POST              /analysis/cache/{id}
POST              /analysis/cache/inspect
GET               /analysis/cache/stats
POST              /analysis/classify
POST              /analysis/embedding
GET               /models
GET               /models/tales
POST              /query
GET               /cache/stats
GET               /cache/entries
DELETE            /cache/entries/e-none
DELETE            /cache
POST              /cache/warmup
POST              /cache/dump
POST              /cache/load
POST              /chat/stream
POST              /inspect/full_attn
GET               /test
GET               /health
"""


def spellings() -> Iterator[tuple[str, str]]:
    for line in GRID.split("\n"):
        *methods, path = line.split() or [""]
        words = (path, path.replace("/analysis", "/analyze")) if "/analysis" in path else (path,)
        yield from ((m, p + w) for m in methods for p in ("", "/v1") for w in words)


@SLASHES
def test_every_operation_has_all_its_spellings(http: httpx.Client, slash: str) -> None:
    api = Api(http, "", "")
    for method, spelled in spellings():
        path = spelled.replace("{id}", api.new()) + slash
        answer = http.request(method, path, json={} if method in ("POST", "PATCH") else None)
        expected = (404,) if "e-none" in path else (200, 400, 422)
        assert answer.status_code in expected, f"{method} {path}: {answer.text}"
        assert answer.history == [], path
        assert uuid.UUID(answer.headers["x-request-id"])


@pytest.mark.parametrize("nobody", ["nobody", "%2e%2e", "a b", "x" * 129])
def test_20_unknown_states_everywhere(http: httpx.Client, nobody: str) -> None:
    for method, spelled in spellings():
        if "{id}" in spelled:
            body = {"name": "a", "revision": 1} if method in ("POST", "PATCH") else None
            answer = http.request(method, spelled.replace("{id}", nobody), json=body)
            assert (answer.status_code, answer.json()["code"]) == (404, "state_not_found"), spelled


def test_nothing_is_served_that_is_no_spelling(http: httpx.Client) -> None:
    ours = {"{id}": "{state_id}", "/models/tales": "/models/{model_id}", "e-none": "{entry_id}"}
    wanted = {("GET", path) for path in ("/", "/docs", "/openapi.json", "/metrics")}
    for method, path in spellings():
        for spec, own in ours.items():
            path = path.replace(spec, own)
        wanted.add((method, path))
    paths = http.get("/openapi.json").json()["paths"]
    assert wanted == {(m.upper(), path) for path, methods in paths.items() for m in methods}


def test_4_unknown_paths_and_wrong_methods(http: httpx.Client) -> None:
    for path in ("/nope", "/v1/nope/", "/v1", "/v2/test", "/test//", "/v1/docs"):
        answer = http.get(path)
        body = {"detail": "Not Found", "code": "route_not_found"}
        assert (answer.status_code, answer.json()) == (404, body), path
    answer = http.delete("/test")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET"
    assert answer.json() == {"detail": "Method Not Allowed", "code": "method_not_allowed"}


@pytest.mark.parametrize(
    "body", [b'{"text": ', b"", b"\xff", b"nul", b'{"text": NaN}', b'"\\ud800"']
)
def test_7_malformed_json(http: httpx.Client, body: bytes) -> None:
    for method, path in spellings():
        if path.endswith(("/cache/dump", "/cache/load")):  # they have no body
            continue
        if path.endswith(("/chat/stream", "/inspect/full_attn")):  # tests/niels_gpt has theirs
            continue
        if method == "POST" and not path.endswith("/import"):  # 114: what is no export is a 400
            answer = http.post(path, content=body, headers={"Content-Type": "application/json"})
            if not body and answer.status_code != 422:  # no body is malformed where one is needed
                assert answer.json()["code"] == "state_not_found", path
                continue
            assert answer.status_code == 422, path
            (problem,) = answer.json()["detail"]
            assert problem["loc"][0] == "body"
            assert answer.json()["code"] == "validation_error"


@pytest.mark.parametrize(
    "kind", [None, "application/x-www-form-urlencoded", "text/plain", "multipart/form-data", "x"]
)
def test_a_body_is_json_whatever_it_is_called(http: httpx.Client, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    answer = http.post("/tokenize", content=b'{"text": "Hello"}', headers=headers)
    assert (answer.status_code, answer.json()["count"]) == (200, 1)
    answer = http.post("/tokenize", content=b"text=Hello", headers=headers)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["msg"].startswith("The body is no JSON: ")


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_125_pages_load_nothing_from_elsewhere(http: httpx.Client, path: str) -> None:
    answer = http.get(path)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert re.findall(r"(?:src|href)=[\"']?(?:https?:)?//|@import|url\(", answer.text) == []
    assert "default-src 'self'" in answer.headers["content-security-policy"]


def test_every_answer_has_a_request_id(http: httpx.Client) -> None:
    one, two = (http.get("/test").headers["x-request-id"] for _ in range(2))
    assert one != two
    assert re.fullmatch(r"[0-9a-f-]{36}", one)
    for path in ("/test", "/nope"):
        assert (
            http.get(path, headers={"X-Request-ID": "mine_1"}).headers["x-request-id"] == "mine_1"
        )
    for bad in ("a b", "x" * 65, "<script>"):
        assert http.get("/test", headers={"X-Request-ID": bad}).headers["x-request-id"] != bad


def test_metrics_count_requests(http: httpx.Client) -> None:
    http.get("/test")
    http.get("/nowhere/at/all")
    text = http.get("/metrics").text
    assert re.search(r'cacher_requests_total{method="GET",route="/test",status="200"} \d', text)
    assert 'route="unmatched"' in text
    assert "nowhere" not in text
