"""What an application shares that serves nothing but the semantic cache."""

from __future__ import annotations

from dataclasses import replace

from cacher.errors import EmbedderError
from cacher.server.journal import log
from cacher.server.routes import semantic, service
from cacher.server.services import Services


class AloneServices(Services):
    """The shared parts without states; the embedder is loaded before the first request."""

    async def _open_states(self) -> None:
        """Open nothing: there are none."""

    async def _close_states(self) -> None:
        """Close nothing."""

    async def _open_semantic(self) -> None:
        await self.semantic.open()
        if self.settings.WORKERS > 1 and self.semantic.settings.STORE == "memory":
            log.warning("each of %d workers has entries of its own", self.settings.WORKERS)
        try:
            await self.semantic.begin()
        except EmbedderError as error:
            log.error("queries cannot be answered: %s", error)

    async def _load_default(self) -> None:
        if self.semantic.settings.RESPONDER == "lm":
            await super()._load_default()


OPERATIONS = (
    *semantic.OPERATIONS,
    semantic.HEALTH,
    *(
        replace(operation, versioned=operation.path == "/metrics")
        for operation in service.OPERATIONS
        if operation.path in ("/metrics", "/docs", "/openapi.json")
    ),
)
