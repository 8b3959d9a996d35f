"""Chats: a stream with a trace of each token, and the attention of a head."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError

from cacher.errors import ParameterError, ResponseTooLargeError
from cacher.niels_gpt.chat_format import Message
from cacher.niels_gpt.generation import (
    LOOKED_AT,
    check_wanted,
    events,
    full_attention,
    prompt_bytes,
    prompt_of,
)
from cacher.niels_gpt.rate_limit import rate_limiter
from cacher.niels_gpt.schemas import (
    ChatHealth,
    ChatRequest,
    ErrorResponse,
    FullAttn,
    FullAttnRequest,
)
from cacher.niels_gpt.speaker import Speaker, Wanted
from cacher.server.errors import MAX_SHOWN_ERRORS, ApiError
from cacher.server.guard import JsonRequest
from cacher.server.operations import Call, Operation
from cacher.server.shortcut import Arguments, Reader
from cacher.server.streaming import CHAT_EVENTS, RecordStream

TAG = "Chat"
IS_JSON = re.compile(r"application/([^;]*\+)?json\s*(;.*)?", re.IGNORECASE)


class ChatProblems(BaseModel):
    """What is wrong with a request: a sentence, or one entry per problem."""

    detail: str | list[dict[str, Any]] = Field(description="What is wrong.")


# ---- requests


def loose(schema: type[BaseModel]) -> Reader:
    """Return what reads bodies as the document of the chat API has it: types are taken loosely."""

    async def read(request: JsonRequest) -> Arguments:
        value = _json(await request.body(), request.headers.get("content-type"))
        try:
            return {"body": schema.model_validate(value, from_attributes=True)}
        except ValidationError as error:
            found = error.errors(include_url=False)[:MAX_SHOWN_ERRORS]
        raise RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in found])

    return read


def _json(body: bytes, content_type: str | None) -> object:
    """Return what a body holds; one that is not called JSON is a text."""
    if not body:
        raise _problem("missing", "Field required", None)
    if content_type is not None and not IS_JSON.fullmatch(content_type.strip()):
        return body.decode("utf-8", "replace")
    try:
        return json.loads(body)
    except json.JSONDecodeError as error:
        raise _problem("json_invalid", "JSON decode error", {}, error.pos, error.msg) from None
    except (ValueError, RecursionError) as error:  # no UTF-8; a number or a depth beyond bounds
        raise _problem("json_invalid", "JSON decode error", {}, 0, str(error)) from None


def _problem(
    kind: str, message: str, value: object, at: int | None = None, why: str = ""
) -> RequestValidationError:
    where = ("body",) if at is None else ("body", at)
    found: dict[str, Any] = {"type": kind, "loc": where, "msg": message, "input": value}
    return RequestValidationError([{**found, "ctx": {"error": why}} if why else found])


# ---- admission


def _admit(call: Call, messages: list[Message]) -> Speaker:
    """Return who answers, when the client may ask and its messages are not too large."""
    chat = call.services.chat
    if chat.speaker is None:
        if chat.failed:
            raise ApiError(503, "model_failed", "Model failed to load")
        raise ApiError(503, "model_loading", "Model not ready yet, please retry")
    client = call.request.client
    if not rate_limiter.allow("unknown" if client is None else client.host):
        raise ApiError(429, "rate_limited", "Rate limit exceeded")
    size, most = prompt_bytes(messages), chat.settings.MAX_PROMPT_BYTES
    if size > most:
        raise ApiError(413, "prompt_too_large", f"Prompt too large: {size} bytes (max {most})")
    return chat.speaker


def _check(speaker: Speaker, wanted: Wanted, head: int | None = None) -> None:
    try:
        check_wanted(speaker.cfg, wanted, head=head)
    except ParameterError as error:
        raise ApiError(422, "validation_error", str(error)) from None


async def _prompt(speaker: Speaker, messages: list[Message]) -> list[int]:
    try:
        return await prompt_of(speaker, messages)
    except ParameterError as error:  # of a template, which is a program of the model's
        raise ApiError(422, "validation_error", str(error)) from None


def _messages(body: ChatRequest | FullAttnRequest) -> list[Message]:
    return [{"role": one.role, "content": one.content} for one in body.messages]


# ---- operations


async def stream(call: Call, body: ChatRequest) -> object:
    """Answer messages, token by token, each with what it was drawn from and attended to."""
    messages = _messages(body)
    speaker = _admit(call, messages)
    wanted = Wanted(
        body.max_new_tokens, body.temperature, body.top_k, body.seed, body.trace_layer,
        call.visit.tenant or None,
    )  # fmt: skip
    _check(speaker, wanted)
    return RecordStream(
        _steps(speaker, await _prompt(speaker, messages), wanted),
        CHAT_EVENTS,
        together=1,
        idle_s=call.settings.IDLE_TIMEOUT,
        timeout_s=call.settings.REQUEST_TIMEOUT,
        metrics=call.services.metrics,
    )


async def _steps(
    speaker: Speaker, ids: list[int], wanted: Wanted
) -> AsyncGenerator[list[list[tuple[str, Any]]], None]:
    """Give the events of a step together: the token, its trace."""
    step: list[tuple[str, Any]] = []
    async with aclosing(events(speaker, ids, wanted)) as found:
        async for event in found:
            step.append(event)
            if event[0] != "token":
                yield [step]
                step = []


async def full_attn(call: Call, body: FullAttnRequest) -> object:
    """Return what each token of messages attends to, in one head of one layer."""
    messages = _messages(body)
    speaker = _admit(call, messages)
    wanted = LOOKED_AT._replace(
        max_new_tokens=body.max_new_tokens, seed=body.seed, trace_layer=body.trace_layer,
        tenant=call.visit.tenant or None,
    )  # fmt: skip
    _check(speaker, wanted, body.head)
    ids = await _prompt(speaker, messages)
    try:
        return await full_attention(speaker, ids, wanted, body.head)
    except ResponseTooLargeError as error:
        raise ApiError(413, "prompt_too_large", str(error)) from None


async def health(call: Call) -> object:
    """Tell that the server is up, and whether its model is loaded."""
    return {"ok": True, "model_ready": call.services.chat.ready}


EVENTS: dict[str, Any] = {"text/event-stream": {"schema": {"type": "string"}}}
OPERATIONS = [
    Operation(
        method="POST", path="/chat/stream", handler=stream, tag=TAG, body=ChatRequest,
        content=EVENTS, read=loose, refusal=ErrorResponse, problems=ChatProblems,
    ),
    Operation(
        method="POST", path="/inspect/full_attn", handler=full_attn, tag=TAG,
        body=FullAttnRequest, returns=FullAttn, read=loose, refusal=ErrorResponse,
        problems=ChatProblems,
    ),
]  # fmt: skip
#: Of the application that serves nothing else.
HEALTH = Operation(
    method="GET", path="/health", handler=health, tag=TAG, returns=ChatHealth,
    refusal=ErrorResponse, problems=ChatProblems,
)  # fmt: skip
