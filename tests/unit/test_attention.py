"""Attention against the slow float64 decoder, and its means, thresholds and heads by definition."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cacher
from cacher import (
    EmptyStateError,
    HeadOutOfRangeError,
    LayerOutOfRangeError,
    Model,
    ParameterError,
    ResponseTooLargeError,
    State,
    TokenIndexOutOfRangeError,
)
from tests.models.make_tiny import CONFIGS, VOCAB, make_tiny
from tests.reference import decoder

TALES = Path(cacher.__file__).parent / "models" / "tales"
TOLERANCE = 1e-5  # float32 scores through a softmax


def reference_attention(
    folder: Path, ids: list[int], monkeypatch: pytest.MonkeyPatch
) -> np.ndarray:
    """Softmax attention of all layers, float64 [layers, heads, n, n], one row at a time."""
    seen = []
    whole = decoder.attention

    def spy(q: np.ndarray, k: np.ndarray, v: np.ndarray, window: int | None) -> np.ndarray:
        weights = np.zeros((len(q), len(ids), len(ids)))
        for head in range(len(q)):
            for i in range(len(ids)):
                low = max(0, i + 1 - window) if window else 0
                keys = k[head * len(k) // len(q), low : i + 1]
                scores = np.exp(keys @ q[head, i] / math.sqrt(q.shape[2]))
                weights[head, i, low : i + 1] = scores / scores.sum()
        seen.append(weights)
        return whole(q, k, v, window)

    monkeypatch.setattr(decoder, "attention", spy)
    decoder.logits(folder, ids)
    return np.array(seen)


@pytest.mark.parametrize("name", CONFIGS)
def test_attention_is_that_of_the_reference(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_tiny(name, tmp_path)
    ids = np.random.default_rng(5).integers(0, VOCAB, 60).tolist()
    want = reference_attention(folder, ids, monkeypatch)
    state = cacher.load(folder, threads=1).state(ids)
    for layer, weights in enumerate(want):
        np.testing.assert_allclose(state.attention(layer), weights, atol=TOLERANCE)
        found = state.analyze_attention(layer, 1)
        np.testing.assert_allclose(found.attention_pattern, weights[1], atol=TOLERANCE)
    found = state.analyze_attention(per_layer=True, per_head=True)
    np.testing.assert_allclose(found.attention_pattern, want.mean(axis=(0, 1)), atol=TOLERANCE)
    patterns = np.array([part.pattern for part in found.attention_patterns])
    np.testing.assert_allclose(patterns, want.reshape(patterns.shape), atol=TOLERANCE)
    entropy = -np.where(want > 0, want * np.log(np.maximum(want, 1e-300)), 0).sum(-1)[..., 1:]
    share = entropy / np.log(np.arange(2, len(ids) + 1))
    heads = state.head_importance()
    importance = [head.importance for head in heads]
    np.testing.assert_allclose(importance, 1 - share.mean(-1).ravel(), atol=TOLERANCE)
    means = [head.mean_entropy for head in heads]
    np.testing.assert_allclose(means, entropy.mean(-1).ravel(), atol=TOLERANCE)


def test_means_are_those_of_the_single_layers_and_heads(story: State) -> None:
    every = np.array([story.attention(layer) for layer in range(6)], np.float64)
    rows = story.analyze_attention()
    np.testing.assert_allclose(rows.attention_pattern, every.mean(axis=(0, 1)), atol=1e-7)
    np.testing.assert_allclose(rows.attention_pattern.sum(axis=1), 1.0, atol=1e-12)
    assert not np.triu(rows.attention_pattern, 1).any()
    assert rows.attention_pattern.dtype == np.float64
    one_layer = story.analyze_attention(4)
    np.testing.assert_allclose(one_layer.attention_pattern, every[4].mean(axis=0), atol=1e-7)
    one_head = story.analyze_attention(head=3)
    np.testing.assert_allclose(one_head.attention_pattern, every[:, 3].mean(axis=0), atol=1e-7)
    assert (one_layer.layer, one_layer.head) == (4, None)
    assert rows.tokens == [token.text for token in story]
    assert (rows.n_layers, rows.n_heads, rows.first) == (6, 8, 0)


def test_patterns_are_listed_by_layer_and_head(story: State) -> None:
    every = np.array([story.attention(layer) for layer in range(6)], np.float64)
    plain = story.analyze_attention(2)
    assert [(p.layer, p.head) for p in plain.attention_patterns] == [(2, None)]
    assert plain.attention_patterns[0].pattern is plain.attention_pattern
    layers = story.analyze_attention(per_layer=True, head=1).attention_patterns
    assert [(p.layer, p.head) for p in layers] == [(i, 1) for i in range(6)]
    heads = story.analyze_attention(per_head=True, max_heads=3).attention_patterns
    assert [(p.layer, p.head) for p in heads] == [(None, i) for i in range(3)]
    both = story.analyze_attention(5, per_layer=True, per_head=True).attention_patterns
    assert [(p.layer, p.head) for p in both] == [(5, i) for i in range(8)]
    for part in (*layers, *heads, *both):
        of_layers = slice(None) if part.layer is None else slice(part.layer, part.layer + 1)
        want = every[of_layers, part.head].mean(axis=0)
        np.testing.assert_allclose(part.pattern, want, atol=1e-7)


def test_a_model_of_one_layer_and_one_head_lists_them(tmp_path: Path) -> None:
    folder = make_tiny("gpt2", tmp_path, n_layer=1, n_head=1)
    state = cacher.load(folder, threads=1).state([1, 2, 3])
    found = state.analyze_attention(per_layer=True, per_head=True)
    assert [(p.layer, p.head) for p in found.attention_patterns] == [(0, 0)]


def test_what_is_permitted_is_measured_before_the_threshold(model: Model) -> None:
    found = model.state("Hello world").analyze_attention(5, 0, threshold=0.5)
    (first, hidden), (low, high) = model.state("Hello world").attention(5, 0).tolist()
    assert (first, hidden) == (1.0, 0.0)
    assert found.max_attention == 1.0
    assert found.min_attention == pytest.approx(min(low, high), rel=1e-6)


def plain_finish(
    raw: np.ndarray, threshold: float, normalize: bool, renormalize: bool
) -> list[list[float]]:
    """What the documentation says, one entry at a time."""
    out = []
    for row in raw.tolist():
        total = sum(row) if normalize else 1.0
        row = [entry / total if total else 0.0 for entry in row]
        row = [0.0 if entry <= threshold else entry for entry in row]
        total = sum(row) if renormalize else 1.0
        out.append([entry / total if total else 0.0 for entry in row])
    return out


@pytest.fixture(scope="module")
def tale(model: Model) -> Iterator[State]:
    return model.state("Once upon a time there was a little fox 🦊 who could not sleep.")


@given(
    layer=st.none() | st.integers(0, 5),
    head=st.none() | st.integers(0, 7),
    threshold=st.floats(0, 1) | st.sampled_from([0.0, 0.1, 1.0]),
    normalize=st.booleans(),
    renormalize=st.booleans(),
    first=st.integers(0, 12),
    n=st.integers(0, 30),
)
def test_selection_normalising_threshold_and_renormalising_follow_the_rules(
    tale: State, layer: int | None, head: int | None, threshold: float, normalize: bool,
    renormalize: bool, first: int, n: int,
) -> None:  # fmt: skip
    found = tale.analyze_attention(
        layer, head, threshold=threshold, normalize=normalize, renormalize=renormalize,
        position_range=(first, first + n),
    )  # fmt: skip
    chosen = slice(first, first + n + 1)
    raw = tale.analyze_attention(layer, head, normalize=False).attention_pattern[chosen, chosen]
    got = found.attention_pattern
    assert found.tokens == [token.text for token in tale][chosen]
    assert got.shape == (len(found.tokens),) * 2
    np.testing.assert_allclose(
        got, plain_finish(raw, threshold, normalize, renormalize), rtol=1e-12, atol=1e-15
    )
    sums = got.sum(axis=1)
    if renormalize:
        assert all(total == 0 or abs(total - 1) < 1e-12 for total in sums)
    elif threshold == 0 and normalize:
        np.testing.assert_allclose(sums, 1.0, atol=1e-12)
    if not renormalize:
        assert not ((got > 0) & (got <= threshold)).any()
    uncut = plain_finish(raw, 0.0, normalize, False)
    permitted = [uncut[i][j] for i in range(len(uncut)) for j in range(i + 1)]
    assert found.max_attention == pytest.approx(max(permitted))
    assert found.min_attention == pytest.approx(min(permitted))


def test_many_rows_are_read_in_pieces(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    state = model.state(np.arange(700) % 4096)
    want = state.head_importance()
    monkeypatch.setattr("cacher.attention.BLOCK_VALUES", 8 * 700 * 7)
    for few, many in zip(want, state.head_importance(), strict=True):
        assert (few.layer, few.head) == (many.layer, many.head)
        assert few.importance == pytest.approx(many.importance, abs=1e-12)
    some = state.head_importance(2)
    assert [(head.layer, head.head) for head in some] == [(2, i) for i in range(8)]
    assert some[3].importance == pytest.approx(want[2 * 8 + 3].importance, abs=1e-12)
    whole = state.analyze_attention(3, max_tokens=700).attention_pattern
    np.testing.assert_allclose(whole, state.attention(3).mean(axis=0), atol=1e-7)
    every = state.analyze_attention(max_tokens=700).attention_pattern
    want_mean = np.mean([state.attention(layer).mean(axis=0) for layer in range(6)], axis=0)
    np.testing.assert_allclose(every, want_mean, atol=1e-6)


def test_one_token_attends_to_itself_and_is_not_important(model: Model) -> None:
    state = model.state("Hello")
    found = state.analyze_attention(threshold=0.1)
    assert found.attention_pattern.tolist() == [[1.0]]
    assert (found.max_attention, found.min_attention) == (1.0, 1.0)
    assert {(h.importance, h.mean_entropy) for h in state.head_importance()} == {(0.0, 0.0)}
    assert len(state.head_importance()) == 48


def test_what_is_not_there_is_refused_by_its_kind(story: State) -> None:
    for layer in (6, -1, 9999):
        with pytest.raises(LayerOutOfRangeError, match="allowed: 0 to 5"):
            story.analyze_attention(layer)
        with pytest.raises(LayerOutOfRangeError):
            story.head_importance(layer)
        with pytest.raises(LayerOutOfRangeError):
            story.attention(layer)
    with pytest.raises(HeadOutOfRangeError, match="head is 8, allowed: 0 to 7"):
        story.analyze_attention(head=8)
    with pytest.raises(TokenIndexOutOfRangeError, match="is 9, allowed: 0 to 8"):
        story.analyze_attention(position_range=(9, 10))
    for wrong in ((2, 1), (-1, 2), (1,), (1, 2, 3)):
        with pytest.raises(ParameterError, match="position_range"):
            story.analyze_attention(position_range=wrong)
    with pytest.raises(TypeError, match="pair of integers"):
        story.analyze_attention(position_range="12")
    for wrong in (-0.1, 1.1, math.nan):
        with pytest.raises(ParameterError, match="threshold"):
            story.analyze_attention(threshold=wrong)


def test_large_results_are_refused(story: State) -> None:
    with pytest.raises(ResponseTooLargeError, match="9 tokens are selected, allowed: 8"):
        story.analyze_attention(max_tokens=8)
    assert story.analyze_attention(max_tokens=8, position_range=(1, 8)).first == 1
    with pytest.raises(ResponseTooLargeError, match="6 patterns of 9 x 9 tokens are 486 numbers"):
        story.analyze_attention(per_layer=True, max_values=485)
    assert len(story.analyze_attention(per_layer=True, max_values=486).attention_patterns) == 6


def test_an_empty_state_has_no_attention(model: Model) -> None:
    empty = model.state()
    looks = (empty.analyze_attention, empty.head_importance, empty.attention_heatmap)
    for look in looks:
        with pytest.raises(EmptyStateError):
            look()


def test_looking_changes_nothing(model: Model) -> None:
    state = model.state("Hello world")
    before = (state.text, state.head_position, state.revision, state.config)
    state.analyze_attention()
    state.head_importance()
    state.attention_heatmap()
    assert (state.text, state.head_position, state.revision, state.config) == before


def test_a_failing_visit_ends_the_pass(story: State) -> None:
    def fail(layer: int, at: int, _weights: object) -> None:
        seen.append((layer, at))
        if layer == 2:
            raise LookupError("enough")

    seen: list[tuple[int, int]] = []
    with pytest.raises(LookupError, match="enough"):
        story._core.attention_layers(fail, -1, 0, 9)
    assert seen == [(0, 0), (1, 0), (2, 0)]
    assert story.attention(0).shape == (8, 9, 9), "the model is free again"
