"""JSON as it is sent: floats read back to the same bits, arrays go without lists between."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import cast

import orjson
from starlette.responses import Response

JSON = "application/json"
LARGE = 20_000  # values, which take a few milliseconds to write


def dumps(value: object, option: int = 0) -> bytes:
    """Return JSON of plain values, records, and NumPy arrays.

    Args:
        value: What to write.
        option: More options of orjson.
    """
    return orjson.dumps(value, _plain, orjson.OPT_SERIALIZE_NUMPY | option)


async def json_response(value: object) -> Response:
    """Return a JSON answer; a large one is written in a thread, where others get their turns."""
    if _size(value) <= LARGE:
        return Response(dumps(value), media_type=JSON)
    return Response(await asyncio.to_thread(_joined, value), media_type=JSON)


def _size(value: object) -> int:
    """About how many numbers and short texts it holds; of a list the first item speaks for all."""
    if isinstance(value, dict):
        return sum(map(_size, value.values()))
    if isinstance(value, (list, tuple)):
        return len(value) * (1 + _size(value[0])) if value else 1
    fields: tuple[str, ...] = getattr(value, "__slots__", ())
    if fields:
        return sum(_size(getattr(value, name)) for name in fields)
    return int(getattr(value, "size", 1))


def _joined(value: object) -> bytes:
    return b"".join(_parts(value))


def _parts(value: object) -> Iterator[bytes]:
    """Write a piece at a time: nobody else can run while orjson does."""
    if _size(value) <= LARGE:
        yield dumps(value)
    elif isinstance(value, dict):
        for i, (key, item) in enumerate(value.items()):
            yield (b"," if i else b"{") + dumps(key) + b":"
            yield from _parts(item)
        yield b"}"
    elif isinstance(value, list) or getattr(value, "ndim", 0) > 0:
        items = cast(list[object], value)
        together = LARGE // (1 + _size(items[0]))
        for i in range(0, len(items), together or 1):
            yield b"," if i else b"["
            if together:
                yield dumps(items[i : i + together])[1:-1]
            else:
                yield from _parts(items[i])
        yield b"]"
    else:
        yield dumps(value)


def _plain(value: object) -> object:
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return value._asdict()
    if hasattr(value, "tolist"):  # an array whose numbers do not lie side by side
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no JSON")
