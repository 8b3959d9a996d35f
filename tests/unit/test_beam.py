from __future__ import annotations

import math

import pytest

import cacher
from cacher import State


def test_beams_are_sorted_different_and_scored_by_their_length(story: State) -> None:
    found = story.beam(5, 8)
    scores = [beam.score for beam in found]
    assert scores == sorted(scores, reverse=True)
    assert len({tuple(beam.token_ids) for beam in found}) == len(found) == 5
    for beam in found:
        length = len(beam.token_ids) + (beam.finish_reason == "eos")
        assert beam.score == pytest.approx(beam.logprob / length)
        assert beam.text == "".join(beam.tokens)
        if beam.finish_reason is None:
            assert sum(beam.logprobs) == pytest.approx(beam.logprob, abs=1e-4)
    assert (len(story), story.head_position) == (9, 0)


def test_one_beam_is_greedy_decoding(story: State) -> None:
    assert story.beam(1, 10)[0].token_ids == story.generate(10, temperature=0).token_ids


def test_searches_repeat_exactly(story: State) -> None:
    assert story.beam(4, 6) == story.beam(4, 6)


def test_a_strong_penalty_keeps_first_tokens_apart(story: State) -> None:
    found = story.beam(3, 4, diversity_penalty=100.0)
    assert len({beam.token_ids[0] for beam in found}) == 3
    assert {beam.group for beam in found} == {0, 1, 2}
    assert len(story.beam(5, 4, diverse_groups=2, length_penalty=0.8)) == 5


def test_a_stop_sequence_completes_a_beam(story: State) -> None:
    stop = story.beam(1, 6)[0].tokens[2]
    found = story.beam(1, 12, stop=stop)
    assert found[0].finish_reason == "stop_sequence"
    assert stop in found[0].text
    assert len(found[0].token_ids) <= 3


def test_the_end_of_the_context_ends_a_beam(model: cacher.Model) -> None:
    state = model.state("Hello world", config={"context_size": 5})
    for max_tokens, end in ((9, (True, "context_length")), (3, (False, None))):
        found = state.beam(2, max_tokens)
        assert [len(beam.token_ids) for beam in found] == [3, 3]
        assert [(beam.finished, beam.finish_reason) for beam in found] == [end] * 2


def test_min_tokens_puts_off_a_stop_of_a_beam(story: State) -> None:
    free = story.beam(1, 12)[0]
    stop = free.tokens[2]
    late = story.beam(1, 12, stop=stop, min_tokens=8)[0]
    again = stop in "".join(free.tokens[7:])
    assert len(late.token_ids) >= 8
    assert late.finish_reason == ("stop_sequence" if again else None)
    assert free.text.startswith(late.text)
    assert story.beam(1, 2, stop="the", min_tokens=2)[0].token_ids == free.token_ids[:2]


def test_one_beam_is_greedy_with_every_option(model: cacher.Model) -> None:
    ending = "And they all lived happily ever after."
    for min_tokens in (0, 6, 12):
        state = model.state(ending)
        found = state.beam(1, 12, min_tokens=min_tokens, top_k=3, min_p=0.1)[0]
        assert found.token_ids == state.generate(
            12, temperature=0, min_tokens=min_tokens
        ).token_ids  # fmt: skip


def test_cuts_keep_beams_to_likely_tokens(story: State) -> None:
    assert len(story.beam(4, 6, top_k=1)) == 1
    assert story.beam(4, 6, top_k=1)[0].token_ids == story.beam(1, 6)[0].token_ids
    assert story.beam(4, 6, min_p=1.0)[0].token_ids == story.beam(1, 6)[0].token_ids
    for beam in story.beam(4, 6, min_p=0.3):
        fork = story.fork()
        for token_id, logprob in zip(beam.token_ids, beam.logprobs, strict=False):
            best = fork.top_tokens(1)[0]
            assert logprob >= best.logprob + math.log(0.3) - 1e-6
            fork.append([token_id])


def test_an_exception_in_a_search_comes_out(story: State, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(cacher.beam, "continuation_pieces", fail)
    with pytest.raises(ZeroDivisionError):
        story.beam(2, 4, stop="x")
    monkeypatch.undo()
    assert len(story.beam(2, 4)) == 2, "the state is free again"


def test_the_trace_leads_to_every_beam(story: State) -> None:
    found = story.beam(3, 4, trace=True)
    assert found.trace is not None
    assert story.beam(3, 4).trace is None
    last = found.trace[-1]
    paths = set()
    for i in range(len(last)):
        ids, at = [], i
        for step in reversed(found.trace):
            ids.append(step[at].token_id)
            at = step[at].parent
        paths.add(tuple(reversed(ids)))
    for beam in found:
        if not beam.finished:
            assert tuple(beam.token_ids) in paths


def test_options_are_checked(story: State) -> None:
    with pytest.raises(cacher.ParameterError, match="num_beams is 0"):
        story.beam(0)
    with pytest.raises(TypeError):
        story.beam(2, 4, stop=5)  # type: ignore[arg-type]


def test_beams_keep_to_the_states_own_context(model: cacher.Model) -> None:
    state = model.state("Once upon a time", config={"context_size": 6})
    assert {len(beam.token_ids) for beam in state.beam(2, 5)} == {2}
    full = state.fork(config={"context_size": 4})
    with pytest.raises(cacher.ContextOverflowError, match="4 tokens"):
        full.beam(2, 5)
