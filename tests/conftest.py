"""What tests share: the built-in model, which is the model of every test that needs text."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

import cacher
from tests.models.make_tiny import make_tiny

# A slow machine is no failure.
settings.register_profile("cacher", deadline=None)
settings.load_profile("cacher")


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
