"""Settings of the server, from environment variables.

A field is named as its variable without ``CACHER_``.  What does not parse stops the start with the
variable's name and what is allowed.  `.env.example` lists all of them; no ``.env`` file is read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from cacher.checks import MAX_INT64, model_id, shown
from cacher.errors import ParameterError
from cacher.facts import DTYPES, KV_DTYPES, Dtype, KVDtype
from cacher.variables import (
    ApiKey,
    Parse,
    a_number,
    a_place,
    an_integer,
    any_text,
    api_keys,
    comma_list,
    from_variables,
    model_name,
    one_of,
    optional,
    parse_boolean,
    parse_json,
    variable,
)

PREFIX = "CACHER_"
#: Documented names of the first edition: used where the field's own variable is not set.
SECOND_NAMES = {"MODEL_NAME": "DEFAULT_MODEL"}

LOG_FORMAT = "%(asctime)s - %(name)s - %(levelname)s - %(message)s"
HUB_MODELS = (
    "gpt2",
    "distilgpt2",
    "redis/langcache-embed-v1",
    "sentence-transformers/all-MiniLM-L6-v2",
)


def _seed(name: str, text: str) -> int | None:
    if text.strip().lower() in ("", "none", "null"):
        return None
    seed: int = an_integer(0, MAX_INT64)(name, text)
    return seed


def _log_format(name: str, text: str) -> str:
    from logging import Formatter

    try:
        Formatter(text if text != "json" else None)
    except ValueError:
        raise ParameterError(
            f"{name} is {shown(text)}, allowed: json, or a format of Python's logging"
        ) from None
    return text


def _folder(name: str, text: str) -> str:
    if not text:
        raise ParameterError(f"{name} is empty, allowed: a folder")
    return text


def _model_ids(name: str, text: str) -> tuple[str, ...]:
    return tuple(model_id(name, item) for item in comma_list(text))


def _strings(name: str, text: str) -> tuple[str, ...]:
    value = parse_json(name, text, list)
    if not all(isinstance(item, str) and item for item in value):
        raise ParameterError(f"{name} is {shown(text)}, allowed: a JSON list of strings")
    return tuple(value)


def _aliases(name: str, text: str) -> dict[str, str]:
    value = parse_json(name, text, dict)
    if not all(isinstance(item, str) for item in value.values()):
        raise ParameterError(f"{name} is {shown(text)}, allowed: a JSON object, id to id")
    for pair in value.items():
        for item in pair:
            model_id(name, item)
    return dict(value)


def _model_config(name: str, text: str) -> dict[str, dict[str, float]]:
    limits: dict[str, Parse] = {
        "max_length": an_integer(1, 1_048_576),
        "temperature": a_number(0, 10),
        "top_p": a_number(0, 1),
    }
    value = parse_json(name, text, dict)
    for model, defaults in value.items():
        where = f"{name}[{shown(model)}]"
        if not isinstance(defaults, dict):
            raise ParameterError(f"{where} is {shown(defaults)}, allowed: an object")
        for key, item in defaults.items():
            if key not in limits:
                raise ParameterError(f"{where} has {shown(key)}, allowed: {', '.join(limits)}")
            if isinstance(item, bool) or not isinstance(item, (int, float)):
                raise ParameterError(f"{where}[{key!r}] is {shown(item)}, allowed: a number")
            defaults[key] = limits[key](f"{where}[{key!r}]", str(item))
    return dict(value)


def _rate(name: str, text: str) -> str:
    if not text.strip():
        return ""
    from limits import parse_many

    try:
        parse_many(text)
    except ValueError:
        raise ParameterError(
            f'{name} is {shown(text)}, allowed: such as "600/minute" or "10/second;5000/hour"'
        ) from None
    return text


_COUNT = an_integer(1, 2**31 - 1)
_BYTES = an_integer(1, 2**40)
_SECONDS = a_number(0, 1e9, open_low=True)
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything the server can be told.

    Attributes:
        MODEL_NAME: The default model; None: `gpt2` where its files are here, else `tales`.
        DEVICE: Where models compute.
        DEFAULT_TEMPERATURE: Of states that say nothing else; as the next four.
        DEFAULT_TOP_P: See there.
        DEFAULT_SEED: See there; None draws a fresh seed for every call.
        DEFAULT_CONTEXT_SIZE: Most tokens of a state.
        LOGITS_STORAGE: What a state keeps of its predictions: ``none``, ``top_k``, ``full``.
        TOP_K_LOGITS: How many ``top_k`` keeps.
        API_TITLE: Of the OpenAPI document.
        API_VERSION: Of the OpenAPI document.
        DEBUG: Logs everything; ``python -m cacher.main`` reloads.
        LOG_LEVEL: Least level that is logged.
        LOG_FORMAT: Of a line in the log, as of Python's logging; ``json``: one object a line.
        CACHE_DIR: State files.
        MAX_CACHE_SIZE: States kept in memory.
        CACHE_CLEANUP_INTERVAL: Seconds between clean-ups; 0 is off.
        CACHE_MAX_AGE: Seconds without use after which a state is removed.
        MODEL_CONFIG: Per model ``max_length``, ``temperature``, ``top_p``.
        MAX_TOKENS_PER_REQUEST: Most new tokens of a request.
        STREAM_CHUNK_SIZE: Records that are waited for until they are flushed together.
        MAX_ATTENTION_HEADS: Heads that ``per_head`` lists.
        ATTENTION_THRESHOLD: Default threshold of the unprefixed routes.
        ENABLE_CORS: Whether browsers of other origins may call.
        ALLOWED_ORIGINS: Which; with ``*`` without credentials.
        ALLOWED_HOSTS: Names the Host header may have; ``*`` is any.
        API_KEY_REQUIRED: Whether every route but the health route needs a key.
        API_KEYS: The keys.
        RATE_LIMIT: Requests per key or address, such as ``600/minute``; empty is no limit.
        RATE_LIMIT_STORE: Where they are counted; ``redis://...`` shares them between processes.
        MODELS_DIR: Folder of models.
        MODEL_ALIASES: Id to id.
        HUB_MODELS: Ids that may be downloaded.
        OFFLINE: Never contact the hub.
        BATCH_SIZE: Accepted, and without effect: the engine forms its batches by itself, and
            they never change a result.
        KV_BUDGET_MB: Key/value memory of a model.
        DTYPE: What weights are held in: ``f32``, ``bf16`` or ``int8``, as in `cacher.load`; by
            default what a packed folder holds, else f32.  Of every model that is opened here, but
            for registered ones; as the next.
        KV_DTYPE: What keys and values are kept in: ``f32`` or ``bf16``.
        MAX_DISK_STATES: State files kept.
        STATE_STORE: Where states are kept: ``files`` (in CACHE_DIR), or the address of a Redis
            server, for workers on several machines.
        WORKERS: Processes that serve the same states; ``--workers`` sets it.
        RUN_DIR: Folder where workers tell each other what they count; ``--workers`` makes one.
        MAX_STORED_LOGITS: Numbers per state.
        MAX_ATTENTION_TOKENS: Most tokens of an attention matrix.
        MAX_RESPONSE_VALUES: Most numbers of a cache inspection.
        MAX_BODY_BYTES: Most bytes of a request.
        MAX_IMPORT_BYTES: Most bytes of an import, before and after decompression.
        LOCK_TIMEOUT: Seconds a request waits for a busy state.
        REQUEST_TIMEOUT: Seconds a request takes at most.
        IDLE_TIMEOUT: Seconds a client may take for its headers, its body, or to read.
    """

    MODEL_NAME: str | None = variable(None, model_name)
    DEVICE: str = variable("cpu", one_of("cpu", "cuda"))
    DEFAULT_TEMPERATURE: float = variable(0.7, a_number(0, 10))
    DEFAULT_TOP_P: float = variable(0.9, a_number(0, 1))
    DEFAULT_SEED: int | None = variable(42, _seed)
    DEFAULT_CONTEXT_SIZE: int = variable(2048, an_integer(1, 1_048_576))
    LOGITS_STORAGE: str = variable("top_k", one_of("none", "top_k", "full"))
    TOP_K_LOGITS: int = variable(20, an_integer(1, 1000))
    API_TITLE: str = variable("Cacher API v3", any_text)
    API_VERSION: str = variable("1.0.0", any_text)
    DEBUG: bool = variable(False, parse_boolean)
    LOG_LEVEL: str = variable("INFO", one_of(*_LEVELS, fold=str.upper))
    LOG_FORMAT: str = variable(LOG_FORMAT, _log_format)
    CACHE_DIR: str = variable("cache", _folder)
    MAX_CACHE_SIZE: int = variable(1000, _COUNT)
    CACHE_CLEANUP_INTERVAL: float = variable(3600.0, a_number(0, 1e9))
    CACHE_MAX_AGE: float = variable(86400.0, _SECONDS)
    MODEL_CONFIG: dict[str, dict[str, float]] = field(
        default_factory=lambda: {"gpt2": {"max_length": 1024.0}}, metadata={"parse": _model_config}
    )
    MAX_TOKENS_PER_REQUEST: int = variable(100, _COUNT)
    STREAM_CHUNK_SIZE: int = variable(1, an_integer(1, 64))
    MAX_ATTENTION_HEADS: int = variable(12, _COUNT)
    ATTENTION_THRESHOLD: float = variable(0.1, a_number(0, 1))
    ENABLE_CORS: bool = variable(True, parse_boolean)
    ALLOWED_ORIGINS: tuple[str, ...] = variable(("*",), _strings)
    ALLOWED_HOSTS: tuple[str, ...] = variable(("*",), _strings)
    API_KEY_REQUIRED: bool = variable(False, parse_boolean)
    API_KEYS: tuple[ApiKey, ...] = variable((), api_keys)
    RATE_LIMIT: str = variable("", _rate)
    RATE_LIMIT_STORE: str = variable("memory://", a_place("memory://", "redis://", "rediss://"))
    MODELS_DIR: str = variable("models", _folder)
    MODEL_ALIASES: dict[str, str] = field(default_factory=dict, metadata={"parse": _aliases})
    HUB_MODELS: tuple[str, ...] = variable(HUB_MODELS, _model_ids)
    OFFLINE: bool = variable(False, parse_boolean)
    BATCH_SIZE: int = variable(8, an_integer(1, 256))
    KV_BUDGET_MB: int = variable(1024, _COUNT)
    DTYPE: Dtype | None = variable(None, optional(one_of(*DTYPES)))
    KV_DTYPE: KVDtype = variable("f32", one_of(*KV_DTYPES))
    MAX_DISK_STATES: int = variable(10_000, _COUNT)
    STATE_STORE: str = variable("files", a_place("files", "redis://", "rediss://", "unix://"))
    WORKERS: int = variable(1, an_integer(1, 64))
    RUN_DIR: str = variable("", any_text)
    MAX_STORED_LOGITS: int = variable(16_777_216, _COUNT)
    MAX_ATTENTION_TOKENS: int = variable(512, _COUNT)
    MAX_RESPONSE_VALUES: int = variable(2_000_000, _COUNT)
    MAX_BODY_BYTES: int = variable(4 * 2**20, _BYTES)
    MAX_IMPORT_BYTES: int = variable(64 * 2**20, _BYTES)
    LOCK_TIMEOUT: float = variable(30.0, _SECONDS)
    REQUEST_TIMEOUT: float = variable(300.0, _SECONDS)
    IDLE_TIMEOUT: float = variable(60.0, _SECONDS)

    def __post_init__(self) -> None:
        """Check what concerns several settings."""
        if self.API_KEY_REQUIRED and not self.API_KEYS:
            raise ParameterError(
                f"{PREFIX}API_KEY_REQUIRED is True and {PREFIX}API_KEYS is empty: nobody could "
                "call; give at least one key"
            )

    @property
    def DEFAULT_MODEL(self) -> str | None:  # noqa: N802 - the documented name
        """The first edition's name of `MODEL_NAME`."""
        return self.MODEL_NAME

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read the variables.

        Args:
            environ: Names and values; variables of other names are ignored.

        Raises:
            ParameterError: A value does not parse; the message names the variable.

        Example:
            >>> from cacher.config import Settings
            >>> Settings.from_env({"CACHER_DEFAULT_TOP_P": "0.5"}).DEFAULT_TOP_P
            0.5
        """
        return from_variables(cls, PREFIX, environ, SECOND_NAMES)


settings = Settings.from_env()
