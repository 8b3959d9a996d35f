"""What all requests of an application share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from cacher.config import Settings
from cacher.errors import CacherError
from cacher.registry import Registry
from cacher.server.metrics import Metrics
from cacher.types import ModelStats

if TYPE_CHECKING:
    from cacher.model import Model

T = TypeVar("T")
SMALL = 4096

log = logging.getLogger("cacher.server")


class Services:
    """The shared parts: settings, models, counters.  Opened and closed with the application."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.registry = Registry(settings)
        self.metrics = Metrics()
        self.metrics.watch(self._stats)
        self._background: set[asyncio.Task[None]] = set()

    async def model(self, model_id: str | None = None) -> Model:
        """Return a model, the default one where none is named; loading is left to a thread."""
        if model_id is None:
            model_id = self.registry.default
        model = self.registry.get(model_id)
        if model is not None:
            return model
        return await asyncio.to_thread(self.registry.load, model_id)

    async def aside(self, function: Callable[[], T], size: int) -> T:
        """Call a function that takes longer the larger its input is: large ones in a thread."""
        return function() if size <= SMALL else await asyncio.to_thread(function)

    async def open(self) -> None:
        """Begin: the default model is loaded behind the scenes."""
        task = asyncio.create_task(self._load_default())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def close(self) -> None:
        """End: nothing runs on behind."""
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

    async def _load_default(self) -> None:
        try:
            log.info("default model: %s", self.registry.default)
            await self.model()
        except CacherError as error:  # the server serves the others
            log.error("the default model cannot be loaded: %s", error)

    def _stats(self) -> Iterator[tuple[str, ModelStats]]:
        for model_id, model in self.registry.loaded().items():
            yield model_id, model.stats
