"""Streams: checklist 6, 53 to 60 and 126; what leaving clients leave behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Message

import cacher
from cacher.config import Settings
from cacher.server.metrics import Metrics
from cacher.server.streaming import RecordStream, form_of
from tests.models.make_tiny import make_tiny, write_tokenizer
from tests.server.conftest import LONG, MANY, Api, over_socket


def test_53_54_records(api: Api) -> None:
    state_id = api.new()
    lines = api.lines("/generate/token", state_id=state_id, max_tokens=5, stream=True)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    assert [line["position"] for line in lines] == [2, 3, 4, 5, 6]
    text = ""
    for line in lines:
        text += line["token"]
        assert line["text"] == text
        assert line["state_id"] == state_id
        assert len(line["top_tokens"]) == 5
        assert all(isinstance(t, str) and 0 < p <= 1 for t, p in line["top_tokens"])
        info = line["token_info"]
        assert (info["token"], info["distribution"]) == (line["token"], "this_token")
        assert line["progress"] == {"generated": line["step"], "max_tokens": 5}
        assert (line["seed"], line["finished"], line["finish_reason"]) == (42, False, None)
        assert line["entropy"] > 0


def test_55_to_57_all_forms_say_the_same(api: Api) -> None:
    plain = api.post("/generate/token", state_id=api.new(), max_tokens=12, seed=3)
    body = {"max_tokens": 12, "seed": 3, "stream": True}
    state_id = api.new()
    lines = api.lines("/generate/token", state_id=state_id, **body)
    assert "".join(line["token"] for line in lines) == plain["text"]
    assert [line["probability"] for line in lines] == plain["probabilities"]
    assert api.get(f"/states/{state_id}")["text"] == plain["full_text"]
    answer = api.call(
        "POST", "/generate/token", json={"state_id": api.new(), **body},
        headers={"Accept": "text/plain"},
    )  # fmt: skip
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text == plain["text"]
    answer = api.call(
        "POST", "/generate/token", json={"state_id": api.new(), **body},
        headers={"Accept": "text/event-stream"},
    )  # fmt: skip
    assert answer.headers["content-type"] == "text/event-stream"
    *events, done, nothing = answer.text.split("\n\n")
    assert (done, nothing) == ("data: [DONE]", "")
    tokens = [json.loads(event.removeprefix("data: "))["token"] for event in events]
    assert "".join(tokens) == plain["text"]


def test_57_76_reading_streams_in_all_forms(api: Api) -> None:
    body = {"text_input": "Hello 🦊 world", "stream_tokens_info": True}
    lines = api.lines("/forward", **body)
    assert [line["token"] for line in lines] == ["Hello", " ", "", "", "", "🦊", " world"]
    for accept in ("text/plain", "text/event-stream"):
        answer = api.call("POST", "/forward", json=body, headers={"Accept": accept})
        text = answer.text
        if accept == "text/event-stream":
            *events, done, _ = text.split("\n\n")
            assert done == "data: [DONE]"
            text = "".join(json.loads(event.removeprefix("data: "))["token"] for event in events)
        assert text == body["text_input"]


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "application/x-ndjson"), ("*/*", "application/x-ndjson"),
        ("application/json", "application/x-ndjson"), ("text/plain", "text/plain"),
        ("TEXT/PLAIN;charset=utf-8", "text/plain"), ("text/event-stream", "text/event-stream"),
        ("text/plain;q=0.1, text/event-stream", "text/event-stream"),
        ("text/plain;q=0", "application/x-ndjson"), ("text/plain;q=x", "application/x-ndjson"),
    ],
)  # fmt: skip
def test_the_form_is_what_is_accepted(accept: str, kind: str) -> None:
    assert form_of(accept).media_type.startswith(kind)


NOT_ASCII = [chr(byte) for byte in (*range(0xA1, 0xAD), *range(0xAE, 0x100))] + ["Ā"]


def test_characters_split_over_tokens(tmp_path: Path) -> None:
    """A random model whose tokens are bytes of 0 and 0xA1 to 0xFF: most characters are cut."""
    folder = make_tiny("gpt2", tmp_path)
    write_tokenizer(folder, NOT_ASCII)
    model = cacher.load(folder)
    settings = {"MODELS_DIR": str(tmp_path), "CACHE_DIR": str(tmp_path / "states")}
    with over_socket(**settings) as address, httpx.Client(base_url=address) as http:
        api = Api(http, "", "")
        seen = set[tuple[str | None, bool]]()
        for seed in range(12):
            sampling = {"temperature": 10, "top_p": 1, "seed": seed}
            ours = model.state().generate(24, **sampling)
            seen.add((ours.finish_reason, ours.text.endswith("\ufffd")))
            body = {"text_input": "", "model_id": "gpt2", "max_new_tokens": 24, **sampling}
            plain = api.post("/generate", **body)
            assert (plain["text"], plain["new_tokens"]) == (ours.text, ours.tokens)
            body |= {"stream": True, "return_top_logprobs": 2}
            lines = api.lines("/generate", **body)
            assert "".join(line["token"] for line in lines) == lines[-1]["text"] == ours.text
            assert [line["token_id"] for line in lines if line["token_info"]] == ours.token_ids
            for line in lines[: len(ours)]:
                assert line["token_info"]["token"] == line["token"]
            answer = http.post("/generate", json=body, headers={"Accept": "text/plain"})
            assert answer.text == ours.text
        assert seen >= {("eos", True), (None, True)}


def test_the_end_of_a_run_is_in_its_last_record(api: Api) -> None:
    greedy = api.post("/generate/token", state_id=api.new(), max_tokens=20, temperature=0)
    stop = greedy["new_tokens"][4]
    lines = api.lines(
        "/generate/token", state_id=api.new(), max_tokens=20, temperature=0,
        stop_sequences=[stop], stream=True,
    )  # fmt: skip
    assert [line["finished"] for line in lines] == [False] * (len(lines) - 1) + [True]
    assert lines[-1]["finish_reason"] == "stop_sequence"
    assert stop in lines[-1]["text"]
    lines = api.lines(
        "/generate/token", state_id=api.new(config={"context_size": 5}), max_tokens=9, stream=True
    )
    assert [line["finish_reason"] for line in lines] == [None, None, "context_length"]


def test_58_tokens_come_as_they_are_made(http: httpx.Client) -> None:
    state_id = Api(http, "", "").new()
    body = {"state_id": state_id, "max_tokens": 100, "stream": True}
    with http.stream("POST", "/generate/token", json=body) as answer:
        parts = list(answer.iter_raw())
    assert len(parts) > 5


def test_records_are_flushed_together_and_never_merged() -> None:
    async def records(at_once: int) -> AsyncGenerator[list[dict[str, object]], None]:
        found: list[dict[str, object]] = [{"token": f"{i}\n", "step": i} for i in range(10)]
        for first in range(0, 10, at_once):
            yield found[first : first + at_once]

    async def receive() -> Message:
        return await asyncio.Future()

    async def run(accept: str, at_once: int = 1) -> list[bytes]:
        sent: list[bytes] = []

        async def send(message: Message) -> None:
            sent.append(message.get("body", b""))

        metrics = Metrics()
        stream = RecordStream(
            records(at_once), form_of(accept), together=4, idle_s=9, timeout_s=9, metrics=metrics
        )
        await stream({"type": "http"}, receive, send)
        return sent[1:]  # without the beginning

    lines = asyncio.run(run("application/x-ndjson"))
    assert [part.count(b"\n") for part in lines] == [4, 4, 2]
    assert [json.loads(line)["step"] for line in b"".join(lines).splitlines()] == list(range(10))
    ready = asyncio.run(run("application/x-ndjson", 5))
    assert [part.count(b"\n") for part in ready] == [5, 5, 0]
    assert b"".join(ready) == b"".join(lines)
    events = b"".join(asyncio.run(run("text/event-stream"))).split(b"\n\n")
    assert len(events) == 12
    assert events[-2:] == [b"data: [DONE]", b""]
    assert asyncio.run(run("text/plain"))[0] == b"0\n1\n2\n3\n"


def test_59_errors_before_the_first_token(api: Api) -> None:
    for path in ("/generate/token", "/generate", "/forward"):
        body = {"state_id": "nobody", "stream": True, "stream_tokens_info": True, "text_input": "x"}
        api.refused(404, "state_not_found", path, **body)


@pytest.mark.parametrize("path", LONG)
def test_60_a_client_that_leaves(generous: Api, path: str) -> None:
    state_id = generous.new()
    with generous.long_stream(state_id, path) as answer:
        lines = answer.iter_lines()
        seen = [json.loads(next(lines))["token"] for _ in range(2)]
    found = generous.post("/generate/token", state_id=state_id)  # waits until the state is free
    assert found["full_text"].startswith("Hello world" + "".join(seen))
    assert found["head_position"] < MANY


@pytest.mark.parametrize("path", LONG)
def test_cancel(generous: Api, path: str) -> None:
    state_id = generous.new()
    headers = {"X-Request-ID": f"mine-{state_id}"}
    with generous.long_stream(state_id, path, headers=headers) as answer:
        lines = answer.iter_lines()
        records = [json.loads(next(lines))]
        found = generous.post("/generate/cancel", request_id=f"mine-{state_id}")
        records += map(json.loads, lines)
    assert found == {"request_id": f"mine-{state_id}", "cancelled": True}
    assert (records[-1]["finished"], records[-1]["finish_reason"]) == (True, "cancelled")
    assert len(records) < MANY
    assert generous.get(f"/states/{state_id}")["text"] == "Hello world" + records[-1]["text"]
    again = generous.post("/generate/cancel", request_id=f"mine-{state_id}")
    assert again == {"request_id": f"mine-{state_id}", "cancelled": False}


def test_cancel_of_what_does_not_stream() -> None:
    with (
        over_socket(MAX_TOKENS_PER_REQUEST=1000) as address,
        httpx.Client(base_url=address, timeout=60) as http,
    ):
        api = Api(http, "", "")
        body = {"state_id": api.new(), "max_tokens": 1000, "temperature": 0}
        found: list[httpx.Response] = []

        def generate() -> None:
            headers = {"X-Request-ID": "plain"}
            with httpx.Client(base_url=address, timeout=60) as other:
                found.append(other.post("/generate/token", json=body, headers=headers))

        thread = threading.Thread(target=generate)
        thread.start()
        while not api.post("/generate/cancel", request_id="plain")["cancelled"]:
            assert thread.is_alive()
            time.sleep(0.01)
        thread.join()
        answer = found[0].json()
        assert (answer["finished"], answer["finish_reason"]) == (True, "cancelled")
        assert answer["request_id"] == "plain"
        assert api.get(f"/states/{body['state_id']}")["text"] == answer["full_text"]


def test_runs_of_others_are_not_cancelled() -> None:
    keys = Settings.from_env({"CACHER_API_KEYS": "ann:one,bob:two"}).API_KEYS
    with over_socket(API_KEYS=keys, API_KEY_REQUIRED=True) as address:
        ann, bob = (
            httpx.Client(base_url=address, headers={"X-API-Key": key}, timeout=60)
            for key in ("one", "two")
        )
        with ann, bob:
            body = {"state_id": Api(ann, "", "").new(), "max_tokens": 100, "stream": True}
            headers = {"X-Request-ID": "mine"}
            with ann.stream("POST", "/generate/token", json=body, headers=headers) as answer:
                lines = answer.iter_lines()
                next(lines)
                found = Api(bob, "", "").post("/generate/cancel", request_id="mine")
                assert found == {"request_id": "mine", "cancelled": False}
                assert len(list(lines)) == 99
            Api(bob, "", "").refused(404, "state_not_found", "/generate/token", **body)


def test_a_state_is_changed_and_read_while_it_streams(api: Api) -> None:
    state_id = api.new()
    path = f"{api.prefix}/generate/token"
    body = {"state_id": state_id, "max_tokens": 100, "stream": True}
    edited: list[httpx.Response] = []

    def edit() -> None:
        with httpx.Client(base_url=api.http.base_url, timeout=60) as http:
            edited.append(http.patch(f"/states/{state_id}", json={"append_text": " The end"}))

    with api.http.stream("POST", path, json=body) as answer:
        lines = answer.iter_lines()
        seen = [json.loads(next(lines))]
        thread = threading.Thread(target=edit)
        thread.start()
        read = {api.get(f"/states/{state_id}")["text"] for _ in range(5)}
        read.add(api.post(f"/states/{state_id}/fork")["text"])
        seen += [json.loads(line) for line in lines]
    thread.join()
    state = api.get(f"/states/{state_id}")
    assert state == edited[0].json()
    story = "Hello world" + seen[-1]["text"]
    assert state["text"] == story + " The end"
    assert (len(seen), state["head_position"]) == (100, 102)
    assert read <= {"Hello world", story, state["text"]}  # never in between


def test_126_two_writers_of_one_state(api: Api) -> None:
    state_id = api.new()
    found: list[Any] = []

    def write() -> None:
        with httpx.Client(base_url=api.http.base_url, timeout=60) as http:
            found.append(http.post("/generate/token", json={"state_id": state_id, "max_tokens": 9}))

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in found] == [200, 200]
    assert api.get(f"/states/{state_id}")["token_count"] == 20


def test_6_the_event_loop_never_waits_for_the_model(address: str) -> None:
    async def run() -> None:
        async with httpx.AsyncClient(base_url=address, timeout=60) as http:

            async def generate(i: int) -> httpx.Response:
                return await http.post(
                    "/generate", json={"text_input": f"Story {i}", "max_new_tokens": 100}
                )

            running = [asyncio.create_task(generate(i)) for i in range(16)]
            slowest = 0.0
            while not all(task.done() for task in running):
                started = time.perf_counter()
                assert (await http.get("/test")).status_code == 200
                slowest = max(slowest, time.perf_counter() - started)
                await asyncio.sleep(0.02)
            assert {task.result().status_code for task in running} == {200}
            assert slowest < 1

    asyncio.run(run())


def test_clients_that_leave_leave_no_live_pages() -> None:
    with over_socket() as address:

        async def leave(http: httpx.AsyncClient, state_id: str) -> None:
            body = {"state_id": state_id, "max_tokens": 100, "stream": True}
            with contextlib.suppress(httpx.HTTPError):
                async with http.stream("POST", "/generate/token", json=body) as answer:
                    async for _ in answer.aiter_lines():
                        break

        async def run() -> float:
            async with httpx.AsyncClient(base_url=address, timeout=60) as http:
                ids = []
                for i in range(40):
                    body = {"model_id": "tales", "text": f"Once upon a time {i}"}
                    ids.append((await http.post("/states", json=body)).json()["state_id"])
                await asyncio.gather(*(leave(http, state_id) for state_id in ids))
                for state_id in ids:
                    assert (await http.delete(f"/states/{state_id}")).status_code == 200
                text = (await http.get("/metrics")).text
                (line,) = (
                    one for one in text.splitlines()
                    if one.startswith('cacher_kv_pages{kind="live"')
                )  # fmt: skip
                return float(line.split()[-1])

        assert asyncio.run(run()) == 0


def test_a_reader_that_stands_still_loses_its_stream() -> None:
    with (
        over_socket(IDLE_TIMEOUT=0.3, MAX_TOKENS_PER_REQUEST=MANY) as address,
        httpx.Client(base_url=address, timeout=60) as http,
    ):
        api = Api(http, "", "")
        state_id = api.new()
        with api.long_stream(state_id, text_input="x"):
            found = api.post("/generate/token", state_id=state_id)  # once the stream is ended
            assert found["head_position"] < MANY


def test_a_state_that_is_busy_for_too_long() -> None:
    with (
        over_socket(LOCK_TIMEOUT=0.2, MAX_TOKENS_PER_REQUEST=MANY) as address,
        httpx.Client(base_url=address, timeout=60) as http,
    ):
        api = Api(http, "", "")
        state_id = api.new()
        with api.long_stream(state_id):  # and read nothing of it
            found = http.post("/generate/token", json={"state_id": state_id})
            assert (found.status_code, found.json()["code"]) == (503, "busy")
            assert found.headers["retry-after"] == "1"
            assert state_id in found.json()["detail"]
            assert api.get(f"/states/{state_id}")["text"] == "Hello world"


def test_a_request_over_its_time_is_ended() -> None:
    with (
        over_socket(REQUEST_TIMEOUT=0.3, MAX_TOKENS_PER_REQUEST=1000) as address,
        httpx.Client(base_url=address, timeout=60) as http,
    ):
        api = Api(http, "", "")
        state_id = api.new()
        body = {"state_id": state_id, "max_tokens": 1000, "temperature": 0}
        refusal = api.refused(503, "timeout", "/generate/token", **body)
        assert "took too long" in refusal["detail"]
        state = api.get(f"/states/{state_id}")
        assert 2 < state["token_count"] < 1000
        other = api.new()  # the first one may be near the end of its context
        before = api.get(f"/states/{other}")["token_count"]
        lines = api.lines("/generate/token", **{**body, "state_id": other}, stream=True)
        assert lines[-1] == {"error": {"detail": refusal["detail"], "code": "timeout"}}
        added = api.get(f"/states/{other}")["token_count"] - before
        assert len(lines) - 1 <= added <= len(lines) - 1 + 16  # so many are computed ahead
