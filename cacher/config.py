"""Settings of the server, from environment variables.

A field is named as its variable without ``CACHER_``.  What does not parse stops the start with the
variable's name and what is allowed.  `.env.example` lists all of them; no ``.env`` file is read.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from cacher.checks import MAX_INT64, choice, integer, model_id, number, shown
from cacher.errors import ParameterError

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
_KEY = re.compile(r"(?:([A-Za-z0-9_-]{1,64}):)?(?:sha256\$([0-9a-f]{64})|([!-+\--~]{1,512}))")
_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_Parse = Callable[[str, str], Any]


class ApiKey(NamedTuple):
    """An API key as it is kept: never in clear.

    Attributes:
        tenant: Whose states and caches the key opens; empty for a key without a name.
        digest: SHA-256 of the key.
    """

    tenant: str
    digest: bytes


def parse_boolean(name: str, text: str) -> bool:
    """Return True, False, 1, 0, yes or no, in any case, as a boolean."""
    value = _WORDS.get(text.strip().lower())
    if value is None:
        raise ParameterError(f"{name} is {shown(text)}, allowed: True, False, 1, 0, yes, no")
    return value


def parse_json(name: str, text: str, kind: type) -> Any:
    """Return a JSON list or object.

    Raises:
        ParameterError: Not JSON, or of another kind.
    """
    wanted = "list" if kind is list else "object"
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, kind):
        raise ParameterError(f"{name} is {shown(text)}, allowed: a JSON {wanted}")
    return value


def _integer(low: int, high: int) -> _Parse:
    def parse(name: str, text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ParameterError(
                f"{name} is {shown(text)}, allowed: an integer from {low} to {high}"
            ) from None
        return integer(name, value, low, high)

    return parse


def _number(low: float, high: float, *, open_low: bool = False) -> _Parse:
    def parse(name: str, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ParameterError(
                f"{name} is {shown(text)}, allowed: a number from {low:g} to {high:g}"
            ) from None
        return number(name, value, low, high, open_low=open_low)

    return parse


def _choice(*allowed: str, fold: Callable[[str], str] = str) -> _Parse:
    return lambda name, text: choice(name, fold(text), *allowed)


def _seed(name: str, text: str) -> int | None:
    if text.strip().lower() in ("", "none", "null"):
        return None
    seed: int = _integer(0, MAX_INT64)(name, text)
    return seed


def _text(_name: str, text: str) -> str:
    return text


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


def _model_name(name: str, text: str) -> str | None:
    return model_id(name, text.strip()) if text.strip() else None


def _comma_list(text: str) -> tuple[str, ...]:
    return tuple(item for part in text.split(",") if (item := part.strip()))


def _model_ids(name: str, text: str) -> tuple[str, ...]:
    return tuple(model_id(name, item) for item in _comma_list(text))


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
    limits: dict[str, _Parse] = {
        "max_length": _integer(1, 1_048_576),
        "temperature": _number(0, 10),
        "top_p": _number(0, 1),
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


def _api_keys(name: str, text: str) -> tuple[ApiKey, ...]:
    keys: list[ApiKey] = []
    for item in _comma_list(text):
        match = _KEY.fullmatch(item)
        if match is None:  # the item is not shown: it may be a key with a typing error
            raise ParameterError(
                f"{name}: entry {len(keys) + 1} is not allowed: KEY, TENANT:KEY or "
                "TENANT:sha256$HEX of visible ASCII characters"
            )
        tenant, digest, key = match.groups()
        stored = bytes.fromhex(digest) if digest else hashlib.sha256(key.encode()).digest()
        keys.append(ApiKey(tenant or "", stored))
    return tuple(keys)


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


def _place(word: str, *schemes: str) -> _Parse:
    """Where something is kept: in a way that a word names, or at an address."""

    def parse(name: str, text: str) -> str:
        if text != word and not text.startswith(schemes):
            places = ", ".join([word, *(f"{scheme}..." for scheme in schemes)])
            raise ParameterError(f"{name} is {shown(text)}, allowed: {places}")
        return text

    return parse


def _var(default: Any, parse: _Parse) -> Any:
    """A field with the function that reads its variable."""
    return field(default=default, metadata={"parse": parse})


_COUNT = _integer(1, 2**31 - 1)
_BYTES = _integer(1, 2**40)
_SECONDS = _number(0, 1e9, open_low=True)
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

    MODEL_NAME: str | None = _var(None, _model_name)
    DEVICE: str = _var("cpu", _choice("cpu", "cuda"))
    DEFAULT_TEMPERATURE: float = _var(0.7, _number(0, 10))
    DEFAULT_TOP_P: float = _var(0.9, _number(0, 1))
    DEFAULT_SEED: int | None = _var(42, _seed)
    DEFAULT_CONTEXT_SIZE: int = _var(2048, _integer(1, 1_048_576))
    LOGITS_STORAGE: str = _var("top_k", _choice("none", "top_k", "full"))
    TOP_K_LOGITS: int = _var(20, _integer(1, 1000))
    API_TITLE: str = _var("Cacher API v3", _text)
    API_VERSION: str = _var("1.0.0", _text)
    DEBUG: bool = _var(False, parse_boolean)
    LOG_LEVEL: str = _var("INFO", _choice(*_LEVELS, fold=str.upper))
    LOG_FORMAT: str = _var(LOG_FORMAT, _log_format)
    CACHE_DIR: str = _var("cache", _folder)
    MAX_CACHE_SIZE: int = _var(1000, _COUNT)
    CACHE_CLEANUP_INTERVAL: float = _var(3600.0, _number(0, 1e9))
    CACHE_MAX_AGE: float = _var(86400.0, _SECONDS)
    MODEL_CONFIG: dict[str, dict[str, float]] = field(
        default_factory=lambda: {"gpt2": {"max_length": 1024.0}}, metadata={"parse": _model_config}
    )
    MAX_TOKENS_PER_REQUEST: int = _var(100, _COUNT)
    STREAM_CHUNK_SIZE: int = _var(1, _integer(1, 64))
    MAX_ATTENTION_HEADS: int = _var(12, _COUNT)
    ATTENTION_THRESHOLD: float = _var(0.1, _number(0, 1))
    ENABLE_CORS: bool = _var(True, parse_boolean)
    ALLOWED_ORIGINS: tuple[str, ...] = _var(("*",), _strings)
    ALLOWED_HOSTS: tuple[str, ...] = _var(("*",), _strings)
    API_KEY_REQUIRED: bool = _var(False, parse_boolean)
    API_KEYS: tuple[ApiKey, ...] = _var((), _api_keys)
    RATE_LIMIT: str = _var("", _rate)
    RATE_LIMIT_STORE: str = _var("memory://", _place("memory://", "redis://", "rediss://"))
    MODELS_DIR: str = _var("models", _folder)
    MODEL_ALIASES: dict[str, str] = field(default_factory=dict, metadata={"parse": _aliases})
    HUB_MODELS: tuple[str, ...] = _var(HUB_MODELS, _model_ids)
    OFFLINE: bool = _var(False, parse_boolean)
    BATCH_SIZE: int = _var(8, _integer(1, 256))
    KV_BUDGET_MB: int = _var(1024, _COUNT)
    MAX_DISK_STATES: int = _var(10_000, _COUNT)
    STATE_STORE: str = _var("files", _place("files", "redis://", "rediss://", "unix://"))
    WORKERS: int = _var(1, _integer(1, 64))
    RUN_DIR: str = _var("", _text)
    MAX_STORED_LOGITS: int = _var(16_777_216, _COUNT)
    MAX_ATTENTION_TOKENS: int = _var(512, _COUNT)
    MAX_RESPONSE_VALUES: int = _var(2_000_000, _COUNT)
    MAX_BODY_BYTES: int = _var(4 * 2**20, _BYTES)
    MAX_IMPORT_BYTES: int = _var(64 * 2**20, _BYTES)
    LOCK_TIMEOUT: float = _var(30.0, _SECONDS)
    REQUEST_TIMEOUT: float = _var(300.0, _SECONDS)
    IDLE_TIMEOUT: float = _var(60.0, _SECONDS)

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
        found = {}
        for item in fields(cls):
            for name in (item.name, SECOND_NAMES.get(item.name, item.name)):
                text = environ.get(PREFIX + name)
                if text is not None and item.name not in found:
                    found[item.name] = item.metadata["parse"](PREFIX + name, text)
        return cls(**found)


settings = Settings.from_env()
