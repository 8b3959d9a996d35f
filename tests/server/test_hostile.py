"""Every parameter of every route, as the document has them, with every kind of hostile value."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import pytest

from tests.server.conftest import Api, over_socket

METHODS = ("get", "post", "patch", "delete")
# JSON texts: some are no JSON, some are right for some parameters.
HOSTILE = {
    "NaN": "NaN",
    "infinity": "-Infinity",
    "too large for a number": "1e400",
    "the largest number": "1.7976931348623157e308",
    "negative": "-1",
    "very negative": "-9223372036854775809",
    "2^31": "2147483648",
    "2^63": "9223372036854775808",
    "2^64": "18446744073709551616",
    "5,000 digits": "9" * 5000,
    "a fraction": "0.5",
    "a boolean": "true",
    "null": "null",
    "an empty text": '""',
    "a text": '"x"',
    "NUL": '"\\u0000"',
    "half a pair": '"\\ud800"',
    "a path": '"../../etc/passwd"',
    "a megabyte": f'"{"x" * 1_100_000}"',
    "an empty list": "[]",
    "10,000 texts": json.dumps([f"stop {i}" for i in range(10_000)]),
    "10,000 numbers": json.dumps(list(range(10_000))),
    "huge numbers": "[1e308, -1e308, 18446744073709551615]",
    "an object": '{"a": {"b": [null]}}',
    "deep": "[" * 500 + "]" * 500,
}
FILLED = {"state_id": "a", "state_ids": ["a", "b"], "model_id": "tales"}
BODIES: dict[str, dict[str, Any]] = {  # where the schema has no example, or one that ends something
    "CreateState": {"model_id": "tales"},
    "NewCheckpoint": {"name": "six"},
    "Rollback": {"revision": 1},
    "Embed": {"state_id": "a"},
}


@pytest.fixture(scope="module")
def hostile() -> Iterator[httpx.Client]:
    """A server that nobody else uses, with two states."""
    with (
        over_socket(MAX_TOKENS_PER_REQUEST=10) as address,
        httpx.Client(base_url=address, timeout=60) as http,
    ):
        for name in "ab":
            Api(http, "", "").new("Hello world", state_id=name)
        yield http


@pytest.fixture(scope="module")
def document(hostile: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = hostile.get("/openapi.json").json()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """One spelling of each: method, path, description.

    The chat API takes types loosely and has errors of its own: see tests/niels_gpt.
    """
    for path, methods in document["paths"].items():
        if not path.startswith(("/v1", "/analyze", "/chat", "/inspect")):
            yield from ((m, path, methods[m]) for m in METHODS if m in methods)


def schema_of(document: dict[str, Any], operation: dict[str, Any]) -> dict[str, Any] | None:
    """The schema of a JSON body that has fields."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    schema = content.get("schema", {})
    reference = schema.get("$ref") or next(
        (one["$ref"] for one in schema.get("anyOf", ()) if "$ref" in one), None
    )
    if reference is None:
        return None
    name = reference.rsplit("/", 1)[1]
    return {"name": name, **document["components"]["schemas"][name]}


def allows(document: dict[str, Any], schema: dict[str, Any], text: str) -> bool:
    """Whether a JSON text is JSON, and what the schema asks for."""
    no_json = ("NaN", "Infinity", "1e400", "ud800", "9" * 5000, "[" * 65)
    if any(word in text for word in no_json):
        return False
    validator = jsonschema.Draft202012Validator({**schema, "components": document["components"]})
    found: bool = validator.is_valid(json.loads(text))
    return found


def ask(http: httpx.Client, method: str, path: str, **options: Any) -> tuple[int, float]:
    started = time.perf_counter()
    answer = http.request(method, path, **options)
    seconds = time.perf_counter() - started
    if answer.status_code >= 400:
        assert set(answer.json()) >= {"detail", "code"}
        assert len(answer.content) < 20_000
        assert "Traceback" not in answer.text
    return answer.status_code, seconds


def test_every_field_of_every_body(hostile: httpx.Client, document: dict[str, Any]) -> None:
    times: dict[str, float] = {}
    for method, path, operation in operations(document):
        schema = schema_of(document, operation)
        if schema is None:
            continue
        name, url = schema["name"], path.replace("{state_id}", "a")
        body = BODIES.get(name, {**(schema.get("examples") or [{}])[0]})
        body |= {key: FILLED[key] for key in schema["properties"].keys() & FILLED if key in body}
        for field, described in schema["properties"].items():
            for kind, text in HOSTILE.items():
                rest = {key: value for key, value in body.items() if key != field}
                inner = json.dumps(rest)[1:-1]
                content = f'{{"{field}": {text}{", " if inner else ""}{inner}}}'
                status, seconds = ask(hostile, method, url, content=content.encode())
                where = f"{method} {path} {field}: {kind}"
                times[where] = seconds
                if allows(document, described, text):
                    assert status < 500, where
                else:
                    assert 400 <= status < 500, where
                    assert seconds < 5, where
    assert len(times) > 2000
    for where in sorted(times, key=lambda one: -times[one])[:3]:
        print(f"{where}: {1e3 * times[where]:.1f} ms")
    ordered = sorted(times.values())
    print(f"{len(ordered)} requests, median {1e3 * ordered[len(ordered) // 2]:.1f} ms")


def test_every_parameter_of_every_query(hostile: httpx.Client, document: dict[str, Any]) -> None:
    n = 0
    for method, path, operation in operations(document):
        url = path.replace("{state_id}", "a").replace("{model_id}", "tales")
        for parameter in operation.get("parameters", ()):
            for kind, text in HOSTILE.items():
                value = json.loads(text) if text[:1] == '"' and "ud800" not in text else text
                if parameter["in"] == "query" and len(value) < 10_000 and method == "get":
                    status, _ = ask(hostile, method, url, params={parameter["name"]: value})
                    assert status < 500, f"{method} {path} {parameter['name']}: {kind}"
                    number = any(
                        one.get("type") in ("integer", "number")
                        for one in (parameter["schema"], *parameter["schema"].get("anyOf", ()))
                    )
                    small = kind in ("a fraction", "null", "an empty text")
                    if number and not small:
                        assert status >= 400, f"{method} {path} {parameter['name']}: {kind}"
                    n += 1
    assert n > 200


def test_every_id_of_every_path(hostile: httpx.Client, document: dict[str, Any]) -> None:
    ids = ["%00", "%2e%2e%2f", "a%2fb", "%ff", "~", "x" * 5000, "%F0%9F%98%80", "a b", "-1"]
    for method, path, operation in operations(document):
        if "{" in path and method != "delete":
            schema = schema_of(document, operation)
            body = BODIES.get(schema["name"], (schema.get("examples") or [{}])[0]) if schema else {}
            for one in ids:
                url = path.replace("{state_id}", one).replace("{model_id}", one)
                options = {"json": body} if method != "get" else {}
                status, _ = ask(hostile, method, url, **options)
                assert 400 <= status < 500, f"{method} {url}"
