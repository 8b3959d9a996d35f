"""What a trace of every step adds to decoding: attention, entropy, the likeliest tokens."""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict
from typing import Any

import models
from peers_page import Trace

import cacher

PROMPT = 100
TOKENS = 64


def traced_over_plain(state: cacher.State, layer: int, tokens: int, rounds: int) -> float:
    """Return the time of traced decoding over that of plain decoding, in turns.

    The tokens, drawn with a seed of their own, must be the same.
    """

    def decode(trace_layer: int | None) -> tuple[float, list[int]]:
        started = time.perf_counter()
        stream = state.fork().stream(
            tokens, top_k=50, temperature=0.9, seed=1, trace_layer=trace_layer
        )
        made = [token.token_id for token in stream]
        return (time.perf_counter() - started) / len(made), made

    plain, traced = [], []
    for _ in range(rounds):
        (seconds, made), (traced_seconds, traced_made) = decode(None), decode(layer)
        if made != traced_made:
            raise RuntimeError("a trace changed the tokens")
        plain.append(seconds)
        traced.append(traced_seconds)
    return statistics.median(traced) / statistics.median(plain)


def measure_tracing(names: tuple[str, ...], threads: list[int], rounds: int) -> dict[str, Any]:
    """Return the ratios of f32 models, a middle layer looked at."""
    traces = []
    for name in names:
        for count in threads:
            model = cacher.load(models.folder(name), threads=count)
            prompt = [300 + 7 * i for i in range(PROMPT)]
            state = model.state(prompt, config={"store_logits": "none"}).forward()
            ratio = traced_over_plain(state, model.info.n_layers // 2, TOKENS, rounds)
            traces.append(asdict(Trace(name, count, ratio)))
    return {"prompt": PROMPT, "traces": traces}
