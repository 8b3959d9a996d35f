"""A model folder as a GGUF file, so that llama.cpp has the very same weights.

Needs the package gguf; the benchmarks run it in the peer's environment:
``python benchmarks/gguf_model.py FOLDER OUT f32|f16|bf16|q8_0``.  Knows gpt2 and llama, with the
output matrix tied to the embedding; without a tokenizer.json the file has no vocabulary, only ids.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np

LLAMA = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "model.embed_tokens": "token_embd", "model.norm": "output_norm",
}  # fmt: skip
GPT2 = {
    "ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
    "wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm",
}  # fmt: skip
KINDS = {
    "f32": gguf.LlamaFileType.ALL_F32, "f16": gguf.LlamaFileType.MOSTLY_F16,
    "bf16": gguf.LlamaFileType.MOSTLY_BF16, "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
}  # fmt: skip


def tensors(path: Path) -> dict[str, np.ndarray]:
    """Read a safetensors file of bf16 or f32 tensors as float32."""
    data = path.read_bytes()
    n_header = int.from_bytes(data[:8], "little")
    found = {}
    for name, about in json.loads(data[8 : 8 + n_header]).items():
        if name == "__metadata__":
            continue
        first, last = (8 + n_header + at for at in about["data_offsets"])
        if about["dtype"] == "BF16":
            bits = np.frombuffer(data[first:last], np.uint16).astype(np.uint32) << 16
            values = bits.view(np.float32)
        else:
            values = np.frombuffer(data[first:last], np.float32)
        found[name] = values.reshape(about["shape"])
    return found


def interleaved(weights: np.ndarray, n_heads: int) -> np.ndarray:
    """Reorder rows for rotary embeddings of neighbouring pairs, which llama.cpp uses."""
    halves = weights.reshape(n_heads, 2, -1, weights.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weights.shape))


def add_sizes(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    """Write the hyper-parameters."""
    if config["model_type"] == "gpt2":
        writer.add_context_length(config["n_positions"])
        writer.add_embedding_length(config["n_embd"])
        writer.add_block_count(config["n_layer"])
        writer.add_feed_forward_length(4 * config["n_embd"])
        writer.add_head_count(config["n_head"])
        writer.add_layer_norm_eps(config["layer_norm_epsilon"])
        return
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])


def renamed(name: str, values: np.ndarray, config: dict[str, Any]) -> tuple[str, np.ndarray]:
    """Return a tensor as llama.cpp wants it: its name, and [outputs, inputs]."""
    base, end = name.rsplit(".", 1)
    number, _, part = base.removeprefix("model.layers.").removeprefix("h.").partition(".")
    is_layer = number.isdigit()
    part = part if is_layer else base
    if config["model_type"] == "gpt2":
        new = GPT2[part]
        if ".c_" in name and values.ndim == 2:
            values = np.ascontiguousarray(values.T)
    else:
        new = LLAMA[part]
        heads = {"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"}
        if new in heads:
            values = interleaved(values, config[heads[new]])
    return f"blk.{number}.{new}.{end}" if is_layer else f"{new}.{end}", values


def convert(folder: Path, out: Path, kind: str) -> None:
    """Write the GGUF file; vectors and positions stay f32, as llama.cpp has them."""
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(out, "gpt2" if config["model_type"] == "gpt2" else "llama")
    add_sizes(writer, config)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(KINDS[kind])
    if (folder / "tokenizer.json").exists():
        add_tokenizer(writer, folder)
    else:
        writer.add_tokenizer_model("none")
    for name, values in tensors(folder / "model.safetensors").items():
        new, values = renamed(name, values, config)
        is_matrix = values.ndim == 2 and new != "position_embd.weight"
        stored = gguf.GGMLQuantizationType[kind.upper() if is_matrix else "F32"]
        writer.add_tensor(new, gguf.quants.quantize(values, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_tokenizer(writer: gguf.GGUFWriter, folder: Path) -> None:
    """Write the byte-level BPE tokenizer."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    ids = tokenizer["model"]["vocab"]
    special = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    texts = {i: text for text, i in {**ids, **special}.items()}
    normal, control = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([texts[i] for i in range(len(texts))])
    writer.add_token_types([control if texts[i] in special else normal for i in range(len(texts))])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    end = special["<|endoftext|>"]
    writer.add_bos_token_id(end)
    writer.add_eos_token_id(end)
    writer.add_add_bos_token(False)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
