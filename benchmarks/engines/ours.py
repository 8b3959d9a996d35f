"""cacher."""

from __future__ import annotations

import itertools
import time

import numpy as np

import cacher
from cacher.facts import Dtype
from engines import Engine, Timed

KV_BYTES = 128 << 20  # enough for every cell, and soon full: memory is used again, as by the peers


class Cacher(Engine):
    def __init__(self, path: str, dtype: Dtype, threads: int) -> None:
        self.model = cacher.load(path, threads=threads, dtype=dtype, kv_budget=KV_BYTES)
        self.model.set_prompt_lookup(False)  # random weights repeat themselves, peers guess nothing
        self.config = {"store_logits": "none", "temperature": 0.0}
        self.salts = map(str, itertools.count())

    def _fresh(self, ids: np.ndarray) -> list[cacher.State]:
        """Return states that find nothing computed: no other has their salt."""
        salt = next(self.salts)
        return [self.model.state(x.tolist(), config=self.config, cache_salt=salt) for x in ids]

    def logits(self, ids: np.ndarray) -> np.ndarray:
        (state,) = self._fresh(ids[None])
        return np.asarray(state.logits())

    def prefill(self, ids: np.ndarray) -> Timed:
        (state,) = self._fresh(ids[None])
        started = time.perf_counter()
        token = state.logits().argmax()
        return Timed(time.perf_counter() - started, np.array([[token]]))

    def decode(self, ids: np.ndarray, tokens: int) -> Timed:
        states = self._fresh(ids)
        first = self.model.generate_all(states, max_tokens=1)
        started = time.perf_counter()
        rest = self.model.generate_all(states, max_tokens=tokens)
        seconds = time.perf_counter() - started
        made = [a.token_ids + b.token_ids for a, b in zip(first, rest, strict=True)]
        return Timed(seconds, np.array(made))

    def beam(self, ids: np.ndarray, tokens: int, beams: int) -> Timed:
        (state,) = self._fresh(ids[None])
        started = time.perf_counter()
        found = state.beam(num_beams=beams, max_tokens=tokens)
        return Timed(time.perf_counter() - started, np.array([found[0].token_ids]))
