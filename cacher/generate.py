"""Generation: the policy around the core's batch.

The core draws tokens; what is decided here is when a run ends (stop strings, number of tokens,
time) and what text a token adds.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NoReturn, Unpack, cast

from cacher import _core
from cacher.beam import search
from cacher.checks import MAX_INT32, integer
from cacher.decoding import StopMatcher, check_stops, primed_decoder
from cacher.params import (
    BeamParams,
    SamplingOptions,
    SamplingParams,
    StateConfig,
    check_max_tokens,
    check_stop,
)
from cacher.progress import LONG_TEXT, Progress
from cacher.types import BeamSearch, FinishReason, Generation, Token, top_tokens

if TYPE_CHECKING:
    from cacher.model import Model
    from cacher.state import State

MAX_ROWS = 256  # states that share a forward pass
MAX_CONTINUATIONS = 4096
SHOWN_TOP = 5  # alternatives a streamed token carries

_BEAM = BeamParams()

Step = tuple[int, int, int, int, float, float, float]


class Row:
    """One state's run: takes the core's steps, keeps the text, knows when it ends."""

    def __init__(
        self, state: State, params: SamplingParams, max_tokens: int, stream_index: int = 0
    ) -> None:
        self.state = state
        self.params = params.with_seed()
        self.max_tokens = max_tokens
        self.stream_index = stream_index
        self.start = len(state)
        self.limit = state.context_limit
        self.finished = False
        self.finish_reason: FinishReason | None = None
        self.stop_sequence: str | None = None
        self.token_ids: list[int] = []
        self.pieces: list[str] = []
        self.probabilities: list[float] = []
        self.logprobs: list[float] = []
        self._deadline = None
        if params.max_time_s is not None:
            self._deadline = time.monotonic() + params.max_time_s
        check_stops(state, params.stop)
        self._stops = StopMatcher(params.stop)
        self._decoder = primed_decoder(state)
        if self.start >= self.limit:
            self._end("context_length")

    @property
    def ended(self) -> bool:
        """Whether no further token is wanted."""
        return self.finished or len(self.token_ids) >= self.max_tokens

    def sampling(self) -> tuple[float | int, ...]:
        """Return the core's parameters for what is left of this run."""
        return self.params.core(self.stream_index, done=len(self.token_ids))

    def take(self, step: Step) -> bool:
        """Take a step of the core; true when it brought a token."""
        _row, finish, _position, token_id, probability, logprob, _entropy = step
        if finish:
            self._end("eos" if finish == _core.FINISH_EOS else "context_length")
            return False
        self.token_ids.append(token_id)
        self.probabilities.append(probability)
        self.logprobs.append(logprob)
        piece = self._decoder.push(token_id) if self._decoder else ""
        self.pieces.append(piece)
        match = self._stops.push(piece)
        if match is not None and len(self.token_ids) >= self.params.min_tokens:
            self.stop_sequence = match
            self._end("stop_sequence")
        elif self._deadline is not None and time.monotonic() >= self._deadline:
            self._end("time")
        elif self.ended:
            self._flush()
        return True

    def result(self) -> Generation:
        """Return what was generated so far."""
        return Generation(
            "".join(self.pieces), self.pieces[:], self.token_ids[:], self.probabilities[:],
            self.logprobs[:], self.finished, self.finish_reason, self.stop_sequence,
            None if self.params.greedy else self.params.seed, self.stream_index,
        )  # fmt: skip

    def _end(self, reason: FinishReason) -> None:
        self.finished, self.finish_reason = True, reason
        self._flush()

    def _flush(self) -> None:
        """Give the bytes of an unfinished character to the last token."""
        rest = self._decoder.finish() if self._decoder and self.pieces else ""
        if rest:
            self.pieces[-1] += rest


def generate_rows(
    model: Model,
    states: Sequence[State],
    params: Sequence[SamplingParams],
    max_tokens: int,
    *,
    chunk_tokens: int = 0,
    progress: Progress = None,
    streams: bool = False,
) -> list[Generation]:
    """Generate on several states of one model, together.

    Args:
        model: Their model.
        states: Different states.
        params: For each state.
        max_tokens: New tokens of each at most.
        chunk_tokens: Tokens of one forward pass at most; 0 is 512.
        progress: As in `State.generate`; for a single state.
        streams: Row i draws from random stream i; else all draw from stream 0.
    """
    max_tokens = check_max_tokens(max_tokens)
    chunk_tokens = integer("chunk_tokens", chunk_tokens, 0, MAX_INT32)
    rows = [
        Row(state, p, max_tokens, i if streams else 0)
        for i, (state, p) in enumerate(zip(states, params, strict=True))
    ]
    store = max((state._store_top_k for state in states), default=0)
    if len(states) == 1 and (progress or len(states[0]) > LONG_TEXT):
        states[0]._consume(progress, chunk_tokens)
    try:
        _run(model, rows, chunk_tokens, store)
    finally:
        for state, row in zip(states, rows, strict=True):
            if len(state) > row.start or row.finished:
                state._head = len(state)
                state._changed()
    return [row.result() for row in rows]


def _run(model: Model, rows: list[Row], chunk_tokens: int, store_top_k: int) -> None:
    waiting = deque(row for row in rows if not row.ended)
    if not waiting:
        return
    batch = _core.Batch(model._core, min(len(waiting), MAX_ROWS), chunk_tokens, store_top_k)
    active: dict[int, Row] = {}
    try:
        while waiting or active:
            while waiting and len(active) < MAX_ROWS:
                row = waiting.popleft()
                active[batch.add(row.state._core, row.sampling(), row.limit)] = row
            for step in batch.step():
                row = active[step[0]]
                row.take(step)
                if row.ended:
                    del active[step[0]]
                    batch.remove(step[0])
    finally:
        for number in active:
            batch.remove(number)


class Stream:
    """An iterator over tokens as they are generated.

    Between two tokens the state is free: it can be read, forked, even extended.
    """

    _open = False  # until there is something to close

    def __init__(self, state: State, row: Row) -> None:
        self._state = state
        self._row = row
        self._open = True
        self._batch: _core.Batch | None = _core.Batch(state.model._core, 1, 0, state._store_top_k)

    @property
    def result(self) -> Generation:
        """What was generated so far, and why it ended."""
        return self._row.result()

    def __iter__(self) -> Iterator[Token]:
        return self

    def __next__(self) -> Token:
        row, state, batch = self._row, self._state, self._batch
        while self._open and batch is not None and not row.ended:
            step, top = self._step(batch)
            state._head = len(state)
            last = row.pieces[-1] if row.pieces else ""
            if row.take(step):
                return self._token(step, row.pieces[-1], top)
            if row.pieces and row.pieces[-1] != last:
                return Token(row.pieces[-1][len(last) :], -1, len(state), 0.0, 0.0)
        self.close()
        raise StopIteration

    def _step(self, batch: _core.Batch) -> tuple[Step, tuple[tuple[int, float], ...]]:
        """Let the core draw a token; where that is interrupted, the state is as it was."""
        core = self._state._core
        number = batch.add(core, self._row.sampling(), self._row.limit)
        length = len(core)  # from here on nobody else changes it
        try:
            while not (steps := batch.step()):
                pass
            top = batch.top(number, SHOWN_TOP) or ()
        except BaseException:  # Ctrl-C is raised when a step is complete: nobody saw its token
            batch.remove(number)
            core.truncate(length)
            raise
        batch.remove(number)
        return steps[0], top

    def _token(self, step: Step, text: str, top: tuple[tuple[int, float], ...]) -> Token:
        _row, _finish, position, token_id, probability, logprob, entropy = step
        shown = top_tokens(top, self._state.model._tokenizer)
        return Token(text, token_id, position, probability, logprob, entropy, shown)

    def close(self) -> None:
        """End the run; what was generated stays in the state."""
        if self._open:
            self._open = False
            self._batch = None
            if self._row.token_ids or self._row.finished:
                self._state._changed()

    def __del__(self) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a stream is read once, where it was made: it cannot be copied or pickled")


class Generating:
    """The generating half of `cacher.State`."""

    __slots__ = ()

    if TYPE_CHECKING:
        _core: _core.State

        @property
        def model(self) -> Model: ...  # noqa: D102
        @property
        def config(self) -> StateConfig: ...  # noqa: D102

    def generate(
        self,
        max_tokens: int = 1,
        *,
        progress: Progress = None,
        **sampling: Unpack[SamplingOptions],
    ) -> Generation:
        """Read what is pending, then generate and add the new tokens to the state.

        Args:
            max_tokens: New tokens at most.
            progress: For the text that is pending: None shows a bar for more than 2,000 tokens in
                a terminal or notebook; True or False: always or never; or a callback (tokens read,
                tokens in all).
            **sampling: ``temperature``, ``top_p``, ``top_k``, ``min_p``, ``repetition_penalty``,
                ``no_repeat_ngram_size``, ``seed``, ``min_tokens``, ``stop``, ``max_time_s``; see
                `SamplingParams`.  Each left out comes from the state's configuration.  The same
                state, parameters and seed give the same tokens; ``seed=None`` draws a fresh seed.

        Returns:
            The continuation alone; `text` is exactly what was added to the state.

        Raises:
            ParameterError: An option is outside its range.
            StateBusyError: Another thread is using the state.
            BudgetError: The KV budget cannot hold the state.

        Where the call ends early, by Ctrl-C for one, tokens already generated stay in the state.

        Example:
            >>> import cacher
            >>> state = cacher.load("tales").state("Once upon a time")
            >>> state.generate(3, seed=5).text == state.text[len("Once upon a time"):]
            True
        """
        params = self.config.sampling(sampling)
        return generate_rows(
            self.model, [cast("State", self)], [params], max_tokens, progress=progress
        )[0]

    def stream(
        self,
        max_tokens: int = 100,
        **sampling: Unpack[SamplingOptions],
    ) -> Stream:
        """Generate token by token; the same tokens as `generate`.

        Leaving the loop early ends the run; tokens already seen stay in the state.

        Args:
            max_tokens: New tokens at most.
            **sampling: As in `generate`.

        Returns:
            An iterator of `Token`.

        Example:
            >>> import cacher
            >>> state = cacher.load("tales").state("Once upon a time")
            >>> [token.position for token in state.stream(3)]
            [4, 5, 6]
        """
        params = self.config.sampling(sampling)
        state = cast("State", self)
        return Stream(state, Row(state, params, check_max_tokens(max_tokens)))

    def multi(
        self,
        n: int = 3,
        max_tokens: int = 1,
        **sampling: Unpack[SamplingOptions],
    ) -> list[Generation]:
        """Return several independent continuations, computed together; the state stays as it is.

        Continuation i draws from random stream i, so continuation 0 is what `generate` gives.

        Args:
            n: How many, 1 to 4096.
            max_tokens: New tokens of each at most.
            **sampling: As in `generate`.

        Example:
            >>> import cacher
            >>> state = cacher.load("tales").state("Once upon a time")
            >>> len(state.multi(4, 5, temperature=1.0))
            4
        """
        n = integer("n", n, 1, MAX_CONTINUATIONS)
        max_tokens = check_max_tokens(max_tokens)
        params = self.config.sampling(sampling).with_seed()
        state = cast("State", self)
        self._core.eval(state._store_top_k)
        forks = [state.fork() for _ in range(n)]
        return generate_rows(self.model, forks, [params] * n, max_tokens, streams=True)

    def beam(
        self,
        num_beams: int = _BEAM.num_beams,
        max_tokens: int = _BEAM.max_tokens,
        *,
        length_penalty: float = _BEAM.length_penalty,
        early_stopping: bool | Literal["never"] = _BEAM.early_stopping,
        diverse_groups: int | None = None,
        diversity_penalty: float = _BEAM.diversity_penalty,
        no_repeat_ngram_size: int = _BEAM.no_repeat_ngram_size,
        repetition_penalty: float = _BEAM.repetition_penalty,
        stop: str | Sequence[str] | None = None,
        trace: bool = False,
    ) -> BeamSearch:
        """Search for the likeliest continuations; deterministic, and the state stays as it is.

        Args:
            num_beams: See `BeamParams`, as for the rest.
            max_tokens: New tokens of a beam at most.
            length_penalty: score = logprob / length ** length_penalty.
            early_stopping: When to stop.
            diverse_groups: Groups that are pushed apart.
            diversity_penalty: How hard.
            no_repeat_ngram_size: Never repeat an n-gram of this size.
            repetition_penalty: Make tokens of the state less likely.
            stop: Strings that complete a beam.
            trace: Keep every step's beams.

        Returns:
            The beams, best first.

        Example:
            >>> import cacher
            >>> found = cacher.load("tales").state("Once upon a time").beam(3, 4)
            >>> [beam.score for beam in found] == sorted((b.score for b in found), reverse=True)
            True
        """
        params = BeamParams(
            num_beams, max_tokens, length_penalty, early_stopping, diverse_groups,
            diversity_penalty, no_repeat_ngram_size, repetition_penalty, check_stop(stop), trace,
        )  # fmt: skip
        return search(cast("State", self), params)
