"""What a store of samples promises: lists that grow, shared by threads, processes or machines.

A sample has a key and an index.  All calls block, may come from any thread, and raise `StoreError`
when the store cannot be read or written.  The promises, each a test that runs against every store:

1. What `add` returned from is in the store, as far as its own durability goes; it is there as a
   whole or not at all, for every reader and after every crash.
2. A sample that was stored never changes, nor does its index.  Two that are added at the same time,
   by whomever, have different ones.
3. What was evicted, removed or damaged is not there: its index is free again.  A damaged sample is
   never given out, and hides no other.
4. A sample comes back equal and of the same type, and shares nothing with what anybody else got.
   No code from the store is run.
5. A reader sees what others added before it began.
6. Every call ends in bounded time, whoever died while holding what.
7. A store that was closed opens itself again when it is used.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import NamedTuple, TypeVar

from cacher.checks import integer, shown, string
from cacher.errors import ParameterError

MAX_INDEX = 2**53
ROW_BYTES = 96  # what a sample takes beside its value, about

Want = tuple[str, int, int]
Add = tuple[str, int, Sequence[object]]
D = TypeVar("D")


class Listed(NamedTuple):
    """A key and what it takes.

    Attributes:
        key: The key.
        samples: How many there are.
        bytes: What they take, about.
        used: Seconds since 1970 of the last use, as far as it was noted; else of the last sample.
    """

    key: str
    samples: int
    bytes: int
    used: float


class SampleStore(ABC):
    """A store; see the module for its promises.

    Beside the calls of a pipeline it has those of a mapping of keys to lists of samples.

    Attributes:
        reads_quickly: Whether `read` waits for nobody, and takes less than handing it to a thread:
            a pipeline then reads in the thread of its event loop.
    """

    reads_quickly = False

    # ---- what a pipeline uses

    @abstractmethod
    def read(self, wants: Sequence[Want]) -> list[dict[int, object]]:
        """Return samples by index, of one state of the store.

        Args:
            wants: For each: a key, the first index, and the one after the last.

        Raises:
            StoreError: It cannot be read, or a sample is of a version this one does not know.
        """

    @abstractmethod
    def add(self, adds: Sequence[Add]) -> list[list[int]]:
        """Store samples, all of them or none; they are there when this returns.

        Args:
            adds: For each: a key, an index, and samples, which get the lowest free indices from
                there on.

        Returns:
            The index of each.

        Raises:
            TypeError: A sample cannot be stored.
            StoreError: The store cannot be written.
        """

    # ---- who has samples made: these calls do not wait; here they keep nobody from anything

    def take(self, want: Want) -> bool:  # noqa: ARG002
        """Whether nobody else has any of these samples made: the caller may, until `leave`.

        It keeps processes from having the same made twice.  Whoever dies has left.

        Args:
            want: A key, the first index, and the one after the last.
        """
        return True

    def leave(self, want: Want) -> None:  # noqa: B027
        """Let others take what `take` said yes to; what was made is stored before."""

    def mark(self) -> bytes:
        """Return another mark than before when anybody whom `take` heeds has added; "" for none."""
        return b""

    # ---- what else a store does

    @abstractmethod
    def count(self, key: str) -> int:
        """Return how many samples a key has."""

    @abstractmethod
    def replace(self, key: str, samples: Sequence[object]) -> int:
        """Let these be the samples of a key, none of the earlier ones; return how many there were.

        Raises:
            TypeError: A sample cannot be stored.
            StoreError: The store cannot be written.
        """

    @abstractmethod
    def remove(self, keys: Sequence[str]) -> int:
        """Remove all samples of keys; return how many of the keys there were."""

    @abstractmethod
    def prune(self, max_bytes: int) -> list[str]:
        """Remove the least recently used keys until the rest takes no more; return them."""

    @abstractmethod
    def listed(self) -> Iterator[Listed]:
        """Yield all keys, the least recently used first."""

    @abstractmethod
    def stats(self) -> dict[str, int]:
        """Return ``keys``, ``samples``, ``bytes``, ``recovered_bytes``, ``corrupt_records``, more.

        ``bytes`` are those that `prune` counts; ``recovered_bytes`` belonged to writes that a crash
        cut off, ``corrupt_records`` to damage, both since the store was made.
        """

    @abstractmethod
    def check(self) -> list[str]:
        """Return what is wrong, one line each, and change nothing."""

    @abstractmethod
    def compact(self) -> None:
        """Give back the space of what was removed, and mend what `check` finds."""

    @abstractmethod
    def close(self) -> None:
        """Close what is open; the next call opens it again."""

    # ---- a mapping of lists

    def samples(self, key: str) -> list[object]:
        """Return the samples of a key, in the order of their indices."""
        found = self.read([(key, 0, MAX_INDEX)])[0]
        return [found[index] for index in sorted(found)]

    def extend(self, key: str, samples: Sequence[object]) -> int:
        """Add samples at a key's lowest free indices; return the first (no samples: the next)."""
        if not samples:
            return self.count(key)
        return self.add([(key, 0, samples)])[0][0]

    def get(self, key: str, default: D | None = None) -> list[object] | D | None:
        """Return the samples of a key, or the default where it has none."""
        return self.samples(key) or default

    def set(self, key: str, samples: list[object]) -> bool:
        """Replace the samples of a key.

        Raises:
            TypeError: Not a list, or a sample cannot be stored.
        """
        if not isinstance(samples, list):
            raise TypeError(f"the samples of a key must be a list, got {type(samples).__name__}")
        self.replace(key, samples)
        return True

    def delete(self, key: str) -> bool:
        """Remove a key; false when there was none."""
        return self.remove([key]) > 0

    def pop(self, key: str, default: D | None = None) -> list[object] | D | None:
        """Remove a key and return its samples, or the default where it has none."""
        found = self.samples(key)
        self.remove([key])
        return found or default

    def clear(self) -> int:
        """Remove all keys; return how many."""
        return self.remove(list(self))

    def __getitem__(self, key: str) -> list[object]:
        found = self.samples(key)
        if not found:
            raise KeyError(key)
        return found

    def __setitem__(self, key: str, samples: list[object]) -> None:
        self.set(key, samples)

    def __delitem__(self, key: str) -> None:
        if not self.delete(key):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.count(key) > 0

    def __iter__(self) -> Iterator[str]:
        return iter([listed.key for listed in self.listed()])

    def __len__(self) -> int:
        return self.stats()["keys"]

    def __bool__(self) -> bool:
        return True  # an empty store is one

    def __enter__(self) -> SampleStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def check_limit(max_bytes: object) -> int | None:
    """Return the size that a store may have, None for any.

    Raises:
        TypeError: Neither None nor an integer.
        ParameterError: Less than 1.
    """
    return None if max_bytes is None else integer("max_bytes", max_bytes, 1, MAX_INDEX)


def check_key(key: object) -> str:
    """Return a key.

    Raises:
        TypeError: Not a string.
    """
    return string("a key of the cache", key)


def open_store(where: str | os.PathLike[str], *, readonly: bool = False) -> SampleStore:
    """Open a store that is there already.

    Args:
        where: A folder; or the address of a Redis server: ``redis://``, ``rediss://``, ``unix://``.
        readonly: Write nothing.

    Raises:
        ParameterError: There is no folder of that name.
        MissingExtraError: The client of Redis is not installed.
        StoreError: It cannot be opened.

    Example:
        >>> import tempfile
        >>> from cacher.pipelines.store import open_store
        >>> len(open_store(tempfile.mkdtemp()))
        0
    """
    name = os.fsdecode(where)
    if name.startswith(("redis://", "rediss://", "unix://")):
        from cacher.pipelines.redis import RedisCache

        return RedisCache(name)
    from cacher.pipelines.sqlite import Cache

    if not os.path.isdir(name):
        raise ParameterError(
            f"the cache is {shown(name)}, allowed: a folder that is there, or the address of a "
            "Redis server"
        )
    return Cache(name, readonly=readonly)
