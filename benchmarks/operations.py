"""What HTTP and durability cost: operations on states, streams, and a server that is busy.

``make bench-api`` runs it.  A real ``cacher serve`` with 10,000 states on disk answers one request
after another on a kept connection, in turns with what no such server can go below: a bare FastAPI
route behind the same uvicorn, and a file and its folder put on disk.  The figures go to
docs/benchmarks.json and into a section of docs/benchmarks.md; ``--parts`` measures only these parts
again and keeps the others, ``--dry`` only prints.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date
from pathlib import Path

import report
from report import Figure
from serving import ROOT, SERVE, Connection, Server, prompt, running, stream

import cacher
from cacher.document import encode
from cacher.stores.base import Key, Summary
from cacher.stores.files import FileStore

STATES = 10_000
REQUESTS = {1: 16, 8: 32, 32: 64}  # of a round, by the streams they are asked for in
TOKENS = 100
BUSY = 16  # generations while the server is asked whether it is there
FLOORS = ("bare GET", "bare POST", "file and folder on disk")
BARE = [sys.executable, str(ROOT / "benchmarks" / "bare.py"), "PORT"]

Times = dict[str, list[float]]


def fill(folder: Path) -> list[str]:
    """Store states, without waiting for the disk; returns their ids."""
    model = cacher.load("tales")
    store = FileStore(folder)
    fsync, os.fsync = os.fsync, lambda _: None
    try:
        for number in range(STATES):
            state = model.state(prompt(number), state_id=f"state-{number}")
            store.save(Key("", state.id), encode(state), Summary.of(state), None)
    finally:
        os.fsync = fsync
    store.close()
    os.sync()
    return [f"state-{number}" for number in range(STATES)]


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """Our server over a folder of states."""
    env = {
        "CACHER_CACHE_DIR": str(folder), "CACHER_MODEL_NAME": "tales", "CACHER_OFFLINE": "True",
        "CACHER_MAX_DISK_STATES": str(10 * STATES),
    }  # fmt: skip
    with running("cacher", SERVE, env) as server:
        yield server


# ---- one request after another


def measure_states(folder: Path, ids: list[str], rounds: int) -> list[Figure]:
    """Measure every operation in turns with its floors."""
    unread = iter(random.Random(1).sample(ids, len(ids)))  # none twice: each comes from its file
    times: Times = {}
    with serving(folder) as server, running("bare", BARE, {}) as bare:
        ours, floor = Connection(server.port), Connection(bare.port)
        story = made(ours, "story", max_tokens=64)
        for number in range(-rounds // 10, rounds):  # the first ones warm up
            found = one_round(ours, floor, folder, unread, story, number)
            if number >= 0:
                for what, seconds in found.items():
                    times.setdefault(what, []).append(seconds)
    return [
        _figure(what, seconds, "ms", None if what in FLOORS else 1.0)
        for what, seconds in times.items()
    ]


def made(connection: Connection, state_id: str, max_tokens: int) -> str:
    """Make a state that was generated from."""
    body = {"model_id": "tales", "text": prompt(0), "state_id": state_id}
    connection.ask("POST", "/states", body)
    body = {"state_id": state_id, "max_tokens": max_tokens, "min_tokens": max_tokens}
    connection.ask("POST", "/generate/token", body)
    return state_id


def one_round(
    ours: Connection,
    floor: Connection,
    folder: Path,
    unread: Iterator[str],
    story: str,
    number: int,
) -> dict[str, float]:
    """Ask for each thing once.  Little is removed: where much was, file systems are slow."""
    new = {"model_id": "tales", "text": prompt(STATES + number), "state_id": f"new-{number}"}
    first, second = f"/states/{next(unread)}", f"/states/{next(unread)}"
    changes = {"state_id": new["state_id"], "config": {"temperature": 0.5}}
    seconds = {
        "bare GET": floor.ask("GET", first.replace("states", "bare"))[0],
        "get": 0.0,
        "get, from its file": ours.ask("GET", first)[0],
        "bare POST": floor.ask("POST", "/bare", new)[0],
        "file and folder on disk": to_disk(folder / f".floor-{number}"),
        "create": ours.ask("POST", "/states", new)[0],
        "config": ours.ask("POST", "/states/config", changes)[0],
    }
    seconds["get"] = ours.ask("GET", first)[0]
    for what, path in (
        ("fork", first),
        ("fork, from its file", second),
        ("fork, of 64 generated tokens", f"/states/{story}"),
    ):
        seconds[what] = ours.ask("POST", path + "/fork", {})[0]
    seconds["delete"] = ours.ask("DELETE", f"/states/{new['state_id']}")[0]
    return seconds


def to_disk(name: Path) -> float:
    """Seconds that a new file of a state's size and its name take to be on disk."""
    started = time.perf_counter()
    with name.open("wb", buffering=0) as file:
        file.write(b"x" * 1500)
        os.fsync(file.fileno())
    directory = os.open(name.parent, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)
    return time.perf_counter() - started


# ---- starting


def measure_start(folder: Path, ids: list[str], reps: int) -> list[Figure]:
    """Measure the time from the start of a process to its first answer about a state."""
    full, empty = [], []
    for rep in range(reps):
        started = time.perf_counter()
        with serving(folder) as server:
            Connection(server.port).ask("GET", f"/states/{ids[rep]}")
            full.append(time.perf_counter() - started)
        with tempfile.TemporaryDirectory(dir=folder.parent) as nothing:
            started = time.perf_counter()
            with serving(Path(nothing)) as server:
                Connection(server.port).ask("GET", "/health")
                empty.append(time.perf_counter() - started)
    return [
        _figure("start without a state", empty, "s", None),
        _figure(f"start with {STATES:,} states", full, "s", 2.0),
    ]


# ---- busy


def _keep_busy(port: int) -> None:
    async def client(first: int) -> None:
        for number in range(first, 1 << 30):
            await stream(port, "/generate", generation(number))

    async def clients() -> None:
        await asyncio.gather(*(client(1_000_000 * i) for i in range(1, BUSY + 1)))

    asyncio.run(clients())


def generation(number: int) -> dict[str, object]:
    """Return a request for a stream of exactly `TOKENS` tokens."""
    return {"text_input": prompt(number), "max_new_tokens": TOKENS, "min_tokens": TOKENS,
            "seed": number, "stream": True}  # fmt: skip


def measure_busy(folder: Path, samples: int) -> list[Figure]:
    """Measure GET /test while generations run."""
    with serving(folder) as server:
        load = multiprocessing.Process(target=_keep_busy, args=(server.port,), daemon=True)
        load.start()
        try:
            connection = Connection(server.port)
            time.sleep(1.0)
            seconds = []
            for _ in range(samples):
                time.sleep(0.01)
                seconds.append(connection.ask("GET", "/test")[0])
        finally:
            load.kill()
            load.join()
    return [_figure(f"GET /test beside {BUSY} generations", seconds, "ms", 100.0, of="high")]


# ---- streams


def measure_streams(folder: Path, rounds: int) -> list[Figure]:
    """Measure the CPU of a token over HTTP less that of the same token without, by streams.

    All that HTTP needs is done by the event loop's thread; what the threads that compute spend
    waiting for each other would hide it.
    """
    inside = subprocess.Popen(
        [sys.executable, ROOT / "benchmarks" / "streams.py"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip

    def within(streams: int, requests: int, first: int) -> float:
        assert inside.stdin is not None
        assert inside.stdout is not None
        inside.stdin.write(f"{streams} {requests} {first}\n")
        inside.stdin.flush()
        return float(inside.stdout.readline())

    over: Times = {}
    bare_us: Times = {}
    with serving(folder) as server, running("bare", BARE, {}) as bare:
        for number in range(-1, rounds):
            for streams, requests in REQUESTS.items():
                first = 1_000_000 * streams + 1000 * (number + 1)
                http = asked(server, streams, requests, "/generate", generation, first)
                without = within(streams, requests, first)
                events = asked(bare, streams, requests, "/events", lambda _: {"n": TOKENS}, first)
                if number >= 0:
                    tokens = requests * TOKENS
                    over.setdefault(str(streams), []).append((http - without) / tokens)
                    bare_us.setdefault(str(streams), []).append(events / tokens)
    assert inside.stdin is not None
    inside.stdin.close()
    inside.wait()
    figures = []
    for streams in over:
        beside = f", {streams} stream{'s' * (streams != '1')}"
        figures.append(_figure("CPU of a bare event" + beside, bare_us[streams], "us", None))
        figures.append(_figure("CPU of HTTP per token" + beside, over[streams], "us", 40.0))
    return figures


def asked(
    server: Server,
    streams: int,
    requests: int,
    path: str,
    body: Callable[[int], object],
    first: int,
) -> float:
    """Ask for that many streams, some at a time; returns the CPU seconds of the loop."""
    numbers = iter(range(first, first + requests))

    async def client() -> None:
        for number in numbers:
            events, _first = await stream(server.port, path, body(number))
            if events < TOKENS and path != "/events":
                raise RuntimeError(f"{events} events for {body(number)}")

    async def clients() -> None:
        await asyncio.gather(*(client() for _ in range(streams)))

    before = server.loop_s()
    asyncio.run(clients())
    return server.loop_s() - before


# ---- all of it

UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6}


def _figure(
    what: str, seconds: list[float], unit: str, bar: float | None, of: str = "median"
) -> Figure:
    scaled = sorted(UNITS[unit] * x for x in seconds)
    high = scaled[min(len(scaled) - 1, int(0.99 * len(scaled)))]
    return Figure(what, unit, statistics.median(scaled), high, bar, of)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parts: dict[str, Callable[[Path, list[str]], list[Figure]]] = {
        "start": lambda folder, ids: measure_start(folder, ids, reps=5),
        "states": lambda folder, ids: measure_states(folder, ids, options.rounds),
        "busy": lambda folder, _ids: measure_busy(folder, samples=400),
        "streams": lambda folder, _ids: measure_streams(folder, rounds=5),
    }
    parser.add_argument("--rounds", type=int, default=1000, help="of operations on states")
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "bench", help="on the disk")
    parser.add_argument("--dry", action="store_true", help="write nothing into docs/")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=options.folder, prefix="states-"))
    try:
        ids = fill(folder)
        found = {part: parts[part](folder, ids) for part in options.parts}
    finally:
        shutil.rmtree(folder)
    for line in report.figure_table([figure for figures in found.values() for figure in figures]):
        print(line)
    if not options.dry:
        measured = report.read()
        serving = measured.setdefault("serving", {"figures": {}})
        serving["measured"] = str(date.today())
        serving["figures"] |= {part: list(map(asdict, found[part])) for part in found}
        report.write_serving(measured)


if __name__ == "__main__":
    main()
