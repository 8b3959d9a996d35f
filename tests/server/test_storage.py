"""A disk that fails under the server: the caller is told, and nothing that was told is lost."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from tests.crash.server import NO_CHANGES, PROGRAM, Server
from tests.stores.conftest import faults  # noqa: F401 - a fixture


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("full", "No space left on device"), ("fsync-file", "Input/output error")],
)
def test_a_disk_that_fails_is_told_to_the_caller(
    fault: str,
    reason: str,
    faults: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    switches = tmp_path / "faults"
    switches.mkdir()
    monkeypatch.setenv("LD_PRELOAD", str(faults))
    monkeypatch.setenv("CACHER_FAULTS", str(switches))
    server = Server(tmp_path, PROGRAM, NO_CHANGES)
    try:
        state = {"model_id": "tales", "text": "Once upon a time", "state_id": "a"}
        assert server.ask("POST", "/states", state)[0] == 200
        before = server.ask("GET", "/states/a")
        (switches / fault).mkdir()
        for method, path, body in (
            ("POST", "/generate/token", {"state_id": "a", "max_tokens": 3}),
            ("PATCH", "/states/a", {"append_text": " there"}),
            ("POST", "/states", {**state, "state_id": "b"}),
            ("POST", "/states/a/fork", {}),
        ):
            status, answer = server.ask(method, path, body)
            assert (status, answer["code"]) == (503, "storage_failed"), path
            assert answer["detail"] == f"The store cannot be used: {reason}"
        if fault == "full":  # a state goes when that can be noted, or it stays
            status, answer = server.ask("DELETE", "/states/a")
            assert (status, answer["code"]) == (503, "storage_failed")
        body = {"state_id": "a", "max_tokens": 3, "stream": True}
        answer = httpx.post(f"http://127.0.0.1:{server.port}/generate/token", json=body)
        *records, last = map(json.loads, answer.text.splitlines())
        assert (len(records), last["error"]["code"]) == (3, "storage_failed")
        assert server.ask("GET", "/states/a") == before
        assert server.ask("GET", "/states/b")[0] == 404
        (switches / fault).rmdir()
        assert server.ask("POST", "/generate/token", {"state_id": "a", "max_tokens": 3})[0] == 200
        after = server.ask("GET", "/states/a")[1]
        assert (after["token_count"], after["revision"]) == (7, 2)
        assert server.ask("DELETE", "/states/a")[0] == 200
        assert server.ask("GET", "/states/a")[0] == 404
    finally:
        server.kill()
