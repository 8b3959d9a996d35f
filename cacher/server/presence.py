"""Whether the client is still there: what nobody waits for any more is ended."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar, copy_context
from functools import partial
from traceback import clear_frames
from types import TracebackType
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from starlette.types import Receive

from cacher.errors import GenerationCancelled

if TYPE_CHECKING:
    from cacher.engine import Engine
    from cacher.state import State

P = ParamSpec("P")
T = TypeVar("T")

WATCHED_S = 0.02  # what is done sooner is not watched: a task for it would cost as much
PAUSE_S = 0.005  # between two requests to a thread to end

_unwanted: ContextVar[threading.Event] = ContextVar("unwanted")  # of the call in this thread


class ClientLeft(Exception):  # noqa: N818 - an event, and nobody's error
    """The client has closed the connection; there is nobody to answer."""


async def left(receive: Receive) -> None:
    """Return when the client leaves; to be asked once the body is read."""
    while (await receive())["type"] != "http.disconnect":
        pass


class Attended:
    """A block that is cancelled when the client leaves, as `asyncio.timeout` cancels in time.

    The block ends as a cancelled one does: runs leave the batch within a token, what was begun to
    be stored is stored whole.  Then it raises ClientLeft.

    Args:
        receive: Of the request, its body read.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._left = False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._watcher: asyncio.Task[None] | None = None
        self._soon = asyncio.get_running_loop().call_later(WATCHED_S, self._begin)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._soon.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        if not self._left:
            return
        only_left = self._task.uncancel() <= self._cancelling
        if only_left and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise ClientLeft from None

    def _begin(self) -> None:
        self._watcher = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        await left(self._receive)
        self._left = True
        self._task.cancel()


async def until_ended(
    engine: Engine, state: State, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
) -> T:
    """Call a method of a state in its engine's threads.

    Who is cancelled waits until the method has ended, so that nothing works on a state that is
    stored or let go.  It ends early: what the model computes within a layer, what asks
    `while_wanted` at its next question, what has not begun at once when it is its turn.
    """
    unwanted = threading.Event()
    context = copy_context()
    context.run(_unwanted.set, unwanted)

    def call() -> T:
        while_wanted()
        return function(*args, **kwargs)

    running = asyncio.ensure_future(engine.run(partial(context.run, call)))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        unwanted.set()
        while not running.done():
            for core in filter(None, (state._core, state._window)):
                core.cancel()
            with suppress(asyncio.CancelledError):  # it is cancelled already
                await asyncio.sleep(PAUSE_S)
        if ended_by := running.exception():
            clear_frames(ended_by.__traceback__)  # they hold the state, and the future them
        raise


def while_wanted(*_progress: int) -> None:
    """A callback for the progress of what runs in `until_ended`.

    Raises:
        GenerationCancelled: Nobody waits for the result.
    """
    if _unwanted.get().is_set():
        raise GenerationCancelled("nobody waits for the result")
