"""Traces of streamed tokens: what they were drawn from, and what the model attended to."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import numpy as np
import pytest

import cacher
from cacher import SamplingParams, _core
from cacher.errors import LayerOutOfRangeError, ParameterError
from cacher.types import Token

TEXT = "Once upon a time there was a little fox who"
SAMPLINGS: list[dict[str, Any]] = [
    {"temperature": 0.0},
    {"temperature": 0.9, "top_k": 50, "top_p": 1.0, "random": "splitmix64"},
    {"temperature": 40.0, "top_p": 1.0, "seed": 3},
    {"temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.3},
]


@pytest.fixture(scope="module")
def model() -> cacher.Model:
    return cacher.load("tales")


def check(state: cacher.State, start: int, tokens: list[Token], layer: int, options: Any) -> None:
    """Compare traces with what the state before each token says when it is asked."""
    for i, token in enumerate(tokens):
        before = state.fork(at=start + i)
        assert token.trace is not None
        seen = before.attention(layer, first=start + i - 1)[:, 0]
        assert np.array_equal(token.trace.attention, seen)
        sampling = SamplingParams(**options).core(done=i)
        drawn = np.asarray(_core.distribution(before.logits(), before.token_ids, sampling))
        entropy = -sum(p * math.log(p) for p in drawn if p > 0)
        assert token.trace.entropy == pytest.approx(entropy, abs=1e-9)
        likeliest = sorted(range(len(drawn)), key=lambda k: (-drawn[k], k))[:10]
        assert token.trace.top == tuple((k, drawn[k]) for k in likeliest)


@pytest.mark.parametrize("options", SAMPLINGS)
def test_a_trace_is_what_the_state_says_when_it_is_asked(model: cacher.Model, options: Any) -> None:
    state, plain = model.state(TEXT), model.state(TEXT)
    start = len(state)
    tokens = list(state.stream(12, trace_layer=3, **options))
    assert [token.token_id for token in plain.stream(12, **options)] == state.token_ids[start:]
    check(state, start, tokens, 3, options)


def test_equal_runs_traced_in_different_layers_do_not_disturb_each_other(
    model: cacher.Model,
) -> None:
    options = SAMPLINGS[1]

    async def run(engine: cacher.Engine, layer: int | None) -> tuple[cacher.State, list[Token]]:
        state = model.state(TEXT)
        stream = engine.stream(state, 20, trace_layer=layer, **options)
        return state, [token async for token in stream]

    async def main() -> list[tuple[cacher.State, list[Token]]]:
        async with cacher.Engine(model) as engine:
            await run(engine, None)  # the prompt is known from now on
            return await asyncio.gather(*(run(engine, layer) for layer in (0, 5, None, 0)))

    runs = asyncio.run(main())
    ids = [state.token_ids for state, _ in runs]
    assert ids == [ids[0]] * 4
    assert all(token.trace is None for token in runs[2][1])
    for (state, tokens), layer in zip(runs, (0, 5, None, 0), strict=True):
        if layer is not None:
            check(state, len(state) - 20, tokens, layer, options)


def test_an_empty_state_attended_to_nothing(model: cacher.Model) -> None:
    first, second = model.state().stream(2, trace_layer=0)
    assert first.trace is not None
    assert first.trace.attention is None
    assert second.trace is not None
    assert second.trace.attention is not None
    assert second.trace.attention.tolist() == [[1.0]] * 8


def test_splitmix_numbers_do_not_depend_on_the_position() -> None:
    assert _core.splitmix_uniform(42, 0) == 0.7415648787718233
    sampling = SamplingParams(temperature=3e38, top_p=1.0, random="splitmix64")
    logits = np.zeros(100, np.float32)
    drawn = [_core.sample(logits, [1] * n, sampling.core(done=7))[0] for n in (0, 5)]
    assert drawn == [int(100 * _core.splitmix_uniform(42, 7))] * 2


def test_layers_and_generators_that_are_not_there_are_refused(model: cacher.Model) -> None:
    with pytest.raises(LayerOutOfRangeError, match="layer is 6, allowed: 0 to 5"):
        model.state(TEXT).stream(3, trace_layer=6)
    with pytest.raises(ParameterError, match="random is 'dice', allowed: "):
        model.state(TEXT).generate(1, random="dice")  # type: ignore[typeddict-item]
    assert model.state(TEXT).generate(1, temperature=1e30).finished is False
