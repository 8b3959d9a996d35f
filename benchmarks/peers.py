"""cacher beside other engines with the same weights: tokens a second, loading, memory.

Part of ``make bench-peers`` (benchmarks/run.py): GPT-2 124M and the SmolLM-135M shape, random-
initialised.  Each engine is a process of its own, stopped while another one is measured; all of a
format take turns within each round.
"""

from __future__ import annotations

import json
import shutil
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import models
import numpy as np
from peers_page import BARS, Load, Row, Share
from processes import Process

import cacher

ROOT = Path(__file__).resolve().parent.parent
PYTHON = ROOT / "build/peer-engines/bin/python"
OURS = "cacher"


class Form(NamedTuple):
    """An engine, and what it loads: a converted file, or the model's own folder."""

    engine: str
    dtype: str
    file: str = ""

    @property
    def name(self) -> str:
        unpacked = ", unpacked" if self.engine == OURS and not self.file else ""
        return f"{self.engine} {self.dtype}{unpacked}"


def packed(dtype: str) -> Form:
    return Form(OURS, dtype, f"cacher-{dtype}")


FORMATS: dict[str, list[Form]] = {
    "f32": [
        Form("llama.cpp", "f32", "f32.gguf"),
        Form("CTranslate2", "f32", "ctranslate2-f32"),
        Form("torch", "f32"),
    ],
    "bf16": [
        Form("llama.cpp", "bf16", "bf16.gguf"),
        Form("llama.cpp", "f16", "f16.gguf"),
        Form("torch", "bf16"),
    ],
    "int8": [
        Form("CTranslate2", "int8", "ctranslate2-int8"),
        Form("llama.cpp", "q8_0", "q8_0.gguf"),
    ],
}
# Logits may differ by this share of their root mean square: f32 by rounding and by llama.cpp's
# table of GELU, which is f16; bf16 by the rounding of weights; int8 by that of activations, too.
TOLERANCE = {"f32": 5e-3, "bf16": 0.05, "int8": 0.1}
CELLS: dict[str, dict[str, Any]] = {
    "prefill 512": {"op": "prefill", "tokens": 512, "batch": 1},
    "decode B1": {"op": "decode", "tokens": 16, "batch": 1},
    "decode B8": {"op": "decode", "tokens": 8, "batch": 8},
    "decode B32": {"op": "decode", "tokens": 4, "batch": 32},
    "beam 4": {"op": "beam", "tokens": 12, "batch": 4},
}


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    names: Sequence[str]
    threads: Sequence[int]
    formats: Sequence[str]
    rounds: int


class RefusedError(Exception):
    """An engine has no such format."""


class Engine(Process):
    """A benchmarks/worker.py process, stopped unless it is asked."""

    def __init__(self, model: str, form: Form, threads: int) -> None:
        folder = models.folder(model)
        super().__init__(
            sys.executable if form.engine == OURS else PYTHON,
            ROOT / "benchmarks/worker.py",
            form.engine,
            converted(model) / form.file if form.file else folder,
            form.dtype,
            str(threads),
            str(models.VOCAB[model]),
        )
        self.name = form.name
        self.start = json.loads(self.read())
        if "refused" in self.start:
            self.close()
            raise RefusedError(f"{form.name}: {self.start['refused']}")
        self._process.send_signal(signal.SIGSTOP)

    def cell(self, **cell: Any) -> dict[str, Any]:
        """Return the worker's answer."""
        self._process.send_signal(signal.SIGCONT)
        found: dict[str, Any] = json.loads(self.ask(json.dumps(cell)))
        self._process.send_signal(signal.SIGSTOP)
        return found

    def seconds(self, op: str, tokens: int, batch: int) -> float:
        """Run a cell; refuse an engine that made less of it than was asked for."""
        found = self.cell(op=op, tokens=tokens, batch=batch)
        made = {"prefill": (1, 1), "decode": (batch, tokens + 1), "beam": (1, tokens)}[op]
        if np.shape(found["tokens"]) != made:
            raise RuntimeError(f"{self.name} gave {np.shape(found['tokens'])} tokens, not {made}")
        return float(found["seconds"])

    def close(self) -> None:
        self._process.send_signal(signal.SIGCONT)
        super().close()


def converted(model: str) -> Path:
    return models.folder(model) / "peers"


def convert(names: Sequence[str]) -> None:
    """Write the models as the peers load them, where they are not there yet, and as cacher does.

    cacher's are always written again: what is measured may pack them differently than what did.
    """
    for name in names:
        source, out = models.folder(name), converted(name)
        subprocess.run([PYTHON, ROOT / "benchmarks/convert.py", source, out], check=True)
        for dtype in FORMATS:
            shutil.rmtree(out / packed(dtype).file, ignore_errors=True)
            cacher.pack(source, out / packed(dtype).file, dtype=dtype)


def versions() -> str:
    """Return what the peers are."""
    code = (
        "from importlib.metadata import version as v; print(', '.join(f'{n} {v(n)}' for n in"
        " ('llama-cpp-python', 'ctranslate2', 'torch', 'transformers')))"
    )
    return subprocess.check_output([PYTHON, "-c", code], text=True).strip()


@contextmanager
def engines(model: str, threads: int, format_: str) -> Iterator[list[Engine]]:
    """Give cacher and its peers, stopped."""
    with ExitStack() as stack:
        found = []
        for form in (packed(format_), *FORMATS[format_]):
            engine = Engine(model, form, threads)
            stack.callback(engine.close)
            found.append(engine)
        yield found


def check(format_: str, found: list[Engine]) -> None:
    """Refuse to compare what does not compute the same; wakes the engines, too."""
    ours, *theirs = (np.array(one.cell(op="logits", tokens=64)["logits"]) for one in found)
    for engine, logits in zip(found[1:], theirs, strict=True):
        gap = float(np.sqrt(np.mean((logits - ours) ** 2) / np.mean(ours**2)))
        if not gap <= TOLERANCE[format_]:
            raise RuntimeError(f"logits of {engine.name} differ from ours by {gap:.2g}")
    if format_ == "f32":
        cell = CELLS["decode B8"]
        tokens, *others = (one.cell(**cell)["tokens"] for one in found)
        for engine, other in zip(found[1:], others, strict=True):
            if tokens != other:
                raise RuntimeError(f"greedy tokens of {engine.name} differ: {other}, ours {tokens}")


def measure_group(
    model: str, threads: int, format_: str, rounds: int, limits: Process
) -> tuple[list[Row], Share]:
    """Measure all cells of a model in a format."""
    seconds: dict[tuple[str, str], list[float]] = {}
    reached: list[dict[str, float]] = []
    with engines(model, threads, format_) as found:
        check(format_, found)
        for turn in range(rounds):
            for label, cell in CELLS.items():
                for engine in found:
                    seconds.setdefault((label, engine.name), []).append(engine.seconds(**cell))
                if label in ("prefill 512", "decode B1"):
                    reached.append(json.loads(limits.ask(str(threads))))
            print(
                f"  {model}, {threads} threads, {format_}: round {turn + 1} of {rounds}",
                file=sys.stderr,
                flush=True,
            )
    median = {key: statistics.median(values) for key, values in seconds.items()}
    rows = []
    for label, cell in CELLS.items():
        produced = cell["tokens"] * (cell["batch"] if cell["op"] == "decode" else 1)
        ours, *theirs = (produced / median[label, engine.name] for engine in found)
        peers = dict(zip((form.name for form in FORMATS[format_]), theirs, strict=True))
        rows.append(Row(model, threads, format_, label, ours, peers, BARS[format_][label]))
    limit = {name: statistics.median(one[name] for one in reached) for name in reached[0]}
    ours_name = found[0].name
    share = Share(
        model,
        threads,
        format_,
        1e-9 * models.decode_bytes(model, format_) * CELLS["decode B1"]["tokens"]
        / median["decode B1", ours_name],
        limit["bandwidth"],
        1e-9 * models.prefill_flops(model, 512) / median["prefill 512", ours_name],
        {name: limit[name] for name in (format_, f"{format_} tiles") if name in limit},
    )  # fmt: skip
    return rows, share


def measure_peers(plan: Plan) -> dict[str, Any]:
    """Return rows and shares of all models, threads and formats that cacher has."""
    rows: list[Row] = []
    shares: list[Share] = []
    limits = Process(ROOT / "build/bench_limits")
    for format_ in plan.formats:
        for model in plan.names:
            for threads in plan.threads:
                try:
                    found, share = measure_group(model, threads, format_, plan.rounds, limits)
                except RefusedError as error:
                    print(f"skipped {format_}, {model}: {error}", flush=True)
                    continue
                rows += found
                shares.append(share)
    limits.close()
    return {
        "rounds": plan.rounds,
        "versions": versions(),
        "rows": [asdict(row) for row in rows],
        "shares": [asdict(share) for share in shares],
    }


def measure_loads(plan: Plan) -> dict[str, Any]:
    """Return how long loading takes, and the memory that loading, a prompt and decoding take."""
    found: dict[tuple[str, str, str], list[tuple[float, int]]] = {}
    for format_ in plan.formats:
        for model in plan.names:
            forms = [packed(format_), Form(OURS, format_), *FORMATS[format_]]
            for form in forms * plan.rounds:
                try:
                    engine = Engine(model, form, plan.threads[-1])
                except RefusedError as error:
                    print(f"skipped loading {model}: {error}", flush=True)
                    break
                engine.seconds(**CELLS["prefill 512"])
                engine.seconds("decode", 2, 1)
                used = engine.cell(op="peak")["bytes"] - engine.start["bytes"]
                engine.close()
                seen = found.setdefault((model, format_, form.name), [])
                seen.append((engine.start["load_s"], used))
    return {
        "threads": plan.threads[-1],
        "rounds": plan.rounds,
        "loads": [
            asdict(Load(*key, *(statistics.median(column) for column in zip(*seen, strict=True))))
            for key, seen in found.items()
        ],
    }
