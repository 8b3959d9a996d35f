"""What counts as equal in a key, for values of every kind."""

from __future__ import annotations

import asyncio
import datetime
import functools
import json
import math
import os
import threading
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum, Flag
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cacher.canonical import key
from cacher.errors import UncacheableRequest
from cacher.typedefs import Request, hash  # noqa: A004


def of(value: object) -> str:
    return key(value, (), {})


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.text(st.characters()),  # lone surrogates among them
    st.binary(),
    st.binary().map(bytearray),
    st.dates(),
    st.datetimes(),
    st.timedeltas(),
    st.decimals(),
    st.fractions(),
    st.uuids(),
)
NAMES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary())
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner),
        st.lists(inner).map(tuple),
        st.dictionaries(st.text(), inner),
        st.dictionaries(NAMES, inner),
        st.sets(NAMES),
    ),
    max_leaves=12,
)


def image(value: Any) -> Any:
    """What a value is, as plain Python compares it: an independent statement of the rules."""
    if isinstance(value, dict):
        return "dict", frozenset((image(name), image(item)) for name, item in value.items())
    if isinstance(value, (set, frozenset)):
        return "set", frozenset(map(image, value))
    if isinstance(value, (list, tuple)):
        return type(value), tuple(map(image, value))
    if isinstance(value, float):
        return float, math.isnan(value) or (value, math.copysign(1, value))
    if isinstance(value, complex):
        return complex, image(value.real), image(value.imag)
    if isinstance(value, Decimal):
        return Decimal, str(value)
    return type(value), bytes(value) if isinstance(value, bytearray) else value


@given(VALUES, VALUES)
@example([[1], 2], [[1, 2]])
@example("i1;", 1)
@example(["a", "b"], ["as1:b"])
@example({"a": "b"}, {"as1:b": ""})
@example({1: 2, "a": 3}, {1: 3, "a": 2})
@example("\ud800\udc00", "\U00010000")
def test_keys_are_equal_exactly_where_values_are(one: Any, two: Any) -> None:
    assert (of(one) == of(two)) == (image(one) == image(two))


@given(st.lists(VALUES, max_size=3), st.dictionaries(st.text(), VALUES, max_size=3))
def test_parts_of_a_request_do_not_run_into_each_other(args: list[Any], kwargs: Any) -> None:
    keys = {
        key(None, tuple(args), kwargs),
        key(kwargs, tuple(args), {}),
        key(None, (*args, kwargs), {}),
        key(None, tuple(args), {"kwargs": kwargs}),
        key(None, tuple(args), {}, [("kwargs", kwargs)]),
        key(None, tuple(args), {}, [("arguments", kwargs)]),
        key(None, tuple(args), {}, [("k", "wargs"), ("kwargs", kwargs)]),
    }
    assert len(keys) == 7


@pytest.mark.parametrize("between", ["", "s:", "s1:", ";s:", ";s1:", "\x00", ", ", '", "', ";"])
def test_texts_do_not_run_into_each_other(between: str) -> None:
    assert of(["a", "b"]) != of([f"a{between}b"])
    assert of({"a": "b", "c": "d"}) != of({"a": between.join("bcd")})
    one, other = [(f"b{between}c", "d")], [("b", f"c{between}d")]
    assert key("a", (), {}, one) != key("a", (), {}, other)


@given(st.dictionaries(NAMES, SCALARS))
def test_order_of_entries_does_not_count(value: dict[Any, Any]) -> None:
    assert of(dict(reversed(value.items()))) == of(value)


@given(VALUES)
def test_computing_changes_nothing(value: Any) -> None:
    before = image(value)
    request = Request(kwargs={"value": value, "store": 1}, n=1, request_id="1", namespace=None)
    assert hash(request) == hash(request)
    assert image(request.kwargs["value"]) == before
    assert list(request.kwargs) == ["value", "store"]


class Colour(Enum):
    RED = 1
    BLUE = 2


class Shade(Enum):
    RED = 1


class Access(Flag):
    READ = 1
    WRITE = 2


@dataclass
class Point:
    x: int
    y: Any = None


@dataclass
class Place:
    x: int
    y: Any = None


class Plain:
    def __init__(self, **state: Any) -> None:
        self.__dict__.update(state)


class Slots:
    __slots__ = ("left", "right")

    def __init__(self, left: Any) -> None:
        self.left = left


class Keyed:
    def __init__(self, seen: Any) -> None:
        self.seen, self.lock = seen, threading.Lock()

    def __cacher_key__(self) -> Any:
        return self.seen


class Dumped:
    def __init__(self, value: Any) -> None:
        self.value = value

    def model_dump(self) -> dict[str, Any]:
        return {"value": self.value}


class Tensor:
    """What torch's looks like from here."""

    def __init__(self, values: Any) -> None:
        self.values = np.array(values, np.float32)
        self.dtype, self.shape = "torch.float32", self.values.shape

    def detach(self) -> Tensor:
        return self

    def numpy(self) -> Any:
        return self.values


class Text(str):
    pass


class Title(str):
    pass


class Numbers(list[int]):
    pass


Pair = namedtuple("Pair", "a b")
UTC, EAST = datetime.UTC, datetime.timezone(datetime.timedelta(hours=2))
NAMED = datetime.timezone(datetime.timedelta(0), "London")
NOON = datetime.datetime(2024, 5, 1, 12, tzinfo=UTC)


def numbers(*items: int, note: str = "") -> Numbers:
    made = Numbers(items)
    made.note = note  # type: ignore[attr-defined]
    return made


# Each is unlike all others, and like itself when it is made again.
MAKERS: list[Callable[[], object]] = [
    lambda: Colour.RED, lambda: Colour.BLUE, lambda: Shade.RED, lambda: 1,
    lambda: Access.READ, lambda: Access.READ | Access.WRITE,
    lambda: Point(1), lambda: Point(1, 2), lambda: Point(2, 1), lambda: Place(1),
    lambda: {"x": 1, "y": 2},
    lambda: Plain(x=1, y=2), lambda: Plain(x=1), lambda: Plain(), lambda: SimpleNamespace(x=1),
    lambda: Slots(1), lambda: Slots(2),
    lambda: Keyed(1), lambda: Keyed([1, 2]), lambda: Dumped(1), lambda: Dumped(2),
    lambda: Tensor([1, 2]), lambda: Tensor([1, 3]), lambda: Tensor([[1, 2]]),
    lambda: np.array([1, 2], np.float32), lambda: np.array([1, 2], np.float64),
    lambda: np.array([[1], [2]], np.float32), lambda: np.array([[1, 2], [3, 4]]).T,
    lambda: np.array([[1, 2], [3, 4]]),
    lambda: np.zeros(2, np.float32), lambda: np.zeros(2, np.int32),
    lambda: np.array([int("1" + "0" * 30)], object),
    lambda: np.array([1, "a", None], object), lambda: np.array([1, "b", None], object),
    lambda: np.float64(1), lambda: np.float32(1), lambda: np.int64(1), lambda: 1.0,
    lambda: Text("a"), lambda: Title("a"), lambda: "a",
    lambda: numbers(1), lambda: numbers(1, 2), lambda: [1],
    lambda: numbers(1, note="a"), lambda: Pair(1, 2), lambda: (1, 2),
    lambda: OrderedDict(a=1), lambda: {"a": 1},
    lambda: NOON, lambda: NOON.astimezone(EAST), lambda: NOON.replace(tzinfo=None),
    lambda: NOON.replace(tzinfo=NAMED), lambda: NOON.replace(fold=1),
    lambda: NOON.date(), lambda: NOON.time(), lambda: NOON.timetz(),
    lambda: datetime.timedelta(seconds=1), lambda: datetime.timedelta(days=1),
    lambda: Decimal("1.0"), lambda: Decimal("1.00"), lambda: Decimal("NaN"),
    lambda: Fraction(1, 3), lambda: Fraction(-1, 3), lambda: Fraction(1),
    lambda: UUID(int=1), lambda: UUID(int=2),
    lambda: Path("a/b"), lambda: PureWindowsPath("a/b"), lambda: Path("a"),
    lambda: PureWindowsPath("a"), lambda: "a/b",
    lambda: Plain, lambda: Point, lambda: Colour, lambda: int, lambda: "builtins.int",
    lambda: 10**5000, lambda: -(10**5000), lambda: "\ud800", lambda: "\ufffd", lambda: "?",
]  # fmt: skip


def test_values_of_every_kind_have_keys_of_their_own() -> None:
    keys = [of(make()) for make in MAKERS]
    assert keys == [of(make()) for make in MAKERS]
    shared = [i for i, one in enumerate(keys) if keys.index(one) != i]
    assert shared == []
    assert of(Path("a")) == of(PurePosixPath("a"))
    assert of({1, 2}) == of(frozenset({2, 1}))


HIDDEN: dict[str, Callable[[], object]] = {
    "function": lambda: test_values_of_every_kind_have_keys_of_their_own,
    "lambda": lambda: lambda: None,
    "builtin": lambda: len,
    "method": lambda: [].append,
    "bound method": lambda: Plain().__init__,
    "partial": lambda: functools.partial(print, 1),
    "cached": lambda: functools.cache(print),
    "generator": lambda: (x for x in ()),
    "iterator": lambda: iter([]),
    "file": lambda: open(os.devnull),  # noqa: SIM115
    "lock": threading.Lock,
    "recursive lock": threading.RLock,
    "condition": threading.Condition,
    "event of asyncio": asyncio.Event,
    "local": threading.local,
    "module": lambda: json,
    "object": object,
    "exception": lambda: ValueError("x"),
    "ellipsis": lambda: ...,
}


@pytest.mark.parametrize("name", HIDDEN)
def test_what_may_hide_something_is_refused(name: str) -> None:
    value = HIDDEN[name]()
    with pytest.raises(UncacheableRequest, match=r"^prompt is a "):
        of(value)
    if hasattr(value, "close"):
        value.close()


def test_a_refusal_names_the_place() -> None:
    places: dict[str, Callable[[Any], str]] = {
        "prompt": of,
        "args[1][0]": lambda bad: key(None, ("a", [bad]), {}),
        "kwargs['a'][0]['b']": lambda bad: key(None, (), {"a": [{"b": bad}]}),
        "kwargs[1]": lambda bad: key(None, (), {"a": 1, 1: bad}),
        "kwargs['p'].y": lambda bad: key(None, (), {"p": Point(1, bad)}),
        "kwargs['p'].x.y": lambda bad: key(None, (), {"p": Plain(x=Plain(y=bad))}),
        "kwargs['s']{...}": lambda bad: key(None, (), {"s": {bad}}),
        "tools[0]": lambda bad: key(None, (), {}, [("seed", 1), ("tools", [bad])]),
        "kwargs": lambda bad: key(None, (), bad),
    }
    for place, make in places.items():
        with pytest.raises(UncacheableRequest) as raised:
            make(print)
        assert str(raised.value).startswith(f"{place} is a builtin_function_or_method, ")


def test_what_contains_itself_is_refused() -> None:
    loop: dict[str, Any] = {}
    loop["loop"] = [loop]
    node = Plain()
    node.itself = node  # type: ignore[attr-defined]
    for value in (loop, node):
        with pytest.raises(ValueError, match="contains itself"):
            of(value)
