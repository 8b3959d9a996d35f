"""Semantic caches behind a socket, with MiniLM's real weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from cacher.config import Settings
from cacher.semantic.server import create_app
from cacher.semantic.settings import SemanticSettings
from tests.server.conftest import serving

ML = "What is machine learning?"
ML_TOO = "Can you explain machine learning?"
WEATHER = "What is the weather like today?"


class Service:
    """Calls a semantic cache over HTTP."""

    def __init__(self, http: httpx.Client, prefix: str = "", slash: str = "") -> None:
        self.http = http
        self._prefix = prefix
        self._slash = slash

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self.http.request(method, f"{self._prefix}{path}{self._slash}", **options)

    def get(self, path: str, **query: Any) -> Any:
        """The JSON of a GET that succeeds."""
        return _good(self.call("GET", path, params=query))

    def post(self, path: str, /, **body: Any) -> Any:
        """The JSON of a POST that succeeds."""
        return _good(self.call("POST", path, json=body))

    def query(self, query: str, **options: Any) -> Any:
        """The answer to a query."""
        return self.post("/query", query=query, **options)

    def score(self, query: str) -> float:
        """The similarity of what is most similar."""
        found = self.query(query, similarity_threshold=0.0)["cached_data"]["similarity_score"]
        return float(found)

    def refused(self, status: int, code: str, body: object, path: str = "/query") -> Any:
        """The body of a refusal, which must be of that status and code."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = self.call("POST", path, content=content)
        assert (answer.status_code, answer.json().get("code")) == (status, code), answer.text
        assert "Traceback" not in answer.text
        return answer.json()

    @property
    def stats(self) -> Any:
        return self.get("/cache/stats")

    @property
    def size(self) -> int:
        found: int = self.stats["cache_size"]
        return found


def _good(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return answer.json()


@contextmanager
def alone(server: Settings | None = None, **settings: Any) -> Iterator[Service]:
    """A service that was just started, with these settings."""
    app = create_app(server or Settings(), SemanticSettings(**settings))
    with serving(app) as address, httpx.Client(base_url=address, timeout=60) as http:
        yield Service(http)
