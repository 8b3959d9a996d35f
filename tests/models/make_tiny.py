"""Write tiny random models in the hub's layout: thousands of runs, every code path of a real one.

    python tests/models/make_tiny.py FOLDER    # FOLDER/<name>/{config.json,model.safetensors}

Only NumPy and the standard library; the seed is fixed, so the bytes are always the same.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

VOCAB = 97  # odd on purpose: the last weight panel is padded
CONTEXT = 256

CONFIGS: dict[str, dict[str, Any]] = {
    # Two query heads per KV head, a head size that is not a multiple of 16, query/key norms.
    "qwen3": {
        "model_type": "qwen3",
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 24,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "attention_bias": False,
    },
    "gpt2": {
        "model_type": "gpt2",
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 2,
        "n_positions": CONTEXT,
        "layer_norm_epsilon": 1e-5,
        "activation_function": "gelu_new",
    },
    # A window shorter than the context: early tokens drop out of sight.
    "mistral": {
        "model_type": "mistral",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": CONTEXT,
        "sliding_window": 40,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
    },
}

# The same as classifiers: several labels with names and without, and one output (a reward).
CLASSIFIERS: dict[str, dict[str, Any]] = {
    "gpt2-labels": CONFIGS["gpt2"]
    | {
        "architectures": ["GPT2ForSequenceClassification"],
        "id2label": {"2": "good", "0": "bad", "1": "so so"},
    },
    "mistral-labels": CONFIGS["mistral"]
    | {"architectures": ["MistralForSequenceClassification"], "num_labels": 20},
    "qwen3-reward": CONFIGS["qwen3"]
    | {"architectures": ["Qwen3ForSequenceClassification"], "num_labels": 1, "pad_token_id": 96},
}

# They read a text in both directions and give a vector for it.
ENCODERS: dict[str, dict[str, Any]] = {
    # A head size that is no multiple of 16.
    "bert": {
        "model_type": "bert",
        "hidden_size": 36,
        "intermediate_size": 70,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "max_position_embeddings": CONTEXT,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "hidden_act": "gelu",
    },
    # Windows that are no multiple of a page in all layers but 0 and 3, with other rotary angles.
    "modernbert": {
        "model_type": "modernbert",
        "hidden_size": 32,
        "intermediate_size": 40,
        "num_hidden_layers": 5,
        "num_attention_heads": 2,
        "max_position_embeddings": CONTEXT,
        "local_attention": 10,
        "global_attn_every_n_layers": 3,
        "global_rope_theta": 160000.0,
        "local_rope_theta": 100.0,
        "norm_eps": 1e-5,
        "norm_bias": False,
        "attention_bias": False,
        "mlp_bias": False,
        "hidden_activation": "gelu",
    },
}


def tensor_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the tensors such a model needs, by name."""
    if config["model_type"] in ENCODERS:
        bert = config["model_type"] == "bert"
        return _bert_shapes(config) if bert else _modernbert_shapes(config)
    gpt2 = config["model_type"] == "gpt2"
    shapes = _gpt2_shapes(config) if gpt2 else _llama_shapes(config)
    if "architectures" in config:
        shapes.pop("lm_head.weight", None)
        n_labels = len(config.get("id2label", ())) or config["num_labels"]
        shapes["score.weight"] = (n_labels, config["n_embd" if gpt2 else "hidden_size"])
    return shapes


def _gpt2_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    width = config["n_embd"]
    shapes: dict[str, tuple[int, ...]] = {
        "wte.weight": (config["vocab_size"], width),
        "wpe.weight": (config["n_positions"], width),
    }
    for layer in range(config["n_layer"]):
        at = f"h.{layer}."
        for name, n_in, n_out in (
            ("attn.c_attn", width, 3 * width),
            ("attn.c_proj", width, width),
            ("mlp.c_fc", width, 4 * width),
            ("mlp.c_proj", 4 * width, width),
        ):
            shapes[f"{at}{name}.weight"] = (n_in, n_out)
            shapes[f"{at}{name}.bias"] = (n_out,)
        for name in ("ln_1", "ln_2"):
            shapes[f"{at}{name}.weight"] = shapes[f"{at}{name}.bias"] = (width,)
    shapes["ln_f.weight"] = shapes["ln_f.bias"] = (width,)
    return shapes


def _llama_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    width, inner = config["hidden_size"], config["intermediate_size"]
    head = config.get("head_dim", width // config["num_attention_heads"])
    n_q, n_kv = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config["vocab_size"], width)
    }
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        shapes |= {
            f"{at}self_attn.q_proj.weight": (n_q, width),
            f"{at}self_attn.k_proj.weight": (n_kv, width),
            f"{at}self_attn.v_proj.weight": (n_kv, width),
            f"{at}self_attn.o_proj.weight": (width, n_q),
            f"{at}mlp.gate_proj.weight": (inner, width),
            f"{at}mlp.up_proj.weight": (inner, width),
            f"{at}mlp.down_proj.weight": (width, inner),
            f"{at}input_layernorm.weight": (width,),
            f"{at}post_attention_layernorm.weight": (width,),
        }
        if config["model_type"] == "qwen3":
            shapes[f"{at}self_attn.q_norm.weight"] = (head,)
            shapes[f"{at}self_attn.k_norm.weight"] = (head,)
    shapes["model.norm.weight"] = (width,)
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (config["vocab_size"], width)
    return shapes


def _bert_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    width, inner = config["hidden_size"], config["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (config["vocab_size"], width),
        "embeddings.position_embeddings.weight": (CONTEXT, width),
        "embeddings.token_type_embeddings.weight": (config["type_vocab_size"], width),
    }
    norms = ["embeddings.LayerNorm"]
    for layer in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{layer}."
        for name, n_in, n_out in (
            ("attention.self.query", width, width),
            ("attention.self.key", width, width),
            ("attention.self.value", width, width),
            ("attention.output.dense", width, width),
            ("intermediate.dense", width, inner),
            ("output.dense", inner, width),
        ):
            shapes[f"{at}{name}.weight"] = (n_out, n_in)
            shapes[f"{at}{name}.bias"] = (n_out,)
        norms += [f"{at}attention.output.LayerNorm", f"{at}output.LayerNorm"]
    for name in norms:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (width,)
    shapes["pooler.dense.weight"], shapes["pooler.dense.bias"] = (width, width), (width,)
    return shapes


def _modernbert_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    width, inner = config["hidden_size"], config["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.tok_embeddings.weight": (config["vocab_size"], width),
        "embeddings.norm.weight": (width,),
    }
    for layer in range(config["num_hidden_layers"]):
        at = f"layers.{layer}."
        if layer > 0:
            shapes[f"{at}attn_norm.weight"] = (width,)
        shapes |= {
            f"{at}attn.Wqkv.weight": (3 * width, width),
            f"{at}attn.Wo.weight": (width, width),
            f"{at}mlp_norm.weight": (width,),
            f"{at}mlp.Wi.weight": (2 * inner, width),
            f"{at}mlp.Wo.weight": (width, inner),
        }
    shapes["final_norm.weight"] = (width,)
    return shapes


def random_tensor(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Return float32 values large enough that a mistake shows in every logit."""
    if len(shape) == 1 and name.endswith("weight"):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    scale = 0.1 if name.endswith("bias") else 1.0 if "embed" in name or "wte" in name else 0.25
    return rng.normal(0.0, scale, shape).astype(np.float32)


def write_safetensors(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """Write float32 tensors in the safetensors format: header length, JSON header, data."""
    header, at = {}, 0
    for name, value in tensors.items():
        header[name] = {
            "dtype": "F32",
            "shape": list(value.shape),
            "data_offsets": [at, at + value.nbytes],
        }
        at += value.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    body = b"".join(value.tobytes() for value in tensors.values())
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


def make_tiny(name: str, folder: Path, **changes: Any) -> Path:
    """Write one of the models above, changed, below ``folder``; return its own folder."""
    config = (CONFIGS | CLASSIFIERS | ENCODERS)[name]
    config = config | {"vocab_size": VOCAB, "bos_token_id": 0, "eos_token_id": 1} | changes
    rng = np.random.default_rng(20260101)
    target = folder / name
    target.mkdir(parents=True, exist_ok=True)
    (target / "config.json").write_text(json.dumps(config, indent=1))
    shapes = tensor_shapes(config)
    write_safetensors(
        target / "model.safetensors",
        {tensor: random_tensor(tensor, shape, rng) for tensor, shape in shapes.items()},
    )
    return target


ASCII = ["Ġ" if c == 32 else chr(c) for c in range(32, 127)]


def write_tokenizer(folder: Path, letters: list[str] = ASCII) -> None:
    """Write a tokenizer with a template that puts <s> and </s> around.

    Args:
        folder: The model's.
        letters: 95 bytes as byte-level tokenizers write them, a token each.
    """
    special = {"<s>": 0, "</s>": 1}
    vocab = special | {letter: i for i, letter in enumerate(letters, 2)}
    ends = [{"SpecialToken": {"id": token, "type_id": 0}} for token in special]
    single = [ends[0], {"Sequence": {"id": "A", "type_id": 0}}, ends[1]]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    document = {
        "version": "1.0",
        "added_tokens": [
            {"id": i, "content": token, "special": True} | flags for token, i in special.items()
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": single,
            "pair": [*single, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {
                token: {"id": token, "ids": [i], "tokens": [token]} for token, i in special.items()
            },
        },
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    }
    (folder / "tokenizer.json").write_text(json.dumps(document))


if __name__ == "__main__":
    for model_name in CONFIGS | CLASSIFIERS | ENCODERS:
        print(make_tiny(model_name, Path(sys.argv[1])))
