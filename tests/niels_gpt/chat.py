"""Chat services behind a socket: with stand-ins that do as they are told, and small models."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from cacher.niels_gpt.main import create_app
from cacher.niels_gpt.rate_limit import RateLimiter
from cacher.server.routes import chat
from tests.models import niels
from tests.reference import niels as reference
from tests.server.conftest import serving

HI = [{"role": "user", "content": "hi"}]
PROMPT = b"user: hi\nassistant: "
FRAME = re.compile(rb"event: ([a-z]+)\ndata: ([^\n]*)\n\n")
Event = tuple[str, dict[str, Any]]
Play = Callable[[list[int]], Any]  # ids -> logits [256]


def prefer(*token_ids: int) -> Any:
    """Logits that prefer tokens, the first most of all."""
    logits = np.zeros(256, np.float32)
    for i, token_id in enumerate(token_ids):
        logits[token_id] = 30 - i
    return logits


def spell(text: bytes) -> Play:
    """A play that gives bytes, one behind the other, then spaces."""
    start: list[int] = []

    def play(ids: list[int]) -> Any:
        start.append(len(ids))
        n = len(ids) - start[0]
        return prefer(text[n] if n < len(text) else 32)

    return play


class Puppet:
    """A stand-in for a model: what it prefers is played."""

    cfg = SimpleNamespace(V=256, T=2048, L=2, H=2)

    def __init__(self) -> None:
        self.play: Play = lambda _ids: prefer(72)
        self.calls = 0
        self.wait: Callable[[int], object] = lambda _n: None

    def forward_with_attn_trace(
        self, x: Any, *, trace_layer: int, return_full_attn: bool
    ) -> tuple[Any, dict[str, Any]]:
        (ids,) = x.tolist()
        assert x.shape == (1, len(ids))
        self.calls += 1
        self.wait(self.calls)
        n = len(ids)
        logits = np.zeros((1, n, 256), np.float32)
        logits[0, -1] = self.play(ids)
        row = np.arange(1, n + 1, dtype=np.float32) + trace_layer
        if return_full_attn:
            full = np.tril(np.ones((n, n), np.float32))
            return logits, {"attn_full": np.array([[full / full.sum(1, keepdims=True)] * 2])}
        return logits.tolist(), {"attn_row": [[(row / row.sum()).tolist()] * 2]}


class Reference:
    """The small model of the documented vectors, in NumPy and float64, as a stand-in."""

    cfg = niels.SMALL

    def __init__(self, generation: int) -> None:
        self.weights = niels.vector_tensors(generation)

    def forward_with_attn_trace(
        self, x: Any, *, trace_layer: int, return_full_attn: bool
    ) -> tuple[Any, dict[str, Any]]:
        logits, attention = reference.forward(self.weights, niels.SMALL, x.tolist()[0])
        name = "attn_full" if return_full_attn else "attn_row"
        shown = attention[trace_layer] if return_full_attn else attention[trace_layer][:, -1]
        return logits[None], {name: shown[None]}


class Chat:
    """Calls a chat service over HTTP."""

    def __init__(self, http: httpx.Client, app: FastAPI | None = None) -> None:
        self.http = http
        self.app = app

    def post(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        return self.http.post(path, json=body, **options)

    def raw(self, messages: Any = None, **options: Any) -> bytes:
        """The bytes of a stream that succeeds."""
        answer = self.post("/chat/stream", request(messages, **options))
        assert answer.status_code == 200, answer.text
        return answer.content

    def stream(self, messages: Any = None, **options: Any) -> list[Event]:
        """Its events."""
        return events(self.raw(messages, **options))

    def look(self, messages: Any = None, **options: Any) -> Any:
        """The attention of a head."""
        body = {"messages": HI if messages is None else messages, "trace_layer": 0, "head": 0}
        answer = self.post("/inspect/full_attn", {**body, **options})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refused(self, status: int, body: Any, path: str = "/chat/stream", **options: Any) -> Any:
        """The body of a refusal."""
        answer = self.post(path, body, **options)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/json"
        return answer.json()


def request(messages: Any = None, **options: Any) -> dict[str, Any]:
    """The body of a stream: greedy, of layer 0, eight tokens."""
    given = {"temperature": 0, "trace_layer": 0, "max_new_tokens": 8, **options}
    return {"messages": HI if messages is None else messages, **given}


def events(raw: bytes) -> list[Event]:
    """The events of a stream, which must consist of nothing else."""
    assert FRAME.sub(b"", raw) == b""
    return [(name.decode(), json.loads(data)) for name, data in FRAME.findall(raw)]


def tokens(found: list[Event]) -> list[int]:
    return [data["token_id"] for name, data in found if name == "token"]


def traces(found: list[Event]) -> list[dict[str, Any]]:
    return [data for name, data in found if name == "trace"]


def reply(found: list[Event]) -> str:
    name, data = found[-1]
    assert name == "done"
    text: str = data["reply"]
    return text


def together(chat: Chat, bodies: list[dict[str, Any]]) -> list[bytes]:
    """The bytes of streams that run at the same time."""

    async def main() -> list[bytes]:
        async with httpx.AsyncClient(base_url=chat.http.base_url, timeout=60) as http:
            answers = [http.post("/chat/stream", json=body) for body in bodies]
            return [answer.content for answer in await asyncio.gather(*answers)]

    return asyncio.run(main())


@contextmanager
def served(app: FastAPI) -> Iterator[Chat]:
    """An application behind a socket, whose clients are not limited."""
    with (
        pytest.MonkeyPatch.context() as patch,
        serving(app) as address,
        httpx.Client(base_url=address, timeout=60) as http,
    ):
        patch.setattr(chat, "rate_limiter", RateLimiter(10**9, 0))
        yield Chat(http, app)


@contextmanager
def standing_in(model: Any, **environment: str) -> Iterator[Chat]:
    """A service with a stand-in."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        app = create_app(model=model, cfg=model.cfg)
    with served(app) as found:
        yield found


class Process:
    """``python -m cacher.niels_gpt`` with an environment, at a port of its own."""

    def __init__(self, **environment: str) -> None:
        variables = {"API_PORT": "0", "API_HOST": "127.0.0.1", "HF_HUB_OFFLINE": "1", **environment}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cacher.niels_gpt"],
            env={**os.environ, **variables},
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log = ""
        self._listening = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.log += line
            if "running on http" in line:
                self._listening.set()
        self._listening.set()

    def __enter__(self) -> Chat:
        assert self._listening.wait(60)
        found = re.search(r"running on (http://\S+)", self.log)
        assert found, self.log
        self._http = httpx.Client(base_url=found[1], timeout=60)
        return Chat(self._http)

    def __exit__(self, *_error: object) -> None:
        self._http.close()
        self._process.kill()
        self._process.wait(30)

    def ended(self) -> tuple[int, str]:
        """The exit status of one that cannot start, and what it said."""
        status = self._process.wait(60)
        until(self._listening.is_set)
        return status, self.log


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Wait until it holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
