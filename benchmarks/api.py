"""The server under load, beside the server of llama-cpp-python with the same weights.

``make bench-api`` runs it; the last line printed is ``worst ratio R (cell)``.  The peer lives in an
environment of its own (``--peer``: its python), built from source by the target.  Both servers run
in turns, one at a time, on both cores; the same client loads them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STREAMS = {1: 1.5, 8: 3.0, 32: 4.0}  # concurrent streams, and the bar for the ratio
TOKENS = 64
SECONDS = 8.0
TICKS = os.sysconf("SC_CLK_TCK")
WORDS = ("fox", "hare", "wood", "king", "river", "child", "stone", "night", "bread", "lamp", "mill")


@dataclass
class Load:
    """What a client saw."""

    tokens: int = 0
    requests: int = 0
    first: list[float] = field(default_factory=list)
    seconds: float = 0.0
    cpu_s: float = 0.0

    @property
    def rate(self) -> float:
        """Tokens per second of all streams together."""
        return self.tokens / self.seconds


@dataclass(frozen=True)
class Peer:
    """A kind of server: how it is started and asked."""

    name: str
    command: list[str]
    path: str
    env: dict[str, str]

    def body(self, prompt: str, seed: int) -> dict[str, object]:
        """Return a request for a stream of exactly `TOKENS` tokens."""
        if self.name == "cacher":
            return {"text_input": prompt, "max_new_tokens": TOKENS, "min_tokens": TOKENS,
                    "seed": seed, "stream": True}  # fmt: skip
        return {"prompt": prompt, "max_tokens": TOKENS, "seed": seed, "stream": True,
                "temperature": 0.7, "top_p": 0.9, "top_k": 0, "min_p": 0.0,
                "repeat_penalty": 1.0, "logit_bias": {"0": -100}}  # fmt: skip


def free_port() -> int:
    """Return a port that nobody uses."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextmanager
def running(peer: Peer, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A server that answers."""
    command = [part.replace("PORT", str(port)) for part in peer.command]
    env = os.environ | peer.env
    log = tempfile.TemporaryFile()  # noqa: SIM115 - open while the server runs
    process = subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=log, stderr=log, start_new_session=True
    )
    try:
        for _ in range(300):
            if process.poll() is not None:
                log.seek(0)
                raise RuntimeError(f"{peer.name} died: {log.read().decode()[-2000:]}")
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far."""
    parts = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(parts[11]) + int(parts[12])) / TICKS


async def stream_once(peer: Peer, port: int, number: int, load: Load) -> None:
    """Send one request on a connection of its own and count its events."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    words = [WORDS[(number * 7 + i * i) % len(WORDS)] for i in range(12)]
    prompt = f"Once upon a time, {number}, there was a " + " and a ".join(words)
    body = json.dumps(peer.body(prompt, number)).encode()
    head = (
        f"POST {peer.path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Accept: text/event-stream\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    started = time.perf_counter()
    writer.write(head.encode() + body)
    events = 0
    while chunk := await reader.read(1 << 16):
        found = chunk.count(b"data: {")
        if found and not events:
            load.first.append(time.perf_counter() - started)
        events += found
        load.tokens += found
    writer.close()
    if events < TOKENS // 2:
        raise RuntimeError(f"{peer.name} sent {events} events for {prompt!r}")
    load.requests += 1


async def load_server(peer: Peer, port: int, pid: int, streams: int, first: int) -> Load:
    """Keep `streams` requests running for a while."""
    load = Load()
    numbers = iter(range(first, 1 << 30))
    end = time.perf_counter() + SECONDS

    async def client() -> None:
        while time.perf_counter() < end:
            await stream_once(peer, port, next(numbers), load)

    started, cpu = time.perf_counter(), cpu_seconds(pid)
    await asyncio.gather(*(client() for _ in range(streams)))
    load.seconds, load.cpu_s = time.perf_counter() - started, cpu_seconds(pid) - cpu
    return load


def measure(peers: list[Peer], reps: int) -> dict[tuple[str, int], list[Load]]:
    """Let the servers take turns."""
    found: dict[tuple[str, int], list[Load]] = {}
    for rep in range(reps):
        for peer in peers:
            port = free_port()
            with running(peer, port) as process:
                asyncio.run(stream_once(peer, port, 0, Load()))  # loads the model
                for streams in STREAMS:
                    first = 1 + 1_000_000 * rep + 10_000 * streams
                    load = asyncio.run(load_server(peer, port, process.pid, streams, first))
                    found.setdefault((peer.name, streams), []).append(load)
    return found


def middle(loads: list[Load], what: str) -> float:
    """Median over the repetitions."""
    if what == "first":
        return statistics.median(statistics.median(load.first) for load in loads)
    return statistics.median(getattr(load, what) for load in loads)


def peers(python: str) -> list[Peer]:
    """Return cacher and its peer; writes the peer's file of the built-in model."""
    gguf = ROOT / "build" / "bench" / "tales.gguf"
    gguf.parent.mkdir(parents=True, exist_ok=True)
    tales = ROOT / "cacher" / "models" / "tales"
    subprocess.run([python, ROOT / "benchmarks" / "gguf_tales.py", tales, gguf], check=True)
    states = tempfile.mkdtemp()
    ours = [sys.executable, "-m", "cacher", "serve", "--port", "PORT", "--log-level", "warning"]
    theirs = [python, "-m", "llama_cpp.server", "--model", str(gguf), "--port", "PORT",
              "--n_threads", "2", "--n_ctx", "1024", "--verbose", "false",
              "--interrupt_requests", "false"]  # fmt: skip
    return [
        Peer(
            "cacher", ours, "/generate", {"CACHER_CACHE_DIR": states, "CACHER_MODEL_NAME": "tales"}
        ),
        Peer("llama.cpp", theirs, "/v1/completions", {}),
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", required=True, help="python that has llama-cpp-python[server]")
    parser.add_argument("--reps", type=int, default=3)
    options = parser.parse_args()
    found = measure(peers(options.peer), options.reps)
    ratios = {}
    for streams, bar in STREAMS.items():
        ours, theirs = found["cacher", streams], found["llama.cpp", streams]
        ratio = middle(ours, "rate") / middle(theirs, "rate")
        faster = middle(theirs, "first") / middle(ours, "first")
        ratios[ratio] = f"{streams} streams, tokens per second"
        ratios[faster] = f"{streams} streams, time to first token"
        per_token = 1e6 * sum(load.cpu_s for load in ours) / sum(load.tokens for load in ours)
        print(f"{streams:3} streams: {middle(ours, 'rate'):7.0f} tok/s against "
              f"{middle(theirs, 'rate'):6.0f}: {ratio:.2f} (bar {bar}); first token "
              f"{1e3 * middle(ours, 'first'):.1f} ms against {1e3 * middle(theirs, 'first'):.1f}: "
              f"{faster:.2f}; {per_token:.0f} us of CPU a token")  # fmt: skip
    worst = min(ratios)
    print(f"worst ratio {worst:.2f} ({ratios[worst]})")


if __name__ == "__main__":
    main()
