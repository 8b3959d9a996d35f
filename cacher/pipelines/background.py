"""An event loop of one's own in a thread, for callers that have none or may not wait in theirs."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from cacher.errors import PipelineClosed

Result = TypeVar("Result")

END_SECONDS = 10.0  # what the end of the program waits for a loop to end


class BackgroundLoop:
    """Runs coroutines for any thread, in one loop that begins with the first of them.

    It ends with `close`, with the object, or with the program; what still runs then is cancelled.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # calls are handed in and the loop is ended under it
        self._running: tuple[asyncio.AbstractEventLoop, threading.Thread] | None = None
        self._closed = False
        self._end: Callable[[], object] = lambda: None

    def run(self, make: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Run the coroutine that `make` returns, and return or raise what it does.

        Raises:
            PipelineClosed: The loop was closed.
            RuntimeError: The caller is in this very loop, and would wait for itself.
        """
        with self._lock:
            if self._closed:
                raise PipelineClosed("the client is closed")
            loop, thread = self._running or self._begin()
            if thread is threading.current_thread():
                raise RuntimeError("a client cannot be called from within its own event loop")
            future = asyncio.run_coroutine_threadsafe(make(), loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # when the wait was interrupted; nothing otherwise
            raise

    def close(self, make: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Run a last coroutine, if there is a loop or not, and end the loop; once."""
        with self._lock:
            if self._closed:
                return
            loop, _ = self._running or self._begin()
            last = asyncio.run_coroutine_threadsafe(make(), loop)
            self._closed = True
        try:
            last.result()
        finally:
            self._end()

    def _begin(self) -> tuple[asyncio.AbstractEventLoop, threading.Thread]:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=_serve, args=(loop,), name="cacher-client", daemon=True)
        thread.start()
        self._running = loop, thread
        self._end = weakref.finalize(self, _stop, loop, thread)
        return self._running


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    with asyncio.Runner(loop_factory=lambda: loop) as runner:  # which cancels what is left
        runner.get_loop().run_forever()


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    loop.call_soon_threadsafe(loop.stop)
    if thread is not threading.current_thread():  # an object may be collected in any thread
        thread.join(END_SECONDS)
