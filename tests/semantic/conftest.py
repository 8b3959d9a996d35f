"""Caches and services for tests, on the real MiniLM."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

import cacher
from cacher import SemanticCache
from tests.semantic.service import Service, alone
from tests.server.conftest import dead_port
from tests.stores.conftest import entries_at, redis_url

__all__ = ["dead_port", "entries_at", "redis_url"]


@pytest.fixture(scope="session")
def minilm() -> cacher.Model:
    return cacher.load("minilm")


@pytest.fixture
def make(minilm: cacher.Model) -> Iterator[Callable[..., SemanticCache]]:
    """Makes caches that are closed at the end."""
    with ExitStack() as stack:

        def made(**options: Any) -> SemanticCache:
            return stack.enter_context(SemanticCache(minilm, **options))

        yield made


@pytest.fixture
def cache(make: Callable[..., SemanticCache]) -> SemanticCache:
    return make()


@pytest.fixture
def service() -> Iterator[Service]:
    """A service that was just started."""
    with alone() as found:
        yield found
