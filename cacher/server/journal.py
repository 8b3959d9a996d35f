"""What happened: request ids, one line in the log per request, counters, and faults of ours."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cacher.config import Settings
from cacher.server.errors import INTERNAL, STOPPING
from cacher.server.metrics import Metrics

REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
CLIENT_LEFT = 499  # a status that nobody sees: of requests whose client has left, for the log

log = logging.getLogger("cacher.server")


@dataclass(slots=True)
class Visit:
    """A request as the layers above the routes know it.

    Attributes:
        request_id: In the response, the log, and the records of a stream.
        tenant: Whose request it is; empty for anonymous ones.
    """

    request_id: str
    tenant: str = ""


def visit(scope: Scope) -> Visit:
    """Return the visit of a request."""
    return cast(Visit, scope["cacher.visit"])


class Visitors:
    """How many requests are being answered."""

    def __init__(self) -> None:
        self._n = 0
        self._nobody = asyncio.Event()
        self._nobody.set()

    def __enter__(self) -> None:
        self._n += 1
        self._nobody.clear()

    def __exit__(self, *_error: object) -> None:
        self._n -= 1
        if not self._n:
            self._nobody.set()

    async def gone(self, seconds: float) -> None:
        """Return when there are none, or after that time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._nobody.wait()


class Journal:
    """The outermost layer: gives a request its id, and notes how it ended."""

    def __init__(self, app: ASGIApp, metrics: Metrics, visitors: Visitors) -> None:
        self.app = app
        self.metrics = metrics
        self.visitors = visitors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else str(uuid.uuid4())
        scope["cacher.visit"] = Visit(request_id)
        header = (b"x-request-id", request_id.encode())
        status = 0

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        started = time.perf_counter()
        try:
            with self.visitors:
                await self.app(scope, receive, noting)
        finally:
            self._note(scope, status, time.perf_counter() - started)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        self.metrics.request(route, scope["method"], status, seconds)
        if log.isEnabledFor(logging.INFO):
            about = visit(scope)
            fields = {
                "method": scope["method"],
                "path": scope.get("raw_path", b"").decode("latin-1")[:512],
                "status": status,
                "ms": round(1e3 * seconds, 3),
                "id": about.request_id,
                "tenant": about.tenant,
            }
            log.info("%s", Fields("request", fields))


class Faults:
    """The layer inside that of CORS: a fault becomes an answer that tells nothing of it.

    It is an answer like any other: pages of allowed origins can read it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on.

        Raises:
            CancelledError: The server stops, and has waited long enough.
            Exception: The fault, where an answer has begun: the server closes the connection, and
                the client sees that the body is cut.
        """
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        begun = False

        async def noting(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, noting)
        except asyncio.CancelledError:
            if not begun:
                await STOPPING.send(scope, receive, send)
            raise
        except Exception:
            log.exception("fault in request %s", visit(scope).request_id)
            if begun:
                raise
            await INTERNAL.send(scope, receive, send)


class Fields:
    """A message with named values: ``request method=GET path=/test``, or a JSON object."""

    def __init__(self, event: str, fields: dict[str, object]) -> None:
        self.event = event
        self.fields = fields

    def __str__(self) -> str:
        pairs = (f"{k}={json.dumps(v) if ' ' in str(v) else v}" for k, v in self.fields.items())
        return " ".join([self.event, *pairs])


class JsonFormatter(logging.Formatter):
    """A line of JSON per record, for programs that read logs."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "logger": record.name,
            "level": record.levelname,
        }
        named = record.args[0] if isinstance(record.args, tuple) and record.args else None
        if isinstance(named, Fields):
            line |= {"event": named.event, **named.fields}
        else:
            line["message"] = record.getMessage()
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


class _StandardError(logging.Handler):
    """Writes to whatever standard error is at the moment, as Python's last resort does."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
        except Exception:
            self.handleError(record)


def configure_logging(settings: Settings) -> None:
    """Send the log of the package and of uvicorn to standard error, as the settings ask."""
    handler = _StandardError()
    as_json = settings.LOG_FORMAT == "json"
    handler.setFormatter(JsonFormatter() if as_json else logging.Formatter(settings.LOG_FORMAT))
    for name in ("cacher", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.propagate = False
        logger.setLevel("DEBUG" if settings.DEBUG else settings.LOG_LEVEL)
