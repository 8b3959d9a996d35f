"""Single requests that become groups."""

from __future__ import annotations

import asyncio
from typing import Any

from cacher.checks import boolean, integer, number, string
from cacher.errors import PipelineClosed
from cacher.pipelines.calls import Calls
from cacher.pipelines.counters import Counters, Progress
from cacher.pipelines.pieces import Entry, PieceQueue, ignore
from cacher.pipelines.portion import Answer, Done, Portion, another, failed
from cacher.pipelines.stage import Front, Stage

MAX_SIZE = 2**31 - 1
MAX_TIMEOUT_S = 1e9

Group = list[tuple[Entry, Portion]]


class AsyncBatcher(Front):
    """Collects single requests and sends them to a model in groups.

    A request for n samples is n pieces, ``<request_id>_0`` and so on, each a request for one.  A
    group is sent when it has `batch_size` pieces, or when its first one has waited for `timeout`.

    Attributes:
        worker_task: The task that sends groups; None before the first request.
        queue: What waits, with `qsize` and `empty`.

    Example:
        >>> import asyncio
        >>> from cacher.pipelines import AsyncBatcher
        >>> from cacher.typedefs import Request, Response
        >>> class Model:
        ...     async def batch_request(self, batch):
        ...         print([request.request_id for request in batch.requests])
        ...         return [Response([request.prompt.upper()]) for request in batch.requests]
        >>> async def main():
        ...     async with AsyncBatcher(Model(), batch_size=2) as batcher:
        ...         asked = Request(prompt="a", n=2, request_id="x", namespace=None)
        ...         return await batcher.request(asked)
        >>> asyncio.run(main()).data
        ['x_0', 'x_1']
        ['A', 'A']
    """

    def __init__(
        self,
        model: Any,
        batch_size: int,
        timeout: float | None = 30,
        name: str = "unnamed",
        allow_batch_overflow: bool = False,
        *,
        max_concurrent_batches: int = 1,
        isolate_failures: bool = True,
        progress: Progress | bool | None = None,
    ) -> None:
        """Stand before a model, or before another stage.

        Args:
            model: What groups are sent to.
            batch_size: Pieces of a full group.
            timeout: Seconds that the first piece waits for a full group; None: without end; 0 or
                less: not at all.
            name: A name for people.
            allow_batch_overflow: Let all that waits join the group that is sent.
            max_concurrent_batches: Groups under way at a time.
            isolate_failures: When the model raises for a whole group, ask for each member alone.
            progress: What is told of each group and answer, a callable; True for a bar, None for
                one when somebody watches.

        Raises:
            TypeError: The model has neither `batch_request` nor `request`, or an argument is of
                the wrong type.
            ParameterError: An argument is outside its range.
        """
        self.model = model
        self.batch_size = integer("batch_size", batch_size, 1, MAX_SIZE)
        if timeout is not None:
            timeout = number("timeout", timeout, -MAX_TIMEOUT_S, MAX_TIMEOUT_S)
        self.timeout = timeout
        self.name = string("name", name)
        self.allow_batch_overflow = boolean("allow_batch_overflow", allow_batch_overflow)
        self.max_concurrent_batches = integer(
            "max_concurrent_batches", max_concurrent_batches, 1, MAX_SIZE
        )
        self.isolate_failures = boolean("isolate_failures", isolate_failures)
        self.queue = PieceQueue()
        self.worker_task: asyncio.Task[None] | None = None
        self._counted = True  # whether its groups are those that the pipeline counts
        self._hurry = False  # whether groups are sent before they are full or due
        self._expecting = False  # whether the worker waits for a group to fill
        self._woken: asyncio.Future[None] | None = None
        self._tasks: dict[asyncio.Task[None], Group] = {}
        self._share(Counters(progress))

    def _share(self, counters: Counters) -> None:
        """Count in the numbers of a whole pipeline."""
        self._counters = counters
        self._foreign = not isinstance(self.model, Stage)
        self._next: Any = self.model
        if self._foreign:
            self._next = Calls(self.model, counters, isolate=self.isolate_failures)

    async def serve(self, portions: list[Portion]) -> list[Answer]:  # noqa: D102 - as in Stage
        left = len(portions)
        answered: asyncio.Future[None] = self._bind().create_future()

        def note(portion: Portion, answer: Answer) -> None:
            nonlocal left
            portion.answer = answer
            left -= 1
            if not left and not answered.done():
                answered.set_result(None)

        try:
            for portion in portions:
                self.enter(portion, note, portion)
            if portions:
                await answered
        except BaseException:
            for portion in portions:
                portion.withdraw()
            raise
        return [portion.answer for portion in portions if portion.answer is not None]

    # ---- the queue

    def enter(self, portion: Portion, done: Done, whom: Any) -> Entry:
        """Put the pieces of a request into the queue; `done(whom, answer)` is called in the end.

        Raises:
            PipelineClosed: The worker has left for good.
        """
        loop = self._bind()
        worker = self.worker_task
        if worker is None or worker.done():
            if self._closed:
                raise PipelineClosed(f"the batcher {self.name!r} was closed")
            self.worker_task = loop.create_task(self._work(loop))
        if portion.first >= 0:  # a piece of another batcher, which gets pieces of its own
            portion.parts = [Portion(portion.as_request(), portion.n)]
            portion = portion.parts[0]
        entry = Entry(portion, loop.time(), done, whom, self)
        queue = self.queue
        queue.entries[entry] = None
        queue.size += entry.n
        self._counters.queued += entry.n
        if not self._expecting or queue.size >= self.batch_size or self._hurry:
            self._wake()
        return entry

    def keep(self, entry: Entry, n: int) -> int:
        """Let the pieces from number n on leave the queue; return how many remain or were sent."""
        stop = max(n, entry.sent)
        if stop < entry.n:
            gone = entry.n - stop
            entry.n = stop
            entry.left -= gone
            self._queued(-gone)
            if entry.sent == entry.n:
                del self.queue.entries[entry]
            if not entry.left:
                entry.finish()
        return entry.n

    def withdraw(self, entry: Entry) -> None:
        """Let a request go that nobody waits for: what is queued leaves, what is sent is lost."""
        entry.done = ignore
        self.keep(entry, 0)

    def _queued(self, n: int) -> None:
        self.queue.size += n
        self._counters.queued += n

    def _next_group(self) -> Group:
        group: Group = []
        room = self.queue.size if self.allow_batch_overflow else self.batch_size
        left = room
        while left and self.queue.entries:
            entry = next(iter(self.queue.entries))
            n = min(left, entry.n - entry.sent)
            group.append((entry, entry.next_pieces(n)))
            left -= n
            if entry.sent == entry.n:
                del self.queue.entries[entry]
        self._queued(left - room)
        return group

    # ---- the worker

    async def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        """Send groups while the batcher is open."""
        try:
            while not self._closed or self.queue.size or self._tasks:
                self._woken = loop.create_future()
                timer = self._send(loop)
                await self._woken
                if timer is not None:
                    timer.cancel()
        except asyncio.CancelledError:
            if self._loop is loop:
                for task in list(self._tasks):
                    task.cancel()
                self._release(asyncio.CancelledError)
            raise

    def _send(self, loop: asyncio.AbstractEventLoop) -> asyncio.TimerHandle | None:
        """Send all groups that are full or due; return the timer of the next."""
        self._expecting = False
        while self.queue.size and len(self._tasks) < self.max_concurrent_batches:
            if self.queue.size < self.batch_size and not self._hurry:
                due = self._due()
                if due is None or loop.time() < due:
                    self._expecting = True
                    return loop.call_at(due, self._wake) if due is not None else None
            self._start(self._next_group(), loop)
        self._expecting = len(self._tasks) >= self.max_concurrent_batches
        return None

    def _due(self) -> float | None:
        if self.timeout is None:
            return None
        return next(iter(self.queue.entries)).since + self.timeout

    def _wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    def hurry(self) -> None:
        """Send what is queued, and what still comes, without waiting for full groups."""
        self._hurry = True
        self._wake()

    def _start(self, group: Group, loop: asyncio.AbstractEventLoop) -> None:
        task = loop.create_task(self._process(group))
        self._tasks[task] = group
        self._counters.running += 1
        if self._counted:
            size = sum(portion.n for _, portion in group)
            self._counters.batches += 1
            self._counters.batch_items += size
            self._counters.tell("batch", size=size)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task in self._tasks:  # it was cancelled before it began
            self._settle(task, failed(asyncio.CancelledError()))
        if not task.cancelled():
            task.exception()  # the callers have it

    # ---- a group

    async def _process(self, group: Group) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            answers = await self._served([portion for _, portion in group])
        except BaseException as error:
            self._settle(task, failed(error))
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                self._release(PipelineClosed, f"the model raised {error!r}")
            raise
        self._settle(task, *answers)
        for answer in answers:
            if isinstance(answer.error, (KeyboardInterrupt, SystemExit)):
                self._release(PipelineClosed, f"the model raised {answer.error!r}")

    def _settle(self, task: asyncio.Task[None], *answers: Answer) -> None:
        """Hand out the answers to a group; a single one is for all, each gets its own error."""
        group = self._tasks.pop(task, None)
        if group is None:  # of an event loop that was left
            return
        self._counters.running -= 1
        self._wake()
        if len(answers) < len(group) and answers[0].error is not None:
            error = answers[0].error
            answers += tuple(failed(another(error)) for _ in group[1:])
        for (entry, portion), answer in zip(group, answers, strict=True):
            portion.answer = answer
            entry.left -= portion.n
            if not entry.left:
                entry.finish()

    async def _served(self, portions: list[Portion]) -> list[Answer]:
        """Return the answers to a group, each with one sample for each piece."""
        if not self._foreign and self._next.takes_portions:
            answers: list[Answer] = await self._next.serve(portions)
            return answers
        pieces = [portion.pieces() for portion in portions]
        served = iter(await self._next.serve([piece for each in pieces for piece in each]))
        answers = []
        for each in pieces:
            first, *others = (self._single(next(served)) for _ in each)
            for other in others:
                first.extend(other)
            answers.append(first)
        return answers

    def _single(self, answer: Answer) -> Answer:
        """Return the answer to one piece with its first sample alone."""
        if len(answer.data) <= 1:
            return answer
        self._counters.surplus += len(answer.data) - 1
        return answer.cut(0, 1)

    # ---- the end

    def _release(self, kind: type[BaseException], *args: object) -> None:
        """Let all callers go whose pieces wait."""
        for entry in list(self.queue.entries):
            done, entry.done = entry.done, ignore
            whom = entry.whom
            self.keep(entry, 0)
            done(whom, failed(kind(*args)))

    async def cleanup(self, cancel: bool = False) -> None:  # noqa: D102 - as in Front
        self._closed = True
        if boolean("cancel", cancel):
            self._release(asyncio.CancelledError)
        self.hurry()
        worker = self.worker_task
        if worker is not None and self._loop is asyncio.get_running_loop():
            await asyncio.wait([worker])

    def _leave(self) -> None:
        self._queued(-self.queue.size)
        for entry in self.queue.entries:
            entry.n = entry.sent  # whoever lets go of it later finds it gone
        self.queue.entries.clear()
        self._counters.running -= len(self._tasks)
        self._tasks = {}
        self.worker_task = self._woken = None
        self._expecting = False
