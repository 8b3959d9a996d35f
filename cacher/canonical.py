"""One text for each value, the same in every process: what the key of a request is made from.

`key` writes the parts of a request as one text and returns its SHA-256.  Two values have the same
text exactly when they are of the same types and equal, all the way down: 1, 1.0 and True differ, a
list and a tuple, 0.0 and -0.0, a list and the list in another order.  The order of the entries of a
dict and of the members of a set does not count, nor which of the two kinds of sets it is; all NaN
are one.

    None n    True t    False f    int i<hex>;    float r<repr>;    complex c<repr>,<repr>;
    str s<characters>:<text>    bytes b<bytes>:<each as one character>    bytearray y, as bytes
    list [...]    tuple (...)    set <...>, sorted    dict {...}, sorted by key

Each text says itself where it ends, so that no two sequences of values are written alike.  What is
not built in begins with a letter of its own, and the name of its class; see `_other`.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from hashlib import sha256
from pathlib import PurePath, PureWindowsPath
from typing import Any
from uuid import UUID

from cacher.checks import shown
from cacher.errors import UncacheableRequest

#: Arguments of a call that do not change what is generated.  The reference of this API spells one
#: of them with a colon, which is left out as well.
IGNORED = frozenset(
    {
        "prompt_cache:retention",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "stream",
        "stream_options",
    }
)

_FORMAT = "cacher-key-1"  # changes with what is written below, or old keys would come to mean more
_POINTER = tuple.__itemsize__
# Where objects come from that stand for something that lives: files, threads, locks.
_LIVE = {"_io", "_thread", "asyncio", "concurrent", "io", "multiprocessing", "threading"}


class _RefusedError(Exception):
    """A value has no text.  Each container on the way out adds a step to it, innermost first."""

    def __init__(self, value: object) -> None:
        super().__init__(f"a {type(value).__qualname__}")
        self.steps: list[str] = []


def key(
    prompt: object, args: object, kwargs: object, added: Iterable[tuple[str, object]] = ()
) -> str:
    """Return the key of a request: 64 hexadecimal digits.

    Args:
        prompt: Its prompt, or None.
        args: The positional arguments of the call.
        kwargs: The named ones; those of `IGNORED` are left out.
        added: Further fields, by name, always in the same order.

    Raises:
        UncacheableRequest: A part is nothing that a key can stand for, such as a function.
        ValueError: A part contains itself.

    Example:
        >>> key("Name a river.", (), {})[:8]
        'e3a6c7be'
    """
    place = "prompt"
    try:
        text = _FORMAT + _text(prompt)
        place = "args"
        text += _text(args)
        place = "kwargs"
        if type(kwargs) is dict or isinstance(kwargs, Mapping):
            if not IGNORED.isdisjoint(kwargs):
                kwargs = {name: kwargs[name] for name in kwargs if name not in IGNORED}
            text += _dict(kwargs)
        else:
            text += _text(kwargs)
        for place, value in added:
            text += _str(place) + _text(value)
    except _RefusedError as refused:
        raise UncacheableRequest(
            f"{place}{''.join(reversed(refused.steps))} is {refused}, which no key can stand for; "
            "allowed: plain data, dataclasses, arrays, and objects with __cacher_key__()"
        ) from None
    except RecursionError:
        raise ValueError(f"{place} contains itself, or is nested too deeply for a key") from None
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _text(value: object) -> str:
    return _EXACT.get(type(value), _other)(value)


def _str(value: str) -> str:
    return f"s{len(value)}:{value}"


def _bytes(value: bytes) -> str:
    return f"b{len(value)}:{value.decode('latin-1')}"


def _items(value: Iterable[object]) -> str:
    texts = []
    item: object = None
    try:
        for item in value:
            kind = type(item)
            if kind is str:
                texts.append(f"s{len(item)}:{item}")  # type: ignore[arg-type]
            else:
                texts.append(_EXACT.get(kind, _other)(item))
    except _RefusedError as refused:
        refused.steps.append(f"[{len(texts)}]")
        raise
    return "".join(texts)


def _set(value: Iterable[object]) -> str:
    try:
        return f"<{''.join(sorted(map(_text, value)))}>"
    except _RefusedError as refused:
        refused.steps.append("{...}")
        raise


def _dict(value: Mapping[Any, object], step: str = "[{!r}]") -> str:
    try:
        names = sorted(value)
    except TypeError:  # names of several types
        return _mixed(value)
    texts = []
    name: object = None
    try:
        for name in names:
            if type(name) is not str:
                return _mixed(value)
            item = value[name]
            kind = type(item)
            if kind is str:
                texts.append(f"s{len(name)}:{name}s{len(item)}:{item}")  # type: ignore[arg-type]
            else:
                texts.append(f"s{len(name)}:{name}{_EXACT.get(kind, _other)(item)}")
    except _RefusedError as refused:
        refused.steps.append(step.format(name))
        raise
    return f"{{{''.join(texts)}}}"


def _mixed(value: Mapping[Any, object]) -> str:
    """The text of a dict of which not all names are plain strings."""
    entries = []
    name: object = None
    try:
        for name, item in value.items():
            entries.append((_text(name), _text(item)))
    except _RefusedError as refused:
        refused.steps.append(f"[{shown(name)}]")
        raise
    return f"{{{''.join(name + item for name, item in sorted(entries))}}}"


def _clock(value: datetime.datetime | datetime.time) -> str:
    return f"T{_str(value.isoformat())}{value.fold}{_text(value.tzname())}"


def _path(value: PurePath) -> str:
    return f"P{'w' if isinstance(value, PureWindowsPath) else 'p'}{_str(str(value))}"


def _class(value: type) -> str:
    return f"C{_name(value)}"


def _name(cls: type) -> str:
    return _str(f"{cls.__module__}.{cls.__qualname__}")


#: Exact class -> what writes a value of it.
_EXACT: dict[type, Callable[[Any], str]] = {
    type(None): lambda _: "n",
    bool: lambda value: "t" if value else "f",
    int: lambda value: f"i{value:x};",
    float: lambda value: f"r{value!r};",
    complex: lambda value: f"c{value.real!r},{value.imag!r};",
    str: _str,
    bytes: _bytes,
    bytearray: lambda value: f"y{_bytes(value)}",
    list: lambda value: f"[{_items(value)}]",
    tuple: lambda value: f"({_items(value)})",
    set: _set,
    frozenset: _set,
    dict: _dict,
    datetime.datetime: _clock,
    datetime.time: _clock,
    datetime.date: lambda value: f"T{_str(value.isoformat())}",
    datetime.timedelta: lambda value: f"W{value.days},{value.seconds},{value.microseconds};",
    Decimal: lambda value: f"N{_str(str(value))}",
    Fraction: lambda value: f"F{value.numerator:x}/{value.denominator:x};",
    UUID: lambda value: f"U{value.hex}",
    type: _class,
}


def _other(value: Any) -> str:
    """The text of a value of no class above, by the first of these that it is."""
    cls = type(value)
    if isinstance(value, type):
        return _class(value)
    if hasattr(cls, "__cacher_key__"):
        return f"K{_text(value.__cacher_key__())}"
    if isinstance(value, Enum):
        return f"E{_name(cls)}{_text(value.value)}"
    if hasattr(cls, "__dataclass_fields__"):
        there = {field.name: getattr(value, field.name) for field in fields(value)}
        return f"D{_name(cls)}{_dict(there, '.{}')}"
    if hasattr(cls, "model_dump"):
        return f"M{_name(cls)}{_text(value.model_dump())}"
    becomes_bytes = hasattr(cls, "tobytes") or hasattr(cls, "numpy")
    if becomes_bytes and hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"A{_name(cls)}{_array(value)}"
    if isinstance(value, PurePath):
        return _path(value)
    for base in cls.__mro__[1:]:
        if base in _EXACT:
            return f"S{_name(cls)}{_EXACT[base](value)}{_dict(_state(value), '.{}')}"
    return f"O{_name(cls)}{_dict(_own(value), '.{}')}"


def _array(value: Any) -> str:
    """The type, the shape and the contents of an array, or of a tensor that can become one."""
    kind = f"{_str(str(value.dtype))}{_text(tuple(map(int, value.shape)))}"
    if getattr(value.dtype, "hasobject", False):  # its bytes are addresses
        return kind + _text(value.tolist())
    if not hasattr(value, "tobytes"):
        for step in ("detach", "cpu", "numpy"):  # of a gradient, and of a device
            value = getattr(value, step)() if hasattr(value, step) else value
    return kind + _bytes(value.tobytes())


def _own(value: object) -> dict[str, object]:
    """What an object holds, which must be all in its dictionary and slots.

    One whose class is written in C, or derived from such a class, may hold more that cannot be
    seen: a function, a module, a partial.  It shows in the size.
    """
    cls = type(value)
    slots = [base.__dict__.get("__slots__", ()) for base in cls.__mro__]
    named = sum(1 if isinstance(names, str) else len(tuple(names)) for names in slots)
    seen = object.__basicsize__ + (2 + named) * _POINTER  # two for the dictionary and weak links
    if (
        cls.__basicsize__ > seen
        or not (named or hasattr(value, "__dict__"))
        or any(base.__module__.partition(".")[0] in _LIVE for base in cls.__mro__)
    ):
        raise _RefusedError(value)
    return _state(value)


def _state(value: object) -> dict[str, object]:
    state = object.__getstate__(value)
    parts = state if isinstance(state, tuple) else (state,)
    return {name: item for part in parts if part for name, item in part.items()}
