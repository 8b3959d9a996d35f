"""The programs in `examples`: run again from the cache they make no call, and find the same."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import cacher
from tests.pipelines.endpoint import endpoint

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "examples" / "tree_of_thought.py"


def run(folder: Path, *options: str) -> tuple[str, int, int, int]:
    """Run the program; return its story, and how many samples, cached ones and calls it took."""
    done = subprocess.run(
        [sys.executable, PROGRAM, "--cache", folder, "--depth", "2", *options, "water", "home"],
        capture_output=True, text=True, cwd=folder, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *story, counts = done.stdout.splitlines()
    found = re.fullmatch(
        r"value [01]\.\d\d; (\d+) samples, (\d+) of them cached; (\d+) calls of the model", counts
    )
    assert found, counts
    samples, cached, calls = map(int, found.groups())
    return "\n".join(story), samples, cached, calls


def check(folder: Path, *options: str) -> None:
    story, samples, cached, calls = run(folder, *options)
    assert len(story) > 60
    assert samples > 40
    assert cached < samples / 4
    assert calls > 0
    assert run(folder, *options) == (story, samples, samples, 0)


def test_a_search_over_the_local_model_is_repeated_from_the_cache(tmp_path: Path) -> None:
    check(tmp_path)


def test_the_same_search_over_an_endpoint(tmp_path: Path, model: cacher.Model) -> None:
    pytest.importorskip("openai")
    with endpoint(model) as server:
        check(tmp_path, "--base-url", server.url, "--model", "small")
        assert {body["model"] for body in server.calls} == {"small"}
        assert {body["messages"][0]["role"] for body in server.calls} == {"system"}
