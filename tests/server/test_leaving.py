"""Clients that leave: what nobody waits for any more ends, and what was begun is whole."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.server.conftest import Api, over_socket

TOKENS = 1000
TEXT = "Once upon a time there was a little fox"


@pytest.fixture(scope="module")
def patient() -> Iterator[str]:
    """A server whose requests may take longer than a test waits for what they do."""
    with over_socket(
        MAX_TOKENS_PER_REQUEST=TOKENS, MAX_ATTENTION_TOKENS=1024, MAX_RESPONSE_VALUES=10**7
    ) as address:
        yield address


@pytest.fixture
def api(patient: str) -> Iterator[Api]:
    """The server without a state, also after a test that failed before it had removed its own."""
    with httpx.Client(base_url=patient, timeout=60) as http:
        api = Api(http, "", "")
        yield api
        for state in api.get("/states?limit=1000")["states"]:
            api.call("DELETE", f"/states/{state['state_id']}")


async def leave(address: str, path: str, body: dict[str, Any], after_s: float) -> bytes:
    """Send a request, leave after a while; returns what had come, by then or as it left."""
    host, port = address.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data)
    await writer.drain()
    await asyncio.sleep(after_s)
    writer.close()
    return await reader.read()


def counters(api: Api) -> dict[str, float]:
    """The metrics of the model."""
    lines = api.call("GET", "/metrics").text.splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def live_pages(api: Api) -> float:
    return counters(api)['cacher_kv_pages{kind="live",model="tales"}']


def running(api: Api) -> float:
    found = counters(api)
    return sum(
        found.get(f'cacher_engine_requests{{kind="{kind}",model="tales"}}', 0)
        for kind in ("running", "waiting")
    )


def soon(condition: Callable[[], bool]) -> None:
    """Wait until it holds: on a machine of one's own well below a second."""
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


LONG = {"max_tokens": TOKENS, "min_tokens": TOKENS}
REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "token": ("/generate/token", LONG),
    "generate": ("/generate", {"max_new_tokens": TOKENS, "min_tokens": TOKENS}),
    "multi": ("/generate/multi", {"n": 32, **LONG}),
    "beam": ("/generate/beam", {"num_beams": 32, "max_length": TOKENS, "min_tokens": TOKENS}),
    "forward": ("/forward", {"text_input": " and then" * 450}),
    "attention": ("/analysis/attention", {"per_layer": True, "threshold": 0}),
    "classify": (
        "/analysis/classify",
        {"texts": ["a fox and a hare" * 9] * 64, "labels": [f"kind {i}" for i in range(64)]},
    ),
}


def left_unanswered(api: Api, address: str, kind: str) -> tuple[str, dict[str, Any]]:
    """A state whose request nobody waited for, and what it was before.

    How long a request takes is the machine's; one that was quicker than its client left is asked
    again of a new state, and left in half the time.
    """
    path, body = REQUESTS[kind]
    for attempt in range(7):
        state_id = api.new(TEXT + " and then" * (450 if kind == "attention" else 0))
        before = api.get(f"/states/{state_id}")
        request = {"state_id": state_id, **body}
        if asyncio.run(leave(address, path, request, 0.03 / 2**attempt)) == b"":
            return state_id, before
        assert api.call("DELETE", f"/states/{state_id}").status_code == 200
    raise AssertionError(f"{path} was answered before its client could leave")


@pytest.mark.parametrize("kind", REQUESTS)
def test_a_request_ends_with_its_client(api: Api, patient: str, kind: str) -> None:
    state_id, before = left_unanswered(api, patient, kind)
    # The state has one writer at a time: this one gets it when the other has ended.
    api.post("/states/config", state_id=state_id, config={"temperature": 0.5})
    soon(lambda: running(api) == 0)
    after = api.get(f"/states/{state_id}")
    assert after["text"].startswith(before["text"])
    if kind in ("token", "generate"):
        assert before["token_count"] <= after["token_count"] < before["token_count"] + TOKENS
        assert after["head_position"] == after["token_count"]
    else:
        assert after["text"] == before["text"]
    assert api.post("/generate/token", state_id=state_id)["new_tokens"] != []
    assert api.call("DELETE", f"/states/{state_id}").status_code == 200
    soon(lambda: live_pages(api) == 0)


def test_a_request_with_another_behind_it_ends_with_its_client(api: Api, patient: str) -> None:
    state_id = api.new(TEXT)
    host, port = patient.removeprefix("http://").split(":")
    body = json.dumps({"state_id": state_id, **LONG}).encode()
    head = f"POST /generate/token HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + body + b"GET /test HTTP/1.1\r\nHost: a\r\n\r\n")
        soon(lambda: running(api) == 1)
    api.post("/states/config", state_id=state_id, config={})
    assert api.get(f"/states/{state_id}")["token_count"] < TOKENS / 2
    assert api.call("DELETE", f"/states/{state_id}").status_code == 200
    soon(lambda: live_pages(api) == 0)


def test_a_refusal_holds_no_pages(api: Api) -> None:
    gc.collect()
    gc.disable()  # nothing may wait for it: pages are held that long
    try:
        state_id = api.new(TEXT)
        api.post("/forward", state_id=state_id, text_input="")
        for path in ("/analysis/attention", "/analysis/cache/inspect"):
            api.refused(400, "layer_out_of_range", path, state_id=state_id, layer=99)
        api.refused(422, "validation_error", "/analysis/classify", state_id=state_id, text="x",
                    labels=["a", "a"])  # fmt: skip
        assert api.call("DELETE", f"/states/{state_id}").status_code == 200
        soon(lambda: live_pages(api) == 0)
    finally:
        gc.enable()


def test_a_new_state_that_nobody_heard_of_is_not_kept(api: Api, patient: str) -> None:
    before = api.get("/states")["total"]
    body = {"text_input": TEXT, "max_new_tokens": TOKENS, "min_tokens": TOKENS}
    asyncio.run(leave(patient, "/generate", body, 0.1))
    soon(lambda: running(api) == 0)
    soon(lambda: live_pages(api) == 0)
    assert api.get("/states")["total"] == before
    heard = asyncio.run(leave(patient, "/generate", {**body, "stream": True}, 0.3))
    (state_id,) = {json.loads(line)["state_id"] for line in records(heard)}
    text = "".join(json.loads(line)["token"] for line in records(heard))
    soon(lambda: api.call("GET", f"/states/{state_id}").status_code == 200)
    assert api.get(f"/states/{state_id}")["text"].startswith(TEXT + text)
    assert api.call("DELETE", f"/states/{state_id}").status_code == 200


def records(answer: bytes) -> list[bytes]:
    """The whole records of a stream's raw bytes, between the sizes of its chunks."""
    lines = answer.replace(b"\r\n", b"\n").split(b"\n")
    return [line for line in lines if line.startswith(b"{") and line.endswith(b"}")]


def test_a_crowd_that_leaves_leaves_no_live_pages(api: Api, patient: str) -> None:
    async def crowd(ids: list[str]) -> None:
        kinds = ["token", "generate", "multi", "beam"]
        await asyncio.gather(
            *(
                leave(patient, REQUESTS[kind][0], {"state_id": one, **REQUESTS[kind][1]}, 0.5)
                for one, kind in zip(ids, kinds * 10, strict=True)
            )
        )

    ids = [api.new(f"{TEXT} {i}") for i in range(40)]
    asyncio.run(crowd(ids))
    soon(lambda: running(api) == 0)
    for state_id in ids:
        assert api.call("DELETE", f"/states/{state_id}").status_code == 200
    soon(lambda: live_pages(api) == 0)


def test_1000_that_leave_their_streams_leave_no_live_pages(api: Api, patient: str) -> None:
    async def crowd(ids: list[str]) -> None:
        body = {**LONG, "stream": True}
        for at in range(0, len(ids), 100):
            await asyncio.gather(
                *(
                    leave(patient, "/generate/token", {"state_id": one, **body}, 0.2)
                    for one in ids[at : at + 100]
                )
            )

    parent = api.new(TEXT)
    ids = []
    for _ in range(32):
        forks = api.post(f"/states/{parent}/fork", n=32)["states"]
        ids += [fork["state_id"] for fork in forks]
    asyncio.run(crowd(ids[:1000]))
    soon(lambda: running(api) == 0)
    for state_id in [parent, *ids]:
        assert api.call("DELETE", f"/states/{state_id}").status_code == 200
    soon(lambda: live_pages(api) == 0)
