"""What the engine adds to the core, and what a long prompt does to a stream beside it.

Run on an otherwise idle machine, from the repository root: ``python benchmarks/engine.py``.
Each figure is the median of rounds in which what is compared takes turns.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time

import cacher
from cacher import Engine, Model, _core

TOKENS = 400
PROMPT = 1000
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


async def gaps(engine: Engine, *, prompt: bool) -> list[float]:
    """Seconds between tokens of a stream; with `prompt` while a long prompt is read beside it."""
    model = engine.model
    found: list[float] = []
    reading: asyncio.Task[cacher.State] | None = None
    stream = engine.stream(model.state(TEXT), 900, seed=1, min_tokens=900)
    last = time.perf_counter()
    async for token in stream:
        now = time.perf_counter()
        found.append(now - last)
        last = now
        if prompt and reading is None and len(found) == START:
            model.drop_cached()
            ids = [300 + (i * 7 + token.token_id) % 3000 for i in range(PROMPT)]
            reading = asyncio.create_task(engine.forward(model.state(ids)))
        elif reading is not None and reading.done():
            break
    await stream.aclose()
    return found[START:]


async def stretches(engine: Engine, rounds: int) -> tuple[list[float], list[float], float]:
    """Gaps of a stream by their usual at the same position: alone, and beside a prompt."""
    alone = [await gaps(engine, prompt=False) for _ in range(rounds)]
    usual = [statistics.median(values) for values in zip(*alone, strict=True)]
    beside = [await gaps(engine, prompt=True) for _ in range(rounds)]
    by_usual = [
        [gap / usual[i] for run in runs for i, gap in enumerate(run) if i < len(usual)]
        for runs in (alone, beside)
    ]
    return by_usual[0], by_usual[1], statistics.median(usual)


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
    async with Engine(model) as engine:
        core, stream, generate = [], [], []
        for _ in range(rounds):
            core.append(core_alone(model))
            stream.append(await streamed(engine))
            generate.append(await generated(engine))
        alone = statistics.median(core)
        print(f"{threads} threads: core {1e6 * alone:.0f} us a token; "
              f"generate {statistics.median(generate) / alone - 1:+.1%}, "
              f"stream {statistics.median(stream) / alone - 1:+.1%}")  # fmt: skip
        usual, beside, seconds = await stretches(engine, rounds)
        for name, values in (("alone", usual), (f"beside a prompt of {PROMPT}", beside)):
            print(f"  gaps of a stream {name}, of the usual {1e6 * seconds:.0f} us: "
                  f"median {statistics.median(values):.2f}, 90% {share(values, 0.9):.2f}, "
                  f"99% {share(values, 0.99):.2f}, longest {max(values):.2f}")  # fmt: skip
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
