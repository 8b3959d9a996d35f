"""Streams: an iterator of records becomes lines of JSON, plain text, or server-sent events.

One record is sent as soon as it is there.  What waits between the model and a slow reader is
bounded by the iterator (the engine computes at most 16 tokens ahead) and the connection's own
buffer.  When the client leaves, the iterator is closed at once.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cacher.server import errors
from cacher.server.encoding import dumps
from cacher.server.metrics import Metrics
from cacher.server.presence import left

log = logging.getLogger("cacher.server")

BEYOND_ASCII = re.compile("[^\x00-\x7f]+")

Record = Mapping[str, Any]
Records = AsyncGenerator[Sequence[Any], None]  # those that are there together, never none


class Form(NamedTuple):
    """A format of streams.

    Attributes:
        media_type: Its content type.
        encode: Makes bytes of a record.
        end: What follows the last record.
        fail: Makes bytes of what ends a stream early.
        headers: Of the response.
        at_once: Whether the response begins before the first record is there.
    """

    media_type: str
    encode: Callable[[Any], bytes]
    end: bytes = b""
    fail: Callable[[errors.Answer], bytes] | None = None
    headers: Mapping[str, str] = MappingProxyType({"Cache-Control": "no-store"})
    at_once: bool = False


def _line(record: Record) -> bytes:
    return dumps(record, orjson.OPT_APPEND_NEWLINE)


def _event(record: Record) -> bytes:
    return b"data: " + _line(record) + b"\n"


def named_event(name: str, data: object) -> bytes:
    """Return an event with a name, in ASCII."""
    text = dumps(data)
    if not text.isascii():
        text = BEYOND_ASCII.sub(_escaped, text.decode()).encode()
    return b"event: %b\ndata: %b\n\n" % (name.encode(), text)


def _escaped(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be").hex()
    return "".join("\\u" + units[i : i + 4] for i in range(0, len(units), 4))


def _chat_events(step: Sequence[tuple[str, object]]) -> bytes:
    return b"".join(named_event(name, data) for name, data in step)


def _chat_failure(answer: errors.Answer) -> bytes:
    known = answer if isinstance(answer.detail, str) else errors.INTERNAL
    return named_event("error", {"error": known.detail, "code": errors.INTERNAL.code})


def _text(record: Record) -> bytes:
    if "error" in record:
        return b"\n" + _line(record)
    token: str = record["token"]
    return token.encode()


LINES = Form("application/x-ndjson", _line)
FORMS = {
    "application/x-ndjson": LINES,
    "text/plain": Form("text/plain; charset=utf-8", _text),
    "text/event-stream": Form("text/event-stream", _event, b"data: [DONE]\n\n"),
}

#: A record is a step: its events with their data.
CHAT_EVENTS = Form(
    "text/event-stream; charset=utf-8",
    _chat_events,
    fail=_chat_failure,
    headers={
        "Cache-Control": "no-cache",
        "X-Accel-Buffering": "no",
        "Connection": "keep-alive",
    },
    at_once=True,
)


def form_of(accept: str) -> Form:
    """Return the format that an Accept header prefers, JSON lines for anything else.

    Example:
        >>> from cacher.server.streaming import form_of
        >>> form_of("text/event-stream, */*;q=0.5").media_type
        'text/event-stream'
    """
    wanted = []
    for item in accept.split(","):
        media_type, *parameters = (part.strip().lower() for part in item.split(";"))
        quality = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name == "q":
                try:
                    quality = float(value)
                except ValueError:
                    quality = 0.0
        wanted.append((-quality, media_type))
    wanted.sort(key=lambda pair: pair[0])
    for negative, media_type in wanted:
        if negative < 0 and media_type in FORMS:
            return FORMS[media_type]
    return LINES


class RecordStream(Response):
    """A response that sends records as they come.

    Args:
        records: The records; closed when the response ends, however it ends.
        form: How they are written.
        together: How many are waited for until they are flushed; those that are there at once go
            together in any case.
        idle_s: Seconds a reader may stand still.
        timeout_s: Seconds until the stream is ended with an error.
        metrics: Where times are counted.
    """

    def __init__(
        self,
        records: Records,
        form: Form,
        *,
        together: int,
        idle_s: float,
        timeout_s: float,
        metrics: Metrics,
    ) -> None:
        super().__init__(headers={"Content-Type": form.media_type, **form.headers})
        del self.headers["content-length"]
        self._records = records
        self._form = form
        self._together = together
        self._idle_s = idle_s
        self._timeout_s = timeout_s
        self._metrics = metrics
        self._sending_since: float | None = None
        self._stalled = False

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send all records, or stop when the client leaves.

        Raises:
            Exception: Whatever ends the records before the first: nothing has been sent then.
        """
        pump = asyncio.create_task(self._pump(send))
        leaving = asyncio.create_task(left(receive))
        self._watch(pump)
        try:
            await asyncio.wait({pump, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._watching.cancel()
            leaving.cancel()
            pump.cancel()
            await asyncio.gather(pump, leaving, return_exceptions=True)
            await self._records.aclose()
        if self._stalled:
            log.warning("a reader stood still for %g s: its stream is ended", self._idle_s)
        if not pump.cancelled() and (error := pump.exception()) is not None:
            raise error

    async def _pump(self, send: Send) -> None:
        waiting: list[bytes] = []
        begun = self._form.at_once
        if begun:
            await self._begin(send)
        last = time.perf_counter()
        histogram = self._metrics.first_token
        try:
            async with asyncio.timeout(self._timeout_s):
                async for records in self._records:
                    now = time.perf_counter()
                    for _ in records:
                        histogram.observe((now - last) / len(records))
                        histogram = self._metrics.token
                    last = now
                    waiting += map(self._form.encode, records)
                    if not begun:
                        begun = True
                        await self._begin(send)
                    if len(waiting) >= self._together:
                        await self._send(send, b"".join(waiting))
                        waiting.clear()
            end = self._form.end
        except Exception as error:
            if not begun:
                raise
            answer = errors.answer(error)
            if answer is None:
                log.exception("fault in a stream")
            elif self._form.fail is not None:
                log.warning("a stream failed: %s", error)
            answer = answer or errors.INTERNAL
            fail = self._form.fail
            end = fail(answer) if fail else self._form.encode({"error": answer.body})
        if not begun:
            await self._begin(send)
        await self._send(send, b"".join(waiting) + end, more=False)

    async def _begin(self, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )

    async def _send(self, send: Send, part: bytes, *, more: bool = True) -> None:
        self._sending_since = time.monotonic()
        await send({"type": "http.response.body", "body": part, "more_body": more})
        self._sending_since = None

    def _watch(self, pump: asyncio.Task[None]) -> None:
        """End a stream whose reader takes nothing any more: the connection is of no use.

        One timer looks after all sends, where a time-out for each would cost as much as the send.
        """
        now = time.monotonic()
        since = now if self._sending_since is None else self._sending_since
        if now - since >= self._idle_s:
            self._stalled = True
            pump.cancel()
        else:
            wait = since + self._idle_s - now
            self._watching = asyncio.get_running_loop().call_later(wait, self._watch, pump)
