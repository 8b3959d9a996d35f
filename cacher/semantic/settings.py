"""Settings of the semantic cache's service, from environment variables.

A field is named as its variable without ``SEMCACHE_``.  Where the service runs alone, what it
shares with the whole server (keys, rates, bounds of bodies) goes by these names, too: `alone` makes
the server's settings of both.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from cacher.checks import shown
from cacher.config import Settings
from cacher.errors import DeviceError, ParameterError
from cacher.variables import (
    ApiKey,
    a_number,
    a_place,
    an_integer,
    any_text,
    api_keys,
    from_variables,
    model_name,
    one_of,
    optional,
    variable,
)

PREFIX = "SEMCACHE_"
TITLE = "FastAPI Semantic Cache"
VERSION = "1.0.0"

_FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
_CLOCK = a_number(0, 1e9, open_low=True)


def _switch(name: str, text: str) -> bool:
    return bool(one_of("on", "off", fold=str.lower)(name, text.strip()) == "on")


def _responder(name: str, text: str) -> str:
    if text not in ("lm", "template") and not _FUNCTION.fullmatch(text):
        raise ParameterError(f"{name} is {shown(text)}, allowed: lm, template, module:function")
    return text


@dataclass(frozen=True, kw_only=True)
class SemanticSettings:
    """Everything the service of the semantic cache can be told.

    Attributes:
        MAX_CACHE_SIZE: Most entries of a tenant; 0 stores none.
        SIMILARITY_THRESHOLD: Least similarity of a hit; None: the embedder's own.
        MODEL_DEVICE: Where the embedder computes.
        HOST: Where ``python -m cacher.semantic.server`` listens, as the next.
        PORT: See there; 0 is any.
        MODEL: The embedder; None: the documented one where its files are here, else ``minilm``.
        GUARD: Whether matches are refused that differ in a negation, a number, an opposite, a name.
        RESPONDER: Where answers come from: ``lm``, ``template``, ``module:function``.
        MAX_TOKENS: Most new tokens of an answer of ``lm``.
        EVICTION: Which entry makes room: ``fifo``, the oldest; ``lru``, the least recently used.
        TTL: Seconds after which an entry counts as absent; 0: never.
        STORE: Where entries are kept: ``memory``, ``sqlite:<path>``, the address of a Redis server.
        PERSIST_PATH: File that entries are loaded from at start and dumped to; empty: none.
        DUMP_INTERVAL: Seconds between dumps, where something has changed.
        WARMUP_FILE: JSON list of what is stored at start; empty: none.
        API_KEYS: The keys, where the service runs alone; with any, all routes but health need one.
        RATE_LIMIT: Requests a minute, where the service runs alone; 0 is no limit.
        ALERT_ERROR_RATE: Share of failures among the last requests above which there is an alert.
        MAX_BODY_BYTES: Most bytes of a request, where the service runs alone.
    """

    MAX_CACHE_SIZE: int = variable(1000, an_integer(0, 1_000_000))
    SIMILARITY_THRESHOLD: float | None = variable(None, optional(a_number(0, 1)))
    MODEL_DEVICE: str = variable("cpu", one_of("cpu", "cuda"))
    HOST: str = variable("127.0.0.1", any_text)
    PORT: int = variable(8000, an_integer(0, 65_535))
    MODEL: str | None = variable(None, model_name)
    GUARD: bool = variable(True, _switch)
    RESPONDER: str = variable("lm", _responder)
    MAX_TOKENS: int = variable(64, an_integer(1, 4096))
    EVICTION: str = variable("fifo", one_of("fifo", "lru"))
    TTL: float = variable(0.0, a_number(0, 1e9))
    STORE: str = variable(
        "memory", a_place("memory", "sqlite:", "redis://", "rediss://", "unix://")
    )
    PERSIST_PATH: str = variable("", any_text)
    DUMP_INTERVAL: float = variable(300.0, _CLOCK)
    WARMUP_FILE: str = variable("", any_text)
    API_KEYS: tuple[ApiKey, ...] = variable((), api_keys)
    RATE_LIMIT: int = variable(0, an_integer(0, 10**6))
    ALERT_ERROR_RATE: float = variable(0.1, a_number(0, 1))
    MAX_BODY_BYTES: int = variable(2**20, an_integer(1, 2**40))

    def __post_init__(self) -> None:
        """Refuse what this version does not have."""
        if self.MODEL_DEVICE != "cpu":
            raise DeviceError(
                f"{PREFIX}MODEL_DEVICE is {self.MODEL_DEVICE!r}, which is not available: this "
                "version computes on the CPU, allowed: 'cpu'"
            )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> SemanticSettings:
        """Read the variables.

        Args:
            environ: Names and values; variables of other names are ignored.

        Raises:
            ParameterError: A value does not parse; the message names the variable.
            DeviceError: The device is not available.

        Example:
            >>> from cacher.semantic.settings import SemanticSettings
            >>> SemanticSettings.from_env({"SEMCACHE_GUARD": "off"}).GUARD
            False
        """
        return from_variables(cls, PREFIX, environ)


def alone(settings: Settings, semantic: SemanticSettings) -> Settings:
    """Return the server's settings of an application that serves nothing but the semantic cache.

    Args:
        settings: Models, the log, and what the service has no names for.
        semantic: Keys, the rate and the bound of bodies.

    Example:
        >>> from cacher.config import Settings
        >>> from cacher.semantic.settings import SemanticSettings, alone
        >>> alone(Settings(), SemanticSettings(RATE_LIMIT=5)).RATE_LIMIT
        '5/minute'
    """
    return replace(
        settings,
        API_TITLE=TITLE,
        API_VERSION=VERSION,
        API_KEYS=semantic.API_KEYS,
        API_KEY_REQUIRED=bool(semantic.API_KEYS),
        RATE_LIMIT=f"{semantic.RATE_LIMIT}/minute" if semantic.RATE_LIMIT else "",
        MAX_BODY_BYTES=semantic.MAX_BODY_BYTES,
    )
