"""What an application shares that serves nothing but the chat API."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cacher.config import Settings
from cacher.niels_gpt.config import ChatSettings
from cacher.niels_gpt.service import LoneChatService
from cacher.niels_gpt.speaker import Sizes
from cacher.semantic.settings import SemanticSettings
from cacher.server.routes import chat, service
from cacher.server.services import Services


class ChatServices(Services):
    """The shared parts without states and without a semantic cache.

    Args:
        settings: Of the server.
        chat: Of the chat API.
        model: A model or a stand-in that is there already.
        cfg: Its sizes.
        load: Whether the model of the settings is loaded after the start.
    """

    chat_only = True

    def __init__(
        self, settings: Settings, chat: ChatSettings, model: Any, cfg: Sizes | None, *, load: bool
    ) -> None:
        super().__init__(settings, SemanticSettings(), chat)
        self.chat = LoneChatService(chat, self.registry, self.engine)
        self._loads = load and model is None
        if model is not None:
            self.chat.use(model, cfg)

    async def _open_states(self) -> None:
        """Open nothing: there are none."""

    async def _close_states(self) -> None:
        """Close nothing."""

    async def _open_semantic(self) -> None:
        """Open nothing: there is none."""

    async def _load_default(self) -> None:
        """Load nothing but the chat model."""

    async def _open_chat(self) -> None:
        if self._loads:
            await super()._open_chat()


OPERATIONS = (
    *(replace(operation, versioned=False) for operation in (*chat.OPERATIONS, chat.HEALTH)),
    *(
        replace(operation, refusal=chat.HEALTH.refusal, problems=chat.HEALTH.problems)
        for operation in service.OPERATIONS
        if operation.path in ("/docs", "/openapi.json")
    ),
)
