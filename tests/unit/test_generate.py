from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest

import cacher
from cacher import ModelMismatchError, ParameterError, SamplingParams, State
from cacher.row import Row
from tests.models.make_tiny import make_tiny, write_tokenizer

OPENING = "Once upon a time there was a little fox"


def test_the_text_is_exactly_what_was_added(story: State) -> None:
    result = story.generate(12, seed=3)
    assert story.text == OPENING + result.text
    assert "".join(result.tokens) == result.text
    lists = (result.tokens, result.token_ids, result.probabilities, result.logprobs)
    assert {len(x) for x in lists} == {12}
    assert story.token_ids[-12:] == result.token_ids
    assert (result.finished, result.finish_reason, result.seed) == (False, None, 3)
    assert story.head_position == len(story)


def test_a_special_token_that_is_drawn_shows_as_its_text(tmp_path: Path) -> None:
    folder = make_tiny("gpt2", tmp_path)
    write_tokenizer(folder)
    model = cacher.load(folder)
    for seed in itertools.count():
        state = model.state("ab")
        run = state.generate(20, temperature=10, top_p=1, seed=seed)
        if 0 in run.token_ids:  # <s>, which does not end a run
            break
    assert run.tokens[run.token_ids.index(0)] == "<s>"
    assert state.text == "ab" + run.text
    tokens = state.analyze_tokens().tokens
    assert [token.text for token in tokens][2:] == run.tokens
    assert model.state(state.text).token_ids == state.token_ids


def test_the_same_seed_gives_the_same_text_and_another_one_another(model: cacher.Model) -> None:
    texts = [model.state(OPENING).generate(20, seed=seed).text for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_one_call_of_five_is_five_calls_of_one(model: cacher.Model) -> None:
    whole = model.state(OPENING).generate(5, seed=7).text
    state = model.state(OPENING)
    assert "".join(state.generate(1, seed=7).text for _ in range(5)) == whole


def test_a_fresh_seed_is_reported_and_repeats_the_text(model: cacher.Model) -> None:
    first, second = (model.state(OPENING).generate(12, seed=None) for _ in range(2))
    assert first.seed != second.seed
    again = model.state(OPENING).generate(12, seed=first.seed)
    assert again.token_ids == first.token_ids


def test_greedy_ignores_seed_and_top_p_and_reports_no_seed(model: cacher.Model) -> None:
    runs = [
        model.state(OPENING).generate(10, temperature=0, seed=seed, top_p=top_p)
        for seed, top_p in ((1, 0.5), (2, 1.0), (None, 0.9))
    ]
    assert {run.text for run in runs} == {runs[0].text}
    assert {run.seed for run in runs} == {None}
    assert model.state(OPENING).generate(10, temperature=2.0, top_p=0).text == runs[0].text


def test_options_left_out_come_from_the_configuration(model: cacher.Model) -> None:
    greedy = model.state(OPENING).generate(8, temperature=0).text
    assert model.state(OPENING, config={"temperature": 0}).generate(8).text == greedy
    seeded = model.state(OPENING).generate(8, seed=5).text
    assert model.state(OPENING, config={"seed": 5}).generate(8).text == seeded


def test_a_stop_sequence_ends_the_run_and_stays_in_the_text(model: cacher.Model) -> None:
    free = model.state(OPENING).generate(30, temperature=0).text
    stop = free[9:13]
    result = model.state(OPENING).generate(30, temperature=0, stop=[stop, "never this"])
    assert result.stop_sequence == stop
    assert (result.finished, result.finish_reason) == (True, "stop_sequence")
    assert stop in result.text
    assert stop not in "".join(result.tokens[:-1])
    assert free.startswith(result.text)


def test_a_stop_sequence_of_the_prompt_does_not_count(model: cacher.Model) -> None:
    result = model.state(OPENING).generate(8, temperature=0, stop="little fox")
    assert result.finish_reason is None


def test_min_tokens_puts_off_a_stop(model: cacher.Model) -> None:
    free = model.state(OPENING).generate(12, temperature=0)
    stop = free.tokens[1]
    assert len(model.state(OPENING).generate(12, temperature=0, stop=stop)) <= 2
    late = model.state(OPENING).generate(12, temperature=0, stop=stop, min_tokens=6)
    assert len(late) >= 6


def test_end_of_sequence_is_not_stored(model: cacher.Model) -> None:
    """Hot sampling meets the end-of-text token sooner or later."""
    for seed in range(60):
        state = model.state(OPENING)
        result = state.generate(300, seed=seed, temperature=3.0, top_p=1.0)
        if result.finish_reason == "eos":
            assert 0 not in result.token_ids
            assert state.token_ids[9:] == result.token_ids
            assert result.finished
            kept = model.state(OPENING).generate(
                len(result) + 5, seed=seed, temperature=3.0, top_p=1.0, min_tokens=len(result) + 5
            )
            assert (kept.finish_reason, 0 in kept.token_ids) == (None, False)
            return
    pytest.fail("no run met the end-of-text token")


def test_a_full_context_ends_the_run(model: cacher.Model) -> None:
    state = model.state(OPENING, config={"context_size": 12})
    result = state.generate(10)
    assert (len(result), result.finish_reason, result.finished) == (3, "context_length", True)
    again = state.generate(10)
    assert (again.text, again.finish_reason, again.tokens) == ("", "context_length", [])
    full = model.state([1] * 1024)
    assert full.generate(2).finish_reason == "context_length"


def test_time_ends_the_run_after_a_token(model: cacher.Model) -> None:
    result = model.state(OPENING).generate(500, max_time_s=1e-6, stop="\ud83e")
    assert (len(result), result.finish_reason, result.finished) == (1, "time", True)


@pytest.mark.parametrize("bad", [0, -1, 2**31])
def test_max_tokens_is_checked(story: State, bad: int) -> None:
    with pytest.raises(ParameterError, match="max_tokens"):
        story.generate(bad)
    assert len(story) == 9


def test_penalties_reach_the_core(model: cacher.Model) -> None:
    ids = model.state(OPENING).generate(40, temperature=0, no_repeat_ngram_size=2)
    whole = model.state(OPENING).token_ids + ids.token_ids
    pairs = list(itertools.pairwise(whole))
    assert len(set(pairs)) == len(pairs)
    plain = model.state(OPENING).generate(40, temperature=0).token_ids
    assert (
        model.state(OPENING).generate(40, temperature=0, repetition_penalty=5.0).token_ids != plain
    )
    assert model.state(OPENING).generate(9, top_k=1, temperature=1.0).token_ids == plain[:9]
    assert model.state(OPENING).generate(9, min_p=1.0, temperature=1.0).token_ids == plain[:9]


def test_min_tokens_fits_into_max_tokens(story: State) -> None:
    for call in (story.generate, story.stream):
        with pytest.raises(ParameterError, match="min_tokens is 6, allowed: 0 to max_tokens"):
            call(5, min_tokens=6)
    assert len(story) == 9


def test_adaptive_cuts_are_those_of_each_steps_entropy(model: cacher.Model) -> None:
    hot = {"temperature": 3.0, "top_p": 0.8, "top_k": 60, "seed": 5}
    adaptive = {"adaptive_top_p": True, "adaptive_top_k": True}
    stream = model.state(OPENING).stream(25, **hot, **adaptive)  # type: ignore[arg-type]
    tokens, state, cuts = list(stream), model.state(OPENING), set()
    for token in tokens:
        assert token.entropy is not None
        part = 0.5 + 0.5 * token.entropy / math.log(model.vocab_size)
        cut = {"top_p": 0.8 * part, "top_k": max(1, round(60 * part))}
        assert state.generate(1, **{**hot, **cut}).token_ids == [token.token_id]  # type: ignore[arg-type]
        cuts.add(cut["top_k"])
    assert len(cuts) > 3
    assert [t.token_id for t in tokens] != model.state(OPENING).generate(25, **hot).token_ids  # type: ignore[arg-type]


def test_adaptive_cuts_do_not_depend_on_how_a_run_is_cut(model: cacher.Model) -> None:
    options = {"temperature": 2.0, "top_k": 40, "adaptive_top_p": True, "adaptive_top_k": True}
    whole = model.state(OPENING).generate(12, **options).token_ids  # type: ignore[arg-type]
    state = model.state(OPENING)
    assert [state.generate(1, **options).token_ids[0] for _ in range(12)] == whole  # type: ignore[arg-type]
    greedy = model.state(OPENING).generate(8, temperature=0)
    options["temperature"] = 0.0
    assert model.state(OPENING).generate(8, **options) == greedy  # type: ignore[arg-type]


def test_reported_probabilities_are_the_models_own(story: State) -> None:
    result = story.generate(6, temperature=1.7, top_p=0.5)
    assert story.logprobs()[-6:].tolist() == pytest.approx(result.logprobs, abs=1e-4)


# ---- streams


def test_a_stream_gives_the_tokens_of_generate(model: cacher.Model) -> None:
    whole = model.state(OPENING)
    result = whole.generate(20, seed=4)
    streamed = model.state(OPENING)
    stream = streamed.stream(20, seed=4)
    tokens = list(stream)
    assert [token.token_id for token in tokens] == result.token_ids
    assert "".join(token.text for token in tokens) == result.text
    assert [token.logprob for token in tokens] == result.logprobs
    assert [token.position for token in tokens] == list(range(9, 29))
    assert streamed.token_ids == whole.token_ids
    assert stream.result == result


def test_a_state_is_free_between_two_tokens_of_a_stream(model: cacher.Model) -> None:
    state = model.state(OPENING)
    forks = []
    for token in state.stream(5, seed=4):
        assert state.text.endswith(token.text)
        assert state.head_position == len(state)
        forks.append(state.fork())
    ends = {fork.generate(20 - len(fork) + 9, seed=4).token_ids[-1] for fork in forks}
    assert len(ends) == 1, "all go on in the same way"


def test_leaving_a_stream_keeps_what_was_seen(story: State) -> None:
    revision = story.revision
    for token in story.stream(50):
        if token.position == 11:
            break
    del token
    assert len(story) == 12
    assert story.generate(1).token_ids
    assert story.revision == revision + 2


def test_a_streamed_token_shows_what_else_was_likely(story: State) -> None:
    expected = story.top_tokens(5)
    token = next(story.stream(1, temperature=0))
    assert [t.token for t in token.top_tokens] == [t.token for t in expected]
    assert token.token_id == expected[0].token_id
    assert token.probability == pytest.approx(expected[0].probability, rel=1e-5)
    assert token.entropy is not None
    assert token.entropy > 0


def test_a_stream_stops_like_generate(model: cacher.Model) -> None:
    stop = model.state(OPENING).generate(30, temperature=0).text[9:13]
    stream = model.state(OPENING).stream(30, temperature=0, stop=stop)
    text = "".join(token.text for token in stream)
    assert stop in text
    assert stream.result.finish_reason == "stop_sequence"
    late = model.state(OPENING).stream(30, temperature=0, stop=stop, min_tokens=20)
    assert len(list(late)) >= 20


def test_bytes_left_over_come_with_the_last_token(model: cacher.Model) -> None:
    first, *_rest = model.tokenizer.encode("🦊")
    state = model.state(OPENING)
    row = Row(state, SamplingParams(), 2)
    row.take([(0, 0, 9, first, 0.5, -0.7, 1.0, ())])
    assert row.pieces == [""]
    row.take([(0, 0, 10, first, 0.5, -0.7, 1.0, ())])
    assert row.result().text == "\ufffd\ufffd"
    assert len(row.result().tokens) == 2


# ---- several


def test_continuations_differ_and_the_first_is_that_of_generate(story: State) -> None:
    found = story.multi(4, 10, seed=9, temperature=1.0)
    assert [g.stream_index for g in found] == [0, 1, 2, 3]
    assert len({g.text for g in found}) == 4
    assert (len(story), story.head_position, story.revision) == (9, 0, 1)
    alone = story.generate(10, seed=9, temperature=1.0)
    assert found[0].token_ids == alone.token_ids
    assert found[0].logprobs == alone.logprobs


def test_greedy_continuations_are_equal(story: State) -> None:
    assert len({g.text for g in story.multi(3, 5, temperature=0)}) == 1
    for bad in (0, 4097):
        with pytest.raises(ParameterError, match="n is"):
            story.multi(bad)


def test_states_together_get_what_each_gets_alone(model: cacher.Model) -> None:
    openings = [OPENING, "The king", "", "Hello " * 40]
    params = [{"seed": i, "temperature": 1.0, "stop": "the"} for i in range(4)]
    alone = [model.state(o).generate(12, **p) for o, p in zip(openings, params, strict=True)]  # type: ignore[arg-type]
    states = [model.state(o) for o in openings]
    assert model.generate_all(states, 12, params, chunk_tokens=7) == alone


def test_more_rows_than_a_batch_holds_take_turns(
    model: cacher.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    want = [g.token_ids for g in model.state(OPENING).multi(9, 4, temperature=1.0)]
    monkeypatch.setattr(cacher.generate, "MAX_ROWS", 2)
    assert [g.token_ids for g in model.state(OPENING).multi(9, 4, temperature=1.0)] == want


def test_states_of_another_model_are_refused(model: cacher.Model) -> None:
    other = cacher.load("tales", threads=1)
    with pytest.raises(ModelMismatchError, match="tales"):
        model.generate_all([other.state("Hello")], 1)


def test_states_are_free_after_a_failure(model: cacher.Model) -> None:
    state, taken = model.state(OPENING), model.state(OPENING)
    batch = cacher._core.Batch(model._core, 1)
    batch.add(taken._core, cacher.SamplingParams().core())
    with pytest.raises(cacher.StateBusyError):
        model.generate_all([state, taken], 3)
    assert state.generate(1).token_ids
    for call in (model.generate_all, model.forward_all):
        with pytest.raises(ParameterError, match="twice"):
            call([state, state])


def test_a_model_generates_without_a_state(model: cacher.Model) -> None:
    assert model.generate(OPENING, 6, seed=1) == model.state(OPENING).generate(6, seed=1)


def test_a_stream_goes_on_after_an_edit(story: State) -> None:
    before = story.text
    stream = story.stream(5, seed=1)
    next(stream)
    story.edit(metadata={"seen": True})
    rest = [token.text for token in stream]
    assert len(rest) == 4
    assert story.text == before + stream.result.text


def test_an_early_result_stays_as_it_was(story: State) -> None:
    stream = story.stream(4, seed=1)
    next(stream)
    early = stream.result
    list(stream)
    assert len(early) == len(early.tokens) == len(early.logprobs) == len(early.probabilities) == 1
    assert early.text == "".join(early.tokens)


def test_every_state_needs_its_parameters(model: cacher.Model) -> None:
    states = [model.state("Hello"), model.state("The")]
    for params in ([{}], [], [{}] * 3):
        with pytest.raises(cacher.ParameterError, match=f"{len(params)} .* 2 states"):
            model.generate_all(states, 1, params)
    with pytest.raises(TypeError, match="int"):
        model.generate_all([5])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="str"):
        model.forward_all(["Hello"])  # type: ignore[list-item]
    assert len(model.generate_all(iter(states), 1)) == 2
