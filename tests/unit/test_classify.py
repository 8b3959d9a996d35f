"""Judging texts: classifiers against the slow reference, causal models against their own logits."""

from __future__ import annotations

import asyncio
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cacher
from cacher import (
    Classification,
    ContextOverflowError,
    EmptyStateError,
    Model,
    ParameterError,
    State,
    StateBusyError,
    TokenIdError,
    TokenizerError,
    WrongModelTypeError,
)
from tests.models.make_tiny import CLASSIFIERS, VOCAB, make_tiny, write_tokenizer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from reference import decoder

IDS = [int(i) for i in np.random.default_rng(3).integers(2, VOCAB - 1, 60)]
LABELS = ["happy", "sad", "very cold"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("classifiers")
    return {name: make_tiny(name, folder) for name in CLASSIFIERS}


@pytest.fixture(scope="module")
def named(folders: dict[str, Path]) -> Model:
    return cacher.load(str(folders["gpt2-labels"]), threads=2)


@pytest.fixture(scope="module")
def reward(folders: dict[str, Path]) -> Model:
    return cacher.load(str(folders["qwen3-reward"]), threads=2)


@pytest.fixture(scope="module")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A reward model with a tokenizer."""
    folder = make_tiny("qwen3-reward", tmp_path_factory.mktemp("talking"))
    write_tokenizer(folder)
    return cacher.load(str(folder), threads=1)


def logits_of(found: Classification) -> dict[str, float]:
    return {score.label: score.logit for score in found.scores}


# ---- classifiers


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_logits_are_those_of_the_reference(name: str, folders: dict[str, Path]) -> None:
    want = decoder.logits(folders[name], IDS)
    state = cacher.load(str(folders[name]), threads=2).state(IDS)
    got = np.asarray(state._core.classify(0, len(IDS)))
    assert got.shape == want.shape
    assert np.abs(want).max() > 1
    assert np.abs(got - want).max() < 1e-4
    found = state.classify()
    if len(want[0]) == 1:
        assert found.reward == got[-1, 0]
    else:
        labels = state.model.labels
        assert logits_of(found) == dict(zip(labels, got[-1].tolist(), strict=True))


def test_labels_are_named_as_in_the_configuration(folders: dict[str, Path], named: Model) -> None:
    assert named.labels == named.info.labels == ("bad", "so so", "good")
    assert named.model_type == named.info.model_type == "sequence_classification"
    many = cacher.load(str(folders["mistral-labels"]))
    assert many.labels == tuple(f"LABEL_{i}" for i in range(20))


def test_scores_are_a_softmax_best_first(named: Model) -> None:
    found = named.state(IDS).classify()
    assert sum(s.score for s in found.scores) == pytest.approx(1)
    assert [s.score for s in found.scores] == sorted((s.score for s in found.scores), reverse=True)
    assert (found.label, found.score) == (found.scores[0].label, found.scores[0].score)
    best, worst = found.scores[0], found.scores[-1]
    assert best.score / worst.score == pytest.approx(math.exp(best.logit - worst.logit))
    assert (found.reward, found.multi_label, found.selected) == (None, False, (found.label,))


def test_labels_can_be_judged_independently(named: Model) -> None:
    state = named.state(IDS)
    found = state.classify(multi_label=True)
    assert logits_of(found) == logits_of(state.classify())
    for score in found.scores:
        assert score.score == pytest.approx(1 / (1 + math.exp(-score.logit)))
    assert found.selected == tuple(s.label for s in found.scores if s.score >= 0.5)


def test_a_threshold_selects(named: Model) -> None:
    state = named.state(IDS)
    second = state.classify().scores[1]
    assert state.classify(threshold=second.score).selected == tuple(
        s.label for s in state.classify().scores[:2]
    )
    assert state.classify(threshold=0).selected == tuple(s.label for s in state.classify().scores)
    assert state.classify(threshold=1.0).selected == ()


def test_one_output_is_a_reward(reward: Model) -> None:
    seen = set()
    for first in range(20):
        found = reward.state(IDS[first : first + 7]).classify()
        assert found.reward is not None
        assert found.score == pytest.approx(1 / (1 + math.exp(-found.reward)), abs=1e-12)
        assert found.label == ("positive" if found.score >= 0.5 else "negative")
        assert logits_of(found) == {"positive": found.reward, "negative": -found.reward}
        assert sum(s.score for s in found.scores) == pytest.approx(1)
        assert found.selected == (found.label,)
        seen.add(found.label)
    assert seen == {"positive", "negative"}


def test_padding_at_the_end_is_overlooked(reward: Model, named: Model) -> None:
    pad = reward.info.pad_token_id
    assert pad == 96
    want = reward.state(IDS).classify()
    assert reward.state([*IDS, pad, pad]).classify() == want
    assert reward.state([*IDS, pad, 5]).classify() != want
    assert reward.state([pad, pad]).classify() == reward.state([pad]).classify()
    assert named.info.pad_token_id is None


def test_every_prefix_has_its_reward(reward: Model) -> None:
    ids = [*IDS[:20], 96, *IDS[20:30]]
    tokens = reward.state(ids).classify(per_token=True).per_token
    assert tokens is not None
    assert tokens.rewards == [
        reward.state(ids[: n + 1]).classify().reward for n in range(len(ids))
    ]  # fmt: skip
    assert tokens.rewards[20] == tokens.rewards[19]
    assert tokens.cumulative == pytest.approx(np.cumsum(tokens.rewards).tolist())
    assert tokens.average == pytest.approx(sum(tokens.rewards) / len(ids))
    assert tokens.tokens == [""] * len(ids)  # there is no tokenizer
    assert tokens.start_positions == [-1] * len(ids)


def test_texts_together_are_judged_as_alone(named: Model) -> None:
    texts = [IDS[: 3 * n] for n in range(1, 20)]
    together = named.state().classify_all(texts)
    assert len(together) == 19
    assert list(together) == [named.state().classify(text) for text in texts]
    assert together[3] == together.results[3]


def test_a_small_budget_makes_smaller_groups(folders: dict[str, Path]) -> None:
    folder = str(folders["gpt2-labels"])
    page = cacher.load(folder).info.page_bytes
    texts = [IDS[n : n + 40] for n in range(10)]
    want = cacher.load(folder).state().classify_all(texts)
    small = cacher.load(folder, kv_budget=3 * page)
    assert small.state().classify_all(texts) == want
    with pytest.raises(cacher.BudgetError):
        small.state().classify(IDS)


def test_nothing_of_the_state_changes(named: Model) -> None:
    state = named.state(IDS)
    before = (state.token_ids, state.revision, state.head_position, state.config)
    state.classify()
    state.classify(IDS[:3])
    assert (state.token_ids, state.revision, state.head_position, state.config) == before
    state._core.check()


def test_a_text_is_read_once(named: Model) -> None:
    named.drop_cached()
    state = named.state(IDS[:48])
    state.classify()
    computed = named.stats.tokens_computed
    assert state.classify(IDS[:48] + IDS[:5]) != state.classify()
    assert named.stats.tokens_computed - computed <= 5 + 2


# ---- texts and their special tokens


def test_a_text_is_framed_by_the_template(talking: Model) -> None:
    ids = talking.tokenizer.encode("fine", add_special=True)
    assert (ids[0], ids[-1], len(ids)) == (0, 1, 6)
    want = talking.state().classify(ids)
    assert talking.state().classify("fine") == want
    assert talking.state("fine").classify() == want
    assert talking.state(ids).classify() == want  # it has what the template asks for
    assert talking.state().classify(ids[1:-1]) != want  # ids are taken as they are


def test_tokens_know_where_they_begin(talking: Model) -> None:
    tokens = talking.state("a cat</s>!").classify(per_token=True).per_token
    assert tokens is not None
    assert tokens.tokens == ["<s>", "a", " ", "c", "a", "t", "</s>", "!", "</s>"]
    assert tokens.start_positions == [-1, 0, 1, 2, 3, 4, -1, 9, -1]
    own = talking.state([0, *talking.tokenizer.encode("hi")]).classify(per_token=True).per_token
    assert own is not None
    assert own.tokens == ["<s>", "h", "i", "</s>"]
    assert own.start_positions == [-1, 3, 4, -1]  # its text is "<s>hi"


# ---- causal models


def mean_logprob(state: State, first: int) -> float:
    """Return the mean log-probability of the tokens from `first` on, from the logits."""
    rows = state.logits(0).astype(np.float64)
    logprobs = rows - np.log(np.exp(rows).sum(1, keepdims=True))
    return float(np.mean([logprobs[i - 1, state.token_ids[i]] for i in range(first, len(state))]))


def test_evidence_is_the_mean_log_probability_of_the_label(model: Model) -> None:
    text = "The king laughed and gave a feast."
    found = model.state(text).classify(labels=LABELS)
    for label, logit in logits_of(found).items():
        state = model.state(text).append(f" This text is {label}")
        first = len(model.state(text).append(" This text is"))
        assert logit == pytest.approx(mean_logprob(state, first), abs=1e-4)
    assert sum(s.score for s in found.scores) == pytest.approx(1)
    assert found.selected == (found.label,)
    assert found.reward is None


def test_several_labels_may_hold(model: Model) -> None:
    text = "It rained, and the king was wet."
    found = model.state().classify(text, labels=LABELS, multi_label=True)
    for label, logit in logits_of(found).items():
        lead, statement = " This text is", f" This text is {label}"
        alone = model.state(model.tokenizer.encode(statement))
        without = mean_logprob(alone, len(model.tokenizer.encode(lead)))
        state = model.state(text).append(statement)
        behind = mean_logprob(state, len(model.state(text).append(lead)))
        assert logit == pytest.approx(behind - without, abs=2e-4)
    for score in found.scores:
        assert score.score == pytest.approx(1 / (1 + math.exp(-score.logit)))
    assert found.selected == tuple(s.label for s in found.scores if s.score >= 0.5)


def test_the_template_is_what_the_model_reads(model: Model) -> None:
    state = model.state("The fox ran.")
    plain = state.classify(labels=LABELS, template="{}")
    assert plain != state.classify(labels=LABELS)
    for label, logit in logits_of(plain).items():
        continued = model.state("The fox ran.").append(label)
        assert logit == pytest.approx(mean_logprob(continued, len(state)), abs=1e-4)
    multi = state.classify(labels=LABELS, template="{} it is", multi_label=True)
    assert len(multi.scores) == 3  # a label may be the first token: after a lone BOS


def test_zero_shot_reads_a_text_and_each_label_once(model: Model) -> None:
    model.drop_cached()
    labels = [f"number {n}" for n in range(40)]
    state = model.state("Once upon a time " * 16)
    state.classify(labels=labels)
    first = model.stats.tokens_computed
    assert first > 0
    model.drop_cached()
    plain = model.state(state.token_ids)
    before = model.stats
    plain.classify(labels=labels)
    statements = sum(len(state.fork().append(f" This text is {x}")) - len(state) for x in labels)
    after = model.stats
    assert after.tokens_computed - before.tokens_computed <= len(state) + statements + len(labels)
    assert after.forwards - before.forwards == 1 + 40 / 8  # the text, then eight labels at once


def test_what_is_read_is_hidden_from_other_salts(model: Model, named: Model) -> None:
    for own, labels in ((model, LABELS), (named, None)):
        own.drop_cached()
        long = [5 + n % 80 for n in range(64)]
        counts = []
        for salt in ("ada", "bob", "ada"):
            before = own.stats.tokens_computed
            found = own.state(long, cache_salt=salt).classify(labels=labels)
            counts.append(own.stats.tokens_computed - before)
            assert found == own.state().classify(long, labels=labels)
        assert counts[0] == counts[1] > counts[2] + 48


def test_a_sliding_state_is_judged_by_what_the_model_sees(model: Model, named: Model) -> None:
    slide = {"context_size": 16, "context_strategy": "slide"}
    for own, labels in ((model, LABELS), (named, None)):
        state = own.state(IDS[:12], config=slide).append(IDS[12:20])
        assert state.dropped_tokens == 8
        assert state.classify(labels=labels) == own.state().classify(IDS[8:20], labels=labels)


def test_zero_shot_of_several_texts(model: Model) -> None:
    texts = ["We won!", "We lost.", "It snowed."]
    state = model.state("ignored")
    together = state.classify_all(texts, labels=LABELS, multi_label=True, threshold=0.3)
    alone = [
        state.classify(text, labels=LABELS, multi_label=True, threshold=0.3) for text in texts
    ]  # fmt: skip
    assert list(together) == alone
    assert together.labels == tuple(LABELS)
    assert state.text == "ignored"
    assert state.head_position == 0


# ---- correlation


def test_correlation_is_pearsons(named: Model) -> None:
    found = named.state().classify_all([IDS[n : n + 9] for n in range(12)])
    correlation = found.label_correlation()
    scores = [{s.label: s.score for s in result.scores} for result in found]
    rows = [[score[label] for score in scores] for label in named.labels]
    assert correlation.labels == named.labels
    assert np.allclose(correlation.matrix, np.corrcoef(rows))
    assert all(correlation.matrix[i][i] == 1.0 for i in range(3))


def test_what_never_varies_goes_together_with_nothing(named: Model, reward: Model) -> None:
    once = named.state().classify_all([IDS])
    assert once.label_correlation().matrix == ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    rewards = reward.state().classify_all([IDS[:5], IDS[5:9]]).label_correlation()
    assert rewards.labels == ("positive", "negative")
    assert rewards.matrix[0][1] == pytest.approx(-1)


# ---- what is refused


def test_what_predicts_tokens_is_no_work_for_a_classifier(named: Model) -> None:
    state = named.state(IDS)
    calls: dict[str, Callable[[], Any]] = {
        "generation": state.generate,
        "beam search": state.beam,
        "logits": state.logits,
        "top_tokens": state.top_tokens,
        "logprobs": state.logprobs,
        "entropy": state.entropy,
        "ranks": state.ranks,
        "kv": lambda: state.kv(0),
        "inspect_cache": state.inspect_cache,
        "analyze_tokens": state.analyze_tokens,
        "token_info": state.token_info,
        "forward": state.forward,
        "classify with labels": lambda: state.classify(labels=LABELS),
    }
    for operation, call in calls.items():
        with pytest.raises(WrongModelTypeError, match="is a sequence_classification") as caught:
            call()
        assert str(caught.value).startswith(f"{operation} needs a causal_lm model, ")
        assert repr(named.name) in str(caught.value)
    for other in (lambda: next(state.stream(3)), lambda: state.multi(2), lambda: list(state),
                  lambda: named.forward_all([state]), lambda: named.generate(IDS)):  # fmt: skip
        with pytest.raises(WrongModelTypeError):
            other()
    assert len(state) == len(IDS)
    assert state.revision == 1


def test_the_core_refuses_it_too(named: Model, model: Model) -> None:
    state = named.state(IDS)._core
    batch = cacher._core.Batch(named._core)
    for call in (lambda: state.logits(0, 1), lambda: state.analyze(0, 1), state.next_logits,
                 lambda: batch.add(state, None)):  # fmt: skip
        with pytest.raises(WrongModelTypeError, match="needs a causal_lm model") as caught:
            call()
        assert caught.value.code == "E_MODEL_TYPE"
    causal = model.state("Hello")._core
    for call in (lambda: causal.classify(0, 1), lambda: model._core.classify([causal])):
        with pytest.raises(WrongModelTypeError, match="needs a sequence_classification model"):
            call()
    with pytest.raises(TypeError):
        named._core.classify([3])
    with pytest.raises(EmptyStateError):
        named._core.classify([named._core.state()])


def test_an_engine_runs_what_fits_the_model(named: Model) -> None:
    state = named.state(IDS)

    async def use() -> Classification:
        async with cacher.Engine(named) as engine:
            for wrong in (engine.forward(state), engine.generate(state), engine.multi(state)):
                with pytest.raises(WrongModelTypeError):
                    await wrong
            with pytest.raises(WrongModelTypeError):
                engine.stream(state)
            return await engine.run(state.classify)

    assert asyncio.run(use()) == state.classify()
    assert len(state) == len(IDS)


def test_a_causal_model_needs_labels(model: Model) -> None:
    with pytest.raises(WrongModelTypeError, match="classify without labels needs a sequence_class"):
        model.state("Hello").classify()


def test_the_insides_of_a_classifier_can_be_seen(named: Model) -> None:
    state = named.state(IDS)
    assert state.attention(0).shape == (2, 60, 60)
    assert state.hidden().shape == (60, 32)
    assert "60 tokens" in state._repr_html_()
    assert "gpt2" in repr(named)
    assert "sequence_classification" in named._repr_html_()


def test_a_classifiers_state_is_kept_and_forked(named: Model, tmp_path: Path) -> None:
    state = named.state(IDS)
    want = state.classify()
    path = tmp_path / "state.json"
    state.save(path)
    assert json.loads(path.read_text())["model_type"] == "sequence_classification"
    assert named.restore(path).classify() == want
    assert state.fork().classify() == want
    assert state.fork(at=10).classify() == named.state(IDS[:10]).classify()


def test_a_text_must_be_there_and_fit(model: Model, named: Model, talking: Model) -> None:
    with pytest.raises(EmptyStateError, match="no text to classify"):
        named.state().classify()
    with pytest.raises(ParameterError, match="text is empty"):
        talking.state("x").classify("")
    with pytest.raises(ParameterError, match="text is empty"):
        named.state().classify([])
    with pytest.raises(TokenizerError, match="no tokenizer"):
        named.state(IDS).classify("words")
    with pytest.raises(TokenIdError):
        named.state().classify([VOCAB])
    with pytest.raises(ContextOverflowError):
        named.state().classify([5] * 257)
    with pytest.raises(ContextOverflowError):
        talking.state().classify("x" * 255)  # 257 with its special tokens
    with pytest.raises(ContextOverflowError):
        model.state().classify([5] * 1023, labels=LABELS)
    with pytest.raises(TypeError, match="text must be"):
        named.state().classify(b"bytes")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"labels": ["one"]}, ParameterError, "there are 1 labels, allowed: 2 to 64"),
        ({"labels": map(str, range(65))}, ParameterError, "more than 64 labels"),
        ({"labels": ["a", ""]}, ParameterError, "a label is empty"),
        ({"labels": ["a", "b", "a"]}, ParameterError, "label 'a' is given twice"),
        ({"labels": "ab"}, TypeError, "labels must be several strings, got str"),
        ({"labels": ["a", 3]}, TypeError, "a label must be a string, got int"),
        ({"labels": 3}, TypeError, "labels must be several strings"),
        ({"labels": LABELS, "template": "no place"}, ParameterError, "it must hold {} once"),
        ({"labels": LABELS, "template": "{} or {}"}, ParameterError, "it must hold {} once"),
        ({"labels": LABELS, "template": None}, TypeError, "template must be a string"),
        ({"labels": LABELS, "threshold": 1.5}, ParameterError, "threshold is 1.5, allowed: 0 to 1"),
        ({"labels": LABELS, "threshold": math.nan}, ParameterError, "threshold is nan"),
        ({"labels": LABELS, "per_token": True}, ParameterError, "'tales' has none"),
    ],
)
def test_wrong_arguments_are_named(
    model: Model, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as caught:
        model.state("Hello").classify(**options)
    assert words in str(caught.value)


def test_only_one_output_has_rewards(named: Model) -> None:
    with pytest.raises(ParameterError, match="has 3"):
        named.state(IDS).classify(per_token=True)


def test_texts_are_several(named: Model) -> None:
    state = named.state()
    with pytest.raises(ParameterError, match="there are 0 texts, allowed: 1 to 64"):
        state.classify_all([])
    with pytest.raises(ParameterError, match="more than 64 texts"):
        state.classify_all([IDS] * 65)
    for wrong in ("text", 3):
        with pytest.raises(TypeError, match="several texts"):
            state.classify_all(wrong)  # type: ignore[arg-type]
    with pytest.raises(TokenIdError):
        state.classify_all([IDS, [VOCAB]])


def test_a_state_in_use_is_busy(model: Model) -> None:
    state = model.state("Hello")
    stream = cacher._core.Batch(model._core)
    stream.add(state._core, state.config.sampling({}).core(0))
    with pytest.raises(StateBusyError):
        state.classify(labels=LABELS)
    assert len(state.classify("Hi", labels=LABELS).scores) == 3
