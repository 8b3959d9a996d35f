"""What happened to a state, and the way back.

An event keeps what undoes it: how many leading tokens it left in place, the ids it removed (usually
none), the configuration it replaced (usually none).  Walking back from the newest event gives the
tokens, head and configuration of every kept revision; no KV page is held for it.  A checkpoint is a
fork of the core's state: it shares its pages, whatever its length.

Invariants:

1. Events are in order of revision without a gap; the last one's is the state's revision.
2. The tokens an event left in place and those it removed are its predecessor's ``token_count``.
   Tokens of a stream that is still open belong to no event yet.
3. Nothing is recorded before a state first changes: `past` makes up its first event.  Tuples and
   marks are replaced, never changed, so that copies of a state share them.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

from cacher.checks import MAX_INT64, integer, shown, string
from cacher.errors import CheckpointNotFoundError, ParameterError, RevisionNotAvailableError
from cacher.identity import STATE_ID
from cacher.times import utc
from cacher.types import Checkpoint, Event

if TYPE_CHECKING:
    from datetime import datetime

    from cacher._core import State as CoreState
    from cacher.identity import Identity
    from cacher.lineage import Merged
    from cacher.params import StateConfig

Op = Literal[
    "create", "fork", "merge", "import", "forward", "generate", "config", "edit", "rollback"
]

MAX_EVENTS = 256
MAX_CHECKPOINTS = 64
MAX_UNDO_BYTES = 1024 * 1024  # of a state's events: what is older can be looked at, not restored
ID_BYTES = 4


class Change(NamedTuple):
    """An event and what undoes it; `kept` is None where that was let go."""

    revision: int
    op: Op
    at: float
    token_count: int
    head: int
    kept: int | None
    removed: bytes = b""
    replaced: StateConfig | None = None
    detail: Mapping[str, object] | None = None

    def undo_bytes(self) -> int:
        """Return how much is held to undo it, about."""
        extra = 0 if self.replaced is None else 512 + len(repr(self.replaced.extra))
        return len(self.removed) + extra


class Mark(NamedTuple):
    """A checkpoint and what it restores."""

    name: str
    revision: int
    at: float
    core: CoreState
    head: int
    config: StateConfig

    def checkpoint(self) -> Checkpoint:
        """Return what is shown of it."""
        return Checkpoint(self.name, self.revision, len(self.core), utc(self.at))


def check_checkpoint_name(name: object) -> str:
    """Return the name of a checkpoint: the pattern of state ids."""
    if not STATE_ID.fullmatch(string("the name of a checkpoint", name)):
        raise ParameterError(
            f"checkpoint name {shown(name)} is not allowed: 1 to 128 letters, digits, '.', '_', "
            "'-', the first a letter or digit"
        )
    return str(name)


def within_bounds(past: tuple[Change, ...]) -> tuple[Change, ...]:
    """Return the events, the oldest of them without what would hold too many bytes."""
    held = 0
    for i in reversed(range(len(past))):
        held += past[i].undo_bytes()
        if held > MAX_UNDO_BYTES:
            bare = [c._replace(kept=None, removed=b"", replaced=None) for c in past[: i + 1]]
            return (*bare, *past[i + 1 :])
    return past


class Remembering:
    """The remembering half of `cacher.State`."""

    __slots__ = (
        "_config", "_core", "_created", "_first_head", "_first_tokens", "_given", "_head", "_marks",
        "_modified", "_past", "_revision",
    )  # fmt: skip

    if TYPE_CHECKING:
        _core: CoreState
        _config: StateConfig
        _head: int
        _revision: int
        _created: float
        _modified: float
        _first_tokens: int
        _first_head: int
        _given: tuple[str | None, Mapping[str, object]]
        _past: tuple[Change, ...] | None
        _marks: Mapping[str, Mark]
        _forked_from: Identity | None
        _merged: Merged | None

        @property
        def forked_from(self) -> str | None: ...  # noqa: D102
        @property
        def merged_from(self) -> list[str] | None: ...  # noqa: D102
        def __len__(self) -> int: ...

    # ---- looking back

    @property
    def revision(self) -> int:
        """Starts at 1 and grows by 1 with every change."""
        return self._revision

    @property
    def created_at(self) -> datetime:
        """When the state was made (UTC)."""
        return utc(self._created)

    @property
    def modified_at(self) -> datetime:
        """When it last changed (UTC)."""
        return utc(self._modified)

    @property
    def initial_text(self) -> str | None:
        """The text the state, or the one it was forked from, was made with."""
        return self._given[0]

    @property
    def initial_config(self) -> dict[str, object]:
        """The keys of the configuration that were given then."""
        return dict(self._given[1])

    @property
    def history(self) -> list[Event]:
        """What happened to the state, oldest first: the last 256 events."""
        return [self._event(change) for change in self._events()]

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """The state's checkpoints, in the order they were made."""
        return [mark.checkpoint() for mark in self._marks.values()]

    def _events(self) -> tuple[Change, ...]:
        if self._past is not None:
            return self._past
        op: Op = "create"
        if self._forked_from is not None:
            op = "fork"
        elif self._merged is not None:
            op = "merge"
        born = (self._first_tokens, self._first_head)
        return (Change(self._revision, op, self._created, *born, None),)

    def _event(self, change: Change) -> Event:
        detail = dict(change.detail or {})
        if change.op == "fork":
            detail["forked_from"] = self.forked_from
        elif change.op == "merge":
            detail["merged_from"] = self.merged_from
        at = utc(change.at)
        return Event(change.revision, change.op, at, change.token_count, change.head, detail)

    # ---- recording

    def _begun(
        self, text: object = None, config: Mapping[str, object] | StateConfig | None = None
    ) -> None:
        """Take this moment as the first event, and note what the state was made from."""
        self._first_tokens, self._first_head = len(self), self._head
        given: dict[str, object] = {}
        if config is not None:
            full = self._config.to_dict()
            sent = full if not isinstance(config, Mapping) else config
            given = {key: None if sent[key] is None else full.get(key) for key in sent}
        self._given = (text if isinstance(text, str) else None, given)

    def _lost(self, kept: int) -> bytes:
        """Return the ids behind the first `kept` that the last event knows of."""
        known = self._first_tokens if self._past is None else self._past[-1].token_count
        if kept >= known:
            return b""
        return memoryview(self._core.tokens(kept, known - kept)).tobytes()

    def _changed(
        self,
        op: Op = "generate",
        *,
        removed: bytes = b"",
        replaced: StateConfig | None = None,
        detail: Mapping[str, object] | None = None,
    ) -> None:
        """Record an event that has just happened: every change of a state ends with this.

        Args:
            op: Its name.
            removed: Ids that are gone, from `_lost` before the change.
            replaced: The configuration before, where it changed.
            detail: What else is shown of it.
        """
        past = self._events()
        now = time.time()
        change = Change(
            self._revision + 1, op, now, len(self), self._head,
            past[-1].token_count - len(removed) // ID_BYTES, removed, replaced, detail,
        )  # fmt: skip
        past = (*past[1 - MAX_EVENTS :], change)
        self._past = within_bounds(past) if removed or replaced else past
        self._revision += 1
        self._modified = now

    def _shorten(self, n_tokens: int, op: Op) -> None:
        removed = self._lost(n_tokens)
        self._core.truncate(n_tokens)
        self._head = min(self._head, n_tokens)
        self._changed(op, removed=removed)

    def _become(
        self,
        core: CoreState,
        head: int,
        config: StateConfig,
        op: Op,
        detail: Mapping[str, object] | None = None,
    ) -> None:
        removed = self._lost(self._core.common_prefix(core))
        replaced = None if config == self._config else self._config
        self._core, self._head, self._config = core, head, config
        self._changed(op, removed=removed, replaced=replaced, detail=detail)

    # ---- going back

    def checkpoint(self, name: str) -> Checkpoint:
        """Remember tokens, head and configuration under a name, for `rollback`.

        Not a change of the state: its revision stays.  Forks have no checkpoints.

        Args:
            name: As a state id; a checkpoint of the same name is replaced.

        Raises:
            ParameterError: The name is not allowed, or there are 64 checkpoints.

        Example:
            >>> import cacher
            >>> state = cacher.load("tales").state("Once upon a time")
            >>> state.checkpoint("beginning").token_count
            4
        """
        name = check_checkpoint_name(name)
        others = {key: mark for key, mark in self._marks.items() if key != name}
        if len(others) >= MAX_CHECKPOINTS:
            raise ParameterError(
                f"checkpoint {name!r} would be number {len(others) + 1}, "
                f"allowed: {MAX_CHECKPOINTS} of a state"
            )
        mark = Mark(name, self._revision, time.time(), self._core.fork(), self._head, self._config)
        self._marks = {**others, name: mark}
        return mark.checkpoint()

    def rollback(
        self,
        to: int | None = None,
        *,
        checkpoint: str | None = None,
        revision: int | None = None,
    ) -> Self:
        """Take tokens back, or everything to what it was.  Returns the state.

        Tokens, text, head and configuration are restored; going back is a new revision.

        Args:
            to: How many leading tokens to keep; negative: how many to take back.
            checkpoint: To what `checkpoint` remembered under this name.
            revision: To what the state was at this revision; see `history`.

        Raises:
            ParameterError: More tokens than there are, or not exactly one argument.
            CheckpointNotFoundError: There is no checkpoint of that name.
            RevisionNotAvailableError: The revision is to come, or no longer kept.

        Example:
            >>> import cacher
            >>> state = cacher.load("tales").state("Hello world")
            >>> state.rollback(-1).text
            'Hello'
            >>> state.rollback(revision=1).text
            'Hello world'
        """
        if sum(x is not None for x in (to, checkpoint, revision)) != 1:
            raise ParameterError("rollback takes exactly one of to, checkpoint and revision")
        if to is not None:
            length = len(self)
            to = integer("to", to, -length, length)
            self._shorten(to if to >= 0 else length + to, "rollback")
        elif checkpoint is not None:
            mark = self._marked(checkpoint)
            detail: dict[str, object] = {"checkpoint": mark.name, "revision": mark.revision}
            self._become(mark.core.fork(), mark.head, mark.config, "rollback", detail)
        else:
            at, core, config = self._as_of(revision)
            self._become(core, at.head, config, "rollback", {"revision": at.revision})
        return self

    def _marked(self, name: object) -> Mark:
        if string("checkpoint", name) not in self._marks:
            there = ", ".join(map(repr, self._marks)) or "none"
            raise CheckpointNotFoundError(f"there is no checkpoint {shown(name)}, there: {there}")
        return self._marks[str(name)]

    def _as_of(self, revision: object) -> tuple[Change, CoreState, StateConfig]:
        """Undo events, newest first, until the one of `revision` is the last."""
        past = self._events()
        wanted = integer("revision", revision, -MAX_INT64, MAX_INT64)
        oldest = next((c.revision for c in reversed(past) if c.kept is None), past[0].revision)
        if not oldest <= wanted <= self._revision:
            raise RevisionNotAvailableError(
                f"revision is {wanted}, allowed: {oldest} to {self._revision}"
            )
        shared, tail, config = past[-1].token_count, array("i"), self._config
        for change in reversed(past[wanted - past[0].revision + 1 :]):
            kept = change.kept or 0
            del tail[max(0, kept - shared) :]
            shared = min(shared, kept)
            tail.frombytes(change.removed)
            config = config if change.replaced is None else change.replaced
        core = self._core.fork()
        core.truncate(shared)
        core.append(tail)
        return past[wanted - past[0].revision], core, config
