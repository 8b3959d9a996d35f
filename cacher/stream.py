"""Streaming: a run of one state, token by token."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

from cacher import _core
from cacher.row import SHOWN_TOP, Row, Step
from cacher.types import Generation, Token

if TYPE_CHECKING:
    from cacher.state import State


class Stream:
    """An iterator over tokens as they are generated.

    Between two tokens the state is free: it can be read, forked, even extended.
    """

    _open = False  # until there is something to close

    def __init__(self, state: State, row: Row) -> None:
        self._state = state
        self._row = row
        self._open = True
        self._batch: _core.Batch | None = _core.Batch(state.model._core, 1, 0, state._store_top_k)

    @property
    def result(self) -> Generation:
        """What was generated so far, and why it ended."""
        return self._row.result()

    def __iter__(self) -> Iterator[Token]:
        return self

    def __next__(self) -> Token:
        row, state, batch = self._row, self._state, self._batch
        while self._open and batch is not None and not row.ended:
            step = self._step(batch)
            state._head = len(state)
            for shown in row.take([step]):
                return shown.token(state.model._tokenizer)
        self.close()
        raise StopIteration

    def _step(self, batch: _core.Batch) -> Step:
        """Let the core draw a token; where that is interrupted, the state is as it was."""
        core = self._state._core
        number = self._row.join(batch)
        length = len(core)  # from here on nobody else changes it
        try:
            while not (steps := batch.step(0, 1, SHOWN_TOP)):
                pass
        except BaseException:  # Ctrl-C is raised when a step is complete: nobody saw its token
            batch.remove(number)
            core.truncate(length)
            raise
        batch.remove(number)
        return steps[0]

    def close(self) -> None:
        """End the run; what was generated stays in the state."""
        if self._open:
            self._open = False
            self._batch = None
            if self._row.token_ids or self._row.finished:
                self._state._changed()

    def __del__(self) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a stream is read once, where it was made: it cannot be copied or pickled")
