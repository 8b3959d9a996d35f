from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import pytest

import cacher
from cacher import ParameterError, SamplingParams, TemperatureSchedule
from cacher.schedule import check_schedule

OPENING = "Once upon a time there was a little fox"
COOLING = TemperatureSchedule(2.0, 0.25)


def test_a_mapping_becomes_a_schedule() -> None:
    for given in ({"start": 1, "end": 0.5}, MappingProxyType({"start": 1, "end": 0.5})):
        made = SamplingParams(temperature_schedule=given)  # type: ignore[arg-type]
        assert made.temperature_schedule == TemperatureSchedule(1.0, 0.5, "linear")
    assert check_schedule("x", COOLING) is COOLING
    assert check_schedule("x", None) is None


@pytest.mark.parametrize(
    "bad",
    [
        {"start": -0.1, "end": 1.0}, {"start": 1.0, "end": 10.5}, {"start": math.nan, "end": 1.0},
        {"start": 1.0, "end": 1.0, "mode": "cosine"},
    ],
)  # fmt: skip
def test_values_outside_what_is_allowed_are_named(bad: Mapping[str, object]) -> None:
    with pytest.raises(ParameterError, match=r"temperature_schedule.s .*allowed"):
        check_schedule("temperature_schedule", bad)


@pytest.mark.parametrize(
    "bad", [{"start": 1.0}, {"start": 1.0, "end": 1.0, "steps": 5}, {}, 0.7, "linear", [1.0, 0.5],
            {"start": "hot", "end": 1.0}, {"start": True, "end": 1.0}],
)  # fmt: skip
def test_other_shapes_are_type_errors(bad: object) -> None:
    with pytest.raises(TypeError, match="temperature_schedule"):
        check_schedule("temperature_schedule", bad)


def test_each_step_is_drawn_at_its_temperature(model: cacher.Model) -> None:
    n = 15
    whole = model.state(OPENING).generate(n, temperature_schedule=COOLING, seed=3)
    state = model.state(OPENING)
    for i, token_id in enumerate(whole.token_ids):
        temperature = 2.0 + (0.25 - 2.0) * i / (n - 1)  # 1.75 / 14 = 0.125: exact in any precision
        assert state.generate(1, temperature=temperature, seed=3).token_ids == [token_id]


def test_equal_ends_are_a_constant_temperature_and_win_over_it(model: cacher.Model) -> None:
    flat = {"start": 0.7, "end": 0.7}
    runs = [
        model.state(OPENING).generate(12, temperature=temperature, temperature_schedule=schedule)
        for temperature, schedule in ((0.7, None), (3.0, flat), (0.0, flat))
    ]
    assert runs[0] == runs[1] == runs[2]


def test_one_token_has_the_temperature_of_the_start(model: cacher.Model) -> None:
    schedule = TemperatureSchedule(3.0, 0.0)
    for seed in range(8):
        hot = model.state(OPENING).generate(1, temperature=3.0, seed=seed)
        assert model.state(OPENING).generate(1, temperature_schedule=schedule, seed=seed) == hot


def test_a_schedule_down_to_zero_ends_greedily(model: cacher.Model) -> None:
    schedule = TemperatureSchedule(2.0, 0.0)
    state = model.state(OPENING)
    run = state.generate(9, temperature_schedule=schedule, seed=1)
    assert run.seed == 1
    likeliest = state.rollback(-1).top_tokens(1)[0]
    assert run.token_ids[-1] == likeliest.token_id
    cold = model.state(OPENING).generate(5, temperature_schedule=TemperatureSchedule(0.0, 0.0))
    assert cold == model.state(OPENING).generate(5, temperature=0)
    assert cold.seed is None


def test_a_stream_and_a_batch_follow_the_schedule(model: cacher.Model) -> None:
    options = {"temperature_schedule": COOLING, "seed": 4}
    want = model.state(OPENING).generate(20, **options)  # type: ignore[arg-type]
    stream = model.state(OPENING).stream(20, **options)  # type: ignore[arg-type]
    assert [token.token_id for token in stream] == want.token_ids
    states = [model.state(OPENING), model.state("The king"), model.state("")]
    company = [options, {"adaptive_top_p": True}, {"temperature": 0}]
    assert model.generate_all(states, 20, company, chunk_tokens=5)[0] == want
    assert model.state(OPENING).multi(3, 20, **options)[0] == want  # type: ignore[arg-type]
