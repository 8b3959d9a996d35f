"""Models for the tests of pipelines, and short ways to ask."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from cacher.typedefs import Request, Response


def ask(prompt: str = "p", n: int = 1, id: Any = "1", ns: str | None = "a") -> Request:  # noqa: A002
    return Request(prompt=prompt, n=n, request_id=id, namespace=ns)


async def together(pipeline: Any, *requests: Request, errors: bool = False) -> list[Any]:
    """Send requests at once, in this order."""
    return await asyncio.gather(*map(pipeline.request, requests), return_exceptions=errors)


class Counting:
    """Gives "<prompt> <i>" with i counting the samples of each prompt; notes all it was asked.

    Prompts that begin with "bad" raise, as long as `raising` is set.  A call waits for `gate`.
    """

    def __init__(self) -> None:
        self.calls: list[list[Request]] = []
        self.samples = 0
        self.given: dict[str, int] = {}
        self.raising: Callable[[Request], BaseException] | None = lambda _: ValueError("no")
        self.gate: asyncio.Event | None = None
        self.called = asyncio.Event()
        self.running = self.most_running = 0

    @property
    def sizes(self) -> list[int]:
        return [len(call) for call in self.calls]

    @property
    def counts(self) -> list[int]:
        return [request.n for call in self.calls for request in call]

    @property
    def prompts(self) -> list[str]:
        return [request.prompt for call in self.calls for request in call]

    async def _called(self, requests: list[Request]) -> None:
        self.calls.append(requests)
        self.called.set()
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        try:
            if self.gate is not None:
                await self.gate.wait()
        finally:
            self.running -= 1

    def _refuse(self, request: Request) -> None:
        if self.raising is not None and request.prompt.startswith("bad"):
            raise self.raising(request)

    def _draw(self, request: Request) -> Response:
        first = self.given.get(request.prompt, 0)
        self.given[request.prompt] = first + request.n
        self.samples += request.n
        return Response([f"{request.prompt} {first + i}" for i in range(request.n)])


class Single(Counting):
    async def request(self, request: Request) -> Response:
        await self._called([request])
        self._refuse(request)
        return self._draw(request)


class Grouped(Counting):
    async def batch_request(self, batch: Any) -> list[Any]:
        await self._called(list(batch.requests))
        for request in batch.requests:
            self._refuse(request)
        return [self._draw(request) for request in batch.requests]


class Answering:
    """A batch model that answers with what a function makes of the requests."""

    def __init__(self, answer: Callable[[list[Request]], Any]) -> None:
        self.answer = answer
        self.calls = 0

    async def batch_request(self, batch: Any) -> Any:
        self.calls += 1
        return self.answer(list(batch.requests))
