"""A slow encoder in float64 NumPy, written from the papers: what cacher's vectors must equal.

    python tests/reference/encoder.py FOLDER ID [ID...]     # the text's vector

Like the decoder beside it, whose parts it uses, it shares no code with cacher.  Families: BERT and
ModernBERT.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from reference.decoder import (
    ACTIVATIONS,
    Array,
    Tensors,
    inverse_frequencies,
    layer_norm,
    load,
    rotate,
    softmax,
    split_heads,
)


class Trace:
    """What went through the layers: `states` [layers + 2] before each, behind the last, and behind
    the final norm; `weights` [layers] of their heads, [heads, n, n]."""

    def __init__(self) -> None:
        self.states: list[Array] = []
        self.weights: list[Array] = []

    def attention(self, q: Array, k: Array, v: Array, reach: int | None) -> Array:
        """Attend to both sides, at most `reach` away: [heads, n, dim] gives [n, heads * dim]."""
        heads, n, dim = q.shape
        distance = np.abs(np.arange(n)[:, None] - np.arange(n)[None, :])
        hidden = distance > (n if reach is None else reach)
        out, weights = np.empty((n, heads, dim)), np.empty((heads, n, n))
        for head in range(heads):
            scores = q[head] @ k[head].T / math.sqrt(dim)
            weights[head] = softmax(np.where(hidden, -np.inf, scores))
            out[:, head] = weights[head] @ v[head]
        self.weights.append(weights)
        return out.reshape(n, heads * dim)


def bert(config: dict[str, Any], t: Tensors, ids: list[int], trace: Trace) -> None:
    eps, dim = config["layer_norm_eps"], config["hidden_size"] // config["num_attention_heads"]
    act = ACTIVATIONS[config["hidden_act"]]

    def linear(y: Array, name: str) -> Array:
        return y @ t[f"{name}.weight"].T + t[f"{name}.bias"]

    def norm(y: Array, name: str) -> Array:
        return layer_norm(y, t[f"{name}.LayerNorm.weight"], t[f"{name}.LayerNorm.bias"], eps)

    x = t["embeddings.word_embeddings.weight"][ids]
    x = x + t["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(x + t["embeddings.token_type_embeddings.weight"][0], "embeddings")
    for layer in range(config["num_hidden_layers"]):
        trace.states.append(x)
        at = f"encoder.layer.{layer}."
        q, k, v = (
            split_heads(linear(x, f"{at}attention.self.{name}"), dim)
            for name in ("query", "key", "value")
        )
        mixed = linear(trace.attention(q, k, v, None), f"{at}attention.output.dense")
        x = norm(x + mixed, f"{at}attention.output")
        inner = act(linear(x, f"{at}intermediate.dense"))
        x = norm(x + linear(inner, f"{at}output.dense"), f"{at}output")
    trace.states += [x, x]


def modernbert(config: dict[str, Any], t: Tensors, ids: list[int], trace: Trace) -> None:
    eps, dim = config["norm_eps"], config["hidden_size"] // config["num_attention_heads"]
    act = ACTIVATIONS[config["hidden_activation"]]

    def norm(y: Array, name: str) -> Array:
        return layer_norm(y, t[f"{name}.weight"], np.zeros(y.shape[-1]), eps)

    x = norm(t["embeddings.tok_embeddings.weight"][ids], "embeddings.norm")
    for layer in range(config["num_hidden_layers"]):
        trace.states.append(x)
        at = f"layers.{layer}."
        everywhere = layer % config["global_attn_every_n_layers"] == 0
        theta = config["global_rope_theta" if everywhere else "local_rope_theta"]
        freq = inverse_frequencies({"rope_theta": theta}, dim)
        h = x if layer == 0 else norm(x, f"{at}attn_norm")
        q, k, v = (
            split_heads(part, dim) for part in np.split(h @ t[f"{at}attn.Wqkv.weight"].T, 3, -1)
        )
        reach = None if everywhere else config["local_attention"] // 2
        mixed = trace.attention(rotate(q, freq), rotate(k, freq), v, reach)
        x = x + mixed @ t[f"{at}attn.Wo.weight"].T
        gate, up = np.split(norm(x, f"{at}mlp_norm") @ t[f"{at}mlp.Wi.weight"].T, 2, -1)
        x = x + (act(gate) * up) @ t[f"{at}mlp.Wo.weight"].T
    trace.states += [x, norm(x, "final_norm")]


def traced(folder: Path, ids: list[int]) -> Trace:
    """Return all that goes through the layers for ``ids``."""
    config, tensors = load(folder)
    trace = Trace()
    (bert if config["model_type"] == "bert" else modernbert)(config, tensors, ids, trace)
    return trace


def hidden(folder: Path, ids: list[int]) -> Array:
    """Return the final hidden states of ``ids``: float64 [n, hidden_size]."""
    return traced(folder, ids).states[-1]


def vector(folder: Path, ids: list[int], pooling: str = "mean") -> Array:
    """Return the vector of a text: float64 [hidden_size], of length 1."""
    rows = hidden(folder, ids)
    pooled = {"mean": rows.mean(0), "cls": rows[0], "last": rows[-1]}[pooling]
    return pooled / np.linalg.norm(pooled)


if __name__ == "__main__":
    print(vector(Path(sys.argv[1]), [int(arg) for arg in sys.argv[2:]]))
