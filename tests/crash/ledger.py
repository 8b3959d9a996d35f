"""What was promised: the books that a crash test keeps of every state.

Processes report on their standard output, a line of JSON each:

    {"will": id, "number": n, "digest": d}     about to be stored
    {"did": id, "number": n, "digest": d}      acknowledged: must never be lost
    {"not": id, "number": n, "digest": d}      refused: must not have happened
    {"will": id, "gone": true}, {"did": id, "gone": true}     the same of a deletion

A client of a server reports in the same way: it will when it asks, it did when it was answered.
Numbers are in the order of a state's changes.  One may be announced several times, by processes
that died before it was stored; acknowledged it is once.  A digest is of everything a state is.
Ids are never used twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field


def digest(data: bytes) -> str:
    """Return a hash of a state as it is stored or exported."""
    return hashlib.sha256(data).hexdigest()


@dataclass
class Book:
    """What is known of one state."""

    promised: dict[int, str] = field(default_factory=dict)
    announced: dict[int, set[str]] = field(default_factory=dict)
    twice: bool = False  # one number was acknowledged to two who changed it to different things
    may_be_gone: bool = False
    is_gone: bool = False

    def judge(self, seen: str | None) -> str | None:
        """Return what is wrong with a state as it was found after a crash; None: it was not."""
        last = max(self.promised, default=0)
        if self.twice:
            return "lost: two changes of the same state were acknowledged"
        if seen is None:
            if last and not (self.may_be_gone or self.is_gone):
                return f"lost: change {last} was acknowledged"
            return None
        if self.is_gone:
            return "back again: it was deleted"
        if seen == self.promised.get(last) or self.is_under_way(seen):
            return None
        if seen in self.promised.values() or any(seen in old for old in self.announced.values()):
            return f"lost: change {last} was acknowledged, an older one is there"
        return "torn: it is nothing that was ever written"

    def is_under_way(self, seen: str) -> bool:
        """Whether it was announced after what was acknowledged last."""
        last = max(self.promised, default=0)
        return any(seen in digests for n, digests in self.announced.items() if n > last)


class Ledger:
    """The books of all states, and what was counted.

    Attributes:
        acknowledged: Changes and deletions that somebody was told of.
        unanswered: Those that a kill left without an answer.
        done: How many of these were found done.
    """

    def __init__(self) -> None:
        self.books: dict[str, Book] = {}
        self.acknowledged = self.unanswered = self.done = 0

    def take(self, line: bytes) -> None:
        """Note a report; the end of a line is missing where its writer was killed."""
        if not line.endswith(b"\n"):
            return
        report = json.loads(line)
        (verb,) = {"will", "did", "not"} & report.keys()
        book = self.books.setdefault(report[verb], Book())
        self.acknowledged += verb == "did"
        if report.get("gone"):
            book.may_be_gone = verb != "not"
            book.is_gone = book.is_gone or verb == "did"
        elif verb == "did":
            before = book.promised.setdefault(report["number"], report["digest"])
            book.twice = book.twice or before != report["digest"]
        elif verb == "will":
            book.announced.setdefault(report["number"], set()).add(report["digest"])
        else:
            book.announced[report["number"]].discard(report["digest"])

    def live(self) -> list[str]:
        """Return the ids of states that may be there."""
        return [name for name, book in self.books.items() if not book.is_gone]

    def settle(self, name: str, seen: str | None) -> str | None:
        """Judge a state that was found, or not; what is there now is what counts from here on."""
        book = self.books[name]
        wrong = book.judge(seen)
        last = max(book.promised, default=0)
        newer = [n for n, digests in book.announced.items() if n > last and digests]
        self.unanswered += bool(newer or (book.may_be_gone and not book.is_gone))
        if seen is None:
            self.done += book.may_be_gone and not book.is_gone
            book.is_gone = True
        else:
            self.done += book.is_under_way(seen)
            now = max([n for n in newer if seen in book.announced[n]], default=last)
            book.promised = {now: seen}
        book.announced.clear()
        book.twice = book.may_be_gone = False
        return wrong

    def strangers(self, there: Iterable[str]) -> list[str]:
        """Return what is wrong with ids that are there, once all books are settled."""
        found, live = set(there), set(self.live())
        back = [f"{name} back again: it was deleted, or never was" for name in found - live]
        return back + [f"{name} lost: it is there, but in no list" for name in live - found]
