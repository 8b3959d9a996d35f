"""Records: they travel between processes, into JSON, and into sets where they can."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import pickle
from typing import Any

import pytest

import cacher
from cacher.types import top_token


@pytest.fixture
def records(story: cacher.State) -> list[Any]:
    return [
        next(story.fork().stream(1)), next(iter(story)), story.multi(1, 2)[0],
        story.beam(2, 2, trace=True), story.model.info, story.model.stats,
        cacher.diff(story, story.fork()), story.config, story.config.updated({"mood": [1]}),
        cacher.SamplingParams(stop="x"), cacher.BeamParams(),
        story.classify(labels=["a", "b"]), story.classify_all(["x", "y"], labels=["a", "b"]),
        cacher.TokenRewards(["a"], [0.5], [0.5], 0.5, [0]),
    ]  # fmt: skip


def test_records_are_pickled_copied_and_written_as_json(records: list[Any]) -> None:
    for record in records:
        for twin in (pickle.loads(pickle.dumps(record)), copy.deepcopy(record)):
            assert twin == record
        plain = dataclasses.asdict(record)
        assert json.loads(json.dumps(plain, default=dict)).keys() == plain.keys()


def test_parameters_can_be_keys() -> None:
    configs = [cacher.StateConfig(extra={"a": one}) for one in (1, 1.0, 2)]
    assert len(set(configs)) == 2
    assert len({cacher.SamplingParams(), cacher.SamplingParams(), cacher.BeamParams()}) == 2


def test_a_streamed_token_brings_its_alternatives(story: cacher.State) -> None:
    token = pickle.loads(pickle.dumps(next(story.stream(1))))
    assert len(token.top_tokens) == 5
    probabilities = [other.probability for other in token.top_tokens]
    assert probabilities == sorted(probabilities, reverse=True)


def test_what_has_a_life_is_not_copied(story: cacher.State) -> None:
    for living in (story, story.model, story.stream(1)):
        for make in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="cop"):
                make(living)


def test_what_a_state_shares_cannot_be_changed(model: cacher.Model) -> None:
    state = model.state("Hello", metadata={"tags": ["a"]}, config={"mood": ["calm"]})
    fork = state.fork()
    fork.metadata["tags"].append("b")  # type: ignore[attr-defined]
    fork.config.extra["mood"].append("wild")  # type: ignore[attr-defined]
    assert state.metadata == {"tags": ["a"]}
    assert state.config.extra == {"mood": ["calm"]}
    for name in ("config", "revision", "model", "metadata", "text"):
        with pytest.raises(AttributeError):
            setattr(state, name, None)


def test_log_probabilities_of_top_tokens_stay_in_their_range() -> None:
    assert top_token("a", 1, 2e-16) == ("a", 1, 1.0, 0.0)
    assert top_token("a", 1, -math.inf) == ("a", 1, 0.0, -1e9)
