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
