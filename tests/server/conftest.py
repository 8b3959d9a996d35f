"""Applications for tests: in memory, and behind a socket."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from cacher.config import Settings
from cacher.server.app import create_app

Serve = Callable[..., Any]
MANY = 900  # tokens, of the 1,024 that the built-in model reads
LONG = {
    "/generate": {"max_new_tokens": MANY, "return_logits": True},
    "/generate/token": {"max_tokens": MANY},
}


@asynccontextmanager
async def in_memory(**settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application that runs in this process, its start and end included."""
    with TemporaryDirectory() as folder:
        app = create_app(Settings(**{"CACHE_DIR": folder, **settings}))
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://test") as client,
        ):
            yield client


class Server(uvicorn.Server):
    """A server in a thread; knows when it listens and where."""

    @property
    def address(self) -> str:
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return f"http://{host}:{port}"


@contextmanager
def over_socket(graceful_s: int = 5, **settings: Any) -> Iterator[str]:
    """The address of an application behind a socket."""
    with TemporaryDirectory() as folder:
        app = create_app(Settings(**{"CACHE_DIR": folder, **settings}))
        with serving(app, graceful_s) as address:
            yield address


@contextmanager
def serving(app: FastAPI, graceful_s: int = 5) -> Iterator[str]:
    """The address of an application, made before, behind a socket."""
    config = uvicorn.Config(
        app,
        port=0,
        loop="uvloop",
        http="cacher.server.protocol:DeadlineProtocol",
        log_config=None,
        timeout_graceful_shutdown=graceful_s,
    )
    server = Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        yield server.address
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture(scope="package")
def address() -> Iterator[str]:
    """A server with default settings."""
    with over_socket() as found:
        yield found


@pytest.fixture
def http(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=60) as client:
        yield client


@pytest.fixture
def dead_port() -> int:
    """A port at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


class Api:
    """Calls one spelling of the routes."""

    def __init__(self, http: httpx.Client, prefix: str, slash: str) -> None:
        self.http = http
        self.prefix = prefix
        self.slash = slash

    @property
    def dialect(self) -> str:
        return "V" if self.prefix else "U"

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self.http.request(method, f"{self.prefix}{path}{self.slash}", **options)

    def get(self, path: str, **query: Any) -> Any:
        """The JSON of a GET that succeeds."""
        return self._good(self.call("GET", path, params=query))

    def post(self, path: str, /, **body: Any) -> Any:
        """The JSON of a POST that succeeds."""
        return self._good(self.call("POST", path, json=body))

    def lines(self, path: str, /, **body: Any) -> list[dict[str, Any]]:
        """The records of a stream."""
        answer = self.call("POST", path, json=body)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/x-ndjson"
        return [json.loads(line) for line in answer.text.splitlines()]

    def refused(
        self, status: int, code: str, path: str, method: str = "POST", /, **body: Any
    ) -> Any:
        """The body of a refusal, which must be of that status and code."""
        answer = self.call(method, path, json=body if method != "GET" else None)
        assert (answer.status_code, answer.json().get("code")) == (status, code), answer.text
        assert "Traceback" not in answer.text
        return answer.json()

    def new(self, text: str | None = "Hello world", **body: Any) -> str:
        """The id of a new state."""
        made: str = self.post("/states", model_id="tales", text=text, **body)["state_id"]
        return made

    @contextmanager
    def long_stream(
        self, state_id: str, path: str = "/generate", *, headers: Any = None, **body: Any
    ) -> Iterator[httpx.Response]:
        """A stream of `MANY` tokens, which the server must allow.

        That of /generate does not end while its reader pauses, on any machine: with the logits of
        the whole vocabulary it is 40 MB, far more than the two ends of a connection hold.
        """
        body |= {"state_id": state_id, "min_tokens": MANY, "stream": True, **LONG[path]}
        path = f"{self.prefix}{path}{self.slash}"
        with self.http.stream("POST", path, json=body, headers=headers) as answer:
            assert answer.status_code == 200, answer.read()
            yield answer

    @staticmethod
    def _good(answer: httpx.Response) -> Any:
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture(params=[("", ""), ("/v1", "/")], ids=["U", "V"])
def api(http: httpx.Client, request: pytest.FixtureRequest) -> Api:
    return Api(http, *request.param)


@pytest.fixture
def generous(api: Api) -> Iterator[Api]:
    """A server of the test's own that allows `MANY` tokens."""
    with (
        over_socket(MAX_TOKENS_PER_REQUEST=MANY) as address,
        httpx.Client(base_url=address, timeout=60) as http,
    ):
        yield Api(http, api.prefix, api.slash)
