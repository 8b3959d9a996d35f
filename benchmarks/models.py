"""Random-initialised models of real shapes for the benchmarks, written once into build/bench."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "bench"

GPT2 = "gpt2-124m"
SMOLLM = "smollm-135m"
NAMES = (GPT2, SMOLLM)
VOCAB = {GPT2: 50257, SMOLLM: 49152}
# Weights of the matrices of all layers, and of the output matrix: what a token reads.
LAYERS = {
    GPT2: 12 * (768 * 2304 + 768 * 768 + 2 * 768 * 3072),
    SMOLLM: 30 * (576 * 960 + 576 * 576 + 3 * 576 * 1536),
}
HEAD = {GPT2: 768 * VOCAB[GPT2], SMOLLM: 576 * VOCAB[SMOLLM]}
# Multiply-adds of attention over a causal prompt of n tokens: layers x query width x n^2
# (scores and mix, half of each).
ATTENTION = {GPT2: 12 * 768, SMOLLM: 30 * 576}


def decode_bytes(name: str) -> float:
    """Bytes of f32 weights read for one token at batch 1."""
    return 4.0 * (LAYERS[name] + HEAD[name])


def prefill_flops(name: str, tokens: int) -> float:
    """Floating-point operations to read a prompt and give the logits of its last token."""
    return 2.0 * (LAYERS[name] * tokens + HEAD[name] + ATTENTION[name] * tokens**2)


def _config(name: str) -> Any:
    from transformers import GPT2Config, LlamaConfig

    ids = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    if name == GPT2:
        return GPT2Config(**ids)
    return LlamaConfig(
        vocab_size=VOCAB[SMOLLM],
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=2048,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        **ids,
    )


def folder(name: str) -> Path:
    """Return the model's folder; makes it with torch and transformers when it is not there yet."""
    target = FOLDER / name
    if not (target / "model.safetensors").exists():
        import torch
        from transformers import AutoModelForCausalLM

        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(_config(name), dtype=torch.float32)
        model.generation_config.bos_token_id = None
        model.generation_config.eos_token_id = None
        model.save_pretrained(target)
    return target
