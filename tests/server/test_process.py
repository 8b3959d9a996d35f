"""The server as a process: how it starts, and how it ends with work in hand."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from cacher import hub
from tests.server.conftest import over_socket

STARTS = {
    "cacher serve": ["-m", "cacher", "serve"],
    "cacher.main": ["-m", "cacher.main"],
    "uvicorn": ["-m", "uvicorn", "cacher.main:app"],
}


@contextmanager
def process(
    folder: Path, port: int, *command: str, **settings: str
) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    child = subprocess.Popen(
        [sys.executable, *command, "--port", str(port)],
        env={**os.environ, "CACHER_CACHE_DIR": str(folder), **settings},
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            while child.poll() is None:
                try:
                    http.get("/test")
                    break
                except httpx.TransportError:
                    time.sleep(0.02)
            yield child, http
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize("start", STARTS)
def test_all_ways_to_start(tmp_path: Path, dead_port: int, start: str) -> None:
    with process(tmp_path / "new", dead_port, *STARTS[start]) as (child, http):
        assert http.get("/v1/health").json()["status"] == "healthy"
        state = http.post("/states", json={"model_id": "tales", "text": "Hello"}).json()
        assert (tmp_path / "new" / f"{state['state_id']}.json").exists()
        child.send_signal(signal.SIGTERM)
        _, log = child.communicate(timeout=30)
    assert child.returncode in (0, -signal.SIGTERM)
    assert "default model: tales" in log
    assert "Traceback" not in log


NO_NETWORK = """
import runpy, sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        host = arguments[1][0] if event == "socket.connect" else arguments[0]
        if host not in ("127.0.0.1", "localhost"):
            raise OSError("the network is unreachable")
sys.addaudithook(refuse)
runpy.run_module("cacher", run_name="__main__", alter_sys=True)
"""


def test_5_no_network(tmp_path: Path, dead_port: int) -> None:
    settings = {"HF_HUB_CACHE": str(tmp_path / "hub"), "CACHER_MODELS_DIR": str(tmp_path / "none")}
    with process(
        tmp_path, dead_port, "-c", NO_NETWORK, "serve", **settings
    ) as (_child, http):  # fmt: skip
        assert sorted(m["model_id"] for m in http.get("/models").json()) == hub.built_in()
        made = http.post("/generate", json={"text_input": "Hello", "max_new_tokens": 5}).json()
        assert len(made["token_ids"]) == 5
        for path in ("/", "/docs", "/openapi.json", f"/analysis/tokens/{made['state_id']}"):
            assert http.get(path).status_code == 200
        answer = http.post("/states", json={"model_id": "gpt2"})
        assert (answer.status_code, answer.json()["code"]) == (400, "model_not_found")
        assert "a download: it failed" in answer.json()["detail"]


def test_a_stream_is_finished_before_the_server_ends(tmp_path: Path, dead_port: int) -> None:
    serve = ("-m", "cacher", "serve", "--dtype", "int8", "--kv-dtype", "bf16")
    with process(tmp_path, dead_port, *serve) as (child, http):
        state_id = http.post("/states", json={"model_id": "tales", "text": "Hello"}).json()[
            "state_id"
        ]
        body = {"state_id": state_id, "max_tokens": 100, "stream": True}
        with http.stream("POST", "/generate/token", json=body) as answer:
            lines = answer.iter_lines()
            first = json.loads(next(lines))
            child.send_signal(signal.SIGTERM)
            tokens = [first["token"], *(json.loads(line)["token"] for line in lines)]
        assert len(tokens) == 100
        child.communicate(timeout=30)
    saved = json.loads((tmp_path / f"{state_id}.json").read_text())
    assert saved["text"] == "Hello" + "".join(tokens)
    assert (saved["dtype"], saved["kv_dtype"]) == ("int8", "bf16")


@pytest.mark.parametrize("streams", [True, False])
def test_what_is_cut_by_the_end_is_saved(tmp_path: Path, streams: bool) -> None:
    settings = {"CACHE_DIR": str(tmp_path), "MAX_TOKENS_PER_REQUEST": 1000}
    body = {"max_tokens": 1000, "min_tokens": 1000, "stream": streams}
    names = [f"s{i}" for i in range(8)]
    heard: dict[str, str] = {}

    def generate(address: str, name: str) -> None:
        heard[name] = ""
        url = f"{address}/generate/token"
        with (
            contextlib.suppress(httpx.TransportError),
            httpx.stream("POST", url, json={"state_id": name, **body}, timeout=60) as answer,
        ):
            assert answer.status_code == (200 if streams else 503)
            for line in answer.iter_lines():
                heard[name] += json.loads(line)["token" if streams else "code"]

    with ThreadPoolExecutor(8) as pool, over_socket(graceful_s=0, **settings) as address:
        for name in names:
            made = {"model_id": "tales", "text": "Hello", "state_id": name}
            assert httpx.post(f"{address}/states", json=made).status_code == 200
        done = [pool.submit(generate, address, name) for name in names]
        running = 'cacher_engine_requests{kind="running",model="tales"} 8.0'
        while running not in httpx.get(f"{address}/metrics").text:
            time.sleep(0.01)
        time.sleep(0.1)
    for one in done:
        one.result()
    for name in names:
        saved = json.loads((tmp_path / f"{name}.json").read_text())
        assert saved["text"].startswith("Hello" + heard[name] if streams else "Hello")
        assert heard[name] if streams else heard[name] == "busy"
        assert 1 < len(saved["token_ids"]) < 1000


def test_a_device_that_is_not_there_stops_the_start(tmp_path: Path, dead_port: int) -> None:
    with process(
        tmp_path, dead_port, "-m", "cacher", "serve", CACHER_DEVICE="cuda"
    ) as (child, _http):  # fmt: skip
        _, log = child.communicate(timeout=30)
    assert child.returncode != 0
    assert "CACHER_DEVICE is 'cuda', which is not available" in log


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize(
    ("name", "value", "shown", "reason"),
    [
        ("CACHE_DIR", "{file}", "{file}", "Not a directory"),
        ("CACHE_DIR", "{file}/a", "{file}/a", "Not a directory"),
        ("CACHE_DIR", "/proc/states", "/proc/states", "cannot be opened"),
        ("STATE_STORE", "redis://ann:pw@127.0.0.1:{port}/0", "redis://***@127.0.0.1:{port}/0",
         "Connection refused"),
    ],
)  # fmt: skip
def test_a_store_that_cannot_be_opened_stops_the_start_in_one_sentence(
    tmp_path: Path, dead_port: int, start: str, name: str, value: str, shown: str, reason: str
) -> None:
    file = tmp_path / "f"  # messages show 100 characters of a path
    file.touch()
    value, shown = (text.format(file=file, port=dead_port) for text in (value, shown))
    with process(
        tmp_path / "new", dead_port, *STARTS[start], **{f"CACHER_{name}": value}
    ) as (child, _http):  # fmt: skip
        _, log = child.communicate(timeout=30)
    assert child.returncode == (3 if start == "uvicorn" else 1)
    (line,) = (line for line in log.splitlines() if "CACHER_" in line)
    assert f"CACHER_{name} is '{shown}': " in line
    assert reason in line
    assert "Traceback" not in log
    assert ":pw" not in log
