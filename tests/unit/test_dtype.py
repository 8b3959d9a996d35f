"""Weights in f32, bf16 and int8; that the laws hold in each is shown in tests/laws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cacher
from cacher.index import Dtype
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
