"""Who may come in, and what: checklist 121 to 123, and the bounds of every request."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import json
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from cacher.config import Settings
from cacher.server import gate, protocol
from cacher.server.app import create_app
from cacher.server.gate import RateLimiter
from cacher.server.journal import configure_logging
from tests.server.conftest import MANY, Api, in_memory, over_socket
from tests.stores.conftest import RedisServer

KEYS = Settings.from_env({"CACHER_API_KEYS": "secret-1, ann:secret-2"}).API_KEYS


def go(test: Any) -> None:
    asyncio.run(test())


def test_121_keys() -> None:
    async def run() -> None:
        async with in_memory(API_KEY_REQUIRED=True, API_KEYS=KEYS) as http:
            for headers in (
                {}, {"X-API-Key": "wrong"}, {"X-API-Key": ""}, {"X-API-Key": "ann"},
                {"Authorization": "Bearer wrong"}, {"Authorization": "Basic secret-1"},
            ):  # fmt: skip
                for path in ("/test", "/v1/models/", "/nope", "/docs", "/metrics"):
                    answer = await http.get(path, headers=headers)
                    body = {"detail": "Invalid or missing API key", "code": "unauthorized"}
                    assert (answer.status_code, answer.json()) == (401, body)
            for path in ("/health", "/v1/health/"):
                assert (await http.get(path)).status_code == 200
            for headers in ({"X-API-Key": "secret-1"}, {"Authorization": "bearer secret-2"}):
                assert (await http.get("/test", headers=headers)).status_code == 200

    go(run)


def test_keys_are_not_kept_in_clear() -> None:
    assert [key.tenant for key in KEYS] == ["", "ann"]
    assert "secret" not in repr(Settings(API_KEYS=KEYS))
    digest = hashlib.sha256(b"secret-2").hexdigest()
    assert KEYS[1:] == Settings.from_env({"CACHER_API_KEYS": f"ann:sha256${digest}"}).API_KEYS


@pytest.mark.parametrize("chunked", [False, True])
def test_122_a_body_of_5_mib(http: httpx.Client, chunked: bool) -> None:
    body = b'{"text": "' + b"x" * (5 * 2**20) + b'"}'
    parts = (body[i : i + 65536] for i in range(0, len(body), 65536))
    answer = http.post("/tokenize", content=parts if chunked else body)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert http.get("/test").status_code == 200


def test_123_faults_tell_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        app = create_app(Settings())
        app.state.services.registry.available = lambda: 1 / 0
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            headers = {"X-Request-ID": "fault", "Origin": "http://page.example"}
            answer = await http.get("/models", headers=headers)
            body = {"detail": "Internal server error", "code": "internal_error"}
            assert (answer.status_code, answer.json()) == (500, body)
            assert answer.headers["x-request-id"] == "fault"
            assert answer.headers["access-control-allow-origin"] == "*"

    go(run)
    assert "ZeroDivisionError" in caplog.text
    assert "fault" in caplog.text


def test_compressed_bodies_are_not_taken(http: httpx.Client) -> None:
    body = gzip.compress(b'{"text": "x"}')
    answer = http.post("/tokenize", content=body, headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_encoding")


@pytest.mark.parametrize("depth", [65, 1000, 100_000])
def test_deep_json_is_refused(http: httpx.Client, depth: int) -> None:
    for left, right in ((b"[", b"]"), (b'{"a":', b"}")):
        answer = http.post("/tokenize", content=left * depth + b"1" + right * depth)
        assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")
    flat = json.dumps({"text": "x", "more": [[]] * 1000})
    assert http.post("/tokenize", content=flat).status_code == 200


def test_refused_values_are_shown_shortened(http: httpx.Client) -> None:
    answer = http.post("/tokenize", json={"text": "x", "model_id": "-" * 100_000})
    assert answer.status_code == 422
    assert len(answer.content) < 1000


def test_hosts() -> None:
    async def run() -> None:
        async with in_memory(ALLOWED_HOSTS=("good.example", "*.fine.example")) as http:
            for host, status in (
                ("good.example", 200), ("GOOD.example:80", 200), ("a.fine.example", 200),
                ("bad.example", 400), ("fine.example", 400), ("good.example.bad", 400),
            ):  # fmt: skip
                answer = await http.get("/test", headers={"Host": host})
                assert answer.status_code == status, host
        async with in_memory() as http:
            answer = await http.get("/test", headers={"Host": "a b"})
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid_host")

    go(run)


def test_origins() -> None:
    asking = {"Origin": "http://page.example", "Access-Control-Request-Method": "POST"}

    async def run() -> None:
        async with in_memory() as http:
            answer = await http.options("/tokenize", headers=asking)
            assert answer.status_code == 200
            assert answer.headers["access-control-allow-origin"] == "*"
            assert "access-control-allow-credentials" not in answer.headers
        keys: dict[str, Any] = {"API_KEY_REQUIRED": True, "API_KEYS": KEYS}
        async with in_memory(ALLOWED_ORIGINS=("http://page.example",), **keys) as http:
            answer = await http.options("/tokenize", headers=asking)  # needs no key
            assert answer.headers["access-control-allow-origin"] == "http://page.example"
            assert answer.headers["access-control-allow-credentials"] == "true"
            answer = await http.get("/test", headers=asking)  # refused, readably
            assert answer.status_code == 401
            assert answer.headers["access-control-allow-origin"] == "http://page.example"
            answer = await http.options("/test", headers={**asking, "Origin": "http://x.example"})
            assert "access-control-allow-origin" not in answer.headers
        async with in_memory(ENABLE_CORS=False) as http:
            assert (await http.options("/test", headers=asking)).status_code == 405

    go(run)


def test_pages_of_allowed_origins_can_read_every_answer() -> None:
    page = {"Origin": "http://page.example"}
    key = {"X-API-Key": "secret-1"}
    with (
        over_socket(
            ALLOWED_ORIGINS=("http://page.example",), API_KEY_REQUIRED=True, API_KEYS=KEYS,
            RATE_LIMIT="12/minute", LOCK_TIMEOUT=0.01, MAX_TOKENS_PER_REQUEST=MANY,
        ) as address,
        httpx.Client(base_url=address, headers=page, timeout=60) as http,
    ):  # fmt: skip

        def ask(status: int, path: str, body: Any = None, headers: Any = key) -> None:
            method = "GET" if body is None else "POST"
            options = {"content": body} if isinstance(body, bytes) else {"json": body}
            answer = http.request(method, path, headers=headers, **options)
            assert answer.status_code == status, answer.text
            assert answer.headers["access-control-allow-origin"] == "http://page.example"
            assert answer.headers["access-control-allow-credentials"] == "true"
            assert "X-Request-ID" in answer.headers["access-control-expose-headers"]
            assert answer.headers["x-request-id"]

        ask(200, "/test")
        ask(400, "/test", headers={**key, "Host": "a b"})
        ask(401, "/test", headers={})
        ask(404, "/nope")
        ask(405, "/test", {})
        ask(413, "/tokenize", b"x" * (5 * 2**20))
        ask(415, "/tokenize", {"text": "x"}, headers={**key, "Content-Encoding": "gzip"})
        ask(422, "/tokenize", b"{")
        ask(200, "/states", {"model_id": "tales", "text": "The", "state_id": "a"})
        with Api(http, "", "").long_stream("a", headers=key) as answer:
            assert answer.headers["access-control-allow-origin"] == "http://page.example"
            parts = answer.iter_raw()
            next(parts)
            ask(503, "/generate/token", {"state_id": "a"})
        while http.get("/test", headers=key).status_code == 200:
            pass
        ask(429, "/test")


def test_rates() -> None:
    async def run() -> None:
        async with in_memory(RATE_LIMIT="2/minute", API_KEYS=KEYS) as http:
            ann = {"X-API-Key": "secret-2"}
            for headers in ({}, ann):
                codes = [(await http.get("/test", headers=headers)).status_code for _ in range(3)]
                assert codes == [200, 200, 429]
            answer = await http.get("/test")
            assert answer.json()["code"] == "rate_limited"
            assert 1 <= int(answer.headers["retry-after"]) <= 60
            assert (await http.get("/health")).status_code == 200
        async with in_memory(
            RATE_LIMIT="2/minute", API_KEYS=KEYS, API_KEY_REQUIRED=True
        ) as http:  # who guesses keys is counted, too
            guesses = [{"X-API-Key": f"guess-{i}"} for i in range(3)]
            codes = [(await http.get("/test", headers=one)).status_code for one in guesses]
            assert codes == [401, 401, 429]
            assert (await http.get("/test", headers=ann)).status_code == 200

    go(run)


def test_rates_are_shared_by_processes(tmp_path: Path) -> None:
    async def run(url: str) -> None:
        one, two = RateLimiter("2/minute", url), RateLimiter("2/minute", url)
        assert [await limiter.wait("ann") for limiter in (one, two)] == [0, 0]
        assert [1 <= await limiter.wait("ann") <= 60 for limiter in (one, two)] == [True, True]
        assert await two.wait("bob") == 0

    server = RedisServer(tmp_path)
    try:
        asyncio.run(run(server.url))
    finally:
        server.kill()


@pytest.mark.parametrize("failure", ["gone", "asleep"])
def test_rates_hold_while_redis_fails(
    tmp_path: Path, failure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis_server = RedisServer(tmp_path)
    monkeypatch.setattr(gate, "STORE_SECONDS", 3.0)  # no answer that is only slow is missed
    monkeypatch.setattr(gate, "STORE_PAUSE_S", 0.5)
    rates = {"RATE_LIMIT": "3/hour", "RATE_LIMIT_STORE": redis_server.url}

    def ask(http: httpx.Client, key: str) -> int:
        return http.get("/test", headers={"X-API-Key": key}).status_code

    try:
        with (
            over_socket(API_KEYS=KEYS, **rates) as address,
            httpx.Client(base_url=address, timeout=60) as http,
        ):
            assert ask(http, "secret-1") == 200
            redis_server.process.send_signal(
                signal.SIGSTOP if failure == "asleep" else signal.SIGKILL
            )
            assert [ask(http, "secret-1") for _ in range(5)] == [200, 200, 200, 429, 429]
            assert http.get("/health").status_code == 200
            if failure == "asleep":
                redis_server.process.send_signal(signal.SIGCONT)
            else:
                redis_server.process.wait()
                redis_server.start()
            time.sleep(
                0.6
            )  # it is asked again: other processes' requests count, this one's own do not
            assert [ask(http, "secret-2") for _ in range(4)] == [200, 200, 200, 429]
            with redis.Redis.from_url(redis_server.url) as client:
                assert client.keys("*secret*") == []
                assert len(client.keys("LIMITS*")) >= 1
    finally:
        redis_server.kill()


def test_headers_have_a_deadline_and_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEADER_SECONDS", 0.2)
    with over_socket() as address:
        host, port = address.removeprefix("http://").split(":")
        for begun in (b"", b"GET /test HTTP/1.1\r\nHost: a\r\nX-Slow: "):
            with socket.create_connection((host, int(port)), timeout=10) as slow:
                slow.sendall(begun)
                assert slow.recv(1000) == b""
        with socket.create_connection((host, int(port)), timeout=10) as fat:
            fat.sendall(b"GET /test HTTP/1.1\r\nX-Fat: " + b"x" * (protocol.MAX_HEADER_BYTES + 1))
            assert fat.recv(1000).startswith(b"HTTP/1.1 431 ")
        with httpx.Client(base_url=address) as http:
            assert [http.get("/test").status_code for _ in range(3)] == [200] * 3


def raw(address: str, data: bytes) -> bytes:
    """What a connection answers to these bytes, until it is closed."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(data)
        with contextlib.suppress(ConnectionResetError):
            return connection.makefile("rb").read()
    return b""


def test_what_follows_a_body_is_no_header() -> None:
    chunks = b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
    keys: dict[str, Any] = {"API_KEY_REQUIRED": True, "API_KEYS": KEYS}
    with over_socket(**keys) as address:
        head = b"POST /tokenize HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        answer = raw(address, head + chunks + b"X-API-Key: secret-1\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 401 ")
        head += b"X-API-Key: secret-1\r\n"
        answer = raw(address, head + chunks + b"X-Trailer: x\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 422 ")
        assert raw(address, head + chunks + b"X-Trailer: x\r\n" * 10_000 + b"\r\n") == b""


@pytest.mark.parametrize(
    "path",
    ["//health", "/health/../states", "/health/%2e%2e/states", "/health;/states", "/health%00",
     "/health//", "/HEALTH", "//states", "/%2e/states", "/v1//states", "http://health/states", "*"],
)  # fmt: skip
def test_no_spelling_of_a_path_goes_around_the_key(locked: str, path: str) -> None:
    for method in ("GET", "POST", "HEAD", "OPTIONS", "PUT", "TRACE"):
        head = f"{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        assert raw(locked, head.encode()).startswith(b"HTTP/1.1 401 ")


def test_requests_that_contradict_themselves(locked: str) -> None:
    head = b"POST /tokenize HTTP/1.1\r\nX-API-Key: secret-1\r\nConnection: close\r\n"
    for more in (
        b"Host: a\r\nHost: b\r\n\r\n",
        b"Host: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"Host: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Host: a\r\nContent-Length: +2\r\n\r\n{}",
        b"Host: a\r\nTransfer-Encoding: identity\r\n\r\n{}",
        b"Host: a\r\nX-Folded: a\r\n b\r\n\r\n",
        b"Host: a\r\nX-Nul: \0\r\n\r\n",
    ):
        assert raw(locked, head + more).startswith(b"HTTP/1.1 400 "), more
    with httpx.Client(base_url=locked) as http:
        assert http.get("/health").status_code == 200


@pytest.fixture(scope="module")
def locked() -> Iterator[str]:
    """A server that needs a key."""
    with over_socket(API_KEY_REQUIRED=True, API_KEYS=KEYS) as address:
        yield address


def test_a_body_has_a_deadline() -> None:
    with over_socket(IDLE_TIMEOUT=0.2) as address:
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as slow:
            slow.sendall(b"POST /tokenize HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{")
            assert slow.recv(1000).startswith(b"HTTP/1.1 408 ")


def test_logs_have_a_line_per_request(capsys: pytest.CaptureFixture[str]) -> None:
    async def run() -> None:
        settings = Settings(LOG_FORMAT="json")
        configure_logging(settings)
        app = create_app(settings)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            await http.get("/test?x=%0Ainjected", headers={"X-Request-ID": "logged"})

    go(run)
    (line,) = capsys.readouterr().err.splitlines()
    record = json.loads(line)
    assert record["event"] == "request"
    assert (record["method"], record["path"], record["status"]) == ("GET", "/test", 200)
    assert record["id"] == "logged"
