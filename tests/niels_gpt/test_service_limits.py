"""The checklist of the chat API, lines 58 to 78 and 107: matrices, limits, origins."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from cacher import _core
from cacher.niels_gpt import rate_limit
from cacher.niels_gpt.rate_limit import SWEPT, RateLimiter
from cacher.server.routes import chat
from tests.niels_gpt.chat import (
    HI,
    PROMPT,
    Chat,
    Process,
    Puppet,
    request,
    spell,
    standing_in,
    tokens,
    traces,
)

MATRIX = {"messages": HI, "trace_layer": 0, "head": 0}
ORIGIN = {"Origin": "http://localhost:3000"}


def test_58_60_the_answer_of_a_matrix(small: Chat) -> None:
    answer = small.post("/inspect/full_attn", MATRIX | {"trace_layer": 1})
    found = answer.json()
    assert list(found) == ["layer", "head", "token_ids", "tokens", "tokens_display", "attn"]
    assert (found["layer"], found["head"]) == (1, 0)
    assert answer.headers["content-type"] == "application/json"
    assert found["token_ids"] == list(PROMPT)
    assert "".join(found["tokens"]) == PROMPT.decode()
    assert found["tokens_display"][8] == "\\x0a"
    assert b", " not in answer.content


def check_rows(attn: list[list[float]], n: int) -> None:
    assert len(attn) == n
    for i, row in enumerate(attn):
        assert len(row) == n
        assert sum(row) == pytest.approx(1, abs=1e-4)
        assert row[i + 1 :] == [0.0] * (n - i - 1)
    assert attn[0][0] == 1.0


def test_59_63_rows_are_distributions_over_the_window(small: Chat) -> None:
    for text in ("", "x" * 40):
        found = small.look([{"role": "user", "content": text}])
        n = min(len(f"user: {text}\nassistant: "), 24)
        assert len(found["tokens"]) == len(found["token_ids"]) == len(found["tokens_display"]) == n
        check_rows(found["attn"], n)
    check_rows(small.look([])["attn"], len(b"assistant: "))


def test_61_the_last_row_is_that_of_a_stream(small: Chat) -> None:
    for layer in (0, 1):
        (first, *_) = traces(small.stream(trace_layer=layer, max_new_tokens=1))
        for head in (0, 1):
            row = small.look(trace_layer=layer, head=head)["attn"][-1]
            assert row == pytest.approx(first["attn"][head], abs=1e-6)


def test_62_tokens_before_a_matrix_are_those_of_a_stream(
    small: Chat, stage: Chat, puppet: Puppet
) -> None:
    drawn = small.stream(temperature=0.9, top_k=50, seed=7, max_new_tokens=4)
    found = small.look(max_new_tokens=4, seed=7)
    assert found["token_ids"] == [*PROMPT, *tokens(drawn)]
    puppet.play = spell(b"ok\nuser: ")
    assert bytes(stage.look(max_new_tokens=50)["token_ids"]) == PROMPT + b"ok"


def said(n_bytes: int, text: str = "x") -> list[dict[str, str]]:
    """A message whose transcript has so many bytes."""
    room = n_bytes - len(b"user: \nassistant: ")
    content = text * (room // len(text.encode()))
    return [{"role": "user", "content": content + "x" * (room - len(content.encode()))}]


def test_64_65_the_size_of_a_prompt(stage: Chat) -> None:
    for text in ("x", "é", "😀"):
        stage.raw(said(16_384, text), max_new_tokens=0)
        for path, body in (
            ("/chat/stream", request(said(16_385, text))),
            ("/inspect/full_attn", MATRIX | {"messages": said(16_385, text)}),
        ):
            assert stage.refused(413, body, path) == {
                "error": "Prompt too large: 16385 bytes (max 16384)", "code": "prompt_too_large",
            }  # fmt: skip


def test_64_a_prompt_of_any_spelling_and_a_body_beyond_all(stage: Chat) -> None:
    escaped = "\\u0078" * (16_384 - len(b"user: \nassistant: "))
    rest = '"trace_layer":0,"max_new_tokens":0'
    raw = f'{{"messages":[{{"role":"user","content":"{escaped}"}}],{rest}}}'
    headers = {"content-type": "application/json"}
    assert stage.http.post("/chat/stream", content=raw, headers=headers).status_code == 200
    answer = stage.http.post("/chat/stream", content=b" " * (2**20 + 6 * 16_384 + 1))
    assert (answer.status_code, answer.json()["code"]) == (413, "prompt_too_large")


def test_66_68_69_requests_come_back_with_time() -> None:
    now = [100.0]
    limiter = RateLimiter(3, 10 / 60, clock=lambda: now[0])
    found = []
    for at in (0, 0, 0, 0, 5.9, 6.1, 12.2):
        now[0] = 100.0 + at
        found.append(limiter.allow("a"))
    assert found == [True, True, True, False, False, True, True]
    now[0] = 1e6
    assert [limiter.allow("a") for _ in range(4)] == [True] * 3 + [False]


def test_66_67_69_the_default_limit_over_http() -> None:
    with Process(CHAT_MODEL_ID="tales", MAX_PROMPT_BYTES="100") as chat:
        while not chat.http.get("/health").json()["model_ready"]:
            pass
        found = []
        for n in range(5):
            path = ("/chat/stream", "/inspect/full_attn")[n % 2]
            body = request(max_new_tokens=1) if n % 2 == 0 else MATRIX
            answer = chat.post(path, body, headers={"X-Forwarded-For": f"10.0.0.{n}"})
            found.append(answer.status_code)
            preflight = {**ORIGIN, "Access-Control-Request-Method": "POST"}
            assert chat.http.get("/health").status_code == 200
            assert chat.http.options("/chat/stream", headers=preflight).status_code == 200
        assert found == [200, 200, 200, 429, 429]
        assert answer.json() == {"error": "Rate limit exceeded", "code": "rate_limited"}
        refused = chat.post("/chat/stream", request(), headers=ORIGIN)
        assert refused.headers["access-control-allow-origin"] == ORIGIN["Origin"]


def test_70_the_bounds_of_rates(stage: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "rate_limiter", RateLimiter(0, 10))
    assert stage.refused(429, request())["code"] == "rate_limited"
    now = [0.0]
    quick = RateLimiter(1, 600 / 60, clock=lambda: now[0])
    assert [quick.allow("a"), quick.allow("a")] == [True, False]
    now[0] = 0.101
    assert quick.allow("a")


def test_71_buckets_are_independent() -> None:
    limiter = RateLimiter(3, 0)
    assert [limiter.allow("a") for _ in range(4)] == [True, True, True, False]
    assert limiter.allow("b")
    limiter.reset()
    assert [limiter.allow(key) for key in "aaab"] == [True] * 4
    assert isinstance(rate_limit.rate_limiter, RateLimiter)


def test_71_of_simultaneous_requests_as_many_pass_as_there_are_tokens() -> None:
    limiter = RateLimiter(3, 0)
    passed: list[bool] = []
    threads = [
        threading.Thread(target=lambda: passed.append(limiter.allow("a"))) for _ in range(50)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(passed) == 3


def test_71_buckets_that_are_full_again_are_dropped() -> None:
    now = [0.0]
    limiter = RateLimiter(3, 1, clock=lambda: now[0])
    for i in range(20 * SWEPT):
        now[0] += 0.1
        limiter.allow(str(i))
    assert len(limiter) <= SWEPT


def test_72_bodies_of_errors(stage: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    large = request(said(20_000))
    assert list(stage.refused(413, large)) == ["error", "code"]
    monkeypatch.setattr(chat, "rate_limiter", RateLimiter(0, 0))
    assert list(stage.refused(429, request())) == ["error", "code"]


def test_73_an_allowed_origin(stage: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [
        stage.http.get("/health", headers=ORIGIN),
        stage.post("/chat/stream", request(), headers=ORIGIN),
        stage.post("/chat/stream", {}, headers=ORIGIN),
        stage.http.get("/nope", headers=ORIGIN),
    ]
    monkeypatch.setattr(chat, "rate_limiter", RateLimiter(0, 0))
    answers.append(stage.post("/chat/stream", request(), headers=ORIGIN))
    assert [answer.status_code for answer in answers] == [200, 200, 422, 404, 429]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == ORIGIN["Origin"]
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert "Origin" in answer.headers["vary"]


def test_74_77_other_origins(stage: Chat) -> None:
    for origin in ("http://localhost:3000/", "https://localhost:3000", "https://a.example"):
        answer = stage.post("/chat/stream", request(), headers={"Origin": origin})
        assert answer.status_code == 200
        assert "access-control-allow-origin" not in answer.headers


def preflight(chat: Chat, origin: str, method: str = "POST") -> Any:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "content-type, x-mine",
    }
    return chat.http.options("/chat/stream", headers=headers)


def test_75_a_preflight(stage: Chat) -> None:
    answer = preflight(stage, ORIGIN["Origin"])
    assert (answer.status_code, answer.text) == (200, "OK")
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["access-control-allow-origin"] == ORIGIN["Origin"]
    assert answer.headers["access-control-allow-credentials"] == "true"
    methods = answer.headers["access-control-allow-methods"].split(", ")
    assert {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"} <= set(methods)
    assert answer.headers["access-control-allow-headers"] == "content-type, x-mine"
    assert answer.headers["access-control-max-age"] == "600"


def test_76_preflights_that_are_refused(stage: Chat) -> None:
    answer = preflight(stage, "https://a.example")
    assert (answer.status_code, answer.text) == (400, "Disallowed CORS origin")
    answer = preflight(stage, ORIGIN["Origin"], "BREW")
    assert (answer.status_code, answer.text) == (400, "Disallowed CORS method")


def test_78_origins_of_ones_own() -> None:
    with standing_in(Puppet(), ALLOWED_ORIGINS=" https://a.example , https://b.example") as mine:
        for origin in ("https://a.example", "https://b.example"):
            assert preflight(mine, origin).status_code == 200
        assert preflight(mine, ORIGIN["Origin"]).status_code == 400


def test_107_the_documented_numbers() -> None:
    for seed, numbers in (
        (42, [0.7415648787718233, 0.1599103928769201, 0.27860113025513866]),
        (0, [0.8833108082136426, 0.43152799704850997]),
        (-1 % 2**64, [0.8939429202831845]),
    ):
        assert [_core.splitmix_uniform(seed, i) for i in range(len(numbers))] == numbers
