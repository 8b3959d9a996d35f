"""The niels-gpt architecture in float64 NumPy, from its description: what cacher must equal.

It shares no code with cacher and keeps no cache: every call computes all positions of one window.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from tests.models.niels import Size
from tests.reference.decoder import ACTIVATIONS, Array, layer_norm, rms_norm, softmax, split_heads


def rotate(x: Array, theta: float) -> Array:
    """Rotate neighbouring channel pairs (2i, 2i + 1) of x [heads, n, dim]."""
    _, n, dim = x.shape
    angles = np.arange(n)[:, None] * theta ** (-np.arange(0, dim, 2) / dim)
    cos, sin = np.cos(angles), np.sin(angles)
    out = np.empty_like(x)
    even, odd = x[..., 0::2], x[..., 1::2]
    out[..., 0::2] = even * cos - odd * sin
    out[..., 1::2] = even * sin + odd * cos
    return out


def forward(
    weights: Mapping[str, Array], size: Size, ids: list[int], theta: float = 10000.0
) -> tuple[Array, Array]:
    """Return logits [t, V] and attention [L, H, t, t] of a window of at most T ids."""
    w = {name: np.asarray(value, np.float64) for name, value in weights.items()}
    first = "blocks.0.mlp.fc1.weight" in w
    n, dim = len(ids), size.C // size.H

    def norm(x: Array, name: str) -> Array:
        if first:
            return layer_norm(x, w[f"{name}.weight"], w[f"{name}.bias"], 1e-5)
        return rms_norm(x, w[f"{name}.weight"], 1e-5)

    def linear(x: Array, name: str) -> Array:
        return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0.0)

    def mlp(x: Array, at: str) -> Array:
        if first:
            return linear(ACTIVATIONS["gelu"](linear(x, f"{at}.fc1")), f"{at}.fc2")
        gate = ACTIVATIONS["silu"](linear(x, f"{at}.fc_g"))
        return linear(gate * linear(x, f"{at}.fc_a"), f"{at}.fc_out")

    attention = np.empty((size.L, size.H, n, n))
    h = w["tok_emb.weight"][ids]
    for i in range(size.L):
        qkv = linear(norm(h, f"blocks.{i}.ln1"), f"blocks.{i}.attn.qkv")
        q, k, v = (split_heads(part, dim) for part in np.split(qkv, 3, -1))
        scores = rotate(q, theta) @ rotate(k, theta).transpose(0, 2, 1) / math.sqrt(dim)
        attention[i] = softmax(np.where(np.triu(np.ones((n, n), bool), 1), -np.inf, scores))
        joined = (attention[i] @ v).transpose(1, 0, 2).reshape(n, size.C)
        h = h + linear(joined, f"blocks.{i}.attn.proj")
        h = h + mlp(norm(h, f"blocks.{i}.ln2"), f"blocks.{i}.mlp")
    return norm(h, "ln_f") @ w["tok_emb.weight"].T, attention


def greedy(weights: Mapping[str, Array], size: Size, ids: list[int], n: int) -> list[int]:
    """Return ``n`` greedy tokens after ``ids``; a step reads the last T from position 0."""
    seen = list(ids)
    for _ in range(n):
        logits, _ = forward(weights, size, seen[-size.T :])
        seen.append(int(np.argmax(logits[-1])))
    return seen[len(ids) :]
