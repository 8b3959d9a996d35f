"""A caller's own object as a store: ``diskcache.Cache``, a dict, anything with ``get`` and ``set``.

The value under a key is a plain list of samples, oldest first.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from typing import Any

from cacher.checks import integer
from cacher.errors import StoreError
from cacher.pipelines.store import MAX_INDEX, Add, Listed, SampleStore, Want, check_key

PLAIN = (str, bytes, int, float, bool, type(None))  # cannot be changed: need not be copied


class MappingStore(SampleStore):
    """Samples in a mapping.

    Every list is read again before it is extended, inside the mapping's ``transact()`` where it has
    one; so two processes lose nothing.  A list has no gaps: samples are added at its end.

    Example:
        >>> from cacher.pipelines import MappingStore
        >>> mapping = {}
        >>> MappingStore(mapping).add([("river", 0, ["Rhine", "Elbe"])])
        [[0, 1]]
        >>> mapping
        {'river': ['Rhine', 'Elbe']}
    """

    def __init__(self, mapping: Any) -> None:
        """Wrap a mapping.

        Raises:
            TypeError: It has neither ``get`` and ``set`` nor what a dict has.
        """
        if not callable(getattr(mapping, "get", None)) or not (
            callable(getattr(mapping, "set", None)) or hasattr(mapping, "__setitem__")
        ):
            raise TypeError(
                f"a {type(mapping).__name__} is no cache, allowed: an object with get and set, or "
                "a mapping"
            )
        self.mapping = mapping
        self._set = getattr(mapping, "set", None) or mapping.__setitem__

    def read(self, wants: Sequence[Want]) -> list[dict[int, object]]:
        """Return samples by index; see `SampleStore.read`."""
        with self._trouble("read"):
            return [
                {
                    max(0, low) + i: _copied(sample)
                    for i, sample in enumerate(self._list(check_key(key))[max(0, low) : high])
                }
                for key, low, high in wants
            ]

    def add(self, adds: Sequence[Add]) -> list[list[int]]:
        """Store samples at the end of their lists; see `SampleStore.add`."""
        for key, start, _ in adds:
            check_key(key)
            integer("the index of a sample", start, 0, MAX_INDEX)
        with self._trouble("written"), self._transaction():
            return [self._append(key, samples) for key, _, samples in adds]

    def _append(self, key: str, samples: Sequence[object]) -> list[int]:
        there = list(self._list(key))
        if samples:
            self._set(key, there + list(map(_copied, samples)))
        return list(range(len(there), len(there) + len(samples)))

    def _list(self, key: str) -> Sequence[object]:
        found = self.mapping.get(key, None)
        if found is None:
            return []
        if not isinstance(found, (list, tuple)):
            raise StoreError(
                f"the cache has a {type(found).__name__} under {key!r}, allowed: a list of samples"
            )
        return found

    def _transaction(self) -> contextlib.AbstractContextManager[object]:
        transact = getattr(self.mapping, "transact", None)
        found: contextlib.AbstractContextManager[object] = (
            transact() if callable(transact) else contextlib.nullcontext()
        )
        return found

    def count(self, key: str) -> int:
        """Return how many samples a key has."""
        with self._trouble("read"):
            return len(self._list(check_key(key)))

    def replace(self, key: str, samples: Sequence[object]) -> int:
        """Let these be the samples of a key; return how many there were."""
        with self._trouble("written"), self._transaction():
            n = len(self._list(check_key(key)))
            self._set(key, list(map(_copied, samples)))
        return n

    def remove(self, keys: Sequence[str]) -> int:
        """Let keys have no samples; return how many had any."""
        return sum(self.replace(key, []) > 0 for key in keys)

    def prune(self, max_bytes: int) -> list[str]:
        """What a mapping holds is its owner's business.

        Raises:
            StoreError: Always.
        """
        raise StoreError(f"a {type(self.mapping).__name__} cannot be pruned to {max_bytes} bytes")

    def listed(self) -> Iterator[Listed]:
        """Yield the keys of a mapping that can be iterated; sizes and times are not known."""
        for key in self._names():
            yield Listed(key, self.count(key), 0, 0.0)

    def _names(self) -> list[str]:
        with self._trouble("read"):
            return [key for key in self.mapping if isinstance(key, str)]

    def stats(self) -> dict[str, int]:
        """Return ``keys`` and ``samples``; nothing else is known."""
        counts = [listed.samples for listed in self.listed()]
        return {
            "keys": len(counts), "samples": sum(counts), "bytes": 0, "recovered_bytes": 0,
            "corrupt_records": 0,
        }  # fmt: skip

    def check(self) -> list[str]:
        """Return the keys that hold no list."""
        found = []
        for key in self._names():
            try:
                self._list(key)
            except StoreError as error:
                found.append(str(error))
        return found

    def compact(self) -> None:
        """Nothing is done."""

    def close(self) -> None:
        """Close the mapping, where it can be closed."""
        close = getattr(self.mapping, "close", None)
        if callable(close):
            with self._trouble("closed"):
                close()

    @contextlib.contextmanager
    def _trouble(self, verb: str) -> Iterator[None]:
        """Turn what the mapping raises into a StoreError."""
        try:
            yield
        except (StoreError, TypeError):
            raise
        except Exception as error:
            raise StoreError(
                f"the {type(self.mapping).__name__} cannot be {verb}: {error!r}"
            ) from error


def _copied(sample: object) -> object:
    """Return a sample that shares nothing with the other, where it can be copied."""
    if type(sample) in PLAIN:
        return sample
    try:
        return copy.deepcopy(sample)
    except Exception:
        return sample
