"""The demo: checklist 120."""

from __future__ import annotations

import subprocess
import sys

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


def test_it_can_bring_its_own_server() -> None:
    done = run("--serve")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "State deleted successfully"
