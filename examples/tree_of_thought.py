"""A search through a tree of thoughts: a story that is to hold certain words.

From the best beginnings found so far several sentences are proposed; each new beginning is valued
by how many of the words are told when the story goes on from there; the best go on.  Everything
that is asked of the model goes through a cache of samples: run the program again and it makes no
call, and finds the same story.

    python examples/tree_of_thought.py                       # the model that comes with the package
    python examples/tree_of_thought.py --base-url http://localhost:9000/v1 --model small
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cacher.pipelines.local import AsyncLocal
from cacher.pipelines.openai import AsyncOpenAI

BEGINNING = "Once upon a time there was a little fox."
WORDS = ("water", "friend", "home")
INSTRUCTION = "Go on with this story by one short sentence. Answer with that sentence alone."


@dataclass(frozen=True)
class Thought:
    """A beginning of a story, and what it promises: the share of the words, 0 to 1."""

    story: str
    value: float = 0.0


@dataclass
class Search:
    """The search; `client` is of any kind that has ``chat.completions.create``."""

    client: Any
    words: Sequence[str] = WORDS
    model: str | None = None  # an endpoint's; the local one has only one
    depth: int = 3  # sentences
    breadth: int = 2  # beginnings that go on
    branches: int = 4  # sentences proposed for each
    trials: int = 4  # continuations that value each
    asked: int = 0  # samples
    cached: int = 0  # those that were not made now

    async def run(self, beginning: str = BEGINNING) -> Thought:
        """Return the best story found."""
        best = [Thought(beginning)]
        for step in range(self.depth):
            proposed = await asyncio.gather(
                *(self._propose(thought, f"{step}.{i:03}") for i, thought in enumerate(best))
            )
            stories = dict.fromkeys(story for several in proposed for story in several)
            thoughts = await asyncio.gather(
                *(self._value(story, f"{step}.{i:03}") for i, story in enumerate(stories))
            )
            best = sorted(thoughts, key=lambda thought: -thought.value)[: self.breadth]
        return best[0]

    async def _propose(self, thought: Thought, number: str) -> list[str]:
        said = await self._ask("propose", number, thought.story, self.branches)
        return [f"{thought.story} {' '.join(text.split())}." for text in said]

    async def _value(self, story: str, number: str) -> Thought:
        said = await self._ask("value", number, story, self.trials)
        told = [sum(word in f"{story} {text}" for word in self.words) for text in said]
        return Thought(story, sum(told) / (len(told) * len(self.words)))

    async def _ask(self, purpose: str, number: str, story: str, n: int) -> list[str]:
        """Return n sentences; each purpose reads the samples of a prompt from the first on."""
        messages = [{"role": "user", "content": story}]
        options: dict[str, Any] = {"stop": ".", "max_tokens": 40, "temperature": 0.9}
        if self.model is not None:
            messages.insert(0, {"role": "system", "content": INSTRUCTION})
            options["model"] = self.model
        reply, samples = await self.client.chat.completions.create(
            messages=messages, n=n, namespace=purpose, request_id=number, metadata=True, **options
        )
        self.asked += n
        self.cached += sum(samples.cached)
        return [choice.message.content for choice in reply.choices]


def client_of(arguments: argparse.Namespace) -> Any:
    """Return a client of an endpoint, or of a model of this package."""
    if arguments.base_url:
        return AsyncOpenAI(
            cachedir=arguments.cache, batch_size=32, base_url=arguments.base_url,
            api_key=arguments.api_key,
        )  # fmt: skip
    return AsyncLocal(arguments.model, cachedir=arguments.cache)


async def main(arguments: argparse.Namespace) -> None:
    """Search, and say what was found and what it took."""
    async with client_of(arguments) as client:
        model = arguments.model if arguments.base_url else None
        search = Search(client, arguments.words, model, arguments.depth)
        best = await search.run()
        calls = client.stats()["model_calls"]
    print(best.story)
    print(
        f"value {best.value:.2f}; {search.asked} samples, {search.cached} of them cached; ", end=""
    )
    print(f"{calls} calls of the model")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="tales", help="a name, a folder; or the endpoint's name")
    parser.add_argument("--base-url", help="of an OpenAI-compatible endpoint")
    parser.add_argument("--api-key", default="none")
    parser.add_argument("--cache", default="cache", help="folder of the samples")
    parser.add_argument("--depth", type=int, default=3, help="sentences to add")
    parser.add_argument("words", nargs="*", default=WORDS, help="what the story is to hold")
    asyncio.run(main(parser.parse_args()))
