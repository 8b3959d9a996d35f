"""The checklist of the semantic cache, lines 34 to 48: each test with a service just started."""

from __future__ import annotations

import asyncio
import json
import re
import statistics
from pathlib import Path
from typing import Any

import httpx
import pytest

from cacher import CacherAPIError
from cacher.config import Settings
from cacher.semantic.client import SemanticCacheClient, main
from cacher.semantic.settings import SemanticSettings
from cacher.server.app import create_app
from tests.semantic.service import ML, ML_TOO, WEATHER, Service, alone
from tests.server.conftest import serving

KEYS = SemanticSettings.from_env({"SEMCACHE_API_KEYS": "k1, ann:k2, bob:k3"}).API_KEYS
ON, OFF = "How do I turn on dark mode?", "How do I turn off dark mode?"


def test_34_a_restart_forgets_unless_there_is_a_file(tmp_path: Path) -> None:
    for settings in ({}, {"PERSIST_PATH": str(tmp_path / "cache.jsonl")}):
        with alone(**settings) as service:
            first = service.query(ML)
            stored = service.query(ML)["cached_data"]
        with alone(**settings) as service:
            answer = service.query(ML)
            assert answer["cache_hit"] == bool(settings)
            if settings:
                assert answer["response"] == first["response"]
                assert answer["cached_data"] == stored
                assert service.get("/cache/entries")["entries"][0]["hits"] == 2


def test_35_clear(service: Service) -> None:
    for query in (ML, WEATHER):
        service.query(query)
    assert service.call("DELETE", "/cache").json() == {"cleared": 2}
    assert service.size == 0
    assert not service.query(ML)["cache_hit"]
    assert service.call("DELETE", "/cache").json() == {"cleared": 1}


def test_36_warm_up(service: Service) -> None:
    items = [{"query": ML, "response": "Learning."}, {"query": WEATHER, "response": "Rain."}]
    done = service.post("/cache/warmup", queries=items)
    assert done == {"added": 2, "skipped": 0, "cache_size": 2}
    for item in items:
        answer = service.query(item["query"])
        assert (answer["cache_hit"], answer["response"]) == (True, item["response"])
        assert answer["cached_data"]["source"] == "warmup"
    other = [{"query": ML, "response": "Else."}, "Who painted the Mona Lisa?"]
    done = service.post("/cache/warmup", queries=other)
    assert done == {"added": 1, "skipped": 1, "cache_size": 3}
    assert service.query(ML)["response"] == "Learning."
    generated = service.query("Who painted the Mona Lisa?")
    assert generated["cached_data"]["source"] in ("lm:tales", "template")
    done = service.post("/cache/warmup", queries=other[:1], overwrite=True)
    assert done == {"added": 1, "skipped": 0, "cache_size": 3}
    assert service.query(ML)["response"] == "Else."
    assert service.get("/cache/entries")["entries"][0]["query"] == ML
    for bad in ([], ["x"] * 1001, [""], [{"query": "x", "response": ""}], [5], "x", None):
        service.refused(422, "validation_error", {"queries": bad}, "/cache/warmup")


def test_37_entries_newest_first(service: Service) -> None:
    queries = [ML, WEATHER, "Who painted the Mona Lisa?"]
    ids = [service.query(query)["entry_id"] for query in queries]
    service.query(ML_TOO)
    listed = service.get("/cache/entries")
    assert listed["total"] == 3
    assert [entry["query"] for entry in listed["entries"]] == queries[::-1]
    assert [entry["entry_id"] for entry in listed["entries"]] == ids[::-1]
    assert [entry["hits"] for entry in listed["entries"]] == [0, 0, 1]
    assert {entry["embedder"] for entry in listed["entries"]} == {"minilm"}
    (one,) = service.get("/cache/entries", limit=1, offset=1)["entries"]
    assert one["query"] == WEATHER
    for query in ({"limit": 0}, {"limit": 1001}, {"offset": -1}, {"limit": "all"}):
        assert service.call("GET", "/cache/entries", params=query).status_code == 422


def test_one_entry_can_be_deleted(service: Service) -> None:
    entry_id = service.query(ML)["entry_id"]
    path = f"/cache/entries/{entry_id}"
    assert service.call("DELETE", path).json() == {"deleted": True, "entry_id": entry_id}
    for gone in (
        path,
        "/cache/entries/e-none",
        "/cache/entries/%2e%2e",
        f"/cache/entries/{'x' * 5000}",
    ):
        answer = service.call("DELETE", gone)
        assert (answer.status_code, answer.json()["code"]) == (404, "entry_not_found"), gone
    assert not service.query(ML)["cache_hit"]


def test_38_dump_and_load(tmp_path: Path) -> None:
    with alone() as service:
        for path in ("/cache/dump", "/cache/load"):
            answer = service.call("POST", path)
            assert (answer.status_code, answer.json()["code"]) == (400, "persistence_disabled")
    file = tmp_path / "semantic_cache.jsonl"
    with alone(PERSIST_PATH=str(file)) as service:
        assert service.post("/cache/load") == {"loaded": 0, "cache_size": 0}
        service.query(ML)
        service.query(WEATHER)
        assert service.post("/cache/dump") == {"entries": 2, "file": "semantic_cache.jsonl"}
        first, *lines = map(json.loads, file.read_text().splitlines())
        assert first == {
            "format": "cacher-semantic", "version": 1, "embedder": "minilm", "dimension": 384,
        }  # fmt: skip
        assert [line["query"] for line in lines] == [ML, WEATHER]
        service.call("DELETE", "/cache")
        assert service.post("/cache/load") == {"loaded": 2, "cache_size": 2}
        assert service.query(ML)["cache_hit"]


def test_39_metrics(service: Service) -> None:
    for query in (ML, ML, ML_TOO, ON, OFF):
        service.query(query)
    service.query(ML, use_cache=False)
    for path in ("/metrics", "/v1/metrics"):
        answer = service.call("GET", path)
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        found = dict(re.findall(r"^semantic_cache_(\w+) ([\d.e+]+)$", answer.text, re.M))
        assert {name: float(found[name]) for name in (
            "hits_total", "misses_total", "bypasses_total", "guarded_total", "evictions_total",
            "errors_total", "size", "request_seconds_count",
        )} == {
            "hits_total": 2, "misses_total": 3, "bypasses_total": 1, "guarded_total": 1,
            "evictions_total": 0, "errors_total": 0, "size": 3, "request_seconds_count": 6,
        }  # fmt: skip
        assert float(found["memory_bytes"]) == service.stats["memory_bytes"] > 3 * 4 * 384
        bounds = re.findall(r'request_seconds_bucket{le="([\d.+Inf]+)"}', answer.text)
        assert (bounds[0], bounds[-2:]) == ("0.005", ["10.0", "+Inf"])


def test_40_keys() -> None:
    with alone(API_KEYS=KEYS) as service:
        service.refused(401, "unauthorized", {"query": ML})
        for headers in ({"X-API-Key": "k1"}, {"Authorization": "Bearer k1"}):
            answer = service.call("POST", "/query", json={"query": ML}, headers=headers)
            assert answer.status_code == 200
        assert service.get("/health")["status"] == "healthy"
        assert service.call("GET", "/cache/stats").status_code == 401


def test_tenants_of_keys_never_meet() -> None:
    with alone(API_KEYS=KEYS) as service:
        ann, bob = ({"X-API-Key": key} for key in ("k2", "k3"))

        def ask(who: dict[str, str], method: str, path: str, **body: Any) -> Any:
            return service.call(method, path, json=body or None, headers=who).json()

        stored = ask(ann, "POST", "/query", query=ML, tenant="bob")
        assert not ask(bob, "POST", "/query", query=ML, similarity_threshold=0.0)["cache_hit"]
        assert ask(ann, "POST", "/query", query=ML)["cache_hit"]
        for path in ("/cache/stats", "/cache/entries"):
            found = ask(bob, "GET", path)
            assert found.get("cache_size", found.get("total")) == 1
        answer = ask(bob, "DELETE", f"/cache/entries/{stored['entry_id']}")
        assert answer["code"] == "entry_not_found"
        assert ask(bob, "DELETE", "/cache") == {"cleared": 1}
        assert ask(ann, "GET", "/cache/stats")["cache_size"] == 1


def test_41_rate_limit() -> None:
    with alone(RATE_LIMIT=5) as service:
        for _ in range(5):
            service.query(ML)
        answer = service.call("POST", "/query", json={"query": ML})
        assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert service.get("/health")["status"] == "healthy"


def test_42_large_bodies(service: Service) -> None:
    service.refused(413, "body_too_large", {"query": "x", "y": "y" * 2**21})
    service.refused(422, "validation_error", {"query": "x" * (2**20 - 100)})
    assert service.size == 0
    with alone(MAX_BODY_BYTES=100) as small:
        small.refused(413, "body_too_large", {"query": "x" * 100})
        assert small.query("x")["query"] == "x"


def test_43_the_client(
    service: Service, dead_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    address = str(service.http.base_url)
    with SemanticCacheClient(address) as client:
        assert client.query("x y z")["query"] == "x y z"
        assert client.query("x y z", similarity_threshold=None)["cache_hit"]
        assert client.check_health()["status"] == "healthy"
        assert client.get_cache_stats()["cache_size"] == 1
        assert client.warmup(["a", {"query": "b", "response": "c"}])["added"] == 2
        assert client.entries(limit=2)["total"] == 3
        assert client.clear() == {"cleared": 3}
        assert capsys.readouterr().out == ""
        assert client.dump() == client.load() == client.query("") == {}
        assert "persistence" not in capsys.readouterr().err
    dead = f"http://127.0.0.1:{dead_port}"
    with SemanticCacheClient(dead) as client:
        assert client.query("x") == client.get_cache_stats() == client.clear() == {}
        health = client.check_health()
        assert (health["status"], "refused" in health["error"]) == ("error", True)
        assert capsys.readouterr().out.count("no response: ") == 4
    with SemanticCacheClient(dead, raise_errors=True) as client:
        for call in (lambda: client.query("x"), client.check_health, client.get_cache_stats):
            with pytest.raises(CacherAPIError) as error:
                call()
            assert (error.value.status_code, error.value.details) == (None, "No response")
    with SemanticCacheClient(address, raise_errors=True) as client:
        with pytest.raises(CacherAPIError) as error:
            client.query("")
        assert (error.value.status_code, error.value.details["code"]) == (422, "validation_error")


def test_44_the_demo(service: Service, dead_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    address = str(service.http.base_url)
    assert main(["--delay", "0", "--base-url", address]) == 0
    shown = capsys.readouterr().out
    assert shown.count("HIT, score") >= 4
    assert shown.count("MISS") >= 4
    assert (
        len(re.findall(r"processing time \d\.\d{4} s, total request time \d\.\d{4} s", shown)) == 6
    )
    assert re.findall(r"threshold (0\.\d5)", shown) == ["0.95", "0.85", "0.75", "0.65"]
    assert main(["--delay", "0", "--base-url", f"http://127.0.0.1:{dead_port}"]) == 1
    assert "python -m cacher.semantic.server" in capsys.readouterr().err
    assert main(["--delay", "-1", "--base-url", address]) == 1
    assert main(["--base-url", "nowhere"]) == 1


def test_45_beside_the_states(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "cacher")
    settings = Settings(CACHE_DIR=str(tmp_path), MODEL_NAME="tales", API_KEYS=KEYS)
    with (
        serving(create_app(settings)) as address,
        httpx.Client(base_url=address, timeout=60) as http,
    ):
        service = Service(http)
        assert service.get("/test") == {"message": "Test endpoint works!"}
        health = service.get("/health")
        assert (health.keys(), health["ok"]) == ({"status", "timestamp", "ok", "model_ready"}, True)
        assert "semantic_cache_hits_total 0.0" in service.call("GET", "/metrics").text
        assert "model minilm" not in caplog.text
        assert not service.query(ML)["cache_hit"]
        assert "model minilm is loaded" in caplog.text
        assert service.query(ML_TOO)["cache_hit"]
        made = service.post("/states", model_id="tales", text="Hello")
        assert service.get(f"/states/{made['state_id']}")["text"] == "Hello"
        assert "semantic_cache_hits_total 1.0" in service.call("GET", "/metrics").text
        assert Service(http, "/v1", "/").query(ML)["cache_hit"]
        ann = {"X-API-Key": "k2"}
        answer = service.call("POST", "/query", json={"query": ML}, headers=ann).json()
        assert not answer["cache_hit"]
        assert service.get("/health")["model_ready"]


FAULTY = """
def fail(query):
    raise ValueError("the secret is in /etc/secret.txt")
async def fail_late(query):
    raise TimeoutError("the secret is in /etc/secret.txt")
def nothing(query):
    return ""
def refuse(query):
    import cacher
    raise cacher.StateNotFoundError("the secret is in /etc/secret.txt")
"""


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"faulty_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(FAULTY)
    monkeypatch.syspath_prepend(tmp_path)
    return name


@pytest.mark.parametrize("function", ["fail", "fail_late", "nothing", "refuse"])
def test_25_46_a_failure_tells_nothing_and_stores_nothing(faulty: str, function: str) -> None:
    with alone(RESPONDER=f"{faulty}:{function}") as service:
        for body in ({"query": ML}, {"query": ML, "use_cache": False}):
            answer = service.refused(500, "internal_error", body)
            assert answer == {"detail": "Internal server error", "code": "internal_error"}
        service.refused(500, "internal_error", {"queries": [ML, WEATHER]}, "/cache/warmup")
        stats = service.stats
        assert (stats["cache_size"], stats["errors"], stats["error_rate"]) == (0, 3, 3 / 3)


def test_46_no_error_names_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with alone(PERSIST_PATH=str(folder / "cache.jsonl")) as service:
        service.query(ML)
        folder.rmdir()
        answer = service.call("POST", "/cache/dump")
        assert (answer.status_code, answer.json()["code"]) == (503, "storage_failed")
        assert "folder" not in answer.text
        assert "cache.jsonl" not in answer.text
        assert service.query(ML)["cache_hit"]


def test_47_hits_among_1000_entries_are_quick(service: Service) -> None:
    items = [
        {"query": f"What is the answer to question {i} of list {i % 7}?", "response": str(i)}
        for i in range(1000)
    ]
    assert service.post("/cache/warmup", queries=items)["cache_size"] == 1000
    times = []
    for i in range(100):
        answer = service.query(f"Tell me: what is the answer to question {i} of list {i % 7}?")
        assert answer["cache_hit"]
        times.append(answer["processing_time"])
    assert statistics.median(times) < 0.05


def test_48_the_guard() -> None:
    with alone() as service:
        service.query(ON)
        answer = service.query(OFF)
        assert (answer["cache_hit"], answer["cached_data"]) == (False, None)
        assert "off" in answer["guarded"]
        assert service.stats["guarded"] == 1
        assert service.query(OFF)["cache_hit"]
    with alone(GUARD=False) as service:
        service.query(ON)
        answer = service.query(OFF)
        assert (answer["cache_hit"], "guarded" in answer) == (True, False)


def test_a_generation_outlives_the_client_that_began_it() -> None:
    """Who waits for an answer gets it, though the one who asked first has left."""
    with alone(MAX_TOKENS=800) as service:
        query = {"query": "What is the capital of France?"}

        async def main() -> httpx.Response:
            base = str(service.http.base_url)
            async with httpx.AsyncClient(base_url=base, timeout=60) as http:
                first = asyncio.create_task(http.post("/query", json=query))
                await asyncio.sleep(0.1)
                second = asyncio.create_task(http.post("/query", json=query))
                await asyncio.sleep(0.1)
                first.cancel()
                return await second

        answer = asyncio.run(main())
        assert (answer.status_code, answer.json()["query"]) == (200, query["query"])
        assert service.size == 1
