"""The model that answers chats: found, loaded behind the scenes, and ready or not."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cacher.errors import CacherError
from cacher.niels_gpt.checkpoint import load_checkpoint
from cacher.niels_gpt.config import ChatSettings
from cacher.niels_gpt.generation import speaker_of
from cacher.niels_gpt.speaker import Sizes, Speaker

if TYPE_CHECKING:
    from cacher.engine import Engine
    from cacher.model import Model
    from cacher.registry import Registry

log = logging.getLogger("cacher.server")


class ChatService:
    """Who answers, once it is loaded.

    Args:
        settings: Which model, and the limits.
        registry: Where the package's models are.
        engine: Gives the engine of a model.

    Attributes:
        settings: As given.
        speaker: Who answers; None until the model is loaded.
        failed: Whether it could not be; the log has the reason.
        on_ready: Called when somebody answers from now on.
    """

    def __init__(
        self, settings: ChatSettings, registry: Registry, engine: Callable[[Model], Engine]
    ) -> None:
        self.settings = settings
        self.speaker: Speaker | None = None
        self.failed = False
        self.on_ready: Callable[[], object] = lambda: None
        self._registry = registry
        self._engine = engine

    @property
    def ready(self) -> bool:
        """Whether it can answer."""
        return self.speaker is not None

    def use(self, model: Any, cfg: Sizes | None = None) -> Speaker:
        """Answer with a model from now on, or with a stand-in of these sizes."""
        self.speaker = speaker_of(model, cfg, self._engine)
        self.on_ready()
        return self.speaker

    def find(self) -> Model:
        """Load the model that the settings name, the server's default where they name none.

        Not for an event loop: it blocks.
        """
        if self.settings.CHAT_MODEL_ID is None and self.settings.checkpoint.exists():
            return load_checkpoint(self.settings, self._registry)
        return self._registry.load(self.settings.CHAT_MODEL_ID or self._registry.default)

    async def load(self) -> None:
        """Load the model, once, in a thread that nobody waits for when the application ends."""
        loop = asyncio.get_running_loop()
        found: asyncio.Future[Model] = loop.create_future()

        def done(model: Model | None, error: BaseException | None) -> None:
            if found.cancelled():
                return
            if error is not None:
                found.set_exception(error)
            elif model is not None:
                found.set_result(model)

        def work() -> None:
            model, failure = None, None
            try:
                model = self.find()
            except BaseException as error:
                failure = error
            with suppress(RuntimeError):  # the loop is closed: nobody wants it any more
                loop.call_soon_threadsafe(done, model, failure)

        threading.Thread(target=work, name="cacher-chat", daemon=True).start()
        try:
            self.use(await found)
        except (CacherError, OSError) as error:  # the server stays up
            self.failed = True
            log.error("the chat model cannot be loaded: %s", error)
        except Exception:
            self.failed = True
            log.exception("the chat model cannot be loaded")


class LoneChatService(ChatService):
    """Of an application that serves nothing else: without a model's name it is the checkpoint."""

    def find(self) -> Model:
        """See `ChatService`."""
        if self.settings.CHAT_MODEL_ID is None:
            return load_checkpoint(self.settings, self._registry)
        return self._registry.load(self.settings.CHAT_MODEL_ID)
