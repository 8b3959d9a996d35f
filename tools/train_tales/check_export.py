"""Check the exported folder against `transformers`, without a network.

python check_export.py --model cacher/models/tales
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported

import torch
from config import MODEL, TOKENIZER
from evaluate import load_model
from tokenizers import Tokenizer
from transformers import AutoTokenizer, LlamaForCausalLM

MAX_BYTES = 12_000_000
TEXTS = (
    "Once upon a time",
    'Peter said, "Oh!"\n\nThen he ran home.',
    "Not in the books: caf\u00e9, \u4e2d\u6587, \U0001f600, 12345\t\r\n  ",
    "<|endoftext|>Hello world",
)


def check_tokenizer(folder: Path) -> None:
    """Both tokenizers agree, lose nothing, and add nothing."""
    theirs = AutoTokenizer.from_pretrained(folder)
    ours = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text in TEXTS:
        ids = ours.encode(text).ids
        assert theirs.encode(text) == ids, text
        assert ours.decode(ids, skip_special_tokens=False) == text, text
    for word in TOKENIZER.wanted_words:
        assert len(ours.encode(word).ids) == 1, word
    for byte in range(256):  # every byte has a token, so any text has an encoding
        assert ours.encode(chr(byte)).ids, byte
    assert theirs.bos_token_id == theirs.eos_token_id == 0


@torch.inference_mode()
def check_logits(folder: Path) -> None:
    """`transformers` computes the same logits over the whole context."""
    theirs = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(MODEL.vocab_size, (1, MODEL.max_position_embeddings), generator=generator)
    difference = (theirs(ids).logits - load_model(folder)(ids)).abs().max().item()
    print(f"largest difference of a logit: {difference:.2e}")
    assert difference < 1e-3


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("cacher/models/tales"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    size = sum(file.stat().st_size for file in args.model.iterdir())
    assert size <= MAX_BYTES, size
    check_tokenizer(args.model)
    check_logits(args.model)
    print(f"{args.model}: all well, {size} bytes")


if __name__ == "__main__":
    main()
