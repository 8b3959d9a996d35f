"""The event loop never waits: whatever is asked meanwhile, `GET /test` answers."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.server.test_process import process

TEXT = "The quick brown fox jumps over the lazy dog. "
MIB = 2**20


class Prober:
    """Asks for `/test` again and again, on a connection of its own; knows how long it took."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._stopped = threading.Event()
        self._seconds: list[float] = []

    def _ask(self) -> None:
        while not self._stopped.is_set():
            started = time.perf_counter()
            self._connection.request("GET", "/test")
            assert self._connection.getresponse().read()
            self._seconds.append(time.perf_counter() - started)
            time.sleep(0.001)

    @contextmanager
    def asking(self) -> Iterator[list[float]]:
        """While the block lasts; gives the times."""
        self._stopped.clear()
        self._seconds = []
        thread = threading.Thread(target=self._ask)
        thread.start()
        try:
            yield self._seconds
        finally:
            self._stopped.set()
            thread.join()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, Prober]]:
    folder = tmp_path_factory.mktemp("prompt")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with process(
        folder, port, "-m", "cacher", "serve", CACHER_OFFLINE="1", CACHER_LOG_LEVEL="WARNING"
    ) as (_child, client):
        body = {"model_id": "tales", "text": TEXT * 50, "config": {"store_logits": "full"}}
        for name in ("a", "b"):
            assert client.post("/states", json={**body, "state_id": name}).status_code == 200
        yield client, Prober(port)


def keys(n: int) -> bytes:
    return b",".join(b'"k%d":1' % i for i in range(n))


REQUESTS: dict[str, tuple[str, str, dict[str, Any], int]] = {
    "the document": ("GET", "/openapi.json", {}, 200),
    "a long text": ("POST", "/tokenize", {"json": {"text": (TEXT * 22_500)[:1_000_000]}}, 200),
    "many numbers": (
        "POST", "/tokenize", {"json": {"text": "", "more": [[i] for i in range(300_000)]}}, 200,
    ),
    "many keys": ("POST", "/tokenize", {"content": b'{"text":"",' + keys(250_000) + b"}"}, 200),
    "many wrong tokens": ("POST", "/detokenize", {"json": {"tokens": ["a"] * 600_000}}, 422),
    "a large configuration": (
        "POST", "/states",
        {"content": b'{"model_id":"tales","config":{' + keys(250_000) + b"}}"}, 422,
    ),
    "large tags": (
        "POST", "/states",
        {"content": b'{"model_id":"tales","metadata":{' + keys(250_000) + b"}}"}, 422,
    ),
    "all logits": (
        "POST", "/forward",
        {"json": {"state_id": "b", "text_input": "", "return_all_tokens_info": True}}, 200,
    ),
    "all about tokens": (
        "GET", "/analysis/tokens/a",
        {"params": {"include_logits": True, "top": 100, "ngrams": 3, "correlation": True}}, 200,
    ),
    "attention of all layers": (
        "POST", "/analysis/attention/a",
        {"json": {"per_layer": True, "position_range": [0, 400]}}, 200,
    ),
    "keys and values": ("POST", "/v1/analysis/cache/a", {"json": {"layer": 0}}, 200),
    "an import of numbers": (
        "POST", "/states/import", {"content": b'{"a":[' + b"1," * (8 * MIB) + b"1]}"}, 400,
    ),
    "an import of brackets": ("POST", "/states/import", {"content": b"[" * (32 * MIB)}, 400),
    "an import that expands": (
        "POST", "/states/import", {"content": gzip.compress(b"{" + b" " * (60 * MIB))}, 400,
    ),
    "a wide beam": (
        "POST", "/generate/beam",
        {"json": {"state_id": "a", "num_beams": 32, "include_trace": True}}, 200,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REQUESTS)
def test_others_are_answered_meanwhile(server: tuple[httpx.Client, Prober], name: str) -> None:
    client, prober = server
    method, path, options, status = REQUESTS[name]
    request = client.build_request(method, path, **options)
    with prober.asking() as seconds:
        answer = client.send(request)
    assert answer.status_code == status, answer.text[:500]
    print(f"{name}: the slowest GET /test took {1e3 * max(seconds):.1f} ms")
    assert max(seconds) < 1


def test_others_are_answered_while_16_generations_run(
    server: tuple[httpx.Client, Prober],
) -> None:
    client, prober = server

    def generate(i: int) -> int:
        body = {"text_input": f"Story {i}", "max_new_tokens": 100, "stream": i % 2 == 0}
        return client.post("/generate", json=body).status_code

    with prober.asking() as seconds, ThreadPoolExecutor(16) as pool:
        assert set(pool.map(generate, range(64))) == {200}
    p99 = sorted(seconds)[int(0.99 * len(seconds))]
    print(f"16 generations: GET /test took {1e3 * p99:.1f} ms at the 99th percentile")
    assert p99 < 1


def test_answers_of_any_size_are_the_same_json(server: tuple[httpx.Client, Prober]) -> None:
    client, _ = server
    whole = client.get("/analysis/tokens/a", params={"top": 100}).json()
    parts = [
        client.get("/analysis/tokens/a", params={"top": top}).json()["tokens"] for top in (0, 100)
    ]
    assert json.dumps(whole["tokens"]) == json.dumps(parts[1])
    for token, more in zip(*parts, strict=True):
        assert len(more.pop("top_tokens")) == 100
        assert token == more
    text = (TEXT * 22_500)[:1_000_000]
    found = client.post("/tokenize", json={"text": text}).json()
    assert "".join(found["token_strings"]) == text
    assert found["count"] == len(found["tokens"]) == len(found["token_strings"])
