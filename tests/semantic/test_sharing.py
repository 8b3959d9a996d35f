"""Caches in several processes that share a store, on SQLite and on a real Redis."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

A, B = "What is machine learning?", "Can you explain machine learning?"
VISIBLE_S = 1.0  # as the specification says


class Process:
    """A process of `tests.semantic.sharing`."""

    def __init__(self, where: str, folder: Path, claim_s: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.semantic.sharing", where, str(folder), str(claim_s)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.pid = self.told()

    def tell(self, **what: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()

    def told(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "it ended"
        return json.loads(line)

    def do(self, **what: Any) -> Any:
        self.tell(**what)
        return self.told()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


Start = Callable[..., Process]


@pytest.fixture
def start(entries_at: str, tmp_path: Path) -> Iterator[Start]:
    started: list[Process] = []

    def start_one(claim_s: float = 30.0) -> Process:
        started.append(Process(entries_at, tmp_path, claim_s))
        return started[-1]

    yield start_one
    for process in started:
        process.kill()


def generated(folder: Path) -> list[str]:
    log = folder / "generated"
    return log.read_text().splitlines() if log.exists() else []


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_what_one_stores_the_other_finds_within_a_second(start: Start) -> None:
    one, two = start(), start()
    assert two.do(get=A) is None
    one.do(put=[A, "first"])
    time.sleep(VISIBLE_S)
    assert two.do(get=A) == ["first", 1.0]
    response, similarity = two.do(get=B)
    assert response == "first"
    assert similarity < 1
    two.do(put=[A, "second"])
    time.sleep(VISIBLE_S)
    assert one.do(get=A) == ["second", 1.0]
    assert one.do(size=None) == two.do(size=None) == 1


def test_equal_misses_generate_once(start: Start, tmp_path: Path) -> None:
    processes = [start(), start(), start()]
    (tmp_path / "wait").touch()
    for process in processes:
        process.tell(ask=[A] * 4)
    wait_for(lambda: len(generated(tmp_path)) > 0)
    time.sleep(0.3)  # for the others to be wrong
    (tmp_path / "wait").unlink()
    answers = [answer for process in processes for answer in process.told()]
    (line,) = generated(tmp_path)
    assert {response for response, _ in answers} == {f"answer of {line.split()[0]}"}
    assert sum(not hit for _, hit in answers) == 1
    assert [process.do(size=None) for process in processes] == [1, 1, 1]


def test_who_dies_while_generating_leaves_it_to_another(start: Start, tmp_path: Path) -> None:
    doomed, heir = start(claim_s=1.0), start(claim_s=1.0)
    (tmp_path / "wait").touch()
    doomed.tell(ask=[A])
    wait_for(lambda: len(generated(tmp_path)) == 1)
    heir.tell(ask=[A, A])
    doomed.kill()
    (tmp_path / "wait").unlink()
    answers = heir.told()
    assert [response for response, _ in answers] == [f"answer of {heir.pid}"] * 2
    assert sorted(hit for _, hit in answers) == [False, True]
    assert [line.split()[0] for line in generated(tmp_path)] == [str(doomed.pid), str(heir.pid)]
    assert start().do(get=A) == [f"answer of {heir.pid}", 1.0]


def test_the_bound_is_that_of_all(start: Start) -> None:
    processes = [start(), start(), start()]
    for n in range(40):
        for process in processes:
            process.tell(put=[f"question number {n} of {process.pid}", "answer"])
    for _ in range(40):
        for process in processes:
            process.told()
    time.sleep(VISIBLE_S)
    assert [process.do(size=None) for process in processes] == [50, 50, 50]
    assert start().do(size=None) == 50
