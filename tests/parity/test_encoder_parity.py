"""Vectors equal to sentence-transformers' (MiniLM's real weights), hidden states to transformers'.

MiniLM: cosine error below 1e-5 on 2,000 texts.  BERT and ModernBERT, random at real shapes: hidden
states within 2e-4.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import texts  # noqa: E402

import cacher  # noqa: E402
from cacher import hub  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from models.make_random import ENCODERS, make_random  # noqa: E402

pytestmark = pytest.mark.parity

TOLERANCE = 2e-4
COSINE_ERROR = 1e-5
N_TEXTS = 2000
LENGTHS = (1, 2, 15, 16, 17, 60, 129, 300)


def some_texts() -> list[str]:
    """Prose and code of all lengths, short hostile strings, the empty text."""
    documents = texts.documents(texts.mixed_text(1_000_000, seed=8))
    rng = np.random.default_rng(8)
    pieces = [d[at : at + int(rng.integers(5, 1200))] for d in documents for at in (0, 2000, 4000)]
    several = [*pieces[: N_TEXTS // 2], "", "[MASK] [SEP]"]
    return several + texts.random_strings(N_TEXTS - len(several), ["[CLS]"], seed=9)


def test_minilm(tmp_path: Path) -> None:
    import sentence_transformers

    several = some_texts()
    assert len(several) == N_TEXTS
    theirs = sentence_transformers.SentenceTransformer(str(hub.find("minilm")), device="cpu")
    want = theirs.encode(several, convert_to_numpy=True).astype(np.float64)
    got = cacher.load("minilm", threads=2).embed(several).astype(np.float64)
    cosine = (got * want).sum(1) / np.linalg.norm(got, axis=1) / np.linalg.norm(want, axis=1)
    worst = float((1 - cosine).max())
    print(f"\nminilm: {N_TEXTS} texts, worst cosine error {worst:.1e}, "
          f"worst difference {np.abs(got - want).max():.1e}")  # fmt: skip
    assert worst < COSINE_ERROR
    theirs.save(str(tmp_path))  # its files as sentence-transformers writes them today
    assert np.array_equal(cacher.load(tmp_path).embed(several[:50]), got[:50])


@pytest.mark.parametrize("name", ENCODERS)
def test_hidden_states(name: str, tmp_path: Path) -> None:
    path = make_random(name, tmp_path)
    theirs: Any = transformers.AutoModel.from_pretrained(path, dtype=torch.float32).eval()
    model = cacher.load(str(path), threads=2)
    rng = np.random.default_rng(5)
    worst = largest = 0.0
    for n in LENGTHS:
        ids = rng.integers(5, model.vocab_size, n).tolist()
        with torch.no_grad():
            want = theirs(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy()
        got = model.embed_tokens(ids)
        assert got.shape == want.shape
        worst = max(worst, float(np.abs(got - want).max()))
        largest = max(largest, float(np.abs(want).max()))
    print(f"\n{name}: worst difference {worst:.1e}, largest value {largest:.1f}")
    assert largest > 1
    assert worst <= TOLERANCE
