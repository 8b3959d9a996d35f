"""A few crashes in every run; ``make crash N=1000`` makes many."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tests.crash import pipeline_sabotage, pipelines, processes, server
from tests.crash.__main__ import KINDS, main
from tests.crash.ledger import Ledger
from tests.crash.sabotage import WAYS


@pytest.mark.parametrize(
    "kind", ["store", "server", pytest.param("pipelines", marks=pytest.mark.slow)]
)
def test_nothing_acknowledged_is_lost_and_nothing_is_torn(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = main(KINDS[kind], 4)
    printed = capsys.readouterr().out
    assert wrong == 0, printed
    last = printed.splitlines()[-1].split()
    assert last[:2] == ["crashes", "4"]
    assert int(last[3]) > 0, "something was done"


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_broken_server_is_noticed(way: str, tmp_path: Path) -> None:
    """A crash test that could not fail would prove nothing."""
    program = ("-m", "tests.crash.sabotage", way, "cacher")
    trial = server.Trial(tmp_path, random.Random(), program)
    assert any(trial.round(number) for number in range(1, 30))


@pytest.mark.slow
@pytest.mark.parametrize("way", ["acknowledge_first", "write_in_place", "keep_the_deleted"])
def test_a_broken_store_is_noticed(way: str, tmp_path: Path) -> None:
    program = ("-m", "tests.crash.sabotage", way, "tests.crash.worker")
    trial = processes.Trial(tmp_path, random.Random(), program)
    assert any(trial.round(number) for number in range(1, 30))


@pytest.mark.slow
@pytest.mark.parametrize("way", pipeline_sabotage.WAYS)
def test_a_broken_cache_is_noticed(way: str, tmp_path: Path) -> None:
    trial = pipelines.Trial(tmp_path, random.Random(), ("-m", "tests.crash.pipeline_sabotage", way))
    assert any(trial.round(number) for number in range(1, 30))


def report(ledger: Ledger, verb: str, number: int, digest: str) -> None:
    line = json.dumps({verb: "a", "number": number, "digest": digest})
    ledger.take(line.encode() + b"\n")


def test_the_books_notice_losses() -> None:
    ledger = Ledger()
    report(ledger, "will", 1, "x")
    report(ledger, "did", 1, "x")
    report(ledger, "will", 2, "y")
    ledger.take(b'{"did": "a", "num')
    book = ledger.books["a"]
    assert book.judge("x") is None
    assert book.judge("y") is None
    assert "torn" in (book.judge("z") or "")
    assert "lost" in (book.judge(None) or "")
    report(ledger, "did", 2, "y")
    assert "lost" in (book.judge("x") or "")
    report(ledger, "will", 3, "z")
    report(ledger, "not", 3, "z")
    assert "torn" in (book.judge("z") or ""), "it was refused"
    ledger.take(b'{"will": "a", "gone": true}\n')
    assert book.judge(None) is None
    assert book.judge("y") is None
    ledger.take(b'{"did": "a", "gone": true}\n')
    assert "back" in (book.judge("y") or "")
    assert ledger.live() == []
    assert "back" in ledger.strangers(["a"])[0]


def test_the_books_go_on_with_what_is_there() -> None:
    ledger = Ledger()
    report(ledger, "will", 1, "x")
    report(ledger, "did", 1, "x")
    report(ledger, "will", 2, "y")
    report(ledger, "will", 2, "z")  # by another that was killed, too
    assert ledger.settle("a", "z") is None
    assert (ledger.unanswered, ledger.done) == (1, 1)
    assert "torn" in (ledger.settle("a", "y") or "")
    report(ledger, "will", 3, "w")
    assert ledger.settle("a", "y") is None
    report(ledger, "did", 3, "v")
    assert ledger.settle("a", "v") is None, "a number that was announced in vain is used again"
    assert (ledger.unanswered, ledger.done) == (2, 1)
    assert ledger.strangers([]) == ["a lost: it is there, but in no list"]
    report(ledger, "did", 4, "v")
    report(ledger, "did", 4, "u")
    assert "lost" in (ledger.settle("a", "u") or ""), "one of the two did not see the other"
    ledger.take(b'{"will": "a", "gone": true}\n')
    assert ledger.settle("a", None) is None
    assert (ledger.unanswered, ledger.done) == (3, 2)
