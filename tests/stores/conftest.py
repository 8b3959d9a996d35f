"""Real stores: a folder, and a Redis server of Debian's that every session starts for itself."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from cacher.semantic.store import EntryStore
from cacher.semantic.store import open_store as open_entry_store
from cacher.stores.base import StateStore
from cacher.stores.files import FileStore
from cacher.stores.redis import RedisStore

Open = Callable[[], StateStore]
OpenEntries = Callable[[], EntryStore]


@pytest.fixture(scope="session")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that makes a disk fail."""
    library = tmp_path_factory.mktemp("faults") / "faults.so"
    compiler = os.environ.get("CC", "gcc")
    subprocess.run(
        [
            compiler,
            "-shared",
            "-fPIC",
            "-O1",
            "-Wall",
            "-Werror",
            "-o",
            library,
            Path(__file__).with_name("faults.c"),
        ],
        check=True,
    )
    return library


class RedisServer:
    """A server on a free port that puts every write on disk."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder = folder
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        program = shutil.which("redis-server")
        assert program, "redis-server is missing: tools/setup.sh venv dev installs it"
        self.process = subprocess.Popen(
            [program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder),
             "--save", "", "--appendonly", "yes", "--appendfsync", "always"],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        with redis.Redis.from_url(self.url) as client:
            for _ in range(1000):
                try:
                    client.ping()
                    return
                except (redis.ConnectionError, redis.BusyLoadingError):
                    assert self.process.poll() is None, "redis-server ended"
                    time.sleep(0.01)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server for all tests; it is emptied after each that wrote to it."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server.url
    server.kill()


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own, to be killed."""
    server = RedisServer(tmp_path)
    yield server
    server.kill()


@pytest.fixture(params=["files", "redis"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path, redis_url: str) -> Iterator[Open]:
    """Opens the same, at first empty, store any number of times, as several processes would."""
    opened: list[StateStore] = []

    def open_one() -> StateStore:
        if request.param == "files":
            opened.append(FileStore(tmp_path / "states"))
        else:
            opened.append(RedisStore(redis_url))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()
    if request.param == "redis":
        with redis.Redis.from_url(redis_url) as client:
            client.flushall()


@pytest.fixture
def store(open_store: Open) -> StateStore:
    return open_store()


@pytest.fixture(params=["sqlite", "redis"])
def entries_at(request: pytest.FixtureRequest, tmp_path: Path, redis_url: str) -> Iterator[str]:
    """Where there is a store of the semantic cache, at first an empty one."""
    if request.param == "sqlite":
        yield f"sqlite:{tmp_path / 'entries.sqlite3'}"
        return
    yield redis_url
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()


@pytest.fixture
def open_entries(entries_at: str) -> Iterator[OpenEntries]:
    """Opens the same store any number of times, as several processes would."""
    opened: list[EntryStore] = []

    def open_one() -> EntryStore:
        store = open_entry_store(entries_at)
        assert store is not None
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def entries(open_entries: OpenEntries) -> EntryStore:
    return open_entries()
