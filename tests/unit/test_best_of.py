"""Best of several continuations: those whose tokens are the likeliest on average."""

from __future__ import annotations

import asyncio

import pytest

import cacher
from cacher import ParameterError, State
from cacher.generate import best


def test_the_best_of_several_come_first(story: State) -> None:
    sampling = {"seed": 9, "temperature": 1.0}
    every = story.multi(6, 10, **sampling)
    found = story.multi(2, 10, best_of=6, **sampling)
    means = [sum(run.logprobs) / len(run) for run in every]
    assert [run.stream_index for run in found] == sorted(range(6), key=lambda i: -means[i])[:2]
    assert found == [every[run.stream_index] for run in found]
    assert len(story.multi(6, 10, best_of=6, **sampling)) == 6

    async def engine() -> list[cacher.Generation]:
        async with cacher.Engine(story.model) as running:
            return await running.multi(story, 2, 10, best_of=6, **sampling)

    assert asyncio.run(engine()) == found


def test_ties_go_to_the_lower_stream_and_no_tokens_are_the_least(story: State) -> None:
    first, second = story.multi(2, 3, temperature=0)
    nothing = cacher.Generation("", [], [], [], [], True, "eos", None, 1, 2, 0)
    assert best([nothing, first, second], 3) == [first, second, nothing]


def test_fewer_than_are_wanted_are_refused(story: State) -> None:
    with pytest.raises(ParameterError, match="best_of is 2, allowed: 3 to 4096"):
        story.multi(3, 5, best_of=2)
