from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

import cacher
from cacher import ParameterError, SamplingParams, _core, sampling_distribution

LOGITS = [2.0, 1.0, 0.5, 0.0, -1.0]


def test_without_options_it_is_the_softmax() -> None:
    want = np.exp(LOGITS) / np.exp(LOGITS).sum()
    got = sampling_distribution(LOGITS)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, want, atol=1e-7)


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"top_k": 2}, [0, 1]),
        ({"top_p": 0.6}, [0, 1]),
        ({"top_p": 0.0}, [0]),
        ({"min_p": 0.3}, [0, 1]),
        ({"temperature": 0}, [0]),
        ({"top_k": 3, "top_p": 0.9, "temperature": 5.0}, [0, 1, 2]),
    ],
)
def test_options_keep_the_likeliest(options: dict[str, float], kept: list[int]) -> None:
    got = sampling_distribution(LOGITS, **options)  # type: ignore[arg-type]
    assert np.flatnonzero(got).tolist() == kept
    assert got.sum() == pytest.approx(1.0)


def test_history_is_penalised_and_n_grams_are_not_repeated() -> None:
    plain = sampling_distribution(LOGITS)
    assert sampling_distribution(LOGITS, [0], repetition_penalty=2.0)[0] < plain[0]
    assert sampling_distribution(LOGITS, iter([3, 0, 3]), no_repeat_ngram_size=2)[0] == 0.0


def test_draws_follow_the_distribution() -> None:
    logits = np.array(LOGITS, dtype=np.float32)
    want = sampling_distribution(logits)
    count, history = 4000, np.zeros(1, dtype=np.int32)
    drawn = Counter(
        _core.sample(logits, history, SamplingParams(1.0, 1.0, seed).core())[0]
        for seed in range(count)
    )
    for i, p in enumerate(want):
        assert abs(drawn[i] / count - p) < 5 * math.sqrt(p * (1 - p) / count)


@pytest.mark.parametrize("bad", [[math.nan, 1.0], [-math.inf, -math.inf], []])
def test_bad_logits_are_refused(bad: list[float]) -> None:
    with pytest.raises(ParameterError):
        sampling_distribution(bad)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="unknown option"):
        sampling_distribution(LOGITS, heat=1.0)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        _core.distribution(np.zeros(3), [], (1.0,) * 14)
    with pytest.raises(TypeError):
        _core.distribution(np.zeros((2, 2), dtype=np.float32), [], SamplingParams().core())
    with pytest.raises(cacher.ParameterError):
        _core.top_logits(np.zeros(3, dtype=np.float32), 0)


def test_uniform_numbers_depend_on_all_three_arguments() -> None:
    numbers = {_core.uniform(s, i, p) for s in range(5) for i in range(5) for p in range(5)}
    assert len(numbers) == 125
    assert all(0.0 <= x < 1.0 for x in numbers)
