"""Remembering answers before anybody asks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

from cacher.checks import boolean
from cacher.errors import ParameterError
from cacher.semantic.asking import Generate, called, generated, name_of
from cacher.semantic.entry import Warmed, check_query, check_text, pair, source_of

if TYPE_CHECKING:
    from cacher.semantic.cache import SemanticCache

TOGETHER = 16  # answers that are generated at the same time
MAX_WARMUP = 100_000  # texts


class Warming:
    """The warm-up of `cacher.SemanticCache`."""

    def warmup(
        self,
        queries: Sequence[str | tuple[str, str]],
        generate: Callable[[str], str] | None = None,
        *,
        overwrite: bool = False,
        tenant: str = "",
    ) -> Warmed:
        """Remember answers before anybody asks.

        Args:
            queries: Texts, whose answers are generated; or texts with their answers.
            generate: For texts alone.
            overwrite: Whether texts that are there get a new answer; else they are skipped.
            tenant: Whose entries.

        Raises:
            ParameterError: A text without an answer, and nothing to generate it; or as `put`.
        """
        plan = self._warming(queries, generate, overwrite, tenant)
        for query in plan.unanswered:
            assert generate is not None
            plan.answers[query] = called(generate, query)
        return plan.stored()

    async def awarmup(
        self,
        queries: Sequence[str | tuple[str, str]],
        generate: Generate | None = None,
        *,
        overwrite: bool = False,
        tenant: str = "",
    ) -> Warmed:
        """Do what `warmup` does; up to 16 answers are generated at a time."""
        plan = await asyncio.to_thread(self._warming, queries, generate, overwrite, tenant)
        free = asyncio.Semaphore(TOGETHER)

        async def one(query: str) -> None:
            async with free:
                assert generate is not None
                plan.answers[query] = await generated(generate, query)

        async with asyncio.TaskGroup() as group:
            for query in plan.unanswered:
                group.create_task(one(query))
        return await asyncio.to_thread(plan.stored)

    def _warming(
        self,
        queries: Sequence[str | tuple[str, str]],
        generate: Generate | None,
        overwrite: bool,
        tenant: str,
    ) -> _Warming:
        cache = cast("SemanticCache", self)
        boolean("overwrite", overwrite)
        if isinstance(queries, str) or len(queries) > MAX_WARMUP:
            raise ParameterError(f"queries must be a list of at most {MAX_WARMUP} texts")
        shelf = cache._fresh(tenant)
        plan = _Warming(cache, tenant, {}, {}, 0)
        skipped = 0
        for item in queries:
            given, answer = (item, None) if isinstance(item, str) else pair(item)
            query = check_query(given)
            if not overwrite and (query in plan.answers or shelf.partition.find(query)):
                skipped += 1
                continue
            plan.sources[query] = name_of(generate) if answer is None else "warmup"
            plan.answers[query] = None if answer is None else check_text("response", answer)
        if plan.unanswered and generate is None:
            raise ParameterError(f"{len(plan.unanswered)} texts have no answer, and there is "
                                 "nothing to generate one")  # fmt: skip
        return plan._replace(skipped=skipped)


class _Warming(NamedTuple):
    cache: SemanticCache
    tenant: str
    answers: dict[str, object]
    sources: dict[str, str]
    skipped: int

    @property
    def unanswered(self) -> list[str]:
        return [query for query, answer in self.answers.items() if answer is None]

    def stored(self) -> Warmed:
        items = []
        for query, answer in self.answers.items():
            text = check_text("response", answer)
            source = check_text("source", source_of(text, self.sources[query]))
            items.append((query, str(text), source))
        self.cache._store_all(items, None, self.tenant)
        size = len(self.cache._shelf(self.tenant).partition)
        return Warmed(len(items), self.skipped, size)
