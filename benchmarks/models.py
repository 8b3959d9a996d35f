"""Random-initialised models of real shapes for the benchmarks, written once into build/bench."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "bench"

sys.path.insert(0, str(ROOT))
from tests.models.make_tiny import tensor_shapes, write_safetensors  # noqa: E402

GPT2 = "gpt2-124m"
SMOLLM = "smollm-135m"
NO_SPECIAL = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
CONFIGS: dict[str, dict[str, Any]] = {
    GPT2: NO_SPECIAL
    | {
        "model_type": "gpt2",
        "vocab_size": 50257,
        "n_embd": 768,
        "n_layer": 12,
        "n_head": 12,
        "n_positions": 1024,
        "layer_norm_epsilon": 1e-5,
        "activation_function": "gelu_new",
    },
    SMOLLM: NO_SPECIAL
    | {
        "model_type": "llama",
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "head_dim": 64,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
    },
}
NAMES = tuple(CONFIGS)
VOCAB = {name: config["vocab_size"] for name, config in CONFIGS.items()}
# Weights of the matrices of all layers, and of the output matrix: what a token reads.
LAYERS = {
    GPT2: 12 * (768 * 2304 + 768 * 768 + 2 * 768 * 3072),
    SMOLLM: 30 * (576 * 960 + 576 * 576 + 3 * 576 * 1536),
}
HEAD = {GPT2: 768 * VOCAB[GPT2], SMOLLM: 576 * VOCAB[SMOLLM]}
# Multiply-adds of attention over a causal prompt of n tokens: layers x query width x n^2
# (scores and mix, half of each).
ATTENTION = {GPT2: 12 * 768, SMOLLM: 30 * 576}
WEIGHT_BYTES = {"f32": 4, "bf16": 2, "int8": 1}  # without the scales of int8


def decode_bytes(name: str, dtype: str) -> float:
    """Bytes of weights read for one token at batch 1."""
    return float(WEIGHT_BYTES[dtype]) * (LAYERS[name] + HEAD[name])


def prefill_flops(name: str, tokens: int) -> float:
    """Operations to read a prompt and give the logits of its last token."""
    return 2.0 * (LAYERS[name] * tokens + HEAD[name] + ATTENTION[name] * tokens**2)


def folder(name: str) -> Path:
    """Return the model's folder in the hub's layout, f32; writes it when it is not there yet."""
    target = FOLDER / name
    if not (target / "config.json").exists():
        target.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(0)
        shapes = tensor_shapes(CONFIGS[name])
        tensors = {tensor: _random(tensor, shape, rng) for tensor, shape in shapes.items()}
        write_safetensors(target / "model.safetensors", tensors)
        (target / "config.json").write_text(json.dumps(CONFIGS[name], indent=1))
    return target


def _random(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Return values as models of these families are initialised; norms and biases vary, too."""
    values = 0.02 * rng.standard_normal(shape, dtype=np.float32)
    return values + np.float32(1) if len(shape) == 1 and name.endswith("weight") else values
