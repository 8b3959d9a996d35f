"""Many states under their ids, for services: found, changed one at a time, stored.

What `States` gives out are copies that share everything with what is kept (a fork of the core's
state, microseconds): a reader sees a state before or after a change and never waits, and a change
that cannot be stored has not happened.  `cacher.keeper` has the rules.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Literal, get_args

from cacher.branches import Tree, family_tree
from cacher.checks import MAX_INT32, choice, integer
from cacher.errors import ParameterError, StateExistsError
from cacher.identity import STATE_ID, Identity
from cacher.keeper import Keeper, StatesStats, not_found
from cacher.lineage import OnConflict, Strategy, merge
from cacher.stores.base import Key, StateStore, Summary, check_tenant
from cacher.transfer import MAX_IMPORT_BYTES, Compress, Format, export_states, imported

if TYPE_CHECKING:
    from cacher.model import Model
    from cacher.params import StateConfig
    from cacher.state import State, Text

Taken = Literal["new", "error", "replace"]

MAX_FORKS = 32


class States:
    """The states of a service: kept in a store, found by their ids, changed one at a time.

    All methods belong to one event loop.  A `tenant` has ids, lists and caches of its own.

    Example:
        >>> import asyncio, tempfile
        >>> import cacher
        >>> from cacher.states import States
        >>> from cacher.stores.files import FileStore
        >>> async def tell(folder):
        ...     async with States(cacher.load, FileStore(folder)) as states:
        ...         made = await states.create("tales", "Once upon a time", state_id="story")
        ...         async with states.change("story") as state:
        ...             state.forward(" there was")
        ...         return (await states.get("story")).text
        >>> asyncio.run(tell(tempfile.mkdtemp()))
        'Once upon a time there was'
    """

    def __init__(
        self,
        models: Callable[[str], Model],
        store: StateStore,
        *,
        max_in_memory: int = 1000,
        lock_timeout_s: float = 30.0,
        shared: bool = False,
        max_age_s: float | None = 86_400.0,
        max_stored: int | None = 10_000,
        clean_up_interval_s: float = 3600.0,
        lease_s: float = 10.0,
    ) -> None:
        """Keep states in a store.

        Args:
            models: Gives the model of an id; called in threads, may take its time.
            store: Closed with this.
            max_in_memory: States kept in memory; the least recently used are read again.
            lock_timeout_s: How long a change waits for the state.
            shared: Whether other processes use the store, too.
            max_age_s: States not used for that long are removed; None: never.
            max_stored: The oldest states beyond that number are removed; None: none.
            clean_up_interval_s: Between two clean-ups; 0: only `clean_up` does it.
            lease_s: How long a state stays with a process that died, where it is `shared`.
        """
        self._keeper = Keeper(
            models,
            store,
            max_in_memory=integer("max_in_memory", max_in_memory, 1, MAX_INT32),
            lock_timeout_s=lock_timeout_s,
            shared=shared,
            max_age_s=max_age_s,
            max_stored=max_stored,
            lease_s=lease_s,
        )
        self._interval_s = clean_up_interval_s
        self._cleaner: asyncio.Task[None] | None = None

    async def __aenter__(self) -> States:
        if self._interval_s > 0:
            self._cleaner = asyncio.create_task(self._keeper.keep_clean(self._interval_s))
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the clean-up and close the store; there is nothing left to save."""
        if self._cleaner is not None:
            self._cleaner.cancel()
            with suppress(asyncio.CancelledError):
                await self._cleaner
        await self._keeper.aclose()

    # ---- one state

    async def create(
        self,
        model_id: str,
        text: Text | None = None,
        *,
        config: Mapping[str, object] | StateConfig | None = None,
        metadata: Mapping[str, object] | None = None,
        state_id: str | None = None,
        tenant: str = "",
    ) -> State:
        """Make a state; when this returns, it is stored.

        Args:
            model_id: For `models`.
            text: As of `Model.state`; so are config, metadata and state_id.
            config: See there.
            metadata: See there.
            state_id: See there.
            tenant: Whose state it is.

        Raises:
            StateExistsError: The id is taken.
            StoreError: It cannot be stored: there is no such state.
        """
        key = Key(check_tenant(tenant), Identity(state_id).get())

        def make() -> State:
            model = self._keeper.models(model_id)
            return model.state(
                text,
                config=config,
                metadata=metadata,
                state_id=key.state_id,
                cache_salt=tenant or None,
            )

        async with self._keeper.turn(key):
            return (await self._keeper.create(key, make))._twin()

    async def add(self, state: State, *, tenant: str = "") -> State:
        """Store a state that was made elsewhere under its own id; returns it.

        Raises:
            StateExistsError: The id is taken.
            StoreError: It cannot be stored.
        """
        key = Key(check_tenant(tenant), state.id)
        async with self._keeper.turn(key):
            await self._keeper.commit(key, state._twin(), None)
        return state

    async def get(self, state_id: str, *, tenant: str = "") -> State:
        """Return a copy of a state to look at; what happens to it is not kept.

        Raises:
            StateNotFoundError: There is no such state.
        """
        key = self._key(state_id, tenant)
        return (await self._keeper.current(key)).state._twin()

    @asynccontextmanager
    async def change(self, state_id: str, *, tenant: str = "") -> AsyncIterator[State]:
        """Have a state alone, to change it; when the block is left, the change is stored.

        What was changed is stored also when the block ends by an exception or is cancelled: tokens
        that were generated stay.  Readers see the state as it was until then.

        Raises:
            StateNotFoundError: There is no such state.
            StateBusyError: It was not free in time, or another process changed it meanwhile.
            StoreError: The change cannot be stored; it has not happened, or, where it was written
                but may not outlast a power failure, can be seen all the same.
        """
        key = self._key(state_id, tenant)
        async with self._keeper.turn(key):
            entry = await self._keeper.current(key)
            draft = entry.state._twin()
            self._keeper.count(draft)
            before = (draft._revision, draft._marks, len(draft))
            try:
                yield draft
            finally:
                if (draft._revision, draft._marks, len(draft)) != before:
                    await self._keeper.commit(key, draft._twin(), entry.version)

    async def delete(self, state_id: str, *, tenant: str = "") -> None:
        """Remove a state from memory and store; forks live on.

        Raises:
            StateNotFoundError: There is no such state.
        """
        key = self._key(state_id, tenant)
        async with self._keeper.turn(key):
            await self._keeper.current(key)
            await self._keeper.remove(key)

    # ---- several states

    async def fork(
        self,
        state_id: str,
        n: int = 1,
        *,
        at: int | None = None,
        config: Mapping[str, object] | None = None,
        metadata: Mapping[str, object] | None = None,
        new_id: str | None = None,
        tenant: str = "",
    ) -> list[State]:
        """Fork a state `n` times, 1 to 32; see `State.fork`.

        Raises:
            ParameterError: An argument is outside what is allowed.
            StateExistsError: The new id is taken.
        """
        n = integer("n", n, 1, MAX_FORKS)
        if n > 1 and new_id is not None:
            raise ParameterError(f"a state id is for one fork, there are {n}")
        parent = await self.get(state_id, tenant=tenant)
        forks = [
            parent.fork(at, config=config, metadata=metadata, state_id=new_id) for _ in range(n)
        ]
        return [await self.add(fork, tenant=tenant) for fork in forks]

    async def merge(
        self,
        state_ids: Iterable[str],
        *,
        strategy: Strategy = "append",
        separator: str = "",
        on_conflict: OnConflict = "first",
        new_id: str | None = None,
        tenant: str = "",
    ) -> State:
        """Merge states into a new one; see `cacher.merge`.

        Raises:
            ParameterError: An id twice, or another argument that is not allowed.
            MergeConflictError: They cannot be merged.
        """
        chosen = list(state_ids)
        if len(set(chosen)) < len(chosen):
            raise ParameterError("a state is given twice: they must be different ones")
        states = [await self.get(state_id, tenant=tenant) for state_id in chosen]
        merged = await self._keeper.off(
            merge, states, strategy=strategy, separator=separator, on_conflict=on_conflict,
            state_id=new_id,
        )  # fmt: skip
        return await self.add(merged, tenant=tenant)

    async def list_states(
        self, limit: int = 100, offset: int = 0, *, tenant: str = ""
    ) -> tuple[list[Summary], int]:
        """Return summaries, newest first, and how many states there are."""
        limit, offset = integer("limit", limit, 1, 1000), integer("offset", offset, 0, MAX_INT32)
        return await self._keeper.off(
            self._keeper.store.newest, check_tenant(tenant), limit, offset
        )

    async def tree(self, state_id: str, *, tenant: str = "") -> Tree:
        """Return the branch tree that holds a state, deleted relatives included."""
        key = self._key(state_id, tenant)
        await self._keeper.current(key)

        def grow() -> Tree:
            family = self._keeper.store.family(key.tenant)
            return family_tree([summary.kin() for summary in family], state_id)

        return await self._keeper.off(grow)

    async def export_states(
        self,
        state_ids: str | Iterable[str],
        *,
        format: Format = "json",  # noqa: A002
        compress: Compress = "none",
        tenant: str = "",
    ) -> bytes:
        """Return a state, or several as a batch, as bytes; see `cacher.export_states`."""
        if isinstance(state_ids, str):
            one = await self.get(state_ids, tenant=tenant)
            return await self._keeper.off(export_states, one, format=format, compress=compress)
        several = [await self.get(state_id, tenant=tenant) for state_id in state_ids]
        return await self._keeper.off(export_states, several, format=format, compress=compress)

    async def import_states(
        self,
        data: bytes,
        *,
        on_conflict: Taken = "new",
        max_bytes: int = MAX_IMPORT_BYTES,
        tenant: str = "",
    ) -> tuple[list[State], bool]:
        """Store exported states; returns them, and whether they came as a batch.

        Args:
            data: As of `cacher.import_states`.
            on_conflict: For an id that is taken: ``"new"``: a fresh one; ``"error"``;
                ``"replace"``: the state that has it goes.
            max_bytes: See there.
            tenant: Whose states they become.

        Raises:
            StateImportError: They are damaged; nothing is imported.
            StateExistsError: An id is taken and `on_conflict` is "error"; nothing is imported.
        """
        choice("on_conflict", on_conflict, *get_args(Taken))
        salt = check_tenant(tenant) or None

        def make() -> tuple[list[State], bool]:
            from cacher import wire

            exported = wire.read(data, max_bytes)
            made = [
                imported(document, self._keeper.models, salt) for document in exported.documents
            ]
            return made, exported.batch

        states, batch = await self._keeper.off(make)
        if on_conflict == "error":
            await self._check_free([Key(tenant, state.id) for state in states])
        return [await self._admit(state, on_conflict, tenant) for state in states], batch

    async def _check_free(self, keys: list[Key]) -> None:
        store = self._keeper.store
        for i, key in enumerate(keys):
            if key in keys[:i] or await self._keeper.off(store.version, key) is not None:
                raise StateExistsError(f"there is a state {key.state_id} already")

    async def _admit(self, state: State, on_conflict: Taken, tenant: str) -> State:
        try:
            return await self.add(state, tenant=tenant)
        except StateExistsError:
            if on_conflict == "error":
                raise
        if on_conflict == "new":
            state._identity = Identity()
            return await self.add(state, tenant=tenant)
        key = Key(tenant, state.id)
        async with self._keeper.turn(key):
            version = await self._keeper.off(self._keeper.store.version, key)
            await self._keeper.commit(key, state._twin(), version)
        return state

    # ---- runs

    async def watch(
        self, name: str, stop: Callable[[], Awaitable[None]], *, tenant: str = ""
    ) -> None:
        """Let other processes end a run by its name, where the states are shared.

        Runs beside it, until it is cancelled; `stop` ends the run.
        """
        await self._keeper.watch(_run_key(name, tenant), stop)

    async def call_off(self, name: str, *, tenant: str = "") -> bool:
        """End a run of another process; false when there is none of that name."""
        return await self._keeper.off(self._keeper.store.call_off, _run_key(name, tenant))

    # ---- keeping house

    async def clean_up(self) -> int:
        """Remove states that were not used for long or are too many; returns how many."""
        return await self._keeper.clean_up()

    async def stats(self) -> StatesStats:
        """Return counters."""
        return await self._keeper.stats()

    def _key(self, state_id: str, tenant: str) -> Key:
        if not isinstance(state_id, str) or not STATE_ID.fullmatch(state_id):
            raise not_found(state_id)
        return Key(check_tenant(tenant), state_id)


def _run_key(name: str, tenant: str) -> Key:
    return Key(check_tenant(tenant), f"run/{name}")  # no state's id holds a slash
