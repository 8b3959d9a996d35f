"""The server under load, beside the server of llama-cpp-python with the same weights.

``make bench-api`` runs it; the last line printed is ``worst ratio R (cell)``.  The peer lives in an
environment of its own (``--peer``: its python), built from source by the target.  Both servers run
in turns, one at a time, on both cores; the same client loads them.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass, field

from serving import ROOT, SERVE, Server, prompt, running, stream

STREAMS = {1: 1.5, 8: 3.0, 32: 4.0}  # concurrent streams, and the bar for the ratio
TOKENS = 64
SECONDS = 8.0


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


async def stream_once(peer: Peer, port: int, number: int, load: Load) -> None:
    """Send one request and count what comes."""
    events, first = await stream(port, peer.path, peer.body(prompt(number), number))
    if events < TOKENS // 2:
        raise RuntimeError(f"{peer.name} sent {events} events for {prompt(number)!r}")
    load.first.append(first)
    load.tokens += events
    load.requests += 1


async def load_server(peer: Peer, server: Server, streams: int, first: int) -> Load:
    """Keep `streams` requests running for a while."""
    load = Load()
    numbers = iter(range(first, 1 << 30))
    end = time.perf_counter() + SECONDS

    async def client() -> None:
        while time.perf_counter() < end:
            await stream_once(peer, server.port, next(numbers), load)

    started, cpu = time.perf_counter(), server.cpu_s()
    await asyncio.gather(*(client() for _ in range(streams)))
    load.seconds, load.cpu_s = time.perf_counter() - started, server.cpu_s() - cpu
    return load


def measure(peers: list[Peer], reps: int) -> dict[tuple[str, int], list[Load]]:
    """Let the servers take turns."""
    found: dict[tuple[str, int], list[Load]] = {}
    for rep in range(reps):
        for peer in peers:
            with running(peer.name, peer.command, peer.env) as server:
                asyncio.run(stream_once(peer, server.port, 0, Load()))  # loads the model
                for streams in STREAMS:
                    first = 1 + 1_000_000 * rep + 10_000 * streams
                    load = asyncio.run(load_server(peer, server, streams, first))
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
    subprocess.run([python, ROOT / "benchmarks" / "gguf_model.py", tales, gguf, "f32"], check=True)
    states = tempfile.mkdtemp()
    theirs = [python, "-m", "llama_cpp.server", "--model", str(gguf), "--port", "PORT",
              "--n_threads", "2", "--n_ctx", "1024", "--verbose", "false",
              "--interrupt_requests", "false"]  # fmt: skip
    return [
        Peer(
            "cacher", SERVE, "/generate", {"CACHER_CACHE_DIR": states, "CACHER_MODEL_NAME": "tales"}
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
