"""The streams that benchmarks/operations.py asks a server for, without HTTP.

The same generations from the same engine, kept in a store of their own; like the server's, it
guesses ahead (prompt lookup), as by default.

A line ``STREAMS REQUESTS FIRST`` on standard input is answered with the CPU seconds of the event
loop's thread.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time

import uvloop
from serving import prompt

import cacher
from cacher.states import States
from cacher.stores.files import FileStore

TOKENS = 100


async def run(engine: cacher.Engine, states: States, model: cacher.Model, number: int) -> None:
    """Generate as ``POST /generate`` does, and keep the state."""
    state = model.state()
    await engine.forward(state, prompt(number))
    options = {"min_tokens": TOKENS, "seed": number}
    async with engine.stream(state, TOKENS, **options) as stream:
        async for _ in stream:
            pass
    await states.add(state)


async def main() -> None:
    """Answer lines until there are no more."""
    model = cacher.load("tales")
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory() as folder:
        async with (
            cacher.Engine(model) as engine,
            States(lambda _: model, FileStore(folder)) as states,
        ):
            while line := await loop.run_in_executor(None, sys.stdin.readline):
                streams, requests, first = map(int, line.split())
                numbers = iter(range(first, first + requests))

                async def client(numbers=numbers) -> None:
                    for number in numbers:
                        await run(engine, states, model, number)

                before = time.thread_time()
                await asyncio.gather(*(client() for _ in range(streams)))
                print(time.thread_time() - before, flush=True)


if __name__ == "__main__":
    uvloop.run(main())
