"""What a store of states promises.

A store keeps documents (`cacher.document`) under a tenant and a state's id, and knows nothing of
models.  All calls block, may come from any thread, and raise `StoreError` when the store cannot be
read or written.  The promises, each a test that runs against every store:

1. What `save` or `delete` returned from is on disk, as far as the store's own durability goes.
2. `save` replaces exactly the version its caller read: it is refused when another process saved or
   deleted the state meanwhile, however long the caller slept.  A version never comes twice.
3. A reader sees a document as one `save` wrote it, never parts of two.
4. A lease has one holder until it is released or runs out.  It keeps processes from working in
   vain; that nothing is overwritten is promise 2.
5. A document that is damaged is an absent one: logged, left alone.
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from cacher.branches import Kin
from cacher.checks import shown
from cacher.errors import ParameterError, StateBusyError
from cacher.typed import get, seconds

if TYPE_CHECKING:
    from cacher.state import State

TENANT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
MAX_TOMBSTONES = 10_000  # deleted states that a tenant's tree still knows


def check_tenant(tenant: object) -> str:
    """Return the name of a tenant; "" is none."""
    if not isinstance(tenant, str) or not (tenant == "" or TENANT.fullmatch(tenant)):
        raise ParameterError(f"tenant {shown(tenant)} is not allowed: the pattern of a state id")
    return tenant


class Key(NamedTuple):
    """A state's place: its tenant ("" is none) and its id; both can be names of files."""

    tenant: str
    state_id: str


@dataclass(frozen=True, slots=True)
class Summary:
    """What lists and trees show of a state; times in seconds since 1970."""

    state_id: str
    model_id: str
    model_type: str
    token_count: int
    head_position: int
    created_at: float
    modified_at: float
    forked_from: str | None = None
    merged_from: tuple[str, ...] | None = None
    deleted: bool = False

    @classmethod
    def of(cls, state: State) -> Summary:
        """Return the summary of a state."""
        parents = state.merged_from
        return cls(
            state.id, state.model.name, state.model.model_type, len(state), state.head_position,
            state._created, state._modified, state.forked_from,
            None if parents is None else tuple(parents),
        )  # fmt: skip

    @classmethod
    def of_document(cls, state_id: str, document: Mapping[str, Any], written: float) -> Summary:
        """Return the summary of a document that a stranger wrote at that time.

        Raises:
            StateFileError: It is no document of a state.
        """
        metadata = get(document, "metadata", dict, {})
        parents = get(metadata, "merged_from", list, None)
        created = seconds(metadata, "created_at", written)
        return cls(
            state_id, get(document, "model_id", str),
            get(document, "model_type", str, "causal_lm"),
            len(get(document, "token_ids", list, [])), get(document, "head_position", int, 0),
            created, seconds(metadata, "last_modified", created),
            get(metadata, "forked_from", str, None),
            None if parents is None else tuple(map(str, parents)),
        )  # fmt: skip

    def kin(self) -> Kin:
        """Return what a tree needs of it; the tokens of what was never read are not known."""
        parents = self.merged_from or ((self.forked_from,) if self.forked_from else ())
        token_count = self.token_count if self.model_id else None
        return Kin(self.state_id, token_count, tuple(parents), self.deleted)


class Stored(NamedTuple):
    """A document and the version `save` must name to replace it."""

    data: bytes
    version: str


class Lease(NamedTuple):
    """The right to work on a state until it runs out."""

    key: Key
    token: str


class StoredFile(NamedTuple):
    """A name and its age in seconds."""

    name: str
    age: float


class StoreStats(NamedTuple):
    """How much is stored, and the files whose last use is the longest and the shortest ago."""

    total_files: int
    total_size: int
    oldest_file: StoredFile | None
    newest_file: StoredFile | None


class ChangedMeanwhileError(StateBusyError):
    """Another process saved or deleted the state after it was read."""

    def __init__(self, key: Key) -> None:
        super().__init__(f"state {key.state_id} was changed by another process meanwhile")


class StateStore(ABC):
    """A store; see the module for its promises."""

    @abstractmethod
    def load(self, key: Key) -> Stored | None:
        """Return the document and its version; None when there is none."""

    @abstractmethod
    def version(self, key: Key) -> str | None:
        """Return the version of the document, cheaply; None when there is none."""

    @abstractmethod
    def save(self, key: Key, data: bytes, summary: Summary, expected: str | None) -> str:
        """Write a document and return its version.

        Args:
            key: Its place.
            data: The document.
            summary: Of the same state.
            expected: The version to replace; None: there must be none.

        Raises:
            StateExistsError: None was expected, and there is one.
            ChangedMeanwhileError: There is another version, or none any more.
            StoreError: It could not be written.  Where a new version was written but may not
                outlast a power failure, a reader may see it all the same; a new state is gone.
        """

    @abstractmethod
    def delete(self, key: Key) -> bool:
        """Remove a document; false when there was none."""

    @abstractmethod
    def touch(self, key: Key) -> None:
        """Note that the state is used: its age begins anew."""

    @abstractmethod
    def newest(self, tenant: str, limit: int, offset: int) -> tuple[list[Summary], int]:
        """Return summaries of a tenant's states, newest first, and how many states there are."""

    @abstractmethod
    def family(self, tenant: str) -> list[Summary]:
        """Return summaries of a tenant's states and of deleted ones, oldest first."""

    @abstractmethod
    def clean_up(self, max_age_s: float | None, max_states: int | None) -> list[Key]:
        """Remove states that were not used for long, and the oldest beyond a number.

        Those under a lease stay.  Returns what was removed.
        """

    @abstractmethod
    def stats(self) -> StoreStats:
        """Return how much is stored."""

    @abstractmethod
    def acquire(self, key: Key, seconds: float) -> Lease | None:
        """Return a lease for that long, or None while another holds one."""

    @abstractmethod
    def renew(self, lease: Lease, seconds: float) -> bool:
        """Let a lease run for that long from now; false when it had run out and was lost."""

    @abstractmethod
    def release(self, lease: Lease) -> None:
        """Give a lease back; no error when it had run out."""

    @abstractmethod
    def call_off(self, key: Key) -> bool:
        """Ask the holder of a lease to stop what it does; false when nobody holds one."""

    @abstractmethod
    def is_called_off(self, lease: Lease) -> bool:
        """Whether somebody asked the holder of this lease to stop."""

    @abstractmethod
    def close(self) -> None:
        """Close what is open; the store is not used again."""


def unique() -> str:
    """Return a version or a token that was never there before."""
    return os.urandom(12).hex()
