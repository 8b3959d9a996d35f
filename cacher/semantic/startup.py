"""What the settings of the semantic cache's service name: the embedder, what answers, the store."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from cacher.checks import shown
from cacher.errors import (
    CacherError,
    EmbedderError,
    MissingExtraError,
    ModelError,
    ModelNotFoundError,
    ParameterError,
    StoreError,
    TokenizerError,
)
from cacher.semantic.cache import SemanticCache
from cacher.semantic.embedder import (
    DOCUMENTED_MODEL,
    PACKAGED_MODEL,
    ModelEmbedder,
    default_model,
    short_name,
)
from cacher.semantic.responder import FunctionResponder, Responder, TemplateResponder
from cacher.semantic.settings import PREFIX, SemanticSettings
from cacher.stores import without_password

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cacher.registry import Registry
    from cacher.semantic.partition import Eviction

log = logging.getLogger(__name__)


class RegistryEmbedder:
    """A model of the registry that is loaded when the first text is embedded.

    Args:
        registry: Where the server's models are.
        model_id: Which of them.
    """

    def __init__(self, registry: Registry, model_id: str) -> None:
        self.name = short_name(model_id)
        self._registry = registry
        self._model_id = model_id
        self._opened: ModelEmbedder | None = None

    @property
    def loaded(self) -> bool:
        """Whether it is in memory."""
        return self._opened is not None

    def load(self) -> ModelEmbedder:
        """Return the model that embeds.

        Raises:
            EmbedderError: It cannot be loaded; the log has the reason.
        """
        if self._opened is None:
            try:
                self._opened = ModelEmbedder(self._registry.load(self._model_id))
            except (ModelError, TokenizerError, MissingExtraError) as error:
                log.error("the embedding model %s cannot be loaded: %s", self._model_id, error)
                raise EmbedderError(
                    f"The embedding model {self.name!r} could not be loaded"
                ) from error
        return self._opened

    @property
    def dimension(self) -> int:
        """Numbers of a vector."""
        return self.load().dimension

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors of texts."""
        return self.load().embed(texts)


def embedder_of(settings: SemanticSettings, registry: Registry) -> RegistryEmbedder:
    """Return the embedder that the settings name, or the first there is.

    Raises:
        ModelNotFoundError: There is none; the message says how to get one.
    """
    if settings.MODEL is not None:
        try:
            return RegistryEmbedder(registry, registry.resolve(settings.MODEL).model_id)
        except ModelNotFoundError as error:
            raise ModelNotFoundError(f"{PREFIX}MODEL: {error}") from None
    here = [one for one in (DOCUMENTED_MODEL, PACKAGED_MODEL) if registry.is_here(one)]
    return RegistryEmbedder(registry, here[0] if here else default_model())


def cache_of(settings: SemanticSettings, embedder: RegistryEmbedder) -> SemanticCache:
    """Return a cache as the settings say, its store opened.

    Raises:
        MissingExtraError: The client of Redis is not installed.
        StoreError: The store cannot be opened; the message names the variable.
    """
    try:
        return SemanticCache(
            embedder,
            similarity_threshold=settings.SIMILARITY_THRESHOLD,
            max_cache_size=settings.MAX_CACHE_SIZE,
            eviction=cast("Eviction", settings.EVICTION),
            ttl_s=settings.TTL,
            guard=settings.GUARD,
            store=settings.STORE,
        )
    except (StoreError, MissingExtraError) as error:
        where = shown(without_password(settings.STORE))
        raise type(error)(f"{PREFIX}STORE is {where}: {error}") from error


def responder_of(settings: SemanticSettings) -> Responder | None:
    """Return what answers; None: the model, which is loaded when the first question comes.

    Raises:
        ParameterError: There is no such function.
    """
    if settings.RESPONDER == "lm":
        return None
    if settings.RESPONDER == "template":
        return TemplateResponder()
    try:
        return FunctionResponder(settings.RESPONDER)
    except CacherError as error:
        raise ParameterError(f"{PREFIX}RESPONDER: {error}") from error


def warmup_of(settings: SemanticSettings) -> list[str | tuple[str, str]]:
    """Return the texts of the warm-up file, with their answers where it has any.

    Raises:
        ParameterError: The file cannot be read, or holds something else.
    """
    path = settings.WARMUP_FILE
    if not path:
        return []
    where = f"{PREFIX}WARMUP_FILE is {shown(path)}"
    try:
        found = json.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise ParameterError(f"{where}: it cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ParameterError(f"{where}: it is no JSON: {error}") from None
    if not isinstance(found, list):
        raise ParameterError(f"{where}: it is no list")
    return [_warmup_item(f"{where}: item {number}", one) for number, one in enumerate(found, 1)]


def _warmup_item(where: str, item: object) -> str | tuple[str, str]:
    if isinstance(item, str):
        return item
    if not isinstance(item, dict) or not isinstance(item.get("query"), str):
        raise ParameterError(f"{where} is neither a text nor an object with a query")
    response = item.get("response")
    if response is None:
        return str(item["query"])
    if not isinstance(response, str) or not response:
        raise ParameterError(f"{where} has a response that is no text")
    return str(item["query"]), response
