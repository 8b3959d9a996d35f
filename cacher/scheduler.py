"""The thread behind an engine: requests join and leave one batch at token boundaries.

One thread owns the batch and does all that touches it; event loops only put requests into the queue
and ask them to leave.  Between two forward passes the thread admits what waits (one tenant after
the other, each in the order it came).  Short passes go in bursts while nobody joins or leaves, and
after a burst every event loop is handed its news in a single call.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from cacher import _core
from cacher.errors import CacherError, EngineClosedError, QueueFullError, StateBusyError
from cacher.facts import EngineStats
from cacher.pace import Pace
from cacher.predictions import Predictions
from cacher.request import Request
from cacher.row import SHOWN_TOP

if TYPE_CHECKING:
    from cacher.model import Model
    from cacher.row import Step

News = tuple[Callable[..., object], tuple[object, ...]]


def _hear(news: list[News]) -> None:
    for function, arguments in news:
        function(*arguments)


class Scheduler:
    """Runs the requests of one model in a thread of its own, started with the first."""

    def __init__(
        self, model: Model, *, max_running: int, max_waiting: int, prediction_bytes: int
    ) -> None:
        self._model = model
        self._max_running = max_running
        self._max_waiting = max_waiting
        self._pace = Pace()
        self._predictions = Predictions(prediction_bytes)
        self._lock = threading.Condition()  # guards what follows, but for the batch's contents
        self._waiting: OrderedDict[int, deque[Request]] = OrderedDict()  # by tenant: next first
        self._n_waiting = 0
        self._leaving: list[Request] = []
        self._parked: set[Request] = set()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._batch = _core.Batch(model._core, max_running)
        self._store_top_k = 0
        self._running: dict[int, Request] = {}
        self._news: dict[asyncio.AbstractEventLoop, list[News]] = {}
        self._counts = dict.fromkeys(
            ("finished", "cancelled", "rejected", "failed", "tokens", "passes", "prefix_lookups",
             "prefix_hits", "prefix_tokens"), 0,
        )  # fmt: skip

    # ---- called from event loops

    def submit(self, request: Request) -> None:
        """Put a request into the queue.

        Raises:
            EngineClosedError: The engine is closed.
            QueueFullError: Too many wait already.
        """
        with self._lock:
            if self._closed:
                raise EngineClosedError("the engine is closed")
            if self._n_waiting >= self._max_waiting:
                self._counts["rejected"] += 1
                raise QueueFullError(
                    f"{self._n_waiting} requests are waiting, allowed: {self._max_waiting}"
                )
            if self._thread is None:
                thread = threading.Thread(target=self._work, name="cacher", daemon=True)
                thread.start()  # it may be refused
                self._thread = thread
            self._enqueue(request)
            self._batch.interrupt()
            self._lock.notify()

    def cancel(self, request: Request) -> None:
        """Let a request leave at the next token boundary; what it has is its outcome."""
        with self._lock:
            if request.leaving or request.ended:
                return
            request.leaving = True
            if request.number is not None:
                self._batch.remove(request.number)  # the pass that runs gives it no token
            self._batch.interrupt()
            self._leaving.append(request)
            self._lock.notify()

    def took(self, request: Request) -> None:
        """Note that a token of a stream was taken; its row may have waited for that."""
        request.n_taken += 1
        if request in self._parked and not request.too_far_ahead:
            with self._lock:
                if request in self._parked:
                    self._parked.discard(request)
                    self._enqueue(request, first=True)
                    self._lock.notify()

    def _report(self, request: Request, n_read: int) -> None:
        """Call a request's progress callback; what it raises ends this request alone."""
        if request.progress is None or request.refused is not None:
            return
        try:
            request.progress(n_read, request.length)
        except BaseException as error:
            request.refused = error
            self.cancel(request)

    def close(self) -> None:
        """End all requests, with what they have, and the thread, as soon as its pass is over."""
        with self._lock:
            self._closed = True
            self._batch.interrupt()
            self._lock.notify()

    def join(self) -> None:
        """Wait for the thread's end."""
        if self._thread is not None:
            self._thread.join()

    def stats(self) -> EngineStats:
        """Return the counters."""
        model = self._model.stats
        with self._lock:
            return EngineStats(
                running=len(self._running) + len(self._parked), waiting=self._n_waiting,
                kv_bytes=model.kv_bytes, kv_budget_bytes=model.kv_budget_bytes, **self._counts,
            )  # fmt: skip

    def _enqueue(self, request: Request, *, first: bool = False) -> None:
        queue = self._waiting.setdefault(request.state._salt, deque())
        if first:
            queue.appendleft(request)
        else:
            queue.append(request)
        self._n_waiting += 1

    # ---- the thread

    def _work(self) -> None:
        try:
            while self._admit():
                if self._running:
                    self._pass()
                self._publish()
        except BaseException as error:  # memory is short in the middle of something
            self._collapse(error)
            raise
        finally:
            self._publish()

    def _collapse(self, error: BaseException) -> None:
        """Close, and let nobody wait for what will not come."""
        with self._lock:
            self._closed = True
            waiting = [r for queue in self._waiting.values() for r in queue]
            self._n_waiting = 0
            self._waiting.clear()
            for request in {*waiting, *self._running.values(), *self._parked, *self._leaving}:
                self._withdraw(request)
                self._parked.discard(request)
                request.ended = True
                self._tell(request, request.hear, [], error)

    def _admit(self) -> bool:
        """Wait for something to do; let requests leave and join.  False: the engine is closed."""
        with self._lock:
            while not (self._running or self._n_waiting or self._leaving or self._closed):
                self._lock.wait()
            if self._closed:
                waiting = [r for queue in self._waiting.values() for r in queue]
                self._leaving += [*waiting, *self._running.values(), *self._parked]
            for request in self._leaving:
                self._leave(request)
            self._leaving.clear()
            while not self._closed and self._n_waiting and len(self._running) < self._max_running:
                self._join(self._next())
            return not self._closed

    def _leave(self, request: Request) -> None:
        queue = self._waiting.get(request.state._salt)
        if queue and request in queue:
            queue.remove(request)
            self._n_waiting -= 1
            if not queue:
                del self._waiting[request.state._salt]
        if request.ended:
            return
        request.leaving = True
        if request.row is not None:
            request.row.cancel()
        self._end(request)

    def _next(self) -> Request:
        """Take the oldest request of the tenant whose turn it is."""
        tenant, queue = self._waiting.popitem(last=False)
        request = queue.popleft()
        if queue:
            self._waiting[tenant] = queue
        self._n_waiting -= 1
        return request

    def _join(self, request: Request) -> None:
        state, row = request.state, request.row
        if row is not None and row.ended:
            self._end(request)
            return
        try:
            if request.overtaken:
                raise StateBusyError(f"state {state.id} was changed while its request waited")
            self._store(state._store_top_k)
            known = None
            if row is None or not row.token_ids:  # else it was parked
                known = self._look_up(request)
            number = self._add(request)
            if known is not None:
                self._batch.give(number, known)
        except Exception as error:  # the state is busy, or memory is short
            self._end(request, error)

    def _add(self, request: Request) -> int:
        row = request.row
        if row is not None:
            number = row.join(self._batch)
        else:
            number = self._batch.add(request.state._seen(), None)
        request.number = number
        request.joined = True
        self._running[number] = request
        return number

    def _store(self, top_k: int) -> None:
        """Let the batch store what its most demanding row wants; others ignore the surplus."""
        if top_k <= self._store_top_k:
            return
        wider = _core.Batch(self._model._core, self._max_running, 0, top_k)
        moving = list(self._running.values())
        for request in moving:
            self._withdraw(request)
        self._batch, self._store_top_k = wider, top_k
        for request in moving:
            try:
                self._add(request)
            except Exception as error:
                self._end(request, error)

    def _look_up(self, request: Request) -> _core.Array | None:
        """Count what is known of a new request's prompt; return the prediction after it."""
        core = request.state._seen()
        ready = core.ready()
        self._counts["prefix_lookups"] += 1
        self._counts["prefix_hits"] += ready > 0
        self._counts["prefix_tokens"] += ready
        if request.row is None or request.row.trace_layer is not None:
            return None  # nothing is drawn, or the model has to run to be looked at
        key = Predictions.key(core, request.state._salt)
        known = self._predictions.get(key)
        if known is None:
            request.key = key
        return known

    def _pass(self) -> None:
        requests = self._running.values()
        generating = sum(1 for request in requests if request.generates)
        reading = len(requests) - generating
        chunk, steps = self._pace.chunk(generating, reading), 1
        if not reading:
            steps = min(self._pace.passes(generating), *(r.stride for r in requests))
        top = SHOWN_TOP if any(request.streams for request in requests) else 0
        started, passes = time.perf_counter(), self._batch.passes
        try:
            drawn = self._batch.step(chunk, steps, top)
        except Exception as error:
            self._fail(error)
            return
        seconds = time.perf_counter() - started
        passes = self._batch.passes - passes
        self._counts["passes"] += passes
        by_row: dict[int, list[Step]] = {}
        for step in drawn:
            by_row.setdefault(step[0], []).append(step)
        filled = len(by_row) < len(requests)  # not all of them got something
        if passes:  # else all was known ahead
            self._pace.took(seconds / passes, chunk, generating, reading, filled=filled)
        for number, own in by_row.items():
            if request := self._running.get(number):
                self._advance(request, own)
        for number, request in self._running.items():
            if request.progress is not None and not request.leaving:
                self._tell(request, self._report, request, self._batch.read(number))

    def _advance(self, request: Request, steps: list[Step]) -> None:
        (number, finish, *_), row = steps[-1], request.row
        if row is None:  # all is read
            self._tell(request, self._report, request, request.length)
            self._end(request)
            return
        if request.key is not None:
            logits = self._batch.logits(number)
            if logits is not None:
                self._predictions.put(request.key, logits)
            request.key = None
        shown = row.take(steps)
        if request.streams and shown:
            request.n_shown += len(shown)
            self._tell(request, request.hear, shown, None)
        self._counts["tokens"] += len(steps) - bool(finish)
        if row.ended:
            self._end(request)
        elif finish:  # its window was full; the batch has let it go
            with self._lock:
                self._withdraw(request)
                self._join(request)
        elif request.too_far_ahead:
            self._park(request)

    def _park(self, request: Request) -> None:
        with self._lock:
            self._withdraw(request)
            if request.too_far_ahead:
                self._parked.add(request)
            else:  # its reader has caught up meanwhile
                self._enqueue(request, first=True)

    def _withdraw(self, request: Request) -> None:
        if request.number is not None:
            self._batch.remove(request.number)
            self._running.pop(request.number, None)
            request.number = None

    def _fail(self, error: Exception) -> None:
        """Let the row leave that a failed pass names, or all when it names none."""
        at = error.position if isinstance(error, CacherError) else None
        named = None if at is None else self._running.get(at)
        for request in [named] if named is not None else list(self._running.values()):
            self._end(request, error)

    def _end(self, request: Request, error: Exception | None = None) -> None:
        """The request is over: its state is free again and knows what happened."""
        request.ended = True
        with self._lock:
            self._withdraw(request)
            self._parked.discard(request)
        state, row = request.state, request.row
        if request.touches(len(state)):
            state._head = len(state)
            state._changed()
        self._counts["failed" if error else "cancelled" if request.cancelled else "finished"] += 1
        self._tell(request, request.hear, [], error or (row.result() if row else None))

    # ---- news

    def _tell(self, request: Request, function: Callable[..., object], *arguments: object) -> None:
        self._news.setdefault(request.loop, []).append((function, arguments))

    def _publish(self) -> None:
        for loop, news in self._news.items():
            with suppress(RuntimeError):  # that loop is closed: nobody is left to hear
                loop.call_soon_threadsafe(_hear, news)
        self._news.clear()
