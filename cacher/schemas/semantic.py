"""Queries that are answered from what was answered before."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import FailFast, Field

from cacher.schemas.base import Answer, OrNull, QueryParameters, Request, example

MAX_QUERY = 32_768  # characters
MAX_RESPONSE = 65_536
MAX_WARMUP = 1000  # items
QUESTION = "What is photosynthesis?"
PLANTS = "Plants turn light, water and carbon dioxide into sugar and oxygen."
ENTRY_ID = "e-7f3a9c41d2b85e06"
ENTRY = {
    "entry_id": ENTRY_ID,
    "query": QUESTION,
    "response": PLANTS,
    "timestamp": 1741079727.25,
    "hits": 1,
    "source": "lm:tales",
    "embedder": "minilm",
}

QueryText = Annotated[str, Field(min_length=1, max_length=MAX_QUERY, pattern=r"\S")]
EntryId = Annotated[str, Field(description="Id of the entry.", examples=[ENTRY_ID])]


class Query(Request):
    """A text to answer."""

    model_config = example({"query": QUESTION})
    query: QueryText = Field(description="The text; not only white space.", examples=[QUESTION])
    use_cache: OrNull[bool] = Field(
        True, description="False neither looks for a remembered answer nor remembers the new one."
    )
    similarity_threshold: float | None = Field(
        None, ge=0, le=1, description="Least similarity of a hit. Default: the service's."
    )


class CachedData(Answer):
    """The remembered answer that was used."""

    cached_response: str = Field(description="The answer.", examples=[PLANTS])
    similarity_score: float = Field(
        description="Cosine of the two queries' vectors; 1 for the same text.", examples=[0.9137]
    )
    cached_query: str = Field(description="The query it was for.", examples=[QUESTION])
    cache_timestamp: float = Field(
        description="When it was stored, Unix seconds.", examples=[1741079727.25]
    )
    entry_id: EntryId
    source: str = Field(
        description="Who made it: lm: and the model, template, the name of a function, or empty.",
        examples=["lm:tales"],
    )
    embedder: str = Field(description="The model its vector is from.", examples=["minilm"])


class QueryAnswer(Answer):
    """An answer, remembered or new."""

    model_config = example(
        {
            "query": "How would you define photosynthesis?",
            "response": PLANTS,
            "cache_hit": True,
            "cached_data": {
                "cached_response": PLANTS,
                "similarity_score": 0.9137,
                "cached_query": QUESTION,
                "cache_timestamp": 1741079727.25,
                "entry_id": ENTRY_ID,
                "source": "lm:tales",
                "embedder": "minilm",
            },
            "embedding_dimension": 384,
            "processing_time": 0.0021,
            "entry_id": ENTRY_ID,
        }
    )
    query: str = Field(description="The query as sent.")
    response: str = Field(description="The answer, never empty.")
    cache_hit: bool = Field(description="Whether it was remembered.")
    cached_data: CachedData | None = Field(description="The entry that was hit; null for a miss.")
    embedding_dimension: int = Field(description="Length of the vectors.")
    processing_time: float = Field(description="Seconds for embedding, looking and generating.")
    entry_id: str | None = Field(
        description="The entry that was hit or stored; null where nothing was."
    )
    guarded: str | None = Field(
        None,
        description=(
            "Why the most similar entry was not used though it is similar enough: the two differ "
            "in a negation, a number, an opposite or a name. Absent where that is not so."
        ),
        examples=["opposite: off and on"],
    )


class CacheStats(Answer):
    """The counters of the cache."""

    model_config = example(
        {
            "cache_size": 1,
            "max_cache_size": 1000,
            "current_threshold": 0.8,
            "hits": 1,
            "misses": 1,
            "bypasses": 0,
            "guarded": 0,
            "hit_rate": 0.5,
            "evictions": 0,
            "errors": 0,
            "error_rate": 0.0,
            "alert": False,
            "memory_bytes": 3402,
            "embedder": "minilm",
            "embedding_dimension": 384,
            "uptime": 12.5,
        }
    )
    cache_size: int = Field(description="Entries.")
    max_cache_size: int = Field(description="Most entries.")
    current_threshold: float = Field(
        description="Least similarity of a hit where a query names none."
    )
    hits: int = Field(description="Queries answered by an entry.")
    misses: int = Field(description="Queries that found none.")
    bypasses: int = Field(description="Queries with use_cache false.")
    guarded: int = Field(description="Misses that were similar enough, and refused by the guard.")
    hit_rate: float = Field(description="Hits among hits and misses; 0 before there are any.")
    evictions: int = Field(description="Entries that made room for others.")
    errors: int = Field(description="Requests that the server could not answer (status 5xx).")
    error_rate: float = Field(description="Their share among the last 100 requests.")
    alert: bool = Field(description="Whether that is more than the setting allows.")
    memory_bytes: int = Field(description="Bytes of vectors and texts.")
    embedder: str = Field(description="The model that embeds.")
    embedding_dimension: int = Field(description="Length of its vectors.")
    uptime: float = Field(description="Seconds since the start.")


class EntriesQuery(QueryParameters):
    """Which entries to list."""

    limit: int = Field(100, ge=1, le=1000, description="Entries at most.")
    offset: int = Field(0, ge=0, le=2**31 - 1, description="Entries to pass over.")


class EntryItem(Answer):
    """A remembered query and its answer."""

    model_config = example(ENTRY)
    entry_id: EntryId
    query: str = Field(description="The query.")
    response: str = Field(description="Its answer.")
    timestamp: float = Field(description="When it was stored, Unix seconds.")
    hits: int = Field(description="How often it was used.")
    source: str = Field(description="Who made the answer.")
    embedder: str = Field(description="The model its vector is from.")


class EntryList(Answer):
    """Entries, newest first."""

    entries: list[EntryItem] = Field(description="At most as many as asked for.")
    total: int = Field(description="How many there are in all.", examples=[1])


class Cleared(Answer):
    """Everything was removed."""

    cleared: int = Field(description="How many entries.", examples=[1])


class EntryDeleted(Answer):
    """An entry was removed."""

    deleted: Literal[True] = Field(description="Always true.")
    entry_id: EntryId


class WarmupItem(Request):
    """A query, and its answer where it is known."""

    query: QueryText = Field(description="The query.", examples=[QUESTION])
    response: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_RESPONSE,
        description="Default: it is generated.",
        examples=[PLANTS],
    )


class Warmup(Request):
    """Queries to remember."""

    model_config = example({"queries": ["What is rain?", {"query": QUESTION, "response": PLANTS}]})
    queries: Annotated[list[QueryText | WarmupItem], FailFast()] = Field(
        min_length=1, max_length=MAX_WARMUP, description="Texts, or texts with their answers."
    )
    overwrite: OrNull[bool] = Field(
        False, description="True replaces entries of the same texts; else they are skipped."
    )


class WarmedUp(Answer):
    """What a warm-up did."""

    added: int = Field(description="Entries stored.", examples=[2])
    skipped: int = Field(description="Texts that were there already.", examples=[0])
    cache_size: int = Field(description="Entries in all.", examples=[2])


class Dumped(Answer):
    """The entries are in the file."""

    entries: int = Field(description="How many.", examples=[1])
    file: str = Field(description="The file's name.", examples=["semantic_cache.jsonl"])


class Loaded(Answer):
    """The entries of the file are in the cache."""

    loaded: int = Field(description="How many.", examples=[1])
    cache_size: int = Field(description="Entries in all.", examples=[1])


class AloneHealth(Answer):
    """The service can answer."""

    model_config = example({"status": "healthy", "timestamp": 1741079727.25})
    status: Literal["healthy"] = Field(description="Always healthy, where it can answer.")
    timestamp: float = Field(description="Unix seconds.")
