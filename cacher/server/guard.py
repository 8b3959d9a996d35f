"""What may come in: the size of bodies, the time they take, their encoding, the depth of JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cacher.config import Settings
from cacher.server.errors import Answer, speaks_chat

MAX_DEPTH = 64
LARGE_BODY = 256 * 1024  # bytes that take longer to read than to hand to a thread
IMPORT_PATHS = frozenset({"/states/import", "/v1/states/import"})
DISCARDED_BYTES = 64 * 2**20  # of a body that is refused; a longer one costs the connection


class Guard:
    """Reads a request's body, within bounds, before anything else looks at it."""

    def __init__(self, app: ASGIApp, settings: Settings, chat_bytes: int) -> None:
        self.app = app
        self.settings = settings
        self.chat_bytes = chat_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what is out of bounds, pass on what is not."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        length = headers.get("content-length", "")
        if length in ("", "0") and "transfer-encoding" not in headers:
            return await self.app(scope, _replay(b"", receive), send)
        importing, chat = scope["path"] in IMPORT_PATHS, speaks_chat(scope)
        limit = self.settings.MAX_IMPORT_BYTES if importing else self.settings.MAX_BODY_BYTES
        limit = self.chat_bytes if chat else limit
        body = await self._body(headers, receive, limit, importing)
        if isinstance(body, Answer):
            if chat and body.status == 413:
                body = body._replace(code="prompt_too_large")
            return await body.send(scope, receive, send)
        if not chat:  # a body is JSON, whatever it is called: by `curl -d` it is called a form
            scope["headers"] = [pair for pair in scope["headers"] if pair[0] != b"content-type"]
        return await self.app(scope, _replay(body, receive), send)

    async def _body(
        self, headers: Headers, receive: Receive, limit: int, importing: bool
    ) -> bytes | Answer:
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if encoding != "identity" and not (importing and encoding == "gzip"):
            return Answer(
                415, "unsupported_encoding", "Request bodies are taken as they are, not compressed"
            )
        declared = headers.get("content-length")
        if declared is not None and (not declared.isdecimal() or int(declared) > limit):
            keep = declared.isdecimal() and int(declared) <= DISCARDED_BYTES
            return _too_large(limit, close=not keep)
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self.settings.REQUEST_TIMEOUT):
                while True:
                    async with asyncio.timeout(self.settings.IDLE_TIMEOUT):
                        message = await receive()
                    if message["type"] == "http.disconnect":
                        return Answer(400, "incomplete_body", "The body ended early")
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > limit:
                        return _too_large(limit, close=True)
                    if not message.get("more_body"):
                        return b"".join(parts)
        except TimeoutError:
            return Answer(
                408, "body_timeout", "The body took too long", headers={"Connection": "close"}
            )


def _too_large(limit: int, *, close: bool) -> Answer:
    detail = f"The body is too large, allowed: {limit} bytes"
    return Answer(413, "body_too_large", detail, None, {"Connection": "close"} if close else None)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Give the body once, then what comes after it: the news that the client has left."""
    unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return unread.pop() if unread else await receive()

    return replayed


class JsonRequest(Request):
    """A request whose JSON is strict: UTF-8, finite numbers, and not nested without end."""

    async def json(self) -> Any:
        """Return the body.

        Raises:
            json.JSONDecodeError: It is no JSON, or nested too deeply.
        """
        if not hasattr(self, "_json"):
            body = await self.body()
            large = len(body) > LARGE_BODY
            self._json = await asyncio.to_thread(_read, body) if large else _read(body)
        return self._json


def _read(body: bytes) -> object:
    value = orjson.loads(body)
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _depth_over(value, MAX_DEPTH):
        raise json.JSONDecodeError(f"nested more than {MAX_DEPTH} levels deep", "", 0)
    return value


def _depth_over(value: object, limit: int) -> bool:
    level = [value]
    for _ in range(limit + 1):
        inner: list[object] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(v for v in item.values() if isinstance(v, (dict, list)))
            elif isinstance(item, list):
                inner.extend(v for v in item if isinstance(v, (dict, list)))
        if not inner:
            return False
        level = inner
    return True


class JsonRoute(APIRoute):
    """A route that reads its body as `JsonRequest` does."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        """Return FastAPI's handler around a request of ours."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(JsonRequest(request.scope, request.receive))

        return handle
