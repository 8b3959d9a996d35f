"""What bf16 and int8 cost in accuracy: a model's perplexity on a text, and how far its logits move.

    .venv/bin/python benchmarks/formats.py TEXT_FILE [MODEL ...]

TEXT_FILE: text the model was not trained on (`.xz` too).  MODEL: as in `cacher.load`, default
"tales"; of a model without a tokenizer the ids are drawn.  Prints a line for each model and format
(of the weights; of keys and values): perplexity over windows of 512 tokens, and the root mean
square of the logits' errors against f32, over that of the f32 logits around their mean.
"""

from __future__ import annotations

import lzma
import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

import cacher
from cacher.facts import Dtype, KVDtype

WINDOW = 512
WINDOWS = 64
RANDOM_WINDOWS = 2
FORMATS: tuple[tuple[Dtype, KVDtype], ...] = (
    ("f32", "f32"), ("bf16", "f32"), ("int8", "f32"), ("f32", "bf16"), ("bf16", "bf16"),
)  # fmt: skip


def windows(model: cacher.Model, text: str) -> list[list[int]]:
    """Return the token ids that are judged."""
    try:
        ids = model.tokenizer.encode(text)
    except cacher.TokenizerError:
        rng = np.random.default_rng(1)
        return rng.integers(0, model.vocab_size, (RANDOM_WINDOWS, WINDOW)).tolist()
    return [ids[i : i + WINDOW] for i in range(0, min(len(ids), WINDOWS * WINDOW) - WINDOW, WINDOW)]


def read(model: cacher.Model, ids: list[int]) -> tuple[np.ndarray, float]:
    """Return the logits [tokens, vocabulary] and the sum of the tokens' log-probabilities."""
    state = model.state(ids)
    logits = state.logits(first=0, n=len(ids)).astype(np.float64)
    return logits, float(state.logprobs()[1:].sum())


def main(name: str, text: str) -> None:
    """Print the lines of one model."""
    models = {form: cacher.load(name, dtype=form[0], kv_dtype=form[1]) for form in FORMATS}
    exact = models[FORMATS[0]]
    losses = dict.fromkeys(FORMATS, 0.0)
    errors = dict.fromkeys(FORMATS, 0.0)
    size = count = 0.0
    for ids in tqdm(windows(exact, text), desc=name, disable=None):
        want, _ = read(exact, ids)
        size += float(np.square(want - want.mean(axis=1, keepdims=True)).sum())
        count += len(ids) - 1
        for form, model in models.items():
            logits, logprob = read(model, ids)
            losses[form] -= logprob
            errors[form] += float(np.square(logits - want).sum())
    base = float(np.exp(losses[FORMATS[0]] / count))
    for form, model in models.items():
        perplexity = float(np.exp(losses[form] / count))
        print(
            f"{name:12} {form[0]:5} KV {form[1]:5} {model.info.weight_bytes / 1e6:7.1f} MB, "
            f"{model.info.page_bytes / 1e3:6.1f} kB a page  "
            f"perplexity {perplexity:.4f} ({100 * (perplexity / base - 1):+.2f}%)  "
            f"logits off by {100 * (errors[form] / size) ** 0.5:.3f}%"
        )


if __name__ == "__main__":
    path = Path(sys.argv[1])
    content = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
    for each in sys.argv[2:] or ["tales"]:
        main(each, content.decode())
