"""One engine in one process: reads a cell per line on stdin, answers each with a line of JSON.

    python benchmarks/worker.py ENGINE PATH DTYPE N_THREADS VOCAB

A process of its own for each engine keeps their thread pools apart: while one is measured, the
others wait on their pipes.  The first line says how long loading took, the first logits included
(some map their files, and read them only then), and how much memory was in use before; or why the
engine refuses.  A cell is {"op": "prefill"|"decode"|"beam"|"logits", "tokens": n, "batch": b}, and
{"op": "peak"} asks for the most memory that was in use since loading began.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from engines import Engine

ENGINES = {
    "cacher": ("ours", "Cacher"),
    "llama.cpp": ("llama", "LlamaCpp"),
    "CTranslate2": ("ctrans", "CTranslate2"),
    "torch": ("transformer", "Torch"),
}
PROMPT = 8  # tokens read before decoding is timed


def resident(what: str) -> int:
    """Return "RSS" or "HWM", the largest, of this process in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split(f"Vm{what}:")[1].split()[0])


def run_cell(engine: Engine, cell: dict[str, Any], vocab: int) -> dict[str, Any]:
    """Run one cell on random ids that are the same for every engine."""
    rng = np.random.default_rng(1)
    if cell["op"] == "peak":
        return {"bytes": resident("HWM")}
    tokens = cell["tokens"]
    if cell["op"] == "logits":
        return {"logits": engine.logits(rng.integers(0, vocab, tokens)).tolist()}
    if cell["op"] == "prefill":
        timed = engine.prefill(rng.integers(0, vocab, tokens))
    else:
        ids = rng.integers(0, vocab, (cell["batch"], PROMPT))
        if cell["op"] == "decode":
            timed = engine.decode(ids, tokens)
        else:
            timed = engine.beam(ids[0], tokens, cell["batch"])
    return {"seconds": timed.seconds, "tokens": timed.tokens.tolist()}


def answer(found: dict[str, Any]) -> None:
    print(json.dumps(found), flush=True)


def main(name: str, path: str, dtype: str, threads: int, vocab: int) -> None:
    """Answer cells until stdin ends."""
    module, kind = ENGINES[name]
    made = getattr(importlib.import_module(f"engines.{module}"), kind)
    Path("/proc/self/clear_refs").write_text("5")  # the largest use counts from here
    before, started = resident("RSS"), time.perf_counter()
    try:
        engine = made(path, dtype, threads)
    except (TypeError, ValueError) as error:  # a format that it does not have
        return answer({"refused": str(error)})
    engine.logits(np.array([1]))
    answer({"load_s": time.perf_counter() - started, "bytes": before})
    for line in sys.stdin:
        answer(run_cell(engine, json.loads(line), vocab))
    return None


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
