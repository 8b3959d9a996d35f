"""What calls give back: plain records, without a reference to a state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import exp
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime

    import numpy as np
    from numpy.typing import NDArray

    from cacher.tokenizer import Tokenizer

LOWEST_LOGPROB = -1e9  # of what has probability 0

FinishReason = Literal["stop_sequence", "eos", "context_length", "time", "cancelled"]


class TopToken(NamedTuple):
    """A token the model might choose, by its own distribution (temperature 1, nothing cut off)."""

    token: str
    token_id: int
    probability: float
    logprob: float


@dataclass(frozen=True, slots=True)
class Trace:
    """What a token was drawn from, and what the model attended to when it predicted it.

    Attributes:
        entropy: Of the distribution that was drawn from, in nats: after temperature, penalties and
            cuts; 0 where the likeliest token was taken.
        top: Its 10 likeliest tokens: (id, probability); what was cut off has probability 0.
        attention: float32 [n_heads, tokens]: that of the last token read; None if there was none.
    """

    entropy: float
    top: tuple[tuple[int, float], ...]
    attention: NDArray[np.float32] | None


@dataclass(frozen=True, slots=True)
class Token:
    """One token: as it is generated, or as a state shows it.

    Attributes:
        text: The text this token adds; empty while a character is unfinished.
        token_id: Its id; -1 for the record that only carries the end of an unfinished character.
        position: Its index in the state.
        probability: The model's own probability of the token, given what precedes it.
        logprob: Natural logarithm of it.
        entropy: Of the distribution it was chosen from, in nats; None where it is not known.
        top_tokens: The likeliest tokens at this position, best first; empty where none are known.
        trace: What it was drawn from and what the model attended to; None unless asked for.
    """

    text: str
    token_id: int
    position: int
    probability: float
    logprob: float
    entropy: float | None = None
    top_tokens: list[TopToken] = field(default_factory=list, repr=False, compare=False)
    trace: Trace | None = field(default=None, repr=False, compare=False)


def top_token(text: str, token_id: int, logprob: float) -> TopToken:
    """Return a record; a rounding above 0 is 0, and what cannot come has -1e9."""
    logprob = min(0.0, max(logprob, LOWEST_LOGPROB))
    return TopToken(text, token_id, exp(logprob), logprob)


def top_tokens(pairs: Iterable[tuple[int, float]], tokenizer: Tokenizer | None) -> list[TopToken]:
    """Return records for (id, log-probability) pairs."""
    return [
        top_token("" if tokenizer is None else tokenizer._text_of(i), i, logprob)
        for i, logprob in pairs
    ]


@dataclass(frozen=True, slots=True)
class Generation:
    """A continuation.

    Attributes:
        text: Only the continuation: the tokens' texts, joined.
        tokens: The text each token adds.
        token_ids: Their ids.
        probabilities: The model's own probability of each token (temperature 1, nothing cut off).
        logprobs: Their natural logarithms.
        finished: False when `max_tokens` ended the run.
        finish_reason: ``"stop_sequence"``, ``"eos"``, ``"context_length"``, ``"time"``,
            ``"cancelled"``, or None.
        stop_sequence: The stop sequence that was matched.
        seed: The seed in force; None when nothing was drawn (temperature 0).
        stream_index: Which of several continuations this is.
        dropped_tokens: Oldest tokens not seen at the end; 0 but with ``context_strategy`` "slide".
    """

    text: str
    tokens: list[str]
    token_ids: list[int]
    probabilities: list[float]
    logprobs: list[float]
    finished: bool
    finish_reason: FinishReason | None
    stop_sequence: str | None
    seed: int | None
    stream_index: int = 0
    dropped_tokens: int = 0

    def __str__(self) -> str:
        return self.text

    def __len__(self) -> int:
        return len(self.token_ids)

    def _repr_html_(self) -> str:
        from cacher.display import text_html

        return text_html(self.tokens, self.logprobs)


@dataclass(frozen=True, slots=True)
class Beam:
    """A sequence found by beam search.

    Attributes:
        text: Only the continuation.
        tokens: The text each token adds.
        token_ids: Their ids.
        logprobs: Log-probability of each token.
        score: logprob / length ** length_penalty.
        logprob: Sum of the log-probabilities, that of a drawn end-of-sequence token included.
        finished: Whether it is complete, or as long as the context allows.
        finish_reason: ``"eos"``, ``"stop_sequence"``, ``"context_length"`` or None.
        group: Its diversity group.
    """

    text: str
    tokens: list[str]
    token_ids: list[int]
    logprobs: list[float]
    score: float
    logprob: float
    finished: bool
    finish_reason: FinishReason | None
    group: int

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class BeamNode:
    """A beam after one step of the search, for pictures.

    Attributes:
        step: From 1.
        group: Diversity group.
        token: The text of the token chosen in this step.
        token_id: Its id.
        logprob: Sum so far.
        parent: Index into the previous step's beams.
    """

    step: int
    group: int
    token: str
    token_id: int
    logprob: float
    parent: int


@dataclass(frozen=True, slots=True)
class BeamSearch:
    """The beams that were found, best first: a sequence of `Beam`.

    Attributes:
        beams: Best first.
        trace: Every step's beams, when they were asked for.
    """

    beams: tuple[Beam, ...]
    trace: tuple[tuple[BeamNode, ...], ...] | None = None

    def __len__(self) -> int:
        return len(self.beams)

    def __getitem__(self, index: int) -> Beam:
        return self.beams[index]

    def __iter__(self) -> Iterator[Beam]:
        return iter(self.beams)

    def _repr_html_(self) -> str:
        from cacher.display import beams_html

        return beams_html(self)


@dataclass(frozen=True, slots=True)
class Diff:
    """How two states differ.

    Attributes:
        state_ids: Of the two.
        same_model: Whether their models are equal.
        identical: Whether model, tokens and configuration are equal.
        common_prefix_tokens: Tokens both begin with.
        common_prefix_text: Their text.
        only_in: What follows that in each.
        config_changes: Keys of the configuration that differ, with both values.
    """

    state_ids: tuple[str, str]
    same_model: bool
    identical: bool
    common_prefix_tokens: int
    common_prefix_text: str
    only_in: tuple[str, str]
    config_changes: dict[str, tuple[object, object]]


@dataclass(frozen=True, slots=True)
class MergeConflict:
    """A configuration key with different values in merged states.

    Attributes:
        key: The key.
        values: Its value in each state, in order.
        chosen: The value the merged state has.
    """

    key: str
    values: tuple[object, ...]
    chosen: object


@dataclass(frozen=True, slots=True)
class Event:
    """A change of a state.

    Attributes:
        revision: The state's revision from then on.
        op: ``"create"``, ``"fork"``, ``"merge"``, ``"import"``, ``"forward"``, ``"generate"``,
            ``"config"``, ``"edit"`` or ``"rollback"``.
        at: When it happened (UTC).
        token_count: How many tokens the state held after it.
        head_position: Where its head was after it.
        detail: What else is known: where a fork comes from, where a rollback went.
    """

    revision: int
    op: str
    at: datetime
    token_count: int
    head_position: int
    detail: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A moment of a state, remembered under a name.

    Attributes:
        name: Its name.
        revision: The state's revision at that moment.
        token_count: How many tokens it held.
        created_at: When the checkpoint was made (UTC).
    """

    name: str
    revision: int
    token_count: int
    created_at: datetime
