"""What a semantic cache remembers, and what its calls return."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Self

from cacher.checks import number, shown, string
from cacher.errors import EncodingError, ParameterError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_RESPONSE = 65_536  # characters of an answer; a `Response` that is longer is cut
MAX_QUERY = 32_768  # characters


@dataclass(frozen=True, slots=True)
class Entry:
    """A remembered query.

    Attributes:
        entry_id: Its id, never used again.
        query: The text; there is one entry of a text.
        response: The answer that goes with it.
        timestamp: When it was stored, in seconds since 1970.
        source: Where the response came from: ``"lm:tales"``, the name of a function, or empty.
        embedder: The model that its vector comes from.
    """

    entry_id: str
    query: str
    response: str
    timestamp: float
    source: str = ""
    embedder: str = ""


class Response(str):
    """An answer that says where it comes from, for functions that have more than one way to answer.

    Args:
        text: The answer; it is cut after 65,536 characters.
        source: Stored with it: ``"lm:tales"``, ``"template"``, the name of a function.

    Example:
        >>> from cacher.semantic import Response
        >>> Response("Because.", "a book").source
        'a book'
    """

    __slots__ = ("source",)
    source: str

    def __new__(cls, text: str, source: str) -> Self:
        """Cut what is too long."""
        made = super().__new__(cls, text[:MAX_RESPONSE])
        made.source = source
        return made


def source_of(response: str, function: str) -> str:
    """Return where an answer comes from, if it does not say so itself: from that function."""
    return response.source if isinstance(response, Response) else function


class Hit(NamedTuple):
    """An entry whose query means the same.

    Attributes:
        entry: The entry.
        similarity: Cosine of the two texts' vectors, at most 1; exactly 1 where they are one text.
    """

    entry: Entry
    similarity: float


class Look(NamedTuple):
    """What there is for a query.

    Attributes:
        hit: The most similar entry that may be used, or None.
        guarded: Why the most similar one may not, where that leaves none.
        vector: float32 [dimension], the query's; None where its own text was remembered, which is
            found before anything is embedded.
    """

    hit: Hit | None
    guarded: str | None = None
    vector: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What `SemanticCache.query` returns.

    Attributes:
        query: The text that was asked.
        response: The remembered answer, or the new one.
        hit: Where a remembered answer came from; None for a new one.
        guarded: Why the most similar entry was not used, where that left none.
        entry_id: The entry that was used or stored; None where nothing was.
        embedding_dimension: Numbers of a vector.
        processing_time: Seconds for embedding, looking and generating.
    """

    query: str
    response: str
    hit: Hit | None
    guarded: str | None
    entry_id: str | None
    embedding_dimension: int
    processing_time: float

    @property
    def cache_hit(self) -> bool:
        """Whether the answer is a remembered one."""
        return self.hit is not None


class Listed(NamedTuple):
    """An entry in a list, and how often it was used."""

    entry: Entry
    hits: int


class Warmed(NamedTuple):
    """What a warm-up did: entries added, texts skipped as they were there, entries in all."""

    added: int
    skipped: int
    cache_size: int


@dataclass(slots=True)
class Counts:
    """Events of one tenant since the cache was opened, in this process."""

    hits: int = 0
    misses: int = 0
    bypasses: int = 0
    guarded: int = 0
    evictions: int = 0


@dataclass(frozen=True, slots=True)
class SemanticStats:
    """The counters of a cache, of one tenant.

    Attributes:
        cache_size: Entries.
        max_cache_size: Most entries.
        current_threshold: The least similarity of a hit where a call names none.
        hits: Queries answered by an entry.
        misses: Queries that found none.
        bypasses: Queries that were not to look.
        guarded: Misses that were similar enough, and refused by the guard.
        evictions: Entries that made place for others.
        memory_bytes: Vectors and texts.
        embedder: Name of the model that embeds.
        embedding_dimension: Numbers of a vector.
    """

    cache_size: int
    max_cache_size: int
    current_threshold: float
    hits: int
    misses: int
    bypasses: int
    guarded: int
    evictions: int
    memory_bytes: int
    embedder: str
    embedding_dimension: int
    hit_rate: float = field(init=False)

    def __post_init__(self) -> None:
        """Work out the share of hits among the queries that looked; 0 where none did."""
        looked = self.hits + self.misses
        object.__setattr__(self, "hit_rate", self.hits / looked if looked else 0.0)


def check_query(value: object) -> str:
    """Return a text that can be asked.

    Raises:
        TypeError: Not a string.
        ParameterError: Empty, only white space, or too long.
        EncodingError: It holds half of a surrogate pair.
    """
    query = check_text("query", value)
    if len(query) > MAX_QUERY:
        raise ParameterError(f"the query has {len(query)} characters, allowed: 1 to {MAX_QUERY}")
    if not query or query.isspace():
        raise ParameterError(f"the query is {shown(query)}, allowed: more than white space")
    return query


def threshold_of(value: object, default: float) -> float:
    """Return the least cosine of a hit that a call names, or the cache's own."""
    return default if value is None else number("similarity_threshold", value, 0, 1)


def pair(item: object) -> tuple[object, object]:
    """Return a query and its response.

    Raises:
        TypeError: Something else: the letters of a text and the keys of an object are no pair.
    """
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise TypeError(f"{shown(item)} is no pair of a query and a response")
    query, response = item
    return query, response


def check_text(name: str, value: object) -> str:
    """Return a text.

    Raises:
        TypeError: Not a string.
        EncodingError: It holds half of a surrogate pair.
    """
    text = string(name, value)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise EncodingError(
            f"{name} holds half of a surrogate pair at character {error.start}: no valid Unicode"
        ) from None
    return text
