"""Generation on one state, on several together, and by beam search."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, Literal, Unpack, cast

from cacher import _core
from cacher.beam import BeamParams, search
from cacher.checks import MAX_INT32, integer
from cacher.params import (
    SamplingOptions,
    SamplingParams,
    StateConfig,
    check_max_tokens,
    check_stop,
)
from cacher.progress import LONG_TEXT, Progress
from cacher.row import Row
from cacher.stream import Stream
from cacher.types import BeamSearch, Generation

if TYPE_CHECKING:
    from cacher.model import Model
    from cacher.state import State

MAX_ROWS = 256  # states that share a forward pass
MAX_CONTINUATIONS = 4096

_BEAM = BeamParams()


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
                active[row.join(batch)] = row
            for step in batch.step():
                row = active[step[0]]
                row.take([step])
                if row.ended:
                    del active[step[0]]
                    batch.remove(step[0])
                elif step[1]:
                    waiting.appendleft(active.pop(step[0]))
    finally:
        for number in active:
            batch.remove(number)


def check_continuations(n: object, best_of: object) -> tuple[int, int]:
    """Return how many continuations are wanted, and how many are to be generated for that."""
    n = integer("n", n, 1, MAX_CONTINUATIONS)
    return n, n if best_of is None else integer("best_of", best_of, n, MAX_CONTINUATIONS)


def best(runs: Sequence[Generation], n: int) -> list[Generation]:
    """Return the n likeliest by the mean of their tokens, best first; ties go to the lower stream.

    One without tokens is the least of all.
    """

    def mean(run: Generation) -> float:
        return sum(run.logprobs) / len(run) if len(run) else -inf

    return sorted(runs, key=mean, reverse=True)[:n]


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
                ``no_repeat_ngram_size``, ``seed``, ``min_tokens``, ``stop``, ``max_time_s``,
                ``temperature_schedule``, ``adaptive_top_p``, ``adaptive_top_k``; see
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
        *,
        trace_layer: int | None = None,
        **sampling: Unpack[SamplingOptions],
    ) -> Stream:
        """Generate token by token; the same tokens as `generate`.

        Leaving the loop early ends the run; tokens already seen stay in the state.

        Args:
            max_tokens: New tokens at most.
            trace_layer: As in `Engine.stream`.
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
        row = Row(state, params, check_max_tokens(max_tokens), trace_layer=trace_layer)
        return Stream(state, row)

    def multi(
        self,
        n: int = 3,
        max_tokens: int = 1,
        *,
        best_of: int | None = None,
        **sampling: Unpack[SamplingOptions],
    ) -> list[Generation]:
        """Return several independent continuations, computed together; the state stays as it is.

        Continuation i draws from random stream i, so continuation 0 is what `generate` gives.

        Args:
            n: How many, 1 to 4096.
            max_tokens: New tokens of each at most.
            best_of: Generate this many, n to 4096, and return the n with the highest mean
                log-probability of a token, best first; None: all n, by stream.
            **sampling: As in `generate`.

        Example:
            >>> import cacher
            >>> state = cacher.load("tales").state("Once upon a time")
            >>> len(state.multi(4, 5, temperature=1.0))
            4
        """
        n, count = check_continuations(n, best_of)
        max_tokens = check_max_tokens(max_tokens)
        params = self.config.sampling(sampling).with_seed()
        state = cast("State", self)
        state._seen().eval(state._store_top_k)
        forks = [state.fork() for _ in range(count)]
        runs = generate_rows(self.model, forks, [params] * count, max_tokens, streams=True)
        return runs if best_of is None else best(runs, n)

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
        top_k: int = _BEAM.top_k,
        min_p: float = _BEAM.min_p,
        min_tokens: int = _BEAM.min_tokens,
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
            top_k: A beam goes on only with this many of its likeliest tokens.
            min_p: And only with those of this share of the likeliest one's probability or more.
            min_tokens: No end-of-sequence token and no stop before this many new tokens.
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
            diversity_penalty, no_repeat_ngram_size, repetition_penalty, top_k, min_p, min_tokens,
            check_stop(stop), trace,
        )  # fmt: skip
        return search(cast("State", self), params)
