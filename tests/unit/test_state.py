from __future__ import annotations

import copy
import gc
import itertools
import pickle
import re

import pytest

import cacher
from cacher import (
    ContextOverflowError,
    EncodingError,
    ParameterError,
    State,
    TokenIdError,
    TokenizerError,
)


def test_a_new_state_has_its_text_and_its_head_at_zero(model: cacher.Model) -> None:
    state = model.state("Hello world")
    assert (state.text, len(state), state.head_position, state.revision) == ("Hello world", 2, 0, 1)
    assert state.forked_from is None
    assert state.merged_from is None


def test_an_id_is_a_uuid_unless_one_is_chosen(model: cacher.Model) -> None:
    state = model.state()
    assert re.fullmatch(
        r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", state.id
    )
    assert state.id == state.id
    assert model.state(state_id="demo-1").id == "demo-1"
    for bad in ("../x", "a/b", "config", "", "x" * 129, "a\n"):
        with pytest.raises(ParameterError, match="state id"):
            model.state(state_id=bad)


def test_pieces_are_encoded_separately(model: cacher.Model) -> None:
    joined = model.state("Hel").append("lo world")
    assert joined.text == "Hello world"
    assert joined.token_ids == model.tokenizer.encode("Hel") + model.tokenizer.encode("lo world")


def test_the_head_moves_by_reading_and_not_by_looking(story: State) -> None:
    before = story.revision
    story.logits()
    story.top_tokens()
    story.logprobs()
    story.attention(0)
    list(story)
    story.multi(2, 2)
    story.beam(2, 2)
    assert (story.head_position, story.revision) == (0, before)
    story.forward()
    assert (story.head_position, story.revision) == (len(story), before + 1)
    story.append(" who")
    assert story.head_position == len(story) - 1


def test_a_fork_is_independent_and_knows_its_parent(story: State) -> None:
    text = story.text
    fork = story.fork(config={"temperature": 0.1}, metadata={"branch": 1})
    fork.append(" and a hare")
    assert story.text == text
    assert fork.forked_from == story.id != fork.id
    assert (fork.revision, fork.config.temperature, fork.metadata) == (2, 0.1, {"branch": 1})
    assert story.config.temperature == 0.7
    part = story.forward().fork(at=3)
    assert (len(part), part.head_position) == (3, 3)
    with pytest.raises(ParameterError, match="99"):
        story.fork(at=99)


def test_forks_share_configuration_and_metadata(story: State) -> None:
    fork = story.fork()
    assert fork.config is story.config
    assert fork.metadata is story.metadata


def test_a_fork_is_small(story: State) -> None:
    story.forward()
    cores = cacher._core.live_bytes()
    forks = [story.fork() for _ in range(1000)]
    assert (cacher._core.live_bytes() - cores) / len(forks) < 512
    size = sum(x.__sizeof__() for x in (forks[0], forks[0]._core, forks[0]._identity))
    assert size < 512
    with pytest.raises(AttributeError):
        forks[0].note = "slots only"  # type: ignore[attr-defined]


def test_ten_thousand_forks_hold_the_pages_of_one() -> None:
    model = cacher.load("tales", threads=2)
    state = model.state([i % 4000 + 1 for i in range(1000)], config={"store_logits": "none"})
    state.forward()
    before = model.stats.kv_bytes
    forks = [state.fork() for _ in range(10_000)]
    assert model.stats.kv_bytes <= 1.05 * before
    del forks
    assert model.stats.kv_bytes == before


def test_states_are_freed_without_the_cycle_collector(model: cacher.Model) -> None:
    live = model.stats.pages_live
    gc.disable()
    try:
        state = model.state("Once upon a time there was a fox")
        for _ in state.stream(3):
            pass
        state.fork().generate(2)
        state.multi(2, 2)
        del state, _
        assert model.stats.pages_live == live
    finally:
        gc.enable()


@pytest.mark.parametrize(("to", "left"), [(0, 0), (3, 3), (-3, 6), (9, 9), (-9, 0)])
def test_rollback_counts_tokens_from_either_end(story: State, to: int, left: int) -> None:
    assert len(story.forward()) == 9
    story.rollback(to)
    assert (len(story), story.head_position) == (left, left)


def test_rollback_and_truncate_refuse_what_is_not_there(story: State) -> None:
    for to in (10, -10):
        with pytest.raises(ParameterError, match=str(to)):
            story.rollback(to)
    with pytest.raises(ParameterError, match="-1"):
        story.truncate(-1)
    assert len(story) == 9


def test_edit_changes_everything_or_nothing(story: State) -> None:
    story.forward()
    before = (story.text, story.head_position, story.revision, story.config, story.metadata)
    with pytest.raises(ParameterError, match="top_p"):
        story.edit(truncate_to=2, append_text=" ago", metadata={"a": 1}, config={"top_p": 3})
    with pytest.raises(TokenIdError):
        story.edit(truncate_to=2, append_text=[99999])
    with pytest.raises(ParameterError, match="truncate_to"):
        story.edit(text="x", truncate_to=1)
    after = (story.text, story.head_position, story.revision, story.config, story.metadata)
    assert after == before
    story.edit(truncate_to=2, append_text=" ago", config={"top_p": 0.5}, metadata={"a": 1})
    assert (story.text, story.head_position) == ("Once upon ago", 2)
    assert (story.config.top_p, story.metadata) == (0.5, {"a": 1})
    story.edit(text="Hello")
    assert (story.text, story.head_position) == ("Hello", 0)


def test_a_full_context_refuses_and_stays_as_it_is(model: cacher.Model) -> None:
    state = model.state("Hello world", config={"context_size": 3})
    with pytest.raises(ContextOverflowError, match=r"2 \+ 2 tokens .* context of 3"):
        state.append(" world world")
    assert state.text == "Hello world"
    with pytest.raises(ContextOverflowError, match="context of 1024"):
        model.state([1] * 1025)


def test_bad_input_is_named_and_changes_nothing(model: cacher.Model) -> None:
    state = model.state("Hello")
    for bad, error in [([4096], TokenIdError), ([-1], TokenIdError), ([2**33], TokenIdError),
                       ("\ud800", EncodingError), ([1.5], TypeError), (5, TypeError)]:  # fmt: skip
        with pytest.raises(error):
            state.append(bad)  # type: ignore[arg-type]
    assert state.text == "Hello"
    assert state.revision == 1


def test_metadata_is_plain_json_and_read_only(model: cacher.Model) -> None:
    tags = {"who": "fox"}
    state = model.state("Hello", metadata=tags)
    tags["who"] = "hare"
    assert state.metadata == {"who": "fox"}
    with pytest.raises(TypeError):
        state.metadata["who"] = "hare"  # type: ignore[index]
    with pytest.raises(TypeError):
        model.state(metadata={"who": object()})
    with pytest.raises(ParameterError, match="16384"):
        model.state(metadata={"who": "x" * 20_000})


def test_a_model_without_a_tokenizer_works_on_ids(tiny_folder) -> None:  # type: ignore[no-untyped-def]
    tiny = cacher.load(tiny_folder, threads=1)
    state = tiny.state([3, 4, 5])
    result = state.generate(4)
    assert (state.text, result.text, result.tokens) == ("", "", [""] * len(result.token_ids))
    assert len(state.top_tokens(3)) == 3
    with pytest.raises(TokenizerError, match="no tokenizer"):
        tiny.state("text")


def test_evicted_entries_come_back_with_the_same_bits(story: State) -> None:
    want = story.logits().tobytes()
    story.evict()
    assert story._core.ready() == 0
    assert story.logits().tobytes() == want


def test_the_short_form_shows_the_end_of_the_text(model: cacher.Model) -> None:
    assert repr(model.state("Hello")) == "<State 'Hello': 1 tokens of 'tales'>"
    assert "..." in repr(model.state("Hello world " * 20))


def test_a_reading_that_fails_lays_nothing(story: State) -> None:
    before = (story.token_ids, story.revision, story.head_position)

    def stop(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        story.forward(" who lived in a wood", progress=stop)
    assert (story.token_ids, story.revision, story.head_position) == before
    small = cacher.load("tales", threads=1, kv_budget=story.model.info.page_bytes)
    state = small.state("Hello")
    with pytest.raises(cacher.BudgetError):
        state.forward(" world" * 40)
    assert (state.text, state.revision) == ("Hello", 1)


def test_a_state_is_copied_by_fork_alone(story: State) -> None:
    for make in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="fork"):
            make(story)


def test_ids_that_never_end_are_refused(model: cacher.Model) -> None:
    state = model.state("Hello")
    with pytest.raises(ContextOverflowError, match="1024"):
        state.append(itertools.repeat(1))
    assert state.text == "Hello"
