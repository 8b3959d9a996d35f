"""The server keeps to its OpenAPI document, whatever it is sent."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cacher.config import Settings
from tests.server.conftest import over_socket

ROOT = Path(__file__).parents[2]
KEYS = Settings.from_env({"CACHER_API_KEYS": "secret"}).API_KEYS


@pytest.fixture(scope="module")
def document(address: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{address}/openapi.json").json()
    return found


def test_every_spelling_is_documented(document: dict[str, Any]) -> None:
    paths = document["paths"]
    for path in ("/states", "/states/{state_id}/top_tokens", "/generate/token", "/tokenize"):
        assert path in paths
        assert f"/v1{path}" in paths
    for root in ("/analysis", "/analyze", "/v1/analysis", "/v1/analyze"):
        assert f"{root}/cache/inspect" in paths
    ids = [one["operationId"] for methods in paths.values() for one in methods.values()]
    assert len(ids) == len(set(ids))
    assert {"State Management", "Generation", "Analysis"} <= {
        tag for methods in paths.values() for one in methods.values() for tag in one["tags"]
    }


def test_everything_is_described(document: dict[str, Any]) -> None:
    for name, schema in document["components"]["schemas"].items():
        for field, described in schema.get("properties", {}).items():
            reference = described.get("$ref", described)
            assert "description" in described or "$ref" in str(reference), f"{name}.{field}"
    for path, methods in document["paths"].items():
        for method, one in methods.items():
            assert one["summary"], f"{method} {path}"
            for parameter in one.get("parameters", ()):
                assert parameter.get("description"), f"{method} {path} {parameter['name']}"


def test_bounds_are_exact(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    seed = schemas["GenerateToken"]["properties"]["seed"]["anyOf"][0]
    assert seed["maximum"] == 2**63 - 1
    assert isinstance(seed["maximum"], int)


def check(address: str, *arguments: str) -> None:
    """Run schemathesis; all its checks must hold."""
    command = shutil.which("st", path=str(Path(sys.executable).parent))
    assert command is not None
    done = subprocess.run(
        [command, "run", f"{address}/openapi.json", "--seed", "1", "--no-color", *arguments],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]


def test_schemathesis_a_little(address: str) -> None:
    check(address, "--phases", "examples", "--exclude-path-regex", "^/v1|^/analyze")


@pytest.fixture(scope="module")
def locked() -> Iterator[str]:
    with over_socket(API_KEY_REQUIRED=True, API_KEYS=KEYS) as address:
        yield address


@pytest.mark.slow
def test_schemathesis_all_phases(address: str) -> None:
    check(address, "--exclude-path-regex", "^/v1|^/analyze", "--max-time", "240")


@pytest.mark.slow
def test_schemathesis_the_other_dialect(address: str) -> None:
    check(address, "--include-path-regex", "^/v1/(?!analysis)", "--max-time", "120")


@pytest.mark.slow
def test_schemathesis_with_a_key(locked: str) -> None:
    key = ("-H", "X-API-Key: secret")
    check(locked, *key, "--exclude-path-regex", "^/v1|^/analyze", "--max-time", "60")
