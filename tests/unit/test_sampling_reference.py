"""The sampler against the slow reference: distributions, the generator, single draws."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import cacher

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from reference import sampling as reference

SETTINGS = [
    {},
    {"temperature": 0.0},
    {"temperature": 0.7, "top_p": 0.9},
    {"temperature": 1.5, "top_k": 40},
    {"top_k": 30, "top_p": 0.8},
    {"min_p": 0.1, "temperature": 1.3},
    {"top_k": 100, "top_p": 0.95, "min_p": 0.02, "temperature": 0.9},
    {"repetition_penalty": 1.3, "top_p": 0.5},
    {"repetition_penalty": 0.8, "no_repeat_ngram_size": 2},
    {"no_repeat_ngram_size": 3, "top_p": 0.99},
    {"top_p": 0.9, "temperature": 1.2, "adaptive_top_p": True},
    {"top_k": 50, "temperature": 1.4, "adaptive_top_k": True, "repetition_penalty": 1.2},
    {"top_k": 80, "top_p": 1.0, "min_p": 0.01, "adaptive_top_p": True, "adaptive_top_k": True},
]


def rows(n: int, vocab: int) -> list[tuple[np.ndarray, list[int]]]:
    rng = np.random.default_rng(3)
    made = []
    for _ in range(n):
        logits = rng.normal(0, rng.uniform(0.5, 4), vocab).astype(np.float32)
        made.append((logits, rng.integers(0, min(vocab, 12), 40).tolist()))
    return made


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_distributions_equal_the_reference(settings: dict[str, float]) -> None:
    for vocab in (13, 1000, 50257):
        for logits, history in rows(4, vocab):
            want, _, closest = reference.distribution(logits, history, **settings)
            got = cacher.sampling_distribution(logits, history, **settings)
            assert abs(got.sum() - 1) < 1e-12
            if closest > 1e-6:  # top_p travels as float32
                assert np.abs(got - want).max() < 1e-9


@pytest.mark.parametrize("length", [1, 2, 9])
def test_scheduled_draws_are_those_the_reference_makes(length: int) -> None:
    model = cacher.load("tales")
    start = model.state("Once upon a time there was")
    for seed in range(3):
        schedule = {"start": 2.2, "end": 0.4}
        tokens = list(start.fork().stream(length, seed=seed, temperature_schedule=schedule))
        state = start.fork()
        for step, token in enumerate(tokens):
            temperature = reference.temperature_at(2.2, 0.4, step, length)
            settings = {"temperature": temperature, "top_p": 0.9}
            probabilities, order, closest = reference.distribution(state.logits(), **settings)
            u = reference.uniform(seed, 0, len(state))
            if min(closest, np.abs(np.cumsum(probabilities[order]) - u).min()) > 1e-6:
                assert token.token_id == reference.draw(probabilities, order, u)
            state.append([token.token_id])


def test_the_reference_generator_gives_the_published_vector() -> None:
    published = [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert reference.philox4x32([0] * 4, [0] * 2) == published


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_generated_tokens_are_the_draws_the_reference_makes(settings: dict[str, float]) -> None:
    model = cacher.load("tales")
    state = model.state("Once upon a time there was")
    ids = list(state.token_ids)
    logits = state.logits()
    for seed in (0, 1, 2**40 + 7):
        probabilities, order, _ = reference.distribution(logits, ids, **settings)
        u = reference.uniform(seed, 0, len(ids))
        sums = np.cumsum(probabilities[order])
        if np.abs(sums - u).min() < 1e-6:
            continue
        fork = state.fork()
        fork.generate(max_tokens=1, seed=seed, **{"temperature": 1.0, "top_p": 1.0, **settings})
        assert list(fork.token_ids) == [*ids, reference.draw(probabilities, order, u)]
