"""Measure bits per byte on the held-out documents and draw unpicked samples.

    python evaluate.py --model cacher/models/tales --corpus ../shared/corpus --out eval.json

The weights are read from the exported folder, so what is measured is the
bfloat16 model that ships; the arithmetic is float32.
"""

from __future__ import annotations

import argparse
import collections
import json
import math
from pathlib import Path

import torch
from config import MODEL, TOKENIZER
from model import Llama
from prepare import VALID_FILE, read_documents
from safetensors.torch import load_file
from styles import style_of
from tokenizers import Tokenizer
from torch.nn import functional as F

STRIDE = 512  # every token but a document's first ones sees at least this much before it
SAMPLE_PROMPTS = ("Once upon a time", "Peter Rabbit")
SAMPLE_SEEDS = (1, 2, 3, 4)
SAMPLE_TEMPERATURE = 0.7  # with SAMPLE_TOP_P the defaults of a state
SAMPLE_TOP_P = 0.9
SAMPLE_TOKENS = 160


def load_model(folder: Path) -> Llama:
    """Load the exported weights as float32."""
    model = Llama(MODEL)
    weights = load_file(folder / "model.safetensors")
    model.load_state_dict({name: weight.float() for name, weight in weights.items()})
    return model.eval()


def document_bits(model: Llama, ids: list[int]) -> float:
    """Bits that `ids[1:]` cost, each token given at most a full context."""
    bits, scored = 0.0, 1
    while scored < len(ids):
        # The first window covers the whole context; later ones move by STRIDE.
        stop = min(len(ids), scored + (STRIDE if scored > 1 else MODEL.max_position_embeddings))
        start = max(0, stop - 1 - MODEL.max_position_embeddings)
        window = torch.tensor([ids[start:stop]])
        losses = F.cross_entropy(model(window[:, :-1])[0], window[0, 1:], reduction="none")
        bits += losses[scored - start - 1 :].double().sum().item() / math.log(2)
        scored = stop
    return bits


@torch.inference_mode()
def bits_per_byte(model: Llama, tokenizer: Tokenizer, documents: list[str]) -> dict[str, float]:
    """Bits per UTF-8 byte overall and per group of stories.

    A document's closing end-of-text token is scored too, but adds no byte.
    """
    end = tokenizer.token_to_id(TOKENIZER.end_of_text)
    bits: dict[str, float] = collections.defaultdict(float)
    size: dict[str, int] = collections.defaultdict(int)
    for document in documents:
        cost = document_bits(model, [end, *tokenizer.encode(document).ids, end])
        for group in ("all", style_of(document)):
            bits[group] += cost
            size[group] += len(document.encode())
    return {group: round(bits[group] / size[group], 4) for group in bits}


@torch.inference_mode()
def sample(model: Llama, tokenizer: Tokenizer, prompt: str, seed: int) -> str:
    """Continue `prompt`, placed at the start of a document, by sampling."""
    generator = torch.Generator().manual_seed(seed)
    end = tokenizer.token_to_id(TOKENIZER.end_of_text)
    ids = [end, *tokenizer.encode(prompt).ids]
    for _ in range(SAMPLE_TOKENS):
        logits = model(torch.tensor([ids]))[0, -1]
        odds = F.softmax(logits / SAMPLE_TEMPERATURE, dim=-1)
        ranked, order = odds.sort(descending=True, stable=True)
        ranked[ranked.cumsum(0) - ranked >= SAMPLE_TOP_P] = 0.0
        ids.append(int(order[torch.multinomial(ranked, 1, generator=generator)]))
        if ids[-1] == end:
            break
    return tokenizer.decode(ids)  # leaves special tokens out


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("cacher/models/tales"))
    parser.add_argument("--corpus", type=Path, default=Path("../shared/corpus"))
    parser.add_argument("--out", type=Path, help="write the results here for the model card")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = load_model(args.model)
    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    figures = bits_per_byte(model, tokenizer, read_documents(args.corpus / VALID_FILE))
    samples = [
        {"prompt": prompt, "seed": seed, "text": sample(model, tokenizer, prompt, seed)}
        for prompt in SAMPLE_PROMPTS
        for seed in SAMPLE_SEEDS
    ]
    report = json.dumps({"bits_per_byte": figures, "samples": samples}, indent=2) + "\n"
    print(report)
    if args.out:
        args.out.write_text(report, encoding="utf-8")


if __name__ == "__main__":
    main()
