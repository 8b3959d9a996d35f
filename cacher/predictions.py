"""Predictions kept across requests: the logits after a token sequence, found again by its tokens.

Pages of equal prefixes are shared by the core's pool; what is kept here is the one thing that a
page does not hold, so that a prompt that was read before is continued without a forward pass.
"""

from __future__ import annotations

from collections import OrderedDict

from cacher import _core

Key = tuple[int, bytes]


class Predictions:
    """The most recently used logits, at most so many bytes of them.  For one thread at a time."""

    def __init__(self, n_bytes: int) -> None:
        self._most_bytes = n_bytes
        self._logits: OrderedDict[Key, _core.Array] = OrderedDict()
        self._bytes = 0

    @staticmethod
    def key(state: _core.State, salt: int) -> Key:
        """Return the key of a state's tokens."""
        return salt, bytes(memoryview(state.tokens()))

    def get(self, key: Key) -> _core.Array | None:
        """Return the logits after the key's tokens, when they are known."""
        logits = self._logits.get(key)
        if logits is not None:
            self._logits.move_to_end(key)
        return logits

    def put(self, key: Key, logits: _core.Array) -> None:
        """Keep logits; the least recently used make room."""
        if key in self._logits:
            return
        self._logits[key] = logits
        self._bytes += self._size(key, logits)
        while self._bytes > self._most_bytes:
            old_key, old = self._logits.popitem(last=False)
            self._bytes -= self._size(old_key, old)

    @staticmethod
    def _size(key: Key, logits: _core.Array) -> int:
        return len(key[1]) + 4 * len(logits)
