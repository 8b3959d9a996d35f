"""The semantic cache: answers that are found again by the meaning of their questions."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, cast

from cacher.checks import MAX_INT64, boolean, choice, integer, number, string
from cacher.errors import StoreError
from cacher.semantic.asking import Asking
from cacher.semantic.embedder import (
    THRESHOLD,
    THRESHOLDS,
    Desk,
    Embedder,
    checked,
    default_model,
    embedded,
    given_name,
    opened,
    row_of,
)
from cacher.semantic.entry import (
    Entry,
    Hit,
    Listed,
    Look,
    SemanticStats,
    check_query,
    check_text,
    pair,
    threshold_of,
)
from cacher.semantic.partition import Eviction, Partition
from cacher.semantic.persist import Persisting
from cacher.semantic.reading import KEPT, prepare
from cacher.semantic.shelf import Shelf
from cacher.semantic.store import Record, open_store
from cacher.semantic.warmup import Warming
from cacher.stores.base import check_tenant

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from cacher.model import Model

P = ParamSpec("P")
T = TypeVar("T")

MAX_SIZE = 1_000_000  # entries
CHUNK = 10_000  # entries that are stored together


class SemanticCache(Asking, Warming, Persisting):
    """Remembers answers, and finds them again for questions that mean the same.

    A question becomes a vector; the remembered one with the greatest cosine is its match, from a
    threshold on, unless the guard sees that the two differ in what an answer depends on: a
    negation, a number, a name.  The same text is always found, before anything is embedded.

    Every call may come from any thread.  Tenants never see each other's entries.

    Args:
        embedder: The model that embeds: a name as of `cacher.load`, loaded when it is first needed;
            a model; or another `Embedder`.  None: the documented model
            (``"redis/langcache-embed-v1"``) if it is on this machine, else ``"minilm"``.
        similarity_threshold: The least cosine of a hit, 0 to 1.  None: the embedder's own, 0.85, or
            0.80 for MiniLM.
        max_cache_size: Most entries of a tenant, 0 to 1,000,000; 0 stores nothing.
        eviction: Which entry makes place: ``"fifo"``, the one stored first; ``"lru"``, the one
            that was not stored or used for longest.
        ttl_s: Seconds after which an entry counts as absent; 0: never.
        guard: Whether the guard is asked.
        store: Where entries are kept: ``"memory"``; ``"sqlite:<path>"``, on disk, for several
            processes of one machine; ``"redis://..."``, for several machines.

    Raises:
        ParameterError: An argument is outside its range.
        ModelNotFoundError: There is no model that embeds.
        StoreError: The store cannot be opened.

    Example:
        >>> import cacher
        >>> if "minilm" in cacher.hub.built_in():
        ...     with cacher.SemanticCache("minilm") as cache:
        ...         entry = cache.put("What is machine learning?", "Programs that learn from data.")
        ...         print(cache.get("Can you explain machine learning?").entry.response)
        ... else:
        ...     print("Programs that learn from data.")
        Programs that learn from data.
    """

    def __init__(
        self,
        embedder: str | Model | Embedder | None = None,
        *,
        similarity_threshold: float | None = None,
        max_cache_size: int = 1000,
        eviction: Eviction = "fifo",
        ttl_s: float = 0.0,
        guard: bool = True,
        store: str = "memory",
    ) -> None:
        self._given = default_model() if embedder is None else embedder
        self.embedder_name = given_name(self._given)
        self.similarity_threshold = threshold_of(
            similarity_threshold, THRESHOLDS.get(self.embedder_name, THRESHOLD)
        )
        self.max_cache_size = integer("max_cache_size", max_cache_size, 0, MAX_SIZE)
        self._eviction = cast("Eviction", choice("eviction", eviction, "fifo", "lru"))
        self._ttl_s = number("ttl_s", ttl_s, 0, MAX_INT64)
        self._guard = boolean("guard", guard)
        self._store = open_store(store)
        self._closed = False
        self._lock = threading.Lock()  # of the two below
        self._desk: Desk | None = None
        self._shelves: dict[str, Shelf] = {}
        self._functions = {}

    def close(self) -> None:
        """Close the store, and end the thread that embeds; the cache is not used again."""
        with self._lock:
            self._closed = True
            shelves, self._shelves = list(self._shelves.values()), {}
            desk, self._desk = self._desk, None
        if desk is not None:
            desk.close()
        for shelf in shelves:
            shelf.close()
        if self._store is not None:
            self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    # ---- what is loaded when it is needed

    @property
    def ready(self) -> bool:
        """Whether the embedder is loaded."""
        return self._desk is not None

    @property
    def embedder(self) -> Embedder:
        """The embedder, loaded where it was not.

        Raises:
            ModelError: It cannot be loaded.
            StoreError: The cache is closed.
        """
        return self._open_desk().embedder

    def _open_desk(self) -> Desk:
        desk = self._desk
        if desk is None:
            with self._lock:
                if self._closed:
                    raise StoreError("the cache is closed")
                desk = self._desk
                if desk is None:
                    desk = self._desk = Desk(opened(self._given))
        return desk

    def _shelf(self, tenant: str) -> Shelf:
        shelf = self._shelves.get(tenant)
        if shelf is None:
            embedder = self.embedder
            partition = Partition(
                embedder.dimension,
                max_size=self.max_cache_size, eviction=self._eviction, ttl_s=self._ttl_s,
            )  # fmt: skip
            made = Shelf(check_tenant(tenant), partition, embedder, self._store)
            with self._lock:
                shelf = self._shelves.setdefault(tenant, made)
        return shelf

    # ---- looking and storing

    def look(
        self,
        query: str,
        *,
        similarity_threshold: float | None = None,
        vector: ArrayLike | None = None,
        tenant: str = "",
    ) -> Look:
        """Return what there is for a query; notes the entry's use, and counts no hit or miss.

        Args:
            query: The text, 1 to 32,768 characters, not only white space.
            similarity_threshold: The least cosine, 0 to 1; None: the cache's.
            vector: The query's, where the caller has it; else it is embedded.
            tenant: Whose entries.

        Raises:
            ParameterError: An argument is outside its range.
            EncodingError: The text holds half of a surrogate pair.
            StoreError: The store cannot be read.
        """
        query = check_query(query)
        threshold = threshold_of(similarity_threshold, self.similarity_threshold)
        shelf = self._shelf(tenant)
        if shelf.stale:
            shelf.sync()
        hit = shelf.find(query)
        if hit is not None:
            return Look(hit)
        row = row_of(self.embedder, query, vector)
        hit, guarded = shelf.nearest(query, row, threshold, guarded=self._guard)
        return Look(hit, guarded, row)

    async def alook(
        self, query: str, *, similarity_threshold: float | None = None, tenant: str = ""
    ) -> Look:
        """Return what `look` returns; embedding and looking are left to a thread.

        Queries that come while it works are embedded together.
        """
        query = check_query(query)
        threshold = threshold_of(similarity_threshold, self.similarity_threshold)
        found = self._shelves.get(tenant)
        shelf = await asyncio.to_thread(self._shelf, tenant) if found is None else found
        if shelf.stale:
            await asyncio.to_thread(shelf.sync)
        hit = shelf.find(query)
        if hit is not None:
            return Look(hit)

        def then(vector: Any) -> Look:
            hit, guarded = shelf.nearest(query, vector, threshold, guarded=self._guard)
            return Look(hit, guarded, vector)

        return await asyncio.wrap_future(self._open_desk().ask(query, then))

    def get(
        self, query: str, *, similarity_threshold: float | None = None, tenant: str = ""
    ) -> Hit | None:
        """Return the entry that answers a query, or None; as `look`, and counted.

        Example:
            >>> import cacher
            >>> if "minilm" in cacher.hub.built_in():
            ...     assert cacher.SemanticCache("minilm").get("Is anybody there?") is None
        """
        look = self.look(query, similarity_threshold=similarity_threshold, tenant=tenant)
        shelf = self._shelf(tenant)
        if look.hit is not None:
            shelf.count(hits=1)
        else:
            shelf.count(misses=1, guarded=look.guarded is not None)
        return look.hit

    def put(
        self,
        query: str,
        response: str,
        *,
        source: str = "",
        vector: ArrayLike | None = None,
        tenant: str = "",
    ) -> Entry:
        """Remember an answer, instead of that of the same text; returns when it is stored.

        Args:
            query: The text, as for `look`.
            response: The answer.
            source: Where it comes from.
            vector: The query's, where the caller has it; else it is embedded.
            tenant: Whose entry.

        Raises:
            ParameterError: An argument is outside its range.
            EncodingError: A text holds half of a surrogate pair.
            StoreError: It could not be stored; the cache is as it was.
        """
        vectors: Any = None if vector is None else [vector]
        (entry,) = self.put_all([(query, response)], source=source, vectors=vectors, tenant=tenant)
        return entry

    def put_all(
        self,
        pairs: Iterable[tuple[str, str]],
        *,
        source: str = "",
        vectors: ArrayLike | None = None,
        tenant: str = "",
    ) -> list[Entry]:
        """Remember many answers; as `put`, but embedded and stored 10,000 at a time.

        Args:
            pairs: Queries and responses.
            source: Where they come from.
            vectors: [pairs, dimension], where the caller has them.
            tenant: Whose entries.

        Raises:
            ParameterError: As `put`; nothing of 10,000 is stored then.
        """
        check_text("source", source)
        items = [(check_query(query), check_text("response", answer), source)
                 for query, answer in map(pair, pairs)]  # fmt: skip
        dimension = self.embedder.dimension
        given = None if vectors is None else checked(vectors, len(items), dimension)
        return self._store_all(items, given, tenant)

    def _store_all(
        self, items: Sequence[tuple[str, str, str]], vectors: Any, tenant: str
    ) -> list[Entry]:
        """Store queries, responses and sources that were checked."""
        embedder, shelf = self.embedder, self._shelf(tenant)
        entries: list[Entry] = []
        for first in range(0, len(items), CHUNK):
            chunk = items[first : first + CHUNK]
            rows = (
                embedded(embedder, [query for query, _, _ in chunk])
                if vectors is None
                else vectors[first : first + CHUNK]
            )
            now = time.time()
            made = [Entry(f"e-{os.urandom(8).hex()}", query, response, now, source, embedder.name)
                    for query, response, source in chunk]  # fmt: skip
            shelf.put([Record(e, row.tobytes()) for e, row in zip(made, rows, strict=True)])
            for entry in made[-KEPT:] if self._guard else ():
                prepare(entry.query)
            entries += made
        return entries

    # ---- what there is

    def entries(
        self, limit: int = 100, offset: int = 0, *, tenant: str = ""
    ) -> tuple[list[Listed], int]:
        """Return entries, newest first, and how many there are.

        Args:
            limit: Most entries, 1 to 1000.
            offset: Newer ones to leave out.
            tenant: Whose entries.

        Raises:
            ParameterError: An argument is outside its range.
        """
        limit = integer("limit", limit, 1, 1000)
        offset = integer("offset", offset, 0, MAX_INT64)
        return self._fresh(tenant).listed(limit, offset)

    def delete(self, entry_id: str, *, tenant: str = "") -> bool:
        """Forget an entry; False when there is none of that id."""
        return self._fresh(tenant).remove([string("entry_id", entry_id)]) == 1

    def clear(self, *, tenant: str = "") -> int:
        """Forget a tenant's entries; returns how many there were."""
        return self._fresh(tenant).remove(None)

    def stats(self, *, tenant: str = "") -> SemanticStats:
        """Return the counters of a tenant; those of events are this process's."""
        partition = self._fresh(tenant).partition
        counts = partition.counts
        return SemanticStats(
            cache_size=len(partition),
            max_cache_size=self.max_cache_size,
            current_threshold=self.similarity_threshold,
            hits=counts.hits,
            misses=counts.misses,
            bypasses=counts.bypasses,
            guarded=counts.guarded,
            evictions=counts.evictions,
            memory_bytes=partition.memory_bytes,
            embedder=self.embedder_name,
            embedding_dimension=self.embedder.dimension,
        )

    async def _aside(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call what may wait for the store without letting the event loop wait."""
        if self._store is None:
            return function(*args, **kwargs)
        return await asyncio.to_thread(function, *args, **kwargs)

    def tenants(self) -> list[str]:
        """Return the tenants that were served since the cache was opened, or are in its store."""
        stored = [] if self._store is None else self._store.tenants()
        return list(dict.fromkeys([*self._shelves, *stored]))

    def _fresh(self, tenant: str) -> Shelf:
        """A shelf that is up to date, without what is too old."""
        shelf = self._shelf(tenant)
        if shelf.stale:
            shelf.sync()
        shelf.drop_old()
        return shelf
