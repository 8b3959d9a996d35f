"""Token info: what forward and generate tell of tokens, from the state's own logits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from cacher import Model, ParameterError, ResponseTooLargeError, State


def distribution(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(np.float64) - logits.max())
    return powers / powers.sum()


@pytest.fixture
def read(model: Model) -> State:
    return model.state("Once upon a time there was a fox").forward()


@pytest.mark.parametrize("which", ["next_token", "this_token"])
@pytest.mark.parametrize("extras", [(False, 0, False), (True, 3, True), (False, 3, False)])
def test_infos_are_those_of_the_logits(
    read: State, which: str, extras: tuple[bool, int, bool]
) -> None:
    logits, top, entropy = extras
    rows = np.vstack([read.model.state().logits(), read.logits(0)])
    options: dict[str, Any] = {"logits": logits, "top_logprobs": top, "entropy": entropy}
    infos = read.token_info(distribution=which, **options)  # type: ignore[arg-type]
    assert "".join(info.token for info in infos) == read.text
    assert [info.logprob for info in infos] == read.logprobs().tolist()
    for position, info in enumerate(infos):
        assert (info.position, info.token_id) == (position, read.token_ids[position])
        assert info.probability == math.exp(info.logprob)
        assert info.distribution == which
        described = rows[position + (which == "next_token")]
        if not top:
            assert (info.logits, info.top_logprobs, info.entropy) == (None, None, None)
            continue
        probabilities = distribution(described)
        assert info.top_logprobs is not None
        best = np.argsort(-described, kind="stable")[:3]
        assert [t.token_id for t in info.top_logprobs] == best.tolist()
        for t in info.top_logprobs:
            assert t.probability == pytest.approx(probabilities[t.token_id], rel=1e-5)
            assert t.token == read.model.tokenizer.decode([t.token_id])
        if entropy:
            assert info.logits is not None
            assert info.logits.tobytes() == described.tobytes()
            want = -(probabilities * np.log(np.maximum(probabilities, 1e-300))).sum()
            assert info.entropy == pytest.approx(want, abs=1e-5)


def test_infos_of_a_generation_are_what_its_tokens_were_drawn_from(model: Model) -> None:
    state = model.state("Once upon a time")
    streamed = list(state.stream(5, seed=4))
    infos = state.token_info(4, distribution="this_token", top_logprobs=5, entropy=True)
    for info, token in zip(infos, streamed, strict=True):
        assert (info.token, info.position) == (token.text, token.position)
        assert (info.logprob, info.entropy) == (token.logprob, token.entropy)
        assert info.top_logprobs == token.top_tokens


def test_after_a_forward_pass_the_last_info_tells_what_comes_next(read: State) -> None:
    [info] = read.token_info(len(read) - 1, top_logprobs=10, entropy=True)
    assert info.top_logprobs == read.top_tokens(10)
    assert info.token == " fox"


def test_what_is_stored_is_read_without_running_the_model(read: State) -> None:
    read.generate(4)
    forwards = read.model.stats.forwards
    read.token_info(0, 8, top_logprobs=20)
    read.token_info(1, distribution="this_token", top_logprobs=5)
    read.token_info()
    assert read.model.stats.forwards == forwards
    [stored] = read.token_info(3, 1, top_logprobs=20)
    [computed] = read.token_info(3, 1, top_logprobs=20, entropy=True)
    assert stored.top_logprobs == computed.top_logprobs
    read.token_info(0, 1, top_logprobs=21)
    assert read.model.stats.forwards > forwards


def test_ranges_and_limits(read: State) -> None:
    assert read.token_info(8) == []
    assert read.token_info(2, 0, entropy=True) == []
    assert read.model.state().token_info(entropy=True) == []
    assert read.token_info(5, 2) == read.token_info()[5:7]
    with pytest.raises(ParameterError, match="first is 9"):
        read.token_info(9)
    with pytest.raises(ParameterError, match="top_logprobs"):
        read.token_info(top_logprobs=101)
    with pytest.raises(ParameterError, match="distribution"):
        read.token_info(distribution="other")  # type: ignore[arg-type]
    with pytest.raises(ResponseTooLargeError, match="32768 numbers, allowed: 32767"):
        read.token_info(logits=True, max_logits=32767)
    assert len(read.token_info(logits=True, max_logits=32768)) == 8
