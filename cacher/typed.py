"""Typed reading of parsed JSON that may hold anything: the right type and range, or an error."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from cacher.checks import shown
from cacher.errors import StateFileError
from cacher.times import seconds_of

REQUIRED: Any = object()
NAMES = {
    dict: "an object", list: "a list", str: "a string", int: "an integer", float: "a number",
    bool: "a boolean", type(None): "null",
}  # fmt: skip
MAX_BRACKETS = 4_000_000  # each can become an object of 64 bytes
MAX_COMMAS = 4_000_000  # each divides two values
PIECE_BYTES = 2**20


def parse(data: bytes) -> dict[str, Any]:
    """Return the object that strict JSON in UTF-8 holds.

    Raises:
        StateFileError: It is something else, or would take too much memory.
    """
    _check_count(data, b"[{", MAX_BRACKETS)
    _check_count(data, b",", MAX_COMMAS)
    try:
        document = json.loads(
            data.decode(), parse_constant=_refuse_constant, parse_float=_finite, parse_int=_integer
        )
    except (ValueError, RecursionError) as error:  # bad UTF-8 and bad JSON are ValueErrors
        raise StateFileError(f"it is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise StateFileError(f"it is {NAMES[type(document)]}, not an object")
    return document


def _check_count(data: bytes, signs: bytes, most: int) -> None:
    """Bound the signs in a text; counting goes piece by piece, so that other threads can run."""
    count = 0
    for at in range(0, len(data), PIECE_BYTES):
        piece = data[at : at + PIECE_BYTES]
        count += sum(piece.count(sign) for sign in signs)
        if count > most:
            raise StateFileError(f"it has more than {most} of {signs.decode()!r}")


def _integer(text: str) -> int:
    """Read an integer; being Python's own function it lets other threads run between two."""
    return int(text)


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is too large for a number")
    return value


def get(document: Mapping[str, Any], key: str, kind: type, default: Any = REQUIRED) -> Any:
    """Return a value of a type; a default stands for null, too."""
    value = document.get(key, default)
    if value is REQUIRED:
        raise StateFileError(f"{key} is missing")
    if (value is default or value is None) and default is not REQUIRED:
        return default
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise StateFileError(f"{key} must be {NAMES[kind]}, not {NAMES[type(value)]}")
    return value


def bounded(
    document: Mapping[str, Any], key: str, low: int, high: int, default: Any = REQUIRED
) -> int:
    """Return an integer from low to high."""
    value: int = get(document, key, int, default)
    if value is not default and not low <= value <= high:
        raise StateFileError(f"{key} is {shown(value)}, allowed: {low} to {high}")
    return value


def objects(document: Mapping[str, Any], key: str, most: int) -> list[dict[str, Any]]:
    """Return a list of at most so many objects; none where the key is missing."""
    items: list[Any] = get(document, key, list, [])
    if len(items) > most or not all(isinstance(item, dict) for item in items):
        raise StateFileError(f"{key} must be a list of at most {most} objects")
    return items


def token_ids(document: Mapping[str, Any], key: str, vocab_size: int) -> list[int]:
    """Return a list of token ids; empty where the key is missing."""
    ids: list[Any] = get(document, key, list, [])
    if not all(type(i) is int and 0 <= i < vocab_size for i in ids):
        raise StateFileError(f"{key} must be a list of token ids from 0 to {vocab_size - 1}")
    return ids


def seconds(document: Mapping[str, Any], key: str, default: Any = REQUIRED) -> float:
    """Return a moment."""
    text = get(document, key, str, default)
    if text is default:
        return default  # type: ignore[no-any-return]
    try:
        return seconds_of(text)
    except ValueError:
        raise StateFileError(f"{key} is {shown(text)}, allowed: YYYY-MM-DDTHH:MM:SSZ") from None
