"""What `request` returns: a coroutine that may become a future instead of getting a task."""

from __future__ import annotations

import asyncio
import inspect
import time
import warnings
from collections.abc import Coroutine, Generator
from typing import TYPE_CHECKING, Any

from cacher.pipelines.portion import Answer, Portion, count_of
from cacher.typedefs import Response

if TYPE_CHECKING:
    from cacher.pipelines.stage import Front


class Reply(asyncio.Future[Response]):
    """The answer to a request that is under way.

    Its samples count as handed out when it is awaited and the caller goes on with them; when nobody
    awaits it, as soon as they are there.
    """

    __slots__ = ("_awaited", "_front", "_portion", "_request", "_started", "_steps")

    def __init__(self, loop: asyncio.AbstractEventLoop, front: Front, request: Any) -> None:
        super().__init__(loop=loop)
        self._front = front
        self._request = request
        self._portion: Portion | None = None  # until it was delivered, or given back
        self._awaited = False
        self._steps: Generator[Any, Any, Response] | None = None  # of an `Ask` alone

    def _begin(self) -> None:
        """Send the request on its way."""
        self._started = time.perf_counter()
        try:
            portion = Portion(self._request, count_of(self._request))
            self._front._accept(portion)
            self._portion = portion
            if portion.n:
                self._front.enter(portion, Reply._answered, self)
            else:
                self._answered(Answer([], [], []))
        except Exception as error:
            self._fail(error)

    def _answered(self, answer: Answer) -> None:
        if self.done():  # it was cancelled
            return
        if answer.error is not None:
            self._fail(answer.error)
            return
        if not self._awaited:
            self._deliver(answer)
        self.set_result(Response(answer.data, answer.cached, answer.duplicated))

    def _fail(self, error: BaseException) -> None:
        self._lose(error)
        if isinstance(error, asyncio.CancelledError):
            super().cancel()
        elif isinstance(error, StopIteration):  # neither a future nor a coroutine may raise it
            raised = RuntimeError("the model raised StopIteration")
            raised.__cause__ = error
            self.set_exception(raised)
        else:
            self.set_exception(error)

    def cancel(self, msg: Any = None) -> bool:
        """Let the request go: what of it is queued leaves the queue, and nothing is used up."""
        cancelled = super().cancel(msg)
        if cancelled:
            self._lose(asyncio.CancelledError())
        return cancelled

    def _deliver(self, answer: Answer | Response) -> None:
        portion, self._portion = self._portion, None
        if portion is not None:
            self._front._delivered(portion, answer, self._started)

    def _lose(self, error: BaseException) -> None:
        portion, self._portion = self._portion, None
        if portion is not None:
            portion.withdraw()
            self._front._lost(portion, error, self._started)

    def __await__(self) -> Generator[Any, Any, Response]:
        if not self.done():
            self._awaited = self._asyncio_future_blocking = True
            try:
                yield self
            except GeneratorExit as error:  # whoever waits is gone, and maybe the event loop
                self._lose(error)
                raise
            except BaseException as error:
                if not self.cancel():  # the answer was there, and the caller goes without it
                    self._lose(error)
                raise
        response = self.result()
        self._deliver(response)
        return response


class Ask(Reply, Coroutine[Any, Any, Response]):
    """A request that has not begun: a coroutine for all who take it for one.

    It begins when it is awaited, by whatever task.  It begins, too, when it is taken for a future,
    as by `asyncio.gather`, and is one and no coroutine from then on: ten thousand of them wait
    without ten thousand tasks, which would take more time and memory than all the rest.
    """

    __slots__ = ()

    @property
    def _asyncio_future_blocking(self) -> bool | None:  # type: ignore[override]
        """What `asyncio.isfuture` looks at: None in what is no future."""
        if self._steps is not None:  # a task runs it
            return None
        self._become_future()
        return False

    def _become_future(self) -> None:
        self.__class__ = Reply  # type: ignore[assignment]
        self._begin()

    def __await__(self) -> Generator[Any, Any, Response]:
        if self._steps is not None:
            raise RuntimeError("cannot reuse already awaited coroutine")
        self._become_future()
        return self.__await__()

    def send(self, value: Any) -> Any:
        """Go on, for a task."""
        steps = self._run()
        if inspect.getgeneratorstate(steps) == inspect.GEN_CLOSED:
            raise RuntimeError("cannot reuse already awaited coroutine")
        return steps.send(value)

    def throw(self, *error: Any) -> Any:
        """Go on with an exception; one that has not begun never does."""
        return self._run().throw(*error)

    def close(self) -> None:
        """Go on no more; likewise."""
        self._run().close()

    def _run(self) -> Generator[Any, Any, Response]:
        if self._steps is None:
            self._steps = self._as_coroutine()
        return self._steps

    def _as_coroutine(self) -> Generator[Any, Any, Response]:
        reply = Reply(self.get_loop(), self._front, self._request)
        reply._begin()
        return (yield from reply.__await__())

    def __del__(self) -> None:
        if self._steps is None:
            text = f"the request {self._request!r} was never awaited"
            warnings.warn(text, RuntimeWarning, stacklevel=2, source=self)
