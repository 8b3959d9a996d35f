"""The checklist of the chat API, lines 1 to 24: start, health, what requests may hold."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from cacher.niels_gpt.config import ChatSettings
from cacher.niels_gpt.main import create_app
from cacher.niels_gpt.rate_limit import RateLimiter
from cacher.server.routes import chat
from tests.niels_gpt.chat import HI, Chat, Process, Puppet, request, served, tokens, until

READY = '{"ok":true,"model_ready":true}'
WAITING = '{"ok":true,"model_ready":false}'
ROUTES = {
    "/chat/stream": request(),
    "/inspect/full_attn": {"messages": HI, "trace_layer": 0, "head": 0},
}


def test_1_importing_needs_no_torch_and_reads_no_checkpoint(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "best.pt")  # whoever opened it would wait for ever
    code = (
        "import sys; sys.modules['torch'] = None; import cacher.niels_gpt.main as m; "
        "m.create_app(load_on_startup=False); print('imported')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "CKPT_DIR": str(tmp_path)},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout == "imported\n"


def test_2_a_model_becomes_ready() -> None:
    with Process(CHAT_MODEL_ID="tales") as chat:
        until(lambda: chat.http.get("/health").text == READY)
        assert len(tokens(chat.stream(max_new_tokens=3))) == 3


def test_3_a_checkpoint_that_does_not_come_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "best.pt")
    with Process(CKPT_DIR=str(tmp_path)) as chat:
        for path, body in ROUTES.items():
            assert chat.http.get("/health").text == WAITING
            assert chat.refused(503, body, path) == {
                "error": "Model not ready yet, please retry", "code": "model_loading",
            }  # fmt: skip


@pytest.mark.parametrize("repository", ["", "nobody/has-this"])
def test_4_without_a_checkpoint_the_server_stays_up(tmp_path: Path, repository: str) -> None:
    process = Process(CKPT_DIR=str(tmp_path), CKPT_REPO_ID=repository)
    with process as chat:
        until(lambda: "the chat model cannot be loaded" in process.log)
        for path, body in ROUTES.items():
            found = chat.refused(503, body, path)
            assert found == {"error": "Model failed to load", "code": "model_failed"}
        assert chat.http.get("/health").text == WAITING
    assert str(tmp_path / "best.pt") in process.log
    assert "CKPT_REPO_ID" in process.log or repository in process.log
    assert process.log.count("cannot be loaded") == 1


def test_5_what_is_not_to_be_loaded_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with served(create_app(load_on_startup=False)) as service:
        monkeypatch.setattr(chat, "rate_limiter", RateLimiter(0, 0))
        for path, body in ROUTES.items():
            assert service.refused(503, body, path)["code"] == "model_loading"
        assert service.http.get("/health").text == WAITING
        assert service.app is not None
        assert service.app.state.model is None
        assert service.app.state.model_ready is False


def test_6_a_stand_in_is_ready_at_once() -> None:
    puppet = Puppet()
    app = create_app(model=puppet, cfg=puppet.cfg)
    assert app.state.model_ready is True
    assert (app.state.model, app.state.cfg) == (puppet, puppet.cfg)


def test_7_the_whole_path_of_a_checkpoint_goes_before_its_parts() -> None:
    parts = {"CKPT_DIR": "/a", "CKPT_FILENAME": "b.pt"}
    assert ChatSettings.from_env(parts).checkpoint == Path("/a/b.pt")
    assert ChatSettings.from_env({**parts, "CKPT_PATH": "/c.pt"}).checkpoint == Path("/c.pt")
    assert ChatSettings.from_env({}).checkpoint == Path("checkpoints/best.pt")


def test_the_example_lists_all_variables_with_their_defaults() -> None:
    lines = Path(__file__).parents[2].joinpath(".env.example").read_text().splitlines()
    pairs = [line.split("=", 1) for line in lines if re.match("[A-Z]", line)]
    example = {k: v for k, v in pairs if not k.startswith(("CACHER_", "SEMCACHE_"))}
    assert ChatSettings.from_env(example) == ChatSettings()
    assert example.keys() == {item.name for item in fields(ChatSettings)}


@pytest.mark.parametrize("name", ["API_PORT", "MAX_PROMPT_BYTES", "RATE_LIMIT_BURST"])
def test_8_a_number_that_is_none_stops_the_start(name: str) -> None:
    status, log = Process(**{name: "abc"}).ended()
    assert status == 1
    assert log.startswith("cacher: ")
    assert f"{name} is 'abc', allowed: an integer" in log
    assert "Traceback" not in log


def test_9_another_device_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DEVICE", "mps")
    monkeypatch.setattr(logging.getLogger("cacher"), "propagate", True)
    create_app(load_on_startup=False)
    assert "DEVICE is 'mps': models compute on the CPU" in caplog.text


def test_10_paths_and_methods(stage: Chat) -> None:
    http = stage.http
    for path in ("/nope", "/", "/metrics", "/states"):
        answer = http.get(path)
        assert (answer.status_code, answer.text) == (404, '{"detail":"Not Found"}')
    for path in ROUTES:
        answer = http.get(path)
        assert (answer.status_code, answer.text) == (405, '{"detail":"Method Not Allowed"}')
        assert answer.headers["allow"] == "POST"
    assert http.head("/health").status_code == 405
    assert http.options("/health").status_code == 405  # no origin: no preflight
    assert http.post("/health").headers["allow"] == "GET"
    assert http.get("/health").text == READY


def test_11_the_document_names_the_routes(stage: Chat) -> None:
    document = stage.http.get("/openapi.json").json()
    assert document["info"]["title"] == "niels-gpt Inference API"
    assert {"/health", "/chat/stream", "/inspect/full_attn"} <= document["paths"].keys()
    assert stage.http.get("/docs").status_code == 200


def problem(chat: Chat, **changes: Any) -> tuple[str, list[str | int]]:
    """The kind and the place of the first problem of a request with these fields."""
    body = {key: value for key, value in request(**changes).items() if value != "missing"}
    found = chat.refused(422, body)["detail"][0]
    assert set(found) - {"ctx"} == {"type", "loc", "msg", "input"}
    return found["type"], found["loc"]


def test_12_a_missing_layer(stage: Chat) -> None:
    answer = stage.post("/chat/stream", {"messages": []})
    assert answer.status_code == 422
    assert answer.text == (
        '{"detail":[{"type":"missing","loc":["body","trace_layer"],"msg":"Field required",'
        '"input":{"messages":[]}}]}'
    )


def test_13_roles_are_exact(stage: Chat) -> None:
    said = [{"role": "User", "content": "hi"}]
    assert problem(stage, messages=said) == ("literal_error", ["body", "messages", 0, "role"])


def test_14_contents_are_strings(stage: Chat) -> None:
    where = ["body", "messages", 0, "content"]
    assert problem(stage, messages=[{"role": "user", "content": 3}]) == ("string_type", where)
    assert problem(stage, messages=[{"role": "user"}]) == ("missing", where)
    assert stage.refused(422, request() | {"messages": None})["detail"][0]["type"] == "list_type"


def test_15_integers_are_taken_loosely(stage: Chat) -> None:
    want = stage.raw(trace_layer=1)
    for value in ("1", 1.0, True):
        assert stage.raw(trace_layer=value) == want
    for value, kind in ((1.5, "int_from_float"), (None, "int_type"), ("x", "int_parsing")):
        assert problem(stage, trace_layer=value) == (kind, ["body", "trace_layer"])
    assert stage.raw(temperature="0.0") == stage.raw()
    assert problem(stage, temperature=None) == ("float_type", ["body", "temperature"])


def test_16_unknown_fields_are_ignored(stage: Chat) -> None:
    assert stage.raw(stop=["x"], model="y") == stage.raw()


@pytest.mark.parametrize(
    ("content", "content_type", "kind"),
    [
        (b'{"messages"', "application/json", "json_invalid"),
        (b"\xff\xfe{}", "application/json", "json_invalid"),
        (b"[" * 100_000, "application/json", "json_invalid"),
        (b"", "application/json", "missing"),
        (b"{}", "text/plain", "model_attributes_type"),
        (b"[]", "application/json", "model_attributes_type"),
        (b'{"seed":' + b"9" * 5000 + b"}", "application/json", "json_invalid"),
    ],
)
def test_17_bodies_that_are_no_json(
    stage: Chat, content: bytes, content_type: str, kind: str
) -> None:
    for path in ROUTES:
        answer = stage.http.post(path, content=content, headers={"content-type": content_type})
        assert answer.status_code == 422, answer.text
        found = answer.json()["detail"][0]
        assert (found["type"], found["loc"][0]) == (kind, "body")
        assert len(answer.text) < 5000


def test_18_half_of_a_surrogate_pair(stage: Chat) -> None:
    raw = b'{"messages":[{"role":"user","content":"\\ud800"}],"trace_layer":0}'
    answer = stage.http.post(
        "/chat/stream", content=raw, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["type"] == "string_unicode"


def test_19_no_messages(stage: Chat, puppet: Puppet) -> None:
    seen: list[bytes] = []
    play = puppet.play
    puppet.play = lambda ids: (seen.append(bytes(ids)), play(ids))[1]
    assert len(tokens(stage.stream([]))) == 8
    assert seen[0] == b"assistant: "


def test_20_layers_that_the_model_lacks(stage: Chat) -> None:
    for layer in (2, -1):
        detail = stage.refused(422, request(trace_layer=layer))["detail"]
        assert detail == "trace_layer must be in [0, 1]"


def test_21_of_a_matrix_the_wrong_value_is_named(stage: Chat) -> None:
    body = ROUTES["/inspect/full_attn"]
    for changes, words in (
        ({"trace_layer": 7}, "trace_layer must be in [0, 1], got 7"),
        ({"head": 2}, "head must be in [0, 1], got 2"),
        ({"head": -1}, "head must be in [0, 1], got -1"),
        ({"max_new_tokens": -5}, "max_new_tokens must be >= 0, got -5"),
    ):
        assert stage.refused(422, body | changes, "/inspect/full_attn") == {"detail": words}


def test_22_values_out_of_range(stage: Chat, puppet: Puppet) -> None:
    for changes, words in (
        ({"temperature": -1}, "temperature must be >= 0, got -1.0"),
        ({"temperature": "nan"}, "temperature must be >= 0, got nan"),
        ({"temperature": "inf"}, "temperature must be >= 0, got inf"),
        ({"top_k": 0}, "top_k must be >= 1 or null, got 0"),
        ({"top_k": -3}, "top_k must be >= 1 or null, got -3"),
        ({"max_new_tokens": -1}, "max_new_tokens must be >= 0, got -1"),
        ({"seed": 2**64}, "seed must be in [-9223372036854775808, 18446744073709551615]"),
        ({"seed": -(2**63) - 1}, "seed must be in [-9223372036854775808, 18446744073709551615]"),
    ):
        assert stage.refused(422, request(**changes)) == {"detail": words}
    assert puppet.calls == 0


def test_23_values_at_their_bounds(stage: Chat) -> None:
    for changes in (
        {"top_k": None, "temperature": 1},
        {"top_k": 100_000, "temperature": 1},
        {"top_k": 10**30, "temperature": 1},
        {"temperature": 0, "top_k": 1},
        {"seed": -1, "temperature": 1},
        {"seed": 2**64 - 1},
        {"temperature": 1e300},
        {"temperature": 1e-300},
    ):
        assert len(tokens(stage.stream(**changes))) == 8


def test_24_what_costs_a_rate_token(stage: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    for body, cost in (
        ({"messages": []}, 0),
        (request(trace_layer=9), 1),
        (request([{"role": "user", "content": "x" * 20_000}]), 1),
        (request(), 1),
    ):
        limiter = RateLimiter(2, 0)
        monkeypatch.setattr(chat, "rate_limiter", limiter)
        stage.post("/chat/stream", body)
        left = sum(limiter.allow("127.0.0.1") for _ in range(3))
        assert left == 2 - cost
