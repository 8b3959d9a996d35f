"""Runs a program with one promise broken, to see that the crash test notices.

python -m tests.crash.sabotage WAY MODULE ARGUMENTS...
"""

from __future__ import annotations

import asyncio
import os
import runpy
import sys
import time
from collections.abc import Callable
from typing import Any

from cacher import Model, document, keeper, past
from cacher.document import encode
from cacher.history import Change
from cacher.keeper import Entry, Keeper
from cacher.state import State
from cacher.stores.base import Key, Summary
from cacher.stores.files import FileStore

LATE_S = 0.02


def acknowledge_first() -> None:
    """Changes are answered, and stored a moment later."""
    honest = Keeper.commit

    async def commit(self: Keeper, key: Key, state: State, expected: str | None) -> None:
        if expected is None:
            await honest(self, key, state, expected)
            return
        self._keep(key, Entry(state, expected, time.monotonic()))

        def save() -> None:
            self.store.save(key, encode(state), Summary.of(state), self.store.version(key))

        asyncio.get_running_loop().call_later(LATE_S, save)

    Keeper.commit = commit  # type: ignore[method-assign]


def write_in_place() -> None:
    """The file that is there is overwritten, piece by piece."""

    def replace(temporary: str, path: str) -> None:
        with open(temporary, "rb") as new, open(path, "wb") as file:
            while piece := new.read(400):
                file.write(piece)
                file.flush()
                time.sleep(LATE_S / 20)
        os.rename(temporary, path)

    os.replace = replace


def keep_the_deleted() -> None:
    """A state that is deleted is only forgotten."""
    FileStore.delete = lambda *_: True  # type: ignore[method-assign]


def lose_checkpoints() -> None:
    """Checkpoints are in memory only."""
    document.checkpoint_entries = lambda _: []  # type: ignore[attr-defined]


def lose_configurations() -> None:
    """A state that is read again has the configuration it began with."""
    honest = keeper.from_document

    def from_document(model: Model, data: dict[str, Any], **options: Any) -> State:
        return honest(model, {**data, "config": data["metadata"]["config"]}, **options)

    keeper.from_document = from_document


def lose_the_way_back() -> None:
    """What undoes events is not written."""
    honest = past._entry

    def entry(state: State, change: Change) -> dict[str, object]:
        return honest(state, change._replace(kept=None, removed=b"", replaced=None))

    past._entry = entry


WAYS: dict[str, Callable[[], None]] = {
    way.__name__: way
    for way in (
        acknowledge_first, write_in_place, keep_the_deleted, lose_checkpoints, lose_configurations,
        lose_the_way_back,
    )
}  # fmt: skip


if __name__ == "__main__":
    WAYS[sys.argv[1]]()
    module = sys.argv[2]
    sys.argv = sys.argv[2:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
