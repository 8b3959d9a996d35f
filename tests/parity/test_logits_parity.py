"""Logits of every position within 2e-4 of transformers (float32, eager), for every option."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import cacher  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from models.make_random import MODELS, make_random  # noqa: E402

pytestmark = pytest.mark.parity

TOLERANCE = 2e-4
TALES = Path(cacher.__file__).parent / "models" / "tales"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the models are made; CACHER_PARITY_MODELS keeps them between runs."""
    kept = os.environ.get("CACHER_PARITY_MODELS")
    return Path(kept) if kept else tmp_path_factory.mktemp("random-models")


def compare(path: Path, n_tokens: int) -> tuple[float, float]:
    """Return the largest difference of any logit and the largest logit, over one random text."""
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        path, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    n = min(n_tokens, theirs.config.max_position_embeddings)
    ids = np.random.default_rng(7).integers(0, theirs.config.vocab_size, n).tolist()
    with torch.no_grad():
        want = theirs(torch.tensor([ids])).logits[0].numpy()
    state = cacher.load(str(path), threads=2).state(ids)
    got = np.concatenate([state.logits(first, min(100, n - first)) for first in range(0, n, 100)])
    assert got.shape == want.shape
    return float(np.abs(got - want).max()), float(np.abs(want).max())


def report(name: str, worst: float, largest: float) -> None:
    print(f"\n{name:18} worst difference {worst:.2e}, largest logit {largest:.1f}")
    assert largest > 1, "logits this small would hide a mistake"
    assert worst <= TOLERANCE


@pytest.mark.parametrize("name", MODELS)
def test_every_logit_of_a_random_model(name: str, folder: Path) -> None:
    report(
        name,
        *compare(make_random(name, folder), 300 if name in ("gpt2-124m", "smollm-135m") else 500),
    )


def test_every_logit_of_the_built_in_model() -> None:
    report("tales", *compare(TALES, 1024))
