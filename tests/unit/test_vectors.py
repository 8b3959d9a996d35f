"""Hidden states and embeddings, by what must follow from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cacher
from cacher import (
    EmptyStateError,
    LayerOutOfRangeError,
    ParameterError,
    State,
    TokenIndexOutOfRangeError,
)
from tests.models.make_tiny import make_tiny
from tests.reference import decoder


@pytest.mark.parametrize("name", ["gpt2", "qwen3", "mistral"])
def test_the_final_hidden_states_make_the_reference_s_logits(name: str, tmp_path: Path) -> None:
    folder = make_tiny(name, tmp_path)
    ids = [3, 14, 15, 92, 65, 35]
    _config, tensors = decoder.load(folder)
    inputs = tensors.get("wte.weight", tensors.get("model.embed_tokens.weight"))
    assert inputs is not None
    outputs = tensors.get("lm_head.weight", inputs)
    state = cacher.load(folder, threads=1).state(ids)
    want = decoder.logits(folder, ids)
    np.testing.assert_allclose(state.hidden() @ outputs.T, want, atol=1e-4)
    np.testing.assert_allclose(state.embedding(2).embedding @ outputs.T, want[2], atol=1e-4)
    np.testing.assert_allclose(state.embedding().embedding @ outputs.T, want.mean(0), atol=1e-4)
    mean = state.embedding(kind="input").embedding
    np.testing.assert_allclose(mean, inputs[ids].mean(axis=0), atol=1e-6)
    one = state.embedding(-1, kind="input").embedding
    np.testing.assert_array_equal(one, inputs[ids[-1]].astype(np.float32))


def test_hidden_states_of_all_layers(story: State) -> None:
    inputs = story.hidden(0)
    assert inputs.shape == (9, 256)
    for i, token_id in enumerate(story.token_ids):
        assert inputs[i].tobytes() == story.model.embedding_input(token_id).tobytes()
    assert story.hidden(6).shape == (9, 256)
    assert story.hidden(first=4, n=2).tobytes() == story.hidden()[4:6].tobytes()


def test_an_embedding_is_a_token_s_hidden_state(story: State) -> None:
    found = story.embedding(-2, layer=3)
    assert (found.token_index, found.token, found.kind, found.layer) == (-2, " little", "hidden", 3)
    assert found.dimension == len(found.embedding) == 256
    assert found.embedding.tobytes() == story.hidden(3)[7].tobytes()
    assert story.embedding(8).embedding.tobytes() == story.embedding(-1).embedding.tobytes()
    mean = story.embedding()
    assert (mean.token_index, mean.token, mean.layer) == (None, None, None)
    assert mean.embedding.dtype == np.float32
    np.testing.assert_allclose(mean.embedding, story.hidden().mean(axis=0), atol=1e-6)


def test_the_mean_weighs_tokens_that_come_again(story: State) -> None:
    state = story.model.state([7, 300, 7, 7])
    rows = [story.model.embedding_input(i).astype(np.float64) for i in (7, 300)]
    want = (3 * rows[0] + rows[1]) / 4
    np.testing.assert_allclose(state.embedding(kind="input").embedding, want, rtol=1e-6)


def test_what_is_not_there_is_refused_by_its_kind(story: State) -> None:
    for index in (9, -10, 2**40):
        with pytest.raises(TokenIndexOutOfRangeError, match="allowed: -9 to 8"):
            story.embedding(index)
    for layer in (7, -1):
        with pytest.raises(LayerOutOfRangeError, match="allowed: 0 to 6"):
            story.embedding(layer=layer)
        with pytest.raises(LayerOutOfRangeError):
            story.hidden(layer)
    with pytest.raises(ParameterError, match='with kind "input": None'):
        story.embedding(kind="input", layer=0)
    with pytest.raises(ParameterError, match="kind"):
        story.embedding(kind="output")  # type: ignore[arg-type]
    for look in (story.model.state().embedding, story.model.state().hidden):
        with pytest.raises(EmptyStateError):
            look()
