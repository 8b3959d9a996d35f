"""What the settings do: section 11; those of keys, origins, hosts, rates are in test_safety."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from cacher.config import Settings
from cacher.server.app import create_app
from cacher.server.journal import configure_logging
from tests.server.conftest import in_memory

RUNNING = 'cacher_engine_requests{kind="running",model="tales"} 1.0'

Test = Callable[[httpx.AsyncClient], Awaitable[None]]


def go(test: Test, **settings: Any) -> None:
    async def main() -> None:
        async with in_memory(**settings) as http:
            await test(http)

    asyncio.run(main())


async def post(http: httpx.AsyncClient, path: str, status: int = 200, /, **body: Any) -> Any:
    answer = await http.post(path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


async def new(http: httpx.AsyncClient, text: str = "Hello world", **body: Any) -> str:
    made = await post(http, "/states", model_id="tales", text=text, **body)
    return str(made["state_id"])


def test_what_new_states_begin_with() -> None:
    async def test(http: httpx.AsyncClient) -> None:
        for body in ({}, {"config": {"temperature": None}}):
            assert (await post(http, "/states", model_id="tales", **body))["config"] == {
                "temperature": 0.1, "top_p": 0.2, "seed": None, "context_size": 9,
                "store_logits": "full", "top_k_logits": 7,
            }  # fmt: skip

    go(
        test, DEFAULT_TEMPERATURE=0.1, DEFAULT_TOP_P=0.2, DEFAULT_SEED=None, LOGITS_STORAGE="full",
        DEFAULT_CONTEXT_SIZE=9, TOP_K_LOGITS=7,
    )  # fmt: skip


def test_defaults_of_a_model() -> None:
    async def test(http: httpx.AsyncClient) -> None:
        made = await post(http, "/states", model_id="tales", config={"seed": 1})
        assert (made["config"]["temperature"], made["config"]["top_p"]) == (0.25, 0.9)
        refusal = await post(http, "/states", 400, model_id="tales", text="The king had a cat")
        assert refusal["code"] == "context_overflow"

    model_config = {"tales": {"max_length": 4, "temperature": 0.25}}
    go(test, MODEL_CONFIG=model_config, DEFAULT_TEMPERATURE=1.5)


def test_names_of_the_service() -> None:
    async def test(http: httpx.AsyncClient) -> None:
        info = (await http.get("/openapi.json")).json()["info"]
        assert (info["title"], info["version"]) == ("Mine", "2.5")

    go(test, API_TITLE="Mine", API_VERSION="2.5")


def test_bounds_of_analyses() -> None:
    async def test(http: httpx.AsyncClient) -> None:
        state_id = await new(http, config={"store_logits": "full"})
        path = f"/analysis/attention/{state_id}"
        assert (await post(http, path))["metadata"]["threshold"] == 0.3
        assert (await post(http, f"/v1{path}"))["metadata"]["threshold"] == 0
        patterns = (await post(http, path, per_head=True))["attention_patterns"]
        assert [pattern["head"] for pattern in patterns] == [0, 1]
        long = await new(http, "The king had")
        refusal = await post(http, f"/analysis/attention/{long}", 400)
        assert refusal["code"] == "response_too_large"
        await post(http, f"/analysis/attention/{long}", position_range=[1, 2])
        body = {"format": "list", "layer": 0}
        refusal = await post(http, f"/analysis/cache/{state_id}", 400, **body)
        assert refusal["code"] == "response_too_large"
        await post(http, f"/analysis/cache/{state_id}", **body, key_name="k", head=1)
        await post(http, "/forward", state_id=state_id, text_input="")
        found = await http.get(f"/analysis/tokens/{state_id}", params={"include_logits": True})
        first, second = (token["top_logits"] for token in found.json()["tokens"])
        assert (first, len(second)) == (None, 4096)

    go(
        test, ATTENTION_THRESHOLD=0.3, MAX_ATTENTION_HEADS=2, MAX_ATTENTION_TOKENS=2,
        MAX_RESPONSE_VALUES=64, MAX_STORED_LOGITS=4096,
    )  # fmt: skip


def test_bounds_of_bodies() -> None:
    async def test(http: httpx.AsyncClient) -> None:
        for path, too_long, fits in (("/tokenize", 201, 200), ("/states/import", 301, 300)):
            answer = await http.post(path, content=b"{" + b" " * (too_long - 1))
            assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large"), path
            answer = await http.post(path, content=b"{" + b" " * (fits - 1))
            assert answer.status_code in (400, 422)

    go(test, MAX_BODY_BYTES=200, MAX_IMPORT_BYTES=300)


@pytest.mark.parametrize("together", [1, 3, 64])
def test_records_are_flushed_together(together: int, tmp_path: Path) -> None:
    """Not through httpx: its transport would join what the application sends apart."""

    async def main() -> None:
        app = create_app(Settings(STREAM_CHUNK_SIZE=together, CACHE_DIR=str(tmp_path)))
        body = json.dumps({"text_input": "Once upon", "max_new_tokens": 7, "stream": True})
        sent: list[bytes] = []

        async def receive() -> Any:
            if receiving.done():
                await asyncio.Event().wait()
            receiving.set_result(None)
            return {"type": "http.request", "body": body.encode()}

        async def send(message: Any) -> None:
            if message.get("body"):
                sent.append(message["body"])

        receiving = asyncio.get_running_loop().create_future()
        scope = {
            "type": "http", "method": "POST", "path": "/generate", "raw_path": b"/generate",
            "query_string": b"", "client": ("test", 1), "scheme": "http", "http_version": "1.1",
            "headers": [(b"host", b"test"), (b"content-length", b"%d" % len(body))],
        }  # fmt: skip
        async with app.router.lifespan_context(app):
            await app(scope, receive, send)
        assert len(b"".join(sent).splitlines()) == 7
        assert all(len(part.splitlines()) >= together for part in sent[:-1])

    asyncio.run(main())


def test_a_busy_state_is_waited_for_so_long() -> None:
    async def test(http: httpx.AsyncClient) -> None:
        state_id = await new(http)
        body = {"state_id": state_id, "max_tokens": 1000, "min_tokens": 1000}
        long = asyncio.create_task(http.post("/generate/token", json=body))
        while RUNNING not in (await http.get("/metrics")).text:
            assert not long.done(), long.result().text
            await asyncio.sleep(0.001)
        started = time.monotonic()
        refusal = await post(http, "/forward", 503, state_id=state_id, text_input="x")
        assert (refusal["code"], time.monotonic() - started > 0.01) == ("busy", True)
        assert (await long).status_code == 200
        await post(http, "/states/config", state_id=state_id, config={})

    go(test, LOCK_TIMEOUT=0.01, MAX_TOKENS_PER_REQUEST=1000)


def test_few_states_in_memory() -> None:
    async def test(http: httpx.AsyncClient) -> None:
        for _ in range(4):
            await new(http)
        stats = (await http.get("/analysis/cache/stats")).json()
        assert (stats["states_in_memory"], stats["states_on_disk"]) == (2, 4)

    go(test, MAX_CACHE_SIZE=2)


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({"CACHE_MAX_AGE": 500.0}, {1, 2, 3, 4}),
        ({"MAX_DISK_STATES": 3}, {2, 3, 4}),
        (
            {"MAX_DISK_STATES": 3, "CACHE_MAX_AGE": 500.0, "CACHE_CLEANUP_INTERVAL": 0.0},
            set(range(5)),
        ),
    ],
)
def test_states_are_removed_by_age_and_number(
    settings: dict[str, float], left: set[int], tmp_path: Path
) -> None:
    async def test(http: httpx.AsyncClient) -> None:
        async def found() -> list[int]:
            return [(await http.get(f"/states/{state_id}")).status_code for state_id in ids]

        ids = [await new(http) for _ in range(5)]
        if "CACHE_MAX_AGE" in settings:
            then = time.time() - 1000
            os.utime(tmp_path / f"{ids[0]}.json", (then, then))
        wanted = [200 if i in left else 404 for i in range(5)]
        deadline = time.monotonic() + (10 if 404 in wanted else 0.3)
        while time.monotonic() < deadline and (await found() != wanted or 404 not in wanted):
            await asyncio.sleep(0.02)
        assert await found() == wanted
        assert {path.stem for path in tmp_path.glob("*.json")} == {ids[i] for i in left}

    go(test, **{"CACHE_CLEANUP_INTERVAL": 0.05, "CACHE_DIR": str(tmp_path), **settings})


@pytest.mark.parametrize(
    ("settings", "level"),
    [({}, "INFO"), ({"LOG_LEVEL": "ERROR"}, "ERROR"), ({"DEBUG": True}, "DEBUG")],
)
def test_levels_of_the_log(settings: dict[str, Any], level: str) -> None:
    configure_logging(Settings(**settings))
    names = ("cacher.server", "uvicorn.error")
    found = {logging.getLevelName(logging.getLogger(x).getEffectiveLevel()) for x in names}
    assert found == {level}


def test_the_form_of_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(Settings(LOG_FORMAT="%(levelname)s|%(message)s"))
    logging.getLogger("cacher.server").warning("so")
    assert capsys.readouterr().err == "WARNING|so\n"
