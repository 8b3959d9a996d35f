"""From a model id to an opened model: each is resolved by one rule, loaded once, and shared."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from cacher import catalog, checks, hub
from cacher.catalog import ModelFacts
from cacher.checks import MODEL_ID, string
from cacher.errors import (
    CacherError,
    MissingExtraError,
    ModelError,
    ModelNotFoundError,
)
from cacher.params import StateConfig

if TYPE_CHECKING:
    from pathlib import Path

    from cacher.config import Settings
    from cacher.model import Model

    Factory = Callable[[], Model]

DOCUMENTED_DEFAULT = "gpt2"

log = logging.getLogger(__name__)


class Registered(NamedTuple):
    """A model that somebody registered: its loader and description."""

    factory: Factory
    description: str


_registered: dict[str, Registered] = {}


def register_model(model_id: str, factory: Factory, description: str = "") -> None:
    """Make a model of your own available under an id; it goes before any other of that id.

    Args:
        model_id: The id.
        factory: Called without arguments when the model is first needed; returns it.
        description: For the list of models.

    Raises:
        ParameterError: The id is not allowed.
        TypeError: The factory cannot be called.

    Example:
        >>> import cacher
        >>> cacher.register_model("stories", lambda: cacher.load("tales"), "Stories of mine")
    """
    checks.model_id("model_id", model_id)
    if not callable(factory):
        raise TypeError(f"factory must be callable, got {type(factory).__name__}")
    _registered[model_id] = Registered(factory, string("description", description))


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model comes from.

    Attributes:
        model_id: The id, aliases applied.
        place: Words for a description: ``"in the models folder"``.
        folder: Its folder; None for registered models and such as have yet to be downloaded.
        registered: The loader of a registered model.
    """

    model_id: str
    place: str
    folder: Path | None = None
    registered: Registered | None = None


class Registry:
    """The models of a process.  Safe to share between threads.

    Args:
        settings: Aliases, folders, defaults, and what may be downloaded.

    Example:
        >>> from cacher.config import Settings
        >>> from cacher.registry import Registry
        >>> registry = Registry(Settings())
        >>> registry.load("tales") is registry.load("tales")
        True
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}
        self._models: dict[str, Model] = {}

    # ---- resolution

    def resolve(self, model_id: str) -> Source:
        """Return where a model comes from; nothing is loaded or downloaded.

        Raises:
            ParameterError: The id is not well formed.
            ModelNotFoundError: No model of that id; the message says what was tried.

        Example:
            >>> from cacher.config import Settings
            >>> from cacher.registry import Registry
            >>> Registry(Settings(MODEL_ALIASES={"gpt2": "tales"})).resolve("gpt2").model_id
            'tales'
        """
        asked = checks.model_id("model_id", model_id)
        model_id = checks.model_id("model_id", self._alias(asked))
        source = self._here(model_id)
        if source is not None:
            return source
        if model_id in self._settings.HUB_MODELS and not self._offline():
            return Source(model_id, "from the hub")
        why = "this server is offline" if self._offline() else "it is not in CACHER_HUB_MODELS"
        raise ModelNotFoundError(self._not_found(asked, model_id, why))

    def _alias(self, model_id: str) -> str:
        return self._settings.MODEL_ALIASES.get(model_id, model_id)

    def _offline(self) -> bool:
        return self._settings.OFFLINE or hub.offline()

    def _here(self, model_id: str) -> Source | None:
        """A model that needs no network."""
        if model_id in _registered:
            return Source(model_id, "registered", registered=_registered[model_id])
        if model_id in hub.built_in():
            return Source(model_id, "built in", hub.find(model_id))
        folder = self._in_models_dir(model_id)
        if folder is not None:
            return Source(model_id, "in the models folder", folder)
        folder = hub.cached(model_id)
        return None if folder is None else Source(model_id, "in the hub's cache", folder)

    def is_here(self, model_id: str) -> bool:
        """Whether a model can be had without the network.

        Example:
            >>> from cacher.config import Settings
            >>> from cacher.registry import Registry
            >>> Registry(Settings()).is_here("tales")
            True
        """
        return self._here(self._alias(model_id)) is not None

    def _in_models_dir(self, model_id: str) -> Path | None:
        from pathlib import Path

        parts = model_id.split("/")
        if "" in parts or "." in parts:
            return None  # other spellings of a folder would load it a second time
        folder = Path(self._settings.MODELS_DIR, *parts)
        return folder if (folder / "config.json").is_file() else None

    def _not_found(self, asked: str, model_id: str, why_not: str) -> str:
        alias = f" (the alias {asked!r})" if asked != model_id else ""
        return (
            f"Model not found: {model_id!r}{alias}. Tried: registered models; built-in models "
            f"({', '.join(hub.built_in())}); the models folder; the hub's cache; a download: "
            f"{why_not}. To provide it, put its files into a folder of that name in "
            "CACHER_MODELS_DIR"
        )

    # ---- loading

    def load(self, model_id: str) -> Model:
        """Return a model, loading it when it is first asked for.  Not for an event loop: it blocks.

        Raises:
            ParameterError: The id is not well formed.
            ModelNotFoundError: No model of that id, or it cannot be downloaded.
            ModelError, TokenizerError: It cannot be used.

        Example:
            >>> from cacher.config import Settings
            >>> from cacher.registry import Registry
            >>> Registry(Settings()).load("tales").name
            'tales'
        """
        model = self.get(model_id)
        if model is not None:
            return model
        source = self.resolve(model_id)
        with self._lock:
            lock = self._loading.setdefault(source.model_id, threading.Lock())
        with lock:
            model = self._models.get(source.model_id)
            if model is None:
                model = self._models[source.model_id] = self._open(source)
        return model

    def open(self, path: Path, *, name: str, tokenizer: str | None = None) -> Model:
        """Open a folder or a checkpoint as the settings say, for the caller alone.

        Args:
            path: Where it is.
            name: What it is called.
            tokenizer: As in `cacher.load`.

        Raises:
            ModelError, TokenizerError: It cannot be used.
        """
        from cacher.model import Model

        return Model(
            path, name=name, tokenizer=tokenizer, kv_budget=self._kv_budget,
            dtype=self._settings.DTYPE, kv_dtype=self._settings.KV_DTYPE,
        )  # fmt: skip

    @property
    def _kv_budget(self) -> int:
        return self._settings.KV_BUDGET_MB * 2**20

    def _open(self, source: Source) -> Model:
        from cacher.model import Model

        log.info("loading model %s, %s", source.model_id, source.place)
        if source.registered is not None:
            model = source.registered.factory()
            if not isinstance(model, Model):
                raise ModelError(
                    f"the loader of {source.model_id!r} returned a {type(model).__name__}, "
                    "allowed: a cacher.Model"
                )
            model.name = source.model_id
            model.set_kv_budget(self._kv_budget)
        else:
            model = self.open(source.folder or self._download(source), name=source.model_id)
        own = self._settings.MODEL_CONFIG.get(source.model_id, {})
        model.default_config = self._state_defaults(own)
        model.n_ctx = min(model.n_ctx, int(own.get("max_length", model.n_ctx)))
        log.info("model %s is loaded: %s", source.model_id, model)
        return model

    def _download(self, source: Source) -> Path:
        try:
            return hub.find(source.model_id, progress=False)
        except (ModelNotFoundError, MissingExtraError) as error:
            log.warning("%s", error)
            why = "it failed"
            if isinstance(error, MissingExtraError):
                why = "it needs pip install 'cacher[hub]'"
            message = self._not_found(source.model_id, source.model_id, why)
            raise ModelNotFoundError(message) from error

    def _state_defaults(self, own: dict[str, float]) -> StateConfig:
        settings = self._settings
        return StateConfig().updated(
            {
                "temperature": own.get("temperature", settings.DEFAULT_TEMPERATURE),
                "top_p": own.get("top_p", settings.DEFAULT_TOP_P),
                "seed": settings.DEFAULT_SEED,
                "context_size": settings.DEFAULT_CONTEXT_SIZE,
                "store_logits": settings.LOGITS_STORAGE,
                "top_k_logits": settings.TOP_K_LOGITS,
            }
        )

    def get(self, model_id: str) -> Model | None:
        """Return a model that is in memory, else None.

        Example:
            >>> from cacher.config import Settings
            >>> from cacher.registry import Registry
            >>> Registry(Settings()).get("tales") is None
            True
        """
        return self._models.get(self._alias(model_id))

    def clear(self) -> None:
        """Forget the models that are in memory; who has one keeps it."""
        with self._lock:
            self._models.clear()

    def loaded(self) -> dict[str, Model]:
        """Return the models in memory.

        Example:
            >>> from cacher.config import Settings
            >>> from cacher.registry import Registry
            >>> Registry(Settings()).loaded()
            {}
        """
        return dict(self._models)

    @cached_property
    def default(self) -> str:
        """The id of the default model, aliases applied.

        Example:
            >>> from cacher.config import Settings
            >>> from cacher.registry import Registry
            >>> Registry(Settings(MODEL_NAME="tales")).default
            'tales'
        """
        if self._settings.MODEL_NAME is not None:
            return self._alias(self._settings.MODEL_NAME)
        documented = self._alias(DOCUMENTED_DEFAULT)
        return documented if self._here(documented) is not None else "tales"

    # ---- facts

    def available(self) -> list[ModelFacts]:
        """Return the models that can be loaded now, the default first.

        Example:
            >>> from cacher.config import Settings
            >>> from cacher.registry import Registry
            >>> "tales" in [facts.model_id for facts in Registry(Settings()).available()]
            True
        """
        found = {}
        for model_id in self._ids():
            if model_id not in found and MODEL_ID.fullmatch(model_id):
                source = self._here(model_id)
                try:
                    if source is not None:
                        found[model_id] = self._facts(source)
                except CacherError as error:  # it cannot be loaded
                    log.warning("model %s is not listed: %s", model_id, error)
        return sorted(found.values(), key=lambda facts: not facts.default)

    def _ids(self) -> Iterator[str]:
        yield from hub.built_in()
        yield from list(_registered)
        yield from catalog.models_below(self._settings.MODELS_DIR)
        yield from hub.cached_ids()

    def facts(self, model_id: str) -> ModelFacts:
        """Return what is known of a model; it is loaded only where no folder tells.

        Raises:
            ParameterError: The id is not well formed.
            ModelNotFoundError: No model of that id.
            ModelError: Its configuration is damaged, or its loader failed.

        Example:
            >>> from cacher.config import Settings
            >>> from cacher.registry import Registry
            >>> Registry(Settings()).facts("tales").config["n_layer"]
            6
        """
        source = self.resolve(model_id)
        if source.folder is None and source.registered is None:
            self.load(model_id)  # downloads it
            source = self.resolve(model_id)
        return self._facts(source)

    def _facts(self, source: Source) -> ModelFacts:
        if source.folder is not None:
            config = catalog.folder_config(source.folder, source.model_id)
            model_type = catalog.model_type(config)
        else:
            model = self.load(source.model_id)
            config, model_type = catalog.opened_config(model), model.model_type
        words = catalog.TYPE_WORDS[model_type]
        if source.registered is not None:
            description = source.registered.description or f"A registered {words}"
        elif source.model_id == "tales":
            description = "Built-in story model"
        else:
            description = f"{config['model_type'] or 'unknown family'}, {words}, {source.place}"
        return ModelFacts(
            source.model_id, description, model_type, source.model_id == self.default, config
        )
