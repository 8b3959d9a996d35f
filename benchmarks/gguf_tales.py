"""The built-in model as a GGUF file, so that llama.cpp serves the very same weights.

Needs the packages gguf and safetensors; the benchmark of the server runs it in the peer's
environment: ``python benchmarks/gguf_tales.py FOLDER OUT``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import gguf
import numpy as np

LAYER = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}  # fmt: skip
TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm"}


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


def convert(folder: Path, out: Path) -> None:
    """Write the GGUF file."""
    config = json.loads((folder / "config.json").read_text())
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    writer = gguf.GGUFWriter(out, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    add_tokenizer(writer, folder)
    for name, values in tensors(folder / "model.safetensors").items():
        base = name.removesuffix(".weight")
        if base in TOP:
            writer.add_tensor(f"{TOP[base]}.weight", values)
            continue
        number, part = base.removeprefix("model.layers.").split(".", 1)
        if part in ("self_attn.q_proj", "self_attn.k_proj"):
            values = interleaved(values, heads if part == "self_attn.q_proj" else kv_heads)
        writer.add_tensor(f"blk.{number}.{LAYER[part]}.weight", values)
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
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
