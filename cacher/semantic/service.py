"""The semantic cache of a server: its embedder, its file, what answers, and how it fares.

A `SemanticCache` knows nothing of these.  What blocks runs in threads; all methods belong to one
event loop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

from cacher.checks import shown
from cacher.errors import (
    EmbedderError,
    EngineClosedError,
    ParameterError,
    QueueFullError,
    StoreError,
)
from cacher.semantic.cache import SemanticCache
from cacher.semantic.entry import Response
from cacher.semantic.monitor import Monitor, Totals
from cacher.semantic.responder import LmResponder, Responder
from cacher.semantic.settings import PREFIX, SemanticSettings
from cacher.semantic.startup import cache_of, embedder_of, responder_of, warmup_of

if TYPE_CHECKING:
    from cacher.engine import Engine
    from cacher.model import Model
    from cacher.registry import Registry
    from cacher.semantic.entry import Answer, SemanticStats, Warmed

ROUTES = ("/query", "/cache")  # of this service, or what they begin with
WAITS = (QueueFullError, EngineClosedError)  # of an engine: may be tried again

log = logging.getLogger(__name__)


class SemanticService:
    """What the requests of a server share of its semantic cache.

    Args:
        settings: What it is told.
        registry: The server's models: the embedder is one of them.
        engine: Gives the engine of a model; for answers.
        shared_files: Whether other processes use the same files.
    """

    def __init__(
        self,
        settings: SemanticSettings,
        registry: Registry,
        engine: Callable[[Model], Engine],
        *,
        shared_files: bool = False,
    ) -> None:
        if settings.PERSIST_PATH and shared_files and settings.STORE == "memory":
            raise ParameterError(
                f"{PREFIX}PERSIST_PATH is {shown(settings.PERSIST_PATH)} and there are several "
                f"workers, each with entries of its own: give {PREFIX}STORE, which they share"
            )
        self.settings = settings
        self.monitor = Monitor(settings.ALERT_ERROR_RATE)
        self.failure: EmbedderError | None = None  # of the last try to load the embedder
        self._registry = registry
        self._engine = engine
        self._responder = responder_of(settings)
        self._warmup = warmup_of(settings)
        self._started = time.monotonic()
        self._cache: SemanticCache | None = None
        self._began = False
        self._beginning = asyncio.Lock()
        self._dumper: asyncio.Task[None] | None = None
        self._dumped: object = None  # what `_mark` said then
        self._dumping = asyncio.Lock()

    # ---- the life of the service

    async def open(self) -> None:
        """Open the store; nothing is loaded.

        Raises:
            ModelNotFoundError: There is no model that embeds.
            StoreError: The store cannot be opened; the message names the variable.
        """
        self._embedder = embedder_of(self.settings, self._registry)
        self._cache = await asyncio.to_thread(cache_of, self.settings, self._embedder)

    @property
    def prepares(self) -> bool:
        """Whether there is a file to read, or a warm-up to do, before the first query."""
        return bool(self.settings.PERSIST_PATH or self._warmup)

    async def begin(self) -> SemanticCache:
        """Return the cache with its embedder loaded, its file read and the warm-up done.

        Raises:
            EmbedderError: The model that embeds cannot be loaded.
            StoreError: The file cannot be read; the message names the variable.
        """
        cache = self.cache
        if not self._embedder.loaded:
            try:
                await asyncio.to_thread(self._embedder.load)
            except EmbedderError as error:
                self.failure = error
                raise
            self.failure = None
        if not self._began:
            async with self._beginning:
                if not self._began:
                    await self._begin(cache)
                    self._began = True
        return cache

    async def _begin(self, cache: SemanticCache) -> None:
        path = self.settings.PERSIST_PATH
        if path and os.path.exists(path):
            try:
                n = await asyncio.to_thread(cache.load, path)
            except StoreError as error:
                raise StoreError(f"{PREFIX}PERSIST_PATH: {error}") from error
            log.info("%d entries of %s", n, path)
        self._dumped = await asyncio.to_thread(self._mark)
        if self._warmup:
            done = await cache.awarmup(self._warmup, self._generate(""))
            log.info("warm-up: %d entries added, %d skipped", done.added, done.skipped)
        if path:
            self._dumper = asyncio.create_task(self._dump_again())

    async def close(self) -> None:
        """End: what has changed is dumped, and the store closed."""
        if self._dumper is not None:
            self._dumper.cancel()
            await asyncio.gather(self._dumper, return_exceptions=True)
            try:
                await self._dump_changes()
            except StoreError as error:
                log.error("%sPERSIST_PATH: %s", PREFIX, error)
        if self._cache is not None:
            await asyncio.to_thread(self._cache.close)
            self._cache = self._responder = None
            del self._embedder

    @property
    def cache(self) -> SemanticCache:
        """The cache.

        Raises:
            EmbedderError: There is none, for want of a model that embeds.
        """
        if self._cache is None:
            raise EmbedderError("No embedding model is available on this server")
        return self._cache

    # ---- what requests ask

    async def query(
        self, query: str, *, use_cache: bool, similarity_threshold: float | None, tenant: str
    ) -> Answer:
        """Return the remembered answer to a query, or a new one; as `SemanticCache.aquery`."""
        cache = await self.begin()
        return await cache.aquery(
            query, self._generate(tenant), use_cache=use_cache,
            similarity_threshold=similarity_threshold, tenant=tenant,
        )  # fmt: skip

    async def warmup(
        self, items: Sequence[str | tuple[str, str]], *, overwrite: bool, tenant: str
    ) -> Warmed:
        """Remember answers before anybody asks; as `SemanticCache.awarmup`."""
        cache = await self.begin()
        try:
            return await cache.awarmup(
                items, self._generate(tenant), overwrite=overwrite, tenant=tenant
            )
        except ExceptionGroup as several:  # the first speaks for all
            raise several.exceptions[0] from None

    async def run(self, function: Callable[..., Any], *args: object, **kwargs: object) -> Any:
        """Call a method of the cache in a thread: ``run(SemanticCache.clear, tenant="")``."""
        cache = await self.begin()
        return await asyncio.to_thread(function, cache, *args, **kwargs)

    async def stats(self, tenant: str) -> SemanticStats:
        """Return the counters of a tenant."""
        return cast("SemanticStats", await self.run(SemanticCache.stats, tenant=tenant))

    @property
    def uptime(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def note(self, route: str, status: int) -> None:
        """Take the end of any request of the server."""
        if route.removeprefix("/v1").startswith(ROUTES):
            self.monitor.note(status)

    def totals(self) -> Totals:
        """Return the counters of all tenants together; loads nothing, and may wait for a store."""
        cache = self._cache
        if cache is None or not self._embedder.loaded:
            return Totals(errors=self.monitor.errors)
        every = [cache.stats(tenant=tenant) for tenant in cache.tenants()]
        return Totals(
            hits=sum(one.hits for one in every),
            misses=sum(one.misses for one in every),
            bypasses=sum(one.bypasses for one in every),
            guarded=sum(one.guarded for one in every),
            evictions=sum(one.evictions for one in every),
            errors=self.monitor.errors,
            cache_size=sum(one.cache_size for one in every),
            memory_bytes=sum(one.memory_bytes for one in every),
        )

    # ---- answers

    def _generate(self, tenant: str) -> Callable[[str], Awaitable[Response]]:
        """Return the coroutine function that answers a tenant's questions."""

        async def generate(query: str) -> Response:
            try:
                return await (await self._answering()).arespond(query, tenant=tenant)
            except WAITS:
                raise
            except Exception as error:  # whatever it is: no fault of the request's
                raise RuntimeError("the answer could not be generated") from error

        return generate

    async def _answering(self) -> Responder:
        if self._responder is None:
            registry = self._registry
            model = registry.get(registry.default)
            if model is None:
                model = await asyncio.to_thread(registry.load, registry.default)
            self._responder = LmResponder(
                model, max_tokens=self.settings.MAX_TOKENS, engine=self._engine(model)
            )
        return self._responder

    # ---- the file

    async def dump(self) -> int:
        """Write the file; returns the number of entries.

        Raises:
            StoreError: It cannot be written.
        """
        cache = await self.begin()
        async with self._dumping:
            mark = await asyncio.to_thread(self._mark)
            n = await asyncio.to_thread(cache.dump, self.settings.PERSIST_PATH)
            self._dumped = mark
        return n

    async def load_file(self) -> int:
        """Add the entries of the file; returns how many came in.

        Raises:
            StoreError: It cannot be read.
        """
        cache = await self.begin()
        if not os.path.exists(self.settings.PERSIST_PATH):
            return 0
        return await asyncio.to_thread(cache.load, self.settings.PERSIST_PATH)

    async def _dump_again(self) -> None:
        while True:
            await asyncio.sleep(self.settings.DUMP_INTERVAL)
            try:
                await self._dump_changes()
            except StoreError as error:  # the next time may go better
                log.error("%sPERSIST_PATH: %s", PREFIX, error)

    async def _dump_changes(self) -> None:
        async with self._dumping:
            mark = await asyncio.to_thread(self._mark)
            if mark != self._dumped:
                await asyncio.to_thread(self.cache.dump, self.settings.PERSIST_PATH)
                self._dumped = mark

    def _mark(self) -> object:
        """What differs when something was stored, used or removed."""
        return list(self._marks())

    def _marks(self) -> Iterator[tuple[object, ...]]:
        for tenant in self.cache.tenants():
            listed, size = self.cache.entries(1, tenant=tenant)
            stats = self.cache.stats(tenant=tenant)
            newest = listed[0].entry.entry_id if listed else None
            yield tenant, size, newest, stats.hits, stats.evictions
