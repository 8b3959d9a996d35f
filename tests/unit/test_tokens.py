"""Token analysis by definition, from the reference's or the state's own logits."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cacher
from cacher import Model, ParameterError, State, TokenAnalysis
from cacher.tokens import _correlation, _histogram, perplexity
from tests.models.make_tiny import CONFIGS, VOCAB, make_tiny
from tests.reference import decoder

BOS = 0  # of the tiny models


def log_softmax(logits: np.ndarray) -> np.ndarray:
    wide = logits.astype(np.float64)
    wide = wide - wide.max(axis=-1, keepdims=True)
    return wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))


@pytest.mark.parametrize("name", CONFIGS)
def test_tokens_are_judged_as_by_the_reference(name: str, tmp_path: Path) -> None:
    folder = make_tiny(name, tmp_path)
    ids = np.random.default_rng(6).integers(0, VOCAB, 40).tolist()
    rows = log_softmax(np.vstack([decoder.logits(folder, [BOS]), decoder.logits(folder, ids)]))
    found = cacher.load(folder, threads=1).state(ids).analyze_tokens(top=7)
    assert found.token_count == len(found.tokens) == 40
    logprobs = [rows[p, token_id] for p, token_id in enumerate(ids)]
    assert found.total_logprob == pytest.approx(sum(logprobs), abs=1e-3)
    assert found.perplexity == pytest.approx(math.exp(-np.mean(logprobs[1:])), rel=1e-4)
    for p, token in enumerate(found.tokens):
        assert (token.position, token.token_id, token.text) == (p, ids[p], "")
        assert token.logprob == pytest.approx(logprobs[p], abs=1e-4)
        assert token.probability == pytest.approx(math.exp(logprobs[p]), rel=1e-4)
        assert token.entropy == pytest.approx(-(np.exp(rows[p]) * rows[p]).sum(), abs=1e-4)
        assert token.rank == 1 + (rows[p] > rows[p, ids[p]]).sum()
        best = np.argsort(-rows[p], kind="stable")[:7]
        assert [top.token_id for top in token.top_tokens] == best.tolist()
        for top in token.top_tokens:
            assert top.logprob == pytest.approx(rows[p, top.token_id], abs=1e-4)
            assert top.probability == math.exp(top.logprob)


def test_texts_join_to_that_of_the_state_and_characters_stay_whole(model: Model) -> None:
    state = model.state("naïve 🦊 and 🧑‍🚀 went out\n").analyze_tokens()
    texts = [token.text for token in state.tokens]
    assert "".join(texts) == "naïve 🦊 and 🧑‍🚀 went out\n"
    assert "" in texts, "the first bytes of a character show nothing"


def test_analysis_agrees_with_all_else_that_is_known(story: State) -> None:
    generated = story.generate(6, seed=3)
    found = story.analyze_tokens(top=5)
    assert [token.logprob for token in found.tokens] == story.logprobs().tolist()
    assert [token.entropy for token in found.tokens] == story.entropy().tolist()
    assert [token.rank for token in found.tokens] == story.ranks().tolist()
    assert [token.logprob for token in found.tokens[-6:]] == generated.logprobs
    for token, shown in zip(found.tokens[1:], list(story)[1:], strict=True):
        assert token.top_tokens == shown.top_tokens
    assert story.fork(at=3).top_tokens(5) == found.tokens[3].top_tokens


def test_a_pending_state_is_analyzed_by_one_pass(model: Model) -> None:
    model.drop_cached()
    state = model.state("A pending tale of a cat that was read for the first time")
    before = model.stats.tokens_computed
    state.analyze_tokens(include_logits=True, top=100, ngrams=2, histogram=True, correlation=True)
    assert model.stats.tokens_computed - before == len(state) - 1, "nothing follows the last"


def test_stored_logits_are_those_of_consumed_tokens(model: Model) -> None:
    state = model.state("Once upon a time", config={"top_k_logits": 3})
    assert all(token.top_logits is None for token in analyzed(state).tokens)
    state.forward().append(" there was")
    found = analyzed(state)
    rows = state.logits(0)
    for token in found.tokens[:4]:
        best = np.argsort(-rows[token.position], kind="stable")[:3]
        assert isinstance(token.top_logits, list)
        assert [top.token_id for top in token.top_logits] == best.tolist()
        assert [top.logit for top in token.top_logits] == rows[token.position][best].tolist()
        assert all(top.token == model.tokenizer.decode([top.token_id]) for top in token.top_logits)
    assert [token.top_logits for token in found.tokens[4:]] == [None, None]
    assert found.tokens[1].top_logits is not None
    assert found.tokens[1].top_logits[0].token == " a"
    stored = state._core.scores(0, 4, 3)
    assert [[t.logit for t in token.top_logits or []] for token in found.tokens[:4]] == stored[
        2
    ].tolist()
    assert all(token.top_logits is None for token in state.analyze_tokens().tokens)


def analyzed(state: State, most: int = 2**24) -> TokenAnalysis:
    return state.analyze_tokens(include_logits=True, max_stored_logits=most)


def test_nothing_is_stored_with_none(model: Model) -> None:
    state = model.state("Once upon a time", config={"store_logits": "none"}).forward()
    assert [token.top_logits for token in analyzed(state).tokens] == [None] * 4


def test_full_vectors_are_those_of_the_model_and_the_last_ones_stay(model: Model) -> None:
    state = model.state("Once upon a time there", config={"store_logits": "full"}).forward()
    state.append(" was")
    rows = state.logits(0)
    for kept in (0, 1, 3, 5, 9):
        found = analyzed(state, kept * 4096 + 4095)
        for p, token in enumerate(found.tokens):
            if max(0, 5 - kept) <= p < 5:
                assert isinstance(token.top_logits, np.ndarray)
                assert token.top_logits.tobytes() == rows[p].tobytes()
            else:
                assert token.top_logits is None
        assert [token.logprob for token in found.tokens] == state.logprobs().tolist()


def test_empty_and_single_states_have_no_perplexity(model: Model) -> None:
    empty = model.state().analyze_tokens(
        include_logits=True, top=3, ngrams=2, histogram=True, correlation=True
    )
    assert (empty.tokens, empty.token_count, empty.total_logprob) == ([], 0, 0.0)
    assert (empty.perplexity, empty.ngrams) == (None, [])
    assert empty.histogram is not None
    assert sum(part.count for part in empty.histogram) == 0
    assert empty.correlation == (None, None)
    single = model.state("Hello").analyze_tokens(correlation=True)
    assert single.perplexity is None
    assert single.total_logprob == single.tokens[0].logprob
    assert single.correlation == (None, None)
    assert single.ngrams is single.histogram is None


@given(st.lists(st.integers(5, 8), max_size=90), st.integers(2, 5))
def test_ngrams_are_counted(model: Model, ids: list[int], n: int) -> None:
    found = model.state(ids).analyze_tokens(ngrams=n).ngrams
    assert found is not None
    grams = [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]
    counted, first = Counter(grams), {gram: grams.index(gram) for gram in grams}
    want = sorted(counted, key=lambda gram: (-counted[gram], first[gram]))[:50]
    pieces = model.tokenizer.pieces(ids)
    assert [gram.count for gram in found] == [counted[gram] for gram in want]
    assert [gram.tokens for gram in found] == [pieces[first[g] : first[g] + n] for g in want]
    assert all(gram.text == "".join(gram.tokens) for gram in found)


def test_the_histogram_counts_every_token_once() -> None:
    bins = _histogram([0.0, 0.05, 0.1, 0.25, 0.3, 0.999, 1.0, 1.0 + 1e-9])
    assert [part.count for part in bins] == [2, 1, 1, 1, 0, 0, 0, 0, 0, 3]
    assert [(part.low, part.high) for part in bins][:4] == [
        (0.0, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.4),
    ]  # fmt: skip


def test_correlations_are_pearson_s(story: State) -> None:
    found = story.analyze_tokens(correlation=True)
    logprobs = story.logprobs().astype(np.float64)
    assert found.correlation is not None
    with_entropy, lag = found.correlation
    entropy = story.entropy().astype(np.float64)
    assert with_entropy == pytest.approx(np.corrcoef(logprobs, entropy)[0, 1])
    assert lag == pytest.approx(np.corrcoef(logprobs[:-1], logprobs[1:])[0, 1])
    assert _correlation([-1.0, -1.0, -1.0], [1.0, 2.0, 3.0]) == (None, None)
    assert _correlation([-1.0, -2.0], [2.0, 4.0]) == (pytest.approx(-1.0), None)
    assert _correlation([-1e9, 0.0, -1e-300], [1e-300, 0.0, 2e-300])[0] is not None


def test_numbers_stay_finite() -> None:
    assert perplexity([-1e9, -1e9]) == math.exp(700)
    assert perplexity([-1e9, -1.0, -3.0]) == pytest.approx(math.exp(2))


def test_wrong_sizes_are_refused(story: State) -> None:
    for wrong in (1, 6, -1):
        with pytest.raises(ParameterError, match="ngrams is"):
            story.analyze_tokens(ngrams=wrong)
    for wrong in (-1, 101):
        with pytest.raises(ParameterError, match=r"top is .*allowed: 0 to 100"):
            story.analyze_tokens(top=wrong)


def test_a_vocabulary_smaller_than_what_is_asked_for_caps_it(tiny_folder: Path) -> None:
    state = cacher.load(tiny_folder, threads=1).state([1, 2], config={"top_k_logits": 1000})
    found = analyzed(state.forward())
    assert [len(token.top_logits or []) for token in found.tokens] == [VOCAB, VOCAB]
    assert len(state.analyze_tokens(top=100).tokens[0].top_tokens) == VOCAB
