"""Beam search: its parameters, and stop sequences and texts around the core's search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from cacher.checks import choice, integer, number
from cacher.decoding import StopMatcher, check_stops, continuation_pieces
from cacher.errors import ContextOverflowError
from cacher.params import SAMPLING_CHECKS, check_max_tokens, check_stop
from cacher.types import Beam, BeamNode, BeamSearch, FinishReason

if TYPE_CHECKING:
    from cacher.state import State
    from cacher.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class BeamParams:
    """How beam search runs.

    Attributes:
        num_beams: 1 to 1024.
        max_tokens: New tokens of a beam at most.
        length_penalty: -5 to 5; score = logprob / length ** length_penalty.
        early_stopping: True: stop when `num_beams` beams are complete; False: when no open beam can
            beat the worst complete one; ``"never"``: as False, at the open beam's best length.
        diverse_groups: Groups that are pushed apart, 1 to `num_beams`; None: `num_beams` when there
            is a diversity penalty, else 1.
        diversity_penalty: 0 to 100; taken off a token's score for each earlier group that chose it.
        no_repeat_ngram_size: Never repeat an n-gram of this size; 0 is off.
        repetition_penalty: Above 0; 1 is off.
        top_k: A beam goes on only with this many of its likeliest tokens; 0 is off.
        min_p: 0 to 1; and only with those of this share of the likeliest one's probability or more;
            0 is off.
        min_tokens: 0 to `max_tokens`; no end-of-sequence token and no stop before this many.
        stop: As in `SamplingParams`; completes a beam.
        trace: Keep every step's beams.

    Example:
        >>> from cacher import BeamParams
        >>> BeamParams(num_beams=3, diversity_penalty=0.5).n_groups
        3
    """

    num_beams: int = 5
    max_tokens: int = 50
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = True
    diverse_groups: int | None = None
    diversity_penalty: float = 0.0
    no_repeat_ngram_size: int = 0
    repetition_penalty: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    trace: bool = False

    def __post_init__(self) -> None:
        """Check every field; raises as `SamplingParams` does."""
        if not isinstance(self.early_stopping, bool):
            choice("early_stopping (when not a bool)", self.early_stopping, "never")
        beams = integer("num_beams", self.num_beams, 1, 1024)
        most = check_max_tokens(self.max_tokens)
        checked: dict[str, object] = {
            "num_beams": beams,
            "max_tokens": most,
            "min_tokens": integer("min_tokens", self.min_tokens, 0, most),
            "length_penalty": number("length_penalty", self.length_penalty, -5.0, 5.0),
            "diversity_penalty": number("diversity_penalty", self.diversity_penalty, 0.0, 100.0),
            "stop": check_stop(self.stop),
        }
        if self.diverse_groups is not None:
            checked["diverse_groups"] = integer("diverse_groups", self.diverse_groups, 1, beams)
        for name in ("no_repeat_ngram_size", "repetition_penalty", "top_k", "min_p"):
            checked[name] = SAMPLING_CHECKS[name](name, getattr(self, name))
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def n_groups(self) -> int:
        """The number of groups in force."""
        if self.diverse_groups is not None:
            return self.diverse_groups
        return self.num_beams if self.diversity_penalty > 0 else 1

    def core(self) -> tuple[float | int | bool, ...]:
        """Return the tuple the extension takes."""
        early = 2 if self.early_stopping == "never" else int(self.early_stopping)
        return (
            self.num_beams, self.max_tokens, self.length_penalty, early, self.n_groups,
            self.diversity_penalty, self.no_repeat_ngram_size, self.repetition_penalty, self.top_k,
            self.min_p, self.min_tokens, self.trace,
        )  # fmt: skip


def search(state: State, params: BeamParams) -> BeamSearch:
    """Search from a state, which stays as it is."""
    state.model._require("beam search")
    seen = state._seen()
    room = state.context_limit - len(seen)
    if room < 1:
        raise ContextOverflowError(
            f"the state has {len(state)} tokens, its context holds {state.context_limit}: "
            "no room for a beam"
        )
    short = room < params.max_tokens
    if short:
        params = replace(params, max_tokens=room, min_tokens=min(params.min_tokens, room))
    check_stops(state, params.stop)
    tokenizer = state.model._tokenizer
    ask: Callable[[tuple[int, ...]], bool] | None = None
    if params.stop:
        ask = lambda ids: _completes_stop(state, ids, params.stop)  # noqa: E731
    found, nodes = seen.beam(params.core(), ask, None if seen is state._core else state._core)
    beams = []
    for score, logprob, ids, logprobs, group, eos in found:
        reason: FinishReason | None = "eos" if eos else None
        if reason is None and ask is not None and len(ids) >= params.min_tokens and ask(ids):
            reason = "stop_sequence"
        if reason is None and short and len(ids) == room:
            reason = "context_length"
        pieces = continuation_pieces(state, ids)
        beams.append(
            Beam("".join(pieces), pieces, list(ids), list(logprobs), score, logprob,
                 reason is not None, reason, group)
        )  # fmt: skip
    return BeamSearch(tuple(beams), _trace(nodes, tokenizer) if params.trace else None)


def _completes_stop(state: State, ids: Sequence[int], stops: tuple[str, ...]) -> bool:
    """Whether the last of `ids` completes a stop sequence; the core asks after every token."""
    matcher = StopMatcher(stops)
    match = None
    for piece in continuation_pieces(state, ids):
        match = matcher.push(piece)
    return match is not None


def _trace(nodes: list[Any], tokenizer: Tokenizer | None) -> tuple[tuple[BeamNode, ...], ...]:
    steps: dict[int, list[BeamNode]] = {}
    for step, group, token_id, parent, logprob in nodes:
        text = tokenizer.decode([token_id]) if tokenizer else ""
        steps.setdefault(step, []).append(BeamNode(step, group, text, token_id, logprob, parent))
    return tuple(tuple(beams) for _step, beams in sorted(steps.items()))
