"""The short cut past FastAPI: what takes it, and that nothing depends on who took it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from starlette.types import Message

from cacher.schemas.states import CreateState, Fork, Page
from cacher.server.guard import JsonRequest, JsonRoute
from cacher.server.shortcut import OperationRoute, reader
from tests.server.conftest import in_memory


def read(
    body: Any, query: Any, data: bytes, query_string: bytes = b"", *, optional: bool = False
) -> Any:
    scope = {
        "type": "http", "headers": [], "path_params": {"state_id": "a"},
        "query_string": query_string,
    }  # fmt: skip

    async def receive() -> Message:
        return {"type": "http.request", "body": data, "more_body": False}

    return asyncio.run(reader(body, query, optional=optional)(JsonRequest(scope, receive)))


def test_what_is_plain_and_right_takes_it() -> None:
    assert read(None, None, b"") == {"state_id": "a"}
    found = read(CreateState, None, b'{"model_id": "tales"}')
    assert found == {"state_id": "a", "body": CreateState(model_id="tales")}
    assert read(None, Page, b"") == {"state_id": "a", "query": Page()}
    assert read(Fork, None, b"", optional=True) == {"state_id": "a", "body": None}


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b'{"model_id": 1}', b'{"model_id": "x y"}', b"\xff", b"[" * 99],
)
def test_what_is_wrong_does_not(data: bytes) -> None:
    assert read(CreateState, None, data) is None


def test_a_query_is_read_by_fastapi() -> None:
    assert read(None, Page, b"", b"limit=5") is None


REQUESTS: list[tuple[str, str, Any]] = [
    ("POST", "/states", {"model_id": "tales", "text": "Once", "state_id": "a"}),
    ("POST", "/states", {"model_id": "tales", "text": "Once", "state_id": "a"}),
    ("POST", "/states", {"model_id": "tales", "text": 5}),
    ("POST", "/states", None),
    ("GET", "/states/a", None),
    ("GET", "/states/a/top_tokens", None),
    ("GET", "/states/a/top_tokens?n=2", None),
    ("GET", "/states/a/top_tokens?n=0", None),
    ("POST", "/v1/states/a/fork", None),
    ("POST", "/v1/states/a/fork", {"n": 2.0}),
    ("POST", "/v1/states/a/fork", {"n": 33}),
    ("POST", "/states/config", {"state_id": "a", "config": {"temperature": 0, "seed": None}}),
    ("POST", "/generate/token", {"state_id": "a", "max_tokens": 3}),
    ("POST", "/generate/token", {"state_id": "a", "max_tokens": 101}),
    ("POST", "/generate/token", {"state_id": "a", "max_tokens": 3, "stream": True}),
    ("DELETE", "/states/a", None),
    ("DELETE", "/states/a", None),
    ("PUT", "/states/a", None),
]  # fmt: skip
MADE_UP = ("state_id", "created_at", "modified_at", "last_modified", "request_id", "forked_from")


def plain(value: Any) -> Any:
    """Without what is another in every run."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if key not in MADE_UP}
    return [plain(item) for item in value] if isinstance(value, list) else value


async def told() -> list[tuple[int, Any]]:
    answers = []
    async with in_memory() as client:
        for method, path, body in REQUESTS:
            answer: httpx.Response = await client.request(method, path, json=body)
            lines = answer.text.strip().splitlines()
            answers.append((answer.status_code, [plain(json.loads(line)) for line in lines]))
    return answers


def test_answers_are_those_of_fastapi(monkeypatch: pytest.MonkeyPatch) -> None:
    short = asyncio.run(told())
    monkeypatch.setattr(OperationRoute, "get_route_handler", JsonRoute.get_route_handler)
    assert asyncio.run(told()) == short
    assert {status for status, _ in short} == {200, 400, 404, 405, 422}
