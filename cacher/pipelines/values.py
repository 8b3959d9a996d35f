"""How a sample becomes bytes, and comes back with the same types.

A text is stored as it is.  Other plain data is JSON, in which an object of one entry whose name
begins with ``$`` stands for what JSON has no notation for: ``{"$tuple": [1, 2]}``.  Nothing that is
read can name a class or run code.
"""

from __future__ import annotations

import json
import math
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any

TEXT, PLAIN = 0, 1  # kinds of values
MAX_DEPTH = 100
_LARGE = 2**63  # integers beyond are written in hexadecimal: Python bounds decimal ones


def encode(sample: object) -> tuple[int, bytes]:
    """Return the kind and the bytes of a sample.

    Raises:
        TypeError: It is none of, and holds something that is none of, None, bool, int, float, str,
            bytes, list, tuple, dict and set; subclasses are none.

    Example:
        >>> from cacher.pipelines.values import decode, encode
        >>> encode("Paris")
        (0, b'Paris')
        >>> decode(*encode(("Paris", 7, {1: b"x"})))
        ('Paris', 7, {1: b'x'})
    """
    if type(sample) is str:
        try:
            return TEXT, sample.encode()
        except UnicodeEncodeError:  # half a character
            pass
    text = json.dumps(to_json(sample), ensure_ascii=False, separators=(",", ":"))
    return PLAIN, text.encode()


def decode(kind: int, data: bytes) -> object:
    """Return a sample, nothing of which is shared with another.

    Raises:
        ValueError: Nothing that `encode` made.
    """
    if kind == TEXT:
        return str(data, "utf-8")
    if kind != PLAIN:
        raise ValueError(f"a value of kind {kind}, which this version does not know")
    try:
        found = json.loads(data)
    except RecursionError:
        raise ValueError("a value nested too deeply") from None
    return from_json(found)


def to_json(sample: object) -> Any:
    """Return what JSON writes for a sample.

    Raises:
        TypeError: As `encode`.
    """
    return _plain(sample, 0)


def from_json(value: Any) -> object:
    """Return the sample that a value read from JSON stands for.

    Raises:
        ValueError: Nothing that `to_json` made.
    """
    try:
        return _sample(value)
    except (AttributeError, KeyError, RecursionError, TypeError) as error:
        raise ValueError(f"no sample that was stored: {error!r}") from None


def _plain(value: object, depth: int) -> Any:
    """Return what JSON writes for a value."""
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is str:
        return _text(value)
    if kind is int:
        return value if -_LARGE <= value < _LARGE else {"$int": hex(value)}  # type: ignore[operator, arg-type]
    if kind is float:
        return value if math.isfinite(value) else {"$float": repr(value)}  # type: ignore[arg-type]
    if kind is bytes:
        return {"$bytes": b64encode(value).decode()}  # type: ignore[arg-type]
    if depth == MAX_DEPTH:
        raise TypeError(f"a sample is nested more than {MAX_DEPTH} deep, and cannot be stored")
    if kind is dict:
        return _entries(value, depth + 1)
    if kind in (list, tuple, set):
        items = [_plain(item, depth + 1) for item in value]  # type: ignore[attr-defined]
        return items if kind is list else {f"${kind.__name__}": items}
    raise TypeError(
        f"a sample that is or holds a {kind.__module__}.{kind.__qualname__} cannot be stored, "
        "allowed: None, bool, int, float, str, bytes, list, tuple, dict, set"
    )


def _text(value: Any) -> Any:
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON would join two halves
        return {"$str": b64encode(value.encode("utf-8", "surrogatepass")).decode()}
    return value


def _entries(value: Any, depth: int) -> Any:
    """Return a dict as an object where all its keys are names, else as pairs."""
    items = [(_plain(key, depth), _plain(item, depth)) for key, item in value.items()]
    if all(type(key) is str and not key.startswith("$") for key, _ in items):
        return dict(items)
    return {"$dict": items}


_MAKERS: dict[str, Callable[[Any], object]] = {
    "$int": lambda text: int(text, 16),
    "$float": float,
    "$bytes": lambda text: b64decode(text, validate=True),
    "$str": lambda text: b64decode(text, validate=True).decode("utf-8", "surrogatepass"),
    "$tuple": lambda items: tuple(map(_sample, items)),
    "$set": lambda items: set(map(_sample, items)),
    "$dict": lambda pairs: {_sample(key): _sample(item) for key, item in pairs},
}


def _sample(value: Any) -> object:
    """Return the value that JSON stands for."""
    kind = type(value)
    if kind is list:
        return [_sample(item) for item in value]
    if kind is not dict:
        return value
    if len(value) == 1:
        (name, inner), *_ = value.items()
        if name.startswith("$"):
            return _MAKERS[name](inner)
    return {name: _sample(item) for name, item in value.items()}
