from __future__ import annotations

import base64
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

import cacher
from cacher import ContextOverflowError, ParameterError, State, StateConfig
from cacher.window import window_start

OPENING = "Once upon a time"
LIMIT = 12
SLIDE = {"context_size": LIMIT, "context_strategy": "slide", "seed": 3}
NEW = 60


@pytest.fixture
def sliding(model: cacher.Model) -> State:
    return model.state(OPENING, config=SLIDE)


@pytest.fixture(scope="module")
def long(model: cacher.Model) -> tuple[int, ...]:
    """The tokens of a state that has moved on several times."""
    state = model.state(OPENING, config=SLIDE)
    state.generate(NEW)
    return tuple(state.token_ids)


def start_by_steps(n_tokens: int, limit: int) -> int:
    """Where the window begins, as the documentation words it."""
    start = 0
    for n in range(n_tokens + 1):
        if n - start == limit:
            start += limit // 2
    return start


def plain(model: cacher.Model, ids: tuple[int, ...] | list[int]) -> State:
    """A state that holds the window of these tokens, and nothing else."""
    return model.state(ids[start_by_steps(len(ids), LIMIT) :])


@pytest.mark.parametrize("limit", [1, 2, 3, 8, 13, 100])
def test_the_window_moves_by_half_whenever_it_is_full(limit: int) -> None:
    for n in range(4 * limit + 3):
        assert window_start(n, limit) == start_by_steps(n, limit)
        assert limit == 1 or n - window_start(n, limit) < limit


def test_the_model_sees_the_window_and_the_state_keeps_all(sliding: State) -> None:
    result = sliding.generate(NEW)
    assert (len(result), result.finish_reason, len(sliding)) == (NEW, None, 4 + NEW)
    assert sliding.text == OPENING + result.text
    assert result.dropped_tokens == sliding.dropped_tokens == start_by_steps(4 + NEW, LIMIT) > 0
    assert sliding.head_position == len(sliding)


def test_every_token_is_drawn_from_its_window(model: cacher.Model, long: tuple[int, ...]) -> None:
    """Logits of a state that holds the window alone; the draw's position is the state's."""
    from cacher import _core

    params = StateConfig(seed=3).sampling({})
    for at in range(4, len(long)):
        logits = plain(model, long[:at]).logits()
        drawn = _core.sample(logits, long[:at], params.core())
        assert drawn[0] == long[at]


@pytest.mark.parametrize("cuts", [[1] * NEW, [5] * 12, [7, 1, 8, 44], [8, 52], [9, 51]], ids=str)
def test_however_a_run_is_cut_it_is_the_same(
    sliding: State, long: tuple[int, ...], cuts: list[int]
) -> None:
    for n in cuts:
        sliding.generate(n)
    assert tuple(sliding.token_ids) == long


def test_a_stream_slides_like_generate(sliding: State, long: tuple[int, ...]) -> None:
    stream = sliding.stream(NEW)
    tokens = list(stream)
    assert [token.token_id for token in tokens] == list(long[4:])
    assert [token.position for token in tokens] == list(range(4, 4 + NEW))
    assert stream.result.dropped_tokens == sliding.dropped_tokens
    assert stream.result == sliding.rollback(4).generate(NEW)


def test_company_does_not_matter(model: cacher.Model, long: tuple[int, ...]) -> None:
    states = [
        model.state(OPENING, config=SLIDE), model.state("The king"),
        model.state("The hare", config={**SLIDE, "context_size": 7}),
    ]  # fmt: skip
    alone = [state.fork().generate(NEW) for state in states]
    assert model.generate_all(states, NEW, chunk_tokens=5) == alone
    assert tuple(states[0].token_ids) == long
    found = model.state(OPENING, config=SLIDE).multi(3, NEW)
    assert found[0].token_ids == list(long[4:])
    assert {g.dropped_tokens for g in found} == {alone[0].dropped_tokens}


def test_an_engine_slides_like_generate(model: cacher.Model, long: tuple[int, ...]) -> None:
    import asyncio

    async def run() -> tuple[cacher.Generation, list[int]]:
        async with cacher.Engine(model) as engine:
            whole, streamed = (model.state(OPENING, config=SLIDE) for _ in range(2))
            stream = engine.stream(streamed, NEW)
            done, _ = await asyncio.gather(
                engine.generate(whole, NEW), engine.generate(model.state("The fox"), NEW)
            )
            return done, [token.token_id async for token in stream]

    done, streamed = asyncio.run(run())
    assert done.token_ids == streamed == list(long[4:])
    assert done.dropped_tokens > 0


@pytest.mark.parametrize("at", [0, 3, 11, 12, 13, 18, 40, 63])
def test_what_is_taken_back_comes_again(sliding: State, long: tuple[int, ...], at: int) -> None:
    sliding.generate(NEW)
    fork = sliding.fork(at=at)
    sliding.checkpoint("end")
    sliding.truncate(at)
    for state in (fork, sliding):
        assert state.token_ids == list(long[:at])
        assert state.dropped_tokens == start_by_steps(at, LIMIT)
    if at >= 4:
        assert tuple(sliding.generate(len(long) - at).token_ids) == long[at:]
    sliding.rollback(checkpoint="end")
    assert tuple(sliding.token_ids) == long
    sliding.rollback(revision=2)
    assert tuple(sliding.token_ids) == long


def test_a_saved_state_goes_on_with_the_same_bits(
    model: cacher.Model, sliding: State, tmp_path: Path
) -> None:
    sliding.generate(NEW)
    sliding.save(tmp_path / "state.json")
    again = model.restore(tmp_path / "state.json")
    assert again.token_ids == sliding.token_ids
    assert again.dropped_tokens == sliding.dropped_tokens
    assert again.logits().tobytes() == sliding.logits().tobytes()
    assert again.logprobs().tobytes() == sliding.logprobs().tobytes()
    assert again.generate(20) == sliding.generate(20)
    assert again.history[-1].token_count == len(again)


def test_stored_logits_of_a_file_are_those_of_the_first_window(
    model: cacher.Model, sliding: State
) -> None:
    """The pages may know what the whole text says of later tokens: that is not what slid."""
    from cacher.document import encode

    sliding.generate(NEW)
    model.state(sliding.token_ids).forward().logprobs()
    stored = json.loads(encode(sliding))["stored_logits"]
    logprobs = np.frombuffer(base64.b64decode(stored["logprobs"]), "<f4")
    lse = np.frombuffer(base64.b64decode(stored["lse"]), "<f8")
    for known, n in ((~np.isnan(logprobs), LIMIT), (~np.isnan(lse), LIMIT - 1)):
        assert len(known) == 4 + NEW
        assert known[:n].all()
        assert not known[n:].any()


def test_tokens_are_judged_by_the_window_that_predicted_them(
    model: cacher.Model, sliding: State
) -> None:
    result = sliding.generate(NEW, temperature=1.5)
    ids = sliding.token_ids
    np.testing.assert_array_equal(sliding.logprobs()[4:], np.float32(result.logprobs))
    all_logits, entropy, ranks = sliding.logits(0), sliding.entropy(), sliding.ranks()
    assert (len(all_logits), len(entropy), len(ranks)) == (len(ids),) * 3
    for at in range(1, len(ids)):
        logits = plain(model, ids[:at]).logits()
        np.testing.assert_array_equal(all_logits[at - 1], logits)
        order = np.lexsort((np.arange(len(logits)), -logits))
        assert order[ranks[at] - 1] == ids[at]
    np.testing.assert_array_equal(sliding.logits(30, 9), all_logits[30:39])
    assert sliding.logits(30, 0).shape == (0, model.vocab_size)
    np.testing.assert_array_equal(all_logits[-1], sliding.logits())
    analysis = sliding.analyze_tokens(top=2, include_logits=True)
    assert [token.logprob for token in analysis.tokens] == sliding.logprobs().tolist()
    infos = sliding.token_info(top_logprobs=2, entropy=True)
    assert [info.logprob for info in infos] == sliding.logprobs().tolist()
    assert [token.position for token in sliding] == list(range(len(ids)))
    assert sliding.top_tokens(3) == plain(model, ids).top_tokens(3)


def test_shared_pages_do_not_tell_of_another_context(model: cacher.Model, sliding: State) -> None:
    """A state with room for all tokens shares the pages; what it knows is another matter."""
    sliding.generate(NEW)
    wide = model.state(sliding.token_ids).forward()
    far = wide.logprobs()
    assert not np.array_equal(far, sliding.logprobs())
    assert wide.dropped_tokens == 0
    assert [t.logprob for t in wide] == far.tolist()
    np.testing.assert_array_equal(sliding.logprobs()[:LIMIT], far[:LIMIT])


def test_the_models_insides_are_those_of_the_window(model: cacher.Model, sliding: State) -> None:
    sliding.generate(NEW)
    seen = plain(model, sliding.token_ids)
    assert sliding.attention(1).tobytes() == seen.attention(1).tobytes()
    for got, want in zip(sliding.kv(0), seen.kv(0), strict=True):
        assert got.tobytes() == want.tobytes()
    assert sliding.hidden().tobytes() == seen.hidden().tobytes()
    assert sliding.embedding(-1).token == sliding.analyze_tokens().tokens[-1].text
    assert sliding.analyze_attention(0).tokens == seen.analyze_attention(0).tokens
    assert sliding.cached_tokens <= len(seen)
    assert "<svg" in sliding.show_attention(0).html
    sliding.evict()
    assert sliding.logits().tobytes() == seen.logits().tobytes()


def test_penalties_read_all_tokens(model: cacher.Model) -> None:
    state = model.state(OPENING, config=SLIDE)
    state.generate(NEW, temperature=0, no_repeat_ngram_size=2)
    pairs = list(itertools.pairwise(state.token_ids))
    assert len(set(pairs)) == len(pairs)
    found = state.beam(2, 3, no_repeat_ngram_size=1)
    assert len(found[0].token_ids) > 0
    for beam in found:
        assert not set(beam.token_ids) & set(state.token_ids)


def test_text_may_be_added_to_a_full_window(model: cacher.Model, sliding: State) -> None:
    sliding.generate(NEW)
    length = len(sliding)
    sliding.append(" and then").forward(" the king")
    assert sliding.text.endswith(" and then the king")
    assert sliding.head_position == len(sliding) > length
    assert sliding.logits().tobytes() == plain(model, sliding.token_ids).logits().tobytes()
    before = sliding.token_ids
    with pytest.raises(ContextOverflowError, match=r"0 [+] 13 tokens .* context of 12"):
        sliding.forward([5] * 13)
    with pytest.raises(cacher.TokenIdError):
        sliding.append([5] * 11 + [model.vocab_size])
    assert sliding.token_ids == before
    sliding.append([5] * 12)
    assert sliding.dropped_tokens == start_by_steps(len(sliding), LIMIT)


def test_the_models_own_context_slides_too(model: cacher.Model, tmp_path: Path) -> None:
    state = model.state([7] * (model.n_ctx - 2), config={"context_strategy": "slide"})
    result = state.generate(6, seed=1)
    assert (len(result), len(state)) == (6, model.n_ctx + 4)
    assert result.dropped_tokens == model.n_ctx // 2
    state.save(tmp_path / "long.json")
    assert model.restore(tmp_path / "long.json").generate(3, seed=1) == state.generate(3, seed=1)
    for call in (state.fork, state.edit):
        with pytest.raises(ContextOverflowError, match=r'1031 tokens .* of 1024: only .*"slide"'):
            call(config={"context_strategy": "stop"})
    state.rollback(-7).edit(config={"context_strategy": "stop"})
    assert state.generate(2).finish_reason == "context_length"
    state.rollback(revision=2)
    assert len(state) == model.n_ctx + 4
    document = json.loads((tmp_path / "long.json").read_text())
    document["config"]["context_strategy"] = "stop"
    (tmp_path / "long.json").write_text(json.dumps(document))
    with pytest.raises(cacher.StateFileError, match="1028 tokens"):
        model.restore(tmp_path / "long.json")


def test_a_new_configuration_moves_the_window(model: cacher.Model, sliding: State) -> None:
    sliding.generate(NEW)
    ids = sliding.token_ids
    smaller = sliding.fork(config={"context_size": 6})
    assert smaller.dropped_tokens == start_by_steps(len(ids), 6)
    assert sliding.fork(config={"context_strategy": None}).dropped_tokens == 0
    whole = sliding.fork(config={"context_size": 1000})
    assert whole.logits().tobytes() == model.state(ids).logits().tobytes()
    sliding.edit(config={"context_size": 1})
    assert sliding.generate(1).finish_reason == "context_length"


def test_a_stopping_state_drops_nothing(model: cacher.Model) -> None:
    for config in ({"context_size": 8}, {"context_size": 8, "context_strategy": "stop"}):
        state = model.state(OPENING, config=config)
        result = state.generate(10)
        assert (len(state), result.dropped_tokens) == (8, 0)
        assert result.finish_reason == "context_length"


def test_the_strategy_is_checked_and_shown_only_when_set() -> None:
    assert "context_strategy" not in StateConfig().to_dict()
    config = StateConfig().updated({"context_strategy": "slide"})
    assert config.to_dict()["context_strategy"] == "slide"
    assert config.updated({"context_strategy": None}) == StateConfig()
    with pytest.raises(ParameterError, match=r"context_strategy is .*stop"):
        StateConfig().updated({"context_strategy": "drop"})


def test_a_run_that_is_interrupted_leaves_whole_tokens(
    sliding: State, long: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = sliding.stream(NEW)
    for _ in range(30):
        next(stream)

    class Interrupted:
        def __init__(self, batch: object) -> None:
            self._batch = batch

        def __getattr__(self, name: str) -> object:
            return getattr(self._batch, name)

        def step(self, *options: int) -> None:
            self._batch.step(*options)  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    monkeypatch.setattr(stream, "_batch", Interrupted(stream._batch))
    with pytest.raises(KeyboardInterrupt):
        next(stream)
    assert tuple(sliding.token_ids) == long[:34]
    assert tuple(sliding.generate(NEW - 30).token_ids) == long[34:]


def test_nothing_stays_alive(model: cacher.Model) -> None:
    before = model.stats.pages_live
    state = model.state(OPENING, config=SLIDE)
    state.generate(NEW)
    forks = [state.fork(), state.fork(at=20)]
    forks[0].generate(9)
    model.check()
    del state, forks
    assert model.stats.pages_live == before
