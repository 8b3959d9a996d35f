"""Runs as responses show them: records of streams, token infos, continuations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cacher.request import AHEAD
from cacher.schemas.generation import TokenExtras
from cacher.server.operations import Call
from cacher.server.streaming import Records

if TYPE_CHECKING:
    from cacher.engine import EngineStream
    from cacher.state import State
    from cacher.tokeninfo import Distribution, TokenInfo
    from cacher.types import Generation, Token


async def run(call: Call, state: State, max_tokens: int, sampling: Any) -> Generation:
    """Generate to the end, or until somebody cancels."""
    async with call.engine(state).stream(state, max_tokens, **sampling) as stream:
        with call.cancellable(stream):
            async for _ in stream:
                pass
        return stream.result


async def records(
    call: Call, state: State, max_tokens: int, sampling: Any, extras: TokenExtras | None
) -> Records:
    """The records of a stream: one for each token, one more for an end that has no token."""
    shadow = _shadow(state, extras)
    text, step, ended = "", 0, False
    found: list[dict[str, Any]] = []
    async with call.engine(state).stream(state, max_tokens, **sampling) as stream:
        with call.cancellable(stream):
            async for token in stream:
                if token.token_id < 0:  # what is left of a character: the last record tells it
                    continue
                step += 1
                text += token.text
                info = _info(token)
                if extras is not None and extras.return_entropy:
                    info["entropy"] = token.entropy
                if shadow is not None and extras is not None:
                    shadow.append([token.token_id])
                    at = token.position
                    (more,) = await token_infos(call, shadow, at, 1, "this_token", extras)
                    info = {**more, **info}  # the fork knows of no token to come
                ended = stream.ended and stream.result.finished
                record = _record(call, state, stream, token, text, step, max_tokens, ended, info)
                found.append(record)
                if not stream.ready or len(found) >= AHEAD:
                    yield found
                    found = []
        if stream.result.finished and not ended:
            found.append(_last_record(call, state, stream, text, step + 1, max_tokens))
        if found:
            yield found


def _shadow(state: State, extras: TokenExtras | None) -> State | None:
    """A fork that follows the stream, where more is asked of a token than a stream tells."""
    if extras is None or not (extras.return_logits or extras.return_top_logprobs):
        return None
    return state.fork()


def _record(
    call: Call, state: State, stream: EngineStream, token: Token, text: str, step: int,
    max_tokens: int, ended: bool, info: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    result = stream.result if ended else None
    return {
        "request_id": call.visit.request_id,
        "state_id": state.id,
        "step": step,
        "token": token.text,
        "token_id": token.token_id,
        "position": token.position,
        "probability": token.probability,
        "logprob": token.logprob,
        "entropy": token.entropy,
        "top_tokens": [(top.token, top.probability) for top in token.top_tokens],
        "text": text,
        "token_info": info,
        "progress": {"generated": step, "max_tokens": max_tokens},
        "seed": stream.seed,
        "finished": ended,
        "finish_reason": result.finish_reason if result else None,
    }


def _last_record(
    call: Call, state: State, stream: EngineStream, text: str, step: int, max_tokens: int
) -> dict[str, Any]:
    result = stream.result
    return {
        "request_id": call.visit.request_id,
        "state_id": state.id,
        "step": step,
        "token": result.text[len(text) :] if result.text.startswith(text) else "",
        "token_id": None,
        "position": len(state),
        "probability": None,
        "logprob": None,
        "entropy": None,
        "top_tokens": [],
        "text": result.text,
        "token_info": None,
        "progress": {"generated": len(result.token_ids), "max_tokens": max_tokens},
        "seed": result.seed,
        "finished": True,
        "finish_reason": result.finish_reason,
    }


def _info(token: Token) -> dict[str, Any]:
    return {
        "token": token.text,
        "token_id": token.token_id,
        "position": token.position,
        "probability": token.probability,
        "logprob": token.logprob,
        "distribution": "this_token",
    }


def generated(found: Generation) -> dict[str, Any]:
    """Return a continuation as responses show it."""
    answer = {
        "text": found.text,
        "new_tokens": found.tokens,
        "token_ids": found.token_ids,
        "probabilities": found.probabilities,
        "logprobs": found.logprobs,
        "finished": found.finished,
        "finish_reason": found.finish_reason,
        "stop_sequence": found.stop_sequence,
    }
    if found.dropped_tokens:
        answer["dropped_tokens"] = found.dropped_tokens
    return answer


async def token_infos(
    call: Call, state: State, first: int, n: int, distribution: Distribution, wanted: TokenExtras
) -> list[dict[str, Any]]:
    """Return what is known of tokens, without what was not asked for.

    Args:
        call: The request.
        state: The state.
        first: First token.
        n: How many.
        distribution: As of `State.token_info`.
        wanted: What was asked for.
    """
    found = await call.run(
        state,
        state.token_info,
        first,
        n,
        distribution=distribution,
        logits=wanted.return_logits,
        top_logprobs=wanted.return_top_logprobs,
        entropy=wanted.return_entropy,
        max_logits=call.settings.MAX_RESPONSE_VALUES,
    )
    return [_plain(info) for info in found]


def _plain(info: TokenInfo) -> dict[str, Any]:
    shown = {name: value for name in info.__slots__ if (value := getattr(info, name)) is not None}
    if info.top_logprobs is not None:
        shown["top_logprobs"] = [
            {"token": top.token, "token_id": top.token_id, "logprob": top.logprob}
            for top in info.top_logprobs
        ]
    return shown
