"""One engine in one process: reads a cell per line on stdin, answers with the seconds it took.

    python benchmarks/worker.py cacher|torch MODEL_FOLDER N_THREADS VOCAB

A process of its own for each engine keeps their thread pools apart: while one is measured, the
other waits on its pipe.  A cell is {"op": "prefill"|"decode"|"beam", "tokens": n, "batch": b}.
"""

from __future__ import annotations

import json
import sys
import time
from abc import ABC, abstractmethod

import numpy as np

PROMPT = 32  # tokens read before decoding is timed


class Engine(ABC):
    """What is measured; every method returns seconds."""

    @abstractmethod
    def prefill(self, ids: np.ndarray) -> float:
        """Read one prompt [n] and give the logits of its last token."""

    @abstractmethod
    def decode(self, ids: np.ndarray, tokens: int) -> float:
        """Decode ``tokens`` greedily for each prompt [batch, n]; reading them is not timed."""

    @abstractmethod
    def beam(self, ids: np.ndarray, tokens: int, beams: int) -> float:
        """Search ``tokens`` deep from one prompt [n], reading it included."""


class Cacher(Engine):
    def __init__(self, folder: str, threads: int) -> None:
        import cacher
        from cacher import _core

        self.core = _core
        self.model = cacher.load(folder, threads=threads)
        self.config = {"store_logits": "none", "temperature": 0.0}

    def _fresh(self, ids: np.ndarray) -> list:
        self.model.drop_cached()
        return [self.model.state(row.tolist(), config=self.config) for row in ids]

    def prefill(self, ids: np.ndarray) -> float:
        (state,) = self._fresh(ids[None])
        started = time.perf_counter()
        state.logits()
        return time.perf_counter() - started

    def decode(self, ids: np.ndarray, tokens: int) -> float:
        states = self._fresh(ids)
        self.model.generate_all(states, max_tokens=1)
        started = time.perf_counter()
        self.model.generate_all(states, max_tokens=tokens)
        return time.perf_counter() - started

    def beam(self, ids: np.ndarray, tokens: int, beams: int) -> float:
        (state,) = self._fresh(ids[None])
        started = time.perf_counter()
        state.beam(num_beams=beams, max_tokens=tokens)
        return time.perf_counter() - started


class Torch(Engine):
    def __init__(self, folder: str, threads: int) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        self.torch = torch
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def prefill(self, ids: np.ndarray) -> float:
        batch = self.torch.tensor(ids[None])
        started = time.perf_counter()
        self.model(batch, use_cache=True, logits_to_keep=1)
        return time.perf_counter() - started

    def decode(self, ids: np.ndarray, tokens: int) -> float:
        """A bare loop over the model with its cache: faster than its own ``generate``."""
        out = self.model(self.torch.tensor(ids), use_cache=True, logits_to_keep=1)
        following = out.logits[:, -1:].argmax(-1)
        started = time.perf_counter()
        for _ in range(tokens):
            out = self.model(following, past_key_values=out.past_key_values, use_cache=True)
            following = out.logits[:, -1:].argmax(-1)
        return time.perf_counter() - started

    def beam(self, ids: np.ndarray, tokens: int, beams: int) -> float:
        batch = self.torch.tensor(ids[None])
        started = time.perf_counter()
        self.model.generate(
            batch,
            attention_mask=self.torch.ones_like(batch),
            num_beams=beams,
            max_new_tokens=tokens,
            do_sample=False,
            pad_token_id=0,
        )
        return time.perf_counter() - started


def run_cell(engine: Engine, cell: dict, vocab: int) -> float:
    """Run one cell on random ids that are the same for every engine."""
    rng = np.random.default_rng(1)
    if cell["op"] == "prefill":
        return engine.prefill(rng.integers(0, vocab, cell["tokens"]))
    ids = rng.integers(0, vocab, (cell["batch"], PROMPT))
    if cell["op"] == "decode":
        return engine.decode(ids, cell["tokens"])
    return engine.beam(ids[0], cell["tokens"], cell["batch"])


def main(kind: str, folder: str, threads: int, vocab: int) -> None:
    """Answer cells until stdin ends."""
    engine = {"cacher": Cacher, "torch": Torch}[kind](folder, threads)
    print("ready", flush=True)
    for line in sys.stdin:
        print(run_cell(engine, json.loads(line), vocab), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
