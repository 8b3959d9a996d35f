"""The checklist of the chat API, lines 25 to 57: what a stream sends, and its traces."""

from __future__ import annotations

import json
import math
import threading
import time

import httpx
import numpy as np
import pytest

from tests.models import niels
from tests.niels_gpt.chat import (
    FRAME,
    HI,
    PROMPT,
    Chat,
    Puppet,
    events,
    prefer,
    reply,
    request,
    spell,
    together,
    tokens,
    traces,
    until,
)
from tests.reference import niels as reference

LONG = 100_000


def test_25_the_head(stage: Chat) -> None:
    with stage.http.stream("POST", "/chat/stream", json=request()) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["x-accel-buffering"] == "no"
        assert answer.headers["connection"] == "keep-alive"
        assert "content-length" not in answer.headers


def test_26_the_order_of_events(small: Chat) -> None:
    found = small.stream(max_new_tokens=5)
    assert [name for name, _ in found] == ["token", "trace"] * 5 + ["done"]
    assert [data["step"] for _, data in found[:-1]] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_27_29_frames_hold_compact_ascii(stage: Chat, puppet: Puppet) -> None:
    puppet.play = spell('"\\/\n\t\x7f\x00é😀: , x'.encode())
    raw = stage.raw(max_new_tokens=24)
    assert raw.isascii()
    assert b"\r" not in raw
    assert raw.endswith(b"\n\n")
    assert FRAME.sub(b"", raw) == b""
    for _, data in FRAME.findall(raw):
        text = data.decode()
        assert (
            text.replace("\x7f", "\\u007f") == json.dumps(json.loads(text), separators=(",", ":"))
            or '"attn"' in text
        )
        assert ", " not in text.replace(", x", "").replace('", "', "")
    assert b'"reply":"\\"\\\\/\\n\\t\x7f\\u0000\\u00e9\\ud83d\\ude00: , x"' in raw


def test_28_the_keys_of_events(small: Chat) -> None:
    first, second, *_, last = small.stream(max_new_tokens=2)
    named = ["token_id", "token_text", "token_display"]
    assert list(first[1]) == ["step", *named]
    assert list(second[1]) == ["step", "entropy", "topk", "attn"]
    assert [list(item) for item in second[1]["topk"]] == [[*named, "prob"]] * 10
    assert list(last[1]) == ["reply"]


def test_30_no_tokens(stage: Chat) -> None:
    said = [*HI, {"role": "assistant", "content": "old"}]
    assert stage.raw(said, max_new_tokens=0) == b'event: done\ndata: {"reply":""}\n\n'


def test_31_35_as_many_tokens_as_asked(stage: Chat) -> None:
    for n in (1, 7):
        found = stage.stream(max_new_tokens=n)
        assert tokens(found) == [72] * n
        assert reply(found) == "H" * n


def test_32_an_event_is_sent_as_soon_as_it_is_there(stage: Chat, puppet: Puppet) -> None:
    may_go_on = threading.Semaphore(0)
    puppet.wait = lambda _n: may_go_on.acquire(timeout=20)
    with stage.http.stream("POST", "/chat/stream", json=request(max_new_tokens=4)) as answer:
        assert answer.status_code == 200  # the head comes before the first token
        assert puppet.calls <= 1
        parts = answer.iter_bytes()
        for n in (1, 2, 3):
            may_go_on.release()
            seen = b""
            while seen.count(b"\n\n") < 2:
                seen += next(parts)
            assert [data["step"] for _, data in events(seen)] == [n - 1] * 2
            assert puppet.calls <= n + 1
        may_go_on.release(100)
        assert b"event: done" in b"".join(parts)  # nothing of it is left for the next test


def test_33_34_bytes_as_texts(stage: Chat, puppet: Puppet) -> None:
    puppet.play = spell(bytes([10, 32, 65, 126, 127, 195, 0, 255]))
    shown = [data for name, data in stage.stream() if name == "token"]
    assert [one["token_display"] for one in shown] == [
        "\\x0a", " ", "A", "~", "\\x7f", "\\xc3", "\\x00", "\\xff",
    ]  # fmt: skip
    unfinished = "\ufffd"
    assert [one["token_text"] for one in shown] == [
        "\n", " ", "A", "~", "\x7f", unfinished, "\0", unfinished,
    ]  # fmt: skip


@pytest.mark.parametrize("tag", [b"\nuser: ", b"\nsystem: ", b"\nassistant: "])
def test_36_37_a_tag_ends_a_stream(stage: Chat, puppet: Puppet, tag: bytes) -> None:
    puppet.play = spell(b"ok" + tag + b"x")
    found = stage.stream(max_new_tokens=50)
    assert bytes(tokens(found)) == b"ok" + tag
    assert reply(found) == "ok"


@pytest.mark.parametrize("text", [b"a\nUser: b", b"user: b", b"a\nuser:b", b"\n user: b"])
def test_38_what_is_no_tag(stage: Chat, puppet: Puppet, text: bytes) -> None:
    puppet.play = spell(text)
    found = stage.stream(max_new_tokens=20)
    assert len(tokens(found)) == 20
    assert reply(found) == text.decode().strip()


def test_39_a_tag_in_the_prompt(stage: Chat) -> None:
    said = [{"role": "user", "content": "a\nuser: b\nassistant: c"}]
    assert reply(stage.stream(said)) == "HHHHHHHH"


def test_40_nothing_said_is_no_earlier_answer(stage: Chat, puppet: Puppet) -> None:
    puppet.play = lambda _ids: prefer(32)
    said = [*HI, {"role": "assistant", "content": "old"}, *HI]
    assert reply(stage.stream(said)) == ""


def test_41_a_tag_without_its_line_feed(stage: Chat, puppet: Puppet) -> None:
    puppet.play = spell(b"a assistant: b")
    assert reply(stage.stream(max_new_tokens=20)) == "a assistant: b"


def test_42_a_character_of_two_bytes(stage: Chat, puppet: Puppet) -> None:
    puppet.play = spell("é".encode())
    raw = stage.raw(max_new_tokens=2)
    texts = [data["token_text"] for name, data in events(raw) if name == "token"]
    assert texts == ["\ufffd"] * 2
    assert raw.endswith(b'event: done\ndata: {"reply":"\\u00e9"}\n\n')


def test_43_a_model_that_fails(stage: Chat, puppet: Puppet) -> None:
    def fail(n: int) -> None:
        if n == 3:
            raise RuntimeError("/secret/path")

    puppet.wait = fail
    *steps, last = stage.stream()
    assert [name for name, _ in steps] == ["token", "trace"] * 2
    assert last == ("error", {"error": "Internal server error", "code": "internal_error"})
    puppet.wait = lambda _n: None
    body = {"messages": HI, "trace_layer": 0, "head": 0}
    puppet.wait = lambda _n: 1 // 0
    assert stage.refused(500, body, "/inspect/full_attn") == {
        "error": "Internal server error", "code": "internal_error",
    }  # fmt: skip


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_44_logits_that_are_no_numbers(stage: Chat, puppet: Puppet, bad: float) -> None:
    puppet.play = lambda _ids: np.full(256, bad, np.float32)
    raw = stage.raw()
    ((name, data),) = events(raw)
    assert (name, data["code"]) == ("error", "internal_error")
    assert b"NaN" not in raw
    puppet.play = lambda _ids: np.full(256, -np.inf, np.float32)
    assert stage.stream()[0][0] == "error"


def test_45_a_client_that_leaves(stage: Chat, puppet: Puppet) -> None:
    puppet.wait = lambda _n: time.sleep(0.005)
    with stage.http.stream("POST", "/chat/stream", json=request(max_new_tokens=2000)) as answer:
        next(answer.iter_bytes())
    left = puppet.calls
    time.sleep(0.3)
    assert puppet.calls <= left + 3  # those until the server hears of it, and one
    calls = puppet.calls
    time.sleep(0.1)
    assert puppet.calls == calls


def test_46_48_streams_depend_on_their_request_alone(small: Chat) -> None:
    bodies = [
        request(temperature=1, seed=seed, trace_layer=seed % 2, max_new_tokens=6)
        for seed in (1, 2, 1, 3)
    ]
    alone = [small.post("/chat/stream", body).content for body in bodies]
    assert together(small, bodies) == alone
    assert alone[0] == alone[2]
    assert len({tuple(tokens(events(raw))) for raw in alone}) == 3


def test_47_health_answers_while_streams_run(stage: Chat, puppet: Puppet) -> None:
    puppet.wait = lambda _n: time.sleep(0.02)
    url = stage.http.base_url

    def run() -> None:
        httpx.post(f"{url}/chat/stream", json=request(max_new_tokens=30), timeout=60)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: puppet.calls > 4)
    times = []
    while any(thread.is_alive() for thread in threads):
        started = time.perf_counter()
        assert stage.http.get("/health").status_code == 200
        times.append(time.perf_counter() - started)
        time.sleep(0.02)
    assert sorted(times)[len(times) // 2] < 0.2


def test_49_50_attention_is_a_distribution_over_the_window(small: Chat) -> None:
    for n, data in enumerate(traces(small.stream(max_new_tokens=8))):
        assert len(data["attn"]) == 2
        for row in data["attn"]:
            assert len(row) == min(len(PROMPT) + n, 24)
            assert min(row) >= 0
            assert sum(row) == pytest.approx(1, abs=1e-4)


def test_51_the_ten_likeliest(small: Chat) -> None:
    for data in traces(small.stream(temperature=1)):
        top = [(-item["prob"], item["token_id"]) for item in data["topk"]]
        assert len(top) == 10
        assert top == sorted(top)
        assert all(0 <= item["prob"] <= 1 for item in data["topk"])


def test_52_a_cut_leaves_three(small: Chat) -> None:
    for data in traces(small.stream(temperature=1, top_k=3)):
        probs = [item["prob"] for item in data["topk"]]
        assert min(probs[:3]) > 0
        assert sum(probs[:3]) == pytest.approx(1, abs=1e-6)
        assert probs[3:] == [0.0] * 7
        kept = {item["token_id"] for item in data["topk"][:3]}
        rest = [item["token_id"] for item in data["topk"][3:]]
        assert rest == [i for i in range(10) if i not in kept][:7]


def test_53_a_cut_leaves_one(small: Chat) -> None:
    found = small.stream(temperature=1, top_k=1)
    assert tokens(found) == tokens(small.stream())
    assert {data["entropy"] for data in traces(found)} == {0.0}


def test_54_109_the_likeliest_token_is_certain(small: Chat) -> None:
    raw = small.raw()
    assert b'"entropy":0.0,' in raw
    assert b"-0.0" not in raw
    for data in traces(events(raw)):
        assert data["topk"][0]["prob"] == 1.0
        assert [item["prob"] for item in data["topk"][1:]] == [0.0] * 9
    assert small.raw(seed=7) == raw


def test_55_entropy_without_a_cut(small: Chat) -> None:
    found = small.stream(temperature=1, top_k=None, max_new_tokens=4)
    ids = list(PROMPT)
    for token_id, data in zip(tokens(found), traces(found), strict=True):
        logits, _ = reference.forward(niels.vector_tensors(1), niels.SMALL, ids[-24:])
        p = np.exp(logits[-1] - logits[-1].max())
        p /= p.sum()
        assert data["entropy"] == pytest.approx(-(p * np.log(p)).sum(), abs=1e-3)
        assert data["topk"][0]["prob"] == pytest.approx(p.max(), abs=1e-3)
        ids.append(token_id)


def test_56_what_is_drawn_was_possible(small: Chat) -> None:
    found = small.stream(temperature=1.5, top_k=8, max_new_tokens=20)
    for token_id, data in zip(tokens(found), traces(found), strict=True):
        possible = {item["token_id"] for item in data["topk"] if item["prob"] > 0}
        assert token_id in possible
        p = [item["prob"] for item in data["topk"] if item["prob"] > 0]
        assert data["entropy"] == pytest.approx(-sum(x * math.log(x) for x in p), abs=1e-9)


def test_57_the_layer_changes_attention_alone(small: Chat) -> None:
    first, second = (small.stream(trace_layer=layer) for layer in (0, 1))
    for (_, a), (_, b) in zip(first, second, strict=True):
        assert a.pop("attn", None) != b.pop("attn", 0)
        assert a == b


def test_108_frequencies_follow_probabilities(stage: Chat, puppet: Puppet) -> None:
    weights = np.array([1, 2, 3, 4, 5, 6, 7, 8, 10, 14], np.float64)
    logits = np.full(256, -np.inf, np.float32)
    logits[100:110] = np.log(weights)
    puppet.play = lambda _ids: logits
    puppet.cfg.T = 4  # the length of a window has no part in it
    counts = np.zeros(10)
    try:
        for seed in range(20):
            found = stage.raw(temperature=1, top_k=None, seed=seed, max_new_tokens=100)
            for token_id in tokens(events(found)):
                counts[token_id - 100] += 1
    finally:
        puppet.cfg.T = 2048
    expected = weights / weights.sum() * counts.sum()
    assert ((counts - expected) ** 2 / expected).sum() < 27.88  # p 0.001 at 9 degrees
