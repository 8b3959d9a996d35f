"""Write random models made by transformers, in the shapes and with the options cacher supports.

    python tests/models/make_random.py FOLDER [NAME...]     # default: all; writes FOLDER/<name>/

Needs torch and transformers (``make parity`` installs them).  Seeds are fixed.  Initial weights are
larger than usual: with the default of 0.02 small models give logits near zero, and any mistake
would pass.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import transformers

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
    "rope_theta": 10000.0,
}
LINEAR_ROPE = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}

SMALL: dict[str, Any] = {
    "vocab_size": 1003,
    "hidden_size": 96,
    "intermediate_size": 200,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.15,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": None,
}
GPT2: dict[str, Any] = {"initializer_range": 0.06}

# name -> (configuration class, its options, dtype of the file)
MODELS: dict[str, tuple[str, dict[str, Any], str]] = {
    "gpt2-124m": ("GPT2Config", GPT2, "float32"),
    "smollm-135m": (
        "LlamaConfig",
        SMALL
        | {
            "vocab_size": 49152,
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "max_position_embeddings": 2048,
            "tie_word_embeddings": True,
            "initializer_range": 0.06,
        },
        "float32",
    ),
    "gpt2-odd": (
        "GPT2Config",
        {
            "n_embd": 90,
            "n_layer": 2,
            "n_head": 3,
            "n_positions": 300,
            "vocab_size": 777,
            "initializer_range": 0.15,
        },
        "float32",
    ),
    "gpt2-relu-untied": (
        "GPT2Config",
        {
            "n_embd": 64,
            "n_layer": 2,
            "n_head": 4,
            "n_inner": 100,
            "n_positions": 300,
            "vocab_size": 500,
            "activation_function": "relu",
            "tie_word_embeddings": False,
            "initializer_range": 0.15,
        },
        "float32",
    ),
    "gpt2-silu": (
        "GPT2Config",
        {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 300, "vocab_size": 500}
        | {"activation_function": "silu", "initializer_range": 0.15},
        "float32",
    ),
    "relu-gated": ("LlamaConfig", SMALL | {"hidden_act": "relu"}, "float32"),
    "mistral-window": ("MistralConfig", SMALL | {"sliding_window": 37}, "float32"),
    "qwen2": ("Qwen2Config", SMALL | {"tie_word_embeddings": True}, "float32"),
    "qwen3": ("Qwen3Config", SMALL | {"head_dim": 32}, "float32"),
    "tied": ("LlamaConfig", SMALL | {"tie_word_embeddings": True}, "float32"),
    "mha": ("LlamaConfig", SMALL | {"num_key_value_heads": 4}, "float32"),
    "mqa": ("LlamaConfig", SMALL | {"num_key_value_heads": 1}, "float32"),
    "head-dim-free": ("LlamaConfig", SMALL | {"head_dim": 40}, "float32"),
    "head-dim-odd": ("LlamaConfig", SMALL | {"hidden_size": 88}, "float32"),
    "rope-linear": ("LlamaConfig", SMALL | {"rope_parameters": LINEAR_ROPE}, "float32"),
    "rope-llama3": ("LlamaConfig", SMALL | {"rope_parameters": LLAMA3_ROPE}, "float32"),
    "rope-theta": (
        "LlamaConfig",
        SMALL | {"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}},
        "float32",
    ),
    "attention-bias": ("LlamaConfig", SMALL | {"attention_bias": True}, "float32"),
    "mlp-bias": ("LlamaConfig", SMALL | {"mlp_bias": True}, "float32"),
    "gelu-gated": ("LlamaConfig", SMALL | {"hidden_act": "gelu_pytorch_tanh"}, "float32"),
    "gelu-erf-gated": ("LlamaConfig", SMALL | {"hidden_act": "gelu"}, "float32"),
    "bf16": ("LlamaConfig", SMALL, "bfloat16"),
    "f16": ("LlamaConfig", SMALL, "float16"),
    "sharded": ("LlamaConfig", SMALL, "float32"),
}

# Sequence classifiers: name -> the same.  transformers pads where pad_token_id says.
LABELS = {"num_labels": 5, "pad_token_id": 7}
CLASSIFIERS: dict[str, tuple[str, dict[str, Any], str]] = {
    "gpt2-labels": (
        "GPT2Config",
        {"n_embd": 90, "n_layer": 3, "n_head": 3, "n_positions": 300, "vocab_size": 777}
        | {"initializer_range": 0.15}
        | LABELS,
        "float32",
    ),
    "gpt2-reward": (
        "GPT2Config",
        {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 300, "vocab_size": 500}
        | {"initializer_range": 0.15, "num_labels": 1},
        "float32",
    ),
    "llama-labels": ("LlamaConfig", SMALL | LABELS, "float32"),
    "llama-two": ("LlamaConfig", SMALL | {"tie_word_embeddings": True}, "bfloat16"),
    "llama-reward": ("LlamaConfig", SMALL | LABELS | {"num_labels": 1}, "float32"),
    "mistral-labels": ("MistralConfig", SMALL | LABELS | {"sliding_window": 37}, "float32"),
    "qwen2-labels": ("Qwen2Config", SMALL | LABELS | {"tie_word_embeddings": True}, "float32"),
    "qwen3-reward": ("Qwen3Config", SMALL | {"head_dim": 32, "num_labels": 1}, "float32"),
}

# BERT's shapes are those of MiniLM, BGE-small and BGE-base, ModernBERT's those of its base size.
ENCODERS: dict[str, tuple[str, dict[str, Any], str]] = {
    "bert-minilm": (
        "BertConfig",
        {
            "hidden_size": 384,
            "intermediate_size": 1536,
            "num_hidden_layers": 6,
            "num_attention_heads": 12,
            "initializer_range": 0.06,
        },
        "float32",
    ),
    "bert-base": ("BertConfig", {"initializer_range": 0.04}, "float32"),
    "bert-small": (
        "BertConfig",
        {
            "vocab_size": 1003,
            "hidden_size": 100,
            "intermediate_size": 200,
            "num_hidden_layers": 3,
            "num_attention_heads": 5,
            "max_position_embeddings": 512,
            "type_vocab_size": 1,
            "hidden_act": "relu",
            "initializer_range": 0.15,
        },
        "float16",
    ),
    "modernbert-base": ("ModernBertConfig", {"initializer_range": 0.04}, "float32"),
    "modernbert-biases": (
        "ModernBertConfig",
        {
            "vocab_size": 1003,
            "hidden_size": 96,
            "intermediate_size": 100,
            "num_hidden_layers": 5,
            "num_attention_heads": 4,
            "max_position_embeddings": 512,
            "local_attention": 14,
            "norm_bias": True,
            "attention_bias": True,
            "mlp_bias": True,
            "layer_types": ["full_attention", "sliding_attention"] * 2 + ["full_attention"],
            "initializer_range": 0.15,
            "bos_token_id": 0,
            "cls_token_id": 0,
            "eos_token_id": 1,
            "sep_token_id": 1,
            "pad_token_id": 2,
        },
        "bfloat16",
    ),
}


def randomise_vectors(model: torch.nn.Module) -> None:
    """Replace the zeros of biases and ones of norms, which would hide one that is not applied."""
    for name, value in model.named_parameters():
        if value.ndim == 1:
            centre = 1.0 if name.endswith("weight") else 0.0
            value.data.normal_(centre, 0.2)


def make_random(name: str, folder: Path) -> Path:
    """Write model ``name`` of those above below ``folder``, unless it is there.

    Returns its folder.
    """
    kind, options, dtype = (MODELS | CLASSIFIERS | ENCODERS)[name]
    target = folder / name
    if (target / "config.json").exists():
        return target
    torch.manual_seed(20260102)
    config = getattr(transformers, kind)(**options)
    auto = "AutoModelForSequenceClassification" if name in CLASSIFIERS else "AutoModelForCausalLM"
    auto = "AutoModel" if name in ENCODERS else auto
    model = getattr(transformers, auto).from_config(config)
    randomise_vectors(model)
    shard = "100KB" if name == "sharded" else "5GB"
    model.to(getattr(torch, dtype)).save_pretrained(target, max_shard_size=shard)
    return target


if __name__ == "__main__":
    for model_name in sys.argv[2:] or MODELS | CLASSIFIERS | ENCODERS:
        print(make_random(model_name, Path(sys.argv[1])))
