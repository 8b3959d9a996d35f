"""Liveness, documentation, unknown paths: checklist 1 to 5, 7, 125."""

from __future__ import annotations

import re
import time

import httpx
import pytest

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
    assert answer["status"] == "healthy"
    assert abs(answer["timestamp"] - time.time()) < 60


def test_3_openapi_and_docs(http: httpx.Client) -> None:
    document = http.get("/openapi.json").json()
    assert document["openapi"].startswith("3.")
    assert (document["info"]["title"], document["info"]["version"]) == ("Cacher API v3", "1.0.0")
    answer = http.get("/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


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
    answer = http.post("/tokenize", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"][0] == "body"
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
