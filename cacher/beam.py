"""Beam search: stop sequences and texts around the core's search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cacher.decoding import check_stops, continuation_pieces
from cacher.errors import ContextOverflowError
from cacher.params import BeamParams
from cacher.types import Beam, BeamNode, BeamSearch, FinishReason

if TYPE_CHECKING:
    from cacher.state import State
    from cacher.tokenizer import Tokenizer


def search(state: State, params: BeamParams) -> BeamSearch:
    """Search from a state, which stays as it is."""
    room = state.context_limit - len(state)
    if room < 1:
        raise ContextOverflowError(
            f"the state has {len(state)} tokens, its context holds {state.context_limit}: "
            "no room for a beam"
        )
    params = replace(params, max_tokens=min(params.max_tokens, room))
    check_stops(state, params.stop)
    tokenizer = state.model._tokenizer
    ask: Callable[[tuple[int, ...]], bool] | None = None
    if params.stop:
        ask = lambda ids: _stop_in(state, ids, params.stop) is not None  # noqa: E731
    found, nodes = state._core.beam(params.core(), ask)
    beams = []
    for score, logprob, ids, logprobs, group, eos in found:
        reason: FinishReason | None = "eos" if eos else None
        if reason is None and ask is not None and ask(ids):
            reason = "stop_sequence"
        pieces = continuation_pieces(state, ids)
        beams.append(
            Beam("".join(pieces), pieces, list(ids), list(logprobs), score, logprob,
                 reason is not None, reason, group)
        )  # fmt: skip
    return BeamSearch(tuple(beams), _trace(nodes, tokenizer) if params.trace else None)


def _stop_in(state: State, ids: Sequence[int], stops: tuple[str, ...]) -> str | None:
    text = "".join(continuation_pieces(state, ids))
    return next((stop for stop in stops if stop in text), None)


def _trace(nodes: list[Any], tokenizer: Tokenizer | None) -> tuple[tuple[BeamNode, ...], ...]:
    steps: dict[int, list[BeamNode]] = {}
    for step, group, token_id, parent, logprob in nodes:
        text = tokenizer.decode([token_id]) if tokenizer else ""
        steps.setdefault(step, []).append(BeamNode(step, group, text, token_id, logprob, parent))
    return tuple(tuple(beams) for _step, beams in sorted(steps.items()))
