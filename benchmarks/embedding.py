"""Embedding with MiniLM beside sentence-transformers, onnxruntime and CTranslate2, in f32.

``make bench-embed`` runs it.  Each is a process of its own; in every round they take turns at
the same texts, on the same number of threads.  Before times are taken, vectors are compared.  The
ratio is the best peer's median over ours; the share is that of the arithmetic peak which the
machine has in the same minute (bench_limits).  The last line is the worst ratio.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedders import EMBEDDERS

from cacher import hub

ROOT = Path(__file__).resolve().parent.parent
PEER = ROOT / "build" / "peer-embedding"
CELLS = {"one text of 10 tokens": (1, 10), "64 texts of 64 tokens": (64, 64)}
REPEAT = {1: 20, 64: 1}
SETTLE_S = 0.3  # after it the threads of the one before sleep: some spin while they wait for work
COSINE_ERROR = 1e-5


@dataclass(frozen=True)
class Cell:
    """Texts on a number of threads: median milliseconds of each, and our share of the peak."""

    name: str
    milliseconds: dict[str, float]
    share: float

    @property
    def ratio(self) -> float:
        """The best peer's time over ours."""
        theirs = [value for name, value in self.milliseconds.items() if name != "cacher"]
        return min(theirs) / self.milliseconds["cacher"]


class Embedder:
    """A process of embedders.py."""

    def __init__(self, name: str, folder: Path, threads: int) -> None:
        python = sys.executable if name == "cacher" else str(PEER / "bin" / "python")
        script = str(ROOT / "benchmarks" / "embedders.py")
        command = [python, script, name, str(folder), str(PEER / "models"), str(threads)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n", f"{name} did not start"

    def run(self, texts: list[str], repeat: int = 1, *, vectors: bool = False) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        cell = {"texts": texts, "repeat": repeat, "vectors": vectors}
        self._process.stdin.write(json.dumps(cell) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


def operations(folder: Path, tokens: int) -> float:
    """Multiplications and additions that a token takes in a text of so many."""
    config = json.loads((folder / "config.json").read_text())
    width, inner = config["hidden_size"], config["intermediate_size"]
    return config["num_hidden_layers"] * (8 * width**2 + 4 * width * inner + 4 * width * tokens)


class Peak:
    """The arithmetic peak: a process that is asked between the cells."""

    def __init__(self) -> None:
        subprocess.run(["make", "-s", "build/bench_limits"], cwd=ROOT, check=True)
        self._process = subprocess.Popen(
            [ROOT / "build/bench_limits"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def operations(self, threads: int) -> float:
        """Return operations per second."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{threads}\n")
        self._process.stdin.flush()
        return 1e9 * float(json.loads(self._process.stdout.readline())["f32"])

    def close(self) -> None:
        self._process.communicate()


def words_of(folder: Path) -> list[str]:
    """Words that are one token each."""
    lines = (folder / "vocab.txt").read_text().splitlines()
    return [word for word in lines if word.isascii() and word.isalpha() and len(word) > 2]


def drawn(words: list[str], n_texts: int, tokens: int, seed: int) -> list[str]:
    """Return texts of so many tokens, the two special ones included."""
    chosen = random.Random(seed)
    return [" ".join(chosen.choices(words, k=tokens - 2)) for _ in range(n_texts)]


def check(embedders: dict[str, Embedder], texts: list[str]) -> None:
    """Exit where a peer's vectors are not ours."""
    found = {name: each.run(texts, vectors=True)["vectors"] for name, each in embedders.items()}
    for name, vectors in found.items():
        for ours, theirs in zip(found["cacher"], vectors, strict=True):
            cosine = sum(a * b for a, b in zip(ours, theirs, strict=True))
            if abs(1 - cosine) > COSINE_ERROR:
                sys.exit(f"{name}'s vectors differ: cosine {cosine}")


def measure(threads: int, rounds: int) -> list[Cell]:
    """Return the cells on a number of threads."""
    folder = hub.find("minilm")
    words = words_of(folder)
    embedders = {name: Embedder(name, folder, threads) for name in EMBEDDERS}
    peak = Peak()
    cells = []
    for what, (n_texts, tokens) in CELLS.items():
        check(embedders, drawn(words, n_texts, tokens, 0))
        seconds: dict[str, list[float]] = {name: [] for name in embedders}
        peaks = []
        for turn in range(rounds):
            peaks.append(peak.operations(threads))
            texts = drawn(words, n_texts, tokens, turn)
            for name, embedder in embedders.items():
                time.sleep(SETTLE_S)
                seconds[name] += embedder.run(texts, REPEAT[n_texts])["seconds"]
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        done = n_texts * tokens * operations(folder, tokens) / medians["cacher"]
        milliseconds = {name: 1e3 * median for name, median in medians.items()}
        name = f"{what}, {threads} thread{'s' * (threads > 1)}"
        cells.append(Cell(name, milliseconds, done / statistics.median(peaks)))
    for process in (*embedders.values(), peak):
        process.close()
    return cells


def cells(rounds: int) -> list[Cell]:
    """Return all cells, on 1 and 2 threads."""
    return [cell for threads in (1, 2) for cell in measure(threads, rounds)]


def main() -> None:
    """Print all cells."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    found = cells(parser.parse_args().rounds)
    for cell in found:
        figures = "  ".join(f"{name} {ms:.2f} ms" for name, ms in cell.milliseconds.items())
        print(f"{cell.name:34}  {figures}  ratio {cell.ratio:.2f}  {cell.share:.0%} of the peak")
    worst = min(found, key=lambda cell: cell.ratio)
    print(f"worst ratio {worst.ratio:.2f} ({worst.name})")


if __name__ == "__main__":
    main()
