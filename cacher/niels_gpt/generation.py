"""The functions behind the routes: events of a stream, and the attention of a head.

They need no server: ``async for name, data in stream_chat_events(cacher.load("tales"), ...)``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack, aclosing
from typing import Any

from cacher.engine import Engine
from cacher.errors import ParameterError, ResponseTooLargeError
from cacher.model import Model
from cacher.niels_gpt.chat_format import Message, format_chat
from cacher.niels_gpt.model import GPT
from cacher.niels_gpt.speaker import ModelSpeaker, Sizes, Speaker, StandIn, Wanted
from cacher.types import Trace

MOST_ATTENTION = 4096  # tokens of a full matrix: 64 MiB
LOOKED_AT = Wanted(temperature=0.9, top_k=50)  # how tokens before a matrix are generated

Event = tuple[str, dict[str, Any]]
Events = AsyncGenerator[Event, None]


def prompt_bytes(messages: Iterable[Message]) -> int:
    """Return the size of messages in their text form, whatever form the model reads."""
    return len(format_chat(messages).encode())


def check_wanted(cfg: Sizes, wanted: Wanted, *, head: int | None = None) -> None:
    """Refuse what is out of range.

    Args:
        cfg: Sizes of the model.
        wanted: What is asked for.
        head: Of a matrix, whose messages name the wrong value; None: of a stream.

    Raises:
        ParameterError: A value is; the documented sentence names it.
    """
    last = cfg.L - 1
    if not 0 <= wanted.trace_layer <= last:
        got = "" if head is None else f", got {wanted.trace_layer}"
        raise ParameterError(f"trace_layer must be in [0, {last}]{got}")
    if head is not None and not 0 <= head < cfg.H:
        raise ParameterError(f"head must be in [0, {cfg.H - 1}], got {head}")
    if not 0 <= wanted.temperature < float("inf"):
        raise ParameterError(f"temperature must be >= 0, got {wanted.temperature}")
    if wanted.top_k is not None and wanted.top_k < 1:
        raise ParameterError(f"top_k must be >= 1 or null, got {wanted.top_k}")
    if wanted.max_new_tokens < 0:
        raise ParameterError(f"max_new_tokens must be >= 0, got {wanted.max_new_tokens}")
    if not -(2**63) <= wanted.seed < 2**64:
        raise ParameterError(f"seed must be in [{-(2**63)}, {2**64 - 1}]")


async def prompt_of(speaker: Speaker, messages: list[Message]) -> list[int]:
    """Return what the model reads; in a thread: a template is a program that takes its time.

    Raises:
        ParameterError: The model's template takes no such messages.
    """
    return await asyncio.to_thread(speaker.prompt, messages)


async def events(speaker: Speaker, ids: list[int], wanted: Wanted) -> Events:
    """Give the events of a stream behind a prompt.

    They are a token and its trace for each step, then what was said.
    """
    made: list[int] = []
    if wanted.max_new_tokens:
        async with aclosing(speaker.steps(ids, wanted)) as steps:
            async for token_id, trace in steps:
                yield "token", {"step": len(made), **_named(speaker, token_id)}
                yield "trace", {"step": len(made), **_traced(speaker, trace)}
                made.append(token_id)
    text = speaker.decode(made)
    yield "done", {"reply": text[: _end(speaker, text)].strip()}


def _named(speaker: Speaker, token_id: int) -> dict[str, Any]:
    return {
        "token_id": token_id,
        "token_text": speaker.text(token_id),
        "token_display": speaker.display(token_id),
    }


def _traced(speaker: Speaker, trace: Trace) -> dict[str, Any]:
    top = [{**_named(speaker, token_id), "prob": prob} for token_id, prob in trace.top]
    return {"entropy": trace.entropy, "topk": top, "attn": trace.attention}


def _end(speaker: Speaker, text: str) -> int:
    """Where what ends an answer begins."""
    found = [at for tag in speaker.stop if (at := text.find(tag)) >= 0]
    return min(found, default=len(text))


async def full_attention(
    speaker: Speaker, ids: list[int], wanted: Wanted, head: int
) -> dict[str, Any]:
    """Return the attention of a head over a prompt, and over what is generated behind it.

    Raises:
        ResponseTooLargeError: There are more tokens than a matrix may have.
    """
    if wanted.max_new_tokens:
        async with aclosing(speaker.steps(ids, wanted)) as steps:
            made = [token_id async for token_id, _ in steps]
        end = _end(speaker, speaker.decode(made))
        while made and len(speaker.decode(made)) > end:
            made.pop()
        ids = ids + made
    ids = ids[-speaker.cfg.T :]
    if len(ids) > MOST_ATTENTION:
        raise ResponseTooLargeError(
            f"Prompt too large: {len(ids)} tokens (max {MOST_ATTENTION} of a matrix)"
        )
    return {
        "layer": wanted.trace_layer,
        "head": head,
        "token_ids": ids,
        "tokens": [speaker.text(i) for i in ids],
        "tokens_display": [speaker.display(i) for i in ids],
        "attn": await speaker.attention(ids, wanted.trace_layer, head),
    }


def speaker_of(model: Any, cfg: Sizes | None, engine: Any = None) -> Speaker:
    """Return who answers for a model.

    Args:
        model: A causal model of the package, or a stand-in.
        cfg: Sizes of a stand-in; a model knows its own.
        engine: Gives the engine of a model.
    """
    if isinstance(model, GPT):
        model = model.model
    if isinstance(model, Model):
        return ModelSpeaker(model, engine)
    if cfg is None:
        raise ParameterError("a stand-in for a model has no sizes of its own: cfg is None")
    return StandIn(model, cfg)


async def _opened(model: Any, cfg: Sizes | None, stack: AsyncExitStack) -> Speaker:
    """Return who answers, with an engine that lives as long as the stack."""
    own = model.model if isinstance(model, GPT) else model
    if not isinstance(own, Model):
        return speaker_of(model, cfg)
    engine = await stack.enter_async_context(Engine(own))
    return speaker_of(model, cfg, lambda _model: engine)


async def stream_chat_events(
    model: Any,
    cfg: Sizes | None = None,
    *,
    messages: list[Message],
    max_new_tokens: int = 256,
    temperature: float = 0.9,
    top_k: int | None = 50,
    seed: int = 42,
    trace_layer: int = 0,
    device: str = "cpu",  # noqa: ARG001 - models compute where they are
) -> Events:
    """Give what ``POST /chat/stream`` sends: names and data of its events.

    Args:
        model: A causal model of the package, or a stand-in.
        cfg: Sizes of a stand-in.
        messages: With ``role`` and ``content``.
        max_new_tokens: New tokens at most, 0 or more.
        temperature: 0 or more; 0 takes the likeliest token.
        top_k: Draw from so many of the likeliest; None: of all.
        seed: From -2^63 to 2^64 - 1.
        trace_layer: 0 to L - 1: the layer whose attention is shown.
        device: Without effect.

    Raises:
        ParameterError: A value is out of range.

    Example:
        >>> import asyncio, cacher
        >>> from cacher.niels_gpt.generation import stream_chat_events
        >>> async def main():
        ...     said = [{"role": "user", "content": "Who lives in the wood?"}]
        ...     events = stream_chat_events(cacher.load("tales"), messages=said, max_new_tokens=2)
        ...     return [name async for name, data in events]
        >>> asyncio.run(main())
        ['token', 'trace', 'token', 'trace', 'done']
    """
    async with AsyncExitStack() as stack:
        speaker = await _opened(model, cfg, stack)
        wanted = Wanted(max_new_tokens, temperature, top_k, seed, trace_layer)
        check_wanted(speaker.cfg, wanted)
        ids = await prompt_of(speaker, messages)
        async with aclosing(events(speaker, ids, wanted)) as found:
            async for event in found:
                yield event


async def generate_full_attn(
    model: Any,
    cfg: Sizes | None = None,
    *,
    messages: list[Message],
    trace_layer: int,
    head: int,
    device: str = "cpu",  # noqa: ARG001 - as above
    seed: int = 42,
    max_new_tokens: int = 0,
) -> dict[str, Any]:
    """Return what ``POST /inspect/full_attn`` answers; ``attn`` is float32 [tokens, tokens].

    Args:
        model: As in `stream_chat_events`, like what follows.
        cfg: See there.
        messages: See there.
        trace_layer: See there.
        head: 0 to H - 1.
        device: Without effect.
        seed: Of tokens that are generated, at temperature 0.9 from the 50 likeliest.
        max_new_tokens: How many are, before looking.

    Raises:
        ParameterError: A value is out of range, or there are more than 4096 tokens.

    Example:
        >>> import asyncio, cacher
        >>> from cacher.niels_gpt.generation import generate_full_attn
        >>> said = [{"role": "user", "content": "hi"}]
        >>> tales = cacher.load("tales")
        >>> look = generate_full_attn(tales, messages=said, trace_layer=0, head=0)
        >>> sorted(asyncio.run(look))
        ['attn', 'head', 'layer', 'token_ids', 'tokens', 'tokens_display']
    """
    async with AsyncExitStack() as stack:
        speaker = await _opened(model, cfg, stack)
        wanted = LOOKED_AT._replace(
            max_new_tokens=max_new_tokens, seed=seed, trace_layer=trace_layer
        )
        check_wanted(speaker.cfg, wanted, head=head)
        return await full_attention(speaker, await prompt_of(speaker, messages), wanted, head)
