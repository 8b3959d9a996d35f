"""The checklist of the semantic cache, lines 1 to 33: each test with a service just started."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

import cacher
from tests.semantic.service import ML, ML_TOO, WEATHER, Service, alone

DOCUMENTED = {
    "query", "response", "cache_hit", "cached_data", "embedding_dimension", "processing_time",
}  # fmt: skip
CACHED = {
    "cached_response", "similarity_score", "cached_query", "cache_timestamp", "entry_id",
    "source", "embedder",
}  # fmt: skip
UNRELATED = (ML, WEATHER, "Who painted the Mona Lisa?", "How do I bake sourdough bread?")


def test_1_health(service: Service) -> None:
    answer = service.get("/health")
    assert answer.keys() == {"status", "timestamp"}
    assert answer["status"] == "healthy"
    assert abs(answer["timestamp"] - time.time()) < 5


def test_2_first_statistics(service: Service) -> None:
    stats = service.stats
    assert (stats["cache_size"], stats["max_cache_size"]) == (0, 1000)
    assert (stats["current_threshold"], stats["embedder"]) == (0.80, "minilm")
    assert stats.keys() >= {
        "hits", "misses", "bypasses", "hit_rate", "evictions", "errors", "error_rate", "alert",
        "memory_bytes", "embedding_dimension", "uptime",
    }  # fmt: skip
    assert (stats["hit_rate"], stats["error_rate"], stats["alert"]) == (0, 0, False)
    assert stats["uptime"] > 0


def test_3_docs_and_openapi(service: Service) -> None:
    page = service.http.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    document = service.get("/openapi.json")
    assert document["info"]["title"] == "FastAPI Semantic Cache"
    assert document["info"]["version"] == "1.0.0"
    assert {"/query", "/health", "/cache/stats"} <= document["paths"].keys()
    assert not any("states" in path or "generate" in path for path in document["paths"])


def test_4_5_6_7_the_first_query_is_a_miss(service: Service) -> None:
    started = time.perf_counter()
    answer = service.query(ML)
    seconds = time.perf_counter() - started
    assert answer.keys() == {*DOCUMENTED, "entry_id"}
    assert (answer["query"], answer["cache_hit"], answer["cached_data"]) == (ML, False, None)
    assert answer["response"]
    vector = cacher.load(service.stats["embedder"]).embed([ML])[0]
    assert answer["embedding_dimension"] == service.stats["embedding_dimension"] == len(vector)
    assert 0 <= answer["processing_time"] <= seconds


def test_8_9_10_11_the_same_query_is_a_perfect_hit(service: Service) -> None:
    before = time.time()
    first = service.query(ML)
    after = time.time()
    second = service.query(ML)
    assert second["cache_hit"]
    assert service.stats["hit_rate"] == 0.5
    found = second["cached_data"]
    assert found.keys() == CACHED
    assert (found["similarity_score"], found["cached_query"]) == (1.0, ML)
    assert second["response"] == first["response"] == found["cached_response"]
    assert second["entry_id"] == first["entry_id"] == found["entry_id"]
    assert (found["embedder"], found["source"]) in (("minilm", "lm:tales"), ("minilm", "template"))
    assert before <= found["cache_timestamp"] <= after
    stats = service.stats
    assert (stats["cache_size"], stats["hits"], stats["misses"]) == (1, 1, 1)
    third = service.query(ML, similarity_threshold=1.0)
    assert (third["cache_hit"], third["cached_data"]) == (True, found)


def test_12_a_paraphrase_is_a_hit(service: Service) -> None:
    service.query(ML)
    answer = service.query(ML_TOO)
    assert answer["cache_hit"]
    score = answer["cached_data"]["similarity_score"]
    assert service.stats["current_threshold"] <= score < 1
    one, other = cacher.load("minilm").embed([ML, ML_TOO])
    assert score == pytest.approx(float(one @ other), abs=1e-6)


def test_13_another_topic_is_a_miss(service: Service) -> None:
    service.query(ML)
    assert not service.query(WEATHER)["cache_hit"]


def test_14_threshold_zero_takes_what_is_not_negative(service: Service) -> None:
    service.query(ML)
    answer = service.query(WEATHER, similarity_threshold=0.0)
    score = answer["cached_data"]["similarity_score"]
    assert answer["cache_hit"]
    assert 0 <= score < 0.5
    lower = service.query(WEATHER, similarity_threshold=score / 2)
    assert lower["cached_data"]["similarity_score"] == score


def test_15_the_threshold_is_where_it_says(service: Service) -> None:
    service.query(ML)
    score = service.score(ML_TOO)
    assert service.query(ML_TOO, similarity_threshold=score)["cache_hit"]
    assert service.query(ML_TOO, similarity_threshold=score - 0.01)["cache_hit"]
    assert not service.query(ML_TOO, similarity_threshold=score + 0.01)["cache_hit"]


def test_16_a_threshold_is_for_its_request(service: Service) -> None:
    for threshold in (0.0, 0.3, 1.0):
        service.query(ML, similarity_threshold=threshold)
        assert service.stats["current_threshold"] == 0.80


def test_17_the_most_similar_wins(service: Service) -> None:
    for query in (WEATHER, "What is deep learning?", ML, "What is a learning machine for a gym?"):
        service.query(query, similarity_threshold=1.0)
    assert service.query(ML_TOO)["cached_data"]["cached_query"] == ML


def test_18_19_without_the_cache(service: Service) -> None:
    stored = service.query(ML)
    answer = service.query(ML, use_cache=False)
    assert (answer["cache_hit"], answer["cached_data"], answer["entry_id"]) == (False, None, None)
    assert (answer["response"], answer["embedding_dimension"]) == (stored["response"], 384)
    service.query(WEATHER, use_cache=False)
    assert service.size == 1
    assert not service.query(WEATHER)["cache_hit"]
    assert (service.stats["bypasses"], service.stats["misses"], service.stats["hits"]) == (2, 2, 0)


def test_20_null_is_the_default(service: Service) -> None:
    nothing = {"use_cache": None, "similarity_threshold": None}
    assert not service.query(ML, **nothing)["cache_hit"]
    assert service.query(ML, **nothing)["cached_data"]["similarity_score"] == 1.0
    assert service.query(ML_TOO, **nothing)["cache_hit"]


REFUSED: Sequence[Any] = [
    {}, {"query": ""}, {"query": "   "}, {"query": "\n\t\u3000"}, {"query": 123}, {"query": None},
    {"query": ["x"]}, {"query": "x" * 32_769}, [], "x", None,
    {"query": ML, "similarity_threshold": -0.1}, {"query": ML, "similarity_threshold": 1.1},
    {"query": ML, "similarity_threshold": "high"}, {"query": ML, "similarity_threshold": "0.5"},
    {"query": ML, "similarity_threshold": True}, {"query": ML, "use_cache": "maybe"},
    {"query": ML, "use_cache": 1}, b'{"query": "x", "similarity_threshold": NaN}',
    b'{"query": "x", "similarity_threshold": 1e999}', b'{"query": ', b"", b"\xff", b"nul",
    b'{"query": "\\ud800"}', b"[" * 100_000, b'{"query": "\x1c\x1d"}', b'{"query": "\\u001c"}',
]  # fmt: skip


def test_21_22_23_25_what_is_no_query_is_refused_and_stores_nothing(service: Service) -> None:
    for body in REFUSED:
        detail = service.refused(422, "validation_error", body)["detail"]
        assert detail[0].keys() >= {"type", "loc", "msg"}
    for method, path, status in (("GET", "/query", 405), ("GET", "/nope", 404)):
        answer = service.call(method, path)
        assert (answer.status_code, "detail" in answer.json()) == (status, True)
    assert (service.size, service.stats["misses"]) == (0, 0)
    service.query("x" * 32_768)
    assert service.size == 1


def test_24_unknown_fields_are_ignored(service: Service) -> None:
    assert service.query(ML, temperature="hot", tenant="ann")["query"] == ML


def test_26_the_oldest_makes_room() -> None:
    with alone(MAX_CACHE_SIZE=3) as service:
        for query in UNRELATED:
            assert not service.query(query)["cache_hit"]
        assert (service.size, service.stats["evictions"]) == (3, 1)
        assert service.query(UNRELATED[3])["cache_hit"]
        assert not service.query(UNRELATED[0])["cache_hit"]


@pytest.mark.parametrize(("eviction", "gone"), [("fifo", 0), ("lru", 1)])
def test_27_who_makes_room(eviction: str, gone: int) -> None:
    with alone(MAX_CACHE_SIZE=3, EVICTION=eviction) as service:
        for query in UNRELATED[:3]:
            service.query(query)
        assert service.query(UNRELATED[0])["cache_hit"]
        service.query(UNRELATED[3])
        left = {entry["query"] for entry in service.get("/cache/entries")["entries"]}
        assert left == set(UNRELATED) - {UNRELATED[gone]}


def test_28_the_service_s_threshold() -> None:
    with alone(SIMILARITY_THRESHOLD=0.5, GUARD=False) as service:
        assert service.stats["current_threshold"] == 0.5
        service.query(ML)
        answer = service.query("What is deep learning?")
        assert answer["cache_hit"]
        assert 0.5 <= answer["cached_data"]["similarity_score"] < 0.8


@pytest.mark.parametrize(
    "query",
    ["Was heißt »Öl«?", "  機械学習とは何ですか ", "e\u0301 é", "👩‍👩‍👧‍👦?\u0000\n", "\u200dX"],
)
def test_29_texts_stay_as_they_are(service: Service, query: str) -> None:
    body = json.dumps({"query": query}, ensure_ascii=False).encode()
    first = service.call("POST", "/query", content=body)
    assert (
        json.dumps(query, ensure_ascii=False).replace("\\u0000", "\\u0000").encode()
        in first.content
    )
    assert first.json()["query"] == query
    again = service.query(query)
    assert (again["cache_hit"], again["cached_data"]["cached_query"]) == (True, query)


def test_30_all_spellings_are_one_service(service: Service) -> None:
    service.query(ML)
    for prefix, slash in (("/v1", ""), ("", "/"), ("/v1", "/")):
        other = Service(service.http, prefix, slash)
        assert other.query(ML)["cache_hit"]
        assert other.get("/health")["status"] == "healthy"
        assert other.stats["cache_size"] == 1
        assert other.get("/cache/entries")["total"] == 1
    assert service.stats["hits"] == 3
    paths = service.get("/openapi.json")["paths"].keys()
    assert {path for path in paths if not path.startswith("/v1")} == {
        *(path.removeprefix("/v1") for path in paths if path.startswith("/v1")),
        "/docs", "/openapi.json",
    }  # fmt: skip


def together(service: Service, queries: Sequence[dict[str, Any]]) -> list[Any]:
    """The answers to queries that are sent at the same time."""

    async def main() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=None)
        base = service.http.base_url
        async with httpx.AsyncClient(base_url=base, timeout=120, limits=limits) as http:
            return await asyncio.gather(*(http.post("/query", json=query) for query in queries))

    answers = asyncio.run(main())
    assert {answer.status_code for answer in answers} == {200}
    return [answer.json() for answer in answers]


def test_31_equal_misses_generate_once(service: Service) -> None:
    answers = together(service, [{"query": ML}] * 50)
    assert [answer["cache_hit"] for answer in answers].count(False) == 1
    assert len({answer["response"] for answer in answers}) == 1
    assert (service.size, service.stats["misses"], service.stats["hits"]) == (1, 1, 49)


def test_32_the_bound_holds_under_load() -> None:
    with alone(MAX_CACHE_SIZE=50, RESPONDER="template") as service:
        words = [f"word{i} {chr(97 + i % 26) * (1 + i % 7)}" for i in range(200)]
        answers = together(
            service, [{"query": word, "similarity_threshold": 1.0} for word in words]
        )
        assert [answer["query"] for answer in answers] == words
        assert all(word in answer["response"] for word, answer in zip(words, answers, strict=True))
        stats = service.stats
        assert (stats["cache_size"], stats["evictions"], stats["misses"]) == (50, 150, 200)


def test_33_health_answers_while_queries_run() -> None:
    with alone(MAX_TOKENS=512) as service, ThreadPoolExecutor(8) as pool:
        queries = [f"What is the capital of country number {i}?" for i in range(64)]
        running = [pool.submit(service.query, query, use_cache=False) for query in queries]
        slowest, n = 0.0, 0
        while not all(one.done() for one in running):
            started = time.perf_counter()
            service.get("/health")
            slowest, n = max(slowest, time.perf_counter() - started), n + 1
        assert n > 0
        assert slowest < 1
        assert {one.result()["cache_hit"] for one in running} == {False}


def test_every_answer_has_a_request_id_and_every_error_its_shape(service: Service) -> None:
    assert re.fullmatch(r"[0-9a-f-]{36}", service.call("GET", "/health").headers["x-request-id"])
    for path in ("/states", "/test", "/", "/v1/docs", "/v1"):
        answer = service.call("GET", path)
        assert (answer.status_code, answer.json()["code"]) == (404, "route_not_found"), path
