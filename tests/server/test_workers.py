"""Several processes behind one port: any of them serves any state, and the answer is the same."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

import cacher
from tests.server.conftest import MANY, Api
from tests.server.workers import Workers
from tests.stores.conftest import RedisServer


class StateWorkers(Workers):
    """A server of states."""

    def __init__(self, folder: Path, store: str) -> None:
        super().__init__(
            folder, "-m", "cacher", "serve", CACHER_CACHE_DIR=str(folder / "states"),
            CACHER_STATE_STORE=store, CACHER_MAX_TOKENS_PER_REQUEST=str(MANY),
        )  # fmt: skip

    @contextmanager
    def stream(self, state_id: str) -> Iterator[Iterator[str]]:
        """The lines of a stream that does not end while nobody reads them."""
        with (
            httpx.Client(base_url=self.address, timeout=60) as http,
            Api(http, "", "").long_stream(state_id) as answer,
        ):
            lines = answer.iter_lines()  # kept here: to drop them is to leave
            yield lines


@pytest.fixture(params=["files", "redis"])
def workers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StateWorkers]:
    redis = RedisServer(tmp_path) if request.param == "redis" else None
    found = StateWorkers(tmp_path, "files" if redis is None else redis.url)
    try:
        yield found
    finally:
        found.stop()
        if redis is not None:
            redis.kill()


def test_any_worker_serves_any_state(workers: StateWorkers, model: cacher.Model) -> None:
    assert len(workers.pids) == 2
    text = "Once upon a time there was"
    want = model.state(text)
    with workers.only(0):
        made = workers.ask("POST", "/states", {"model_id": "tales", "text": text}).json()
    state = f"/states/{made['state_id']}"
    for turn in range(4):
        with workers.only(turn % 2):
            seen = workers.ask("GET", state).json()
            assert (seen["text"], seen["revision"]) == (want.text, want.revision)
            body = {"state_id": made["state_id"], "max_tokens": 6, "seed": turn}
            answer = workers.ask("POST", "/generate/token", body).json()
            assert answer["text"] == want.generate(6, seed=turn).text
    with workers.only(0):
        assert workers.ask("POST", f"{state}/rollback", {"revision": 2}).status_code == 200
    with workers.only(1):
        want.rollback(revision=2)
        assert workers.ask("GET", state).json()["text"] == want.text
        assert workers.ask("DELETE", state).status_code == 200
    with workers.only(0):
        assert workers.ask("GET", state).status_code == 404

    names = [f"s{i}" for i in range(3)]
    for name in names:
        workers.ask("POST", "/states", {"model_id": "tales", "text": "The", "state_id": name})

    def go(i: int) -> int:
        body = {"state_id": names[i % 3], "max_tokens": 2, "seed": i}
        return workers.ask("POST", "/generate/token", body).status_code

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(go, range(24))) == [200] * 24
    for name in names:
        seen = workers.ask("GET", f"/states/{name}").json()
        assert (seen["token_count"], seen["revision"]) == (1 + 8 * 2, 1 + 8)
    assert workers.ask("GET", "/states").json()["total"] == 3


def count(workers: StateWorkers) -> float:
    """How often `/test` was asked, as the worker says that answers."""
    text = workers.ask("GET", "/metrics").text
    found = re.search(r'cacher_requests_total{method="GET",route="/test",status="200"} (.*)', text)
    return float(found[1]) if found else 0.0


def test_metrics_are_of_all_workers(workers: StateWorkers) -> None:
    for index, n in ((0, 3), (1, 4)):
        with workers.only(index):
            for _ in range(n):
                workers.ask("GET", "/test")
    until = time.monotonic() + 30
    for index in (0, 1):
        while True:  # the other's are told a second apart
            with workers.only(index):
                seen = count(workers)
            assert seen <= 7
            if seen == 7:
                break
            assert time.monotonic() < until
            time.sleep(0.2)
    with workers.only(1):
        names = {workers.ask("GET", "/analysis/cache/stats").json()["worker"] for _ in range(2)}
    assert names == {workers.pids[1]}
    os.kill(workers.pids[0], signal.SIGKILL)
    assert count(workers) == 7


def test_a_worker_that_dies_leaves_its_states_to_the_other(workers: StateWorkers) -> None:
    workers.ask("POST", "/states", {"model_id": "tales", "text": "The", "state_id": "a"})
    with workers.only(0):
        body = {"state_id": "a", "max_tokens": 3}
        before = workers.ask("POST", "/generate/token", body).json()
        dead = workers.pids[0]
    os.kill(dead, signal.SIGKILL)
    seen = workers.ask("GET", "/states/a").json()
    assert seen["text"] == "The" + before["text"]
    assert workers.ask("POST", "/generate/token", body).status_code == 200


def test_a_run_is_cancelled_through_the_other_worker(workers: StateWorkers) -> None:
    workers.ask("POST", "/states", {"model_id": "tales", "text": "The", "state_id": "a"})
    with ExitStack() as ending:
        with workers.only(0):
            lines = ending.enter_context(workers.stream("a"))
            records = [json.loads(next(lines))]
        with workers.only(1):
            run = {"request_id": records[0]["request_id"]}
            assert workers.ask("POST", "/generate/cancel", run).json() == {**run, "cancelled": True}
        records += map(json.loads, lines)
    assert records[-1]["finish_reason"] == "cancelled"
    assert workers.ask("GET", "/states/a").json()["text"] == "The" + records[-1]["text"]


@pytest.mark.slow  # a lease is for ten seconds
def test_a_writer_that_dies_leaves_its_state_to_the_other(workers: StateWorkers) -> None:
    workers.ask("POST", "/states", {"model_id": "tales", "text": "The", "state_id": "a"})
    with ExitStack() as ending, workers.only(0):
        assert next(ending.enter_context(workers.stream("a")))
        os.kill(workers.pids[0], signal.SIGKILL)
    assert workers.ask("GET", "/states/a").json()["text"] == "The"
    body = {"state_id": "a", "max_tokens": 3}
    assert workers.ask("POST", "/generate/token", body).json()["head_position"] == 4
