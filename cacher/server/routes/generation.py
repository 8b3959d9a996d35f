"""Generating and reading."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from cacher.engine import LONG_TEXT
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
from cacher.server.records import generated, records, run, token_infos
from cacher.server.routes.states import sent
from cacher.server.streaming import Records
from cacher.tokeninfo import check_logits

if TYPE_CHECKING:
    from cacher.state import State
    from cacher.types import Beam

TAG = "Generation"
DEFAULT_TOKENS = 50
TOGETHER = 64  # tokens whose infos are computed at a time, where they are streamed


async def generate_token(call: Call, body: GenerateToken) -> object:
    """Continue a state.  The new tokens are added to it."""
    if body.stream:
        return call.stream(_token_records(call, body))
    async with call.writing(body.state_id) as state:
        found = await run(call, state, body.max_tokens, body.sampling())
        return {
            "state_id": body.state_id,
            **generated(found),
            "full_text": state.text,
            "tokens": found.tokens,
            "seed": found.seed,
            "head_position": state.head_position,
            "request_id": call.visit.request_id,
        }


async def _token_records(call: Call, body: GenerateToken) -> Records:
    async with call.writing(body.state_id) as state:
        async for found in records(call, state, body.max_tokens, body.sampling(), None):
            yield found


async def generate_multi(call: Call, body: GenerateMulti) -> object:
    """Return several continuations.  The state stays as it is."""
    state = await call.state(body.state_id)
    engine = call.engine(state)
    found = await engine.multi(state, body.n, body.max_tokens, **body.sampling())
    return {
        "state_id": body.state_id,
        "continuations": [{**generated(f), "stream_index": f.stream_index} for f in found],
        "seed": found[0].seed,
    }


async def generate_beam(call: Call, body: GenerateBeam) -> object:
    """Search for the likeliest continuations.  The state stays as it is."""
    limit = call.settings.MAX_TOKENS_PER_REQUEST
    state = await call.state(body.state_id)
    found = await call.run(
        state,
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
async def _with_text(
    call: Call, body: Generate | Forward, *, streams: bool = False
) -> AsyncIterator[tuple[State, int]]:
    """The state that a request names, or a new one, its text laid behind; and where that begins.

    A new state is kept when the request succeeds.  In a given one, the text and what the block does
    are one change of it, or none.
    """
    if body.state_id is None:
        model = await call.services.model(body.model_id)
        making = call.making(model, sent(body.config), body.text_input, streams=streams)
        async with making as state:
            yield state, 0
        return
    async with call.writing(body.state_id) as state:
        length, revision = len(state), state.revision
        text = body.text_input or ""
        if len(text) > LONG_TEXT:
            state._lay(await call.run(state, state._encode, text))
        else:
            state._lay(text)
        try:
            yield state, length
        except BaseException:
            if state.revision == revision:  # refused before the first token
                state._core.truncate(length)
            raise


async def generate(call: Call, body: Generate) -> object:
    """Continue a text, a state, or a state with a text appended."""
    if body.state_id is None and body.text_input is None:
        raise ApiError(400, "missing_input", "Give state_id, text_input, or both")
    if body.stream or body.stream_tokens_info:
        return call.stream(_generate_records(call, body))
    async with _with_text(call, body) as (state, _):
        start, limit = len(state), _new_tokens(call, body)
        _check_size(call, state, limit, body)
        found = await run(call, state, limit, body.sampling())
        answer = {
            "state_id": state.id,
            "generated_text": found.text,
            **generated(found),
            "full_text": state.text,
            "head_position": state.head_position,
            "seed": found.seed,
        }
        n = len(found)
        if body.return_all_tokens_info:
            answer["generated_tokens_info"] = await token_infos(
                call, state, start, n, "this_token", body
            )
        if body.wants_final:
            last = (
                await token_infos(call, state, len(state) - 1, 1, "this_token", body) if n else []
            )
            answer["generated_token_info"] = last[0] if last else None
        return answer


async def _generate_records(call: Call, body: Generate) -> Records:
    async with _with_text(call, body, streams=True) as (state, _):
        async for found in records(call, state, _new_tokens(call, body), body.sampling(), body):
            yield found


def _check_size(call: Call, state: State, n: int, wanted: TokenExtras) -> None:
    """Refuse what would be too large to be sent before the state has changed."""
    if wanted.return_all_tokens_info and wanted.return_logits:
        check_logits(n, state.model.vocab_size, call.settings.MAX_RESPONSE_VALUES)


def _new_tokens(call: Call, body: Generate) -> int:
    return body.max_new_tokens or min(DEFAULT_TOKENS, call.settings.MAX_TOKENS_PER_REQUEST)


async def forward(call: Call, body: Forward) -> object:
    """Read a text, or what is pending in a state, without generating."""
    if not body.text_input and body.state_id is None:
        raise ApiError(400, "empty_input", "text_input may be empty only with a state_id")
    if body.stream_tokens_info:
        return call.stream(_forward_records(call, body))
    async with _with_text(call, body) as (state, start):
        n = len(state) - start
        _check_size(call, state, n, body)
        await call.engine(state).forward(state)
        answer: dict[str, object] = {
            "state_id": state.id,
            "head_position": state.head_position,
            "token_count": len(state),
        }
        if body.wants_final and len(state):
            (answer["token_info"],) = await token_infos(
                call, state, len(state) - 1, 1, "next_token", body
            )
        if body.return_all_tokens_info:
            answer["tokens_info"] = await token_infos(call, state, start, n, "next_token", body)
        return answer


async def _forward_records(call: Call, body: Forward) -> Records:
    async with _with_text(call, body, streams=True) as (state, start):
        await call.engine(state).forward(state)
        end = len(state)
        together = max(
            1, min(TOGETHER, call.settings.MAX_RESPONSE_VALUES // state.model.vocab_size)
        )
        for first in range(start, end, together):
            n = min(together, end - first)
            infos = await token_infos(call, state, first, n, "next_token", body)
            yield [_read_record(state, info, start, end) for info in infos]


def _read_record(state: State, info: dict[str, Any], start: int, end: int) -> dict[str, Any]:
    position = info["position"]
    return {
        "state_id": state.id,
        "step": position + 1 - start,
        "token": info["token"],
        "token_id": info["token_id"],
        "position": position,
        "token_info": info,
        "head_position": position + 1,
        "finished": position + 1 == end,
    }


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
