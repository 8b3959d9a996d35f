"""A run: one state's generation, from its first token to the reason it ended.

The core draws tokens; what is decided here is when a run ends (stop strings, number of tokens,
time) and what text a token adds.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from cacher import _core
from cacher.decoding import StopMatcher, check_stops, primed_decoder
from cacher.errors import ParameterError
from cacher.looking import array
from cacher.params import SamplingParams
from cacher.types import FinishReason, Generation, Token, Trace, top_tokens

if TYPE_CHECKING:
    from cacher.state import State
    from cacher.tokenizer import Tokenizer

SHOWN_TOP = 5  # alternatives that a streamed token carries

Pairs = tuple[tuple[int, float], ...]
# row, finish, position, token_id, probability, logprob, entropy, (id, logprob) of the likeliest,
# trace: entropy, (id, probability) of the likeliest, attention
Step = tuple[
    int, int, int, int, float, float, float, Pairs, tuple[float, Pairs, _core.Array | None] | None
]


class Shown(NamedTuple):
    """What a step shows to a reader.

    Attributes:
        text: What is new.
        step: The step; one that ended the run brought no token, only the end of a character.
    """

    text: str
    step: Step

    def token(self, tokenizer: Tokenizer | None) -> Token:
        """Return it as a record."""
        _row, finish, position, token_id, probability, logprob, entropy, top, trace = self.step
        if finish:
            return Token(self.text, -1, position, 0.0, 0.0)
        shown = top_tokens(top, tokenizer)
        traced = None
        if trace is not None:
            traced = Trace(trace[0], trace[1], None if trace[2] is None else array(trace[2]))
        return Token(self.text, token_id, position, probability, logprob, entropy, shown, traced)


class Row:
    """One state's run: takes the core's steps, keeps the text, knows when it ends."""

    def __init__(
        self,
        state: State,
        params: SamplingParams,
        max_tokens: int,
        stream_index: int = 0,
        trace_layer: int | None = None,
    ) -> None:
        state.model._require("generation")
        if params.min_tokens > max_tokens:
            raise ParameterError(
                f"min_tokens is {params.min_tokens}, allowed: 0 to max_tokens ({max_tokens})"
            )
        self.state = state
        self.params = params.with_seed()
        self.max_tokens = max_tokens
        self.stream_index = stream_index
        self.trace_layer = None if trace_layer is None else state._check_layer(trace_layer)
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
        self.dropped_tokens = state.dropped_tokens
        if self._full:
            self._end("context_length")

    @property
    def ended(self) -> bool:
        """Whether no further token is wanted."""
        return self.finished or len(self.token_ids) >= self.max_tokens

    @property
    def stride(self) -> int:
        """Tokens that may be drawn before somebody must look at them: any of them may end it."""
        if self.params.stop or self._deadline is not None:
            return 1
        left = self.max_tokens - len(self.token_ids)
        return (
            left if self.state._slides else min(left, self.limit - self.start - len(self.token_ids))
        )

    @property
    def _full(self) -> bool:
        return not self.state._slides and self.start + len(self.token_ids) >= self.limit

    def join(self, batch: _core.Batch) -> int:
        """Let the state join a batch for what is left of this run; return its number there."""
        state = self.state
        seen = state._seen()
        self.dropped_tokens = state.dropped_tokens
        sampling = self.params.core(
            self.stream_index, done=len(self.token_ids), max_tokens=self.max_tokens
        )
        tape = None if seen is state._core else state._core
        trace_layer = -1 if self.trace_layer is None else self.trace_layer
        return batch.add(seen, sampling, state._row_limit, tape, trace_layer)

    def take(self, steps: Sequence[Step]) -> list[Shown]:
        """Take steps of the core, `stride` at most; return what they show to a reader.

        Only the last may have brought no token.  If the run has not ended by that, the window was
        full: the row has left the batch, and joins again with the next window.
        """
        finish = steps[-1][1]
        drawn = steps[:-1] if finish else steps
        self.token_ids += [step[3] for step in drawn]
        self.probabilities += [step[4] for step in drawn]
        self.logprobs += [step[5] for step in drawn]
        decoder = self._decoder
        texts = [decoder.push(step[3]) if decoder else "" for step in drawn]
        self.pieces += texts
        known = self.pieces[-1] if self.pieces else ""
        if not finish:
            self._judge(known)
            texts[-1] = self.pieces[-1]  # the run may have ended in the middle of a character
        elif finish == _core.FINISH_EOS:
            self._end("eos")
        elif not self.state._slides:
            self._end("context_length")
        shown = [Shown(text, step) for text, step in zip(texts, drawn, strict=True)]
        if finish and self.pieces and self.pieces[-1] != known:
            shown.append(Shown(self.pieces[-1][len(known) :], steps[-1]))
        return shown

    def _judge(self, piece: str) -> None:
        """End the run where the last token is a reason to."""
        match = self._stops.push(piece) if self.params.stop else None
        if match is not None and len(self.token_ids) >= self.params.min_tokens:
            self.stop_sequence = match
            self._end("stop_sequence")
        elif self._deadline is not None and time.monotonic() >= self._deadline:
            self._end("time")
        elif self.ended:
            self._flush()
        elif self._full:
            self._end("context_length")

    def cancel(self) -> None:
        """End the run where it is."""
        if not self.ended:
            self._end("cancelled")

    def result(self) -> Generation:
        """Return what was generated so far, also while another thread takes steps.

        What `take` sets last is read first: what is said to be finished is whole.
        """
        finished, reason, stop = self.finished, self.finish_reason, self.stop_sequence
        pieces = self.pieces[:]
        n = len(pieces)
        return Generation(
            "".join(pieces), pieces, self.token_ids[:n], self.probabilities[:n],
            self.logprobs[:n], finished, reason, stop,
            None if self.params.greedy else self.params.seed, self.stream_index,
            self.dropped_tokens,
        )  # fmt: skip

    def _end(self, reason: FinishReason) -> None:
        self._flush()
        self.finish_reason = reason
        self.finished = True

    def _flush(self) -> None:
        """Give the bytes of an unfinished character to the last token."""
        rest = self._decoder.finish() if self._decoder and self.pieces else ""
        if rest:
            self.pieces[-1] += rest
