"""The semantic cache as processes: how it starts and ends, and workers that share a store."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.semantic.service import ML, ML_TOO, WEATHER
from tests.server.test_process import process
from tests.server.workers import Workers
from tests.stores.conftest import RedisServer

SERVER = ("-m", "cacher.semantic.server")
STARTS = {"server": SERVER, "uvicorn": ("-m", "uvicorn", "cacher.semantic.server:app")}


def ask(http: httpx.Client, query: str) -> Any:
    answer = http.post("/query", json={"query": query})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("start", STARTS)
def test_all_ways_to_start_and_to_end(tmp_path: Path, dead_port: int, start: str) -> None:
    file = tmp_path / "cache.jsonl"
    settings = {"SEMCACHE_PERSIST_PATH": str(file), "CACHER_CACHE_DIR": str(tmp_path / "states")}
    with process(tmp_path, dead_port, *STARTS[start], **settings) as (child, http):
        assert not ask(http, ML)["cache_hit"]
        assert ask(http, ML_TOO)["cache_hit"]
        child.send_signal(signal.SIGTERM)
        _, log = child.communicate(timeout=30)
    assert child.returncode in (0, -signal.SIGTERM)
    assert "Traceback" not in log
    assert log.index("model minilm is loaded") < log.index("Application startup complete")
    first, entry = map(json.loads, file.read_text().splitlines())
    assert (first["embedder"], entry["query"], entry["hits"]) == ("minilm", ML, 1)
    assert not (tmp_path / "states").exists()  # it keeps none


def test_options_go_before_variables(tmp_path: Path, dead_port: int) -> None:
    options = ("--max-cache-size", "7", "--similarity-threshold", "0.6", "--model-device", "cpu")
    settings = {"SEMCACHE_MAX_CACHE_SIZE": "9", "SEMCACHE_SIMILARITY_THRESHOLD": "nonsense"}
    with process(tmp_path, dead_port, *SERVER, *options, **settings) as (_child, http):
        stats = http.get("/cache/stats").json()
        assert (stats["max_cache_size"], stats["current_threshold"]) == (7, 0.6)


def test_host_and_port_are_variables_too(tmp_path: Path, dead_port: int) -> None:
    env = {**os.environ, "SEMCACHE_PORT": str(dead_port), "SEMCACHE_HOST": "127.0.0.2"}
    with subprocess.Popen(
        [sys.executable, *SERVER], env=env, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    ) as child:  # fmt: skip
        assert child.stderr is not None
        running = next(line for line in child.stderr if "Uvicorn running on" in line)
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=30)
    assert f"http://127.0.0.2:{dead_port}" in running


@pytest.mark.parametrize(
    ("options", "settings", "says"),
    [
        (("--model-device", "cuda"), {}, "SEMCACHE_MODEL_DEVICE is 'cuda', which is not available"),
        (("--similarity-threshold", "2"), {}, "SEMCACHE_SIMILARITY_THRESHOLD is 2.0, allowed: 0"),
        ((), {"SEMCACHE_RESPONDER": "no.such:thing"}, "SEMCACHE_RESPONDER: 'no.such:thing' cannot"),
        ((), {"SEMCACHE_MODEL": "nobody/x"}, "SEMCACHE_MODEL: Model not found: 'nobody/x'"),
        ((), {"SEMCACHE_STORE": "redis://ann:pw@127.0.0.1:9/0"}, "'redis://***@127.0.0.1:9/0'"),
    ],
)  # fmt: skip
def test_what_stops_the_start_is_said_in_a_sentence(
    tmp_path: Path, dead_port: int, options: tuple[str, ...], settings: dict[str, str], says: str
) -> None:
    with process(
        tmp_path, dead_port, *SERVER, *options, CACHER_OFFLINE="True", **settings
    ) as (child, _http):  # fmt: skip
        _, log = child.communicate(timeout=30)
    assert child.returncode != 0
    assert says in log
    assert "Traceback" not in log
    assert ":pw" not in log


def test_44_the_demo_as_a_command(tmp_path: Path, dead_port: int) -> None:
    address = f"http://127.0.0.1:{dead_port}"
    demo = [sys.executable, "-m", "cacher.semantic.client", "--delay", "0", "--base-url", address]
    done = subprocess.run(demo, capture_output=True, text=True)
    assert (done.returncode, "start a server first" in done.stderr) == (1, True)
    with process(tmp_path, dead_port, *SERVER):
        done = subprocess.run(demo, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert min(done.stdout.count("HIT"), done.stdout.count("MISS")) >= 1


# ---- workers


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def workers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workers]:
    tmp_path = tmp_path_factory.mktemp("workers")
    redis = RedisServer(tmp_path) if request.param == "redis" else None
    store = f"sqlite:{tmp_path / 'entries.db'}" if redis is None else redis.url
    found = Workers(tmp_path, *SERVER, SEMCACHE_STORE=store)
    try:
        yield found
    finally:
        found.stop()
        if redis is not None:
            redis.kill()


def query(workers: Workers, text: str, **options: Any) -> Any:
    answer = workers.ask("POST", "/query", {"query": text, **options})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_what_one_worker_stores_the_other_finds(workers: Workers) -> None:
    assert len(workers.pids) == 2
    workers.ask("DELETE", "/cache")
    time.sleep(1)
    with workers.only(0):
        first = query(workers, ML)
        query(workers, WEATHER)
    time.sleep(1)
    with workers.only(1):
        exact, alike = query(workers, ML), query(workers, ML_TOO)
        assert (exact["response"], exact["entry_id"]) == (first["response"], first["entry_id"])
        assert exact["cached_data"]["similarity_score"] == 1.0
        assert alike["cached_data"]["cached_query"] == ML
        assert workers.ask("GET", "/cache/stats").json()["cache_size"] == 2
        assert workers.ask("DELETE", f"/cache/entries/{first['entry_id']}").status_code == 200
    time.sleep(1)
    with workers.only(0):
        assert not query(workers, ML)["cache_hit"]


def test_equal_misses_of_two_workers_generate_once(workers: Workers) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: query(workers, "Who lives in the forest?"), range(32)))
    assert [answer["cache_hit"] for answer in answers].count(False) == 1
    assert len({answer["entry_id"] for answer in answers}) == 1


def counted(workers: Workers) -> list[float]:
    """The hits, misses and entries of all workers."""
    text = workers.ask("GET", "/metrics").text
    found = dict(re.findall(r"^semantic_cache_(\w+) ([\d.e+]+)$", text, re.M))
    return [float(found[name]) for name in ("hits_total", "misses_total", "size")]


def test_metrics_speak_for_both_workers(workers: Workers) -> None:
    workers.ask("DELETE", "/cache")
    time.sleep(2)  # what the other counts is told a second apart
    hits, misses, _ = counted(workers)
    for index in (0, 1):
        with workers.only(index):
            query(workers, ML)
    end = time.monotonic() + 30
    while (seen := counted(workers)) != [hits + 1, misses + 1, 1]:
        assert time.monotonic() < end, seen
        time.sleep(0.2)


def test_entries_outlive_all_workers(tmp_path: Path) -> None:
    store = f"sqlite:{tmp_path / 'entries.db'}"
    first = Workers(tmp_path, *SERVER, SEMCACHE_STORE=store)
    try:
        stored = query(first, ML)
        for pid in first.pids:
            os.kill(pid, signal.SIGKILL)
    finally:
        first.stop()
    again = Workers(tmp_path, *SERVER, SEMCACHE_STORE=store)
    try:
        assert query(again, ML)["entry_id"] == stored["entry_id"]
    finally:
        again.stop()
