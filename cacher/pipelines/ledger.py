"""Which samples of each key every namespace was given, so that it is given none of them twice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cacher.pipelines.portion import Portion


class Ledger:
    """Positions in lists of samples: what was handed out, or is reserved for a request.

    Attributes:
        used: By namespace and key, how many samples.
    """

    def __init__(self) -> None:
        self.used: dict[Any, dict[str, int]] = {}
        self._free: dict[tuple[Any, str], list[int]] = {}  # given back, before one that was not

    def reserve(self, namespace: Any, key: str, n: int) -> Sequence[int]:
        """Take the n lowest indices that the namespace was not given."""
        used = self.used.get(namespace)
        if used is None:
            used = self.used[namespace] = {}
        count = used.get(key, 0)
        used[key] = count + n
        free = self._free.pop((namespace, key), None) if self._free else None
        if free is None:
            return range(count, count + n)
        if len(free) > n:
            self._free[namespace, key] = free[n:]
        start = count + len(free)
        return [*free[:n], *range(start, start + n - len(free[:n]))]

    def give_back(self, namespace: Any, key: str, indices: Sequence[int]) -> None:
        """Let indices be reserved again."""
        next_, free = self.position(namespace, key)
        self.place(namespace, key, next_, [*free, *indices])

    def namespaces(self, key: str) -> list[Any]:
        """Return who was given samples of a key."""
        return [namespace for namespace, used in self.used.items() if key in used]

    def position(self, namespace: Any, key: str) -> tuple[int, list[int]]:
        """Return the index that was never reserved, and those below it that were given back."""
        free = self._free.get((namespace, key), [])
        return self.used.get(namespace, {}).get(key, 0) + len(free), free

    def place(self, namespace: Any, key: str, next_: int, free: Iterable[int]) -> None:
        """Set what `position` returns."""
        free = sorted(index for index in free if index < next_)  # or somebody emptied `used`
        while free and free[-1] == next_ - 1:
            next_ = free.pop()
        self._free.pop((namespace, key), None)
        if free:
            self._free[namespace, key] = free
        used = self.used.setdefault(namespace, {})
        used[key] = next_ - len(free)
        if not next_:
            del used[key]
            if not used:
                del self.used[namespace]


class Hold:
    """Indices that are reserved for a request until their samples were delivered, or not.

    Attributes:
        ledger: Where they are reserved.
        portion: The request, merged or not.
        namespace: Whose they are.
        key: Which list they are of.
        indices: The indices, in the order in which they are delivered.
    """

    __slots__ = ("indices", "key", "ledger", "namespace", "portion")

    def __init__(self, ledger: Ledger, portion: Portion, key: str) -> None:
        self.ledger = ledger
        self.portion = portion
        self.key = key
        self.namespace = portion.request.namespace
        self.indices = ledger.reserve(self.namespace, key, portion.n)
        if portion.members is None:
            portion.claim = self
            portion.offset = 0
            return
        start = 0
        for member in portion.members:
            member.claim = self
            member.offset = start
            start += member.n

    @property
    def want(self) -> tuple[str, int, int]:
        """The indices, and what is between them, as a store is asked for them."""
        return self.key, self.indices[0], self.indices[-1] + 1

    def holders(self) -> list[Portion]:
        """Return the portions that samples are still held for."""
        members = self.portion.members
        if members is None:
            return [self.portion] if self.portion.claim is self else []
        return [member for member in members if member.claim is self]

    def settle(self, portion: Portion, *, taken: bool) -> None:
        """Note that samples were delivered, or will not be."""
        portion.claim = None
        if not taken:
            own = self.indices[portion.offset : portion.offset + portion.n]
            self.ledger.give_back(self.namespace, self.key, own)
