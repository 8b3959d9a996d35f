"""Clients that look like a provider's own, with a pipeline and a cache of samples behind them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Coroutine
from itertools import count
from os import PathLike
from types import SimpleNamespace, TracebackType
from typing import Any, TypeVar

from cacher.checks import choice, string
from cacher.pipelines.background import BackgroundLoop
from cacher.typedefs import Batch, Metadata, Request, Response
from cacher.typedefs import hash as default_hash

Self = TypeVar("Self", bound="Wrapper")
Adapter = Callable[[Response], Any]

ID_DIGITS = 12  # of the ids made here: as texts, they sort in the order of the calls


def default_adapter(response: Response) -> Any:
    """Return the sample of an answer if it is one, else the list of them.

    Example:
        >>> default_adapter(Response(["Rhine"])), default_adapter(Response(["Rhine", "Po"]))
        ('Rhine', ['Rhine', 'Po'])
    """
    return response.data[0] if len(response.data) == 1 else response.data


def openai_chat_adapter(response: Response) -> Any:
    """Return one chat completion with the choices of all samples, numbered from 0.

    Everything else is that of the first sample; without samples there is an empty list of choices
    and nothing else.
    """
    joined = _joined(response.data, "choices")
    for index, chosen in enumerate(joined.choices):
        if isinstance(chosen, dict):
            chosen["index"] = index
        else:
            chosen.index = index
    return joined


def gemini_chat_adapter(response: Response) -> Any:
    """Return one answer with the candidates of all samples; all else is that of the first."""
    return _joined(response.data, "candidates")


def _joined(samples: list[Any], part: str) -> Any:
    if not samples:
        return SimpleNamespace(**{part: []})
    joined = copy.copy(samples[0])
    setattr(joined, part, [getattr(sample, part)[0] for sample in samples])
    return copy.deepcopy(joined)


class APIProxy:
    """Whatever is asked of it leads to one function: `proxy.chat.completions.create(...)`.

    Example:
        >>> proxy = APIProxy(lambda *args, **named: (args, named))
        >>> proxy.messages.create("a", b=1)
        (('a',), {'b': 1})
    """

    def __init__(self, fn: Callable[..., Any], path: tuple[str, ...] = ()) -> None:
        self._fn = fn
        self._path = path

    def __getattr__(self, name: str) -> APIProxy:
        if name.startswith("_"):
            raise AttributeError(f"a client has no attribute {'.'.join((*self._path, name))!r}")
        return APIProxy(self._fn, (*self._path, name))

    def __call__(self, *args: Any, **named: Any) -> Any:
        """Call the function, unless the chain leads to embeddings."""
        if self._path[-2:] == ("embeddings", "create"):
            raise NotImplementedError("embeddings.create: completions only go through a cache")
        return self._fn(*args, **named)

    def __repr__(self) -> str:
        return f"APIProxy({'.'.join(self._path)})"


class Wrapper:
    """A client for completions in front of a pipeline; any chain of attributes leads to its call.

    A model whose samples are no plain data may have two methods that the samples go through on
    their way into the store and back, `pack(sample)` and `unpack(data)`.

    Args:
        model: What answers: a `SingleRequestModel`, or for the local pipelines a
            `BatchRequestModel`; its `hash(request)`, if it has one, makes the keys.
        namespace: The namespace of calls that name none.
        cachedir: The folder of the samples, where `cache` is not given.
        batch_size: How many samples go to the model together, where more are waiting; the "online"
            pipeline takes what is there.
        response_adapter: What makes the result of a call of the samples of a `Response`.
        pipeline: "online" (`OnlineAPI`), "local" (`LocalAPI`) or "ordered" (`OrderedLocalAPI`).
        timeout: How many seconds a group waits to be filled; None and 0: not at all.
        cache: A store in place of the folder's.
        max_concurrent_batches: How many groups the model has at a time.
        progress: Called with what happens; see the pipelines.

    Raises:
        ParameterError: No such pipeline.

    Attributes:
        pipeline: The pipeline object.
        chat: Where chains begin, as any other name does.
    """

    def __init__(
        self,
        model: Any = None,
        namespace: str = "default",
        cachedir: str | PathLike[str] = "./cache",
        batch_size: int = 1,
        response_adapter: Adapter = default_adapter,
        pipeline: str = "online",
        timeout: float | None = None,
        *,
        cache: Any = None,
        max_concurrent_batches: int = 1,
        progress: Callable[[dict[str, Any]], object] | None = None,
    ) -> None:
        from cacher.pipelines import Cache, LocalAPI, OnlineAPI, OrderedLocalAPI

        kind = choice("pipeline", pipeline, "online", "local", "ordered")
        self.namespace = string("namespace", namespace)
        self.cachedir = cachedir
        self.batch_size = batch_size
        self.model = model
        self.response_adapter = response_adapter
        self.hash: Callable[[Any], str] = getattr(model, "hash", default_hash)
        self.cache = Cache(cachedir) if cache is None else cache
        self._unpack: Callable[[Any], Any] = getattr(model, "unpack", lambda sample: sample)
        self._ids = count()
        behind = _Packing(model) if hasattr(model, "pack") else model
        common: dict[str, Any] = {
            "hash": self.hash,
            "timeout": 0 if timeout is None else timeout,
            "progress": progress,
        }
        made: Any = {"online": OnlineAPI, "local": LocalAPI, "ordered": OrderedLocalAPI}[kind]
        if kind != "local":  # all that waits goes in one group, which is then put in order
            common["allow_batch_overflow"] = True
        if kind == "ordered":
            sizes = {"collection_batch_size": batch_size, "hardware_batch_size": batch_size}
        else:
            sizes = {"batch_size": batch_size, "max_concurrent_batches": max_concurrent_batches}
        try:
            self.pipeline: Any = made(behind, self.cache, **sizes, **common)
        except BaseException:
            if cache is None:
                self.cache.close()
            raise
        self.chat = APIProxy(self._create, ("chat",))

    def __getattr__(self, name: str) -> APIProxy:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return APIProxy(self._create, (name,))

    def stats(self) -> dict[str, int]:
        """Return the counters of the pipeline."""
        counters: dict[str, int] = self.pipeline.stats()
        return counters

    def _create(self, *args: Any, **named: Any) -> Any:
        raise NotImplementedError("use AsyncWrapper or SyncWrapper")

    def _number(self, request_id: str | None) -> str:
        return f"{next(self._ids):0{ID_DIGITS}}" if request_id is None else request_id

    async def _answer(
        self,
        args: tuple[Any, ...],
        named: dict[str, Any],
        namespace: str | None,
        request_id: str,
        metadata: bool,
    ) -> Any:
        if named.get("stream"):
            raise NotImplementedError("stream=True: only whole answers go through a cache")
        kwargs = {name: value for name, value in named.items() if name != "stream"}
        n = _take_n(kwargs)
        request = Request(args, kwargs, n, request_id, namespace or self.namespace)
        answer = await self.pipeline.request(request)
        samples = [self._unpack(sample) for sample in answer.data]
        result = self.response_adapter(Response(samples, answer.cached, answer.duplicated))
        return (result, Metadata(n, answer.cached, answer.duplicated)) if metadata else result

    async def _cleanup(self) -> None:
        await self.pipeline.cleanup()


class AsyncWrapper(Wrapper):
    """A client whose calls are awaited; see `Wrapper`."""

    def _create(
        self,
        *args: Any,
        namespace: str | None = None,
        request_id: str | None = None,
        metadata: bool = False,
        **named: Any,
    ) -> Coroutine[Any, Any, Any]:
        # Numbered now, not when it first runs: ids are in the order of the calls.
        return self._answer(args, named, namespace, self._number(request_id), metadata)

    async def close(self) -> None:
        """Answer what was asked, then take no more."""
        await self._cleanup()

    aclose = close

    async def __aenter__(self: Self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._cleanup()


class SyncWrapper(Wrapper):
    """A client whose calls return values, from any thread, inside a running event loop or not.

    The pipeline runs in a thread of its own from the first call on; see `Wrapper`.
    """

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._loop = BackgroundLoop()

    def _create(
        self,
        *args: Any,
        namespace: str | None = None,
        request_id: str | None = None,
        metadata: bool = False,
        **named: Any,
    ) -> Any:
        number = self._number(request_id)
        return self._loop.run(lambda: self._answer(args, named, namespace, number, metadata))

    def close(self) -> None:
        """Answer what was asked, then take no more, and end the thread."""
        self._loop.close(self._cleanup)

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _take_n(kwargs: dict[str, Any]) -> int:
    """Remove how many samples are wanted from the arguments of a call, and return it."""
    n: Any = None
    config: Any = kwargs.get("config")
    if "n" in kwargs:
        n = kwargs.pop("n")
    elif hasattr(config, "candidate_count"):
        n = config.candidate_count
        kwargs["config"] = copy.copy(config)
        kwargs["config"].candidate_count = None
    elif "num_return_sequences" in kwargs:
        n = kwargs.pop("num_return_sequences")
    return 1 if n is None else n


class _Packing:
    """A model whose samples are packed on their way into the pipeline."""

    def __init__(self, model: Any) -> None:
        self._model = model
        if hasattr(model, "request"):
            self.request = self._request
        if hasattr(model, "batch_request"):
            self.batch_request = self._batch_request

    async def _request(self, request: Any) -> Any:
        return self._packed(await self._model.request(request))

    async def _batch_request(self, batch: Batch) -> list[Any]:
        return [self._packed(answer) for answer in await self._model.batch_request(batch)]

    def _packed(self, answer: Any) -> Any:
        if not isinstance(answer, Response):
            return answer  # which the pipeline judges
        return answer._replace(data=[self._model.pack(sample) for sample in answer.data])
