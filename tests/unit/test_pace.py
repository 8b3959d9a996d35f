"""The chunk beside running rows follows what passes cost."""

from __future__ import annotations

import pytest

from cacher.pace import BURST_S, FREE_CHUNK, LEAST_CHUNK, MOST_PASSES, STRETCH, Pace


def simulate(pace: Pace, cost: float, passes: int) -> list[float]:
    """Passes over 4 rows that generate and prompts without end; a prompt token takes `cost` s."""
    stretches = []
    for _ in range(passes):
        chunk = pace.chunk(4, 1)
        seconds = 0.01 + cost * (chunk - 4)
        pace.took(seconds, chunk, 4, 1, filled=True)
        stretches.append(seconds / 0.01)
    return stretches


def test_a_pass_that_reads_stays_near_the_stretch_allowed() -> None:
    for cost in (1e-5, 1e-4, 3e-4):
        pace = Pace()
        stretches = simulate(pace, cost, 500)
        assert max(stretches[50:]) < 2
        assert sum(s > 1 for s in stretches) > 400  # prompts do get read
        if cost * FREE_CHUNK > 0.01:
            assert sorted(stretches)[250] > 1.3  # and as fast as is allowed


def test_the_chunk_recovers_after_a_disturbance() -> None:
    pace = Pace()
    simulate(pace, 1e-4, 200)
    before = pace.chunk(4, 1)
    for _ in range(20):
        chunk = pace.chunk(4, 1)
        pace.took(1.0, chunk, 4, 1, filled=True)
    assert pace.chunk(4, 1) <= 4 + LEAST_CHUNK
    simulate(pace, 1e-4, 200)
    assert pace.chunk(4, 1) > before / 2


def test_the_chunk_is_learned_in_a_few_passes() -> None:
    pace = Pace()
    simulate(pace, 1e-4, 7)
    assert pace.chunk(4, 1) - 4 == pytest.approx((STRETCH - 1) * 0.01 / 1e-4, abs=1)


def test_a_pass_that_was_disturbed_changes_nothing() -> None:
    pace = Pace()
    simulate(pace, 1e-4, 20)
    before = pace.chunk(4, 1)
    pace.took(1.0, before, 4, 1, filled=True)
    assert pace.chunk(4, 1) == pytest.approx(before, abs=1)
    pace.took(0.01, before, 4, 1, filled=False)  # the end of a prompt, in no time
    assert pace.chunk(4, 1) == pytest.approx(before, abs=1)


def test_a_usual_pass_that_was_disturbed_is_not_the_measure() -> None:
    pace = Pace()
    pace.took(1.0, 4, 4, 0, filled=False)
    assert max(simulate(pace, 1e-4, 100)) < 2


def test_nobody_generating_means_large_chunks() -> None:
    pace = Pace()
    assert pace.chunk(0, 3) == FREE_CHUNK
    assert pace.chunk(300, 0) == 300
    assert pace.chunk(2, 1) == 2  # first a pass without reading: what is usual is not known yet


def test_short_passes_go_in_bursts_and_long_ones_alone() -> None:
    pace = Pace()
    assert pace.passes(1) == 1  # not known yet
    for seconds, generating in ((BURST_S / 5, 1), (BURST_S / 1000, 2), (2 * BURST_S, 64)):
        pace.took(seconds, generating, generating, 0, filled=False)
    assert [pace.passes(n) for n in (1, 2, 64)] == [6, MOST_PASSES, 1]
