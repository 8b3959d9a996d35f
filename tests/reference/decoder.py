"""A slow decoder in float64 NumPy, written from the papers: what cacher's forward pass must equal.

    python tests/reference/decoder.py FOLDER ID [ID...]     # the five best next tokens and logits

It shares no code with cacher: it reads config.json and the safetensors files itself and keeps no
cache; every call computes all positions of one sequence.  Families: GPT-2, and Llama with the
options of Mistral, Qwen2 and Qwen3.  Rotary angles are taken in float32 on purpose: the models were
trained with, and are judged by, those angles.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray
Tensors = dict[str, Array]


# ---- files --------------------------------------------------------------------------------------


def read_safetensors(path: Path) -> Tensors:
    """Read all tensors of one file as float64."""
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    tensors = {}
    for name, entry in json.loads(raw[8 : 8 + size]).items():
        if name == "__metadata__":
            continue
        first, last = (8 + size + offset for offset in entry["data_offsets"])
        tensors[name] = _decode(raw[first:last], entry["dtype"]).reshape(entry["shape"])
    return tensors


def _decode(data: bytes, dtype: str) -> Array:
    if dtype == "BF16":  # the upper half of a float32
        halves = np.frombuffer(data, np.uint16).astype(np.uint32)
        return (halves << 16).view(np.float32).astype(np.float64)
    return np.frombuffer(data, {"F32": np.float32, "F16": np.float16}[dtype]).astype(np.float64)


def load(folder: Path) -> tuple[dict[str, Any], Tensors]:
    """Return the configuration and all tensors of a model folder, shards included."""
    tensors: Tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors |= read_safetensors(path)
    tensors = {name.removeprefix("transformer."): value for name, value in tensors.items()}
    return json.loads((folder / "config.json").read_text()), tensors


# ---- the parts of a block -----------------------------------------------------------------------


def layer_norm(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * weight + bias


def rms_norm(x: Array, weight: Array, eps: float) -> Array:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * weight


def softmax(x: Array) -> Array:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def erf_gelu(x: Array) -> Array:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def tanh_gelu(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": erf_gelu,
    "gelu_new": tanh_gelu,
    "gelu_pytorch_tanh": tanh_gelu,
    "relu": lambda x: np.maximum(x, 0),
}


def attention(q: Array, k: Array, v: Array, window: int | None) -> Array:
    """Attend causally: q [heads, n, dim] over k, v [kv_heads, n, dim] gives [n, heads * dim]."""
    heads, n, dim = q.shape
    group = heads // k.shape[0]
    query, key = np.arange(n)[:, None], np.arange(n)[None, :]
    hidden = key > query
    if window:
        hidden |= key <= query - window
    out = np.empty((n, heads, dim))
    for head in range(heads):
        scores = q[head] @ k[head // group].T / math.sqrt(dim)
        out[:, head] = softmax(np.where(hidden, -np.inf, scores)) @ v[head // group]
    return out.reshape(n, heads * dim)


def split_heads(x: Array, dim: int) -> Array:
    return x.reshape(len(x), -1, dim).transpose(1, 0, 2)


# ---- rotary positions ---------------------------------------------------------------------------


def inverse_frequencies(config: dict[str, Any], dim: int) -> Array:
    """Return the angle per position of each pair of channels, float32."""
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    theta = np.float32(rope.get("rope_theta") or config.get("rope_theta") or 10000.0)
    exponents = np.arange(0, dim, 2, dtype=np.float32) / np.float32(dim)
    freq = np.float32(1) / np.power(theta, exponents, dtype=np.float32)
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "linear":
        return freq / np.float32(rope["factor"])
    if kind != "llama3":
        return freq
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    turns = rope["original_max_position_embeddings"] * freq / np.float32(2 * math.pi)
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return ((1 - smooth) * freq / rope["factor"] + smooth * freq).astype(np.float32)


def rotate(x: Array, freq: Array) -> Array:
    """Rotate channel pairs (i, i + dim / 2) of x [heads, n, dim] by position * freq[i]."""
    angles = (np.arange(x.shape[1], dtype=np.float32)[:, None] * freq).astype(np.float64)
    cos, sin = np.cos(angles), np.sin(angles)
    a, b = np.split(x, 2, axis=-1)
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


# ---- the families -------------------------------------------------------------------------------


def gpt2_logits(config: dict[str, Any], t: Tensors, ids: list[int]) -> Array:
    eps, dim = config["layer_norm_epsilon"], config["n_embd"] // config["n_head"]
    act = ACTIVATIONS[config["activation_function"]]
    x = t["wte.weight"][ids] + t["wpe.weight"][: len(ids)]
    for layer in range(config["n_layer"]):

        def linear(y: Array, name: str, at: str = f"h.{layer}.") -> Array:
            return y @ t[f"{at}{name}.weight"] + t[f"{at}{name}.bias"]

        def norm(y: Array, name: str, at: str = f"h.{layer}.") -> Array:
            return layer_norm(y, t[f"{at}{name}.weight"], t[f"{at}{name}.bias"], eps)

        q, k, v = (
            split_heads(part, dim)
            for part in np.split(linear(norm(x, "ln_1"), "attn.c_attn"), 3, -1)
        )
        x = x + linear(attention(q, k, v, None), "attn.c_proj")
        x = x + linear(act(linear(norm(x, "ln_2"), "mlp.c_fc")), "mlp.c_proj")
    x = layer_norm(x, t["ln_f.weight"], t["ln_f.bias"], eps)
    return x @ t.get("score.weight", t.get("lm_head.weight", t["wte.weight"])).T


def llama_logits(config: dict[str, Any], t: Tensors, ids: list[int]) -> Array:
    eps, heads = config["rms_norm_eps"], config["num_attention_heads"]
    dim = config.get("head_dim") or config["hidden_size"] // heads
    act, freq = ACTIVATIONS[config["hidden_act"]], inverse_frequencies(config, dim)
    windowed = config["model_type"] == "mistral" or config.get("use_sliding_window", False)
    window = config.get("sliding_window") if windowed else None
    x = t["model.embed_tokens.weight"][ids]
    for layer in range(config["num_hidden_layers"]):

        def linear(y: Array, name: str, at: str = f"model.layers.{layer}.") -> Array:
            return y @ t[f"{at}{name}.weight"].T + t.get(f"{at}{name}.bias", 0.0)

        def norm(y: Array, name: str, at: str = f"model.layers.{layer}.") -> Array:
            weight = t.get(f"{at}{name}.weight")
            return y if weight is None else rms_norm(y, weight, eps)

        h = norm(x, "input_layernorm")
        q = rotate(norm(split_heads(linear(h, "self_attn.q_proj"), dim), "self_attn.q_norm"), freq)
        k = rotate(norm(split_heads(linear(h, "self_attn.k_proj"), dim), "self_attn.k_norm"), freq)
        v = split_heads(linear(h, "self_attn.v_proj"), dim)
        x = x + linear(attention(q, k, v, window), "self_attn.o_proj")
        h = norm(x, "post_attention_layernorm")
        x = x + linear(act(linear(h, "mlp.gate_proj")) * linear(h, "mlp.up_proj"), "mlp.down_proj")
    x = rms_norm(x, t["model.norm.weight"], eps)
    tied = config.get("tie_word_embeddings", False)
    output = "model.embed_tokens.weight" if tied else "lm_head.weight"
    return x @ t["score.weight" if "score.weight" in t else output].T


def logits(folder: Path, ids: list[int]) -> Array:
    """Return the logits after each of ``ids``: float64 [n, vocab], of a classifier [n, labels]."""
    config, tensors = load(folder)
    family = gpt2_logits if config["model_type"] == "gpt2" else llama_logits
    return family(config, tensors, ids)


if __name__ == "__main__":
    last = logits(Path(sys.argv[1]), [int(arg) for arg in sys.argv[2:]])[-1]
    for token in np.argsort(-last, kind="stable")[:5]:
        print(f"{token:6d} {last[token]:.6f}")
