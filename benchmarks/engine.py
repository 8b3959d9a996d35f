"""What the engine adds to the core, and what a long prompt does to a stream beside it.

Run on an otherwise idle machine, from the repository root: ``python benchmarks/engine.py``.
Each figure is the median of rounds in which what is compared takes turns.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from itertools import pairwise

import cacher
from cacher import Engine, Model, _core

TOKENS = 400
PROMPT = 1000
WINDOW = 16  # tokens over which the time between them is taken
START = 100  # tokens of a stream before a prompt comes
TEXT = "Once upon a time"


def core_alone(model: Model) -> float:
    """Seconds per token of the core's batch with one row, without anything around it."""
    state = model.state(TEXT).forward()
    batch = _core.Batch(model._core, 1, 0, state._store_top_k)
    row = batch.add(state._core, state.config.sampling({"seed": 1}).core(), model.n_ctx)
    started = time.perf_counter()
    for _ in range(TOKENS):
        batch.step()
    seconds = time.perf_counter() - started
    batch.remove(row)
    return seconds / TOKENS


async def streamed(engine: Engine) -> float:
    """Seconds per token of one stream that is read as it comes."""
    state = engine.model.state(TEXT).forward()
    started = time.perf_counter()
    async for _token in engine.stream(state, TOKENS, seed=1):
        pass
    return (time.perf_counter() - started) / TOKENS


async def generated(engine: Engine) -> float:
    """Seconds per token of one request that waits for its end."""
    state = engine.model.state(TEXT).forward()
    started = time.perf_counter()
    await engine.generate(state, TOKENS, seed=1)
    return (time.perf_counter() - started) / TOKENS


async def arrivals(engine: Engine, *, prompt: bool) -> list[float]:
    """When a stream's tokens came, in seconds; with `prompt` while a long one is read beside it."""
    model = engine.model
    came: list[float] = []
    reading: asyncio.Task[cacher.State] | None = None
    stream = engine.stream(model.state(TEXT), 900, seed=1, min_tokens=900)
    async for token in stream:
        came.append(time.perf_counter())
        if prompt and len(came) == START:
            model.drop_cached()
            ids = [300 + (i * 7 + token.token_id) % 3000 for i in range(PROMPT)]
            reading = asyncio.create_task(engine.forward(model.state(ids)))
        elif reading is not None and reading.done():
            break
    await stream.aclose()
    return came[START:]


def paces(came: list[float]) -> list[float]:
    """Seconds between tokens, over `WINDOW` of them: they come in bursts of a few milliseconds."""
    return [(last - first) / WINDOW for first, last in zip(came, came[WINDOW:], strict=False)]


def longest_wait(came: list[float]) -> float:
    """Seconds until the next token at worst."""
    return max(last - first for first, last in pairwise(came))


async def print_stretches(engine: Engine, rounds: int) -> None:
    """Compare the time between tokens beside a prompt with the usual at the same position."""
    alone, beside = [], []
    for _ in range(rounds):
        alone.append(await arrivals(engine, prompt=False))
        beside.append(await arrivals(engine, prompt=True))
    usual = [statistics.median(values) for values in zip(*map(paces, alone), strict=True)]
    for name, runs in (("alone", alone), (f"beside a prompt of {PROMPT}", beside)):
        values = [pace / usual[i] for run in runs for i, pace in enumerate(paces(run))]
        waits = statistics.median(map(longest_wait, runs))
        alone_us = 1e6 * statistics.median(usual)
        print(f"  time between tokens {name}, of the usual {alone_us:.0f} us: "
              f"median {statistics.median(values):.2f}, 90% {share(values, 0.9):.2f}, "
              f"99% {share(values, 0.99):.2f}, longest {max(values):.2f}; "
              f"longest wait {1e3 * waits:.1f} ms")  # fmt: skip


async def latency_under_load(engine: Engine, streams: int) -> list[float]:
    """How late the event loop is, in seconds, while streams run."""
    late: list[float] = []

    async def stream(i: int) -> None:
        async for _token in engine.stream(engine.model.state(TEXT), TOKENS, seed=i):
            pass

    running = [asyncio.create_task(stream(i)) for i in range(streams)]
    while not all(task.done() for task in running):
        started = time.perf_counter()
        await asyncio.sleep(0.001)
        late.append(time.perf_counter() - started - 0.001)
    return late


def share(values: list[float], at: float) -> float:
    """The value below which that share of them lies."""
    return sorted(values)[min(len(values) - 1, int(at * len(values)))]


async def measure(threads: int, rounds: int) -> None:
    """Print all figures for a number of threads."""
    model = cacher.load("tales", threads=threads)
    model.set_prompt_lookup(False)  # guesses come in bursts, and never beside prompts
    async with Engine(model) as engine:
        core, stream, generate = [core_alone(model)], [], []
        for _ in range(4 * rounds):  # each beside the core just before and just after it
            for found, run in ((generate, generated), (stream, streamed)):
                seconds = await run(engine)
                core.append(core_alone(model))
                found.append(2 * seconds / (core[-2] + core[-1]) - 1)
        print(f"{threads} threads: core {1e6 * statistics.median(core):.0f} us a token; "
              f"generate {statistics.median(generate):+.1%}, "
              f"stream {statistics.median(stream):+.1%}")  # fmt: skip
        await print_stretches(engine, rounds)
        late = await latency_under_load(engine, 16)
        print(f"  16 streams: the event loop is late by {1e3 * share(late, 0.99):.1f} ms at 99%")


def main() -> None:
    """Measure with one and two threads."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    for threads in (1, 2):
        asyncio.run(measure(threads, options.rounds))


if __name__ == "__main__":
    main()
