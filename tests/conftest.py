"""What tests share: the built-in model, which is the model of every test that needs text."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import cacher
from tests.models.make_tiny import make_tiny

# A slow machine is no failure.
settings.register_profile("cacher", deadline=None)
settings.load_profile("cacher")

# A job that a shell starts in the background ignores Ctrl-C, and so would all processes of tests.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """Undo what a test sets in the log: no server's lines show among pytest's dots."""
    loggers = [logging.getLogger(name) for name in ("cacher", "uvicorn")]
    before = [(logger.handlers[:], logger.propagate, logger.level) for logger in loggers]
    yield
    for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
        logger.handlers[:], logger.propagate = handlers, propagate
        if logger.level != level:
            logger.setLevel(level)


@pytest.fixture(scope="session")
def model() -> cacher.Model:
    return cacher.load("tales", threads=2)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random model without a tokenizer."""
    return make_tiny("qwen3", tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def story(model: cacher.Model) -> cacher.State:
    return model.state("Once upon a time there was a little fox")
