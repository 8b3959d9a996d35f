"""Cache inspection against the slow float64 decoder, and its forms by definition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cacher
from cacher import (
    EmptyStateError,
    HeadOutOfRangeError,
    LayerOutOfRangeError,
    Model,
    ParameterError,
    ResponseTooLargeError,
    State,
    TokenIndexOutOfRangeError,
)
from cacher.kv import CacheData
from tests.models.make_tiny import CONFIGS, VOCAB, make_tiny
from tests.reference import decoder

TOLERANCE = 2e-5


def numbers(state: State, *args: object, **more: object) -> np.ndarray:
    data = state.inspect_cache(*args, format="list", **more).cache_data  # type: ignore[arg-type]
    assert isinstance(data, np.ndarray)
    return data


def summary(state: State, *args: object, **more: object) -> CacheData:
    data = state.inspect_cache(*args, **more).cache_data  # type: ignore[arg-type]
    assert isinstance(data, CacheData)
    return data


@pytest.mark.parametrize("name", CONFIGS)
def test_values_are_those_of_a_fresh_forward_pass(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_tiny(name, tmp_path)
    ids = np.random.default_rng(7).integers(0, VOCAB, 50).tolist()
    seen: list[tuple[np.ndarray, np.ndarray]] = []
    whole = decoder.attention

    def spy(q: np.ndarray, k: np.ndarray, v: np.ndarray, window: int | None) -> np.ndarray:
        seen.append((k, v))
        return whole(q, k, v, window)

    monkeypatch.setattr(decoder, "attention", spy)
    decoder.logits(folder, ids)
    want = np.array(seen).swapaxes(0, 1)  # key, layer, head, position, dim
    state = cacher.load(folder, threads=1).state(ids[:20]).forward(ids[20:])
    np.testing.assert_allclose(numbers(state), want, atol=TOLERANCE)
    data = summary(state)
    for i, part in enumerate((data.keys, data.values)):
        np.testing.assert_allclose(
            part, want[i].mean(axis=2).reshape(len(part), -1), atol=TOLERANCE
        )
    for layer in data.layer_data:
        for part, stats in zip(want[:, layer.layer], (layer.keys, layer.values), strict=True):
            assert stats is not None
            expected = (part.mean(), part.std(), part.min(), part.max(), np.linalg.norm(part))
            assert stats == pytest.approx(expected, abs=1e-3)
        assert layer.shape == want.shape[2:]


def test_the_object_form_has_a_row_for_each_layer(story: State) -> None:
    found = story.inspect_cache(layer_range=(0, 1))
    data = found.cache_data
    assert isinstance(data, CacheData)
    assert (found.layers_returned, data.layers) == ([0, 1], ["Layer 0", "Layer 1"])
    assert data.keys.shape == data.values.shape == (2, 4 * 32)
    assert (found.matched, found.available_keys, found.positions) == (True, ("k", "v"), 9)
    assert found.memory_bytes == 2 * 2 * 4 * 9 * 32 * 4
    assert (found.axes, found.shape, found.format, data.key_name) == (None, None, "object", "all")
    only = story.inspect_cache("value", layer=3)
    data = only.cache_data
    assert isinstance(data, CacheData)
    assert (data.key_name, data.keys.tolist(), data.values.shape) == ("v", [], (1, 128))
    assert data.layer_data[0].keys is None
    assert only.memory_bytes == 4 * 9 * 32 * 4
    assert summary(story, "kv").key_name == "all"


def test_the_list_form_drops_axes_that_one_value_was_asked_of(story: State) -> None:
    axes = ("key", "layer", "head", "position", "dim")
    whole = story.inspect_cache(format="list")
    assert (whole.axes, whole.shape) == (axes, (2, 6, 4, 9, 32))
    every = numbers(story)
    assert every.dtype == np.float32
    for layer in range(6):
        keys, values = story.kv(layer)
        assert every[0, layer].tobytes() == keys.tobytes()
        assert every[1, layer].tobytes() == values.tobytes()
    found = story.inspect_cache("k", layer=0, format="list")
    assert (found.axes, found.shape) == (("head", "position", "dim"), (4, 9, 32))
    part = story.inspect_cache("values", (4, 99), head=2, position_range=(3, 5), format="list")
    assert (part.axes, part.shape) == (("layer", "position", "dim"), (2, 3, 32))
    assert np.array_equal(part.cache_data, every[1, 4:, 2, 3:6])
    one = story.inspect_cache("all", layer_range=(2, 2), head=0, format="list")
    assert one.axes == ("key", "layer", "position", "dim")
    assert np.array_equal(one.cache_data, every[:, 2:3, 0])
    assert np.array_equal(numbers(story, "v", (1, 4), layer=3, head=3), every[1, 3, 3])


def test_an_unknown_key_name_finds_nothing(story: State) -> None:
    found = story.inspect_cache("optional_key", (0, 5))
    data = found.cache_data
    assert isinstance(data, CacheData)
    assert (found.matched, found.layers_returned, found.memory_bytes) == (False, [], 0)
    assert found.available_keys == ("k", "v")
    assert (data.key_name, data.layers, data.layer_data) == ("optional_key", [], [])
    assert data.keys.tolist() == data.values.tolist() == []
    found = story.inspect_cache("optional_key", format="list")
    assert (found.shape, found.axes) == ((0,), ("key",))


def test_entries_are_the_same_however_they_came_about(model: Model) -> None:
    state = model.state("Once upon a time").forward(" there was a fox")
    state.generate(3, seed=2)
    want = numbers(model.state(state.token_ids))
    state.evict()
    assert state.cached_tokens == 0
    assert numbers(state).tobytes() == want.tobytes()
    assert state.cached_tokens == len(state)


def test_what_is_not_there_is_refused_by_its_kind(story: State) -> None:
    for layer in (-1, 6):
        with pytest.raises(LayerOutOfRangeError, match="layer is"):
            story.inspect_cache(layer=layer)
    with pytest.raises(LayerOutOfRangeError, match="layer_range is 6, allowed: 0 to 5"):
        story.inspect_cache(layer_range=(6, 8))
    with pytest.raises(LayerOutOfRangeError, match="layer is 3, allowed by layer_range: 0 to 1"):
        story.inspect_cache(layer_range=(0, 1), layer=3)
    with pytest.raises(HeadOutOfRangeError, match="head is 4, allowed: 0 to 3"):
        story.inspect_cache(head=4)
    with pytest.raises(TokenIndexOutOfRangeError):
        story.inspect_cache(position_range=(9, 9))
    for wrong in ((2, 1), (0,), (0, 1, 2), (-1, 0)):
        with pytest.raises(ParameterError, match="layer_range"):
            story.inspect_cache(layer_range=wrong)
    with pytest.raises(ParameterError, match="format"):
        story.inspect_cache(format="other")  # type: ignore[arg-type]
    with pytest.raises(EmptyStateError):
        story.model.state().inspect_cache()


def test_large_results_are_refused(story: State) -> None:
    whole = 2 * 6 * 4 * 9 * 32
    with pytest.raises(ResponseTooLargeError, match=f"{whole} numbers, allowed: {whole - 1}"):
        story.inspect_cache(format="list", max_values=whole - 1)
    assert story.inspect_cache(format="list", max_values=whole).shape == (2, 6, 4, 9, 32)
    with pytest.raises(ResponseTooLargeError):
        story.inspect_cache(max_values=2 * 6 * (4 * 32 + 5) - 1)
    assert story.inspect_cache(max_values=2 * 6 * (4 * 32 + 5)).matched
