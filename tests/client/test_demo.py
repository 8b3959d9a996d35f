"""The demo: checklist 120."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.server.conftest import over_socket


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cacher.demo", *arguments],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_120_the_tour_of_a_server() -> None:
    with over_socket() as address:
        done = run("--base-url", address)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == "State deleted successfully"
        for words in ("Once upon a time", "3 beams", "attention in layer 5", "layer 1:"):
            assert words in done.stdout
        assert run("--base-url", address, "--model", "nobody").returncode == 1


def test_120_without_a_server(dead_port: int) -> None:
    done = run("--base-url", f"http://127.0.0.1:{dead_port}")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("failed: no response")


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"MAX_TOKENS_PER_REQUEST": 10}, "422"), ({"MODEL_NAME": "nobody"}, "no default model")],
)
def test_120_a_tour_that_fails_leaves_no_states(
    settings: dict[str, object], words: str, tmp_path: Path
) -> None:
    with over_socket(CACHE_DIR=str(tmp_path), **settings) as address:
        done = run("--base-url", address)
        assert done.returncode == 1
        assert words in done.stderr.splitlines()[-1]
        assert list(tmp_path.glob("*.json")) == []


def test_it_can_bring_its_own_server() -> None:
    done = run("--serve")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "State deleted successfully"
