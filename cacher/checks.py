"""Checks of arguments: the right type and inside the range, or an exception that says so."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from numbers import Real

from cacher.errors import ParameterError

MAX_INT32 = 2**31 - 1
MAX_INT64 = 2**63 - 1
MAX_JSON_BYTES = 16 * 1024


def shown(value: object) -> str:
    """Return a value for a message; huge integers by their size, which Python prints at any."""
    if isinstance(value, int) and value.bit_length() > 128:
        return f"{'-' if value < 0 else ''}2^{value.bit_length() - 1} or more"
    return f"{value}"


def integer(name: str, value: object, low: int, high: int) -> int:
    """Return an integer from low to high: a Python or NumPy one, not a boolean.

    Raises:
        TypeError: Not an integer.
        ParameterError: Outside the range.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}")
    number = int(value.__index__())
    if not low <= number <= high:
        raise ParameterError(f"{name} is {shown(number)}, allowed: {low} to {high}")
    return number


def number(name: str, value: object, low: float, high: float, *, open_low: bool = False) -> float:
    """Return a number from low (or above it) to high: a Python or NumPy one, not a boolean.

    Raises:
        TypeError: Not a number.
        ParameterError: Outside the range, or NaN.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
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


def json_object(name: str, value: object) -> dict[str, object]:
    """Return a copy, as a file would give it back, of an object of plain JSON up to 16 KiB.

    Raises:
        TypeError: Not a mapping with string keys, or not JSON.
        ParameterError: Too large, nested too deeply, or with a number that is not finite.
    """
    import json  # not needed to import the package

    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise TypeError(f"{name} must be a mapping with string keys, got {type(value).__name__}")
    try:
        text = json.dumps(dict(value), allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise ParameterError(f"{name} cannot be written as JSON: {error}") from None
    if len(text) > MAX_JSON_BYTES:
        raise ParameterError(f"{name} takes {len(text)} bytes as JSON, allowed: {MAX_JSON_BYTES}")
    copy: dict[str, object] = json.loads(text)
    return copy
