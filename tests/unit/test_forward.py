"""The forward pass against the slow float64 decoder, which shares no code with it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import cacher

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from models.make_tiny import CONFIGS, VOCAB, make_tiny
from reference import decoder

# float32 rounding through a few layers; the tiny models' logits reach about 10.
TOLERANCE = 1e-4
N_TOKENS = 100
TALES = Path(cacher.__file__).parent / "models" / "tales"


def worst_difference(folder: Path, ids: list[int]) -> float:
    want = decoder.logits(folder, ids)
    assert np.abs(want).max() > 1, "logits this small would hide a mistake"
    got = cacher.load(str(folder)).state(ids).logits(0, len(ids))
    assert got.shape == want.shape
    return float(np.abs(got - want).max())


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_of_every_position_of_a_tiny_model(name: str, tmp_path: Path) -> None:
    ids = np.random.default_rng(3).integers(0, VOCAB, N_TOKENS).tolist()
    assert worst_difference(make_tiny(name, tmp_path), ids) < TOLERANCE


def test_logits_of_every_position_of_the_built_in_model() -> None:
    text = "Once upon a time there was a fox who could not sleep."
    assert worst_difference(TALES, cacher.load("tales").tokenizer.encode(text)) < TOLERANCE
