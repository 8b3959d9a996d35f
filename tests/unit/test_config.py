"""Settings: every variable, its default, and what it refuses."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from cacher import ParameterError
from cacher.config import PREFIX, Settings

ROOT = Path(__file__).parents[2]


def example() -> dict[str, str]:
    """The variables of .env.example, as a shell reads them."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    pairs = [line for line in lines if re.match(r"CACHER_\w+=", line)]
    return dict("".join(shlex.split(pair)).split("=", 1) for pair in pairs)


def test_the_example_lists_all_variables_with_their_defaults() -> None:
    text = (ROOT / ".env.example").read_text()
    for name in [field.name for field in fields(Settings)] + ["DEFAULT_MODEL"]:
        assert re.search(rf"^#?{PREFIX}{name}=", text, re.MULTILINE), name
    assert Settings.from_env(example()) == Settings()
    assert len(example()) == len(fields(Settings)) - 1  # MODEL_NAME has no value for "unset"


def test_documented_defaults() -> None:
    settings = Settings.from_env({})
    assert settings == Settings()
    assert (settings.DEFAULT_TEMPERATURE, settings.DEFAULT_TOP_P, settings.DEFAULT_SEED) == (
        0.7, 0.9, 42,
    )  # fmt: skip
    assert (settings.MAX_TOKENS_PER_REQUEST, settings.MAX_BODY_BYTES) == (100, 4 * 2**20)
    assert settings.MODEL_NAME is None


def test_both_names_of_the_default_model_and_the_newer_wins() -> None:
    old, new = {"CACHER_DEFAULT_MODEL": "old"}, {"CACHER_MODEL_NAME": "new"}
    assert Settings.from_env(old).MODEL_NAME == "old"
    assert Settings.from_env(old | new).MODEL_NAME == Settings.from_env(new).DEFAULT_MODEL == "new"


@pytest.mark.parametrize("word", ["True", "true", "1", "YES", " yes "])
def test_words_for_true(word: str) -> None:
    assert Settings.from_env({"CACHER_OFFLINE": word}).OFFLINE is True


@pytest.mark.parametrize("word", ["None", "null", "", "NONE"])
def test_no_default_seed(word: str) -> None:
    assert Settings.from_env({"CACHER_DEFAULT_SEED": word}).DEFAULT_SEED is None


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("DEVICE", "tpu", '"cpu", "cuda"'),
        ("DEFAULT_TEMPERATURE", "hot", "a number from 0 to 10"),
        ("DEFAULT_TEMPERATURE", "nan", "0 to 10"),
        ("DEFAULT_TOP_P", "1.5", "0 to 1"),
        ("DEFAULT_SEED", "-1", "0 to 9223372036854775807"),
        ("DEFAULT_SEED", "1e3", "an integer"),
        ("DEFAULT_CONTEXT_SIZE", "0", "1 to 1048576"),
        ("LOGITS_STORAGE", "some", '"none", "top_k", "full"'),
        ("DEBUG", "maybe", "True, False"),
        ("LOG_LEVEL", "LOUD", "DEBUG"),
        ("LOG_FORMAT", "%(nonsense", "a format"),
        ("MAX_CACHE_SIZE", "0", "1 to"),
        ("MODEL_CONFIG", "[]", "a JSON object"),
        ("MODEL_CONFIG", '{"a": 1}', "an object"),
        ("MODEL_CONFIG", '{"a": {"top_k": 1}}', "max_length, temperature, top_p"),
        ("MODEL_CONFIG", '{"a": {"top_p": true}}', "a number"),
        ("MODEL_CONFIG", '{"a": {"top_p": 2}}', "0 to 1"),
        ("STREAM_CHUNK_SIZE", "65", "1 to 64"),
        ("ALLOWED_ORIGINS", "*", "a JSON list"),
        ("ALLOWED_ORIGINS", "[1]", "a JSON list of strings"),
        ("MODEL_ALIASES", '{"a": 1}', "id to id"),
        ("MODEL_ALIASES", "[" * 100_000, "a JSON object"),
        ("RATE_LIMIT", "many", "600/minute"),
        ("RATE_LIMIT_STORE", "disk://", "memory://, redis://..."),
        ("LOCK_TIMEOUT", "0", "above 0"),
        ("LOCK_TIMEOUT", "inf", "above 0"),
        ("MODEL_NAME", "../x", "no '..' segment"),
        ("DEFAULT_MODEL", "a b", "letters, digits"),
        ("MODEL_ALIASES", '{"a": "../x"}', "no '..' segment"),
        ("HUB_MODELS", "gpt2,-x", "letters, digits"),
        ("CACHE_DIR", "", "a folder"),
        ("MODELS_DIR", "", "a folder"),
        ("STATE_STORE", "disk", "files, redis://..., rediss://..., unix://..."),
    ],
)
def test_a_value_that_does_not_parse_is_named(name: str, value: str, allowed: str) -> None:
    with pytest.raises(ParameterError) as caught:
        Settings.from_env({PREFIX + name: value})
    assert PREFIX + name in str(caught.value)
    assert allowed in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", [field.name for field in fields(Settings)])
def test_no_variable_takes_everything(name: str) -> None:
    """What may be any text, a path or a title, is all that has no wrong value."""
    environment = {PREFIX + name: "\u00e4 \u00f6"}
    if name in {"API_TITLE", "API_VERSION", "CACHE_DIR", "MODELS_DIR", "RUN_DIR"}:
        assert getattr(Settings.from_env(environment), name) == "\u00e4 \u00f6"
    else:
        with pytest.raises(ParameterError, match=f"^{PREFIX}{name}"):
            Settings.from_env(environment)


def test_keys_that_are_wrong_are_not_shown() -> None:
    with pytest.raises(ParameterError, match="entry 2") as caught:
        Settings.from_env({"CACHER_API_KEYS": "fine,se cret"})
    assert "cret" not in str(caught.value)


def test_required_keys_must_be_there() -> None:
    with pytest.raises(ParameterError, match="CACHER_API_KEYS is empty"):
        Settings.from_env({"CACHER_API_KEY_REQUIRED": "yes"})


def test_the_start_ends_in_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cacher", "serve"], capture_output=True, text=True, timeout=60,
        env={"CACHER_MAX_BODY_BYTES": "big", "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "CACHER_MAX_BODY_BYTES is 'big', allowed: an integer" in line
