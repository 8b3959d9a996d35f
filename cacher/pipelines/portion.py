"""What travels between the stages: pieces of requests on the way in, answers on the way out.

A request for n samples is n pieces.  Pieces of one request that go the same way stay together as a
`Portion`, so that a stage does its work once for all of them; a user's model is given requests.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cacher.checks import shown
from cacher.errors import ParameterError
from cacher.typedefs import derived

if TYPE_CHECKING:
    from cacher.pipelines.ledger import Hold
    from cacher.pipelines.pieces import Entry

MAX_SUFFIX = 600  # digits of a piece's number: Python reads more only on demand


class Answer:
    """What became of a portion: its samples with their flags, and what kept it from the rest."""

    __slots__ = ("cached", "data", "duplicated", "error")

    def __init__(
        self,
        data: list[Any],
        cached: list[bool],
        duplicated: list[bool],
        error: BaseException | None = None,
    ) -> None:
        self.data = data
        self.cached = cached
        self.duplicated = duplicated
        self.error = error

    def extend(self, other: Answer) -> None:
        """Append the answer to the pieces that follow; the first error stays."""
        self.data += other.data
        self.cached += other.cached
        self.duplicated += other.duplicated
        self.error = self.error or other.error

    def cut(self, start: int, stop: int) -> Answer:
        """Return the answer to some of the pieces."""
        return Answer(
            self.data[start:stop], self.cached[start:stop], self.duplicated[start:stop], self.error
        )


def failed(error: BaseException) -> Answer:
    """Return the answer without samples."""
    return Answer([], [], [], error)


Done = Callable[[Any, Answer], object]  # called with who waits, and the answer


class Portion:
    """Pieces of one request that travel together.

    Attributes:
        request: The request.
        n: How many pieces.
        first: The number of the first of them; -1 when the request was not split into pieces.
        parts: The portions it was split into, when a stage did that.
        members: The portions it was merged from, when a stage did that.
        claim: What holds samples for it, and maybe for others, until these are delivered or not.
        offset: Where its samples begin within the claim.
        entry: Its place in the queue of a batcher, when it came to one.
        dropped: Nobody waits for it any more.
        answer: Its answer, once there.
    """

    __slots__ = (
        "_hash", "_key", "answer", "claim", "dropped", "entry", "first", "members", "n", "offset",
        "parts", "request",
    )  # fmt: skip

    def __init__(self, request: Any, n: int, first: int = -1) -> None:
        self.request = request
        self.n = n
        self.first = first
        self.parts: list[Portion] | None = None
        self.members: list[Portion] | None = None
        self.claim: Hold | None = None
        self.offset = 0
        self.entry: Entry | None = None
        self.dropped = False
        self.answer: Answer | None = None
        self._hash: Callable[[Any], str] | None = None

    def key(self, hash: Callable[[Any], str]) -> str:  # noqa: A002 - the documented name
        """Return the request's key; computed once, however many stages ask."""
        if self._hash is not hash:
            self._key = hash(self.request)
            self._hash = hash
        return self._key

    @property
    def request_id(self) -> Any:
        """What its first piece is called."""
        if self.first < 0:
            return self.request.request_id
        return f"{self.request.request_id}_{self.first}"

    @property
    def place(self) -> tuple[str, int]:
        """Where it stands in a sorted group: the id without the number of the piece, and that."""
        if self.first >= 0:
            return str(self.request.request_id), self.first
        name = str(self.request.request_id)
        stem, mark, suffix = name.rpartition("_")
        if mark and suffix.isascii() and suffix.isdigit() and len(suffix) <= MAX_SUFFIX:
            return stem, int(suffix)
        return name, -1

    def as_request(self) -> Any:
        """Return the request for these pieces alone, as a model is given it."""
        request = self.request
        if self.first < 0 and request.n == self.n:
            return request
        index = request.sample_index
        if index is not None and self.first > 0:
            index += self.first
        return derived(request, n=self.n, request_id=self.request_id, sample_index=index)

    def pieces(self) -> list[Portion]:
        """Return a portion for each piece."""
        if self.n == 1 and self.first >= 0:
            return [self]
        start = max(self.first, 0)
        self.parts = [Portion(self.request, 1, start + i) for i in range(self.n)]
        for part in self.parts:
            if self._hash is not None:
                part._key, part._hash = self._key, self._hash
            part.dropped = self.dropped
        return self.parts

    def take(self) -> None:
        """Count its samples as handed out: they were delivered."""
        if self.claim is not None:
            self.claim.settle(self, taken=True)
        elif self.parts is not None:
            for part in self.parts:
                part.take()

    def withdraw(self) -> None:
        """Drop it, and let what of it is queued leave the queue."""
        if self.entry is not None:
            self.entry.batcher.withdraw(self.entry)
        self.drop()

    def drop(self) -> None:
        """Give back what was reserved for it: it is not delivered, and nobody waits for it."""
        self.dropped = True
        if self.claim is not None:
            self.claim.settle(self, taken=False)
        elif self.parts is not None:
            for part in self.parts:
                part.drop()


def count_of(request: Any) -> int:
    """Return how many samples a request is for.

    Raises:
        TypeError: Its n is not an integer.
        ParameterError: It is negative.
    """
    n = request.n
    if type(n) is not int:
        if isinstance(n, bool) or not isinstance(n, int):
            raise TypeError(f"n of a request must be an integer, got {type(n).__name__}")
        n = int(n)
    if n < 0:
        raise ParameterError(f"n of a request is {shown(n)}, allowed: 0 or more")
    return n


def another(error: BaseException) -> BaseException:
    """Return an exception for one more caller: a copy caused by this one, if it can be copied."""
    try:
        twin = copy.copy(error)
        if type(twin) is not type(error) or twin is error or twin.args != error.args:
            return error
    except Exception:  # a class whose __init__ takes other arguments than it keeps
        return error
    twin.__cause__ = error
    return twin


_PLAIN = frozenset((str, int, float, bool, bytes, complex, type(None)))


def detached(sample: Any) -> Any:
    """Return a sample for one more caller: nothing done to one is seen in the other."""
    if type(sample) in _PLAIN:
        return sample
    try:
        return copy.deepcopy(sample)
    except Exception:  # what cannot be copied is better shared than refused
        return sample
