"""Stages put together: for a provider behind a network, and for a model on this machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cacher import typedefs
from cacher.checks import boolean
from cacher.pipelines.batcher import AsyncBatcher
from cacher.pipelines.counters import Counters, Progress
from cacher.pipelines.deduplicator import AsyncDeduplicator
from cacher.pipelines.portion import Answer, Done, Portion
from cacher.pipelines.reorderer import RequestReorderer
from cacher.pipelines.sample_cache import AsyncCacher
from cacher.pipelines.stage import Front

Hash = Callable[[Any], str]


class _Assembly(Front):
    """Stages with one set of numbers; requests go to the first."""

    _first: AsyncBatcher | AsyncCacher

    def _assemble(
        self, first: AsyncBatcher | AsyncCacher, progress: Progress | bool | None, *stages: Any
    ) -> None:
        self._first = first
        self._counters = Counters(progress)
        for stage in (first, *stages):
            stage._share(self._counters)

    async def serve(self, portions: list[Portion]) -> list[Answer]:
        return await self._first.serve(portions)

    def enter(self, portion: Portion, done: Done, whom: Any) -> object:
        return self._first.enter(portion, done, whom)

    def _leave(self) -> None:
        """Forget nothing: the stages do."""


class OnlineAPI(_Assembly):
    """For a model behind a network: batcher, reorderer, deduplicator, sample cache, model.

    Requests that wait together are put into an order that does not depend on who came first, equal
    prompts become one call, and only samples that the cache does not have are bought.

    Attributes:
        batcher: The stage that requests come to.
        reorderer: The next.
        deduplicator: The next.
        cached_model: The last, before the model.

    Example:
        >>> import asyncio
        >>> from cacher.pipelines import OnlineAPI
        >>> from cacher.typedefs import Request, Response
        >>> class Model:
        ...     async def request(self, request):
        ...         start = request.sample_index
        ...         return Response([f"sample {start + i}" for i in range(request.n)])
        >>> async def main():
        ...     async with OnlineAPI(Model(), {}, batch_size=8, timeout=0) as api:
        ...         asked = [Request(prompt="p", n=1, request_id=id, namespace="x") for id in "ba"]
        ...         answers = await asyncio.gather(*map(api.request, asked))
        ...         return [answer.data for answer in answers]
        >>> asyncio.run(main())
        [['sample 1'], ['sample 0']]
    """

    def __init__(
        self,
        model: Any,
        cache: Any,
        batch_size: int,
        hash: Hash | float | None = typedefs.hash,  # noqa: A002 - a documented name
        timeout: float | None = 30,
        allow_batch_overflow: bool = False,
        correctness: bool = False,
        *,
        max_concurrent_batches: int = 1,
        on_store_error: str = "deliver",
        use_model_batch: bool = False,
        progress: Progress | bool | None = None,
    ) -> None:
        """Put the stages together; see `AsyncBatcher`, `AsyncDeduplicator` and `AsyncCacher`.

        Raises:
            TypeError: The model cannot be asked, or an argument is of the wrong type.
            ParameterError: An argument is outside its range.
        """
        hash, timeout = _hash_and_timeout(hash, timeout)  # noqa: A001
        self.model = model
        self.cached_model = AsyncCacher(
            model, cache, hash, on_store_error=on_store_error, use_model_batch=use_model_batch,
            progress=False,
        )  # fmt: skip
        self.deduplicator = AsyncDeduplicator(
            self.cached_model, boolean("correctness", correctness), hash
        )
        self.reorderer = RequestReorderer(self.deduplicator)
        self.batcher = AsyncBatcher(
            self.reorderer, batch_size, timeout, allow_batch_overflow=allow_batch_overflow,
            max_concurrent_batches=max_concurrent_batches, progress=False,
        )  # fmt: skip
        self._assemble(self.batcher, progress, self.cached_model)

    async def cleanup(self, cancel: bool = False) -> None:  # noqa: D102 - as in Front
        self._closed = True
        await self.batcher.cleanup(cancel)
        await self.cached_model.cleanup(cancel)


class LocalAPI(_Assembly):
    """For a model on this machine: sample cache, batcher, model.

    What the cache has is answered without waiting for a group.

    Attributes:
        cacher: The stage that requests come to.
        batcher: The next, before the model.

    Example:
        >>> import asyncio
        >>> from cacher.pipelines import LocalAPI
        >>> from cacher.typedefs import Request, Response
        >>> class Model:
        ...     async def batch_request(self, batch):
        ...         return [Response([request.prompt.upper()]) for request in batch.requests]
        >>> async def main():
        ...     async with LocalAPI(Model(), {}, batch_size=8, timeout=0) as api:
        ...         asked = Request(prompt="p", n=1, request_id="1", namespace="x")
        ...         return await api.request(asked)
        >>> asyncio.run(main()).data
        ['P']
    """

    def __init__(
        self,
        model: Any,
        cache: Any,
        batch_size: int,
        hash: Hash | float | None = typedefs.hash,  # noqa: A002 - a documented name
        timeout: float | None = 30,
        allow_batch_overflow: bool = False,
        *,
        max_concurrent_batches: int = 1,
        isolate_failures: bool = True,
        on_store_error: str = "deliver",
        progress: Progress | bool | None = None,
    ) -> None:
        """Put the stages together; see `AsyncBatcher` and `AsyncCacher`.

        Raises:
            TypeError: The model cannot be asked, or an argument is of the wrong type.
            ParameterError: An argument is outside its range.
        """
        hash, timeout = _hash_and_timeout(hash, timeout)  # noqa: A001
        self.model = model
        self.batcher = AsyncBatcher(
            model, batch_size, timeout, allow_batch_overflow=allow_batch_overflow,
            max_concurrent_batches=max_concurrent_batches, isolate_failures=isolate_failures,
            progress=False,
        )  # fmt: skip
        self.cacher = AsyncCacher(
            self.batcher, cache, hash, on_store_error=on_store_error, progress=False
        )
        self._assemble(self.cacher, progress, self.batcher)

    async def cleanup(self, cancel: bool = False) -> None:  # noqa: D102 - as in Front
        self._closed = True
        await _empty(self.batcher, self.cacher, cancel)


class OrderedLocalAPI(_Assembly):
    """For a model on this machine, with the order of `OnlineAPI`.

    Batcher, reorderer, deduplicator, sample cache, another batcher, model.

    Attributes:
        collection_batcher: The stage that requests come to.
        reorderer: The next.
        deduplicator: The next.
        cacher: The next.
        hardware_batcher: The last, before the model.

    Example:
        >>> import asyncio
        >>> from cacher.pipelines import OrderedLocalAPI
        >>> from cacher.typedefs import Request, Response
        >>> class Model:
        ...     async def batch_request(self, batch):
        ...         return [Response([request.sample_index]) for request in batch.requests]
        >>> async def main():
        ...     async with OrderedLocalAPI(Model(), {}, 4, 2, timeout=0) as api:
        ...         asked = [Request(prompt="p", n=1, request_id=id, namespace="x") for id in "ba"]
        ...         answers = await asyncio.gather(*map(api.request, asked))
        ...         return [answer.data for answer in answers]
        >>> asyncio.run(main())
        [[1], [0]]
    """

    def __init__(
        self,
        model: Any,
        cache: Any,
        collection_batch_size: int,
        hardware_batch_size: int,
        timeout: float | None = 30,
        allow_batch_overflow: bool = False,
        *,
        hash: Hash = typedefs.hash,  # noqa: A002 - a documented name
        correctness: bool = False,
        isolate_failures: bool = True,
        on_store_error: str = "deliver",
        progress: Progress | bool | None = None,
    ) -> None:
        """Put the stages together; see `AsyncBatcher`, `AsyncDeduplicator` and `AsyncCacher`.

        Raises:
            TypeError: The model cannot be asked, or an argument is of the wrong type.
            ParameterError: An argument is outside its range.
        """
        self.model = model
        self.hardware_batcher = AsyncBatcher(
            model, hardware_batch_size, timeout, isolate_failures=isolate_failures, progress=False
        )
        self.cacher = AsyncCacher(
            self.hardware_batcher, cache, hash, on_store_error=on_store_error, progress=False
        )
        self.deduplicator = AsyncDeduplicator(
            self.cacher, boolean("correctness", correctness), hash
        )
        self.reorderer = RequestReorderer(self.deduplicator)
        self.collection_batcher = AsyncBatcher(
            self.reorderer, collection_batch_size, timeout,
            allow_batch_overflow=allow_batch_overflow, progress=False,
        )  # fmt: skip
        self.collection_batcher._counted = False  # its groups are not those that the model sees
        self._assemble(self.collection_batcher, progress, self.cacher, self.hardware_batcher)

    async def cleanup(self, cancel: bool = False) -> None:  # noqa: D102 - as in Front
        self._closed = True
        self.hardware_batcher.hurry()
        await self.collection_batcher.cleanup(cancel)
        await _empty(self.hardware_batcher, self.cacher, cancel)


async def _empty(batcher: AsyncBatcher, cacher: AsyncCacher, cancel: bool) -> None:
    """Close a sample cache and the batcher behind it: what the first still asks for is sent."""
    cacher.begin()
    if cancel:
        await batcher.cleanup(cancel)
    batcher.hurry()
    await cacher.drain()
    await batcher.cleanup()
    await cacher.cleanup()


def _hash_and_timeout(given: Hash | float | None, timeout: float | None) -> tuple[Hash, Any]:
    """Tell an early script's timeout, which stood in the place of the hash."""
    if given is None or (isinstance(given, (int, float)) and not isinstance(given, bool)):
        return typedefs.hash, given
    if not callable(given):
        raise TypeError(f"hash must be callable, got {type(given).__name__}")
    return given, timeout
