"""The service alone keeps to its OpenAPI document, whatever it is sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.semantic.service import alone
from tests.server.test_schema import check, test_everything_is_described

__all__ = ["test_everything_is_described"]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    file = tmp_path_factory.mktemp("semantic") / "cache.jsonl"
    with alone(PERSIST_PATH=str(file), RESPONDER="template") as service:
        yield str(service.http.base_url)


@pytest.fixture(scope="module")
def document(address: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{address}/openapi.json").json()
    return found


def test_schemathesis_a_little(address: str) -> None:
    check(address, "--phases", "examples", "--exclude-path-regex", "^/v1")


@pytest.mark.slow
def test_schemathesis_all_phases(address: str) -> None:
    check(address, "--exclude-path-regex", "^/v1", "--max-time", "40")


@pytest.mark.slow
def test_schemathesis_the_other_spelling(address: str) -> None:
    check(address, "--include-path-regex", "^/v1", "--max-time", "20")
