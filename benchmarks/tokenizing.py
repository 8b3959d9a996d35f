"""``make bench-tokenizers``: encoding and decoding beside tiktoken and tokenizers.

All have the same vocabularies, run in one process and take turns at each cell, document by document
as a Python program calls them; before a cell is timed, everybody must give the same.  The ratio is
that of the medians of rounds.  For each round ours is opened anew, so that it has seen nothing of
the text.  Writes docs/benchmarks-tokenizers.md with a picture.  Names each bar that is missed; the
last line is ``worst ratio R (cell)``.  ``--dry`` writes nothing, ``--rounds 1`` is only good for a
look, ``--only decode`` measures the cells with that in their names.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tokenizing_page
from cells import Cell
from report import ROOT

sys.path.insert(0, str(ROOT / "build" / "peer-tokenizers"))
sys.path.insert(0, str(ROOT / "tests" / "parity"))

import npm_vocabularies
import texts
import tiktoken
import tokenizers
from tiktoken_ext.openai_public import r50k_pat_str

import cacher
from cacher import hub

VOCABULARIES = ROOT / "build" / "vocabularies"
PATTERNS = {"gpt2": r50k_pat_str, "llama3": npm_vocabularies.LLAMA3_PATTERN}
PRINTED = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]  # spell themselves
MIXED, PART = 5_000_000, 500_000  # bytes of a text
THREADS = 2  # of batches
SHORT = 200  # characters of a short document
ENCODING = {"tiktoken": 1.5, "tokenizers": 4.0}  # bars
DECODING = {"tiktoken": 1.0, "tokenizers": 1.0}

Run = Callable[[list[Any]], list[Any]]


@dataclass
class Task:
    """What all do with the same items; `ours` makes a run of a tokenizer that was just opened."""

    what: str
    items: list[Any]
    n_bytes: int
    open: Callable[[], cacher.Tokenizer]
    ours: Callable[[cacher.Tokenizer], Run]
    peers: dict[str, Run]
    bars: dict[str, float]

    def check(self) -> None:
        """Refuse to compare what does not give the same."""
        mine = self.ours(self.open())(self.items)
        for name, run in self.peers.items():
            for item, one, other in zip(self.items, mine, run(self.items), strict=True):
                if one != other:
                    raise RuntimeError(f"{self.what}: {name} makes something else of {item!r:.80}")

    def measure(self, rounds: int) -> Iterator[Cell]:
        """Give a cell for each peer, in MB of text a second."""
        seconds: dict[str, list[float]] = {name: [] for name in ("ours", *self.peers)}
        for turn in range(rounds):
            runs = [("ours", self.ours(self.open())), *self.peers.items()]
            for name, run in runs if turn % 2 else reversed(runs):
                started = time.perf_counter()
                run(self.items)
                seconds[name].append(time.perf_counter() - started)
        rates = {name: 1e-6 * self.n_bytes / statistics.median(s) for name, s in seconds.items()}
        for name in self.peers:
            what = f"{self.what}, beside {name}"
            yield Cell(what, "MB/s", rates["ours"], rates[name], self.bars[name])


def each(function: Callable[[Any], Any]) -> Run:
    return lambda items: [function(item) for item in items]


class Vocabulary:
    """A tokenizer.json, and the peers that have opened it."""

    def __init__(self, name: str, path: Path, pattern: str | None) -> None:
        self.name = name
        self.open = lambda: cacher.Tokenizer.open(path)
        self.tokenizers = tokenizers.Tokenizer.from_file(str(path))
        self.tokenizers.no_truncation()
        self.tokenizers.no_padding()
        self.tiktoken = tiktoken_of(path, pattern) if pattern else None

    def encoding(self, what: str, documents: list[str]) -> Task:
        theirs = self.tokenizers
        peers = {"tokenizers": each(lambda text: theirs.encode(text, add_special_tokens=False).ids)}
        if self.tiktoken:
            peers["tiktoken"] = each(self.tiktoken.encode_ordinary)
        return Task(
            f"encode, {self.name}, {what}", documents, size(documents), self.open,
            lambda tokenizer: each(tokenizer.encode), peers, ENCODING,
        )  # fmt: skip

    def decoding(self, what: str, documents: list[str]) -> Task:
        theirs, tokenizer = self.tokenizers, self.open()
        peers = {"tokenizers": each(lambda ids: theirs.decode(ids, skip_special_tokens=False))}
        if self.tiktoken:
            peers["tiktoken"] = each(self.tiktoken.decode)
        rows = [tokenizer.encode(text) for text in documents]
        return Task(
            f"decode, {self.name}, {what}", rows, size(documents), self.open,
            lambda tokenizer: each(tokenizer.decode), peers, DECODING,
        )  # fmt: skip

    def encoding_batch(self, what: str, documents: list[str]) -> Task:
        theirs = self.tokenizers
        peers: dict[str, Run] = {
            "tokenizers": lambda texts: [
                encoding.ids
                for encoding in theirs.encode_batch_fast(texts, add_special_tokens=False)
            ]
        }
        if self.tiktoken:
            peers["tiktoken"] = partial(self.tiktoken.encode_ordinary_batch, num_threads=THREADS)
        return Task(
            f"encode a batch, {self.name}, {what}", documents, size(documents), self.open,
            lambda tokenizer: partial(tokenizer.encode_batch, threads=THREADS), peers, ENCODING,
        )  # fmt: skip

    def decoding_batch(self, what: str, documents: list[str]) -> Task:
        theirs, rows = self.tokenizers, self.open().encode_batch(documents)
        peers: dict[str, Run] = {
            "tokenizers": lambda rows: theirs.decode_batch(rows, skip_special_tokens=False)
        }
        if self.tiktoken:
            peers["tiktoken"] = partial(self.tiktoken.decode_batch, num_threads=THREADS)
        return Task(
            f"decode a batch, {self.name}, {what}", rows, size(documents), self.open,
            lambda tokenizer: partial(tokenizer.decode_batch, threads=THREADS), peers, DECODING,
        )  # fmt: skip


def size(documents: list[str]) -> int:
    return sum(len(text.encode()) for text in documents)


def tiktoken_of(path: Path, pattern: str) -> tiktoken.Encoding:
    """Return tiktoken's form of a byte-level tokenizer.json whose ids are in order of rank."""
    others = [byte for byte in range(256) if byte not in PRINTED]
    byte_of = {chr(b): b for b in PRINTED} | {chr(256 + i): b for i, b in enumerate(others)}
    content = json.loads(path.read_text())
    special = {token["content"]: token["id"] for token in content["added_tokens"]}
    ranks = {
        bytes(byte_of[c] for c in token): token_id
        for token, token_id in content["model"]["vocab"].items()
        if token not in special
    }
    name = path.parent.name
    return tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens=special)


def short_documents(text: str, n_chars: int) -> list[str]:
    """Return documents of SHORT characters from all over the text."""
    documents = texts.documents(text, SHORT)
    random.Random(1).shuffle(documents)
    return documents[: n_chars // SHORT]


def tasks() -> Iterator[Task]:
    """Give what is measured; a vocabulary is opened when it comes to it."""
    paths = npm_vocabularies.build(VOCABULARIES)
    mixed = texts.mixed_text(MIXED)
    documents = texts.documents(mixed)
    gpt2 = Vocabulary("GPT-2", paths["gpt2"], r50k_pat_str)
    yield gpt2.encoding("mixed text", documents)
    yield gpt2.encoding("short documents", short_documents(mixed, PART))
    yield gpt2.encoding("prose", texts.documents(texts.prose_text(PART, 2)))
    yield gpt2.encoding("code", texts.documents(texts.library_text(PART)))
    yield gpt2.encoding("many scripts", texts.documents(texts.scripts_text(PART, 2)))
    yield gpt2.decoding("mixed text", documents)
    yield gpt2.decoding("short documents", short_documents(mixed, PART))
    yield gpt2.encoding_batch("mixed text", documents)
    yield gpt2.decoding_batch("mixed text", documents)
    llama3 = Vocabulary("Llama-3", paths["llama3"], npm_vocabularies.LLAMA3_PATTERN)
    yield llama3.encoding("mixed text", documents[::5])
    yield llama3.decoding("mixed text", documents[::5])
    minilm = Vocabulary("WordPiece", hub.find("minilm") / "tokenizer.json", None)
    yield minilm.encoding("mixed text", documents[::5])
    yield minilm.encoding_batch("mixed text", documents[::5])
    yield minilm.encoding("short documents", short_documents(mixed, PART))


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="a part of the names of cells")
    parser.add_argument("--dry", action="store_true", help="write nothing into docs/")
    options = parser.parse_args()
    os.environ["RAYON_NUM_THREADS"] = str(THREADS)  # tokenizers reads it with its first batch
    cells: list[Cell] = []
    for task in tasks():
        if options.only not in task.what:
            continue
        task.check()
        for cell in task.measure(options.rounds):
            print(cell, flush=True)
            cells.append(cell)
    if not options.dry and not options.only:
        peers = ", ".join(f"{name} {version(name)}" for name in ("tiktoken", "tokenizers"))
        tokenizing_page.write(cells, peers)
    for missed in [cell for cell in cells if not cell.is_met]:
        print(f"missed: {missed}")
    worst = min(cells, key=lambda cell: cell.ratio)
    print(f"worst ratio {worst.ratio:.2f} ({worst.cell})")


if __name__ == "__main__":
    main()
