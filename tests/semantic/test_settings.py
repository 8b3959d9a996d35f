"""Settings of the semantic cache: every variable, its default, and what it refuses."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest

from cacher import DeviceError, ParameterError
from cacher.config import Settings
from cacher.semantic.settings import PREFIX, SemanticSettings, alone

ROOT = Path(__file__).parents[2]


def example() -> dict[str, str]:
    """The variables of .env.example, as a shell reads them."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    pairs = [line for line in lines if re.match(r"SEMCACHE_\w+=", line)]
    return dict("".join(shlex.split(pair)).split("=", 1) for pair in pairs)


def test_the_example_lists_all_variables_with_their_defaults() -> None:
    assert example().keys() == {PREFIX + item.name for item in fields(SemanticSettings)}
    assert SemanticSettings.from_env(example()) == SemanticSettings()


def test_documented_defaults() -> None:
    settings = SemanticSettings.from_env({})
    assert settings == SemanticSettings()
    assert (settings.HOST, settings.PORT, settings.MAX_CACHE_SIZE) == ("127.0.0.1", 8000, 1000)
    assert (settings.RESPONDER, settings.MAX_TOKENS, settings.GUARD) == ("lm", 64, True)
    assert (settings.EVICTION, settings.TTL, settings.STORE) == ("fifo", 0, "memory")
    assert (settings.DUMP_INTERVAL, settings.ALERT_ERROR_RATE) == (300, 0.1)
    assert settings.MAX_BODY_BYTES == 2**20
    assert settings.SIMILARITY_THRESHOLD is settings.MODEL is None


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("MAX_CACHE_SIZE", "0", 0),
        ("SIMILARITY_THRESHOLD", "0.5", 0.5),
        ("SIMILARITY_THRESHOLD", "", None),
        ("GUARD", "OFF", False),
        ("RESPONDER", "my.module:answer", "my.module:answer"),
        ("STORE", "sqlite:entries.db", "sqlite:entries.db"),
        ("STORE", "redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("MODEL", " sentence-transformers/x ", "sentence-transformers/x"),
        ("PORT", "0", 0),
        ("TTL", "1.5", 1.5),
    ],
)
def test_values(name: str, text: str, value: object) -> None:
    assert getattr(SemanticSettings.from_env({PREFIX + name: text}), name) == value


@pytest.mark.parametrize(
    ("name", "text", "allowed"),
    [
        ("MAX_CACHE_SIZE", "-1", "0 to 1000000"),
        ("MAX_CACHE_SIZE", "many", "an integer from 0 to 1000000"),
        ("SIMILARITY_THRESHOLD", "1.1", "0 to 1"),
        ("SIMILARITY_THRESHOLD", "nan", "0 to 1"),
        ("SIMILARITY_THRESHOLD", "high", "a number from 0 to 1"),
        ("GUARD", "perhaps", '"on", "off"'),
        ("EVICTION", "random", '"fifo", "lru"'),
        ("RESPONDER", "os.system", "module:function"),
        ("RESPONDER", "a:b:c", "module:function"),
        ("STORE", "postgres://x", "memory, sqlite:..."),
        ("MAX_TOKENS", "0", "1 to 4096"),
        ("TTL", "-1", "0 to 1e"),
        ("DUMP_INTERVAL", "0", "above 0"),
        ("PORT", "65536", "0 to 65535"),
        ("RATE_LIMIT", "5/minute", "an integer"),
        ("ALERT_ERROR_RATE", "2", "0 to 1"),
        ("MODEL", "../secret", "no '..' segment"),
        ("MODEL_DEVICE", "tpu", '"cpu", "cuda"'),
        ("MAX_BODY_BYTES", "0", "1 to"),
        ("API_KEYS", "a b", "entry 1 is not allowed"),
    ],
)
def test_what_does_not_parse_is_named(name: str, text: str, allowed: str) -> None:
    with pytest.raises(ParameterError) as refused:
        SemanticSettings.from_env({PREFIX + name: text})
    assert str(refused.value).startswith(PREFIX + name)
    assert allowed in str(refused.value)


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(DeviceError, match="SEMCACHE_MODEL_DEVICE is 'cuda', which is not avail"):
        SemanticSettings.from_env({"SEMCACHE_MODEL_DEVICE": "cuda"})


def test_alone_the_shared_settings_go_by_its_own_names() -> None:
    semantic = SemanticSettings.from_env({"SEMCACHE_API_KEYS": "k1", "SEMCACHE_RATE_LIMIT": "5"})
    settings = alone(Settings(MAX_BODY_BYTES=7, MODEL_NAME="tales"), semantic)
    assert (settings.API_KEYS, settings.API_KEY_REQUIRED) == (semantic.API_KEYS, True)
    assert (settings.RATE_LIMIT, settings.MAX_BODY_BYTES) == ("5/minute", 2**20)
    assert (settings.API_TITLE, settings.API_VERSION) == ("FastAPI Semantic Cache", "1.0.0")
    assert settings.MODEL_NAME == "tales"
    assert not alone(Settings(), SemanticSettings()).API_KEY_REQUIRED
