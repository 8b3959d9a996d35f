"""``make bench-semantic``: embedding, the index and the semantic cache beside their peers.

Everything is measured in one run, in turns with its peers: embedding (embedding.py), the exact
search (index.py), a hit of the cache without embedding, puts that are on disk (caches.py), and hits
over HTTP beside a bare route.  Writes docs/benchmarks-semantic.md with a picture, and the numbers
behind it; the last line is ``worst ratio R (cell)``, of the cells that have a bar: a peer's median
time over ours.  ``--parts`` measures only these parts again and keeps the others, ``--dry`` only
prints.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import embedding
import semantic_page
from processes import Process
from report import Figure
from semantic_page import Part, Row, Share
from serving import ROOT, Connection, running

PEER = ROOT / "build" / "peer-semantic" / "bin" / "python"
BENCH = ROOT / "benchmarks"
THREADS = (1, 2)
SIZES = (1_000, 10_000, 100_000)
BARS = {"redisvl": 3.0, "gptcache": 20.0}  # of a hit
BATCH = 100  # entries that are put together
SERVER = [sys.executable, "-m", "cacher.semantic.server", "--port", "PORT"]
BARE = [sys.executable, str(BENCH / "bare.py"), "PORT"]
ENTRIES = 900  # behind HTTP
VERBS = ("wash", "paint", "repair", "store", "move", "choose", "measure", "clean", "build", "buy",
         "sell", "draw", "cut", "dry", "hang", "carry", "wrap", "lock", "polish", "insulate",
         "fold", "label", "sort", "heat", "cool", "weigh", "photograph", "ship", "donate",
         "decorate")  # fmt: skip
NOUNS = ("bicycle", "kitchen table", "guitar", "tent", "wool carpet", "window", "camera", "oven",
         "leather sofa", "lamp", "piano", "suitcase", "mirror", "garden gate", "blanket", "clock",
         "wooden chair", "bookshelf", "canoe", "printer", "curtain", "fridge", "saddle", "kettle",
         "mattress", "telescope", "violin", "ladder", "helmet", "vase")  # fmt: skip


def high(seconds: list[float]) -> float:
    """Return the 99th percentile."""
    return sorted(seconds)[min(len(seconds) - 1, int(0.99 * len(seconds)))]


def figure(what: str, unit: str, seconds: list[float], bar: float | None) -> Figure:
    scale = {"us": 1e6, "ms": 1e3}[unit]
    return Figure(what, unit, scale * statistics.median(seconds), scale * high(seconds), bar)


# ---- embedding and the index


def measure_embedding(rounds: int) -> Part:
    """Return a row for each cell, beside the fastest peer."""
    part = Part([])
    for threads in THREADS:
        for cell in embedding.measure(threads, rounds):
            times = {name: 1e-3 * ms for name, ms in cell.milliseconds.items()}
            ours = times.pop("cacher")
            peer = min(times, key=lambda name: times[name])
            what = f"embedding {cell.name.rpartition(',')[0]}"
            part.rows.append(Row(what, threads, ours, peer, times[peer], 1.4))
            part.shares.append(Share(what, threads, cell.share, "the arithmetic peak"))
    return part


INDEX = """
import dataclasses, json
from index import measure
for cell in measure(rounds={rounds}):
    print(json.dumps(dataclasses.asdict(cell)), flush=True)
"""


def measure_index(rounds: int) -> Part:
    """Return a row for each cell, and what it reads of what memory gives.

    Runs under the python of the peers, which has faiss.
    """
    env = os.environ | {"PYTHONPATH": f"{ROOT}:{BENCH}"}
    printed = subprocess.check_output([PEER, "-c", INDEX.format(rounds=rounds)], env=env, text=True)
    part = Part([])
    for line in printed.splitlines():
        cell = json.loads(line)
        rows, queries, threads = cell["rows"], cell["queries"], cell["threads"]
        what = f"top-1 of {rows:,} x 768" + f", {queries} queries at once" * (queries > 1)
        has_bar = queries == 1 and rows >= 10_000
        bar = 3.0 if has_bar else None
        part.rows.append(Row(what, threads, cell["ours"], "faiss", cell["theirs"], bar))
        if queries == 1:
            share = rows * (768 + 8) / cell["ours"] / cell["bandwidth"]
            limit = f"memory's {1e-9 * cell['bandwidth']:.1f} GB/s"
            part.shares.append(Share(what, threads, share, limit))
        if rows == 1_000 and queries == 1:
            what += f", {threads} thread{'s' * (threads > 1)}"
            part.figures.append(Figure(what, "us", 1e6 * cell["ours"], None, 30.0))
    return part


# ---- the caches, each a process of caches.py


class Cache(Process):
    """A process of caches.py."""

    def __init__(self, name: str, folder: Path) -> None:
        python = sys.executable if name == "cacher" else str(PEER)
        super().__init__(python, BENCH / "caches.py", name, folder / name)
        self.read()
        self.name = name

    def run(self, op: str, **cell: int) -> list[float]:
        return json.loads(self.ask(json.dumps({"op": op, **cell})))


@contextmanager
def caches(*names: str) -> Iterator[list[Cache]]:
    """Caches with folders on the disk."""
    (ROOT / "build" / "bench").mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=ROOT / "build" / "bench", prefix="caches-"))
    found: list[Cache] = []
    try:
        found += (Cache(name, folder) for name in names)
        yield found
    finally:
        for cache in found:
            cache.close()
        shutil.rmtree(folder)


def measure_hits(rounds: int) -> Part:
    """Return a row for each size and peer, and what the same text again takes."""
    part = Part([])
    with caches("cacher", *BARS) as asked:
        for n in SIZES:
            for threads in THREADS:
                for cache in asked:
                    cache.run("fill", n=n, cores=threads)
                seconds, again = hits_in_turns(asked, n, rounds)
                ours = statistics.median(seconds["cacher"])
                for peer, bar in BARS.items():
                    theirs = statistics.median(seconds[peer])
                    part.rows.append(Row(f"hit among {n:,}", threads, ours, peer, theirs, bar))
                print(f"  hits among {n:,}, {threads} thread(s)", file=sys.stderr, flush=True)
            part.figures.append(figure(f"the same text again, among {n:,}", "us", again, 20.0))
    return part


def hits_in_turns(
    asked: list[Cache], n: int, rounds: int
) -> tuple[dict[str, list[float]], list[float]]:
    """Return the seconds of the hits of each cache, and of our hits with the very text."""
    seconds: dict[str, list[float]] = {cache.name: [] for cache in asked}
    again: list[float] = []
    count = 50 if n < 100_000 else 10
    for turn in range(rounds + 1):
        for cache in asked:
            found = cache.run("hits", n=n, first=turn * count, count=count)
            seconds[cache.name] += found if turn else []  # the first round warms up
        again += asked[0].run("repeated", n=n, first=turn * count, count=count) if turn else []
    return seconds, again


def measure_puts(rounds: int) -> Part:
    """Return rows of what an entry takes until it is on disk."""
    rates: dict[str, list[float]] = {}
    with caches("cacher", *BARS) as asked:
        for turn in range(rounds + 1):
            for cache in asked:
                rate = json.loads(
                    cache.ask(json.dumps({"op": "puts", "batch": BATCH, "batches": 10}))
                )
                rates.setdefault(cache.name, []).extend([rate] if turn else [])
    seconds = {name: statistics.median(1 / rate for rate in found) for name, found in rates.items()}
    what = f"an entry on disk, of {BATCH} put together"
    rows = [Row(what, len(os.sched_getaffinity(0)), seconds["cacher"], peer, seconds[peer], None)
            for peer in BARS]  # fmt: skip
    return Part(rows, [figure(what, "us", [1 / rate for rate in rates["cacher"]], 200.0)])


# ---- over HTTP


def measure_http(count: int) -> Part:
    """Return what hits over HTTP take, in turns with a bare route."""
    stored = {f"How do I {verb} a {noun}?": f"To {verb} a {noun}, begin early and take your time."
              for verb in VERBS for noun in NOUNS}  # fmt: skip
    env = {"SEMCACHE_RESPONDER": "template", "SEMCACHE_MODEL": "minilm", "CACHER_OFFLINE": "True"}
    with running("cacher", SERVER, env) as server, running("bare", BARE, {}) as bare:
        ours, floor = Connection(server.port), Connection(bare.port)
        items = [{"query": query, "response": answer} for query, answer in stored.items()]
        ours.ask("POST", "/cache/warmup", {"queries": items})
        known = [query for query in stored if _found(ours, alike(query)) == stored[query]]
        if len(known) < 100:
            raise RuntimeError(f"{len(known)} of {len(stored)} paraphrases are hits")
        times: dict[str, list[float]] = {"bare": [], "hit": [], "same": []}
        for turn in range(count):
            query = known[turn * 7 % len(known)]
            times["bare"].append(
                floor.ask("POST", "/bare", {"model_id": "minilm", "text": query})[0]
            )
            times["hit"].append(ours.ask("POST", "/query", {"query": alike(query)})[0])
            times["same"].append(ours.ask("POST", "/query", {"query": query})[0])
    return Part([], [
        figure("bare POST", "ms", times["bare"], None),
        figure(f"hit over HTTP with MiniLM, among {ENTRIES}", "ms", times["hit"], 5.0),
        figure("hit over HTTP with the same text", "ms", times["same"], 5.0),
    ])  # fmt: skip


def alike(query: str) -> str:
    """Return a paraphrase."""
    return query.replace("How do I", "How can I best")


def _found(connection: Connection, query: str) -> str | None:
    answer = json.loads(connection.ask("POST", "/query", {"query": query})[1])
    found: str | None = answer["response"] if answer["cache_hit"] else None
    return found


def main() -> None:
    """Measure, print, write."""
    parts: dict[str, Callable[[], Part]] = {
        "embedding": lambda: measure_embedding(options.rounds),
        "index": lambda: measure_index(options.rounds),
        "hits": lambda: measure_hits(options.rounds),
        "puts": lambda: measure_puts(options.rounds // 2),
        "http": lambda: measure_http(50 * options.rounds),
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--dry", action="store_true", help="write nothing into docs/")
    options = parser.parse_args()
    measured = semantic_page.read()
    for name in options.parts:
        found = parts[name]()
        measured[name] = {"measured": str(date.today()), **dataclasses.asdict(found)}
        for line in semantic_page.lines(found):
            print(line, flush=True)
    if not options.dry:
        semantic_page.write(measured)
    rows = [
        row for name in parts if name in measured for row in semantic_page.part(measured[name]).rows
    ]
    worst = min((row for row in rows if row.bar), key=lambda row: row.ratio, default=None)
    if worst is not None:
        print(f"worst ratio {worst.ratio:.2f} ({worst.cell})")


if __name__ == "__main__":
    main()
