"""The extension itself, below the Python API: what its callers must not be able to break."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

import cacher
from cacher import ParameterError, StateBusyError, _core

FOLDER = os.fspath(Path(cacher.__file__).parent / "models" / "tales")
SAMPLING = (1.0, 0, 1.0, 0.0, 1.0, 0, 7, 0, 0, 0, 0.0, 0, False, False, False)


def test_a_batch_of_the_default_size_holds_many_rows(model: cacher.Model) -> None:
    batch = _core.Batch(model._core, 0)
    states = [model._core.state() for _ in range(64)]
    rows = [batch.add(state, SAMPLING) for state in states]
    assert [step[0] for step in batch.step()] == rows
    assert [len(state) for state in states] == [1] * 64


def test_a_row_outlives_its_state_object_and_leaves_once(model: cacher.Model) -> None:
    batch = _core.Batch(model._core, 2)
    row = batch.add(model._core.state(), SAMPLING)
    assert [step[2] for step in batch.step() + batch.step()] == [0, 1]
    assert len(batch) == 1
    for _ in range(2):
        batch.remove(row)
    assert len(batch) == 0
    assert batch.step() == []
    assert batch.logits(row) is None


def test_passes_of_one_call_give_what_single_ones_give(model: cacher.Model) -> None:
    def steps(*calls: tuple[int, ...]) -> list[tuple[object, ...]]:
        batch = _core.Batch(model._core, 2)
        for _ in range(2):
            batch.add(model.state([300, 301])._core, SAMPLING)
        return [step for call in calls for step in batch.step(*call)]

    assert steps((0, 7, 3)) == steps(*[(0, 1, 3)] * 7)
    assert [step[:7] for step in steps((0, 7))] == [step[:7] for step in steps((0, 7, 3))]
    assert {len(step[7]) for step in steps((0, 7, 3))} == {3}
    assert {step[7] for step in steps((0, 7))} == {()}
    for refused in ((0, 0), (0, 65), (0, 1, -1), (0, 1, 21)):
        with pytest.raises(ParameterError, match=r"(steps|top) is -?\d+, allowed: \d to \d+"):
            steps(refused)


def test_passes_end_where_somebody_must_look(model: cacher.Model) -> None:
    batch = _core.Batch(model._core, 2, 32)
    full = model.state([300, 301])
    batch.add(full._core, SAMPLING, 5)
    steps = batch.step(0, 9)
    assert [step[1] for step in steps] == [0, 0, 0, 2]  # a row left
    model.drop_cached()
    batch.add(model.state([300 + i for i in range(100)])._core, SAMPLING)
    assert [len(batch.step(0, 9)) for _ in range(4)] == [0, 0, 0, 9]  # one was being read
    batch.interrupt()
    assert [len(batch.step(0, 9)) for _ in range(2)] == [1, 9]


@pytest.mark.parametrize("bounds", [(0, 2**31 - 1), (3, 1), (-1, 1), (0, -2), (-(2**31), -1)])
def test_ranges_outside_a_state_are_refused(model: cacher.Model, bounds: tuple[int, int]) -> None:
    state = model.state([300, 301, 302])._core
    for call in (state.tokens, state.lse, state.logits):
        with pytest.raises(ParameterError, match="outside the state's 0 to 3"):
            call(*bounds)
    if bounds != (3, 1):  # the prediction behind the last token can be analyzed, too
        with pytest.raises(ParameterError, match="outside the state's 0 to"):
            state.analyze(*bounds)
    with pytest.raises(ParameterError, match="outside the state's 0 to 3"):
        state.scores(*bounds, 3)


def test_a_negative_budget_is_refused(model: cacher.Model) -> None:
    with pytest.raises(ParameterError, match="kv_budget is -5 bytes"):
        _core.Model(FOLDER, 1, -5)
    with pytest.raises(ParameterError, match="kv_budget is -1 bytes"):
        model._core.set_budget(-1)


def test_a_call_that_is_refused_does_not_undo_a_cancellation(model: cacher.Model) -> None:
    model.drop_cached()
    core = model.state([302] * 900)._core
    reading, release, outcome = threading.Event(), threading.Event(), []

    def wait(_done: int, _total: int) -> None:
        reading.set()
        release.wait(30)

    def run() -> None:
        try:
            core.eval(0, 100, wait)
        except cacher.GenerationCancelled:
            outcome.append("cancelled")

    thread = threading.Thread(target=run)
    thread.start()
    assert reading.wait(30)
    core.cancel()
    with pytest.raises(StateBusyError):
        core.eval()
    release.set()
    thread.join()
    assert outcome == ["cancelled"]
