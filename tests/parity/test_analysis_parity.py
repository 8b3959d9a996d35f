"""Attention, hidden states, keys and values as transformers shows them (float32, eager)."""

from __future__ import annotations

import math
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

TALES = Path(cacher.__file__).parent / "models" / "tales"
LARGE = ("gpt2-124m", "smollm-135m")
# Both sides round in float32; 30 layers of large random weights reach a third of these.
WEIGHTS = 1e-4  # of attention, which lies between 0 and 1
VECTORS = 6e-5  # of the largest number of a matrix


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the models are made; CACHER_PARITY_MODELS keeps them between runs."""
    kept = os.environ.get("CACHER_PARITY_MODELS")
    return Path(kept) if kept else tmp_path_factory.mktemp("random-models")


def off(got: np.ndarray, want: np.ndarray) -> float:
    """Return the largest difference, in parts of the largest number."""
    assert got.shape == want.shape
    return float(np.abs(got - want).max() / np.abs(want).max())


def compare(name: str, path: Path, n_tokens: int) -> None:
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        path, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    n = min(n_tokens, theirs.config.max_position_embeddings)
    ids = np.random.default_rng(11).integers(0, theirs.config.vocab_size, n).tolist()
    with torch.no_grad():
        want = theirs(
            torch.tensor([ids]), output_attentions=True, output_hidden_states=True, use_cache=True
        )
    state = cacher.load(str(path), threads=2).state(ids)
    n_layers = state.model.info.n_layers
    attention = np.array([layer[0].numpy() for layer in want.attentions])
    worst = {"attention": 0.0, "hidden": 0.0, "keys": 0.0, "values": 0.0}
    for layer in range(n_layers):
        worst["attention"] = max(
            worst["attention"], float(np.abs(state.attention(layer) - attention[layer]).max())
        )
        hidden = want.hidden_states[layer][0].numpy()
        worst["hidden"] = max(worst["hidden"], off(state.hidden(layer), hidden))
        stored = want.past_key_values.layers[layer]
        for kind, ours, part in zip(
            ("keys", "values"), state.kv(layer), (stored.keys, stored.values), strict=True
        ):
            kept = part[0].numpy()  # of a sliding window only its end is kept
            worst[kind] = max(worst[kind], off(ours[:, -kept.shape[1] :], kept))
    worst["hidden"] = max(worst["hidden"], off(state.hidden(), want.hidden_states[-1][0].numpy()))
    print(f"\n{name:18} " + ", ".join(f"{kind} {value:.1e}" for kind, value in worst.items()))
    assert worst.pop("attention") <= WEIGHTS
    assert max(worst.values()) <= VECTORS
    mean = state.analyze_attention().attention_pattern
    assert np.abs(mean - attention.mean(axis=(0, 1), dtype=np.float64)).max() <= WEIGHTS
    logprobs = torch.log_softmax(want.logits[0].double(), -1)[:-1]
    chosen = logprobs[range(n - 1), ids[1:]]
    found = state.analyze_tokens()
    assert found.perplexity == pytest.approx(math.exp(-chosen.mean()), rel=1e-4)
    entropy = -(logprobs.exp() * logprobs).sum(-1).numpy()
    got = [token.entropy for token in found.tokens[1:]]
    np.testing.assert_allclose(got, entropy, atol=1e-3)


@pytest.mark.parametrize("name", MODELS)
def test_the_insides_of_a_random_model(name: str, folder: Path) -> None:
    compare(name, make_random(name, folder), 60 if name in LARGE else 300)


def test_the_insides_of_the_built_in_model() -> None:
    compare("tales", TALES, 300)
