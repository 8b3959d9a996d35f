"""Checks of arguments: the right type and inside the range, or an exception that says so."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from math import inf
from numbers import Real

from cacher.errors import ParameterError

MAX_INT32 = 2**31 - 1
MAX_INT64 = 2**63 - 1
MAX_UINT64 = 2**64 - 1
MAX_THREADS = 256
MAX_JSON_BYTES = 16 * 1024
MAX_SHOWN = 80  # characters of a value in a message
MODEL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")


def shown(value: object) -> str:
    """Return a value for a message: one short line, whatever the value is."""
    try:
        text = repr(value) if isinstance(value, str) else str(value)
    except ValueError:  # Python prints no integer of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."


def integer(
    name: str,
    value: object,
    low: int,
    high: int,
    *,
    error: type[ParameterError] = ParameterError,
) -> int:
    """Return an integer from low to high: a Python or NumPy one, not a boolean.

    Raises:
        TypeError: Not an integer.
        ParameterError: Outside the range; `error` says which kind of it.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}")
    number = int(value.__index__())
    if not low <= number <= high:
        raise error(f"{name} is {shown(number)}, allowed: {low} to {high}")
    return number


def thread_count(threads: object) -> int:
    """Return a number of threads for the core: 1 to 256, and 0 for None, one for each core.

    Raises:
        TypeError: Not an integer.
        ParameterError: Outside the range.
    """
    return 0 if threads is None else integer("threads", threads, 1, MAX_THREADS)


def inclusive(name: str, value: object, n: int, *, error: type[ParameterError]) -> range:
    """Return the indices from first to last of a pair, both included; last is clipped to n - 1.

    Raises:
        TypeError: Not a list or tuple of integers.
        ParameterError: Not two integers with 0 <= first <= last; `error` when first is n or more.
    """
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{name} must be a pair of integers, got {type(value).__name__}")
    if len(value) != 2:
        raise ParameterError(f"{name} has {len(value)} entries, allowed: first and last")
    first = integer(f"the first of {name}", value[0], 0, MAX_INT64)
    last = integer(f"the last of {name}", value[1], first, MAX_INT64)
    if first >= n:
        raise error(f"the first of {name} is {first}, allowed: 0 to {n - 1}")
    return range(first, min(last, n - 1) + 1)


def number(name: str, value: object, low: float, high: float, *, open_low: bool = False) -> float:
    """Return a number from low (or above it) to high: a Python or NumPy one, not a boolean.

    Raises:
        TypeError: Not a number.
        ParameterError: Outside the range, or NaN.
    """
    if isinstance(value, bool) or not isinstance(value, (float, Real)):  # a float is found sooner
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    try:
        plain = float(value)
    except OverflowError:
        plain = inf
    if not (low <= plain <= high) or (open_low and plain == low):
        raise ParameterError(
            f"{name} is {shown(value)}, allowed: {'above ' if open_low else ''}{low:g} to {high:g}"
        )
    return plain


def boolean(name: str, value: object) -> bool:
    """Return True or False.

    Raises:
        TypeError: Something else.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {type(value).__name__}")
    return value


def string(name: str, value: object) -> str:
    """Return a string.

    Raises:
        TypeError: Not a string.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {type(value).__name__}")
    return value


def choice(name: str, value: object, *allowed: str) -> str:
    """Return a string that is one of those allowed.

    Raises:
        TypeError: Not a string.
        ParameterError: Another string.
    """
    if string(name, value) not in allowed:
        words = ", ".join(f'"{word}"' for word in allowed)
        raise ParameterError(f"{name} is {shown(value)}, allowed: {words}")
    return str(value)


def model_id(name: str, value: object) -> str:
    """Return a well-formed model id.

    Raises:
        TypeError: Not a string.
        ParameterError: Characters that are not allowed, or a ``..`` segment.
    """
    text = string(name, value)
    if not MODEL_ID.fullmatch(text) or ".." in text.split("/"):
        raise ParameterError(
            f"{name} is {shown(text)}, allowed: 1 to 200 letters, digits, '.', '_', '/', '-', "
            "the first a letter or digit, and no '..' segment"
        )
    return text


class JsonObject(Mapping[str, object]):
    """Plain JSON under string keys, up to 16 KiB; immutable, so that states can share it.

    Each value is kept as its JSON text: what is read out is a copy, as a file would give it back.

    Raises:
        TypeError: Not a mapping with string keys, or not JSON.
        ParameterError: Too large, nested too deeply, or with a number that is not finite.
    """

    __slots__ = ("_texts",)

    def __init__(self, name: str, value: object) -> None:
        self._texts: dict[str, str] = {}
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise TypeError(
                f"{name} must be a mapping with string keys, got {type(value).__name__}"
            )
        if not value:
            return
        import json  # not needed to import the package

        try:
            text = json.dumps(dict(value), allow_nan=False)
        except TypeError as error:
            raise TypeError(f"{name} cannot be written as JSON: {error}") from None
        except (ValueError, RecursionError) as error:
            raise ParameterError(f"{name} cannot be written as JSON: {error}") from None
        if len(text) > MAX_JSON_BYTES:
            raise ParameterError(
                f"{name} takes {len(text)} bytes as JSON, allowed: {MAX_JSON_BYTES}"
            )
        self._texts = {key: json.dumps(item) for key, item in json.loads(text).items()}

    def __getitem__(self, key: str) -> object:
        import json

        item: object = json.loads(self._texts[key])
        return item

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)

    def __hash__(self) -> int:
        return hash(frozenset(self._texts))  # of the keys: 1 and 1.0 are equal values

    def __repr__(self) -> str:
        return repr(dict(self))
