"""2,000 requests through a pipeline over a cache in a folder; says what it buys and answers.

python -m tests.crash.pipeline_worker FOLDER

Lines of JSON: ["buy", key, [indices]] before samples are made, ["answer", id, [samples]].  A sample
begins with its key and its index, so that every run gives each request the same.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from typing import Any

from cacher.pipelines import Cache, OnlineAPI
from cacher.typedefs import Request, Response

REQUESTS = 2000
WAVE, PIECES = 40, 50  # requests at once, and the samples that they want
KEYS, NAMESPACES = 700, 3


def waves() -> list[list[Request]]:
    """The requests, the same in every run."""
    rng, found = random.Random(7), []
    for wave in range(REQUESTS // WAVE):
        sizes = [2] * (PIECES - WAVE) + [1] * (2 * WAVE - PIECES)
        rng.shuffle(sizes)
        found.append(
            [
                Request(
                    prompt=f"prompt-{rng.randrange(KEYS)}", n=n, request_id=f"{wave:02}-{i:02}",
                    namespace=f"space-{rng.randrange(NAMESPACES)}",
                )
                for i, n in enumerate(sizes)
            ]
        )  # fmt: skip
    return found


def say(*what: object) -> None:
    """Write a line at once: it is heard as a whole or not at all."""
    os.write(1, json.dumps(what).encode() + b"\n")


class Model:
    """Makes samples that say which they are."""

    def __init__(self, tell: Any = say) -> None:
        self.tell = tell

    async def request(self, request: Request) -> Response:
        """Make samples."""
        first = request.sample_index
        indices = list(range(first, first + request.n))
        self.tell("buy", request.prompt, indices)
        await asyncio.sleep(0)
        return Response([f"{request.prompt} {index} " + "word " * 100 for index in indices])


async def run(cache: Any, tell: Any = say) -> None:
    """Make all requests, wave after wave."""
    async with OnlineAPI(
        Model(tell), cache, batch_size=PIECES, hash=lambda request: request.prompt, timeout=10
    ) as api:

        async def ask(request: Request) -> None:
            answer = await api.request(request)
            tell("answer", request.request_id, [text.rstrip() for text in answer.data])

        for wave in waves():
            await asyncio.gather(*map(ask, wave))


def expected() -> dict[str, list[str]]:
    """The answers of a run that nobody kills."""
    found: dict[str, list[str]] = {}

    def note(verb: str, name: str, what: list[str]) -> None:
        if verb == "answer":
            found[name] = what

    asyncio.run(run({}, note))
    return found


if __name__ == "__main__":
    asyncio.run(run(Cache(sys.argv[1])))
