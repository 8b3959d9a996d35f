"""What was promised: the books that a crash test keeps of every state.

Processes report on their standard output, a line of JSON each:

    {"will": id, "revision": r, "digest": d}     about to be stored
    {"did": id, "revision": r, "digest": d}      acknowledged: must never be lost
    {"will": id, "gone": true}, {"did": id, "gone": true}     the same of a deletion

Ids are never used twice.  A revision may be announced several times, by processes that died before
it was stored; acknowledged it is once.  A client of a server reports in the same way: it will when
it asks, without a digest where it cannot know it, and it did when it was answered.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field

from cacher import State
from cacher.document import to_document

UNKNOWN = ""  # the digest of an outcome that the reporter cannot know


def digest(state: State) -> str:
    """Return a hash of everything a state is."""
    return hashlib.sha256(json.dumps(to_document(state)).encode()).hexdigest()


@dataclass
class Book:
    """What is known of one state."""

    promised: dict[int, str] = field(default_factory=dict)
    announced: dict[int, set[str]] = field(default_factory=dict)
    may_be_gone: bool = False
    is_gone: bool = False

    def judge(self, found: tuple[int, str] | None) -> str | None:
        """Return what is wrong with a state as it was found after a crash."""
        last = max(self.promised, default=0)
        if found is None:
            if last and not (self.may_be_gone or self.is_gone):
                return f"lost: revision {last} was acknowledged"
            return None
        revision, seen = found
        if self.is_gone:
            return "back again: it was deleted"
        if revision < last:
            return f"lost: revision {last} was acknowledged, revision {revision} is there"
        if revision in self.promised:
            same = self.promised[revision] in (seen, UNKNOWN)
            return None if same else f"torn: revision {revision} is not what was acknowledged"
        allowed = self.announced.get(revision, set())
        if seen in allowed or UNKNOWN in allowed:
            return None
        return f"torn: revision {revision} is none that was ever written"


class Ledger:
    """The books of all states."""

    def __init__(self) -> None:
        self.books: dict[str, Book] = {}
        self.acknowledged = 0

    def take(self, line: bytes) -> None:
        """Note a report; the end of a line is missing where its writer was killed."""
        if not line.endswith(b"\n"):
            return
        report = json.loads(line)
        done = "did" in report
        book = self.books.setdefault(report["did" if done else "will"], Book())
        self.acknowledged += done
        if report.get("gone"):
            book.may_be_gone = True
            book.is_gone = book.is_gone or done
        elif done:
            book.promised[report["revision"]] = report["digest"]
        else:
            book.announced.setdefault(report["revision"], set()).add(report["digest"])

    def live(self) -> list[str]:
        """Return the ids of states that may be there."""
        return [name for name, book in self.books.items() if not book.is_gone]

    def settle(self, name: str, found: tuple[int, str] | None) -> str | None:
        """Judge a state that was found, or not; what is there now is what counts from here on."""
        book = self.books[name]
        wrong = book.judge(found)
        if found is None:
            book.is_gone = True
        else:
            book.promised = {found[0]: found[1]}
        book.announced.clear()
        book.may_be_gone = False
        return wrong
