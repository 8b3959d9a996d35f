"""What all requests of an application share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cacher.checks import shown
from cacher.config import PREFIX, Settings
from cacher.engine import Engine, EngineStream
from cacher.errors import CacherError, ModelNotFoundError, StoreError
from cacher.facts import EngineStats, ModelStats
from cacher.niels_gpt.config import ChatSettings
from cacher.niels_gpt.service import ChatService
from cacher.registry import Registry
from cacher.semantic.service import SemanticService
from cacher.semantic.settings import SemanticSettings
from cacher.server.journal import Visitors
from cacher.server.metrics import SIZES, Metrics
from cacher.states import States
from cacher.stores import open_store, without_password

if TYPE_CHECKING:
    from cacher.model import Model
    from cacher.stores.base import StateStore

CLOSING_SECONDS = 10.0  # for requests to save what they have, once the engines have ended

log = logging.getLogger("cacher.server")


def settings_store(settings: Settings) -> StateStore:
    """Open the store that the settings name.

    Raises:
        MissingExtraError: The client of Redis is not installed.
        StoreError: It cannot be opened; the message names the variable.
    """
    where = settings.STATE_STORE
    try:
        return open_store(where, settings.CACHE_DIR)
    except StoreError as error:
        name, value = ("CACHE_DIR", settings.CACHE_DIR) if where == "files" else (
            "STATE_STORE", without_password(where)
        )  # fmt: skip
        raise StoreError(f"{PREFIX}{name} is {shown(value)}: {error}") from error


class Services:
    """The shared parts: settings, models, engines, states, the semantic cache, counters.

    Opened and closed with the application; states are there between the two.
    """

    states: States
    chat_only = False

    def __init__(
        self, settings: Settings, semantic: SemanticSettings, chat: ChatSettings | None = None
    ) -> None:
        self.settings = settings
        self.registry = Registry(settings)
        self.chat = ChatService(chat or ChatSettings(), self.registry, self.engine)
        self.semantic = SemanticService(
            semantic, self.registry, self.engine, shared_files=settings.WORKERS > 1
        )
        self.metrics = Metrics()
        self.visitors = Visitors()
        self.metrics.watch(self._stats)
        self.metrics.watch_semantic(self.semantic.totals, self.semantic.note)
        self._engines: dict[str, Engine] = {}
        self._running: dict[tuple[str, str], EngineStream] = {}
        self._background: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Begin: stores are opened, the default model is loaded behind the scenes."""
        await self._open_states()
        await self._open_semantic()
        self._begin(self._load_default())
        await self._open_chat()
        if self.settings.RUN_DIR:
            same = SIZES if self.semantic.settings.STORE != "memory" else frozenset[str]()
            self._begin(self.metrics.among(self.settings.RUN_DIR, same).publish())

    async def _open_states(self) -> None:
        settings = self.settings
        self.states = States(
            self.registry.load,
            await asyncio.to_thread(settings_store, settings),
            max_in_memory=settings.MAX_CACHE_SIZE,
            lock_timeout_s=settings.LOCK_TIMEOUT,
            shared=settings.WORKERS > 1 or settings.STATE_STORE != "files",
            max_age_s=settings.CACHE_MAX_AGE,
            max_stored=settings.MAX_DISK_STATES,
            clean_up_interval_s=settings.CACHE_CLEANUP_INTERVAL,
        )
        await self.states.__aenter__()

    async def _open_semantic(self) -> None:
        try:
            await self.semantic.open()
        except ModelNotFoundError as error:  # the server serves the rest
            log.warning("queries cannot be answered: %s", error)
        else:
            if self.semantic.prepares:
                self._begin(self._prepare_semantic())

    async def _prepare_semantic(self) -> None:
        try:
            await self.semantic.begin()
        except CacherError as error:  # the first query tries again
            log.error("%s", error)

    async def _open_chat(self) -> None:
        self._begin(self.chat.load())

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def close(self) -> None:
        """End: what runs is ended with what it has, and saved."""
        for engine in self._engines.values():
            await engine.aclose()
        await self.visitors.gone(CLOSING_SECONDS)  # they save what they have
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self.semantic.close()
        await self._close_states()
        self._engines.clear()  # FastAPI keeps the last applications it met: they hold no models
        self.registry.clear()

    async def _close_states(self) -> None:
        await self.states.aclose()

    async def _load_default(self) -> None:
        try:
            log.info("default model: %s", self.registry.default)
            await self.model()
        except CacherError as error:  # the server serves the others
            log.error("the default model cannot be loaded: %s", error)

    # ---- models

    async def model(self, model_id: str | None = None) -> Model:
        """Return a model, the default one where none is named; loading is left to a thread."""
        if model_id is None:
            model_id = self.registry.default
        model = self.registry.get(model_id)
        if model is not None:
            return model
        return await asyncio.to_thread(self.registry.load, model_id)

    def engine(self, model: Model) -> Engine:
        """Return the engine of a model."""
        engine = self._engines.get(model.name)
        if engine is None:
            engine = self._engines[model.name] = Engine(model)
        return engine

    # ---- runs

    @contextmanager
    def running(self, tenant: str, request_id: str, stream: EngineStream) -> Iterator[None]:
        """Let `cancel` find a run by its request while the block lasts."""
        key = (tenant, request_id)
        self._running[key] = stream
        watcher = asyncio.create_task(self.states.watch(request_id, stream.aclose, tenant=tenant))
        try:
            yield
        finally:
            watcher.cancel()
            if self._running.get(key) is stream:
                del self._running[key]

    async def cancel(self, tenant: str, request_id: str) -> bool:
        """End a run with what it has; False when there is none of that request."""
        stream = self._running.get((tenant, request_id))
        if stream is None:
            return await self.states.call_off(request_id, tenant=tenant)
        await stream.aclose()
        return True

    # ---- counters

    def _stats(self) -> Iterator[tuple[str, ModelStats, EngineStats | None]]:
        for model_id, model in self.registry.loaded().items():
            engine = self._engines.get(model_id)
            yield model_id, model.stats, None if engine is None else engine.stats
