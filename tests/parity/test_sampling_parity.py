"""The distribution left by every sampling option, against transformers' logits processors."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import cacher  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from reference import sampling as reference  # noqa: E402

pytestmark = pytest.mark.parity

TOLERANCE = 1e-5
# transformers sums 50,000 float32 probabilities one after the other: where a cut hangs on less,
# either side is right.
CUT_TIE = 2e-5

SETTINGS: list[dict[str, float]] = [
    {"temperature": 0.3},
    {"temperature": 0.7},
    {"temperature": 1.8},
    {"top_k": 1},
    {"top_k": 50},
    {"top_k": 1000, "temperature": 0.7},
    {"top_p": 0.1},
    {"top_p": 0.9, "temperature": 0.7},
    {"top_p": 0.99},
    {"min_p": 0.05},
    {"min_p": 0.3, "temperature": 1.5},
    {"repetition_penalty": 1.2},
    {"repetition_penalty": 0.9, "temperature": 0.8},
    {"no_repeat_ngram_size": 1},
    {"no_repeat_ngram_size": 2, "temperature": 0.9},
    {"no_repeat_ngram_size": 3},
    {"top_k": 200, "top_p": 0.9, "min_p": 0.01, "temperature": 0.8},
    {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "temperature": 0.7, "top_k": 60},
    {"no_repeat_ngram_size": 2, "temperature": 0.7, "top_k": 60, "top_p": 0.95, "min_p": 0.02},
]


def theirs(
    logits: NDArray[np.float32], history: list[int], settings: dict[str, float]
) -> NDArray[np.float64]:
    makers = {
        "repetition_penalty": transformers.RepetitionPenaltyLogitsProcessor,
        "no_repeat_ngram_size": transformers.NoRepeatNGramLogitsProcessor,
        "temperature": transformers.TemperatureLogitsWarper,
        "top_k": transformers.TopKLogitsWarper,
        "top_p": transformers.TopPLogitsWarper,
        "min_p": transformers.MinPLogitsWarper,
    }
    scores = torch.tensor(logits)[None]
    for name, make in makers.items():
        if name in settings:
            scores = make(settings[name])(torch.tensor([history]), scores)
    return np.asarray(torch.softmax(scores[0].double(), -1).numpy())


def rows(vocab: int, n: int) -> list[tuple[NDArray[np.float32], list[int]]]:
    """Return random logits, narrow to wide, some with a heavy tail; histories that repeat."""
    rng = np.random.default_rng(vocab)
    made = []
    for i in range(n):
        logits = rng.normal(0, rng.uniform(0.5, 5), vocab)
        if i % 3 == 0:
            logits += rng.exponential(2, vocab)
        history = rng.integers(0, vocab if i % 4 == 0 else min(vocab, 20), 64).tolist()
        made.append((logits.astype(np.float32), history))
    return made


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_distribution_left(settings: dict[str, float]) -> None:
    worst, ties, n = 0.0, [], 0
    for vocab, count in ((97, 60), (4096, 30), (50257, 20), (151936, 4)):
        for i, (logits, history) in enumerate(rows(vocab, count)):
            got = cacher.sampling_distribution(logits, history, **settings)
            want = theirs(logits, history, settings)
            difference = float(np.abs(got - want).max())
            n += 1
            if difference <= TOLERANCE:
                worst = max(worst, difference)
                continue
            _, _, closest = reference.distribution(logits, history, **settings)
            ties.append((vocab, i, difference, closest))
    for vocab, i, difference, closest in ties:
        print(f"tie: vocabulary {vocab}, row {i}: {difference:.1e}, the cut hangs on {closest:.1e}")
        assert closest < CUT_TIE
    print(f"{n} rows, worst difference {worst:.1e}, {len(ties)} ties at a cut")
    assert len(ties) <= n // 20
