from __future__ import annotations

import math

import pytest

from cacher import BeamParams, ParameterError, SamplingParams, StateConfig
from cacher.params import check_stop


def test_the_defaults_are_those_of_the_documented_configuration() -> None:
    assert StateConfig().to_dict() == {
        "temperature": 0.7, "top_p": 0.9, "seed": 42,
        "context_size": 2048, "store_logits": "top_k", "top_k_logits": 20,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("temperature", -0.1, "temperature is -0.1, allowed: 0 to 3e+38"),
        ("temperature", float("inf"), "inf"),
        ("temperature", math.nan, "nan"),
        ("top_p", 1.1, "top_p is 1.1, allowed: 0 to 1"),
        ("min_p", -1.0, "min_p"),
        ("seed", -1, "seed is -1"),
        ("seed", 2**64, str(2**64)),
        ("top_k", -1, "top_k"),
        ("repetition_penalty", 0.0, "above 0"),
        ("max_time_s", 0.0, "max_time_s"),
        ("stop", [""], "0 characters"),
        ("stop", ["x" * 257], "257"),
        ("stop", ["x"] * 17, "17 stop sequences"),
        ("adaptive_top_k", True, "top_k is 0 .off., allowed with adaptive_top_k: at least 1"),
    ],
)
def test_a_value_outside_its_range_is_named_with_its_range(
    name: str, value: object, words: str
) -> None:
    with pytest.raises(ParameterError, match=words.replace("+", r"\+")) as caught:
        SamplingParams(**{name: value})  # type: ignore[arg-type]
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", "hot"), ("temperature", True), ("seed", 1.5), ("seed", True), ("stop", 5),
        ("adaptive_top_p", 1), ("adaptive_top_k", "yes"), ("temperature_schedule", 0.5),
    ],
)  # fmt: skip
def test_a_wrong_type_is_a_type_error(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=name):
        SamplingParams(**{name: value})  # type: ignore[arg-type]


def test_options_of_a_call_win_over_the_configuration_and_it_over_the_defaults() -> None:
    config = StateConfig().updated({"temperature": 0.2, "top_k": 7})
    params = config.sampling({"temperature": 0.4, "min_p": None})
    assert (params.temperature, params.top_k, params.top_p) == (0.4, 7, 0.9)


def test_seed_absent_is_the_configurations_and_none_is_a_fresh_one() -> None:
    config = StateConfig(seed=5)
    assert config.sampling({}).seed == 5
    assert config.sampling({"seed": ...}).seed == 5
    assert config.sampling({"seed": 9}).seed == 9
    drawn = {config.sampling({"seed": None}).with_seed().seed for _ in range(4)}
    assert len(drawn) == 4
    assert all(seed is not None and 0 <= seed < 2**63 for seed in drawn)


def test_an_unknown_option_names_those_there_are() -> None:
    with pytest.raises(TypeError, match="'temprature', allowed: temperature, "):
        StateConfig().sampling({"temprature": 1.0})


def test_null_in_a_configuration_is_the_default_but_for_the_seed() -> None:
    config = StateConfig(temperature=0.1, seed=1).updated({"temperature": None, "seed": None})
    assert config.temperature == 0.7
    assert config.seed is None


def test_unknown_configuration_keys_are_kept_up_to_a_limit() -> None:
    config = StateConfig().updated({"colour": "red"})
    assert config.to_dict()["colour"] == "red"
    with pytest.raises(ParameterError, match="16384"):
        config.updated({"colour": "x" * 20_000})
    with pytest.raises(TypeError, match="JSON"):
        config.updated({"colour": {1, 2}})


@pytest.mark.parametrize(
    "changes",
    [
        {"store_logits": "some"},
        {"context_size": 0},
        {"top_k_logits": 1001},
        {"top_p": 1.5},
        {"seed": 2**63},
    ],
)
def test_configurations_are_checked(changes: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match=next(iter(changes))):
        StateConfig().updated(changes)


def test_a_string_is_one_stop_sequence() -> None:
    assert check_stop("end") == ("end",)
    assert check_stop(None) == ()


def test_beams_diverge_by_group_only_with_a_penalty() -> None:
    assert BeamParams().n_groups == 1
    assert BeamParams(diversity_penalty=0.5).n_groups == 5
    assert BeamParams(diverse_groups=2).n_groups == 2


@pytest.mark.parametrize(
    "bad",
    [
        {"num_beams": 0}, {"num_beams": 1025}, {"max_tokens": 0}, {"length_penalty": 6.0},
        {"diverse_groups": 6}, {"diversity_penalty": -1.0}, {"early_stopping": "often"},
        {"top_k": -1}, {"min_p": 1.5}, {"min_tokens": 51}, {"min_tokens": -1},
    ],
)  # fmt: skip
def test_beam_parameters_are_checked(bad: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match=next(iter(bad))):
        BeamParams(**bad)  # type: ignore[arg-type]
