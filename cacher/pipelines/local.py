"""Clients for a model of this package that look like OpenAI's, with a cache of samples behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from hashlib import sha256
from os import PathLike
from typing import TYPE_CHECKING, Any

from cacher.pipelines.completion import ChatCompletion, completion, joined
from cacher.pipelines.llm import LocalLLM, Sample, sample_seed
from cacher.pipelines.wrapper import AsyncWrapper, SyncWrapper, Wrapper
from cacher.typedefs import Batch, Request, Response
from cacher.typedefs import hash as key_of

if TYPE_CHECKING:
    from cacher.engine import Engine
    from cacher.model import Model

GROUPS = 4  # under way at a time: where one runs out, the samples of others take its places

__all__ = ["AsyncLocal", "ChatCompletion", "Local", "LocalLLM", "sample_seed"]


class Completions:
    """A `LocalLLM` whose samples are chat completions with one answer each.

    Its keys hold what the model is and how it was made: another model, temperature or seed has
    samples of its own.

    Args:
        llm: The model.
    """

    def __init__(self, llm: LocalLLM) -> None:
        self.llm = llm
        self._identity = llm.identity.encode()

    def hash(self, request: Request) -> str:
        """Return the key of a request."""
        return sha256(self._identity + key_of(request).encode()).hexdigest()

    async def batch_request(self, batch: Batch) -> list[Response | Exception]:
        """Return the answers of all members, or in its place what failed."""
        drawn = await self.llm.draw_all(batch.requests)
        return [
            found if isinstance(found, Exception) else Response([self._made(s) for s in found])
            for found in drawn
        ]

    def pack(self, sample: ChatCompletion) -> dict[str, Any]:
        """Return what the store keeps of a sample."""
        return sample.model_dump()

    def unpack(self, data: dict[str, Any]) -> ChatCompletion:
        """Return the sample that was packed."""
        return ChatCompletion.model_validate(data)

    def _made(self, sample: Sample) -> ChatCompletion:
        return completion(
            f"chatcmpl-{sample.seed:016x}", int(time.time()), self.llm.model.name, sample.text,
            sample.finish_reason, sample.prompt_tokens, sample.completion_tokens,
        )  # fmt: skip


class _Client(Wrapper):
    """What both clients are made of."""

    def __init__(
        self,
        model: str | PathLike[str] | Model | Engine,
        namespace: str = "default",
        cachedir: str | PathLike[str] = "./cache",
        batch_size: int = 8,
        timeout: float | None = 0.01,
        *,
        cache: Any = None,
        progress: Callable[[dict[str, Any]], object] | None = None,
        **engine_options: Any,
    ) -> None:
        """Open the model where it is not open."""
        super().__init__(
            _completions(model, batch_size, engine_options), namespace, cachedir, batch_size,
            joined, "ordered", timeout, cache=cache, progress=progress,
        )  # fmt: skip
        self.pipeline.hardware_batcher.max_concurrent_batches = GROUPS

    async def _cleanup(self) -> None:
        await super()._cleanup()
        await self.model.llm.aclose()


class AsyncLocal(_Client, AsyncWrapper):
    """A client of a model of this package; see `cacher.pipelines.wrapper`.

    ``client.chat.completions.create(messages=..., n=..., max_tokens=...)`` returns a
    `ChatCompletion`.  Behind it are an `OrderedLocalAPI` and a `LocalLLM`.

    Args:
        model: As of `LocalLLM`.
        namespace: The namespace of calls that name none.
        cachedir: The folder of the samples.
        batch_size: Samples that are computed together at most.
        timeout: Seconds that samples wait for others to go with.
        cache: A store in place of the folder's.
        progress: Called with what happens; see the pipelines.
        **engine_options: Other options of `LocalLLM`.

    Example:
        >>> import asyncio, tempfile
        >>> async def main():
        ...     async with AsyncLocal("tales", cachedir=tempfile.mkdtemp()) as client:
        ...         story = [{"role": "user", "content": "Once upon a"}]
        ...         return await client.chat.completions.create(messages=story, n=2, max_tokens=8)
        >>> [choice.index for choice in asyncio.run(main()).choices]
        [0, 1]
    """


class Local(_Client, SyncWrapper):
    """The same with calls that return values; see `AsyncLocal`.

    Example:
        >>> import tempfile
        >>> with Local("tales", cachedir=tempfile.mkdtemp(), temperature=0) as client:
        ...     story = [{"role": "user", "content": "Once upon a"}]
        ...     answer = client.chat.completions.create(messages=story, max_tokens=1)
        >>> answer.choices[0].message.content
        ' time'
    """


def _completions(
    model: str | PathLike[str] | Model | Engine, batch_size: int, options: dict[str, Any]
) -> Completions:
    return Completions(LocalLLM(model, **{"max_batch": batch_size, **options}))
