"""A few crashes in every run; ``make crash N=1000`` makes many."""

from __future__ import annotations

import json

import pytest

from tests.crash.__main__ import main
from tests.crash.ledger import Ledger


@pytest.mark.parametrize("kind", ["store", "server"])
def test_nothing_acknowledged_is_lost_and_nothing_is_torn(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = main(kind, 4)
    printed = capsys.readouterr().out
    assert wrong == 0, printed
    last = printed.splitlines()[-1].split()
    assert last[:2] == ["crashes", "4"]
    assert int(last[3]) > 20, "something was done"


def report(ledger: Ledger, verb: str, **what: object) -> None:
    ledger.take(json.dumps({verb: "a", **what}).encode() + b"\n")


def test_the_books_notice_losses() -> None:
    """A crash test that could not fail would prove nothing."""
    ledger = Ledger()
    report(ledger, "will", revision=1, digest="x")
    report(ledger, "did", revision=1, digest="x")
    report(ledger, "will", revision=2, digest="y")
    ledger.take(b'{"did": "a", "revi')
    book = ledger.books["a"]
    assert book.judge((1, "x")) is None
    assert book.judge((2, "y")) is None
    assert "torn" in (book.judge((2, "x")) or "")
    assert "torn" in (book.judge((1, "y")) or "")
    assert "torn" in (book.judge((3, "y")) or "")
    assert "lost" in (book.judge(None) or "")
    report(ledger, "did", revision=2, digest="y")
    assert "lost" in (book.judge((1, "x")) or "")
    report(ledger, "did", revision=3, digest="")
    assert book.judge((3, "anything")) is None
    assert "lost" in (book.judge((2, "y")) or "")
    report(ledger, "will", revision=4, digest="")
    assert book.judge((4, "anything")) is None
    assert "torn" in (book.judge((5, "anything")) or "")
    report(ledger, "will", gone=True)
    assert book.judge(None) is None
    assert book.judge((3, "y")) is None
    report(ledger, "did", gone=True)
    assert "back" in (book.judge((3, "y")) or "")
    assert ledger.live() == []
