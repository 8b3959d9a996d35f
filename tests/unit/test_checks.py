from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import cacher
from cacher import CacherError, Model, ParameterError, State, TokenIdError
from cacher.checks import JsonObject, choice, integer, number, shown

HUGE = 10**5000  # more digits than Python prints


def test_integers_and_numbers_of_numpy_count() -> None:
    assert integer("n", np.int64(3), 0, 5) == integer("n", np.array(3), 0, 5) == 3
    assert number("x", np.float32(0.5), 0, 1) == number("x", np.float16(0.5), 0, 1) == 0.5
    assert type(number("x", np.float32(0.5), 0, 1)) is float


@pytest.mark.parametrize("bad", [True, np.True_, None, "3", b"3", 2.5, [], np.array([2, 3])])
def test_what_is_no_integer_is_a_type_error(bad: object) -> None:
    with pytest.raises(TypeError):
        integer("n", bad, 0, 5)


@pytest.mark.parametrize("bad", [True, np.True_, None, "3", [], 1j, np.array([2, 3])])
def test_what_is_no_number_is_a_type_error(bad: object) -> None:
    with pytest.raises(TypeError, match="x must be a number"):
        number("x", bad, 0, 5)


@pytest.mark.parametrize("bad", [-1, 6, 2**63, 10**30, HUGE, -HUGE], ids=shown)
def test_out_of_range_is_said_with_the_value(bad: int) -> None:
    for check in (integer, number):
        with pytest.raises(ParameterError, match=r"n is .*, allowed: 0 to 5") as caught:
            check("n", bad, 0, 5)
        assert shown(bad) in str(caught.value)
        assert len(str(caught.value)) < 200


def test_not_a_number_is_out_of_range() -> None:
    for bad in (float("nan"), float("inf"), -float("inf"), np.float32("nan"), Fraction(HUGE)):
        with pytest.raises(ParameterError):
            number("x", bad, 0, 5)


def test_a_choice_is_one_of_the_words() -> None:
    assert choice("when", "now", "now", "never") == "now"
    with pytest.raises(TypeError, match=r"when must be a string, got int"):
        choice("when", 5, "now")
    with pytest.raises(ParameterError, match=r'when is .x+\.\.\., allowed: "now", "never"'):
        choice("when", "x" * 1000, "now", "never")


def test_json_is_copied() -> None:
    inner = [1]
    kept = JsonObject("tags", {"a": inner, "b": (1, 2)})
    inner.append(2)
    kept["b"].append(3)  # type: ignore[attr-defined]
    assert kept == {"a": [1], "b": [1, 2]} == dict(kept)
    assert repr(kept) == "{'a': [1], 'b': [1, 2]}"
    with pytest.raises(TypeError):
        kept["a"] = 1  # type: ignore[index]
    for twin in (copy.copy(kept), copy.deepcopy(kept), pickle.loads(pickle.dumps(kept))):
        assert twin == kept
        assert hash(twin) == hash(kept)
    for wrong in (5, [], {1: 2}, {"a": {1}}):
        with pytest.raises(TypeError):
            JsonObject("tags", wrong)
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    for bad in ({"a": float("nan")}, {"a": "x" * 20000}, {"a": deep}, {"a": HUGE}):
        with pytest.raises(ParameterError, match="tags"):
            JsonObject("tags", bad)


WILD = [None, True, "3", b"3", "\ud800", 2.5, float("nan"), -1, 2**31, 2**63, 10**30, HUGE,
        object(), np.array([2, 3])]  # fmt: skip

CALLS: dict[str, Callable[[Model, State, Any], object]] = {
    "top_tokens": lambda _m, s, v: s.top_tokens(v),
    "multi": lambda _m, s, v: s.multi(v),
    "generate": lambda _m, s, v: s.generate(v, max_time_s=1e-9),
    "stream": lambda _m, s, v: s.stream(v),
    "beam": lambda _m, s, v: s.beam(v, 1),
    "early_stopping": lambda _m, s, v: s.beam(1, 1, early_stopping=v),
    "fork": lambda _m, s, v: s.fork(v),
    "rollback": lambda _m, s, v: s.rollback(v),
    "truncate": lambda _m, s, v: s.truncate(v),
    "truncate_to": lambda _m, s, v: s.edit(truncate_to=v),
    "ids": lambda _m, s, v: s.append([v]),
    "config": lambda _m, s, v: s.edit(config=v),
    "metadata": lambda _m, s, v: s.edit(metadata=v),
    "state_id": lambda _m, s, v: s.fork(state_id=v),
    "progress": lambda _m, s, v: s.forward(progress=v),
    "logits": lambda _m, s, v: s.logits(v),
    "logits n": lambda _m, s, v: s.logits(0, v),
    "attention": lambda _m, s, v: s.attention(v),
    "head": lambda _m, s, v: s.attention(0, v),
    "first": lambda _m, s, v: s.attention(0, 0, first=v),
    "kv": lambda _m, s, v: s.kv(v),
    "hidden": lambda _m, s, v: s.hidden(v),
    "embedding": lambda _m, s, v: s.embedding(v),
    "embedding layer": lambda _m, s, v: s.embedding(layer=v),
    "embedding kind": lambda _m, s, v: s.embedding(kind=v),
    "top": lambda _m, s, v: s.analyze_tokens(top=v),
    "ngrams": lambda _m, s, v: s.analyze_tokens(ngrams=v),
    "max_stored_logits": lambda _m, s, v: s.analyze_tokens(
        include_logits=True, max_stored_logits=v
    ),
    "token_info": lambda _m, s, v: s.token_info(v),
    "top_logprobs": lambda _m, s, v: s.token_info(top_logprobs=v),
    "distribution": lambda _m, s, v: s.token_info(distribution=v),
    "max_logits": lambda _m, s, v: s.token_info(logits=True, max_logits=v),
    "analyze_attention": lambda _m, s, v: s.analyze_attention(v),
    "analyze_attention head": lambda _m, s, v: s.analyze_attention(0, v),
    "threshold": lambda _m, s, v: s.analyze_attention(threshold=v),
    "position_range": lambda _m, s, v: s.analyze_attention(position_range=v),
    "position_range first": lambda _m, s, v: s.analyze_attention(position_range=(v, 5)),
    "position_range last": lambda _m, s, v: s.analyze_attention(position_range=(0, v)),
    "max_tokens": lambda _m, s, v: s.analyze_attention(max_tokens=v),
    "max_heads": lambda _m, s, v: s.analyze_attention(per_head=True, max_heads=v),
    "head_importance": lambda _m, s, v: s.head_importance(v),
    "heatmap threshold": lambda _m, s, v: s.attention_heatmap(0, 0, v),
    "key_name": lambda _m, s, v: s.inspect_cache(v),
    "layer_range": lambda _m, s, v: s.inspect_cache(layer_range=v),
    "layer_range last": lambda _m, s, v: s.inspect_cache(layer_range=[0, v]),
    "inspect_cache layer": lambda _m, s, v: s.inspect_cache(layer=v),
    "inspect_cache head": lambda _m, s, v: s.inspect_cache(head=v),
    "inspect_cache format": lambda _m, s, v: s.inspect_cache(format=v),
    "max_values": lambda _m, s, v: s.inspect_cache(max_values=v),
    "embedding_input": lambda m, _s, v: m.embedding_input(v),
    "token": lambda m, _s, v: m.tokenizer.token(v),
    "is_special": lambda m, _s, v: m.tokenizer.is_special(v),
    "pieces": lambda m, _s, v: m.tokenizer.pieces([v]),
    "push": lambda m, _s, v: m.tokenizer.stream_decoder().push(v),
    "set_threads": lambda m, _s, v: m.set_threads(v),
    "chunk_tokens": lambda m, s, v: m.generate_all([s], 1, chunk_tokens=v),
    "forward_all": lambda m, s, v: m.forward_all([s], chunk_tokens=v),
    "generate_all": lambda m, _s, v: m.generate_all([v]),
    "params": lambda m, s, v: m.generate_all([s], 1, [v]),
    "diff": lambda _m, s, v: cacher.diff(s, v),
    "merge": lambda _m, s, v: cacher.merge([s, v]),
    "separator": lambda _m, s, v: cacher.merge([s, s.fork()], separator=v),
    "threads": lambda _m, _s, v: cacher.load(threads=v),
    "device": lambda _m, _s, v: cacher.load(device=str(v)[:9] if v is not HUGE else "x"),
    "extra": lambda _m, _s, v: cacher.StateConfig(extra=v),
    "temperature": lambda _m, s, v: s.edit(config={"temperature": v}),
    "store_logits": lambda _m, s, v: s.edit(config={"store_logits": v}),
    "seed": lambda _m, s, v: s.generate(1, seed=v),
}


def content(state: State) -> tuple[object, ...]:
    return (state.token_ids, state.revision, state.head_position, state.config, state.metadata)


@pytest.mark.parametrize("name", CALLS)
def test_wild_arguments_change_nothing_and_are_named(model: Model, name: str) -> None:
    """Whatever comes: a result, a TypeError, or an exception of the package; never another."""
    for value in WILD:
        state = model.state("Once upon a time there was")
        before = content(state)
        caught = None
        try:
            CALLS[name](model, state, value)
        except (CacherError, TypeError) as error:
            caught = error
        if caught is not None:
            assert 0 < len(str(caught)) < 400
            assert content(state) == before
    model.set_threads(2)


def test_booleans_are_no_ids(model: Model) -> None:
    for use in (model.state, model.tokenizer.decode):
        with pytest.raises(TypeError, match="got bool"):
            use([True])


def test_an_id_of_any_size_is_named(model: Model) -> None:
    with pytest.raises(TokenIdError, match=r"10{30} is outside"):
        model.state([10**30])
    with pytest.raises(TokenIdError, match="thousands of digits"):
        model.tokenizer.token(HUGE)


def test_an_option_that_would_be_ignored_is_refused(model: Model, tiny_folder) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ParameterError, match="without first"):
        model.state("Hello").logits(n=1)
    with pytest.raises(ParameterError, match="its own field"):
        cacher.StateConfig(extra={"temperature": 99})
    plain = cacher.load(tiny_folder).state([1, 2])
    for call in (plain.generate, plain.beam, plain.stream):
        with pytest.raises(cacher.TokenizerError, match="no tokenizer"):
            call(1, stop="x")  # type: ignore[operator]
