"""uvicorn's HTTP protocol with deadlines and a bound for headers, which it leaves to a proxy.

A connection that sends nothing, or its headers byte by byte, is closed after a while; what follows
(bodies, slow readers) is bounded by `cacher.server.guard` and `cacher.server.streaming`.  And when
a connection is lost, every request on it hears of that, not only the last one.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

HEADER_SECONDS = 15.0
MAX_HEADER_BYTES = 64 * 1024
TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)


class DeadlineProtocol(HttpToolsProtocol):
    """One connection."""

    _deadline: asyncio.TimerHandle | None = None
    _head_bytes: int | None = 0  # of the headers being read; None while a body is
    _trailer_bytes = 0
    _earlier: tuple[RequestResponseCycle, ...] = ()  # requests before the last one, unanswered

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._begin_head()

    def data_received(self, data: bytes) -> None:
        """Count the bytes of headers, then let uvicorn parse."""
        if self._head_bytes is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes is not None and self._head_bytes > MAX_HEADER_BYTES:
            self.transport.write(TOO_LARGE)
            self.transport.close()

    def on_message_begin(self) -> None:
        """Wait for the headers of a request that has begun."""
        super().on_message_begin()
        if self._head_bytes is None:
            self._begin_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; what follows a body is none, whatever it is called."""
        if self._head_bytes is not None:
            super().on_header(name, value)
            return
        self._trailer_bytes += len(name) + len(value)
        if self._trailer_bytes > MAX_HEADER_BYTES:
            self.transport.close()

    def on_headers_complete(self) -> None:
        """Wait no longer."""
        self._end_head()
        known = (*self._earlier, self.cycle) if self.cycle is not None else ()
        self._earlier = tuple(cycle for cycle in known if not cycle.response_complete)
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline, and tell requests that others were sent behind, too."""
        self._end_head()
        for cycle in self._earlier:
            cycle.disconnected = True
            cycle.message_event.set()
        super().connection_lost(exc)

    def _begin_head(self) -> None:
        self._head_bytes = self._trailer_bytes = 0
        self._deadline = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def _end_head(self) -> None:
        self._head_bytes = None
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
