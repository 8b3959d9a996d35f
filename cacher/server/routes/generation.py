"""Generating and reading."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from cacher.schemas.generation import (
    Beams,
    Cancel,
    Cancelled,
    Continuations,
    Forward,
    Forwarded,
    Generate,
    GenerateBeam,
    Generated,
    GenerateMulti,
    GenerateToken,
    TokenExtras,
    TokensGenerated,
)
from cacher.server.errors import ApiError
from cacher.server.operations import Call, Operation
from cacher.server.streaming import Records

if TYPE_CHECKING:
    from cacher.engine import EngineStream
    from cacher.state import State
    from cacher.tokeninfo import Distribution
    from cacher.types import Beam, Generation, Token

TAG = "Generation"
DEFAULT_TOKENS = 50


async def generate_token(call: Call, body: GenerateToken) -> object:
    """Continue a state.  The new tokens are added to it."""
    if body.stream:
        return call.stream(_token_records(call, body))
    async with call.writing(body.state_id) as state:
        found = await _run(call, state, body.max_tokens, body.sampling())
        return {
            "state_id": body.state_id,
            **_generated(found),
            "full_text": state.text,
            "tokens": found.tokens,
            "seed": found.seed,
            "head_position": state.head_position,
            "request_id": call.visit.request_id,
        }


async def _token_records(call: Call, body: GenerateToken) -> Records:
    async with call.writing(body.state_id) as state:
        async for record in _records(call, state, body.max_tokens, body.sampling(), None):
            yield record


async def _run(call: Call, state: State, max_tokens: int, sampling: Any) -> Generation:
    """Generate to the end, or until somebody cancels."""
    async with call.engine(state).stream(state, max_tokens, **sampling) as stream:
        with call.cancellable(stream):
            async for _ in stream:
                pass
        return stream.result


async def _records(
    call: Call, state: State, max_tokens: int, sampling: Any, extras: TokenExtras | None
) -> Records:
    """The records of a stream: one for each token, one more for an end that has no token."""
    shadow = _shadow(state, extras)
    text, step, ended = "", 0, False
    async with call.engine(state).stream(state, max_tokens, **sampling) as stream:
        with call.cancellable(stream):
            async for token in stream:
                if token.token_id < 0:  # the end of an unfinished character: nothing follows
                    text += token.text
                    continue
                step += 1
                text += token.text
                info = _info(token)
                if extras is not None and extras.return_entropy:
                    info["entropy"] = token.entropy
                if shadow is not None and extras is not None:
                    shadow.append([token.token_id])
                    (more,) = await _infos(call, shadow, token.position, 1, "this_token", extras)
                    info |= more
                ended = stream.ended and stream.result.finished
                yield _record(call, state, stream, token, text, step, max_tokens, ended, info)
        if stream.result.finished and not ended:
            yield _last_record(call, state, stream, text, step + 1, max_tokens)


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


def _generated(found: Generation) -> dict[str, Any]:
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


async def generate_multi(call: Call, body: GenerateMulti) -> object:
    """Return several continuations.  The state stays as it is."""
    state = await call.state(body.state_id)
    engine = call.engine(state)
    found = await engine.multi(state, body.n, body.max_tokens, **body.sampling())
    return {
        "state_id": body.state_id,
        "continuations": [{**_generated(f), "stream_index": f.stream_index} for f in found],
        "seed": found[0].seed,
    }


async def generate_beam(call: Call, body: GenerateBeam) -> object:
    """Search for the likeliest continuations.  The state stays as it is."""
    limit = call.settings.MAX_TOKENS_PER_REQUEST
    state = await call.state(body.state_id)
    found = await call.services.aside(
        state.beam,
        body.num_beams,
        body.max_length or min(DEFAULT_TOKENS, limit),
        length_penalty=body.length_penalty,
        early_stopping=body.early_stopping,
        diverse_groups=body.diverse_groups,
        diversity_penalty=body.diversity_penalty,
        no_repeat_ngram_size=body.no_repeat_ngram_size or 0,
        top_k=body.top_k or 0,
        min_p=body.min_p or 0.0,
        min_tokens=body.min_tokens or 0,
        stop=body.stop_sequences,
        trace=body.include_trace,
    )
    text = state.text
    details = [_beam(beam, text) for beam in found]
    answer: dict[str, object] = {
        "state_id": body.state_id,
        "beams": [beam["text"] for beam in details] if call.prefixed else details,
        "texts": [beam["full_text"] for beam in details],
        "beam_details": details,
    }
    if found.trace is not None:
        answer["trace"] = [
            {
                "step": step[0].step,
                "beams": [
                    {
                        "group": n.group,
                        "tokens": [n.token],
                        "logprob": n.logprob,
                        "parent": n.parent,
                    }
                    for n in step
                ],
            }
            for step in found.trace
        ]
    return answer


def _beam(beam: Beam, before: str) -> dict[str, Any]:
    return {
        "text": beam.text,
        "full_text": before + beam.text,
        "score": beam.score,
        "logprob": beam.logprob,
        "new_tokens": beam.tokens,
        "token_ids": beam.token_ids,
        "finished": beam.finished,
        "finish_reason": beam.finish_reason,
        "group": beam.group,
    }


@asynccontextmanager
async def _given_or_new(call: Call, body: Generate | Forward) -> AsyncIterator[State]:
    """The state that a request names, or a new one, which is kept when the request succeeds."""
    if body.state_id is not None:
        async with call.writing(body.state_id) as state:
            yield state
        return
    model = await call.services.model(body.model_id)
    config = None if body.config is None else body.config.sent()
    async with call.making(model, config=config) as state:
        yield state


async def generate(call: Call, body: Generate) -> object:
    """Continue a text, a state, or a state with a text appended."""
    if body.state_id is None and body.text_input is None:
        raise ApiError(400, "missing_input", "Give state_id, text_input, or both")
    if body.stream or body.stream_tokens_info:
        return call.stream(_generate_records(call, body))
    limit = body.max_new_tokens or min(DEFAULT_TOKENS, call.settings.MAX_TOKENS_PER_REQUEST)
    async with _given_or_new(call, body) as state:
        if body.text_input:
            await call.engine(state).forward(state, body.text_input)
        start = len(state)
        found = await _run(call, state, limit, body.sampling())
        answer = {
            "state_id": state.id,
            "generated_text": found.text,
            **_generated(found),
            "full_text": state.text,
            "head_position": state.head_position,
            "seed": found.seed,
        }
        n = len(found)
        if body.return_all_tokens_info:
            answer["generated_tokens_info"] = await _infos(
                call, state, start, n, "this_token", body
            )
        if body.wants_final:
            last = await _infos(call, state, len(state) - 1, 1, "this_token", body) if n else []
            answer["generated_token_info"] = last[0] if last else None
        return answer


async def _generate_records(call: Call, body: Generate) -> Records:
    limit = body.max_new_tokens or min(DEFAULT_TOKENS, call.settings.MAX_TOKENS_PER_REQUEST)
    async with _given_or_new(call, body) as state:
        if body.text_input:
            await call.engine(state).forward(state, body.text_input)
        async for record in _records(call, state, limit, body.sampling(), body):
            yield record


async def forward(call: Call, body: Forward) -> object:
    """Read a text, or what is pending in a state, without generating."""
    if not body.text_input and body.state_id is None:
        raise ApiError(400, "empty_input", "text_input may be empty only with a state_id")
    if body.stream_tokens_info:
        return call.stream(_forward_records(call, body))
    async with _given_or_new(call, body) as state:
        start = len(state)
        await call.engine(state).forward(state, body.text_input or None)
        n = len(state) - start
        answer: dict[str, object] = {
            "state_id": state.id,
            "head_position": state.head_position,
            "token_count": len(state),
        }
        if body.wants_final and len(state):
            (answer["token_info"],) = await _infos(
                call, state, len(state) - 1, 1, "next_token", body
            )
        if body.return_all_tokens_info:
            answer["tokens_info"] = await _infos(call, state, start, n, "next_token", body)
        return answer


async def _forward_records(call: Call, body: Forward) -> Records:
    async with _given_or_new(call, body) as state:
        start = len(state)
        await call.engine(state).forward(state, body.text_input or None)
        n = len(state) - start
        for i, info in enumerate(await _infos(call, state, start, n, "next_token", body)):
            yield {
                "state_id": state.id,
                "step": i + 1,
                "token": info["token"],
                "token_id": info["token_id"],
                "position": info["position"],
                "token_info": info,
                "head_position": info["position"] + 1,
                "finished": i + 1 == n,
            }


async def _infos(
    call: Call, state: State, first: int, n: int, distribution: Distribution, wanted: TokenExtras
) -> list[dict[str, Any]]:
    found = await call.services.aside(
        state.token_info,
        first,
        n,
        distribution=distribution,
        logits=wanted.return_logits,
        top_logprobs=wanted.return_top_logprobs,
        entropy=wanted.return_entropy,
        max_logits=call.settings.MAX_RESPONSE_VALUES,
    )
    return [
        {name: value for name in info.__slots__ if (value := getattr(info, name)) is not None}
        for info in found
    ]


async def cancel(call: Call, body: Cancel) -> object:
    """End a running generation; it answers with what it has."""
    cancelled = await call.services.cancel(call.visit.tenant, body.request_id)
    return {"request_id": body.request_id, "cancelled": cancelled}


STREAM: dict[str, Any] = {
    "application/x-ndjson": {"schema": {"type": "string"}},
    "text/event-stream": {"schema": {"type": "string"}},
    "text/plain": {"schema": {"type": "string"}},
}
OPERATIONS = [
    Operation(
        method="POST", path="/generate/token", handler=generate_token, tag=TAG,
        body=GenerateToken, returns=TokensGenerated, content=STREAM,
    ),
    Operation(
        method="POST", path="/generate/multi", handler=generate_multi, tag=TAG,
        body=GenerateMulti, returns=Continuations,
    ),
    Operation(
        method="POST", path="/generate/beam", handler=generate_beam, tag=TAG, body=GenerateBeam,
        returns=Beams,
    ),
    Operation(
        method="POST", path="/generate", handler=generate, tag=TAG, body=Generate,
        returns=Generated, content=STREAM,
    ),
    Operation(
        method="POST", path="/generate/cancel", handler=cancel, tag=TAG, body=Cancel,
        returns=Cancelled,
    ),
    Operation(
        method="POST", path="/forward", handler=forward, tag=TAG, body=Forward, returns=Forwarded,
        content=STREAM,
    ),
]  # fmt: skip
