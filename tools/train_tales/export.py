"""Write a checkpoint as a model folder in the layout of the Hugging Face hub.

python export.py --work ../train-work --out cacher/models/tales
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import torch
from card import model_card
from config import MODEL, TOKENIZER
from safetensors.torch import save_file
from tokenizers import Tokenizer


def model_config(end_id: int) -> dict:
    """The contents of config.json."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **dataclasses.asdict(MODEL),
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "initializer_range": 0.02,
        "pretraining_tp": 1,
        "rope_scaling": None,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "bos_token_id": end_id,
        "eos_token_id": end_id,
    }


def generation_config(end_id: int) -> dict:
    """The contents of generation_config.json: how the model reads best."""
    return {
        "bos_token_id": end_id,
        "eos_token_id": end_id,
        "do_sample": True,
        "temperature": 0.7,
        "top_p": 0.95,
        "max_length": MODEL.max_position_embeddings,
    }


def tokenizer_config() -> dict:
    """The contents of tokenizer_config.json."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": MODEL.max_position_embeddings,
        "bos_token": TOKENIZER.end_of_text,
        "eos_token": TOKENIZER.end_of_text,
        "add_bos_token": False,
        "add_eos_token": False,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
    }


def write_json(path: Path, value: dict) -> None:
    """Write readable JSON with a closing newline."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def export(work: Path, out: Path) -> None:
    """Write every file of the model folder."""
    out.mkdir(parents=True, exist_ok=True)
    state = torch.load(work / "checkpoint.pt", weights_only=True)
    weights = {n: w.to(torch.bfloat16).contiguous() for n, w in state["model"].items()}
    # "format" is what transformers looks for before it accepts the file.
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})

    (out / "model.safetensors").chmod(0o644)  # save_file makes it private

    tokenizer = Tokenizer.from_file(str(work / "tokenizer.json"))
    tokenizer.save(str(out / "tokenizer.json"))
    end_id = tokenizer.token_to_id(TOKENIZER.end_of_text)
    write_json(out / "config.json", model_config(end_id))
    write_json(out / "generation_config.json", generation_config(end_id))
    write_json(out / "tokenizer_config.json", tokenizer_config())

    count = sum(w.numel() for w in weights.values())
    (out / "README.md").write_text(
        model_card(count, state["step"], state["seconds"], work), encoding="utf-8"
    )
    size = sum(file.stat().st_size for file in out.iterdir())
    print(f"{out}: {count} weights after step {state['step']}, {size} bytes in all")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder train.py wrote")
    parser.add_argument("--out", type=Path, default=Path("cacher/models/tales"))
    args = parser.parse_args()
    export(args.work, args.out)


if __name__ == "__main__":
    main()
