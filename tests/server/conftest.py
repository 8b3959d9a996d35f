"""Applications for tests: in memory, and behind a socket."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from cacher.config import Settings
from cacher.server.app import create_app

Serve = Callable[..., Any]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@asynccontextmanager
async def in_memory(**settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application that runs in this process, its start and end included."""
    app = create_app(Settings(**settings))
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
def over_socket(**settings: Any) -> Iterator[str]:
    """The address of an application behind a socket."""
    config = uvicorn.Config(
        create_app(Settings(**settings)),
        port=0,
        loop="uvloop",
        http="cacher.server.protocol:DeadlineProtocol",
        log_config=None,
        timeout_graceful_shutdown=5,
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


@pytest.fixture(scope="session")
def address(folder: Path) -> Iterator[str]:
    """A server with default settings and a folder of its own."""
    with over_socket(CACHE_DIR=str(folder / "states")) as found:
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
