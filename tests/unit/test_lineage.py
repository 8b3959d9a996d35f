from __future__ import annotations

import pytest

import cacher
from cacher import ContextOverflowError, MergeConflictError, ParameterError, diff, merge


def test_a_diff_names_the_common_beginning_and_the_rest(model: cacher.Model) -> None:
    a = model.state("Hello world, and the", state_id="a")
    b = model.state("Hello world.", state_id="b", config={"temperature": 0.2})
    found = diff(a, b)
    assert found.state_ids == ("a", "b")
    assert (found.common_prefix_tokens, found.common_prefix_text) == (2, "Hello world")
    assert found.only_in == (", and the", ".")
    assert found.config_changes == {"temperature": (0.7, 0.2)}
    assert found.same_model
    assert not found.identical
    assert diff(a, a.fork()).identical


def test_states_of_another_model_share_nothing(model: cacher.Model, tiny_folder) -> None:  # type: ignore[no-untyped-def]
    other = cacher.load(tiny_folder).state([1, 2])
    found = diff(model.state([1, 2]), other)
    assert (found.same_model, found.common_prefix_tokens) == (False, 0)
    with pytest.raises(MergeConflictError, match="different models"):
        merge([model.state([1, 2]), other])
    twin = cacher.load("tales", threads=1).state("Hello world")
    assert diff(model.state("Hello world"), twin).identical


@pytest.mark.parametrize(
    ("strategy", "text"),
    [
        ("append", "Hello world| you"),
        ("concat", "Hello world|Hello you|Hello"),
        ("longest", "Hello world"),
        ("common_prefix", "Hello"),
    ],
)
def test_strategies(model: cacher.Model, strategy: str, text: str) -> None:
    root = model.state("Hello")
    states = [root.fork().append(" world"), root.fork().append(" you"), root]
    merged = merge(states, strategy=strategy, separator="|")  # type: ignore[arg-type]
    assert merged.text == text
    assert merged.merged_from == [state.id for state in states]
    assert (merged.head_position, merged.revision) == (0, 1)
    assert [state.text for state in states] == ["Hello world", "Hello you", "Hello"]


def test_conflicts_are_chosen_or_refused(model: cacher.Model) -> None:
    a, b = model.state("a"), model.state("b", config={"temperature": 0.2, "mood": "sad"})
    first, last = merge([a, b]), merge([a, b], on_conflict="last")
    assert (first.config.temperature, last.config.temperature) == (0.7, 0.2)
    assert first.config.to_dict()["mood"] == "sad"
    (conflict, _mood) = first.merge_conflicts
    assert (conflict.key, conflict.values, conflict.chosen) == ("temperature", (0.7, 0.2), 0.7)
    with pytest.raises(MergeConflictError, match="temperature") as caught:
        merge([a, b], on_conflict="error")
    assert caught.value.keys == ("temperature", "mood")
    assert a.merge_conflicts == []


def test_what_cannot_be_merged_is_refused(model: cacher.Model) -> None:
    a, b = model.state("a"), model.state("b")
    for states, options, words in [
        ([a], {}, "1 states"),
        ([a, a], {}, "twice"),
        ([a, b], {"strategy": "zip"}, "'zip'"),
        ([a, b], {"on_conflict": "ask"}, "'ask'"),
        ([a, b], {"separator": "x" * 257}, "257"),
    ]:
        with pytest.raises(ParameterError, match=words):
            merge(states, **options)  # type: ignore[arg-type]
    with pytest.raises(ContextOverflowError):
        merge([model.state([1] * 600), model.state([2] * 600)])
