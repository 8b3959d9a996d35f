from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import cacher
from cacher import EmptyStateError, ParameterError, State, WrongModelTypeError
from tests.models.make_tiny import make_tiny


def softmax(logits: np.ndarray) -> np.ndarray:
    wide = logits.astype(np.float64)
    wide = np.exp(wide - wide.max(axis=-1, keepdims=True))
    return wide / wide.sum(axis=-1, keepdims=True)


def test_logits_of_the_end_are_the_last_row_of_all(story: State) -> None:
    rows = story.logits(0)
    assert rows.shape == (9, 4096)
    assert story.logits().tobytes() == rows[-1].tobytes()
    assert story.logits(3, 2).tobytes() == rows[3:5].tobytes()


def test_an_empty_state_predicts_after_a_lone_bos(model: cacher.Model) -> None:
    bos = model.info.bos_token_id
    assert model.state().logits().tobytes() == model.state([bos]).logits().tobytes()


def test_without_a_bos_all_first_tokens_are_equally_likely(tmp_path: Path) -> None:
    model = cacher.load(make_tiny("gpt2", tmp_path, bos_token_id=None))
    n = model.vocab_size
    assert [t.probability for t in model.state().top_tokens(n)] == pytest.approx([1 / n] * n)
    assert model.state([5]).analyze_tokens().tokens[0].entropy == pytest.approx(math.log(n))
    assert model.state().generate(1, temperature=0).token_ids == [0]


def test_log_probabilities_are_those_of_the_logits(story: State) -> None:
    rows = softmax(story.logits(0))
    expected = [math.log(rows[i, token]) for i, token in enumerate(story.token_ids[1:])]
    logprobs = story.logprobs()
    assert logprobs.dtype == np.float32
    assert logprobs[1:].tolist() == pytest.approx(expected, abs=1e-4)
    first = softmax(story.model.state().logits())[story.token_ids[0]]
    assert logprobs[0] == pytest.approx(math.log(first), abs=1e-4)


@pytest.mark.parametrize("store", ["none", "top_k", "full"])
def test_log_probabilities_do_not_depend_on_what_is_stored(model: cacher.Model, store: str) -> None:
    model.drop_cached()
    state = model.state("The king had a daughter", config={"store_logits": store})
    state.generate(4, seed=1)
    want = model.state(state.token_ids).logprobs()
    assert state.logprobs().tobytes() == want.tobytes()


def test_entropies_and_ranks_are_those_of_the_logits(story: State) -> None:
    rows = softmax(story.logits(0))[:-1]
    entropy = -(rows * np.log(np.maximum(rows, 1e-300))).sum(axis=1)
    assert story.entropy()[1:].tolist() == pytest.approx(entropy.tolist(), abs=1e-4)
    ids = story.token_ids[1:]
    ranks = [int((row > row[i]).sum()) + 1 for row, i in zip(rows, ids, strict=True)]
    assert story.ranks()[1:].tolist() == ranks


def test_what_is_stored_is_read_without_running_the_model(story: State) -> None:
    story.generate(4)
    forwards = story.model.stats.forwards
    story.logprobs()
    for token in story:
        assert token.position == 0 or len(token.top_tokens) == 5
    assert story.model.stats.forwards == forwards


def test_top_tokens_are_sorted_exact_and_stored_or_not_the_same(model: cacher.Model) -> None:
    state = model.state("Once upon a")
    computed = state.top_tokens(7)
    probabilities = [t.probability for t in computed]
    assert probabilities == sorted(probabilities, reverse=True)
    assert computed[0].token == " time"
    assert computed[0].probability == pytest.approx(softmax(state.logits()).max())
    state.forward()
    assert state.top_tokens(7) == computed
    assert len(state.top_tokens(1000)) == 1000
    assert len(model.state().top_tokens()) == 5
    for bad in (0, 1001):
        with pytest.raises(ParameterError, match="n is"):
            state.top_tokens(bad)


def test_iterating_gives_the_tokens_with_their_texts(story: State) -> None:
    tokens = list(story)
    assert "".join(token.text for token in tokens) == story.text
    assert [token.token_id for token in tokens] == story.token_ids
    assert [token.logprob for token in tokens] == story.logprobs().tolist()
    assert tokens[2].top_tokens[0].token == " a", "once upon ..."


def test_attention_is_causal_and_sums_to_one(story: State) -> None:
    weights = story.attention(2)
    assert weights.shape == (8, 9, 9)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights.sum(axis=-1), 1.0, atol=1e-5)
    assert not np.triu(weights, 1).any()
    assert story.attention(2, 3).tobytes() == weights[3].tobytes()
    assert story.attention(2, 3, first=4, n=2).tobytes() == weights[3, 4:6, :6].tobytes()


def test_keys_explain_attention(tiny_folder) -> None:  # type: ignore[no-untyped-def]
    """The first token attends to itself alone, so its value passes through."""
    state = cacher.load(tiny_folder, threads=1).state([5, 9, 14])
    keys, values = state.kv(1)
    assert keys.shape == values.shape == (2, 3, 24)
    assert np.isfinite(keys).all()
    part, _ = state.kv(1, first=1, n=1)
    assert part.tobytes() == np.ascontiguousarray(keys[:, 1:2]).tobytes()


def test_arrays_own_their_memory_and_are_not_copies(story: State) -> None:
    weights = story.attention(0)
    assert not weights.flags.owndata, "a view of the core's block"
    assert weights.flags.writeable
    base = weights.copy()
    del story
    assert np.array_equal(weights, base)


@pytest.mark.parametrize(
    "look",
    [
        lambda s: s.attention(6), lambda s: s.attention(-1), lambda s: s.attention(0, 8),
        lambda s: s.attention(0, -2), lambda s: s.attention(0, 0, first=10),
        lambda s: s.kv(6), lambda s: s.kv(0, first=2, n=8), lambda s: s.kv(0, first=-1),
        lambda s: s.hidden(7), lambda s: s.hidden(0, first=10), lambda s: s.hidden(0, n=10),
        lambda s: s.logits(10), lambda s: s.logits(0, 10), lambda s: s.logits(0, -1),
        lambda s: s.model.embedding_input(4096), lambda s: s.model.embedding_input(-1),
    ],
)  # fmt: skip
def test_what_is_out_of_range_is_refused(story: State, look) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ParameterError, match=r"\d"):
        look(story)


def test_an_empty_state_has_nothing_to_look_at(model: cacher.Model) -> None:
    empty = model.state()
    for look in (lambda: empty.attention(0), lambda: empty.kv(0), lambda: empty.hidden()):
        with pytest.raises(EmptyStateError):
            look()
    assert empty.logprobs().shape == empty.entropy().shape == (0,)
    assert list(empty) == []


def everything(state: State) -> list[object]:
    """All that analyses tell of a state, in a form that can be compared."""
    tokens = state.analyze_tokens(
        include_logits=True, top=4, ngrams=2, histogram=True, correlation=True
    )
    attention = state.analyze_attention(threshold=0.1, per_layer=True)
    cache = state.inspect_cache().cache_data
    assert isinstance(cache, cacher.CacheData)
    return [
        tokens, [token.top_logits for token in tokens.tokens],
        state.token_info(entropy=True, top_logprobs=3),
        [part.pattern.tolist() for part in attention.attention_patterns],
        attention.max_attention, attention.min_attention, attention.tokens,
        state.head_importance(), cache.layer_data, cache.keys.tolist(), cache.values.tolist(),
        np.asarray(state.inspect_cache(format="list").cache_data).tobytes(),
        state.embedding().embedding.tobytes(), state.embedding(2, layer=1).embedding.tobytes(),
    ]  # fmt: skip


def test_what_is_seen_does_not_depend_on_how_the_state_came_about(model: cacher.Model) -> None:
    text = "Once upon a time there was a little fox who lived in a wood"
    want = everything(model.state(text).forward())
    model.drop_cached()
    pieces = model.state("Once upon a time there was a little fox").forward()
    assert everything(pieces.append(" who lived in a wood").forward()) == want
    assert everything(pieces.fork().append(" and died").forward().rollback(-2)) == want
    pieces.evict()
    assert everything(pieces) == want
    alone = cacher.load("tales", threads=1).state(text)
    assert everything(alone.forward()) == want


def test_looking_changes_no_field(model: cacher.Model) -> None:
    state = model.state("Hello world, ").forward("how are").append(" you")
    before = state.to_dict()
    everything(state)
    state.attention_heatmap()
    assert state.to_dict() == before


def test_a_classifier_shows_its_attention_and_vectors_only(tmp_path: Path) -> None:
    state = cacher.load(make_tiny("gpt2-labels", tmp_path), threads=1).state([5, 9, 14])
    assert state.analyze_attention().attention_pattern.shape == (3, 3)
    assert len(state.head_importance()) == 4
    assert state.embedding(1).dimension == 32
    for look in (state.analyze_tokens, state.token_info, state.inspect_cache):
        with pytest.raises(WrongModelTypeError):
            look()
