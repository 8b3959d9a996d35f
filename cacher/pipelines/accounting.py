"""What an experiment spends: calls and tokens counted in front of a pipeline."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, NamedTuple

from cacher.checks import shown
from cacher.errors import ModelContractError
from cacher.typedefs import Request
from cacher.typedefs import hash as key_of

#: What is counted, for each tab.
CALLS = ("total", "cacher", "deduplicator")
TOKENS = {"total": ("in", "out", "cached"), "cacher": ("in", "out"), "duplicator": ("in",)}


class DecodingParameters(NamedTuple):
    """How a model is to choose its tokens, as one value; part of the key.

    Example:
        >>> DecodingParameters(64, 0.7, 1.0, None, None).temperature
        0.7
    """

    max_completion_tokens: int | None
    temperature: float | None
    top_p: float | None
    stop: Any
    logprobs: Any


@dataclass(frozen=True)
class DecodingRequest(Request):
    """What `API` sends: a prompt, the name of a model, and how to choose."""

    model: Any
    max_completion_tokens: int | None
    temperature: float | None
    top_p: float | None
    stop: Any
    logprobs: Any


class Sample(NamedTuple):
    """A sample of a model that counts its tokens."""

    text: Any
    tokens_in: int
    tokens_out: int
    tokens_cached: int = 0  # of the prompt, by the provider


class API:
    """Sends prompts to a pipeline and counts what they cost, under the names of tabs.

    A sample of the model must be ``(text, tokens_in, tokens_out)``, or have a fourth entry: how
    many tokens of the prompt the provider had in a cache of its own.

    Args:
        pipeline: An `OnlineAPI`, or whatever has its `request`.
        model: The name of the model: part of each request, as the decoding parameters are.
        log_path: A text file that each call is appended to.

    Attributes:
        tabs: The names so far, "default" first.
        calls: By tab: samples in `total`, and of these from the `cacher` and the `deduplicator`.
        tokens: By tab: those `in` and `out` in `total` with what the provider had `cached`, those
            of samples from the `cacher`, and those that came `in` once only, by the `duplicator`.
        latencies: By tab: the seconds of each call.
        reuse: By tab and key: how many samples were asked for.

    Example:
        >>> import asyncio
        >>> from cacher.pipelines import OnlineAPI
        >>> from cacher.typedefs import Response
        >>> class Dice:
        ...     async def request(self, request):
        ...         return Response([("six", 4, 1)] * request.n)
        >>> async def main():
        ...     async with OnlineAPI(Dice(), {}, batch_size=4, timeout=0) as pipeline:
        ...         api = API(pipeline, "dice")
        ...         params = DecodingParameters(8, 1.0, None, None, None)
        ...         print(await api.request("Roll.", 2, "1", "a", params), api.calls["default"])
        >>> asyncio.run(main())
        ['six', 'six'] {'total': 2, 'cacher': 0, 'deduplicator': 1}
    """

    def __init__(
        self, pipeline: Any, model: Any, log_path: str | PathLike[str] | None = None
    ) -> None:
        self.pipeline = pipeline
        self.model = model
        self.tabs: list[str] = []
        self.calls: dict[str, dict[str, int]] = {}
        self.tokens: dict[str, dict[str, dict[str, int]]] = {}
        self.latencies: dict[str, list[float]] = {}
        self.reuse: dict[str, dict[str, int]] = {}
        self.update_log_path(log_path)
        self._open("default")

    async def request(
        self,
        prompt: Any,
        n: int,
        request_id: str,
        namespace: str | None,
        params: DecodingParameters,
        tab: str = "default",
    ) -> list[Any]:
        """Return the texts of n samples for a prompt; what fails is not counted.

        Raises:
            ModelContractError: A sample is not of the form above.
        """
        request = DecodingRequest(
            (), {}, n, request_id, namespace, self.model, *params, prompt=prompt
        )
        started = time.perf_counter()
        answer = await self.pipeline.request(request)
        seconds = time.perf_counter() - started
        samples = [_sample(data) for data in answer.data]
        none = [False] * len(samples)
        self._open(tab)
        self.latencies[tab].append(seconds)
        self.reuse[tab][key_of(request)] += n
        for sample, cached, duplicated in zip(
            samples, answer.cached or none, answer.duplicated or none, strict=True
        ):
            self._count(tab, sample, cached, duplicated)
        texts = [sample.text for sample in samples]
        self._log(prompt, n, texts)
        return texts

    def clean(self) -> None:
        """Set what was counted to nothing; the cache stays as it is."""
        tabs, self.tabs = self.tabs, []
        for tab in tabs:
            self._open(tab)

    def update_log_path(self, path: str | PathLike[str] | None) -> None:
        """Append the calls from now on to another file, or to none."""
        self.log_path = path

    def _open(self, tab: str) -> None:
        if tab in self.tabs:
            return
        self.tabs.append(tab)
        self.calls[tab] = dict.fromkeys(CALLS, 0)
        self.tokens[tab] = {part: dict.fromkeys(names, 0) for part, names in TOKENS.items()}
        self.latencies[tab] = []
        self.reuse[tab] = defaultdict(int)

    def _count(self, tab: str, sample: Sample, cached: bool, duplicated: bool) -> None:
        calls, tokens = self.calls[tab], self.tokens[tab]
        calls["total"] += 1
        calls["cacher"] += cached
        calls["deduplicator"] += duplicated
        tokens["total"]["in"] += sample.tokens_in
        tokens["total"]["out"] += sample.tokens_out
        if cached:
            tokens["cacher"]["in"] += sample.tokens_in
            tokens["cacher"]["out"] += sample.tokens_out
        elif duplicated:
            tokens["duplicator"]["in"] += sample.tokens_in
        else:
            tokens["total"]["cached"] += sample.tokens_cached

    def _log(self, prompt: Any, n: int, texts: list[Any]) -> None:
        if self.log_path is None:
            return
        said = [("user", prompt)] if isinstance(prompt, str) else [_message(one) for one in prompt]
        lines = [
            *(f"{role}: {text}" for role, text in said),
            f"n: {n}",
            *(f"answer {index}: {text}" for index, text in enumerate(texts)),
        ]
        # A text may hold half a character, which a file cannot.
        with open(self.log_path, "a", encoding="utf-8", errors="backslashreplace") as log:
            log.write("\n".join(lines) + "\n\n")


def _sample(data: Any) -> Sample:
    if isinstance(data, Sequence) and not isinstance(data, str) and len(data) in (3, 4):
        return Sample(*data)
    raise ModelContractError(
        f"a sample is {shown(data)}, allowed: (text, tokens_in, tokens_out) and, fourth, the "
        "tokens that the provider had cached"
    )


def _message(message: Any) -> tuple[Any, Any]:
    return message.get("role"), message.get("content")
