"""What the stages of a pipeline have in common.

Between themselves stages speak in portions and answers (`Stage.serve`): what fails is an answer as
well, so that it disturbs no other member of its group, and what is reserved for a portion stays so
until it is taken or dropped at the caller's end.  `request` and `batch_request` are that end.
"""

from __future__ import annotations

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, TypeVar

from cacher.checks import boolean
from cacher.errors import PipelineClosed
from cacher.pipelines.counters import Counters
from cacher.pipelines.portion import Answer, Done, Portion, count_of, failed
from cacher.pipelines.reply import Ask
from cacher.typedefs import Batch, Response

F = TypeVar("F", bound="Front")

_BINDING = threading.Lock()


class Stage(ABC):
    """A stage: takes groups, gives answers."""

    #: Whether the pieces of a portion are one to it, which would join them anyway.
    takes_portions = False

    _counters: Counters
    _closed = False

    @abstractmethod
    async def serve(self, portions: list[Portion]) -> list[Answer]:
        """Return the answer to each portion; an error is in its answer.  Called by stages only."""

    async def batch_request(self, batch: Batch, *, return_exceptions: bool = False) -> list[Any]:
        """Answer several requests, in their order.

        Args:
            batch: The requests.
            return_exceptions: Put the exception of a request that fails in its place.  Else the
                first of them is raised once all are finished, and no sample counts as handed out.

        Raises:
            PipelineClosed: The pipeline was closed.
            TypeError: The n of a request is not an integer.
            ParameterError: It is negative.
        """
        boolean("return_exceptions", return_exceptions)
        started = time.perf_counter()
        portions: list[Portion] = []
        for request in batch.requests:
            try:
                portion = Portion(request, count_of(request))
            except Exception as error:
                if not return_exceptions:
                    raise
                portion = Portion(request, 0)
                portion.answer = failed(error)
            portions.append(portion)
        for portion in portions:
            if portion.answer is None:
                self._accept(portion)
                portion.answer = None if portion.n else Answer([], [], [])
        asked = [portion for portion in portions if portion.answer is None]
        try:
            for portion, answer in zip(asked, await self.serve(asked), strict=True):
                portion.answer = answer
        except BaseException as error:
            for portion in asked:
                self._lost(portion, error, started)
            raise
        return self._delivered_all(portions, return_exceptions, started)

    def stats(self) -> dict[str, int]:
        """Return what was counted since the start, or since `reset_stats`.

        ``requests`` and ``samples`` that were asked for; ``delivered`` samples: ``cached`` or
        ``fresh``, and how many were ``duplicated``; ``model_calls`` and the ``model_samples`` they
        gave; ``batches`` and the ``batch_items`` in them; requests that ``failed`` or were
        ``cancelled``; ``surplus`` samples that were dropped; ``store_errors``; and, as they are
        now, pieces ``queued`` and groups ``running``.
        """
        return self._counters.stats()

    def reset_stats(self) -> None:
        """Count from zero again; ``queued`` and ``running`` stay what they are."""
        self._counters.reset()

    def _accept(self, portion: Portion) -> None:
        if self._closed:
            raise PipelineClosed(f"this {type(self).__name__} was closed and takes no requests")
        self._counters.requests += 1
        self._counters.samples += portion.n

    def _delivered_all(
        self, portions: list[Portion], return_exceptions: bool, started: float
    ) -> list[Any]:
        errors = [portion.answer.error for portion in portions if portion.answer]
        first = next(filter(None, errors), None)
        if first is not None and not return_exceptions:
            for portion, error in zip(portions, errors, strict=True):
                if error is not None:
                    self._lost(portion, error, started)
                portion.drop()
            raise first
        delivered: list[Any] = []
        for portion in portions:
            try:
                delivered.append(self._response(portion, started))
            except BaseException as error:
                delivered.append(error)
        return delivered

    def _response(self, portion: Portion, started: float) -> Response:
        """Return the answer to a request, and note that; or raise what it failed with."""
        answer = portion.answer
        if answer is None:
            answer = failed(PipelineClosed("the request was left without an answer"))
        if answer.error is not None:
            self._lost(portion, answer.error, started)
            raise answer.error
        self._delivered(portion, answer, started)
        return Response(answer.data, answer.cached, answer.duplicated)

    def _delivered(self, portion: Portion, answer: Answer | Response, started: float) -> None:
        """Note that a request was answered."""
        portion.take()
        counters, cached = self._counters, (answer.cached or []).count(True)
        counters.delivered += portion.n
        counters.cached += cached
        counters.fresh += portion.n - cached
        counters.duplicated += (answer.duplicated or []).count(True)
        if counters.watcher is not None:
            self._tell("done", portion, started, cached=cached)

    def _lost(self, portion: Portion, error: BaseException, started: float) -> None:
        """Note that a request ended without an answer."""
        portion.drop()
        if isinstance(error, asyncio.CancelledError):
            self._counters.cancelled += 1
        else:
            self._counters.failed += 1
        self._tell("failed", portion, started, error=repr(error))

    def _tell(self, event: str, portion: Portion, started: float, **more: object) -> None:
        request = portion.request
        self._counters.tell(
            event,
            request_id=request.request_id,
            namespace=request.namespace,
            n=portion.n,
            seconds=time.perf_counter() - started,
            **more,
        )


class Front(Stage):
    """A stage that single requests can be sent to, and that is closed in the end.

    It belongs to the event loop that runs it, and may be used by one after another.
    """

    _loop: asyncio.AbstractEventLoop | None = None

    def request(self, request: Any) -> Coroutine[Any, Any, Response]:
        """Answer one request.

        Returns:
            A coroutine, of which `asyncio.gather` makes no task; see `cacher.pipelines.reply`.

        Raises:
            PipelineClosed: The pipeline was closed.
            TypeError: The request's n is not an integer.
            ParameterError: It is negative.
            ShortResponseError: The model gave fewer samples than it was asked for.
            ModelContractError: It gave something that is no answer.
            UncacheableRequest: The request holds what no key can stand for.
            Exception: What the model raised.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return self._later(request)
        return Ask(loop, self, request)

    async def _later(self, request: Any) -> Response:
        return await self.request(request)

    @abstractmethod
    def enter(self, portion: Portion, done: Done, whom: Any) -> object:
        """Let a request begin; `done(whom, answer)` is called in the end.  For stages only."""

    @abstractmethod
    async def cleanup(self, cancel: bool = False) -> None:
        """Take no more requests, send what is queued at once, and return when all is answered.

        Args:
            cancel: Cancel what is queued, and wait only for what the model works on.
        """

    async def __aenter__(self: F) -> F:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.cleanup()

    def _bind(self) -> asyncio.AbstractEventLoop:
        """Return the running event loop, to which the stage now belongs.

        Raises:
            RuntimeError: It belongs to one that runs in another thread.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            with _BINDING:
                if self._loop is not None and self._loop.is_running():
                    raise RuntimeError(
                        f"this {type(self).__name__} is in use by the event loop of another "
                        "thread; several pipelines, one for each thread, can share a cache"
                    )
                self._leave()
                self._loop = loop
        return loop

    @abstractmethod
    def _leave(self) -> None:
        """Forget what belonged to an event loop that ended."""
