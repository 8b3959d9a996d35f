"""The text of new tokens: what each adds to what a state holds, and where a stop sequence ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cacher import _core
from cacher.errors import TokenizerError

if TYPE_CHECKING:
    from cacher.state import State


class StopMatcher:
    """Finds stop sequences in text that comes in pieces."""

    __slots__ = ("_keep", "_stops", "_tail")

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._keep = max(map(len, stops), default=1) - 1
        self._tail = ""

    def push(self, piece: str) -> str | None:
        """Add a piece; return the sequence it completes: the earliest end, then the first given."""
        if not self._stops or not piece:
            return None
        old, window = len(self._tail), self._tail + piece
        self._tail = window[-self._keep :] if self._keep else ""
        found = [
            (at + len(stop), i)
            for i, stop in enumerate(self._stops)
            if (at := window.find(stop, max(0, old - len(stop) + 1))) >= 0
        ]
        return self._stops[min(found)[1]] if found else None


def check_stops(state: State, stops: tuple[str, ...]) -> None:
    """Refuse stop sequences where there is no text to find them in.

    Raises:
        TokenizerError: The model has no tokenizer.
    """
    if stops and state.model._tokenizer is None:
        raise TokenizerError(f"stop is {stops!r}, but model {state.model.name!r} has no tokenizer")


def primed_decoder(state: State) -> _core.Decoder | None:
    """Return a decoder for what follows the state: a character may go on, a word is no first."""
    tokenizer = state.model._tokenizer
    if tokenizer is None:
        return None
    decoder = tokenizer._core.decoder()  # special tokens as `State.text` shows them
    decoder.prime(state._core.tokens())
    return decoder


def continuation_pieces(state: State, ids: Sequence[int]) -> list[str]:
    """Return the text that each of `ids` adds after the state's own tokens."""
    decoder = primed_decoder(state)
    if decoder is None:
        return [""] * len(ids)
    pieces = [decoder.push(i) for i in ids]
    rest = decoder.finish() if pieces else ""
    if rest:
        pieces[-1] += rest
    return pieces
