"""Engine: many requests on one model from asyncio, computed together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack

from cacher.checks import MAX_INT64, integer
from cacher.errors import EngineClosedError, ModelError, ModelMismatchError
from cacher.facts import EngineStats
from cacher.generate import MAX_ROWS, best, check_continuations
from cacher.params import SamplingOptions, SamplingParams, check_max_tokens
from cacher.request import Request
from cacher.row import Row
from cacher.scheduler import Scheduler
from cacher.types import Generation, Token

if TYPE_CHECKING:
    from cacher.model import Model
    from cacher.state import State, Text

P = ParamSpec("P")
T = TypeVar("T")

LONG_TEXT = 16_384  # characters that take longer to encode than to hand to a thread
SIDE_THREADS = 4  # for calls that the batch does not serve: inspection, beam search


class EngineStream:
    """An asynchronous iterator over tokens as they are generated; made by `Engine.stream`.

    At most 16 tokens are computed ahead of a slow reader.  Until the stream has ended, its state is
    in use.
    """

    def __init__(self, engine: Engine, request: Request, row: Row) -> None:
        self._engine = engine
        self._request = request
        self._row = row

    @property
    def result(self) -> Generation:
        """What was generated so far, and why it ended."""
        return self._row.result()

    @property
    def seed(self) -> int | None:
        """The seed in force; None when nothing is drawn."""
        params = self._row.params
        return None if params.greedy else params.seed

    @property
    def ready(self) -> bool:
        """Whether a token can be taken without waiting."""
        return bool(self._request.shown)

    @property
    def ended(self) -> bool:
        """Whether the last token was taken: none will come, and `result` is complete."""
        return not self._request.shown and self._request.outcome.done()

    def __aiter__(self) -> AsyncIterator[Token]:
        return self

    async def __anext__(self) -> Token:
        request = self._request
        while not request.shown:
            if request.outcome.done():
                request.outcome.result()  # raises what went wrong
                raise StopAsyncIteration
            request.news.clear()
            await request.news.wait()
        shown = request.shown.popleft()
        self._engine._scheduler.took(request)
        return shown.token(self._engine.model._tokenizer)

    async def __aenter__(self) -> EngineStream:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the run; tokens generated so far stay in the state, which is free afterwards."""
        await leave(self._engine._scheduler, self._request)

    def __del__(self) -> None:
        with suppress(ModelError):  # a process made by fork() has no part in it
            self._engine._scheduler.cancel(self._request)


async def leave(scheduler: Scheduler, request: Request) -> None:
    """Cancel a request and wait until its state is free: a token's time."""
    scheduler.cancel(request)
    again = None
    while not request.outcome.done():
        request.news.clear()
        try:
            await request.news.wait()
        except asyncio.CancelledError as cancelled:  # once more: the state is still held
            again = cancelled
    if again is not None:
        raise again


class Engine:
    """Runs requests on a model from asyncio; they share its forward passes.

    Requests join and leave at token boundaries, long prompts are read in chunks beside them, and
    each gets bit for bit what it would get alone.  A thread of its own computes: the event loop
    never waits for the model.

    Args:
        model: The model.
        max_running: States in a forward pass at most, 1 to 256.
        max_waiting: Requests that may wait to join; more are refused.
        prediction_bytes: Logits kept so that a prompt that comes again is continued at once.

    Example:
        >>> import asyncio, cacher
        >>> model = cacher.load("tales")
        >>> async def main():
        ...     async with cacher.Engine(model) as engine:
        ...         states = [model.state("The fox"), model.state("The hare")]
        ...         return await asyncio.gather(*(engine.generate(s, 3) for s in states))
        >>> [len(generation) for generation in asyncio.run(main())]
        [3, 3]
    """

    def __init__(
        self,
        model: Model,
        *,
        max_running: int = 64,
        max_waiting: int = 1024,
        prediction_bytes: int = 64 * 2**20,
    ) -> None:
        """Check the limits; the thread starts with the first request."""
        self._model = model
        self._scheduler = Scheduler(
            model,
            max_running=integer("max_running", max_running, 1, MAX_ROWS),
            max_waiting=integer("max_waiting", max_waiting, 1, MAX_INT64),
            prediction_bytes=integer("prediction_bytes", prediction_bytes, 0, MAX_INT64),
        )
        self._side = ThreadPoolExecutor(SIDE_THREADS, thread_name_prefix="cacher-side")

    @property
    def model(self) -> Model:
        """The model it runs."""
        return self._model

    @property
    def stats(self) -> EngineStats:
        """Counters: requests running, waiting and done, tokens, prefix hits, KV bytes."""
        return self._scheduler.stats()

    async def generate(
        self, state: State, max_tokens: int = 1, **sampling: Unpack[SamplingOptions]
    ) -> Generation:
        """Return what `State.generate` returns.

        A caller that is cancelled stops the run within a token; tokens generated so far stay in the
        state.

        Args:
            state: Of this engine's model; in use until the call ends.
            max_tokens: New tokens at most.
            **sampling: As in `State.generate`.

        Raises:
            QueueFullError: Too many requests wait already.
            StateBusyError: Another request or thread is using the state.
            ParameterError: An option is outside its range.
        """
        row = self._row(state, max_tokens, state.config.sampling(sampling))
        generation: Generation = await self._finish(Request(state, row))
        return generation

    def stream(
        self,
        state: State,
        max_tokens: int = 100,
        *,
        trace_layer: int | None = None,
        **sampling: Unpack[SamplingOptions],
    ) -> EngineStream:
        """Generate token by token; the same tokens as `generate`.

        Args:
            state: Of this engine's model; in use until the stream has ended.
            max_tokens: New tokens at most.
            trace_layer: 0 to n_layers - 1: each token has a `Token.trace` with the attention of
                this layer; the tokens stay the same.  None: no traces.
            **sampling: As in `State.generate`.

        Returns:
            An asynchronous iterator of `Token`; close it with ``aclose`` when leaving early.

        Raises:
            QueueFullError: Too many requests wait already.
            LayerOutOfRangeError: The model has no such layer.
        """
        params = state.config.sampling(sampling)
        row = self._row(state, max_tokens, params, trace_layer=trace_layer)
        request = Request(state, row, streams=True)
        self._scheduler.submit(request)
        return EngineStream(self, request, row)

    async def multi(
        self,
        state: State,
        n: int = 3,
        max_tokens: int = 1,
        *,
        best_of: int | None = None,
        **sampling: Unpack[SamplingOptions],
    ) -> list[Generation]:
        """Return several independent continuations, as `State.multi`; the state stays as it is.

        Args:
            state: Of this engine's model.
            n: How many, 1 to 4096.
            max_tokens: New tokens of each at most.
            best_of: As in `State.multi`.
            **sampling: As in `State.generate`.
        """
        n, count = check_continuations(n, best_of)
        params = state.config.sampling(sampling).with_seed()
        rows = [self._row(state.fork(), max_tokens, params, index=i) for i in range(count)]
        tasks = [asyncio.ensure_future(self._finish(Request(row.state, row))) for row in rows]
        try:
            runs: list[Generation] = await asyncio.gather(*tasks)
        except BaseException:  # one is refused, or the caller goes: nobody wants the others
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise
        return runs if best_of is None else best(runs, n)

    async def forward(
        self,
        state: State,
        text: Text | None = None,
        *,
        progress: Callable[[int, int], object] | None = None,
    ) -> State:
        """Append, then read everything that is pending, as `State.forward`; returns the state.

        Args:
            state: Of this engine's model; in use until the call ends.
            text: A text or token ids; None only reads.
            progress: Called in the event loop with (tokens read, tokens in all).

        Raises:
            ContextOverflowError: It does not fit.
            QueueFullError: Too many requests wait already.

        Whatever is raised, the state is unchanged.
        """
        self._check(state)
        self._model._require("forward")
        length = len(state)
        if isinstance(text, str) and len(text) > LONG_TEXT:
            text = await self.run(state._encode, text)
        if text is not None:
            state._lay(text)
        laid = len(state)
        try:
            request = Request(state, None, progress=progress)
            await self._finish(request)
            if request.refused is not None:
                raise request.refused
            if request.leaving:
                raise EngineClosedError("the engine is closed")
        except BaseException:
            if len(state) == laid:  # else somebody has put more behind it
                state._core.truncate(length)
            raise
        state._head = len(state)
        state._changed("forward")
        return state

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function of the notebook API off the event loop, in turn with the passes.

        Args:
            function: For instance ``state.beam`` or ``state.attention``.
            *args: Passed on.
            **kwargs: Passed on.

        Raises:
            EngineClosedError: The engine is closed.
            RuntimeError: It raised StopIteration, which no coroutine can pass on.
        """

        def call() -> T:
            try:
                return function(*args, **kwargs)
            except StopIteration as end:
                raise RuntimeError(f"{function!r} raised StopIteration") from end

        loop = asyncio.get_running_loop()
        try:
            running = loop.run_in_executor(self._side, call)
        except RuntimeError:  # its threads are gone
            raise EngineClosedError("the engine is closed") from None
        return await running

    async def aclose(self) -> None:
        """End all requests, each with what it has, and the threads."""
        self._scheduler.close()
        await asyncio.to_thread(self._join)

    def _join(self) -> None:
        self._scheduler.join()
        self._side.shutdown()

    def __del__(self) -> None:
        if hasattr(self, "_scheduler"):  # else the model was refused
            with suppress(ModelError):  # as of a stream
                self._scheduler.close()

    async def __aenter__(self) -> Engine:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    def _check(self, state: State) -> None:
        if state.model is not self._model:
            raise ModelMismatchError(
                f"state {state.id} belongs to an opened model {state.model.name!r}, "
                "not to this engine's"
            )

    def _row(
        self,
        state: State,
        max_tokens: int,
        params: SamplingParams,
        *,
        index: int = 0,
        trace_layer: int | None = None,
    ) -> Row:
        self._check(state)
        return Row(state, params, check_max_tokens(max_tokens), index, trace_layer)

    async def _finish(self, request: Request) -> Any:
        self._scheduler.submit(request)
        try:
            return await asyncio.shield(request.outcome)
        except asyncio.CancelledError:
            await leave(self._scheduler, request)
            raise
        except GeneratorExit:  # the coroutine was closed, or its loop was
            self._scheduler.cancel(request)
            raise
