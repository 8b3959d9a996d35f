"""``make bench-branches``: 64 branches of a prefix of 2,000 tokens, whose pages a step reads once.

Beside them the same 64 sequences with pages of their own (each under a cache salt, so that nothing
is shared) and 64 sequences with next to no prefix.  What a step takes longer than theirs is its
attention.  Steps of all three are timed in turns; what was drawn must be equal.  The models are
random, with the heads of GPT-2 (each has keys and values) and of SmolLM-135M (three read the same),
and with few layers, as 64 prefixes of all of them would fill the memory.  The last line is
``worst ratio R (cell)``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from cells import Cell

import cacher
from cacher.state import State

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.models.make_tiny import CONFIGS, tensor_shapes, write_safetensors

PREFIX, BRANCHES = 2000, 64
STEPS = 4  # of a turn
SHAPES = {
    "12 heads": {
        "hidden_size": 768,
        "intermediate_size": 2048,
        "num_attention_heads": 12,
        "num_key_value_heads": 12,
        "num_hidden_layers": 2,
    },
    "9 heads, 3 of keys": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "num_hidden_layers": 4,
    },
}


def load(shape: str, folder: Path) -> cacher.Model:
    """Write a random model of this shape and open it."""
    config = CONFIGS["mistral"] | SHAPES[shape]
    config |= {"vocab_size": 1000, "max_position_embeddings": 4096, "sliding_window": None}
    config["eos_token_id"] = None
    rng = np.random.default_rng(1)
    tensors = {
        name: np.ones(size, np.float32)
        if len(size) == 1
        else (0.02 * rng.standard_normal(size, np.float32))  # as trained models are begun
        for name, size in tensor_shapes(config).items()
    }
    (folder / "config.json").write_text(json.dumps(config))
    write_safetensors(folder / "model.safetensors", tensors)
    return cacher.load(folder, kv_budget=16 * 2**30)


def grow(model: cacher.Model, states: list[State]) -> tuple[float, list[list[int]]]:
    """Return the seconds of a step of these states, and what each drew."""
    params = [{"temperature": 1.0, "seed": i} for i in range(len(states))]
    started = time.perf_counter()
    drawn = model.generate_all(states, STEPS, params)
    took = (time.perf_counter() - started) / STEPS
    return took, [generation.token_ids for generation in drawn]


def measure(shape: str, threads: list[int], reps: int) -> list[Cell]:
    """Return the cells of one shape: attention alone and the whole step, in milliseconds."""
    config = {"store_logits": "none", "context_size": 4096}
    prompt = [5 + i * 7 % 900 for i in range(PREFIX)]
    cells: list[Cell] = []
    with tempfile.TemporaryDirectory() as folder:
        model = load(shape, Path(folder))
        trunk = model.state(prompt, config=config)
        trunk.forward()
        salts = [str(i) for i in range(BRANCHES)]
        kinds = {
            "branches": [trunk.fork() for _ in salts],
            "apart": [model.state(prompt, config=config, cache_salt=salt) for salt in salts],
            "short": [model.state(prompt[:16], config=config, cache_salt=salt) for salt in salts],
        }
        for count in threads:
            model.set_threads(count)
            where = f"{shape}, {count} {'thread' if count == 1 else 'threads'}"
            cells += compare(model, kinds, where, reps)
    return cells


def compare(
    model: cacher.Model, kinds: dict[str, list[State]], where: str, reps: int
) -> list[Cell]:
    """Return the cells of some number of threads; the first round also reads prompts."""
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for rep in range(reps + 1):
        drawn = {}
        for kind, states in kinds.items():
            took, drawn[kind] = grow(model, states)
            if rep > 0:
                seconds[kind].append(took)
        if drawn["branches"] != drawn["apart"]:
            raise RuntimeError("branches draw other tokens than the same sequences apart")
    step = {kind: 1e3 * statistics.median(values) for kind, values in seconds.items()}
    attention = (step[kind] - step["short"] for kind in ("branches", "apart"))
    return [
        Cell(f"attention, {where}", "ms", *attention, 6, False),
        Cell(f"step, {where}", "ms", step["branches"], step["apart"], 1, False),
    ]


def main() -> None:
    """Measure what the arguments name; print every cell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, action="append")
    parser.add_argument("--threads", type=int, action="append")
    parser.add_argument("--reps", type=int, default=7)
    args = parser.parse_args()
    cells: list[Cell] = []
    for shape in args.shape or SHAPES:
        found = measure(shape, args.threads or [1, 2], args.reps)
        cells += found
        print(*found, sep="\n", flush=True)
    worst = min(
        (cell for cell in cells if cell.what.startswith("attention")), key=lambda c: c.ratio
    )
    print(f"worst ratio {worst.ratio:.2f} ({worst.what})")


if __name__ == "__main__":
    main()
