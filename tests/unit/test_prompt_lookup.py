"""Prompt lookup: what is guessed and computed along changes no bit of what plain decoding gives."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cacher
from tests.models.make_tiny import CONFIGS, VOCAB, make_tiny

TALE = "Once upon a time there was a fox who lived in the forest. The fox said to the hare: "
REFRAIN = "The fox said to the hare: I am a fox. The fox said to the hare: I am a fox. "

phrases = st.lists(st.integers(2, VOCAB - 1), min_size=1, max_size=6)
repeats = st.integers(1, 9)
prompts = st.builds(lambda start, phrase, n: start + phrase * n, phrases, phrases, repeats)
samplings = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 3),
        "temperature": st.sampled_from((0.0, 0.1, 0.7, 1.5)),
        "top_p": st.sampled_from((0.6, 1.0)),
        "top_k": st.sampled_from((0, 0, 3)),
        "min_p": st.sampled_from((0.0, 0.3)),
        "repetition_penalty": st.sampled_from((1.0, 1.0, 1.2)),
        "no_repeat_ngram_size": st.sampled_from((0, 0, 4)),
        "min_tokens": st.sampled_from((0, 5)),
        "temperature_schedule": st.sampled_from((None, None, {"start": 1.0, "end": 0.0})),
        "random": st.sampled_from(("philox", "splitmix64")),
    }
)
configs = st.sampled_from(
    (
        {"store_logits": "none"},
        {"top_k_logits": 5},
        {"context_size": 32, "context_strategy": "slide"},
        {"context_size": 40},
    )
)


@pytest.fixture(scope="module", params=sorted(CONFIGS))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> cacher.Model:
    return cacher.load(make_tiny(request.param, tmp_path_factory.mktemp("lookup")), threads=2)


@pytest.fixture
def tales() -> Iterator[cacher.Model]:
    model = cacher.load("tales", threads=2)
    yield model
    assert model.stats.pages_live == 0


def plain(model: cacher.Model, on: bool) -> None:
    """Begin anew, guessing or not."""
    model.drop_cached()
    model.set_prompt_lookup(on)


def bits(got: cacher.Generation) -> tuple:
    numbers = np.asarray([got.logprobs, got.probabilities], dtype=np.float32).tobytes()
    return list(got.token_ids), numbers, got.finish_reason, got.stop_sequence, got.text


def seen(state: cacher.State) -> tuple:
    """What a state holds and what was computed for it."""
    keys, values = state.kv(0)
    scores = [] if state.config.store_logits == "none" else state.logprobs()
    return (
        state.token_ids, keys.tobytes(), values.tobytes(), state.logits().tobytes(),
        np.asarray(scores, dtype=np.float32).tobytes(),
    )  # fmt: skip


@settings(max_examples=12, deadline=None)
@given(
    rows=st.lists(st.tuples(prompts, samplings, configs), min_size=1, max_size=5),
    count=st.integers(1, 40),
    chunk=st.sampled_from((0, 2, 7)),
)
def test_bits_are_those_of_plain_decoding(
    model: cacher.Model, rows: list, count: int, chunk: int
) -> None:
    found = []
    for on in (False, True):
        plain(model, on)
        states = [
            model.state(tokens[: config.get("context_size", 999) - 1], config=config)
            for tokens, _, config in rows
        ]
        params = [{**sampling, "min_tokens": min(sampling["min_tokens"], count)}
                  for _, sampling, _ in rows]  # fmt: skip
        done = model.generate_all(states, max_tokens=count, params=params, chunk_tokens=chunk)
        model.check()
        found.append(([bits(one) for one in done], [seen(state) for state in states]))
        del states
    assert found[0] == found[1]


@settings(max_examples=8, deadline=None)
@given(prompt=prompts, sampling=samplings, cut=st.integers(1, 20), count=st.integers(21, 40))
def test_forks_and_streams_agree(
    model: cacher.Model, prompt: list[int], sampling: dict, cut: int, count: int
) -> None:
    sampling = {**sampling, "temperature_schedule": None, "random": "philox", "min_tokens": 0}
    plain(model, False)
    want = model.state(prompt).generate(count, **sampling)
    plain(model, True)
    state = model.state(prompt)
    first = state.generate(cut, **sampling)
    fork = state.fork()
    rest = list(fork.generate(count - cut, **sampling).token_ids) if not first.finished else []
    assert list(first.token_ids) + rest == list(want.token_ids)
    assert state.token_ids == prompt + list(first.token_ids)
    streamed = [token.token_id for token in model.state(prompt).stream(count, **sampling)]
    assert streamed[: len(want)] == list(want.token_ids)
    several = model.state(prompt).multi(3, count, **sampling)
    assert list(several[0].token_ids) == list(want.token_ids)


def test_a_text_that_repeats_itself_needs_few_passes(tales: cacher.Model) -> None:
    passes = []
    for on in (False, True):
        plain(tales, on)
        before = tales.stats.forwards
        state = tales.state(TALE)
        state.generate(200, temperature=0)
        passes.append(tales.stats.forwards - before)
    assert passes[0] == 200
    assert passes[1] < 100


@pytest.mark.parametrize("stop", ["fox", " the hare", "I am"])
def test_a_stop_string_ends_a_run_at_the_same_token(tales: cacher.Model, stop: str) -> None:
    found = []
    for on in (False, True):
        plain(tales, on)
        state = tales.state(REFRAIN * 3)
        runs = [state.generate(60, temperature=0, stop=stop, min_tokens=n) for n in (0, 8, 30)]
        found.append(([bits(run) for run in runs], seen(state)))
    assert found[0] == found[1]


def test_an_engine_gives_the_same_bits_and_lets_callers_leave(tales: cacher.Model) -> None:
    async def run() -> list:
        async with cacher.Engine(tales, max_running=4) as engine:
            states = [tales.state(REFRAIN * n) for n in (1, 2, 3)]
            leaving = engine.stream(states[0], 80, temperature=0)
            others = [asyncio.ensure_future(engine.generate(s, 50, temperature=0.2, stop="hare."))
                      for s in states[1:]]  # fmt: skip
            taken = [(await anext(leaving)).token_id for _ in range(9)]
            await leaving.aclose()
            left = list(leaving.result.token_ids)
            assert states[0].token_ids[-len(left) :] == left, "the state holds what it was given"
            return [taken, *[bits(await other) for other in others], engine.stats.tokens > 0]

    found = []
    for on in (False, True):
        plain(tales, on)
        found.append(asyncio.run(run()))
    assert found[0] == found[1]


def test_it_can_be_switched_while_a_run_goes_on(tales: cacher.Model) -> None:
    plain(tales, False)
    want = bits(tales.state(REFRAIN).generate(150, temperature=0.1))
    tales.drop_cached()
    ended = threading.Event()

    def switch() -> None:
        on = True
        while not ended.wait(0.002):
            tales.set_prompt_lookup(on)
            on = not on

    other = threading.Thread(target=switch)
    other.start()
    try:
        assert bits(tales.state(REFRAIN).generate(150, temperature=0.1)) == want
    finally:
        ended.set()
        other.join()


def test_only_a_bool_switches_it(tales: cacher.Model) -> None:
    with pytest.raises(TypeError, match="on must be"):
        tales.set_prompt_lookup("yes")  # type: ignore[arg-type]
