"""Weights in f32, bf16 and int8, KV pages in f32 and bf16; the laws in each are in tests/laws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cacher
from cacher.facts import Dtype
from tests.models.make_tiny import make_tiny

TEXT = "Once upon a time there was a little girl who lived near the sea."


@pytest.fixture(scope="module")
def models() -> dict[Dtype, cacher.Model]:
    dtypes: tuple[Dtype, ...] = ("f32", "bf16", "int8")
    return {dtype: cacher.load("tales", dtype=dtype) for dtype in dtypes}


@pytest.mark.parametrize(("dtype", "share", "off"), [("bf16", 0.51, 0.01), ("int8", 0.27, 0.06)])
def test_fewer_bytes_give_nearly_the_same_logits(
    models: dict[Dtype, cacher.Model], dtype: Dtype, share: float, off: float
) -> None:
    assert models[dtype].info.dtype == dtype
    assert models[dtype].info.weight_bytes < share * models["f32"].info.weight_bytes
    want = models["f32"].state(TEXT).logits(first=0)
    got = models[dtype].state(TEXT).logits(first=0)
    spread = want - want.mean(axis=1, keepdims=True)
    error = float(np.sqrt(np.square(got - want).sum() / np.square(spread).sum()))
    assert 0 < error < off


def test_a_dtype_is_part_of_the_fingerprint(
    models: dict[Dtype, cacher.Model], tmp_path: Path
) -> None:
    assert len({model.fingerprint for model in models.values()}) == 3
    models["f32"].state(TEXT).save(tmp_path / "state.json")
    with pytest.raises(cacher.CacherError, match="fingerprint"):
        models["bf16"].restore(tmp_path / "state.json")


def test_embeddings_are_what_the_format_has_left(models: dict[Dtype, cacher.Model]) -> None:
    want = models["f32"].embedding_input(5)
    largest = np.abs(want).max()
    assert np.abs(models["bf16"].embedding_input(5) - want).max() <= largest * 2**-8
    assert np.abs(models["int8"].embedding_input(5) - want).max() <= largest / 253


@pytest.mark.parametrize("dtype", ["bf16", "int8"])
@pytest.mark.parametrize("name", ["bert", "gpt2-labels"])
def test_other_types_of_model_have_formats_too(dtype: Dtype, name: str, tmp_path: Path) -> None:
    folder = make_tiny(name, tmp_path)
    model, exact = cacher.load(folder, dtype=dtype), cacher.load(folder)
    ids = [5, 9, 20, 31]
    if name == "bert":
        got, want = model.embed([ids])[0], exact.embed([ids])[0]
    else:
        got, want = model.state(ids).hidden(), exact.state(ids).hidden()
    assert (
        0
        < float(np.abs(np.asarray(got) - np.asarray(want)).max())
        < 0.1 * float(np.abs(want).max())
    )


def test_another_dtype_is_refused() -> None:
    with pytest.raises(cacher.ParameterError, match=r'dtype is .f16., allowed: "f32", "bf16"'):
        cacher.load("tales", dtype="f16")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        cacher.load("tales", dtype=8)  # type: ignore[arg-type]


# ---- keys and values


@pytest.fixture(scope="module")
def halves() -> cacher.Model:
    return cacher.load("tales", kv_dtype="bf16")


def rounded(x: np.ndarray) -> np.ndarray:
    """The nearest bf16, of two the even one."""
    bits = x.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def test_pages_of_bf16_take_half_the_bytes(
    models: dict[Dtype, cacher.Model], halves: cacher.Model
) -> None:
    whole = models["f32"].info
    assert (whole.kv_dtype, halves.info.kv_dtype, halves.info.dtype) == ("f32", "bf16", "f32")
    assert 2 * halves.info.page_bytes == whole.page_bytes
    ids = list(range(16 * 5))
    small = cacher.load("tales", kv_dtype="bf16", kv_budget=5 * halves.info.page_bytes)
    assert small.state(ids).logits().tobytes() == halves.state(ids).logits().tobytes()
    with pytest.raises(cacher.CacherError, match="budget"):
        small.state([*ids, 2]).logits()


def test_keys_and_values_are_the_nearest_bf16(
    models: dict[Dtype, cacher.Model], halves: cacher.Model
) -> None:
    # The first layer's are made from the same numbers: nothing rounded comes before.
    for got, want in zip(halves.state(TEXT).kv(0), models["f32"].state(TEXT).kv(0), strict=True):
        assert got.dtype == np.float32
        assert got.tobytes() == rounded(want).tobytes() != want.tobytes()
    last = halves.info.n_layers - 1
    for got in halves.state(TEXT).kv(last):
        assert got.tobytes() == rounded(got).tobytes()


def test_an_inspection_tells_the_bytes_there_are(
    models: dict[Dtype, cacher.Model], halves: cacher.Model
) -> None:
    found, want = (m.state(TEXT).inspect_cache(layer=0) for m in (halves, models["f32"]))
    assert 2 * found.memory_bytes == want.memory_bytes > 0


def test_logits_move_little_with_rounded_keys_and_values(
    models: dict[Dtype, cacher.Model], halves: cacher.Model
) -> None:
    want = models["f32"].state(TEXT).logits(first=0)
    got = halves.state(TEXT).logits(first=0)
    spread = want - want.mean(axis=1, keepdims=True)
    error = float(np.sqrt(np.square(got - want).sum() / np.square(spread).sum()))
    assert 0 < error < 0.005


def test_attention_and_analysis_see_the_rounded_keys(halves: cacher.Model) -> None:
    state = halves.state(TEXT)
    at = len(state) - 1
    rows = state.attention(0)[:, at, : at + 1]
    assert np.abs(rows.sum(axis=-1) - 1).max() < 1e-5
    again = halves.state(TEXT)
    again.evict()
    assert again.attention(0)[:, at, : at + 1].tobytes() == rows.tobytes()


def test_states_go_back_to_models_of_their_kv_dtype(
    models: dict[Dtype, cacher.Model], halves: cacher.Model, tmp_path: Path
) -> None:
    state = halves.state(TEXT)
    logits = state.logits().tobytes()
    state.save(tmp_path / "state.json")
    exported = cacher.export_states(state)
    halves.drop_cached()
    assert halves.restore(tmp_path / "state.json").logits().tobytes() == logits
    message = r"\(dtype 'f32', kv_dtype 'bf16'\), not to 'tales' .*\(dtype 'f32', kv_dtype 'f32'\)"
    with pytest.raises(cacher.ModelMismatchError, match=message):
        models["f32"].restore(tmp_path / "state.json")
    with pytest.raises(cacher.CacherError, match="kv_dtype 'f32'"):
        cacher.import_states(exported, models["f32"])


def test_kv_dtype_is_part_of_the_fingerprint_where_pages_are_kept(
    models: dict[Dtype, cacher.Model], halves: cacher.Model, tmp_path: Path
) -> None:
    assert halves.fingerprint != models["f32"].fingerprint
    assert cacher.load("tales", kv_dtype="f32").fingerprint == models["f32"].fingerprint
    folder = make_tiny("bert", tmp_path)
    encoder = cacher.load(folder, kv_dtype="bf16")
    assert (encoder.info.kv_dtype, encoder.info.page_bytes) == (None, 0)
    assert encoder.fingerprint == cacher.load(folder).fingerprint
    assert encoder.embed([[5, 9]])[0].tobytes() == cacher.load(folder).embed([[5, 9]])[0].tobytes()


def test_a_classifier_has_pages_too(tmp_path: Path) -> None:
    folder = make_tiny("gpt2-labels", tmp_path)
    got, want = (cacher.load(folder, kv_dtype=kv).state([5, 9, 20]) for kv in ("bf16", "f32"))
    error = np.abs(got.hidden() - want.hidden()).max()
    assert 0 < float(error) < 0.05 * float(np.abs(want.hidden()).max())


def test_another_kv_dtype_is_refused() -> None:
    with pytest.raises(cacher.ParameterError, match=r'kv_dtype is .int8., allowed: "f32", "bf16"'):
        cacher.load("tales", kv_dtype="int8")  # type: ignore[arg-type]
