"""What goes through a pipeline: requests and their keys, answers, and what a model must offer."""

from __future__ import annotations

import builtins
import copy
from collections import UserList
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, fields
from functools import wraps
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar, runtime_checkable

from cacher.canonical import key

__all__ = [
    "Batch",
    "BatchRequestModel",
    "Metadata",
    "PromptNamespace",
    "Request",
    "Response",
    "SingleRequestModel",
    "hash",
]

_ABSENT: Any = object()


class _BothForms(type):
    """The class of request classes: what `dataclass` writes for one takes both forms, too.

    A field without a default may not follow one with a default, so that args and kwargs, which
    stand first, cannot have any.  Left out, they are filled in before the written `__init__` runs.
    """

    def __setattr__(cls, name: str, value: Any) -> None:
        if name == "__init__":
            value = _both_forms(value)
        super().__setattr__(name, value)


def _both_forms(init: Any) -> Any:
    @wraps(init)
    def __init__(self: Any, *args: Any, **named: Any) -> None:  # noqa: N807
        if len(args) < 2:
            prompt, kwargs = named.get("prompt"), named.get("kwargs", _ABSENT)
            if not args and "args" not in named:
                named["args"] = _args(prompt, kwargs)
            if kwargs is _ABSENT:
                named["kwargs"] = _kwargs(prompt)
        init(self, *args, **named)

    return __init__


def _args(prompt: object, kwargs: object) -> tuple[()]:
    if prompt is None and kwargs is _ABSENT:
        raise TypeError("a request needs a prompt, or args and kwargs")
    return ()


def _kwargs(prompt: object) -> dict[str, object]:
    if prompt is None:
        raise TypeError("a request without a prompt needs kwargs")
    return {}


@dataclass(frozen=True)
class Request(metaclass=_BothForms):
    """One call of a model, in either of two forms: by the call's arguments, or by a prompt.

    Reading an attribute that it does not have gives None, so that a model may look for options.
    Classes derived from it, themselves frozen dataclasses, may add fields; these are part of the
    key.

    Attributes:
        args: Positional arguments of the client's call; () when left out beside kwargs or prompt.
        kwargs: Its named arguments; {} when left out beside prompt.
        n: How many samples are wanted, 0 or more.
        request_id: What this request is called throughout the experiment.
        namespace: Whose position in the list of samples is read, and moved.
        prompt: The prompt, as a text or a list of messages.
        sample_index: Set on what a model is given: the place that the first sample of its answer
            will have in the list.  No field: it counts neither for equality nor for the key.

    Raises:
        TypeError: Neither form is complete, or n, request_id or namespace is missing.

    Example:
        >>> asked = Request(prompt="Name a river.", n=2, request_id="7", namespace="a")
        >>> asked.kwargs, asked.temperature
        ({}, None)
        >>> call = Request(kwargs={"messages": []}, n=2, request_id="7", namespace="a")
        >>> call.args, call == asked
        ((), False)
    """

    args: Any
    kwargs: Any
    n: int
    request_id: str
    namespace: str | None
    prompt: Any = field(default=None, kw_only=True)
    sample_index: ClassVar[int | None] = None
    _slotted: ClassVar[bool] = False  # whether fields may be outside of the dictionary

    def __init__(
        self,
        args: Any = _ABSENT,
        kwargs: Any = _ABSENT,
        n: int = _ABSENT,
        request_id: str = _ABSENT,
        namespace: str | None = _ABSENT,
        *,
        prompt: Any = None,
    ) -> None:
        if args is _ABSENT:
            args = _args(prompt, kwargs)
        if kwargs is _ABSENT:
            kwargs = _kwargs(prompt)
        if n is _ABSENT or request_id is _ABSENT or namespace is _ABSENT:
            raise TypeError("a request needs n, request_id and namespace")
        self.__dict__.update(  # half the time of setting each through the frozen class
            args=args, kwargs=kwargs, n=n, request_id=request_id, namespace=namespace, prompt=prompt
        )

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._slotted = cls._slotted or "__slots__" in cls.__dict__
        if cls.__dict__.get("__hash__") is None:  # or dataclass() writes one that lists have not
            cls.__hash__ = Request.__hash__  # type: ignore[method-assign]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return None

    def __hash__(self) -> int:
        compared = (getattr(self, part.name) for part in fields(self) if part.compare)
        return builtins.hash(tuple(map(_loose, compared)))

    def hash(self) -> str:
        """Return the key of the request: what the function `hash` returns.

        Example:
            >>> request = Request(prompt="Name a river.", n=1, request_id="1", namespace=None)
            >>> request.hash() == hash(request)
            True
        """
        return hash(self)


AnyRequest = TypeVar("AnyRequest", bound=Request)


def hash(request: Request) -> str:  # noqa: A001 - a documented name
    """Return the key under which the samples of a request are kept: 64 hexadecimal digits.

    It is made from prompt, args, kwargs and the fields that a derived class adds, of which types
    and order count (see `cacher.canonical`), and not from n, request_id and namespace, nor from
    the class, nor from entries of kwargs that do not change what is generated.

    Raises:
        UncacheableRequest: The request holds what no key can stand for, such as a function.
        ValueError: It holds what contains itself.

    Example:
        >>> one = Request(kwargs={"seed": 1, "store": True}, n=1, request_id="1", namespace="a")
        >>> two = Request(kwargs={"seed": 1}, n=5, request_id="2", namespace="b")
        >>> hash(one) == hash(two), len(hash(one))
        (True, 64)
    """
    cls = type(request)
    if cls is Request:
        return key(request.prompt, request.args, request.kwargs)
    added = [(name, getattr(request, name)) for name in _added(cls)]
    return key(request.prompt, request.args, request.kwargs, added)


def derived(request: AnyRequest, **changes: object) -> AnyRequest:
    """Return a copy of a request with other values, faster than `dataclasses.replace`.

    Unlike there, `sample_index` can be set, and is kept; nothing that a class does when a request
    is made happens again.

    Example:
        >>> asked = Request(prompt="Name a river.", n=2, request_id="7", namespace="a")
        >>> piece = derived(asked, n=1, request_id="7_0", sample_index=4)
        >>> piece.n, piece.prompt, piece.sample_index
        (1, 'Name a river.', 4)
    """
    if request._slotted:
        new = copy.copy(request)
        for name, value in changes.items():
            object.__setattr__(new, name, value)
    else:
        new = object.__new__(type(request))
        new.__dict__.update(request.__dict__, **changes)
    return new


def _added(cls: type) -> tuple[str, ...]:
    """The fields that a class adds to those of `Request`, sorted."""
    names: tuple[str, ...] | None = cls.__dict__.get("_added_fields")
    if names is None:
        own = {part.name for part in fields(Request)}
        names = tuple(sorted(part.name for part in fields(cls) if part.name not in own))
        type.__setattr__(cls, "_added_fields", names)
    return names


def _loose(value: Any) -> int:
    """A hash of whatever is in a request: equal where the values are, whether hashable or not."""
    try:
        if isinstance(value, tuple):
            return builtins.hash(tuple(map(_loose, value)))
        if isinstance(value, (list, UserList)):
            return builtins.hash(("list", *map(_loose, value)))
        if isinstance(value, Mapping):
            return builtins.hash(frozenset((name, _loose(value[name])) for name in value))
        if isinstance(value, Set):
            return builtins.hash(frozenset(value))
        return builtins.hash(bytes(value) if isinstance(value, bytearray) else value)
    except TypeError:
        return 0


class Batch(NamedTuple):
    """Requests that go to a model together.

    Example:
        >>> Batch([]).requests
        []
    """

    requests: list[Any]


class Response(NamedTuple):
    """The samples of an answer; what is said of each stands at the same place.

    Attributes:
        data: The samples: any objects.
        cached: Which the model was not called for.
        duplicated: Which shared the prompt of another sample's call.

    Example:
        >>> Response(data=["Rhine", "Po"])
        Response(data=['Rhine', 'Po'], cached=None, duplicated=None)
    """

    data: list[Any]
    cached: list[bool] | None = None
    duplicated: list[bool] | None = None


class Metadata(NamedTuple):
    """What is known of the samples of an answer, beside them.

    Example:
        >>> Metadata(1, [True], [False]).cached
        [True]
    """

    n: int
    cached: list[bool] | None = None
    duplicated: list[bool] | None = None


class PromptNamespace(NamedTuple):
    """A prompt and who reads its samples.

    Example:
        >>> PromptNamespace("Name a river.", "a").namespace
        'a'
    """

    prompt: str
    namespace: str


@runtime_checkable
class SingleRequestModel(Protocol):
    """A model that answers one request at a time.

    Example:
        >>> class Echo(SingleRequestModel):
        ...     async def request(self, request):
        ...         return Response([request.prompt] * request.n)
        >>> isinstance(Echo(), SingleRequestModel), isinstance(Echo(), BatchRequestModel)
        (True, False)
    """

    async def request(self, request: Any) -> Response:
        """Answer with `request.n` samples."""
        ...


@runtime_checkable
class BatchRequestModel(Protocol):
    """A model that answers several requests together.

    Example:
        >>> class Echo(BatchRequestModel):
        ...     async def batch_request(self, batch):
        ...         return [Response([request.prompt]) for request in batch.requests]
        >>> isinstance(Echo(), BatchRequestModel)
        True
    """

    async def batch_request(self, batch: Batch) -> list[Any]:
        """Answer each, in their order; an exception in the list fails its request alone."""
        ...
