"""OpenAI's client with a cache of samples behind it, for every provider of the same API.

`AsyncOpenAI` and `OpenAI` stand in for the classes of that name of the `openai` package, which
they use (`pip install 'cacher[openai]'`), with any `base_url`:

    client = AsyncOpenAI(namespace="draft-3", cachedir="./answers", base_url="http://...")
    reply = await client.chat.completions.create(model="small", messages=[...], n=3)

Samples are stored as the JSON that came from the provider, and read back as objects of the package
`openai`; a store never holds, nor runs, anything else.
"""

from __future__ import annotations

import asyncio
import copy
import weakref
from collections.abc import Callable
from inspect import isawaitable
from os import PathLike
from types import SimpleNamespace
from typing import Any

from cacher.errors import MissingExtraError
from cacher.pipelines.wrapper import AsyncWrapper, SyncWrapper, Wrapper, openai_chat_adapter
from cacher.typedefs import Request, Response

#: Fields of a request in prompt form that are arguments of the call.
OPTIONS = (
    "model",
    "temperature",
    "top_p",
    "stop",
    "seed",
    "max_tokens",
    "max_completion_tokens",
    "logprobs",
    "top_logprobs",
)

PLAIN = (type(None), bool, int, float, str, bytes)


def AsyncClient(**options: Any) -> Any:  # noqa: N802 - stands where the class does
    """Return a client of the package `openai`.

    Raises:
        MissingExtraError: The package is not installed.
    """
    try:
        from openai import AsyncOpenAI as Client
    except ImportError:
        raise MissingExtraError(
            "the client of OpenAI's API needs the package openai: pip install 'cacher[openai]'"
        ) from None
    return Client(**options)


class OpenAIModel:
    """Chat completions of a provider as the model of a pipeline.

    A sample is a completion with one choice.  In a pipeline of one's own, give the cache packed
    samples, as `AsyncOpenAI` does.

    Args:
        options: For the client of the package `openai`, as they are.
    """

    def __init__(self, **options: Any) -> None:
        self.client = AsyncClient(**options)
        self._own_connections = "http_client" not in options
        self._loop: weakref.ref[asyncio.AbstractEventLoop] | None = None

    async def request(self, request: Request) -> Response:
        """Make one call for all samples of a request, of either form."""
        kwargs = dict(request.kwargs)
        if request.prompt is not None:
            found = {name: getattr(request, name) for name in OPTIONS}
            kwargs = {name: value for name, value in found.items() if value is not None} | kwargs
            kwargs.setdefault("messages", _messages(request.prompt))
        answer = await self._here().chat.completions.create(*request.args, **kwargs, n=request.n)
        samples = []
        for choice in answer.choices:
            one = copy.copy(answer)
            one.choices = [choice]
            samples.append(copy.deepcopy(one))
        return Response(samples)

    def pack(self, sample: Any) -> Any:
        """Return a sample as plain data; one that is of no known form stays what it is."""
        try:
            return _plain(sample)
        except TypeError:
            return sample

    def unpack(self, data: Any) -> Any:
        """Return the completion that was packed."""
        if not isinstance(data, dict):
            return data
        try:
            from openai.types.chat import ChatCompletion
        except ImportError:
            return _namespace(data)
        return ChatCompletion.construct(**data)

    async def aclose(self) -> None:
        """Close the connections of the client."""
        close = getattr(self._here(), "close", None)
        closing = close() if callable(close) else None
        if isawaitable(closing):
            await closing

    def _here(self) -> Any:
        """The client, with connections of the running loop: those of an ended one only fail."""
        loop = asyncio.get_running_loop()
        moved = self._loop is not None and self._loop() is not loop
        if moved and self._own_connections and _of_sdk(type(self.client)):
            from openai import DefaultAsyncHttpxClient

            self.client = self.client.with_options(http_client=DefaultAsyncHttpxClient())
        self._loop = weakref.ref(loop)
        return self.client


class _Client(Wrapper):
    """What both clients are made of."""

    def __init__(
        self,
        namespace: str = "default",
        cachedir: str | PathLike[str] = "./cache",
        batch_size: int = 1,
        timeout: float | None = None,
        *,
        cache: Any = None,
        max_concurrent_batches: int = 1,
        progress: Callable[[dict[str, Any]], object] | None = None,
        **client_options: Any,
    ) -> None:
        super().__init__(
            OpenAIModel(**client_options),
            namespace,
            cachedir,
            batch_size,
            openai_chat_adapter,
            "online",
            timeout,
            cache=cache,
            max_concurrent_batches=max_concurrent_batches,
            progress=progress,
        )

    async def _cleanup(self) -> None:
        await super()._cleanup()
        await self.model.aclose()


class AsyncOpenAI(_Client, AsyncWrapper):
    """The asynchronous client.

    Args:
        namespace: The namespace of calls that name none.
        cachedir: The folder of the samples.
        batch_size: How many samples wait for each other; the rest of those that wait joins them.
        timeout: How many seconds they do; not a limit for the provider.
        cache: A store in place of the folder's.
        max_concurrent_batches: How many groups of calls run at a time.
        progress: Called with what happens; see the pipelines.
        client_options: For the client of the package `openai`, as they are.

    Raises:
        MissingExtraError: The package `openai` is not installed.

    Example:
        >>> import tempfile
        >>> client = AsyncOpenAI("draft-1", tempfile.mkdtemp(), api_key="k", base_url="http://h/v1")
        >>> client.chat.completions.create
        APIProxy(chat.completions.create)
    """


class OpenAI(_Client, SyncWrapper):
    """The synchronous client: as `AsyncOpenAI`, with calls that return values.

    Example:
        >>> import tempfile
        >>> with OpenAI("draft-1", tempfile.mkdtemp(), api_key="k") as client:
        ...     client.stats()["requests"]
        0
    """


def _messages(prompt: Any) -> Any:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


def _of_sdk(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == "openai"


def _plain(value: Any) -> Any:
    """The plain data of an SDK's object, or of one that only has attributes.

    Raises:
        TypeError: It holds something else.
    """
    kind = type(value)
    if kind in PLAIN:
        return value
    if kind in (list, tuple):
        return [_plain(item) for item in value]
    if kind is dict:
        return {name: _plain(item) for name, item in value.items()}
    if _of_sdk(kind):  # what was sent, under the names it was sent by
        return value.to_dict(mode="json", warnings=False)
    if hasattr(kind, "model_dump"):
        return value.model_dump()
    attributes = getattr(value, "__dict__", None)
    if not attributes or any(name.startswith("_") for name in attributes):
        raise TypeError(f"a {kind.__qualname__} is no plain data")
    return {name: _plain(item) for name, item in attributes.items()}


def _namespace(data: Any) -> Any:
    if isinstance(data, dict):
        return SimpleNamespace(**{name: _namespace(item) for name, item in data.items()})
    return [_namespace(item) for item in data] if isinstance(data, list) else data
