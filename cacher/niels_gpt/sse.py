"""Server-sent events, as the chat API sends them."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator

from cacher.server.streaming import named_event


def format_sse_event(event: str, data: object) -> str:
    r"""Return an event: its name, its data as compact JSON in ASCII, a blank line.

    Example:
        >>> from cacher.niels_gpt.sse import format_sse_event
        >>> format_sse_event("done", {"reply": "é"})
        'event: done\\ndata: {"reply":"\\\\u00e9"}\\n\\n'
    """
    return named_event(event, data).decode()


async def stream_sse_events(events: AsyncIterable[tuple[str, object]]) -> AsyncIterator[str]:
    """Give events as they are sent."""
    async for event, data in events:
        yield format_sse_event(event, data)
